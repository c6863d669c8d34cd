"""From a job to a run: written down, sent once, and found again when the reply is lost. No printing, no questions.

The order is what keeps a launch from being paid twice. The ledger holds the run before the request leaves; the request carries
the run's id as a label; a request whose reply is missing is never repeated, only looked for.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from planner.errors import Ambiguous, Declined, PlanError
from planner.job import Job, restored
from planner.runs import REFUSED, SUBMITTING, Entry, Ledger, OverDailyBudget, Twin, utc
from planner.targets.base import Target

LABEL = "plan-run-id"
#: A job that the place does not list this long after it was sent was never taken.
SETTLED = timedelta(minutes=10)
_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # none that is read as another


def run_id(name: str) -> str:
    """`smolvla-pick-3f2a91` → `smolvla-pick-3f2a91-k7mx2`: another one for every launch. With what `resume` adds to it at most 50
    characters, the longest tag on Modal."""
    return f"{name[:40].rstrip('-')}-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"


def fingerprint(job: Job) -> str:
    """The same for two jobs that do the same thing in the same place."""
    same = job._replace(labels={}, warnings=(), timeout_s=0, attempts=1, usd_per_hour=None)
    return sha256(json.dumps(same, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def entry(job: Job, plan: dict[str, Any], usd_max: Decimal | None, now: datetime, group: str | None = None) -> Entry:
    """The ledger's row of a job that is about to be sent. `plan` is the plan's document with the row that is launched."""
    return Entry(
        id=job.labels[LABEL], target=job.target, flavor=job.flavor, state=SUBMITTING, fingerprint=fingerprint(job),
        created_at=utc(now), job=job._asdict(), plan=plan, usd_max=usd_max, group=group,
    )  # fmt: skip


def launch(
    job: Job, row: Entry, target: Target, ledger: Ledger, *, again: bool = False, usd_per_day: Decimal | None = None,
) -> Entry:  # fmt: skip
    """Send `job` once and return its run.

    Raises Declined where the same job is running or the day's budget is spent, Ambiguous where it may have been taken, and what
    the place refused it with; after a refusal nothing runs.
    """
    try:
        ledger.begin(row, again=again, usd_per_day=usd_per_day)
    except Twin as twin:
        raise refused_twin(twin.entry) from None
    except OverDailyBudget as over:
        raise Declined("daily-budget", f"max_cost_per_day is ${usd_per_day}, and the last 24 hours' runs may cost ${over.committed} "
                       f"already; this one may cost ${row.usd_max}: `plan runs` lists them") from None
    return _send(job, row, target, ledger, REFUSED)


def refused_twin(entry: Entry) -> PlanError:
    """Why a launch is not sent while `entry` does the same, or may."""
    if entry.state == SUBMITTING:
        return _ambiguous(entry)
    return Declined("running", f"the same training is running as {entry.id}: `plan status {entry.id}`, or --again to start another")


def resume(job: Job, row: Entry, target: Target, ledger: Ledger, *, usd_max: Decimal | None, now: datetime) -> Entry:
    """Send `job`, which continues the run of `row`, once, and return the run with a segment more.

    The job carries a label of its own, so that a lost reply is never taken for the segment before. `usd_max` is what this segment
    may cost; it counts on top of what the run has cost already. Raises as `launch` does.
    """
    number = len(ledger.segments(row.id)) + 1
    job = job._replace(labels={**job.labels, LABEL: f"{row.id}-{number}"})
    total = None if usd_max is None else usd_max + row.usd_committed
    done = row.actual or {}
    earlier = {f"earlier_{name}": (done.get(f"earlier_{name}") or 0.0) + (done.get(name) or 0.0) for name in ("waiting_s", "running_s")}
    try:
        resumed = ledger.resume(row.id, utc(now), job=job._asdict(), target=job.target, flavor=job.flavor, usd_max=total,
                                actual={**earlier, "resumed_at": utc(now)})  # fmt: skip
    except Twin as twin:
        raise Declined("running", f"{twin.entry.id} has not ended: plan status {twin.entry.id}") from None
    return _send(job, resumed, target, ledger, row.state)


def _send(job: Job, row: Entry, target: Target, ledger: Ledger, refused_state: str) -> Entry:
    """Send what the ledger says is about to be sent; `refused_state` is the run's state where nothing was taken."""
    try:
        handle = target.submit(job)
    except Ambiguous as lost:
        return _look(row, target, ledger, str(lost))
    except KeyboardInterrupt:
        raise _ambiguous(row) from None
    except PlanError as refused:
        ledger.update(row.id, state=refused_state, message=refused.text)
        raise
    return ledger.update(row.id, state="queued", handle=handle)


def recover(ledger: Ledger, target_of: Callable[[str], Target], now: datetime) -> list[Entry]:
    """Settle the runs whose reply is missing: adopt the job that the place has, or note that it has none. What changed."""
    changed = []
    for row in ledger.unresolved():
        try:
            handle = target_of(row.target).find(restored(row.job))
        except PlanError:
            continue  # the place cannot be asked now; the run stays as it is
        if handle is not None:
            changed.append(ledger.update(row.id, state="queued", handle=handle))
        elif now - datetime.fromisoformat(row.created_at) > SETTLED:
            state = REFUSED if len(ledger.segments(row.id)) == 1 else "failed"  # a segment that never began ends no better than the last
            changed.append(ledger.update(row.id, state=state, message=f"{row.target} has no job of this id: it was never taken"))
    return changed


def _look(row: Entry, target: Target, ledger: Ledger, why: str) -> Entry:
    """The reply was lost: the place says whether it has the job."""
    ledger.update(row.id, message=why)
    try:
        handle = target.find(restored(row.job))
    except PlanError:
        handle = None
    if handle is None:
        raise _ambiguous(row) from None
    return ledger.update(row.id, state="queued", handle=handle, message=None)


def _ambiguous(row: Entry) -> Ambiguous:
    return Ambiguous("reply-lost", f"{row.target} may have taken {row.id}: its reply never came. Nothing was sent again; "
                     f"`plan status {row.id}` looks for it")
