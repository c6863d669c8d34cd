"""How long an attempt may take, how many there are, and how often a checkpoint is saved. Pure."""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

from planner.records import TargetRules
from planner.units import GB, Interval

#: One checkpoint per quarter of an hour of training, at most ten, but never more than two hours apart: a run that ends
#: early loses little, and saving stays cheap.
CHECKPOINT_EVERY_S, MAX_CHECKPOINTS, CHECKPOINT_AT_LEAST_EVERY_S = 900, 10, 7200
#: Checkpoints that an attempt must be able to save, so that the next one gets further.
CHECKPOINTS_PER_ATTEMPT = 4
#: The timeout leaves room beyond the P90, and is a round number.
TIMEOUT_MARGIN, TIMEOUT_STEP_S = 1.25, 300


class Checkpoints(NamedTuple):
    """One every `every` steps, at most `saved` in all and about `between_s` apart; `why_not` where they cannot be kept."""

    every: int
    saved: int
    between_s: float
    why_not: str | None = None


def checkpoints(
    steps: int, step: Interval, own: int | None, attempt_s: float | None, room_bytes: float | None, size_bytes: float
) -> Checkpoints:
    """`own` is the user's choice; `attempt_s` what an attempt has for training; `room_bytes` the disk for checkpoints.

    LeRobot keeps every checkpoint and always saves the last step.
    """
    most = None if room_bytes is None else floor(room_bytes / size_bytes)
    if own is not None:
        every = min(steps, own)
        saved, between_s = ceil(steps / every), every * step.p50
    else:
        between_s = CHECKPOINT_AT_LEAST_EVERY_S
        if attempt_s is not None and attempt_s > 0:
            between_s = min(between_s, attempt_s / CHECKPOINTS_PER_ATTEMPT * step.p50 / step.p90)
        seconds = steps * step.p50
        saved = max(1, min(MAX_CHECKPOINTS, round(seconds / CHECKPOINT_EVERY_S)), ceil(seconds / between_s))
        saved = min(saved, steps)
        if most is not None:
            saved = max(1, min(saved, most))
        every = min(steps, _round_up(ceil(steps / saved)) if saved > 1 else steps)
    if most is None or saved <= most:
        return Checkpoints(every, saved, between_s)
    left = max(0.0, room_bytes or 0.0) / GB
    return Checkpoints(every, saved, between_s, f"has {left:.0f} GB of disk left for {saved} × {size_bytes / GB:.1f} GB of checkpoints")


def _round_up(steps: int) -> int:
    """To two digits, so that step numbers read well."""
    unit: int = 10 ** max(0, len(str(steps)) - 2)
    return -(-steps // unit) * unit


class Bounds(NamedTuple):
    """`timeout_s` ends each of `attempts`; `segments` of them are needed, each continuing from the newest checkpoint."""

    timeout_s: int
    attempts: int
    segments: int
    why_not: str | None = None


def bound(p90_s: float, startup_p90_s: float, rules: TargetRules, timeout_s: int | None, attempts: int | None) -> Bounds:
    """Timeout and attempts that cover the P90 with margin, within what the place and the user allow.

    Only where results stay on a volume does another attempt continue; elsewhere every attempt has to end by itself.
    """
    wanted = ceil(p90_s * TIMEOUT_MARGIN / TIMEOUT_STEP_S) * TIMEOUT_STEP_S
    longest = rules.max_timeout_s
    if timeout_s is not None and longest is not None and timeout_s > longest:
        why = f"--timeout {_hours(timeout_s)}: {rules.title} ends every attempt after {_hours(longest)}"
        return Bounds(longest, attempts or 1, 1, why)
    limit = timeout_s or longest
    if limit is None or (p90_s if timeout_s is not None else wanted) <= limit:
        return Bounds(timeout_s or wanted, attempts or 1, 1)
    if rules.output != "volume":
        why = f"may run {_hours(p90_s)}, over --timeout {_hours(limit)}, and another attempt would begin again"
        return Bounds(limit, attempts or 1, 1, why)
    training_s = limit - startup_p90_s
    if training_s <= 0.25 * limit:
        why = f"--timeout {_hours(limit)} leaves no time to train: starting may take {_hours(startup_p90_s)}"
        return Bounds(limit, attempts or 1, 1, why)
    segments = ceil((p90_s * TIMEOUT_MARGIN - startup_p90_s) / (training_s * (1 - 1 / CHECKPOINTS_PER_ATTEMPT)))
    if attempts is not None and attempts < segments:
        return Bounds(limit, attempts, segments, f"needs up to {segments} attempts of {_hours(limit)}: --attempts {segments}")
    return Bounds(limit, attempts or segments, segments)


def _hours(seconds: float) -> str:
    return f"{ceil(seconds / 36) / 100:g} h" if seconds >= 3600 else f"{ceil(seconds / 60)} min"
