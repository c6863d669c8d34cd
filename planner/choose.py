"""Estimate every offer, rank, recommend, say why. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from planner import prices
from planner.errors import UsageError
from planner.estimate import Estimator
from planner.memory import round_batch
from planner.plans import Estimate, Instead, Plan, Recommendation
from planner.profiles import cost_of
from planner.records import Offer
from planner.resolve import nearest
from planner.units import GB
from planner.workload import DEFAULT_LORA_RANK, Training, Variant

if TYPE_CHECKING:
    from planner.catalogue import Catalogue
    from planner.evidence import Calibration
    from planner.request import Search

#: A local machine as it is assumed until it is looked at: a desktop with 8 cores and 32 GB.
LOCAL_VCPUS, LOCAL_RAM_BYTES = 16.0, 32 * GB
OPTIMIZE = ("cost", "time", "balanced")


def choose(training: Training, search: Search, catalogue: Catalogue, calibration: Calibration) -> Plan:
    """The plan of one training over all offers that the search allows."""
    offers = _offers(training, search, catalogue)
    estimator = Estimator(catalogue, calibration)
    rows = []
    for offer in offers:
        row = estimator.estimate(training, offer, search.timeout_s, search.attempts, search.max_cost)
        rows.append(_judge(row, training, search, estimator))
    rows = _mark_pareto(rows)
    rows.sort(key=lambda row: _rank(row, search.optimize, rows))
    possible = [row for row in rows if row.fits and row.why_not is None]
    priced = [row for row in possible if row.usd is not None]
    best = _best(possible, search.optimize)
    if best is not None:
        rows.insert(0, rows.pop(rows.index(best)))
    cheapest = min(priced, key=lambda row: (row.usd.p50, row.wall_clock.p50), default=None)  # type: ignore[union-attr]
    fastest = min(possible, key=lambda row: row.wall_clock.p50, default=None)
    error, code = (None, 0) if best else _nothing(rows, training, search, estimator)
    return Plan(
        kind="lerobot",
        workload=training,
        estimates=tuple(rows),
        prices=prices.used(offers),
        recommended=None if best is None else Recommendation(
            best.id, best.offer.target, best.offer.flavor, _why(best, possible, cheapest, fastest, search)),
        cheapest=cheapest.id if cheapest else None,
        fastest=fastest.id if fastest else None,
        warnings=(*training.warnings, *_warnings(best, training, estimator)),
        error=error,
        exit_code=code,
    )


# ------------------------------------------------------------------------------------------ which offers


def _offers(training: Training, search: Search, catalogue: Catalogue) -> list[Offer]:
    targets = tuple(catalogue.targets)
    for target in search.targets:
        if target not in targets:
            raise UsageError("usage", f"--target {target}: {nearest(target, targets)}")
    names = [_named(name, catalogue) for name in search.gpus]
    num_gpus = search.num_gpus or training.launcher_gpus

    def asked(offer: Offer) -> bool:
        if search.targets and offer.target not in search.targets or num_gpus not in (None, offer.num_gpus):
            return False
        if not names:
            return offer.num_gpus > 0
        return any(name.covers(offer) for name in names)

    offers = [offer for offer in prices.priced(catalogue, training) if asked(offer)]
    rented = {offer.gpu for offer in catalogue.offers}
    for name in names:
        if name.gpu and ("local" in search.targets or (name.gpu not in rented and not search.targets)):
            offers.append(_local(name.gpu, num_gpus or name.count or 1))
    if not offers:
        raise UsageError("usage", _no_offer(search, training))
    return offers


class _Named(NamedTuple):
    """What `--gpu NAME` asks for: a GPU of the catalogue or one flavor, and how many where it says so."""

    gpu: str | None
    flavor: str | None
    count: int | None

    def covers(self, offer: Offer) -> bool:
        return (offer.gpu == self.gpu or offer.flavor == self.flavor) and self.count in (None, offer.num_gpus)


def _named(name: str, catalogue: Catalogue) -> _Named:
    """Spellings such as A100-80GB, `NVIDIA L4` and L40S:2 are understood.

    A name that is both goes to what can be rented: Modal's A10 is not the A10 but an A10G.
    """
    text, _, number = name.partition(":")
    if number and not (number.isdigit() and 0 < int(number) < 1000):
        raise UsageError("gpu", f"--gpu {name}: expected NAME or NAME:COUNT")
    count = int(number) if number else None

    def plain(text: str) -> str:
        text = text.lower().strip().removeprefix("nvidia").strip().removeprefix("geforce")
        return "".join(character for character in text if character.isalnum()).removesuffix("gb")

    gpus = {plain(gpu): gpu for gpu in catalogue.gpus}
    flavors = {plain(offer.flavor): offer.flavor for offer in catalogue.offers}
    flavors |= {plain(alias): flavor for alias, flavor in catalogue.aliases.items()}
    rented = {offer.gpu for offer in catalogue.offers}
    wanted = plain(text)
    if wanted in gpus and (gpus[wanted] in rented or wanted not in flavors):
        return _Named(gpus[wanted], None, count)
    if wanted in flavors:
        return _Named(None, flavors[wanted], count)
    raise UsageError("gpu", f"--gpu {name}: {nearest(wanted, sorted(catalogue.gpus))}; `plan gpus` lists them")


def _local(gpu: str, count: int) -> Offer:
    return Offer(
        target="local", flavor=gpu, gpu=gpu, num_gpus=count, vcpus=LOCAL_VCPUS, ram_bytes=LOCAL_RAM_BYTES * count, disk_bytes=None,
        usd_per_hour=None, price_source=None, price_as_of=None, price_method="bundled",
    )


def _no_offer(search: Search, training: Training) -> str:
    if "local" in search.targets and not search.gpus:
        return "--target local: name the card with --gpu, for example --gpu rtx4090; `plan gpus` lists them"
    said = [f"--target {target}" for target in search.targets] + [f"--gpu {name}" for name in search.gpus]
    said += [f"--num-gpus {search.num_gpus}"] if search.num_gpus else []
    said += [f"a launcher with {training.launcher_gpus} processes"] if training.launcher_gpus and not search.num_gpus else []
    return f"nothing is offered for {' and '.join(said) or 'this command'}; leave one out, or see `plan gpus`"


# ------------------------------------------------------------------------------------------ judging a row


def _judge(row: Estimate, training: Training, search: Search, estimator: Estimator) -> Estimate:
    """Say why a row cannot be taken, and what would."""
    if not row.memory.fits:
        return _too_big(row, training, search, estimator)
    if not row.fits:
        return row
    longest = row.wall_clock.p90
    if search.max_hours is not None and longest > search.max_hours * 3600:
        return replace(row, why_not=f"may take {longest / 3600:.1f} h, over --max-hours {search.max_hours:g}")
    if search.max_cost is not None and row.usd is None:
        return replace(row, why_not="no price, so --max-cost cannot be kept")
    if search.max_cost is not None and row.usd is not None and row.usd.p90 > search.max_cost:
        return replace(row, why_not=f"may cost ${row.usd.p90:.2f}, over --max-cost {search.max_cost}")
    if search.timeout_s is not None and search.timeout_s * row.attempts < row.running.p90:
        return replace(row, why_not=f"--timeout {search.timeout_s} s may stop it: it may run {row.running.p90:.0f} s")
    if search.max_cost is not None and row.timeout_s * row.attempts < row.running.p90:
        return replace(row, why_not=f"--max-cost {search.max_cost} pays for {row.timeout_s} s, and it may run {row.running.p90:.0f} s")
    return row


def _too_big(row: Estimate, training: Training, search: Search, estimator: Estimator) -> Estimate:
    over = (row.memory.needed_bytes - row.memory.usable_bytes) / GB
    text = f"needs {row.memory.needed_bytes / GB:.1f} GB, {over:.1f} GB more than the {row.memory.usable_bytes / GB:.1f} GB it has"
    batch = estimator.largest_batch(training, row.offer)
    batch = round_batch(batch) if batch else 0
    if not 0 < batch < training.batch_size:
        return replace(row, why_not=text + ("; not even batch 1 fits" if not batch else ""))
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
    return replace(row, why_not=text, instead=Instead(
        batch_size=batch, gradient_accumulation=accumulate, steps=other.steps, wall_clock_s=other.wall_clock, usd=other.usd,
        text=f"does not fit at batch {training.batch_size}; batch {batch} fits: {flags} ({change})",
    ))


# ------------------------------------------------------------------------------------------ ranking


def _mark_pareto(rows: list[Estimate]) -> list[Estimate]:
    """A row is in the Pareto set when no other takes less time for no more money, or costs less in no more time."""
    able = [row for row in rows if row.fits and row.why_not is None and row.usd is not None]

    def beaten(row: Estimate) -> bool:
        assert row.usd is not None
        return any(
            other.usd is not None and other.usd.p50 <= row.usd.p50 and other.wall_clock.p50 <= row.wall_clock.p50
            and (other.usd.p50 < row.usd.p50 or other.wall_clock.p50 < row.wall_clock.p50) for other in able
        )

    best = {id(row) for row in able if not beaten(row)}
    return [replace(row, pareto=True) if id(row) in best else row for row in rows]


def _score(row: Estimate, optimize: str, rows: list[Estimate]) -> float:
    if optimize == "time":
        return row.wall_clock.p50
    if row.usd is None:
        return float("inf")
    if optimize == "cost":
        return float(row.usd.p50)
    able = [other for other in rows if other.fits and other.usd is not None]
    low_usd = min((float(other.usd.p50) for other in able if other.usd), default=1.0) or 1e-9
    low_s = min((other.wall_clock.p50 for other in able), default=1.0)
    return float(row.usd.p50) / low_usd * (row.wall_clock.p50 / low_s)  # the cheapest product of both


def _rank(row: Estimate, optimize: str, rows: list[Estimate]) -> tuple[object, ...]:
    """Rows that can be taken first, those without a price after those with one, then by the score."""
    able = row.fits and row.why_not is None
    shortfall = 0 if row.memory.fits else row.memory.needed_bytes - row.memory.usable_bytes
    return (not able, not row.fits, row.usd is None, shortfall, _score(row, optimize, rows), row.wall_clock.p50, row.id)


def _best(possible: list[Estimate], optimize: str) -> Estimate | None:
    priced = [row for row in possible if row.usd is not None]
    pool = priced or possible
    return min(pool, key=lambda row: (_score(row, optimize, pool), row.wall_clock.p50, row.id), default=None)


def _why(best: Estimate, possible: list[Estimate], cheapest: Estimate | None, fastest: Estimate | None, search: Search) -> str:
    """One sentence."""
    limits = " within your limits" if search.max_cost is not None or search.max_hours is not None or search.timeout_s is not None else ""
    if len(possible) == 1:
        return f"the only row that fits{limits}"
    if best.usd is None:
        return f"the fastest that fits{limits}; no row has a price"
    if search.optimize == "time":
        return f"the fastest that fits{limits}"
    if best is cheapest:
        words = f"the cheapest that fits{limits}"
    else:
        words = f"the best balance of cost and time{limits}"
    if fastest is not None and fastest is not best and fastest.usd is not None:
        ratio = best.wall_clock.p50 / fastest.wall_clock.p50
        if ratio >= 1.15:
            words += f"; {ratio:.1f} × faster for {_difference(fastest.usd.p50 - best.usd.p50)}: {fastest.offer.target} {_flavor(fastest)}"
    return words


def _flavor(row: Estimate) -> str:
    return row.id.split(":", 1)[1]


def _difference(usd: Decimal) -> str:
    return f"{'+' if usd >= 0 else '-'}${abs(usd):.2f}"


# ------------------------------------------------------------------------------------------ when nothing can be taken


def _nothing(rows: list[Estimate], training: Training, search: Search, estimator: Estimator) -> tuple[tuple[str, str], int]:
    if any(row.fits for row in rows):
        nearest_row = min((row for row in rows if row.fits), key=lambda row: (row.usd.p90 if row.usd else Decimal("Infinity"), row.id))
        limit = " and ".join(
            [f"--max-cost {search.max_cost}"] * (search.max_cost is not None) + [f"--max-hours {search.max_hours}"] * (search.max_hours is not None)
            + [f"--timeout {search.timeout_s} s"] * (search.timeout_s is not None)
        )
        return ("over-budget", f"nothing that fits stays within {limit}; nearest is {nearest_row.id}: {nearest_row.why_not}"), 4
    return ("nothing-fits", _nothing_text(rows, training, estimator)), 3


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
        lighter = estimator.ground(replace(training, variant=variant), roomiest.offer).memory
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
    variant, flags, options = training.variant, (), []
    if variant.dtype == "float32" and "dtype" in known:
        variant = replace(variant, dtype="bfloat16", autocast=training.lerobot == "0.6.1")
        flags = (*flags, "--policy.dtype=bfloat16")
        options.append(("bfloat16", variant, flags))
    if not variant.gradient_checkpointing and "gradient_checkpointing" in known:
        label = "gradient checkpointing" if not flags else "bfloat16 with gradient checkpointing"
        variant = replace(variant, gradient_checkpointing=True)
        flags = (*flags, "--policy.gradient_checkpointing=true")
        options.append((label, variant, flags))
    if variant.trained == "all" and "train_expert_only" in known:
        options.append(("training only the action expert", replace(variant, trained="expert"), (*flags, "--policy.train_expert_only=true")))
    if variant.trained != "lora" and training.policy.base is not None and training.policy.analogy is None:
        lora = replace(variant, trained="lora", lora_rank=DEFAULT_LORA_RANK)
        options.append(("LoRA", lora, (*flags, "--peft.method_type=LORA")))
    return options


def _warnings(best: Estimate | None, training: Training, estimator: Estimator) -> list[tuple[str, str]]:
    found = []
    variant = training.variant
    known = training.policy.flags.get(training.lerobot, {})
    if variant.dtype == "float32" and "dtype" in known and training.policy.launch_family == "vla-large":
        lighter = replace(variant, dtype="bfloat16", autocast=training.lerobot == "0.6.1")
        peak = estimator.cost(training).peak_bytes(training.batch_size)
        less = cost_of(estimator.catalogue, training.policy, lighter, training.cameras).peak_bytes(training.batch_size)
        found.append(("dtype", f"{training.policy.id} trains in float32 unless told otherwise: {peak / GB:.0f} GB at batch {training.batch_size}; "
                      f"-- --policy.dtype=bfloat16 needs {less / GB:.0f} GB"))
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
