"""When a run has ended: what it really took stands beside what was planned, and becomes evidence for the next plan.

Nothing here stops a run's end from being written down: a place that gives no log or no bill leaves that field unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from planner import calibrate, trainlog
from planner.errors import PlanError
from planner.estimate import Estimator
from planner.job import Job, Status, restored
from planner.runs import Entry, Ledger, utc
from planner.targets.base import Target


class Ended(NamedTuple):
    """A run's end: the ledger's row, the end of its log, and the entry of evidence that its log gives, if any."""

    entry: Entry
    lines: tuple[str, ...]
    evidence: dict[str, dict[str, Any]]  # id -> entry of evidence.yaml; empty where the log says too little


def finish(
    entry: Entry, status: Status, target: Target, ledger: Ledger, estimator: Estimator, now: datetime, peak_bytes: int | None = None
) -> Ended:
    """Write the end of a run down. `peak_bytes` is the most GPU memory that was seen in use while it ran.

    The ledger has the end before the log is read: a kill in between loses the measurement, not the end.
    """
    job = restored(entry.job)
    ended_at = entry.ended_at or _ended_at(entry, status, now)
    earlier = {name: value for name, value in (entry.actual or {}).items() if name.startswith("earlier_") or name == "resumed_at"}
    entry = ledger.update(entry.id, state=status.state, ended_at=ended_at, message=status.message)
    lines = log_of(target, entry)
    log, steady = _read(lines)
    usd = billed(target, entry, ledger)
    actual: dict[str, Any] = {
        "waiting_s": status.waiting_s, "running_s": status.running_s, "exit_code": status.exit_code,
        "step_s": steady.step_s if steady else None, "update_s": steady.update_s if steady else None,
        "data_s": steady.data_s if steady else None, "steps": log.steps if log else None,
        "vram_bytes": (steady.vram_bytes if steady else None), "device_peak_bytes": peak_bytes,
        "startup_s": None if earlier else _startup(status, log), **earlier,
    }  # fmt: skip
    entry = ledger.update(entry.id, actual=actual, usd_spent=usd if usd is not None else entry.usd_spent)
    evidence = {} if log is None or steady is None else _evidence(entry, job, lines, log, steady, estimator)
    return Ended(entry, tuple(lines), evidence)


def running_usd(entry: Entry, running_s: float | None) -> Decimal | None:
    """Dollars so far, by the price that was planned with: not a bill."""
    price = planned(entry, "usd_per_hour")
    if price is None or running_s is None:
        return None
    return Decimal(str(price)) * Decimal(str(running_s)) / 3600


def _ended_at(entry: Entry, status: Status, now: datetime) -> str:
    """When it ended by the place's own clock, which may be long before somebody looks; else now."""
    if status.running_s is None:
        return utc(now)
    begun = datetime.fromisoformat((entry.actual or {}).get("resumed_at") or entry.created_at)
    return utc(min(now, begun + timedelta(seconds=(status.waiting_s or 0.0) + status.running_s)))


def saved_step(lines: Sequence[str]) -> int:
    """The last step at which LeRobot says that it saved a checkpoint; 0 where there is none."""
    steps = [int(match[1]) for line in lines if (match := re.search(r"Checkpoint policy after step (\d+)", line))]
    return max(steps, default=0)


def planned(entry: Entry, *path: str) -> Any:
    """A field of the launched row as it was planned, such as planned(entry, "wall_clock_s", "p50")."""
    value: Any = _row(entry)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _row(entry: Entry) -> dict[str, Any]:
    rows = entry.plan.get("estimates") or [{}]
    row: dict[str, Any] = rows[0]
    return row


def log_of(target: Target, entry: Entry) -> list[str]:
    """What the run printed; empty where the place does not give it."""
    if entry.handle is None:
        return []
    try:
        return list(target.logs(entry.handle, follow=False))
    except PlanError:
        return []


def _read(lines: Sequence[str]) -> tuple[trainlog.Log | None, trainlog.Steady | None]:
    try:
        log = trainlog.read("\n".join(lines))
        return log, trainlog.steady(log)
    except PlanError:  # no log, a foreign one, or one of a few steps
        return None, None


def billed(target: Target, entry: Entry, ledger: Ledger) -> Decimal | None:
    """What the place billed for all segments of the run together; None where it does not say so of every one."""
    handles = [segment.handle for segment in ledger.segments(entry.id) if segment.handle is not None]
    try:
        bills = [target.bill(handle) for handle in handles]
    except PlanError:
        return None
    known = [bill for bill in bills if bill is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(bills) else None


def _startup(status: Status, log: trainlog.Log | None) -> float | None:
    """From the start of the machine to the first step, where the run's own clock covers the whole training."""
    if status.running_s is None or log is None or log.wall_clock_s is None:
        return None
    return max(0.0, status.running_s - log.wall_clock_s)


def _evidence(
    entry: Entry, job: Job, lines: Sequence[str], log: trainlog.Log, steady: trainlog.Steady, estimator: Estimator
) -> dict[str, dict[str, Any]]:
    cameras = tuple(f"{one['width']}x{one['height']}" for one in entry.plan["workload"]["cameras"])
    gpu = "cpu" if log.setting("policy", "device") == "cpu" else job.gpu  # a trainer may leave the GPU idle
    said = calibrate.Said(policy=entry.plan["workload"]["policy"], batch_size=None, cameras=cameras, gpu=gpu, num_gpus=None)
    from hashlib import sha256

    digest = sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()
    try:
        result = calibrate.result(f"run {entry.id}", digest, log, steady, said, estimator, None)
    except PlanError:  # another policy in the log than was planned, or a variant that nobody can plan
        return {}
    return {result.id: result.row}
