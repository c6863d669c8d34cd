"""How far off: every measured run predicted as if its source had never been seen. Pure.

A run is scored on what it states: peak memory, seconds per step, wall-clock, and whether it ran out of memory. What it
does not state is taken as the planner would take it, and widens the interval; a run that lacks what no prediction can do
without is unscorable and names the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from planner import evidence, memory, speed
from planner.estimate import Estimator
from planner.evidence import Calibration
from planner.profiles import cost_of
from planner.records import Catalogue, Gpu, Offer, Run
from planner.units import Interval
from planner.workload import Camera, Training, Variant

#: Spread of a step time, ×/÷, where the cameras or the recipe of a run are not known.
UNKNOWN_SPREAD = 2.0
_LIGHT = Variant("bfloat16", gradient_checkpointing=True)


class Score(NamedTuple):
    """One quantity of one run: `measured` against `predicted`."""

    run: Run
    quantity: str  # memory (bytes), step (s), wall-clock (s)
    measured: float
    predicted: Interval
    grade: str

    @property
    def error(self) -> float:
        """Relative error of the P50, signed."""
        return self.predicted.p50 / self.measured - 1

    @property
    def inside(self) -> bool:
        return self.predicted.p10 <= self.measured <= self.predicted.p90


class Verdict(NamedTuple):
    """Whether a run fits, as planned and as it went."""

    run: Run
    says_fits: bool
    fitted: bool
    margin: float | None  # part of the usable memory that a run that finished left free


class Backtest(NamedTuple):
    """All that was scored, and what could not be, with the field that is missing."""

    scores: tuple[Score, ...]
    verdicts: tuple[Verdict, ...]
    unscorable: tuple[tuple[Run, str], ...]

    @property
    def scored_runs(self) -> set[str]:
        return {score.run.id for score in self.scores} | {verdict.run.id for verdict in self.verdicts}


def lacks(run: Run, catalogue: Catalogue) -> str | None:
    """The field without which the run cannot be scored; None where it can."""
    if run.system != "lerobot":
        return f"system: {run.system} is not LeRobot"
    if run.policy not in catalogue.policies:
        return f"policy: {run.policy} is not one of the catalogue's"
    if run.gpu not in catalogue.gpus:
        return f"gpu: {run.gpu or 'not stated'}"
    if run.batch_size is None:
        return "batch_size"
    if not (run.update_s or run.vram_bytes or run.oom is not None or (run.steps and run.wall_clock_s)):
        return "update_s, vram, oom or steps with wall_clock"
    return None if run.scored else run.reason


def backtest(catalogue: Catalogue, runs: Iterable[Run]) -> Backtest:
    """Score `runs`; the calibration never sees a run of the same source."""
    scores: list[Score] = []
    verdicts: list[Verdict] = []
    unscorable: list[tuple[Run, str]] = []
    held: dict[str, Calibration] = {}
    spreads = evidence.spreads_of(catalogue)
    for run in runs:
        missing = lacks(run, catalogue)
        if missing is not None:
            unscorable.append((run, missing))
            continue
        if run.source not in held:
            held[run.source] = evidence.calibrate(catalogue, without=frozenset({run.source}), spreads=spreads)
        found, verdict = _score(run, catalogue, held[run.source])
        scores += found
        verdicts += [verdict] if verdict else []
        if not found and not verdict:
            unscorable.append((run, "optimizer: that of the run is not the preset, and its memory is not modelled"))
    return Backtest(tuple(scores), tuple(verdicts), tuple(unscorable))


def _score(run: Run, catalogue: Catalogue, calibration: Calibration) -> tuple[list[Score], Verdict | None]:
    training, sure = training_of(run, catalogue)
    gpu, gpus = catalogue.gpus[run.gpu or ""], max(1, run.num_gpus or 1)
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    others = tuple(other for other in memory.measured(catalogue.runs, training) if other.source != run.source)
    peak = memory.estimate(training, gpu, gpus, cost, others)
    scores = []
    told = run.cameras is None and training.policy.image_cost != "none" and sure  # the memory itself told the cameras
    if run.optimizer is None and run.vram_bytes and not told:
        scores.append(Score(run, "memory", run.vram_bytes, peak.peak, peak.grade))
    verdict = None
    if run.optimizer is None and (run.oom is not None or run.vram_bytes):
        free = None if run.oom or not run.vram_bytes else 1 - run.vram_bytes / gpu.usable_bytes.value
        verdict = Verdict(run, peak.fits, not run.oom, free)
    local = catalogue.targets["local"]
    threads = None if run.whole_step else 1024.0  # update_s leaves the loader out
    step = speed.estimate(training, gpu, gpus, threads, cost, calibration, local.decode_kappa)
    seconds = step.seconds if sure else _wider(step.seconds)
    if run.update_s and not run.oom:
        scores.append(Score(run, "step", run.update_s, seconds, step.grade))
    if run.steps and run.wall_clock_s and not run.oom:
        scores.append(Score(run, "wall-clock", run.wall_clock_s, _wall_clock(run, training, gpu, catalogue, calibration, sure), step.grade))
    return scores, verdict


def _wall_clock(run: Run, training: Training, gpu: Gpu, catalogue: Catalogue, calibration: Calibration, sure: bool) -> Interval:
    """Of the whole run on a machine of its own."""
    offer = Offer(
        target="local", flavor=gpu.id, gpu=gpu.id, num_gpus=max(1, run.num_gpus or 1), vcpus=None, ram_bytes=None, disk_bytes=None,
        usd_per_hour=None, price_source=None, price_as_of=None, price_method="bundled", per_gpu=True,
    )
    seconds = Estimator(catalogue, calibration).estimate(training._replace(given_steps=run.steps), offer).wall_clock
    return seconds if sure else _wider(seconds)


def _wider(seconds: Interval) -> Interval:
    return Interval(
        min(seconds.p10, seconds.p50 / UNKNOWN_SPREAD), seconds.p50, max(seconds.p90, seconds.p50 * UNKNOWN_SPREAD))


def training_of(run: Run, catalogue: Catalogue) -> tuple[Training, bool]:
    """(the training that a run was, whether its cameras and recipe are known).

    Unknown cameras are those whose computed memory is what the run printed, else two of 640×480. A large policy of unknown
    dtype is taken at its default where that fits the GPU, else as people run it there: bfloat16 with gradient checkpointing.
    """
    sure = run.trained is not None
    policy = catalogue.policies[run.policy]
    training = evidence.workload_of(run if run.cameras is not None else run._replace(cameras=min(2, policy.max_cameras or 2)), catalogue)
    if run.dtype is None and "dtype" in policy.flags.get(policy.releases[-1], {}) and not run.oom:
        cost = cost_of(catalogue, policy, training.variant, training.cameras)
        if not memory.estimate(training, catalogue.gpus[run.gpu or ""], max(1, run.num_gpus or 1), cost, ()).fits:
            light = training.variant._replace(dtype=_LIGHT.dtype, gradient_checkpointing=_LIGHT.gradient_checkpointing)
            training, sure = training._replace(variant=light), False
    if run.cameras is None and policy.image_cost != "none":
        cameras = _seen_in_memory(run, training, catalogue)
        training, sure = training._replace(cameras=cameras or training.cameras), sure and cameras is not None
    elif policy.image_cost == "pixels" and run.width is None:
        sure = False
    return training, sure


def _seen_in_memory(run: Run, training: Training, catalogue: Catalogue) -> tuple[Camera, ...] | None:
    """One to four 640×480 cameras whose computed peak is within 4 % of the run's and no other's; None where it does not tell."""
    if run.vram_bytes is None or run.optimizer is not None or run.batch_size is None:
        return None
    sets = [(Camera(640, 480),) * count for count in range(1, (training.policy.max_cameras or 4) + 1)]
    peaks = [cost_of(catalogue, training.policy, training.variant, cameras).peak_bytes(run.batch_size) for cameras in sets]
    close = [cameras for cameras, peak in zip(sets, peaks, strict=True) if abs(peak / run.vram_bytes - 1) < 0.04]
    return close[0] if len(close) == 1 else None


class Summary(NamedTuple):
    """Errors of one group of scores."""

    group: str
    quantity: str
    scores: int
    median_error: float
    p90_error: float
    inside: int
    median_spread: float  # P90 ÷ P10


def summaries(scores: Iterable[Score]) -> list[Summary]:
    """By quantity, then by grade, policy and GPU."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        for group in ("all", score.grade, f"policy {score.run.policy}", f"GPU {score.run.gpu}"):
            groups.setdefault((score.quantity, group), []).append(score)
    order = {"all": 0, "measured": 1, "scaled": 2, "modelled": 3}
    keys = sorted(groups, key=lambda key: (key[0], order.get(key[1], 4), key[1]))
    return [_summary(group, quantity, groups[quantity, group]) for quantity, group in keys]


def _summary(group: str, quantity: str, scores: list[Score]) -> Summary:
    errors = sorted(abs(score.error) for score in scores)
    return Summary(
        group, quantity, len(errors), median(errors), errors[min(len(errors) - 1, int(0.9 * len(errors)))],
        sum(score.inside for score in scores), median(score.predicted.p90 / max(score.predicted.p10, 1e-12) for score in scores))
