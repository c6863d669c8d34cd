"""`plan --launch` is killed at every write and at every piece of every request. Whatever is left, the next command puts it right.

The moments are counted by `killing/sitecustomize.py` in a launch that nothing disturbs; then one launch is killed at each of them.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from planner.commands import main, running
from tests.desk import LAUNCH, SCRIPT, Desk, dataset
from tests.servers import hf_jobs
from tests.targets.local_runs import Bench, alive, wait_released
from tests.test_datasets import info

KILLING = str(Path(__file__).with_name("killing"))
TOGETHER = 2  # launches at a time
SENT = (*LAUNCH, *SCRIPT, "--detach")


class Next:
    """The next commands after a kill, in this process: `planner.commands.main` is what the installed `plan` calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.monkeypatch, self.captured = monkeypatch, capsysbinary

    def at(self, desk: Desk) -> None:
        for name, value in desk.environment.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.chdir(desk.folder)
        self.desk = desk
        self.later(timedelta())

    def later(self, by: timedelta) -> None:
        self.monkeypatch.setattr(running, "now", lambda: datetime.now(timezone.utc) + by)

    def plan(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        code = main(arguments)
        out, err = (text.decode() for text in self.captured.readouterr())
        self.desk.clean(out + err)
        assert code in (0, 8, 9), err
        return code, out, err

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.plan("runs", "--json")[1])["runs"]
        return found


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Next:
    return Next(monkeypatch, capsysbinary)


def killed(desk: Desk, at: int, *arguments: str) -> list[str]:
    """Launch, and be killed at that moment; 0: not at all. The moments that were reached."""
    log = desk.folder / f"moments-{at}"
    done = desk.plan(*arguments, KILL_AT=str(at), KILL_LOG=str(log), PYTHONPATH=KILLING)
    assert done.returncode == (-signal.SIGKILL if at else 0), done.stderr
    return log.read_text().splitlines()


def every(moments: list[str], kill: Callable[[int, int], None]) -> None:
    """`kill(at, hand)` for every moment; two hands work, each at its own place."""
    def work(hand: int) -> None:
        for at in range(1 + hand, len(moments) + 1, TOGETHER):
            kill(at, hand)

    with ThreadPoolExecutor(TOGETHER) as hands:
        list(hands.map(work, range(TOGETHER)))


def test_on_hugging_face(tmp_path: Path, after: Next) -> None:
    with ExitStack() as stack:
        hubs = [stack.enter_context(hf_jobs.serve()) for _ in range(TOGETHER)]
        for hub in hubs:
            dataset(hub)
        moments = killed(Desk(tmp_path / "0", hubs[0]), 0, *SENT)
        text = "\n".join(moments)
        assert all(re.search(pattern, text) for pattern in ("before send", "after recv", "INSERT INTO runs", "UPDATE runs", "COMMIT"))
        own = [path for _, path, _ in hubs[0].received if "/datasets/" not in path and path != "/api/jobs/hardware"]
        assert text.count("before send") >= len(own) >= 2 and len(hubs[0].jobs) == 1  # facts and prices are asked for by other threads
        hubs[0].jobs.clear()

        left: dict[int, tuple[Desk, dict[str, hf_jobs.Running]]] = {}

        def kill(at: int, hand: int) -> None:
            hub, desk = hubs[hand], Desk(tmp_path / str(at), hubs[hand])
            assert len(killed(desk, at, *SENT)) == at
            hub.wait_quiet()
            left[at], hub.jobs = (desk, hub.jobs), {}

        every(moments, kill)
        states = []
        for at, (desk, jobs) in sorted(left.items()):
            desk.hub.jobs = jobs
            after.at(desk)
            states.append(_mended(after, jobs, moments[at - 1]))
        # nothing, then written down and perhaps sent, then sent: no way back
        assert re.fullmatch(r"(none )+(submitting )+(queued )+", "".join(f"{state} " for state in states)), states


def _mended(after: Next, jobs: dict[str, hf_jobs.Running], moment: str) -> str:
    """What the next command finds of a launch that was killed at this moment; from then on all is well."""
    sent = len(jobs)
    assert sent <= 1, moment
    found = after.runs()
    assert len(found) <= 1 and len(jobs) == sent, moment
    if not found:
        assert not jobs, f"{moment}: a job that nobody knows of"
        assert after.plan(*SENT)[0] == 0 and len(jobs) == 1, moment
        return "none"
    [run] = found
    labels = [job.body["labels"]["plan-run-id"] for job in jobs.values()]
    assert labels == ([] if run["state"] == "submitting" else [run["id"]]), moment
    code, _, said = after.plan(*SENT)
    assert len(jobs) == sent and run["id"] in said, moment
    if run["state"] == "queued":
        assert code == 8 and run["handle"]["job_id"] == "job1", moment
        return "queued"
    assert (run["state"], code) == ("submitting", 9), moment
    assert after.plan(*SENT, "--again")[0] == 9 and not jobs, f"{moment}: --again is for what runs, not for what nobody knows"
    after.later(timedelta(minutes=11))
    assert [one["state"] for one in after.runs()] == ["refused"], moment
    assert after.plan(*SENT)[0] == 0 and len(jobs) == 1, moment
    return "submitting"


# ------------------------------------------------------------------------------------------ this machine


@pytest.fixture
def dataset_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pick"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info()))
    return folder


def machine(folder: Path, hub: hf_jobs.Hub) -> tuple[Desk, Bench]:
    """A desk whose machine has an environment with a trainer that says when it was started, and ends."""
    bench = Bench(folder / "bench")
    facts = json.dumps({"lerobot": "0.6.1", "cards": [], "mps": False, "trouble": None})
    (bench.bin / "python").unlink()
    bench.program("python", f"#!/bin/sh\necho 'plan-facts:{facts}'\n")  # what is asked of its Python, and nothing else is
    trainer = (Path(__file__).parent / "targets" / "fake_trainer.py").read_text()
    bench.program("lerobot-train", f"#!{sys.executable}\nimport sys\nsys.argv.append('--started={bench.started}')\n{trainer}")
    return Desk(folder, hub, PLAN_TRAINER=str(bench.folder / "env")), bench


def test_on_this_machine(tmp_path: Path, after: Next, dataset_folder: Path) -> None:
    sent = ("--policy", "act", "--dataset", str(dataset_folder), "--target", "local", "--gpu", "rtx4090", "--launch", "--yes", "--detach",
            "--", "--policy.device=cpu")  # fmt: skip
    with hf_jobs.serve() as hub:
        desk, bench = machine(tmp_path / "0", hub)
        moments = killed(desk, 0, *sent)
        _wait(desk)
        assert len(bench.pids()) == 1
        text = "\n".join(moments)
        assert all(re.search(pattern, text) for pattern in ("fsync", "rename", "flock", "Popen", "INSERT INTO runs", "UPDATE runs"))

        left: dict[int, tuple[Desk, Bench]] = {}

        def kill(at: int, hand: int) -> None:
            left[at] = machine(tmp_path / str(at), hub)
            assert len(killed(left[at][0], at, *sent)) == at
            _wait(left[at][0])

        every(moments, kill)
        states = []
        for at, (desk, bench) in sorted(left.items()):
            moment, started = moments[at - 1], len(bench.pids())
            assert started <= 1, moment
            after.at(desk)
            found = after.runs()
            states.append(found[0]["state"] if found else "none")
            assert len(found) <= 1 and len(bench.pids()) == started, moment
            assert (states[-1] == "succeeded") == bool(started), moment
            code, _, said = after.plan(*sent)
            _wait(desk)
            if states[-1] == "submitting":
                assert code == 9 and found[0]["id"] in said and len(bench.pids()) == 0, moment
                after.later(timedelta(minutes=11))
                assert [one["state"] for one in after.runs()] == ["refused"], moment
                assert after.plan(*sent)[0] == 0, moment
                _wait(desk)
            else:  # it has ended, or never began: what is asked for now is another run
                assert code == 0, moment
            assert len(bench.pids()) == started + 1 and not any(alive(pid) for pid in bench.pids()), moment
        assert re.fullmatch(r"(none )+(submitting )+(failed )+(succeeded )+", "".join(f"{state} " for state in states)), states


def _wait(desk: Desk) -> None:
    """Until everything that was started has ended."""
    for run in (desk.home / "state" / "runs").glob("[!.]*"):
        wait_released({"run": str(run)})
        if (run / "trainer.lock").exists():
            wait_released({"run": str(run)}, "trainer.lock")
