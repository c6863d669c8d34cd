"""The trainer on this machine: which environment it is in, and what that holds. Asked as a process, never imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from planner.errors import UsageError

VARIABLE = "PLAN_TRAINER"
PROGRAM = "lerobot-train"
#: A first import of torch from a network disk takes most of a minute.
ASK_S = 90.0
_MARK = "plan-facts:"
_QUESTION = f"""
import json
from importlib.metadata import PackageNotFoundError, version
facts = dict(lerobot=None, cards=None, mps=False, trouble=None)
try:
    facts["lerobot"] = version("lerobot")
except PackageNotFoundError:
    pass
try:
    import torch
    facts["mps"] = torch.backends.mps.is_available()
    facts["cards"] = [torch.cuda.get_device_name(one) for one in range(torch.cuda.device_count())]
except Exception as error:
    facts["trouble"] = f"{{type(error).__name__}}: {{error}}"
print("{_MARK}" + json.dumps(facts))
"""


class Trainer(NamedTuple):
    """An environment that has a trainer."""

    programs: Path  # its folder of programs, `bin`
    python: Path

    def program(self, name: str) -> Path:
        """The program of this name. UsageError where the environment has none."""
        path = self.programs / name
        if not path.is_file():
            raise UsageError("trainer", f"{self.programs} has no {name}: install the trainer there, or name another environment in "
                             f"{VARIABLE}")
        return path


class Facts(NamedTuple):
    """What an environment says of itself."""

    lerobot: str | None  # release; None: not installed
    cards: tuple[str, ...] | None  # names of the GPUs that its torch can use; None: it could not tell
    mps: bool  # Apple's GPU
    trouble: str | None = None  # why `cards` is None


def find(said: str | None = None) -> Trainer:
    """The trainer's environment: `said` (a folder, a venv, or a program in it), else $PLAN_TRAINER, else what is on PATH.

    Raises UsageError where there is none.
    """
    source = "trainer" if said else VARIABLE
    where = said or os.environ.get(VARIABLE)
    if not where:
        for name in (PROGRAM, "accelerate"):
            found = shutil.which(name)
            if found and (trainer := _environment(Path(found))):
                return trainer
        raise UsageError("trainer", f"no {PROGRAM} on PATH: activate the environment of LeRobot, or name it in {VARIABLE}")
    path = Path(where).expanduser().absolute()  # not resolved: a venv's python is a link out of it
    if path.is_dir():
        for folder in (path / "bin", path):
            if trainer := _of_folder(folder):
                return trainer
        raise UsageError("trainer", f"{source} {where}: no Python in it or its bin folder; name a virtual environment with LeRobot")
    if not path.is_file():
        raise UsageError("trainer", f"{source} {where}: no such file or folder; name a virtual environment with LeRobot")
    trainer = _environment(path)
    if trainer is None:
        raise UsageError("trainer", f"{source} {where}: no Python beside it; name a virtual environment with LeRobot")
    return trainer


def ask(trainer: Trainer, env: dict[str, str], timeout_s: float = ASK_S) -> Facts:
    """What the environment has. `env` is the trainer's whole environment: CUDA_VISIBLE_DEVICES counts."""
    try:
        done = subprocess.run([str(trainer.python), "-c", _QUESTION], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout_s)  # fmt: skip
    except subprocess.TimeoutExpired:
        return Facts(None, None, False, f"{trainer.python} did not answer within {timeout_s:g} s")
    except OSError as error:
        return Facts(None, None, False, f"{trainer.python}: {error.strerror}")
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            said = json.loads(line.removeprefix(_MARK))
            cards = None if said["cards"] is None else tuple(said["cards"])
            return Facts(said["lerobot"], cards, said["mps"], said["trouble"])
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Facts(None, None, False, f"{trainer.python}: {last[:200]}")


def _environment(program: Path) -> Trainer | None:
    """The environment of a program; one that pipx or uv linked to is where the link points."""
    return _of_folder(program.parent) or _of_folder(program.resolve().parent)


def _of_folder(folder: Path) -> Trainer | None:
    for name in ("python", "python3"):
        if (folder / name).is_file():
            return Trainer(folder, folder / name)
    return None
