"""This machine: the command as it is typed in the trainer's own environment."""

from __future__ import annotations

import shlex

from planner.job import Job, Output
from planner.targets.base import install

name = "local"


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder below outputs/train."""
    return Output("folder", output or f"outputs/train/{run_name}")


def emit(job: Job) -> str:
    """One line for a shell."""
    environment = [f"{key}={shlex.quote(value)}" for key, value in job.env.items()]
    return " ".join([*environment, shlex.join(job.argv)])


def needs(job: Job) -> tuple[str, ...]:
    """The trainer, and what it takes from the shell."""
    lines = [f"an environment with {install(job)}"]
    if "HF_TOKEN" in job.secrets:
        lines.append("hf auth login")
    return (*lines, *(f"{name} set in the shell" for name in job.secrets if name != "HF_TOKEN"))
