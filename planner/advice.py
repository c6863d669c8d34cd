"""What to say of a workload that does not fit, and of one that does: what would fit instead, and what to know before. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from planner import feeds, owned
from planner.memory import round_batch
from planner.plans import Estimate, Instead
from planner.units import GB
from planner.workload import DEFAULT_LORA_RANK, Training, Variant

if TYPE_CHECKING:
    from planner.estimate import Estimator
    from planner.request import Machine, Search


def effective(row: Estimate) -> int:
    """Samples that one optimizer update sees."""
    return row.batch_size * row.gradient_accumulation * max(1, row.offer.num_gpus)


def too_big(row: Estimate, training: Training, search: Search, estimator: Estimator) -> Estimate:
    """A row whose memory does not suffice, with the largest batch that fits and what it changes."""
    over = (row.memory.needed_bytes - row.memory.usable_bytes) / GB
    text = f"needs {row.memory.needed_bytes / GB:.1f} GB, {over:.1f} GB more than the {row.memory.usable_bytes / GB:.1f} GB it has"
    smaller = _smaller(row, training, estimator)
    if smaller is None:
        return row._replace(why_not=f"{text}; not even batch 1 fits")
    other = estimator.estimate(smaller, row.offer, search.timeout_s, search.attempts, search.max_cost)
    if not other.fits:
        return row._replace(why_not=f"{text}; at batch {smaller.batch_size} it {other.why_not}")
    flags = f"--batch-size {other.batch_size}"
    if other.gradient_accumulation > training.gradient_accumulation:
        flags += f" -- --accelerator.gradient_accumulation.steps={other.gradient_accumulation}"
    before, now = effective(row), effective(other)
    change = f"the effective batch stays {now}" if now == before else f"the effective batch shrinks from {before} to {now}"
    return row._replace(why_not=text, instead=Instead(
        batch_size=other.batch_size, gradient_accumulation=other.gradient_accumulation, steps=other.steps,
        wall_clock_s=other.wall_clock, usd=other.usd,
        text=f"does not fit at batch {training.batch_size}; batch {other.batch_size} fits: {flags} ({change})",
    ))


def _smaller(row: Estimate, training: Training, estimator: Estimator) -> Training | None:
    """The training at the largest batch that fits; on main with as much accumulation as keeps the effective batch."""
    largest = estimator.largest_batch(training, row.offer)
    if not 0 < largest < training.batch_size:
        return None
    if training.lerobot == "main":  # only there does the trainer accumulate gradients
        asked = training.batch_size * training.gradient_accumulation
        for times in range(2, asked + 1):
            option = training.with_batch(asked // times, times)
            if asked % times == 0 and option.batch_size <= largest and estimator.ground(option, row.offer).memory.fits:
                return option
    return training.with_batch(round_batch(largest), training.gradient_accumulation)


def excess(row: Estimate, search: Search) -> float:
    """How far a row is over the user's limits, as the worst of the ratios; 1 where it keeps them."""
    ratios = [1.0]
    if search.max_cost is not None:
        ratios.append(float(row.usd_needed / search.max_cost) if row.usd_needed is not None else float("inf"))
    if search.max_hours is not None:
        ratios.append(row.wall_clock.p90 / 3600 / search.max_hours)
    if search.timeout_s is not None:
        ratios.append(row.running.p90 / search.timeout_s)
    return max(ratios)


def nothing(rows: list[Estimate], training: Training, search: Search, estimator: Estimator) -> tuple[tuple[str, str], int]:
    """((code, text), exit code) where no row can be taken. `rows` are ranked: the first that fits is the nearest."""
    near = next((row for row in rows if row.fits), None)
    if near is None:
        return ("nothing-fits", _nothing_text(rows, training, search, estimator)), 3

    limits = {"--max-cost": search.max_cost, "--max-hours": search.max_hours, "--timeout": search.timeout_s, "--attempts": search.attempts}
    said = " and ".join(f"{flag} {value}{' s' * (flag == '--timeout')}" for flag, value in limits.items() if value is not None)
    where = f"stays within {said}" if said else "can be taken"
    return ("over-budget", f"nothing that fits {where}; nearest is {near.id}: {near.why_not}"), 4


def _nothing_text(rows: list[Estimate], training: Training, search: Search, estimator: Estimator) -> str:
    ways = _ways_out(rows, training, search, estimator)
    return f"nothing fits at batch {training.batch_size}" + (f"; what would: {'; '.join(ways)}" if ways else "")


def _ways_out(rows: list[Estimate], training: Training, search: Search, estimator: Estimator) -> list[str]:
    """What would fit, with its numbers: a smaller batch, a cheaper variant, a bigger GPU; the smallest change first."""
    catalogue, ways = estimator.catalogue, []
    with_batch = [row for row in rows if row.instead]
    if with_batch:
        largest = max(with_batch, key=lambda row: row.instead.batch_size)  # type: ignore[union-attr]
        assert largest.instead is not None
        ways.append(f"on {largest.id} {largest.instead.text.partition('; ')[2]}")
    for label, variant, flags in _lighter(training):
        changed = training._replace(variant=variant)
        fitting = [row for row in (estimator.estimate(changed, row.offer) for row in rows) if row.fits]
        if fitting:
            best = min(fitting, key=lambda row: (row.offer.usd_per_hour or Decimal("Infinity"), row.id))
            ways.append(f"{label} needs {best.memory.needed_bytes / GB:.0f} GB and fits {best.id}: -- {' '.join(flags)}")
            if len(ways) == 2:
                break
    needed = min(row.memory.needed_bytes for row in rows)
    rented = (*catalogue.offers, *map(feeds.first, catalogue.feed))
    bigger = min(
        (offer for offer in rented if catalogue.gpus[offer.gpu].usable_bytes.value >= needed and offer.num_gpus == 1),
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


def warnings(
    rows: list[Estimate], best: Estimate | None, training: Training, search: Search, estimator: Estimator, machine: Machine
) -> list[tuple[str, str]]:
    """(code, text) of what to know before taking the best row."""
    policy, variant = training.policy, training.variant
    found = []
    if training.lerobot in policy.caveats:
        found.append(("release", policy.caveats[training.lerobot]))
    if policy.trainer != "lerobot-train":
        found.append(("trainer", f"{policy.id} is trained by {policy.trainer} beside a robot or a simulator: "
                      "the time is that of its updates alone"))
    found += _of_local([row for row in rows if row.offer.target == "local"], search, estimator, machine)
    if variant.dtype == "float32" and "dtype" in policy.flags.get(training.lerobot, {}) and policy.launch_family == "vla-large":
        offer = min(rows, key=lambda row: row.offer.num_gpus).offer
        lighter = variant._replace(dtype="bfloat16", autocast=training.lerobot == "0.6.1")
        needs, less = (
            estimator.ground(training._replace(variant=option), offer).memory.needed_bytes / GB for option in (variant, lighter)
        )
        found.append(("dtype", f"{policy.id} trains in float32 unless told otherwise: {needs:.0f} GB at batch "
                      f"{training.batch_size}; -- --policy.dtype=bfloat16 needs {less:.0f} GB"))
    return found if best is None else found + _of_the_row(best, training, estimator)


def _of_local(rows: list[Estimate], search: Search, estimator: Estimator, machine: Machine) -> list[tuple[str, str]]:
    """What local rows stand on: this machine as it was found, or one that is assumed, and the price of electricity."""
    here = [row for row in rows if owned.is_here(row.offer, machine, estimator.catalogue)]
    found = []
    if here:
        parts = [f"{machine.vcpus:g} threads" if machine.vcpus else "", _gb(machine.ram_bytes, "of memory"),
                 _gb(machine.disk_bytes, "of free disk"), f"driver {machine.driver}" if machine.driver else ""]  # fmt: skip
        found.append(("local-machine", f"{', '.join(row.id for row in here)}: this machine with {', '.join(filter(None, parts))}"))
    if len(here) < len(rows):
        ram = owned.ASSUMED_RAM_BYTES / GB
        found.append(("local-machine", f"a machine of your own is taken as {owned.ASSUMED_VCPUS:g} threads and {ram:.0f} GB of memory"))
    gpus = {row.offer.gpu: estimator.catalogue.gpus[row.offer.gpu].watts for row in rows}
    if search.usd_per_kwh is not None:
        found += [("electricity", f"what {gpu} draws is not known, so --electricity cannot price it") for gpu, watts in gpus.items()
                  if watts is None]
    elif any(gpus.values()):
        found.append(("electricity", "a machine of your own costs its electricity, which is not priced: --electricity USD, per kWh"))
    if any(row.usd is not None for row in rows):
        draw = estimator.catalogue.targets["local"].draw
        found.append(("electricity", f"electricity: GPUs are taken to draw {draw['gpu'].p50:.0%} of their board power, the rest of the "
                      f"machine {draw['rest'].p50:.0%} of that; what the machine itself costs is left out"))
    return found


def _gb(size: int | None, what: str) -> str:
    return f"{size / GB:.0f} GB {what}" if size else ""


def _of_the_row(best: Estimate, training: Training, estimator: Estimator) -> list[tuple[str, str]]:
    variant, gpu = training.variant, estimator.catalogue.gpus[best.offer.gpu]
    found = []
    if gpu.bf16 is None and gpu.vendor == "nvidia" and (variant.dtype == "bfloat16" or variant.autocast):
        found.append(("no-bf16", f"{gpu.name} has no bf16 units: bf16 is emulated and slow there"))
    if best.step.limiter == "loader":
        found.append(("loader-bound", f"on {best.id} the data loader is slower than the GPU; more vCPUs, smaller videos or "
                      "-- --num_workers=N change that"))
    if best.memory.driver == "optimizer":
        found.append(("optimizer-bound", "the optimizer step sets the peak memory: a smaller batch does not lower it; "
                      "a lighter dtype, LoRA or frozen parts do"))
    if best.offer.num_gpus > 1:
        found.append(("effective-batch", f"{best.id} trains with an effective batch of {effective(best)} in {best.updates} updates; "
                      "LeRobot does not change the learning rate for that"))
    if best.segments > 1:
        found.append(("segments", f"longer than one attempt of {best.timeout_s} s: {best.segments} attempts, "
                      "each continuing from the newest checkpoint"))
    return found
