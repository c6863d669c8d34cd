"""What every place that runs jobs offers, and how it is found.

A place is a module of this package; a new one is one file. No module imports a provider's SDK when it is
loaded: planning and emitting must work without it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from typing import Protocol, cast

from planner.errors import UsageError
from planner.job import Job, Output


class Target(Protocol):
    """A place. The protocol grows when jobs are also launched from here: submit, status, logs, cancel, fetch, bill."""

    name: str

    def emit(self, job: Job) -> str:
        """The command or script that runs the job. Raises UsageError where the place cannot run it."""
        ...

    def needs(self, job: Job) -> tuple[str, ...]:
        """What has to be there before the command can run, in the order of doing it; one line each, never a secret's value."""
        ...

    def output_for(self, *, repo_id: str | None, output: str | None, run_name: str) -> Output:
        """Where the results of a run go, unless the user said (`repo_id` or `output`)."""
        ...


def names() -> list[str]:
    """Names of all places."""
    import planner.targets

    return sorted(module.name for module in pkgutil.iter_modules(planner.targets.__path__) if module.name != "base")


def get(name: str) -> Target:
    """The place of this name. Raises UsageError that lists the names."""
    if name not in names():
        raise UsageError("target", f"unknown target {name!r}; targets are {', '.join(names())}")
    return cast(Target, importlib.import_module(f"planner.targets.{name}"))


def install(job: Job) -> str:
    """How an environment gets the trainer of this job."""
    return f"pip install {shlex.join(job.packages)}"


def label(text: str, longest: int = 50) -> str:
    """Text as a label's value: letters, digits, `-` and `_`. 50 is Modal's limit, Hugging Face allows 100."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:longest].strip("-") or "run"
