"""`plan resume RUN`: continue a run from its newest checkpoint, also on another flavor, with what is left planned again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from planner.commands import launching, running, terminal
from planner.commands.options import ACT, JSON, SEARCH, Request, takes
from planner.commands.status import RUN
from planner.errors import Declined, PlanError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from planner.job import Job
    from planner.plans import Estimate
    from planner.runs import Entry
    from planner.targets.base import Target


@takes({name: SEARCH[name] for name in ("max_cost", "timeout_s", "offline")},
       {name: ACT[name] for name in ("yes", "detach", "dry_run", "no_learn")}, JSON)
def run(
    request: Request,
    name: str = RUN,
    on: str = typer.Option(None, "--on", metavar="FLAVOR", help="Go on on this flavor of the same place [the same].", show_default=False),
) -> int:
    from planner import launch
    from planner.job import restored
    from planner.show import runs
    from planner.targets import base

    with running.ledger() as book:
        [entry] = running.refreshed(book, [book.get(name)])
        target, job = base.get(entry.target), restored(entry.job)
        _resumable(entry)
        checkpoint, done = _newest(entry, job, target)
        estimate = _rest(entry, job, done, on, request)
        job = _continued(job, checkpoint, estimate)._replace(folder=(entry.handle or {}).get("folder", job.folder))
        if request.dry_run:
            launching.show_request(target, job)
            terminal.note("nothing was sent")
            return 0
        terminal.note(f"{entry.id} goes on from step {done:,}, {estimate.steps:,} are left")
        launching.check(target, job)
        launching.confirm(runs.question(estimate), request, free=estimate.usd_max is None)
        entry = launch.resume(job, entry, target, book, usd_max=estimate.usd_max, now=running.now())
    return launching.after(entry, request)


def _resumable(entry: Entry) -> None:
    if entry.live:
        raise Declined("running", f"{entry.id} has not ended: plan logs {entry.id} --follow")
    if entry.state == "succeeded":
        raise UsageError("resume", f"{entry.id} was trained to its end: plan fetch {entry.id}")
    if entry.handle is None or "request" not in entry.plan:
        raise UsageError("resume", f"{entry.id} never ran: launch it again")


def _newest(entry: Entry, job: Job, target: Target) -> tuple[Path | None, int]:
    """The checkpoint where it lies on this machine, and the step that it was saved at as far as is known from here."""
    from planner import reconcile

    assert entry.handle is not None
    if job.output.kind == "folder":
        found = target.checkpoint(entry.handle, job)
        if found is None:
            raise UsageError("resume", f"{entry.id} saved no checkpoint in {job.output.where}: launch it again")
        return found, int(found.name)
    done = reconcile.saved_step(reconcile.log_of(target, entry))
    if not done:
        raise UsageError("resume", f"the log of {entry.id} tells of no checkpoint: launch it again")
    return None, done


def _rest(entry: Entry, job: Job, done: int, on: str | None, request: Request) -> Estimate:
    """What is left, planned on the flavor that it goes on on."""
    from planner import api
    from planner.reconcile import planned
    from planner.request import Search, Workload

    said: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.plan["request"].items()}
    left = max(1, int(planned(entry, "steps")) - done)
    workload = Workload(**said)._replace(steps=left, epochs=None, batch_size=int(planned(entry, "batch_size")))
    search = request.search._replace(targets=(job.target,), gpus=(on or job.flavor,), num_gpus=job.num_gpus)
    assert isinstance(search, Search)
    plan = api.plan(workload, search._replace(live=not search.offline and job.target != "local"))
    launching.priced(plan, request)
    if plan.recommended is None:
        code, text = plan.error or ("nothing", f"nothing is offered as {on or job.flavor}")
        error = PlanError(code, text)
        error.exit_code = plan.exit_code or 2
        raise error
    return plan.estimate(plan.recommended.id)


def _continued(job: Job, checkpoint: Path | None, estimate: Estimate) -> Job:
    from planner.recipes.resume import resumed

    offer = estimate.offer
    return resumed(job, checkpoint)._replace(
        flavor=offer.flavor, gpu=offer.gpu, num_gpus=offer.num_gpus, timeout_s=estimate.timeout_s, attempts=estimate.attempts,
        usd_per_hour=None if offer.usd_per_hour is None else str(offer.usd_per_hour),
    )  # fmt: skip
