"""What a run costs where electricity is all that it costs: the draw of the GPUs and of the computer around them. Pure.

An hour costs tariff × W · g · (1 + r): W the board power of all GPUs, g the share of it that training draws, r what the
rest of the computer draws as a share of that. g and r are ranges of the target's rules.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal

from planner.plans import Estimate, Money, Term
from planner.records import Gpu, StartupRange, TargetRules
from planner.units import Interval, product, total

#: where a price comes from that the user gave
SOURCE = "--electricity"
_DIGITS = Decimal("0.000001")


def hourly(gpu: Gpu, count: int, rules: TargetRules, usd_per_kwh: Decimal) -> tuple[tuple[str, Decimal], ...]:
    """(what, dollars an hour) at the median draw: the GPUs, and the rest. Empty where the GPU's power is not known."""
    if gpu.watts is None or not rules.draw:
        return ()
    drawn = count * gpu.watts.value * rules.draw["gpu"].p50
    rest = drawn * rules.draw["rest"].p50
    return (
        (f"{count} × {gpu.name} at {drawn:.0f} of {count * gpu.watts.value:.0f} W", _usd(drawn, usd_per_kwh)),
        (f"the rest of the computer at {rest:.0f} W", _usd(rest, usd_per_kwh)),
    )


def _usd(watts: float, usd_per_kwh: Decimal) -> Decimal:
    return (Decimal(repr(watts)) / 1000 * usd_per_kwh).quantize(_DIGITS)


def priced(estimate: Estimate, rules: TargetRules, max_cost: Decimal | None) -> Estimate:
    """The estimate in dollars of electricity. The worst case is the timeout at full power; a budget caps the timeout."""
    if estimate.offer.usd_per_hour is None:
        return estimate
    (_, gpus), (_, rest) = estimate.offer.price_parts
    hours, share, around = estimate.running.times(1 / 3600), _relative(rules.draw["gpu"]), _relative(rules.draw["rest"])
    both = product(share, around)
    terms = (
        Term("electricity of the GPUs", product(hours, share).times(float(gpus)), rules.draw["gpu"].source,
             f"{hours.p50:.2f} h × ${gpus}/h at {rules.draw['gpu'].p50:.0%} of their board power"),
        Term("electricity of the rest", product(hours, both).times(float(rest)), rules.draw["rest"].source,
             f"{hours.p50:.2f} h × ${rest}/h, {rules.draw['rest'].p50:.0%} of what the GPUs draw"),
    )  # fmt: skip
    money = product(hours, total([share.times(float(gpus)), both.times(float(rest))]))
    full = gpus / Decimal(repr(rules.draw["gpu"].p50)) * (1 + Decimal(repr(rules.draw["rest"].p90)))

    def at_most(seconds: float) -> Decimal:
        return (Decimal(repr(round(seconds, 6))) / 3600 * full).quantize(_DIGITS, ROUND_UP)

    needed, timeout, why_not = at_most(estimate.running.p90), estimate.timeout_s, estimate.why_not
    if max_cost is not None and needed > max_cost:
        why_not = why_not or f"needs a budget of ${needed.quantize(Decimal('0.01'), ROUND_UP)} for its slow end at full power"
    elif max_cost is not None:
        timeout = min(timeout, int(max_cost / full * 3600))
    return estimate._replace(
        usd=Money(*(Decimal(repr(end)).quantize(_DIGITS) for end in money)), usd_terms=terms, usd_max=at_most(timeout),
        usd_max_formula=f"{timeout} s timeout × ${full.quantize(_DIGITS)}/h: all of the GPUs' board power and "
        f"{rules.draw['rest'].p90:.0%} of it for the rest",
        usd_needed=needed, timeout_s=timeout, why_not=why_not, price_grade="given",
    )  # fmt: skip


def _relative(share: StartupRange) -> Interval:
    return Interval(share.p10 / share.p50, 1.0, share.p90 / share.p50)
