"""This machine: the command as it is typed in the trainer's own environment, or a process of it that outlives the terminal.

A run is a folder `runs/ID` of the state folder. It appears at once, complete and with its lock held, so one id never starts twice and
every other terminal sees a run that is alive or over (`_local_supervisor.py` says what is in it).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from planner import folders, trainer
from planner.errors import Ambiguous, Unreachable, UsageError
from planner.job import Check, Handle, Job, Output, Status, Usage
from planner.pasted import TRAINER
from planner.targets import _local_checks, _local_run, _local_usage
from planner.targets.base import Limits, install

name = "local"

PROGRAMS = (TRAINER, "accelerate", "torchrun")  # what the trainer's environment brings

LABEL = "plan-run-id"
#: accelerate and torchrun give their workers 30 s to end before they end themselves (torch/distributed/elastic)
GRACE_S = 45.0
POLL_S = 0.5  # between two looks at a log that is followed
START_S = 60.0  # for the supervisor's first word; it takes well under a second


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder below outputs/train."""
    return Output("folder", output or f"outputs/train/{run_name}")


def emit(job: Job, trainer: str | None = None) -> str:
    """One line for a shell. `trainer` is the path of lerobot-train; its launchers lie beside it."""
    environment = [f"{key}={shlex.quote(value)}" for key, value in job.env.items()]
    program = job.argv[0]
    if trainer is not None and program in PROGRAMS:
        path = Path(trainer).expanduser()
        program = str(path if program == TRAINER else path.with_name(program))
    return " ".join([*environment, shlex.join([program, *job.argv[1:]])])


def needs(job: Job) -> tuple[str, ...]:
    """The trainer, and what it takes from the shell."""
    lines = [f"an environment with {install(job)}"]
    if "HF_TOKEN" in job.secrets:
        lines.append("hf auth login")
    return (*lines, *(f"{name} set in the shell" for name in job.secrets if name != "HF_TOKEN"))


def account(namespace: str | None) -> str:
    """The user of this machine."""
    import getpass

    return namespace or getpass.getuser()


def limits() -> Limits:
    """Nothing ends a run here but its timeout; what ends early is resumed, not attempted again."""
    return Limits(timeout_s=None, attempts=1, num_gpus=None)


def preflight(job: Job) -> tuple[Check, ...]:
    """The trainer, its release and its GPUs, asked of its own Python; output, disk, dataset, secrets, other runs."""
    alive = [run.name for run in _runs().glob("[!.]*") if _local_run.held(run / "supervisor.lock") or _local_run.held(run / "trainer.lock")]
    return _local_checks.checks(job, _folder(job), _environment(job), alive)


def request(job: Job) -> dict[str, Any]:
    """What is started. `programs` comes first on PATH; argv's program is looked for there, and stays a bare name where it is not."""
    argv, programs = list(job.argv), None
    with contextlib.suppress(UsageError):
        programs = trainer.find(job.trainer_at).programs
        argv[0] = _program(job)
    return {
        "run": str(_run(job)), "argv": argv, "folder": str(_folder(job)), "programs": programs and str(programs), "env": _added(job),
        "secrets": dict.fromkeys(job.secrets, "***"), "timeout_s": job.timeout_s, "grace_s": GRACE_S,
    }  # fmt: skip


def submit(job: Job) -> Handle:
    """Start the supervisor in a session of its own, so that neither the terminal nor plan's end takes it along.

    Raises UsageError where nothing was started, Ambiguous where this id is known already or the supervisor said nothing.
    """
    if sys.platform == "win32":
        raise UsageError("target", "a run on this machine needs Linux or macOS; on Windows start plan inside WSL")
    import fcntl

    _program(job)
    env, run = _environment(job), _run(job)
    fresh: Path | None = None
    try:
        run.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(prefix=".", dir=run.parent))
        with (fresh / "request.json").open("w", encoding="utf-8") as file:
            json.dump(request(job), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        lock = os.open(fresh / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        _discard(fresh)
        raise UsageError("state", f"{run.parent} cannot be written ({error.strerror}): free space there, or set PLAN_HOME") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fresh.rename(run)  # fails where the folder exists: it is never empty
        except OSError:
            _discard(fresh)
            raise Ambiguous("reply-lost", f"{run.name} was started before: `plan status {run.name}`") from None
        return _start(run, lock, env)
    except OSError as error:
        _discard(run)
        raise UsageError("state", f"{run.parent}: {error.strerror}; set PLAN_HOME to a folder on a local disk") from None
    finally:
        os.close(lock)


def _start(run: Path, lock: int, env: dict[str, str]) -> Handle:
    supervisor = Path(__file__).with_name("_local_supervisor.py")
    try:
        said = subprocess.run(
            [sys.executable, "-I", str(supervisor), str(run)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(lock,), timeout=START_S, text=True, errors="replace",
        ).stdout.strip()  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Ambiguous("reply-lost", f"{run.name} may have started: `plan status {run.name}`") from None
    if not said:  # killed in between: the run's folder says how far it came
        raise Ambiguous("reply-lost", f"{run.name} may have started: `plan status {run.name}`")
    if said != "started":
        raise UsageError("trainer", f"the trainer did not start: {said.splitlines()[-1]}")
    return _handle(run)


def find(job: Job) -> Handle | None:
    """The run of this id, whether it lives or not."""
    run = _run(job)
    with _readable({"run": str(run)}):
        return _handle(run) if (run / "request.json").exists() else None


def status(handle: Handle) -> Status:
    """As the supervisor wrote it down; while it or the trainer holds a lock, the run is running."""
    with _readable(handle):
        return _local_run.status(Path(handle["run"]))


def logs(handle: Handle, *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """What the trainer printed, both streams; every update of a progress bar is a line, empty lines are left out."""
    with _readable(handle):
        yield from _local_run.lines(Path(handle["run"]), follow, lambda: sleep(POLL_S))


def usage(handle: Handle) -> Usage | None:
    """Memory of the run's processes, and of the GPU that is fullest with them, as nvidia-smi says."""
    from planner.targets._local_supervisor import descendants

    with _readable(handle):
        pid = _local_run.trainer_pid(Path(handle["run"]))
    return None if pid is None else _local_usage.usage([pid, *descendants(pid)])


def cancel(handle: Handle) -> None:
    """Ask the supervisor to end the trainer; where it is gone, end the trainer here."""
    from planner.targets._local_supervisor import descendants, end, kill

    run = Path(handle["run"])
    if status(handle).state != "running":
        return
    try:
        (run / "cancel").touch()
        if not _local_run.held(run / "supervisor.lock") and (pid := _local_run.trainer_pid(run)) is not None:
            kill([*descendants(pid), pid])
            end(run, {"state": "cancelled", "message": "cancelled", "exit_code": None, "running_s": None})
    except OSError as error:
        raise UsageError("state", f"{run} cannot be written ({error.strerror}): free space there, then `plan cancel` again") from None


def fetch(handle: Handle, job: Job, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Copy the newest checkpoint's model into `to`. UsageError where there is no checkpoint, or the copy fails."""
    newest = checkpoint(handle, job)
    if newest is None:
        raise UsageError("fetch", f"{_output(handle, job)} holds no checkpoint yet: `plan logs` says how far the run is")
    model = newest / "pretrained_model"
    files = sorted(path for path in model.rglob("*") if path.is_file())
    if to.expanduser().resolve() == model.resolve():
        return tuple(files)
    try:
        return tuple(_local_run.copied(path, to.expanduser() / path.relative_to(model), progress) for path in files)
    except OSError as error:
        raise UsageError("fetch", f"{error.filename or to}: {error.strerror}; give another folder with --to") from None


def bill(handle: Handle) -> Decimal | None:
    """Nobody bills this machine; its electricity is not measured."""
    return None


def checkpoint(handle: Handle, job: Job) -> Path | None:
    """The newest complete checkpoint, `…/checkpoints/000500`, as an absolute path; None before the first one.

    LeRobot moves the link `last` when a checkpoint is complete; between two links the newest folder is the one.
    """
    saved = _output(handle, job) / "checkpoints"
    numbered = sorted((path for path in saved.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name), reverse=True)
    for path in [saved / "last", *numbered]:
        if (path / "pretrained_model" / "train_config.json").is_file() and (path / "training_state" / "training_step.json").is_file():
            return path.resolve()
    return None


# ------------------------------------------------------------------------------------------ inside


def _runs() -> Path:
    return folders.state() / "runs"


def _run(job: Job) -> Path:
    run = job.labels[LABEL]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", run):
        raise UsageError("run", f"{run!r} is no name for a run: letters, digits, - and _")
    return (_runs() / run).absolute()


def _folder(job: Job) -> Path:
    return Path(job.folder or Path.cwd()).absolute()


def _handle(run: Path) -> Handle:
    asked = json.loads((run / "request.json").read_text(encoding="utf-8"))
    return {"run": str(run), "folder": asked["folder"]}


def _program(job: Job) -> str:
    """The job's program in the trainer's environment; one with a path stands for itself."""
    program = job.argv[0]
    return program if "/" in program else str(trainer.find(job.trainer_at).program(program))


def _added(job: Job) -> dict[str, str]:
    return {"PYTHONUNBUFFERED": "1", **job.env}


def _environment(job: Job) -> dict[str, str]:
    """The trainer's environment: this one's with the job's variables, the trainer's programs first on PATH."""
    env = {**os.environ, **_added(job)}
    for ours in ("VIRTUAL_ENV", "PYTHONHOME", "__PYVENV_LAUNCHER__"):  # of the environment that plan is in
        env.pop(ours, None)
    with contextlib.suppress(UsageError):
        programs = trainer.find(job.trainer_at).programs
        env["PATH"] = os.pathsep.join([str(programs), *filter(None, [env.get("PATH")])])
        if (programs.parent / "pyvenv.cfg").exists():
            env["VIRTUAL_ENV"] = str(programs.parent)
    return env


def _output(handle: Handle, job: Job) -> Path:
    return Path(handle["folder"]) / Path(job.output.where).expanduser()


@contextlib.contextmanager
def _readable(handle: Handle) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreachable("state", f"{handle['run']} cannot be read ({error.strerror}): mend that, then ask again") from None


def _discard(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
