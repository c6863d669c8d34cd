"""What to say of a workload that does not fit, and of one that does: what would fit instead, and what to know before. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from planner.memory import round_batch
from planner.plans import Estimate, Instead
from planner.profiles import cost_of
from planner.units import GB
from planner.workload import DEFAULT_LORA_RANK, Training, Variant

if TYPE_CHECKING:
    from planner.estimate import Estimator
    from planner.request import Search


def too_big(row: Estimate, training: Training, search: Search, estimator: Estimator) -> Estimate:
    over = (row.memory.needed_bytes - row.memory.usable_bytes) / GB
    text = f"needs {row.memory.needed_bytes / GB:.1f} GB, {over:.1f} GB more than the {row.memory.usable_bytes / GB:.1f} GB it has"
    batch = estimator.largest_batch(training, row.offer)
    batch = round_batch(batch) if batch else 0
    if not 0 < batch < training.batch_size:
        return row._replace(why_not=text + ("; not even batch 1 fits" if not batch else ""))
    accumulate = 1
    if training.lerobot == "main":  # only there does the trainer accumulate gradients
        while accumulate * batch < training.batch_size * training.gradient_accumulation:
            accumulate += 1
        while batch > 1 and not estimator.ground(training.with_batch(batch, accumulate), row.offer).memory.fits:
            batch -= 1
    smaller = training.with_batch(batch, accumulate)
    other = estimator.estimate(smaller, row.offer, search.timeout_s, search.attempts, search.max_cost)
    flags = f"--batch-size {batch}"
    if accumulate > 1:
        flags += f" -- --accelerator.gradient_accumulation.steps={accumulate}"
        change = f"same effective batch of {batch * accumulate}"
    else:
        change = f"the effective batch shrinks from {training.batch_size} to {batch}"
    return row._replace(why_not=text, instead=Instead(
        batch_size=batch, gradient_accumulation=accumulate, steps=other.steps, wall_clock_s=other.wall_clock, usd=other.usd,
        text=f"does not fit at batch {training.batch_size}; batch {batch} fits: {flags} ({change})",
    ))


def nothing(rows: list[Estimate], training: Training, search: Search, estimator: Estimator) -> tuple[tuple[str, str], int]:
    """((code, text), exit code) where no row can be taken."""
    fitting = [row for row in rows if row.fits]
    if not fitting:
        return ("nothing-fits", _nothing_text(rows, training, estimator)), 3
    near = min(fitting, key=lambda row: (row.usd.p90 if row.usd else Decimal("Infinity"), row.id))
    limits = {"--max-cost": search.max_cost, "--max-hours": search.max_hours, "--timeout": search.timeout_s}
    said = " and ".join(f"{flag} {value}" for flag, value in limits.items() if value is not None)
    return ("over-budget", f"nothing that fits stays within {said}; nearest is {near.id}: {near.why_not}"), 4


def _nothing_text(rows: list[Estimate], training: Training, estimator: Estimator) -> str:
    ways = _ways_out(rows, training, estimator)
    return f"nothing fits at batch {training.batch_size}" + (f"; what would: {'; '.join(ways)}" if ways else "")


def _ways_out(rows: list[Estimate], training: Training, estimator: Estimator) -> list[str]:
    """What would fit, with its numbers: a smaller batch, a cheaper variant, a bigger GPU; the smallest change first."""
    catalogue, ways = estimator.catalogue, []
    with_batch = [row for row in rows if row.instead]
    if with_batch:
        largest = max(with_batch, key=lambda row: row.instead.batch_size)  # type: ignore[union-attr]
        assert largest.instead is not None
        ways.append(f"batch {largest.instead.batch_size} fits {largest.id}: --batch-size {largest.instead.batch_size}")
    roomiest = max(rows, key=lambda row: row.memory.usable_bytes)
    for label, variant, flags in _lighter(training):
        lighter = estimator.ground(training._replace(variant=variant), roomiest.offer).memory
        if lighter.fits:
            ways.append(f"{label} needs {lighter.needed_bytes / GB:.0f} GB and fits {roomiest.id}: -- {' '.join(flags)}")
            if len(ways) == 2:
                break
    needed = min(row.memory.needed_bytes for row in rows)
    bigger = min(
        (offer for offer in catalogue.offers if catalogue.gpus[offer.gpu].usable_bytes.value >= needed and offer.num_gpus == 1),
        key=lambda offer: offer.usd_per_hour or Decimal("Infinity"), default=None)
    if bigger is not None:
        ways.append(f"{bigger.gpu} has the {needed / GB:.0f} GB it needs: --gpu {bigger.gpu}")
    return ways


def _lighter(training: Training) -> list[tuple[str, Variant, tuple[str, ...]]]:
    """Variants that need less memory and that this release has flags for: (name, variant, flags), smallest change first."""
    known = training.policy.flags.get(training.lerobot, {})
    variant = training.variant
    flags: tuple[str, ...] = ()
    options: list[tuple[str, Variant, tuple[str, ...]]] = []
    if variant.dtype == "float32" and "dtype" in known:
        variant = variant._replace(dtype="bfloat16", autocast=training.lerobot == "0.6.1")
        flags = (*flags, "--policy.dtype=bfloat16")
        options.append(("bfloat16", variant, flags))
    if not variant.gradient_checkpointing and "gradient_checkpointing" in known:
        label = "gradient checkpointing" if not flags else "bfloat16 with gradient checkpointing"
        variant = variant._replace(gradient_checkpointing=True)
        flags = (*flags, "--policy.gradient_checkpointing=true")
        options.append((label, variant, flags))
    if variant.trained == "all" and "train_expert_only" in known:
        options.append(("training only the action expert", variant._replace(trained="expert"), (*flags, "--policy.train_expert_only=true")))
    if variant.trained != "lora" and training.policy.base is not None and training.policy.analogy is None:
        lora = variant._replace(trained="lora", lora_rank=DEFAULT_LORA_RANK)
        options.append(("LoRA", lora, (*flags, "--peft.method_type=LORA")))
    return options


def warnings(best: Estimate | None, training: Training, estimator: Estimator) -> list[tuple[str, str]]:
    """(code, text) of what to know before taking the best row."""
    found = []
    if training.lerobot in training.policy.caveats:
        found.append(("release", training.policy.caveats[training.lerobot]))
    if training.policy.trainer != "lerobot-train":
        found.append(("trainer", f"{training.policy.id} is trained by {training.policy.trainer} beside a robot or a simulator: "
                      "the time is that of its updates alone"))
    variant = training.variant
    known = training.policy.flags.get(training.lerobot, {})
    if variant.dtype == "float32" and "dtype" in known and training.policy.launch_family == "vla-large":
        lighter = variant._replace(dtype="bfloat16", autocast=training.lerobot == "0.6.1")
        peak, less = (
            cost_of(estimator.catalogue, training.policy, option, training.cameras).peak_bytes(training.batch_size) / GB
            for option in (variant, lighter)
        )
        found.append(("dtype", f"{training.policy.id} trains in float32 unless told otherwise: {peak:.0f} GB at batch "
                      f"{training.batch_size}; -- --policy.dtype=bfloat16 needs {less:.0f} GB"))
    if best is not None:
        gpu = estimator.catalogue.gpus[best.offer.gpu]
        if gpu.bf16 is None and gpu.vendor == "nvidia" and (variant.dtype == "bfloat16" or variant.autocast):
            found.append(("no-bf16", f"{gpu.name} has no bf16 units: bf16 is emulated and slow there"))
        if best.step.limiter == "loader":
            found.append(("loader-bound", f"on {best.id} the data loader is slower than the GPU; more vCPUs, smaller videos or "
                          "-- --num_workers=N change that"))
        if best.memory.driver == "optimizer":
            found.append(("optimizer-bound", "the optimizer step sets the peak memory: a smaller batch does not lower it; "
                          "a lighter dtype, LoRA or frozen parts do"))
        if best.attempts > 1:
            found.append(("segments", f"longer than {best.offer.target}'s longest timeout: {best.attempts} segments, "
                          "each resuming from the newest checkpoint"))
    return found
