"""Runs on this machine: started once, followed, ended, and true to what became of their processes."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from planner import launch as launches
from planner.errors import Ambiguous, Unreachable, UsageError
from planner.job import Handle, Job
from planner.runs import Ledger
from planner.targets import local
from planner.targets._local_supervisor import _processes
from planner.trainlog import read
from tests.targets.local_runs import Bench, alive, wait_gone, wait_released

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test reads the user's files, and one that waits for what never comes fails."""
    monkeypatch.setenv("PLAN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PLAN_TRAINER", raising=False)
    monkeypatch.setattr(local, "POLL_S", 0.01)
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "bench")
    yield bench
    left = [pid for pid in bench.pids() if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def finish(handle: Handle) -> list[str]:
    """The whole log of a run, followed to its end."""
    lines = list(local.logs(handle, follow=True))
    wait_released(handle)
    return lines


def steps(lines: Iterable[str]) -> list[str]:
    return re.findall(r"step:(\d+)", "\n".join(lines))


def in_a_process(code: str, job: Job, **options: object) -> subprocess.Popen[str]:
    """Python that has `job` and `local`, in a process group of its own, as a terminal gives one to plan."""
    head = "import json, os, signal, sys\nfrom planner.job import restored\nfrom planner.targets import local\n" \
        "job = restored(json.loads(sys.argv[1]))\n"
    return subprocess.Popen([sys.executable, "-c", head + code, json.dumps(job._asdict())], cwd=ROOT,
                            start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]  # fmt: skip


def test_a_run_from_its_start_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    job = bench.job("act-1", secrets=("HF_TOKEN",), env={"OMP_NUM_THREADS": "1"})
    assert local.find(job) is None
    handle = local.submit(job)
    assert local.find(job) == handle and all(isinstance(value, str) for value in handle.values())
    bench.wait_ready()
    now = local.status(handle)
    assert (now.state, now.message, now.ended) == ("running", None, False) and now.running_s is not None
    assert steps(local.logs(handle, follow=False)) == ["1", "2", "3"]
    used = local.usage(handle)
    assert used is None or used.ram_bytes is None or used.ram_bytes > 1_000_000

    bench.let_through()
    lines = finish(handle)
    assert lines[0] == f"TOKEN True PATH {bench.bin}"
    assert steps(lines) == ["1", "2", "3", "4", "5", "6"] and lines[4].startswith("Training: 4/6INFO")
    assert lines[-1] == "INFO End of training"
    assert len(read("\n".join(lines)).windows) == 6
    assert lines == list(local.logs(handle, follow=False)), "read again, it is the same"
    end = local.status(handle)
    assert (end.state, end.message, end.exit_code) == ("succeeded", None, 0) and end.running_s is not None
    assert len(bench.pids()) == 1 and not alive(bench.pids()[0])
    assert local.usage(handle) is None and local.bill(handle) is None and local.limits().attempts == 1
    local.cancel(handle)
    assert local.status(handle) == end
    written = "".join(path.read_text() for path in Path(handle["run"]).iterdir() if path.is_file())
    assert "hf_canary" not in written + json.dumps(local.request(job)) and local.request(job)["secrets"] == {"HF_TOKEN": "***"}


@pytest.mark.parametrize(("code", "state", "message"), [(0, "succeeded", None), (3, "failed", "exit code 3")])
def test_how_it_ends_is_what_it_says(bench: Bench, code: int, state: str, message: str | None) -> None:
    handle = local.submit(bench.job("act-1", f"--exit={code}", waits=False))
    finish(handle)
    assert local.status(handle)[:2] == (state, message) and local.status(handle).exit_code == code


def test_a_trainer_that_is_killed_has_failed_and_its_workers_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.3)
    handle = local.submit(bench.job("act-1", "--worker"))
    bench.wait_ready()
    os.kill(bench.pids()[0], signal.SIGKILL)
    wait_released(handle)
    status = local.status(handle)
    assert (status.state, status.exit_code) == ("failed", 137) and "SIGKILL" in str(status.message)
    assert len(bench.pids()) == 2 and not any(alive(pid) for pid in bench.pids())


@pytest.mark.parametrize("manner", [(), ("--stubborn",), ("--worker",), ("--stubborn", "--worker")])
def test_the_timeout_ends_it_and_all_that_it_started(bench: Bench, monkeypatch: pytest.MonkeyPatch, manner: tuple[str, ...]) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.3)
    handle = local.submit(bench.job("act-1", *manner, timeout_s=1))
    bench.wait_ready()
    finish(handle)
    status = local.status(handle)
    assert (status.state, status.message) == ("timed_out", "stopped after its timeout of 1 s")
    assert status.exit_code == (137 if "--stubborn" in manner else 143)
    assert [alive(pid) for pid in bench.pids()] == [False] * (2 if "--worker" in manner else 1)


@pytest.mark.parametrize("manner", [(), ("--stubborn", "--worker")])
def test_cancelled_twice_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch, manner: tuple[str, ...]) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.3)
    handle = local.submit(bench.job("act-1", *manner))
    bench.wait_ready()
    local.cancel(handle)
    local.cancel(handle)
    finish(handle)
    assert local.status(handle)[:2] == ("cancelled", "cancelled") and not any(alive(pid) for pid in bench.pids())
    local.cancel(handle)
    assert local.status(handle).state == "cancelled"


# ------------------------------------------------------------------------------------------ faults


def supervisor_of(pid: int) -> int:
    return dict(_processes())[pid]


def test_without_its_supervisor_the_training_goes_on_and_can_be_cancelled(bench: Bench) -> None:
    job = bench.job("act-1", "--worker")
    handle = local.submit(job)
    bench.wait_ready()
    os.kill(supervisor_of(bench.pids()[0]), signal.SIGKILL)
    wait_released(handle)
    status = local.status(handle)
    assert status.state == "running" and "nothing ends it at its timeout" in str(status.message)
    with pytest.raises(Ambiguous):
        local.submit(job)
    local.cancel(handle)
    assert local.status(handle).state == "cancelled" and len(bench.pids()) == 2
    for pid in bench.pids():
        wait_gone(pid)


def test_what_is_gone_without_a_word_has_failed(bench: Bench) -> None:
    handle = local.submit(bench.job("act-1"))
    bench.wait_ready()
    trainer = bench.pids()[0]
    os.kill(supervisor_of(trainer), signal.SIGKILL)
    wait_released(handle)
    os.kill(trainer, signal.SIGKILL)
    wait_released(handle, "trainer.lock")
    status = local.status(handle)
    assert status.state == "failed" and "killed, or the machine was restarted" in str(status.message)
    assert len(finish(handle)) == 4, "its log is still there"


def test_a_supervisor_that_dies_before_its_first_word_is_looked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trainer is there already; a launch that called this refused would leave it running unseen."""
    dies = bench.folder / "_local_supervisor.py"
    own = Path(local.__file__).with_name("_local_supervisor.py").read_text()
    assert '_say("started")' in own
    dies.write_text(own.replace('_say("started")', "os.kill(os.getpid(), signal.SIGKILL)"))
    monkeypatch.setattr(local, "__file__", str(bench.folder / "local.py"))
    job = bench.job("act-1")
    with Ledger() as ledger:
        row = launches.launch(job, launches.entry(job, {}, None, NOW), local, ledger)
    bench.wait_ready()
    assert row.handle and (row.state, row.handle) == ("queued", local.find(job))
    assert local.status(row.handle).state == "running"
    local.cancel(row.handle)
    assert local.status(row.handle).state == "cancelled" and len(bench.pids()) == 1


def test_a_shutdown_is_written_down(bench: Bench) -> None:
    handle = local.submit(bench.job("act-1"))
    bench.wait_ready()
    os.kill(supervisor_of(bench.pids()[0]), signal.SIGTERM)
    finish(handle)
    assert local.status(handle).state == "failed" and "SIGTERM" in str(local.status(handle).message)
    assert not alive(bench.pids()[0])


def test_ctrl_c_and_the_terminals_end_leave_it_running(bench: Bench) -> None:
    job = bench.job("act-1")
    plan = in_a_process("local.submit(job)\nprint('sent', flush=True)\nsys.stdin.read()", job)
    bench.wait_ready()
    assert plan.stdout and plan.stdout.readline() == "sent\n"
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGKILL):  # to the whole foreground group, as a terminal does
        os.killpg(plan.pid, name)
    plan.communicate()
    handle = local.find(job)
    assert handle is not None and local.status(handle).state == "running"
    bench.let_through()
    finish(handle)
    assert local.status(handle).state == "succeeded"


KILLED = """
from datetime import datetime
from planner import launch
from planner.runs import Ledger
at, seen = int(sys.argv[2]), 0
EVENTS = ("os.mkdir", "os.rename", "subprocess.Popen", "fcntl.flock", "tempfile.mkdtemp")

def count(event, arguments):
    global seen
    if event in EVENTS or event == "open" and "/state/" in str(arguments[0]):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

def forked(process, *_, **__):  # the supervisor was just forked, and whether it goes on is its own affair
    os.kill(os.getpid(), signal.SIGKILL)

if at == -1:
    import subprocess
    subprocess.Popen.communicate = forked
ledger = Ledger()
row = launch.entry(job, {}, None, datetime.fromisoformat(sys.argv[3]))
sys.addaudithook(count)
launch.launch(job, row, local, ledger)
if at == 0:
    print(seen)
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_at_every_write_of_a_launch_it_is_found_and_started_once_at_most(bench: Bench) -> None:
    """The count comes from a launch that nothing interrupts; one more is killed after its last write, before its reply is kept."""

    def run(at: int) -> tuple[Job, str]:
        job = bench.job(f"act-{at}".replace("--", "-x"), waits=False)
        process = in_a_process(KILLED.replace("sys.argv[2]", str(at)).replace("sys.argv[3]", repr(NOW.isoformat())), job)
        said = process.communicate()[0]
        assert process.returncode == (-signal.SIGKILL if at else 0)
        return job, said

    first, writes = run(0)
    assert int(writes) >= 6
    whole = local.find(first)
    assert whole is not None
    finish(whole)
    handles = [whole]
    for at in (-1, *range(1, int(writes) + 2)):
        before = len(bench.pids())
        job, _ = run(at)
        handle = local.find(job)
        with Ledger() as ledger:
            if not any(one.id == job.name for one in ledger.newest(100)):
                assert handle is None, "what was never written down was never started"
                continue
            launches.recover(ledger, lambda _: local, NOW + timedelta(hours=1))
            row = ledger.get(job.name)
        if handle is None:
            assert row.state == "refused" and len(bench.pids()) == before
            continue
        finish(handle)
        started = len(bench.pids()) - before
        assert started <= 1 and (row.state, row.handle) == ("queued", handle)
        assert local.status(handle).state == ("succeeded" if started else "failed")
        handles.append(handle)
        with pytest.raises(Ambiguous):
            local.submit(job)
        assert len(bench.pids()) == before + started
    assert len(handles) >= 3, "some were killed before the run was there, some after it"


def test_two_launches_of_one_id_start_one_run(bench: Bench) -> None:
    job = bench.job("act-1")
    code = "print('here', flush=True); sys.stdin.readline()\n" \
        "from planner.errors import Ambiguous\n" \
        "try: local.submit(job); print('mine')\n" \
        "except Ambiguous: print(local.find(job) is not None)"
    both = [in_a_process(code, job) for _ in range(4)]
    for one in both:
        assert one.stdout and one.stdout.readline() == "here\n"
    for one in both:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    bench.wait_ready()
    assert sorted(one.communicate()[0].strip() for one in both) == ["True", "True", "True", "mine"]
    bench.let_through()
    handle = local.find(job)
    assert handle is not None
    finish(handle)
    assert len(bench.pids()) == 1
    assert [path.name for path in Path(handle["run"]).parent.iterdir()] == ["act-1"], "nothing is left of the others"


def refused(bench: Bench, job: Job, matching: str) -> None:
    """The launch says one line, the ledger says refused, nothing runs."""
    with Ledger() as ledger:
        with pytest.raises(UsageError, match=matching) as error:
            launches.launch(job, launches.entry(job, {}, None, NOW), local, ledger)
        assert "\n" not in error.value.text
        assert ledger.get(job.name).state == "refused"
    assert bench.pids() == []


def test_nothing_starts_where_it_cannot(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(bench, bench.job("no-program")._replace(argv=("torchrun",)), "has no torchrun")
    refused(bench, bench.job("no-folder", trainer_at="/nowhere"), "/nowhere: no such file or folder")
    refused(bench, bench.job("no-start", folder=str(tmp_path / "gone")), "gone: No such file")
    bench.program("accelerate", "#!/nowhere/python\n")
    refused(bench, bench.job("no-interpreter")._replace(argv=("accelerate",)), "accelerate: No such file")
    (bench.bin / "accelerate").chmod(0o644)
    refused(bench, bench.job("no-permission")._replace(argv=("accelerate",)), "Permission denied")
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(bench, bench.job("no-path", trainer_at=None), "no lerobot-train on PATH.*PLAN_TRAINER")
    monkeypatch.setenv("PLAN_TRAINER", str(tmp_path))
    refused(bench, bench.job("no-venv", trainer_at=None), "PLAN_TRAINER .* no Python")


def test_a_state_folder_that_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    runs = tmp_path / "home" / "state" / "runs"
    runs.parent.mkdir(parents=True)
    runs.write_text("a file where the folder should be")
    refused(bench, bench.job("act-1"), "cannot be written.*PLAN_HOME")


def test_a_disk_that_takes_no_more_ends_the_run_and_not_its_story(bench: Bench) -> None:
    """A limit on file sizes fails a write as a full disk does, for the trainer's log and everything else."""
    job = bench.job("act-1", "--flood=500", waits=False)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    assert in_a_process("local.submit(job)", job, preexec_fn=limit).wait() == 0
    handle = local.find(job)
    assert handle is not None
    assert len(finish(handle)) > 50
    assert local.status(handle).state == "failed" and not alive(bench.pids()[0])


# ------------------------------------------------------------------------------------------ logs, results


def test_lines_are_split_and_come_once(tmp_path: Path) -> None:
    """The log grows between two looks, in the middle of a character, of a line end, of a line."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "request.json").write_text("{}")
    pieces = [b"first\r\nse", "cond ü".encode()[:-1], "ü".encode()[1:] + b"\r", b"\n 10%\r 20%\r 30", b"%\n\nlast"]

    def grow(_: float) -> None:
        if pieces:
            with (run / "log").open("ab") as log:
                log.write(pieces.pop(0))
        else:
            (run / "exit.json").write_text('{"state": "succeeded", "message": null, "exit_code": 0, "running_s": 1.0}')

    locks = [subprocess.Popen([sys.executable, "-c", "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
                               "print(flush=True)\nsys.stdin.read()", str(run / "supervisor.lock")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)]  # fmt: skip
    assert locks[0].stdout and locks[0].stdout.readline()
    assert list(local.logs({"run": str(run), "folder": "/"}, follow=True, sleep=grow)) == \
        ["first", "second ü", " 10%", " 20%", " 30%", "last"]
    locks[0].communicate()


def test_a_log_that_cannot_be_read_is_one_line(bench: Bench) -> None:
    handle = local.submit(bench.job("act-1", waits=False))
    finish(handle)
    log = Path(handle["run"]) / "log"
    log.unlink()
    assert list(local.logs(handle, follow=True)) == []
    log.mkdir()
    with pytest.raises(Unreachable, match="act-1 cannot be read .Is a directory."):
        list(local.logs(handle, follow=True))
    shutil.rmtree(handle["run"])
    assert local.status(handle).state == "unknown" and list(local.logs(handle, follow=True)) == [] and local.usage(handle) is None
    local.cancel(handle)


def test_the_newest_checkpoint_is_fetched_once(bench: Bench, tmp_path: Path) -> None:
    job = bench.job("act-1", waits=False)
    handle = local.submit(job)
    finish(handle)
    with pytest.raises(UsageError, match="no checkpoint yet"):
        local.fetch(handle, job, tmp_path / "to", print)
    for step in ("000500", "001000", "001500"):
        model = bench.folder / "out" / "checkpoints" / step / "pretrained_model"
        (model / "sub").mkdir(parents=True)
        (model / "train_config.json").write_text("{}")
        (model / "sub" / "model.safetensors").write_text(step)
        if step != "001500":  # being written
            (model.parent / "training_state").mkdir()
            (model.parent / "training_state" / "training_step.json").write_text("{}")
    saved = bench.folder / "out" / "checkpoints"
    assert local.checkpoint(handle, job) == saved / "001000", "between two links"
    (saved / "last").symlink_to("000500")
    assert local.checkpoint(handle, job) == saved / "000500"
    copied: list[str] = []
    files = local.fetch(handle, job, tmp_path / "to", copied.append)
    assert [path.relative_to(tmp_path / "to").as_posix() for path in files] == ["sub/model.safetensors", "train_config.json"]
    assert files[0].read_text() == "000500" and copied == ["model.safetensors", "train_config.json"]
    assert local.fetch(handle, job, tmp_path / "to", copied.append) == files and len(copied) == 2
    files[0].write_text("torn")
    local.fetch(handle, job, tmp_path / "to", copied.append)
    assert files[0].read_text() == "000500" and len(copied) == 3
    there = saved / "000500" / "pretrained_model"
    assert local.fetch(handle, job, there, copied.append) == (there / "sub" / "model.safetensors", there / "train_config.json")
    assert len(copied) == 3
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/sub: Not a directory; .* --to"):
        local.fetch(handle, job, tmp_path / "file", copied.append)
