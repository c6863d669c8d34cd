"""`plan probe`: a few real steps of the same training on one or more flavors, priced before they start; then the plan again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from planner.commands import launching, running, terminal
from planner.commands.options import ACT, COMMAND, OUTPUT, SEARCH, WORKLOAD, Request, takes
from planner.errors import PlanError, UsageError

if TYPE_CHECKING:
    from planner.job import Job
    from planner.plans import Estimate, Plan

STEPS = 60  # enough for a median over five windows, a minute or two on most rows
MOST = 5  # flavors in one go


@takes(WORKLOAD, SEARCH, {name: COMMAND[name] for name in ("namespace",)}, {name: ACT[name] for name in ("yes", "dry_run")}, OUTPUT)
def run(
    request: Request,
    probe_steps: int = typer.Option(STEPS, "--probe-steps", metavar="N", min=20, max=2000, help="Steps of each probe."),
) -> int:
    """Without --gpu or --target, the recommended row is probed."""
    from planner import api
    from planner.targets import base

    short = request.workload._replace(steps=probe_steps, epochs=None)
    plan = api.plan(request.workload, launching.search_of(request))
    if plan.recommended is None:
        raise PlanError("nothing", plan.error[1] if plan.error else "no row to probe")
    launching.priced(plan, request)
    wanted = _rows(plan, request)
    trial = api.plan(short, launching.search_of(request)._replace(max_hours=None, live=False))
    rows = [trial.estimate(row) for row in wanted]
    _show(rows)
    jobs = [launching.job_of(trial, one, base.get(one.offer.target), request, probe=True) for one in rows]
    if request.dry_run:
        for job in jobs:
            launching.show_request(base.get(job.target), job)
        terminal.note("nothing was sent")
        return 0
    for job in jobs:  # all of them before the first is paid for
        launching.check(base.get(job.target), job)
    _ask(rows, request)
    for estimate, job in zip(rows, jobs, strict=True):
        _probe(trial, estimate, job, request)
    api.forget()  # the plan is made again with what was measured
    return _plan_again(request)


def _rows(plan: Plan, request: Request) -> list[str]:
    """Ids to probe: the cheapest row of every flavor that was named, or the one that the plan recommends."""
    assert plan.recommended is not None
    if not request.search.gpus:
        return [plan.recommended.id]
    rows = [one.id for one in plan.estimates if one.fits and one.why_not is None]
    if len(rows) > MOST:
        raise UsageError("usage", f"--gpu names {len(rows)} rows, and at most {MOST} are probed at once: add --target or --num-gpus")
    return rows


def _show(rows: list[Estimate]) -> None:
    from planner.show import runs

    for estimate in rows:
        terminal.note(f"probe of {estimate.steps} steps: {runs.offer_line(estimate).replace('Launch on', 'on')}")


def _ask(rows: list[Estimate], request: Request) -> None:
    most = sum((one.usd_max or Decimal(0) for one in rows), Decimal(0))
    launching.confirm(f"Probe {len(rows)} flavor{'s' if len(rows) > 1 else ''} for at most ${most:.2f} together. Proceed? [y/N] ",
                      request, free=all(one.usd_max is None for one in rows))  # fmt: skip


def _probe(trial: Plan, estimate: Estimate, job: Job, request: Request) -> None:
    from planner.targets import base

    entry = launching.send(trial, estimate, base.get(job.target), job, request)
    terminal.note(f"probing: {entry.id}")
    with running.ledger() as book:
        running.watch(book, entry)


def _plan_again(request: Request) -> int:
    from planner import api
    from planner.commands.root import show

    again = Request(request.workload, request.search, _unprobed(request.argv), request.said)
    return show(api.plan(request.workload, request.search), again)


def _unprobed(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that plans the same."""
    words = list(argv[1:])  # without `probe`
    for at, word in enumerate(words):
        if word.partition("=")[0] == "--probe-steps":
            del words[at : at + (1 if "=" in word else 2)]
            break
    return tuple(words)
