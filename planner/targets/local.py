"""This machine: the command as it is typed in the trainer's own environment."""

from __future__ import annotations

import shlex
from pathlib import Path

from planner.job import Job, Output
from planner.pasted import TRAINER
from planner.targets.base import install

name = "local"

PROGRAMS = (TRAINER, "accelerate", "torchrun")  # what the trainer's environment brings


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
