"""This machine: the command as it is typed in the trainer's own environment."""

from __future__ import annotations

import shlex

from planner.job import Job, Output

name = "local"


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder below outputs/train."""
    return Output("folder", output or f"outputs/train/{run_name}")


def emit(job: Job) -> str:
    """One line for a shell."""
    environment = [f"{key}={shlex.quote(value)}" for key, value in job.env.items()]
    return " ".join([*environment, shlex.join(job.argv)])
