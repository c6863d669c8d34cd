"""A place that does what a test wrote down, for the rooms above the targets. The real ones have their own tests against servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from planner.errors import PlanError
from planner.job import Check, Handle, Job, Output, Status, Usage
from planner.targets.base import Limits


class Scripted:
    """`jobs` are those that it took, by label; an exception in `fails` is raised by the method of that name."""

    name = "hf"

    def __init__(self, *, log: list[str] | None = None, states: list[Status] | None = None) -> None:
        self.jobs: dict[str, Job] = {}
        self.log, self.states = log or [], states or [Status("succeeded")]
        self.fails: dict[str, list[PlanError]] = {}
        self.acts_first = False  # a submit that fails has taken the job all the same
        self.billed: Decimal | None = None

    def _fail(self, method: str) -> None:
        if self.fails.get(method):
            raise self.fails[method].pop(0)

    def emit(self, job: Job) -> str:
        raise NotImplementedError

    def needs(self, job: Job) -> tuple[str, ...]:
        return ()

    def output_for(self, *, repo_id: str | None, output: str | None, run_name: str) -> Output:
        return Output("hub", repo_id or f"me/{run_name}")

    def account(self, namespace: str | None) -> str:
        return namespace or "me"

    def limits(self) -> Limits:
        return Limits(None, None, None)

    def preflight(self, job: Job) -> tuple[Check, ...]:
        return ()

    def request(self, job: Job) -> dict[str, Any]:
        return {}

    def submit(self, job: Job) -> Handle:
        if self.acts_first or not self.fails.get("submit"):
            assert job.labels["plan-run-id"] not in self.jobs, "sent twice"
            self.jobs[job.labels["plan-run-id"]] = job
        self._fail("submit")
        return {"job_id": job.labels["plan-run-id"], "url": "https://example.invalid/job"}

    def find(self, job: Job) -> Handle | None:
        self._fail("find")
        run = job.labels["plan-run-id"]
        return {"job_id": run} if run in self.jobs else None

    def status(self, handle: Handle) -> Status:
        self._fail("status")
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[str]:
        yield from self.log
        self._fail("logs")

    def usage(self, handle: Handle) -> Usage | None:
        return None

    def cancel(self, handle: Handle) -> None:
        self._fail("cancel")

    def fetch(self, handle: Handle, job: Job, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
        return ()

    def checkpoint(self, handle: Handle, job: Job) -> Path | None:
        return None

    def bill(self, handle: Handle) -> Decimal | None:
        self._fail("bill")
        return self.billed
