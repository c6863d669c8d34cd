"""One workload on one offer: frames → steps → wall-clock → dollars, every sum with its terms. Pure.

Wall-clock is queue + start-up + training + checkpoints + final push. Dollars are what the target bills of it.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from math import ceil
from typing import NamedTuple

from planner import memory, speed
from planner.catalogue import Catalogue
from planner.evidence import Calibration
from planner.plans import Estimate, Memory, Money, Step, Term
from planner.prices import host_ram_bytes
from planner.profiles import Cost, cost_of
from planner.records import Gpu, Offer, Run, StartupRange, TargetRules
from planner.units import GB, Interval, point, total
from planner.workload import Training

#: A recorded frame in bytes per megapixel: AV1 as LeRobot writes it, 7.6-61 MB for 30 s of 640×480 at 30 fps.
VIDEO_BYTES_PER_MPX, IMAGE_BYTES_PER_MPX = Interval(14e3, 43e3, 145e3), Interval(0.7e6, 1.0e6, 1.6e6)
#: One checkpoint per quarter of an hour of training, at most ten: a run killed late loses little, and saving stays cheap.
CHECKPOINT_EVERY_S, MAX_CHECKPOINTS = 900, 10
#: The timeout leaves room beyond the P90, and is a round number.
TIMEOUT_MARGIN, TIMEOUT_STEP_S = 1.25, 300
#: Bandwidth that tells a large datacenter GPU, with long queues, from a small one.
_LARGE_BANDWIDTH = 1.2e12
_CENT = Decimal("0.000001")


class Ground(NamedTuple):
    """What does not depend on the price: one (GPU, count, vCPUs, RAM) is worked out once and then priced."""

    memory: Memory
    step: Step


class Estimator:
    """Estimates a workload on offers. Holds the catalogue and the calibration, and nothing that changes."""

    def __init__(self, catalogue: Catalogue, calibration: Calibration) -> None:
        self.catalogue = catalogue
        self.calibration = calibration
        self._sized: dict[tuple[object, ...], tuple[Run, ...]] = {}
        self._grounds: dict[tuple[object, ...], Ground] = {}
        self._costs: dict[tuple[object, ...], Cost] = {}

    def cost(self, training: Training) -> Cost:
        key = (training.policy.id, training.variant, training.cameras)
        if key not in self._costs:
            self._costs[key] = cost_of(self.catalogue, training.policy, training.variant, training.cameras)
        return self._costs[key]

    def sized(self, training: Training) -> tuple[Run, ...]:
        key = (training.policy.id, training.variant)
        if key not in self._sized:
            self._sized[key] = memory.measured(self.catalogue.runs, training)
        return self._sized[key]

    def ground(self, training: Training, offer: Offer) -> Ground:
        kappa = self.catalogue.targets[offer.target].decode_kappa
        key = (
            training.policy.id, training.variant, training.cameras, training.batch_size, training.gradient_accumulation,
            training.num_workers, training.lerobot, training.video_backend, offer.gpu, offer.num_gpus, offer.vcpus, kappa,
        )
        if key not in self._grounds:
            gpu, cost, count = self.gpu(offer), self.cost(training), max(1, offer.num_gpus)
            self._grounds[key] = Ground(
                memory.estimate(training, gpu, count, cost, self.sized(training)),
                speed.estimate(training, gpu, count, offer.vcpus, cost, self.calibration, kappa),
            )
        return self._grounds[key]

    def gpu(self, offer: Offer) -> Gpu:
        return self.catalogue.gpus[offer.gpu]

    def largest_batch(self, training: Training, offer: Offer) -> int:
        return memory.largest_batch(training, self.gpu(offer), max(1, offer.num_gpus), self.cost(training), self.sized(training))

    def estimate(
        self, training: Training, offer: Offer, timeout_s: int | None = None, attempts: int | None = None,
        max_cost: Decimal | None = None,
    ) -> Estimate:
        """`timeout_s` and `attempts` are the user's own; without them they follow from the P90. `max_cost` caps the timeout."""
        ground = self.ground(training, offer)
        rules = self.catalogue.targets[offer.target]
        gpus = max(1, offer.num_gpus)
        steps = training.steps(gpus)
        cost = self.cost(training)
        every = training.save_freq or save_freq(steps, ground.step.seconds.p50)
        count = ceil(steps / every)
        startup = self._startup(training, offer, rules, cost, ground.step)
        train = ground.step.seconds.times(steps)
        saved = _transfer(rules.bandwidth["checkpoint"], cost.checkpoint_bytes)
        terms = [
            *startup,
            Term("training", train, f"{steps} steps × {ground.step.seconds.p50:.4g} s"),
            Term("checkpoints", Interval(*(count * (0.5 + part) for part in saved)), rules.bandwidth["checkpoint"].source,
                 f"{count} × {cost.checkpoint_bytes / GB:.2f} GB"),
        ]
        if rules.output == "hub":
            terms.append(_push(training, rules, cost, count))
        wall = total([term.value for term in terms])
        billed = [term for term in terms if rules.bills_scheduling or term.name not in ("queue", "image build")]
        running = total([term.value for term in billed])
        timeout, tries = _bound(running.p90, rules, timeout_s, attempts)
        fits, why_not = ground.memory.fits, None
        if fits:
            why_not = self._host_ram(training, offer, gpus)
            fits = why_not is None
        estimate = Estimate(
            offer=offer, memory=ground.memory, batch_size=training.batch_size,
            gradient_accumulation=training.gradient_accumulation, steps=steps, updates=training.updates(gpus),
            step=ground.step, startup=total([term.value for term in startup]), startup_grade="modelled",
            wall_clock=wall, wall_terms=tuple(terms), running=running, usd=None, usd_terms=(), usd_max=None, usd_max_formula="",
            unbounded=rules.unbounded, price_grade=None, timeout_s=timeout, attempts=tries, save_freq=every,
            fits=fits, why_not=why_not,
        )
        return _price(estimate, billed, rules, max_cost, timeout_s is not None)

    def _host_ram(self, training: Training, offer: Offer, gpus: int) -> str | None:
        needed = host_ram_bytes(training, gpus)
        if offer.ram_bytes is None or needed <= offer.ram_bytes:
            return None
        return f"needs about {needed / GB:.0f} GB of host memory, has {offer.ram_bytes / GB:.0f} GB"

    def _startup(self, training: Training, offer: Offer, rules: TargetRules, cost: Cost, step: Step) -> list[Term]:
        gpu = self.gpu(offer)
        size = "multi" if offer.num_gpus > 1 else "large" if gpu.bandwidth.value >= _LARGE_BANDWIDTH else "small"
        terms = [Term("queue", _interval(rules.startup[f"scheduling-{size}"]), rules.startup[f"scheduling-{size}"].source)]
        for name, key in (("image build", "build"), ("image pull", "pull"), ("container start", "boot"), ("imports", "imports")):
            if rules.startup[key].p90 > 0:
                terms.append(Term(name, _interval(rules.startup[key]), rules.startup[key].source))
        weights, data = training.policy.download_bytes, self.dataset_bytes(training)
        download = rules.bandwidth["download"]
        if weights and rules.fresh_disk:
            terms.append(Term("weights download", _transfer(download, weights), download.source, f"{weights / GB:.2f} GB"))
        if data is not None and rules.fresh_disk:
            terms.append(Term("dataset download", Interval(data.p10 / download.p90, data.p50 / download.p50, data.p90 / download.p10),
                              download.source, f"about {data.p50 / GB:.2f} GB"))
        terms.append(Term("dataset and policy set-up", _interval(rules.startup["setup"]), rules.startup["setup"].source))
        load = rules.bandwidth["load"]
        terms.append(Term("weights to the GPU", _transfer(load, cost.weight_bytes), load.source, f"{cost.weight_bytes / GB:.2f} GB"))
        terms.append(Term("first step and first batch", total([_interval(rules.startup["first_step"]), step.loader]),
                          rules.startup["first_step"].source))
        if training.variant.compiled:
            terms.append(Term("torch.compile", _interval(rules.startup["compile"]), rules.startup["compile"].source))
        return terms

    def dataset_bytes(self, training: Training) -> Interval | None:
        """Bytes of the dataset: as found, or from frames and cameras; None where neither is known."""
        if training.dataset_bytes is not None:
            return point(training.dataset_bytes)
        if training.frames is None or not training.cameras:
            return None
        video = sum(camera.megapixels for camera in training.cameras if camera.codec != "png")
        image = sum(camera.megapixels for camera in training.cameras if camera.codec == "png")
        both = zip(VIDEO_BYTES_PER_MPX, IMAGE_BYTES_PER_MPX, strict=True)
        return Interval(*(training.frames * (video * one + image * other) for one, other in both))


def save_freq(steps: int, step_s: float) -> int:
    """Steps between checkpoints, rounded up to two digits; the last step is always saved."""
    count = min(MAX_CHECKPOINTS, max(1, round(steps * step_s / CHECKPOINT_EVERY_S)))
    every = ceil(steps / count)
    digits = 10 ** max(0, len(str(every)) - 2)
    return min(steps, ceil(every / digits) * digits) if count > 1 else steps


def _interval(term: StartupRange) -> Interval:
    return Interval(term.p10, term.p50, term.p90)


def _transfer(bandwidth: StartupRange, size: float) -> Interval:
    return Interval(size / bandwidth.p90, size / bandwidth.p50, size / bandwidth.p10)


def _push(training: Training, rules: TargetRules, cost: Cost, checkpoints: int) -> Term:
    """Sending results to the Hub: every checkpoint where the release can, else the final model."""
    times = 1 if training.lerobot == "0.4.4" else checkpoints
    name = "pushing the model" if times == 1 else "pushing checkpoints and the model"
    parts = zip(_interval(rules.startup["push_fixed"]), _transfer(rules.bandwidth["push"], cost.weight_bytes), strict=True)
    return Term(name, Interval(*(times * (wait + sent) for wait, sent in parts)), rules.bandwidth["push"].source,
                f"{times} × {cost.weight_bytes / GB:.2f} GB")


def _bound(p90_s: float, rules: TargetRules, timeout_s: int | None, attempts: int | None) -> tuple[int, int]:
    """(timeout per attempt, attempts) that cover the P90 with margin, within what the target allows."""
    timeout = timeout_s if timeout_s is not None else ceil(p90_s * TIMEOUT_MARGIN / TIMEOUT_STEP_S) * TIMEOUT_STEP_S
    longest = rules.max_timeout_s
    if longest is None or timeout <= longest:
        return timeout, attempts or 1
    return longest, max(attempts or 1, ceil(timeout / longest))


def _price(estimate: Estimate, billed: list[Term], rules: TargetRules, max_cost: Decimal | None, fixed: bool) -> Estimate:
    rate = estimate.offer.usd_per_hour
    if rate is None:
        return estimate
    unit = rules.billing_unit_s
    per_second = rate / 3600

    def dollars(seconds: float) -> Decimal:
        return (Decimal(ceil(round(seconds, 6) / unit) * unit) * per_second).quantize(_CENT, ROUND_UP)

    money = Money(*(dollars(seconds) for seconds in estimate.running))
    terms = [Term(term.name, term.value.times(float(per_second)), f"{term.value.p50:.0f} s × ${rate}/h", term.note) for term in billed]
    rounding = float(money.p50) - sum(term.value.p50 for term in terms)
    terms.append(Term("billing unit", point(rounding), f"billed by the {'minute' if unit == 60 else 'second'}, rounded up"))
    limit = rules.startup_limit_s
    if limit is None:
        limit = ceil(sum(term.value.p90 for term in billed if term.name in ("image pull", "container start")))
    timeout = estimate.timeout_s
    if max_cost is not None and not fixed:
        affordable = int(max_cost / estimate.attempts / per_second)
        timeout = max(0, min(timeout, affordable - affordable % unit - limit))
    worst = (dollars(limit + timeout) * estimate.attempts).quantize(_CENT, ROUND_UP)
    formula = f"({limit} s start-up + {timeout} s timeout) × {estimate.attempts} attempt{'s' if estimate.attempts > 1 else ''} × ${rate}/h"
    return estimate._replace(
        usd=money, usd_terms=tuple(terms), usd_max=worst, usd_max_formula=formula, timeout_s=timeout,
        price_grade="given" if estimate.offer.price_method == "user" else "measured",
    )
