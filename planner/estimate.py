"""One training on one offer: frames → steps → wall-clock → dollars, every sum with its terms. Pure.

Wall-clock is queue + start-up + training + checkpoints + final push. Dollars are what the target bills of it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from planner import bill, electricity, memory, speed
from planner.bounds import Bounds, Checkpoints, bound, checkpoints
from planner.evidence import Calibration, Kin
from planner.plans import Estimate, Memory, Step, Term
from planner.prices import host_ram_bytes
from planner.profiles import Cost, cost_of
from planner.records import Catalogue, Figure, Gpu, Offer, Run, StartupRange, TargetRules
from planner.units import GB, Interval, point, total
from planner.workload import Training

#: A recorded frame in bytes per megapixel: AV1 as LeRobot writes it, 7.6-61 MB for 30 s of 640×480 at 30 fps.
VIDEO_BYTES_PER_MPX, IMAGE_BYTES_PER_MPX = Interval(14e3, 43e3, 145e3), Interval(0.7e6, 1.0e6, 1.6e6)
#: Disk that the unpacked image takes: a CUDA torch stack of 12-18 GB.
IMAGE_DISK_BYTES = 20 * GB
#: Bandwidth that tells a large datacenter GPU, with long queues, from a small one.
_LARGE_BANDWIDTH = 1.2e12
#: The generic CPU of the catalogue has 8 cores, 16 threads.
_CPU_THREADS = 16.0
#: More threads than any loader can use.
ANY_VCPUS = 1e6


class Ground(NamedTuple):
    """What does not depend on the price: one (GPU, count, vCPUs, RAM) is worked out once and then priced."""

    memory: Memory
    step: Step


class Least(NamedTuple):
    """Seconds that the P50 of an estimate is not below: of the wall-clock, and of what is billed of it."""

    wall: float
    running: float


class Estimator:
    """Estimates a workload on offers. Holds the catalogue and the calibration, and nothing that changes."""

    def __init__(self, catalogue: Catalogue, calibration: Calibration) -> None:
        self.catalogue = catalogue
        self.calibration = calibration
        self._sized: dict[tuple[object, ...], tuple[Run, ...]] = {}
        self._kin: dict[tuple[object, ...], Kin] = {}
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

    def kin(self, training: Training) -> Kin:
        key = (training.policy.id, training.variant, training.lerobot)
        if key not in self._kin:
            self._kin[key] = self.calibration.kin(training)
        return self._kin[key]

    def ground(self, training: Training, offer: Offer) -> Ground:
        kappa = self.catalogue.targets[offer.target].decode_kappa
        key = (
            training.policy.id, training.variant, training.cameras, training.batch_size, training.gradient_accumulation,
            training.num_workers, training.lerobot, training.video_backend, offer.gpu, offer.num_gpus, offer.vcpus, kappa,
            offer.ram_bytes if self.catalogue.gpus[offer.gpu].unified else None,
        )
        if key not in self._grounds:
            gpu, cost, count = self.gpu(offer), self.cost(training), max(1, offer.num_gpus)
            self._grounds[key] = Ground(
                memory.estimate(training, gpu, count, cost, self.sized(training)),
                speed.estimate(training, gpu, count, offer.vcpus, cost, self.calibration, kappa, self.kin(training)),
            )
        return self._grounds[key]

    def gpu(self, offer: Offer) -> Gpu:
        """The offer's device; a CPU is as large and as fast as the machine it stands in, shared memory as large."""
        gpu = self.catalogue.gpus[offer.gpu]
        if gpu.unified and gpu.vendor != "cpu" and offer.ram_bytes is not None:
            usable = gpu.usable_bytes.value * offer.ram_bytes / gpu.memory_bytes.value
            return gpu._replace(usable_bytes=gpu.usable_bytes._replace(value=usable))
        if gpu.vendor != "cpu" or offer.ram_bytes is None or offer.vcpus is None:
            return gpu

        def scaled(figure: Figure, factor: float) -> Figure:
            return figure._replace(value=figure.value * factor)

        size = offer.vcpus / _CPU_THREADS
        return gpu._replace(usable_bytes=gpu.usable_bytes._replace(value=0.9 * offer.ram_bytes), fp32=scaled(gpu.fp32, size),
                            bandwidth=scaled(gpu.bandwidth, min(4.0, max(0.25, size))))

    def largest_batch(self, training: Training, offer: Offer) -> int:
        return memory.largest_batch(training, self.gpu(offer), max(1, offer.num_gpus), self.cost(training), self.sized(training))

    def estimate(
        self, training: Training, offer: Offer, timeout_s: int | None = None, attempts: int | None = None,
        max_cost: Decimal | None = None,
    ) -> Estimate:
        """`timeout_s` and `attempts` are the user's own; without them they follow from the P90. `max_cost` caps the timeout."""
        ground = self.ground(training, offer)
        rules, cost = self.catalogue.targets[offer.target], self.cost(training)
        gpus = max(1, offer.num_gpus)
        steps = training.steps(gpus)
        startup = self._startup(training, offer, rules, cost, ground.step)
        started = total([term.value for term in bill.billed(startup, rules)])
        room = self._checkpoint_room(training, offer)

        def run(limit_s: float | None) -> tuple[Checkpoints, list[Term]]:
            """Checkpoints and terms where an attempt ends after `limit_s` at the latest."""
            within = None if limit_s is None else limit_s - started.p90
            saves = checkpoints(steps, ground.step.seconds, training.save_freq, within, room, cost.checkpoint_bytes)
            return saves, [*startup, *self._running(training, steps, saves, rules, cost, ground.step)]

        saves, terms = run(None)
        bounds = bound(total([term.value for term in bill.billed(terms, rules)]).p90, started.p90, rules, timeout_s, attempts)
        if bounds.segments > 1:
            saves, terms = run(bounds.timeout_s)
            terms.append(_restarts(bounds, started, saves.between_s))
        estimate = Estimate(
            offer=offer, memory=ground.memory, batch_size=training.batch_size,
            gradient_accumulation=training.gradient_accumulation, steps=steps, updates=training.updates(gpus),
            step=ground.step, startup=total([term.value for term in startup]), startup_grade="modelled",
            wall_clock=total([term.value for term in terms]), wall_terms=tuple(terms),
            running=total([term.value for term in bill.billed(terms, rules)]),
            usd=None, usd_terms=(), usd_max=None, usd_max_formula="", usd_needed=None, unbounded=rules.unbounded, price_grade=None,
            timeout_s=bounds.timeout_s, attempts=bounds.attempts, segments=bounds.segments, save_freq=saves.every,
            fits=ground.memory.fits, why_not=bounds.why_not,
        )
        if estimate.fits:
            lacks = self._host_ram(training, offer, gpus) or saves.why_not
            estimate = estimate._replace(fits=lacks is None, why_not=lacks or estimate.why_not)
        priced = electricity.priced if rules.draw else bill.priced
        return priced(estimate, rules, max_cost)

    def least(self, training: Training, offer: Offer, known: dict[tuple[object, ...], Least]) -> Least:
        """What the offer's estimate says where one attempt is enough, and below it elsewhere. The price does not matter to it.

        An offer with ANY_VCPUS and the least disk stands for every host of these GPUs: fewer cores take longer, room for more
        checkpoints too. The sums are those of the estimate, term by term, so that equal hosts have equal ones. `known` is a memo
        of one training.
        """
        rules, cost, step = self.catalogue.targets[offer.target], self.cost(training), self.ground(training, offer).step
        if offer.vcpus == ANY_VCPUS and training.video_backend == "pyav":  # whose decoder is slower where there are many CPUs
            wait = next(term.value.p50 for term in step.terms if term.name == "waiting for the loader")
            step = step._replace(seconds=step.seconds._replace(p50=(step.seconds.p50 - wait) * (1 - 1e-9)), loader=point(0.0))
        steps = training.steps(max(1, offer.num_gpus))
        room = self._checkpoint_room(training, offer)
        saves = checkpoints(steps, step.seconds, training.save_freq, None, room, cost.checkpoint_bytes)
        key = (offer.target, offer.gpu, offer.num_gpus, offer.vcpus, saves.saved)
        if key not in known:
            terms = [*self._startup(training, offer, rules, cost, step), *self._running(training, steps, saves, rules, cost, step)]
            known[key] = Least(*(sum(term.value.p50 for term in part) for part in (terms, bill.billed(terms, rules))))
        return known[key]

    def _checkpoint_room(self, training: Training, offer: Offer) -> float | None:
        """Bytes of disk for checkpoints; None where the disk is not known."""
        if offer.disk_bytes is None:
            return None
        if not self.catalogue.targets[offer.target].fresh_disk:
            return offer.disk_bytes
        data = self.dataset_bytes(training)
        return offer.disk_bytes - IMAGE_DISK_BYTES - training.policy.download_bytes - (data.p90 if data else 0.0)

    def _running(
        self, training: Training, steps: int, saves: Checkpoints, rules: TargetRules, cost: Cost, step: Step
    ) -> list[Term]:
        """Training and what it leaves behind."""
        saved = _transfer(rules.bandwidth["checkpoint"], cost.checkpoint_bytes)
        terms = [
            Term("training", step.seconds.times(steps), f"{steps} steps × {step.seconds.p50:.4g} s"),
            Term("checkpoints", Interval(*(saves.saved * (0.5 + part) for part in saved)), rules.bandwidth["checkpoint"].source,
                 f"{saves.saved} × {cost.checkpoint_bytes / GB:.2f} GB"),
        ]
        if rules.output == "hub":
            terms.append(_push(training, rules, cost, saves.saved))
        return terms

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


def _interval(term: StartupRange) -> Interval:
    return Interval(term.p10, term.p50, term.p90)


def _transfer(bandwidth: StartupRange, size: float) -> Interval:
    return Interval(size / bandwidth.p90, size / bandwidth.p50, size / bandwidth.p10)


def _push(training: Training, rules: TargetRules, cost: Cost, count: int) -> Term:
    """Sending results to the Hub: the final model, and every checkpoint with its optimizer state where the release can."""
    sent = 0 if training.lerobot == "0.4.4" else count
    size = cost.weight_bytes + sent * cost.checkpoint_bytes
    name = "pushing checkpoints and the model" if sent else "pushing the model"
    parts = zip(_interval(rules.startup["push_fixed"]), _transfer(rules.bandwidth["push"], size), strict=True)
    return Term(name, Interval(*((sent + 1) * wait + seconds for wait, seconds in parts)), rules.bandwidth["push"].source,
                f"{size / GB:.2f} GB in {sent + 1}")


def _restarts(bounds: Bounds, started: Interval, between_s: float) -> Term:
    """What continuing from a checkpoint costs: another start-up, and what was done since the last one: on average half."""
    lost = Interval(0.0, between_s / 2, between_s)
    return Term("restarts", total([started, lost]).times(bounds.segments - 1), "start-up again, and the steps since the last checkpoint",
                f"{bounds.segments - 1} ×")
