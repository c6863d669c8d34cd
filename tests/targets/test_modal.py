"""The Modal script: imported by the real `modal`, its function inspected, and its body run with a fake trainer."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from planner.errors import UsageError
from planner.job import Job, Output
from planner.recipes.lerobot import job as make
from planner.targets import modal as target
from tests.factories import estimate, offer, said, workload

HOSTILE = "it's \"a\" $(touch x) {braces} %s $name \\n\nü☃"

TRAINER = """#!{python}
import json, os, select, sys
from pathlib import Path
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:])
notes = Path(os.environ["NOTES"])
notes.write_text(json.dumps([*json.loads(notes.read_text()), sys.argv[1:]]) if notes.exists() else json.dumps([sys.argv[1:]]))
if "resume" in flags:
    config = Path(flags["config_path"])
    assert config.exists()
    out = Path(json.loads(config.read_text())["output_dir"])
else:
    out = Path(flags["output_dir"])
    if out.exists():
        sys.exit("FileExistsError: " + str(out))
for step in os.environ["STEPS"].split():
    if step == "fail":
        print("CUDA out of memory")
        sys.exit(3)
    if step == "hang":
        select.select([], [], [])
    folder = out / "checkpoints" / step / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "train_config.json").write_text(json.dumps({{"output_dir": str(out)}}))
    last = out / "checkpoints" / "last"
    last.unlink(missing_ok=True)
    last.symlink_to(step)
    answer = os.open(os.environ["COMMITTED"], os.O_RDONLY | os.O_NONBLOCK)
    print("step", step, flush=True)
    assert select.select([answer], [], [], 60)[0], "nobody committed the checkpoint"
    os.close(answer)
out.mkdir(parents=True, exist_ok=True)
"""


def modal_job(**fields: Any) -> Job:
    where = offer("modal", flavor=fields.pop("flavor", "L40S"), num_gpus=fields.pop("num_gpus", 1))
    row = estimate(where, attempts=fields.pop("attempts", 1), timeout_s=fields.pop("timeout_s", 20_000))
    output = Output("volume", fields.pop("output_dir", "/outputs/pick-1"))
    return make(row, workload(**fields), target="modal", output=output, name="pick-1", startup_timeout_s=900)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports an emitted script as `modal run` does, with volumes as folders below tmp_path."""
    monkeypatch.setenv("PLAN_MOUNT_ROOT", str(tmp_path))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))

    def load(script: str) -> ModuleType:
        file = tmp_path / "emitted_script.py"
        file.write_text(script, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("emitted_script", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "emitted_script", module)
        spec.loader.exec_module(module)
        return module

    yield load


@pytest.fixture
def run(load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """run(steps) executes the function body once with a trainer that saves these checkpoints and waits for their commits.

    Returns (result or error, the argv of each trainer so far, the newest checkpoint at each commit).
    """
    program = tmp_path / "bin" / "lerobot-train"
    program.parent.mkdir()
    program.write_text(TRAINER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes.json"))
    pipe = tmp_path / "committed"
    os.mkfifo(pipe)
    monkeypatch.setenv("COMMITTED", str(pipe))

    def run(steps: str, **fields: Any) -> tuple[Any, list[list[str]], list[str]]:
        import modal

        monkeypatch.setenv("STEPS", steps)
        module = load(target.emit(modal_job(**fields)))
        commits: list[str] = []

        class Volume:
            def commit(self) -> None:
                last = module.OUTPUT_DIR / "checkpoints" / "last"
                commits.append(last.resolve().name if last.exists() else "")
                with suppress(OSError):  # nobody waits at the end of a run
                    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                    os.write(writer, b"x")
                    os.close(writer)

        monkeypatch.setattr(module, "outputs", Volume())
        monkeypatch.setattr(modal, "is_local", lambda: False)
        try:
            result = module.train.local()
        except RuntimeError as error:
            result = error
        notes = tmp_path / "notes.json"
        return result, json.loads(notes.read_text()) if notes.exists() else [], commits

    return run


def test_modal_accepts_the_function(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    job = modal_job(flavor="A100-80GB", num_gpus=4, attempts=3, trainer_args=("--wandb.enable=true",))
    info = load(target.emit(job)).train.info()
    assert info.gpus == [("A100-80GB", 4)]
    assert (info.cpu, info.memory_mib) == (4, 32_768)
    assert (info.timeout, info.startup_timeout, info.max_retries) == (20_000, 900, 2)
    assert info.single_use_containers
    mounts = {path.removeprefix(str(tmp_path)): volume.name for path, volume in info.volumes.items()}
    assert mounts == {"/outputs": "lerobot-outputs", "/datasets": "lerobot-datasets", "/cache": "huggingface-cache"}
    assert [name for name in ("huggingface-secret", "wandb-secret") if name in str(info.secrets)] == [
        "huggingface-secret", "wandb-secret"]


def test_the_script_holds_the_job(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    job = modal_job(dataset=HOSTILE, environment=(("A", HOSTILE),), trainer_args=("--dataset.single_task", HOSTILE))
    module = load(target.emit(job))
    assert (*module.LAUNCHER, *(a.replace(f"{tmp_path}/", "/") for a in module.ARGUMENTS)) == job.argv
    assert dict(module.ENVIRONMENT) == {"HF_HOME": f"{tmp_path}/cache", "A": HOSTILE}
    assert said(module.ARGUMENTS, "dataset.repo_id") == HOSTILE
    assert str(module.OUTPUT_DIR) == f"{tmp_path}/outputs/pick-1"
    assert module.app.name == "pick-1"


def test_the_script_is_clean_python(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    for fields in ({}, {"attempts": 2, "dataset": HOSTILE}, {"lerobot": "0.4.4"}, {"lerobot": "main", "num_gpus": 8}):
        file.write_text(target.emit(modal_job(**fields)), encoding="utf-8")
        compile(file.read_text(encoding="utf-8"), "train.py", "exec")
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--target-version=py310", str(file)]
        subprocess.run(ruff, check=True)


def test_what_it_needs_stands_in_the_script(load: Callable[[str], ModuleType]) -> None:
    job = modal_job(environment=(("MY_API_KEY", "the value"),), trainer_args=("--wandb.enable=true",))
    install, setup, *secrets, start = target.needs(job)
    assert (install, setup) == ("pip install modal", "modal setup") and start.startswith("modal run --detach ")
    assert [line.partition("=")[0] for line in secrets] == [
        "modal secret create huggingface-secret HF_TOKEN", "modal secret create wandb-secret WANDB_API_KEY",
        "modal secret create my-api-key MY_API_KEY"]
    module = load(target.emit(job))
    said = [line.strip() for line in (module.__doc__ or "").splitlines()]
    assert all(line in said for line in (install, setup, *secrets))
    assert all(f'"{line.split()[3]}"' in target.emit(job) for line in secrets), "the script asks for the same names"
    assert "the value" not in target.emit(job)


def test_python_and_packages_fit_the_release() -> None:
    newest, old = target.emit(modal_job()), target.emit(modal_job(lerobot="0.4.4"))
    assert 'python_version="3.12"' in newest and '"lerobot[training]==0.6.1"' in newest
    assert 'python_version="3.11"' in old and '"lerobot==0.4.4"' in old


def test_first_run(run: Callable[..., Any], tmp_path: Path) -> None:
    result, argvs, commits = run("100 200")
    out = tmp_path / "outputs" / "pick-1"
    assert result == {"finished": True, "output_dir": str(out)}
    (argv,) = argvs
    assert f"--output_dir={out}" in argv
    assert "--policy.push_to_hub=false" in argv
    assert commits[:2] == ["100", "200"], "each checkpoint is committed when it is there"


def test_a_restart_continues_and_a_finished_run_is_left_alone(run: Callable[..., Any], tmp_path: Path) -> None:
    failed, argvs, commits = run("100 fail")
    assert isinstance(failed, RuntimeError)
    assert "exit code 3" in str(failed) and "CUDA out of memory" in str(failed)
    assert commits[-1] == "100", "committed though it failed"
    result, argvs, commits = run("200")
    config = tmp_path / "outputs" / "pick-1" / "checkpoints" / "last" / "pretrained_model" / "train_config.json"
    assert result["finished"] and argvs[1] == [f"--config_path={config}", "--resume=true"]
    again, argvs, commits = run("300")
    assert again == result
    assert len(argvs) == 2 and commits == []


def test_an_attempt_without_a_checkpoint_starts_anew(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "outputs" / "pick-1"
    for _ in range(2):
        out.mkdir(parents=True)
        (out / "half").write_text("kept")
        result, argvs, _ = run("100")
        assert result["finished"] and f"--output_dir={out}" in argvs[-1]
        shutil.rmtree(out)
    assert sorted(path.name for path in out.parent.glob("*.incomplete-*")) == ["pick-1.incomplete-1", "pick-1.incomplete-2"]


def claims(load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str = "fc-1", **before: Any) -> Any:
    """What the script makes of its status file: the status with which it would train, or why it does not."""
    import modal

    file = tmp_path / "outputs" / "pick-1.status.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"run": "r", "app": "ap-1", "call": "fc-1", "state": "running", "message": None, "exit_code": None,
                                "began_at": 5.0, "seen_at": time.time(), "attempt": 1, "spent_s": 50.0, "progress": False,
                                **before}))  # fmt: skip
    module = load(target.emit(modal_job(attempts=2, timeout_s=1000)))
    assert module.MOST_S == 2000
    monkeypatch.setattr(modal, "is_local", lambda: False)
    monkeypatch.setattr(modal, "current_function_call_id", lambda: call)
    monkeypatch.setattr(type(module.app), "app_id", "ap-1")
    try:
        return module.claim()
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize(
    ("call", "before", "said"),
    [("fc-2", {}, "fc-1 of this launch has trained already"), ("fc-1", {"state": "failed", "message": "exit code 3"}, "exit code 3"),
     ("fc-1", {"spent_s": 2000.0}, "stopped after 2000 s in 1 attempts"), ("fc-2", {"app": "ap-0"}, "app ap-0 is writing")],
)  # fmt: skip
def test_what_must_not_train(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: dict[str, Any], said: str
) -> None:
    """A second call of one launch, the same failure again, the time of all attempts over, a live writer of the same output."""
    assert said in claims(load, tmp_path, monkeypatch, call, **before)


@pytest.mark.parametrize(
    ("before", "attempt", "spent_s"),
    [({}, 2, 50.0), ({"state": "interrupted"}, 2, 50.0), ({"state": "failed", "progress": True}, 2, 50.0),
     ({"app": "ap-0", "seen_at": 0.0}, 1, 0.0), ({"app": "ap-0", "state": "interrupted"}, 1, 0.0),
     ({"app": "ap-0", "state": "failed"}, 1, 0.0)],
)  # fmt: skip
def test_what_goes_on(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], attempt: int, spent_s: float
) -> None:
    """Restarted by Modal, or launched anew: the time of one launch is counted together."""
    status = claims(load, tmp_path, monkeypatch, **before)
    assert (status["attempt"], status["spent_s"], status["state"]) == (attempt, spent_s, "running")
    assert json.loads((tmp_path / "outputs" / "pick-1.status.json").read_text()) == status


def test_the_deadline_of_all_attempts(run: Callable[..., Any], tmp_path: Path) -> None:
    """Whatever Modal counts as an attempt: the time that all have together ends the trainer."""
    failed, argvs, _ = run("100 hang", timeout_s=1)
    assert "stopped after 1 s in 1 attempts" in str(failed) and len(argvs) == 1
    assert json.loads((tmp_path / "outputs" / "pick-1.status.json").read_text())["state"] == "timed_out"


def test_limits() -> None:
    for seconds in (0, 86_401, 172_800):
        with pytest.raises(UsageError, match="--attempts"):
            target.emit(modal_job()._replace(timeout_s=seconds))
    assert target.output_for(repo_id="me/x", output=None, run_name="r") == Output("volume", "/outputs/r")
    for path in ("/tmp/x", "/outputs", "/outputs/../etc", "outputs/x", "/outputsx"):
        with pytest.raises(UsageError, match="/outputs"):
            target.output_for(repo_id=None, output=path, run_name="r")
