"""Peak VRAM of a workload on one GPU, with its driver named. Pure; integer bytes.

peak = max(floor, a + b·batch): `floor` is the optimizer step (weights, gradients, two moments and the foreach
temporary), `a + b·batch` the activations. A card fits when the peak's P90, the CUDA context and the allocator's
slack stay below what CUDA can really use on it.
"""

from __future__ import annotations

from math import floor

from planner.evidence import matches, same_images
from planner.plans import Memory, Term
from planner.profiles import Cost
from planner.records import Gpu, Run
from planner.units import GIB, Interval, point
from planner.workload import Training

#: CUDA context with loaded kernels, 0.3-0.6 GiB in public nvidia-smi readings beside torch's own figure.
CONTEXT_BYTES = int(0.5 * GIB)
#: What the caching allocator cannot give back when it runs near the limit. Public runs finished with torch's
#: own peak at 92 % (pi05 on 80 GB) and ran out at 97 % of the usable memory.
SLACK = 0.04

#: P10 and P90 of the peak relative to the computed one, by how well it is known. Profiles of variants that were
#: measured agree within 2 %; unmeasured ones may differ in a setting; analogies only share an architecture.
SPREAD = {"measured": (0.97, 1.03), "scaled": (0.97, 1.04), "profile": (0.95, 1.07), "near": (0.88, 1.15), "analogy": (0.75, 1.30)}
#: Upper end outside CUDA, whose kernels the profiles stand for.
SPREAD_ELSEWHERE = 1.15
#: What attention that keeps its matrices adds to the activations of a vision-language-action policy: SmolVLA on an H100
#: printed 3.48 GiB so and 2.79 GiB otherwise at batch 8 (runs r044, r043). ROCm's builds use it (r286, r287).
EAGER_ATTENTION = 1.33


def estimate(training: Training, gpu: Gpu, num_gpus: int, cost: Cost, runs: tuple[Run, ...]) -> Memory:
    """Peak on each of `num_gpus` GPUs at the workload's batch size. `runs` are those of measured()."""
    cost = _on(gpu, training, cost)
    grade, spread, source = _grade(training, gpu, cost, runs)
    if gpu.vendor != "nvidia" and grade != "measured":
        spread = (spread[0], max(spread[1], SPREAD_ELSEWHERE))
    gradients = cost.gradient_bytes
    computed = cost.peak_bytes(training.batch_size)
    parts = [Term("weights, gradients and optimizer state" if computed <= cost.floor_bytes else "activations and resident state",
                  point(computed), cost.source, f"max({cost.floor_bytes / GIB:.2f}, {cost.a_bytes / GIB:.2f} + "
                  f"{cost.b_bytes / GIB:.4f} × {training.batch_size}) GiB")]
    if num_gpus > 1:
        parts.append(Term("gradient buckets of DDP", point(gradients), "one more copy of the gradients on every GPU"))
    if training.gradient_accumulation > 1:
        parts.append(Term("accumulated gradients", point(gradients), "kept between micro-batches"))
    peak = sum(part.value.p50 for part in parts)
    context = 0 if gpu.vendor in ("apple", "cpu") else CONTEXT_BYTES
    high = peak * spread[1]
    needed = int(high * (1 + SLACK)) + context
    parts += [
        Term("margin to the P90", point(high - peak), source),
        Term("CUDA context", point(context), "0.5 GiB: 0.3–0.6 seen beside torch's own figure"),
        Term("allocator slack", point(needed - high - context), f"{SLACK:.0%} of the P90"),
    ]
    return Memory(
        peak=Interval(peak * spread[0], peak, high),
        needed_bytes=needed,
        usable_bytes=int(gpu.usable_bytes.value),
        driver=_driver(cost, training.batch_size),
        grade=grade,
        terms=tuple(parts),
    )


def _on(gpu: Gpu, training: Training, cost: Cost) -> Cost:
    if gpu.vendor == "amd" and training.policy.launch_family.startswith("vla"):
        return cost._replace(b_bytes=cost.b_bytes * EAGER_ATTENTION, source=f"{cost.source}; activations × {EAGER_ATTENTION} on ROCm")
    return cost


def measured(runs: tuple[Run, ...], training: Training) -> tuple[Run, ...]:
    """The runs that measured the memory of this variant."""
    return tuple(run for run in runs if run.scored and run.vram_bytes and matches(run, training))


def largest_batch(training: Training, gpu: Gpu, num_gpus: int, cost: Cost, runs: tuple[Run, ...]) -> int:
    """The largest batch per GPU that fits; 0 when not even one sample does."""

    def fits(batch: int) -> bool:
        return estimate(training.with_batch(batch, training.gradient_accumulation), gpu, num_gpus, cost, runs).fits

    line = _on(gpu, training, cost)
    one = estimate(training.with_batch(1, training.gradient_accumulation), gpu, num_gpus, cost, runs)
    if not one.fits:
        return 0
    # needed is linear in the batch above the floor: take the line's answer, and put the rounding right
    context = 0 if gpu.vendor in ("apple", "cpu") else CONTEXT_BYTES
    beside = one.peak.p50 - line.peak_bytes(1)
    room = (one.usable_bytes - context) / (1 + SLACK) * one.peak.p50 / one.peak.p90 - beside
    batch = max(1, floor((room - line.a_bytes) / line.b_bytes)) if line.b_bytes else 1
    while not fits(batch):
        batch -= 1
    while fits(batch + 1):
        batch += 1
    return batch


def round_batch(batch: int) -> int:
    """A batch people use, at most `batch`: exact up to 8, then multiples of 4, then of 8."""
    step = 1 if batch <= 8 else 4 if batch <= 32 else 8
    return max(1, floor(batch / step) * step)


def _driver(cost: Cost, batch: int) -> str:
    if cost.a_bytes + cost.b_bytes * batch > cost.floor_bytes:
        return "activations"
    return "weights" if cost.weight_bytes > 2 * cost.gradient_bytes else "optimizer"


def _grade(training: Training, gpu: Gpu, cost: Cost, runs: tuple[Run, ...]) -> tuple[str, tuple[float, float], str]:
    here = next((run for run in runs if run.gpu == gpu.id and same_images(run, training)), None)
    if here is not None:
        return "measured", SPREAD["measured"], f"{here.id}: {here.source}"
    if runs:
        return "scaled", SPREAD["scaled"], f"{runs[0].id}: {runs[0].source}"
    return "modelled", SPREAD[cost.basis], {"profile": "no run of this variant is known", "near": "variant not profiled",
                                            "analogy": "policy not profiled"}[cost.basis]
