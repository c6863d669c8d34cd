"""`plan explain [ROW]`: every term of one row, with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from planner.commands import terminal
from planner.commands.options import JSON, SEARCH, WORKLOAD, Request, takes
from planner.errors import PlanError, UsageError

if TYPE_CHECKING:
    from planner.plans import Estimate, Plan
    from planner.request import Search, Workload


@takes(WORKLOAD, SEARCH, JSON)
def run(
    request: Request,
    row: str = typer.Argument(
        None, metavar="[ROW]", help="Row to explain, as in hf:l4x1, modal:H100:4 or local:rtx4090 [the recommended one]."
    ),
) -> int:
    from planner import api, catalogue
    from planner.show import explain

    search = _search(request.search, row)
    plan = api.plan(request.workload, search)
    if row is not None and plan.left_out and row not in (one.id for one in plan.estimates):
        plan = _alone(request.workload, search, row) or plan
    estimate = _estimate(plan, row)
    if request.json:
        terminal.write_json(explain.explain_document(plan, estimate))
    else:
        terminal.write(explain.explain(plan, estimate, catalogue.load(), **terminal.style()))
    return 0


def _search(search: Search, row: str | None) -> Search:
    """A card of one's own is only planned when it is named; naming its row is naming it."""
    if row is not None:
        search = search.without("targets", "gpus")
    place, _, gpu = (row or "").partition(":")
    if place == "local" and gpu and not search.gpus and not search.targets:
        return search._replace(targets=("local",), gpus=(gpu.split(":")[0],))
    return search


def _alone(workload: Workload, search: Search, row: str) -> Plan | None:
    """The plan of one row that a longer list leaves out; None where there is no such row."""
    from planner import api

    place, _, flavor = row.partition(":")
    try:
        return api.plan(workload, search._replace(targets=(place,), gpus=(flavor,)))
    except UsageError:
        return None


def _estimate(plan: Plan, row: str | None) -> Estimate:
    if row is None:
        if plan.recommended is None:
            code, text = plan.error or ("nothing-recommended", "no row can be recommended")
            error = PlanError(code, f"{text}; name a row to explain it all the same")
            error.exit_code = plan.exit_code or UsageError.exit_code
            raise error
        row = plan.recommended.id
    try:
        return plan.estimate(row)
    except KeyError:
        from planner.commands.values import nearest

        rows = [estimate.id for estimate in plan.estimates]
        hint = nearest(row, rows) or "; `plan … --all` lists the rows"
        raise UsageError("row", f"no row {terminal.one_line(row)} in this plan{hint}") from None
