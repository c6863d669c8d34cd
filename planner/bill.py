"""What a place bills: the running part of an estimate, in its unit, at the price of everything that runs meanwhile. Pure."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from math import ceil

from planner.plans import Estimate, Money, Term
from planner.records import TargetRules
from planner.units import point

_DIGITS = Decimal("0.000001")


def billed(terms: list[Term], rules: TargetRules) -> list[Term]:
    """The terms that are billed, and that a timeout has to cover: all but the queue and building the image."""
    return [term for term in terms if rules.bills_scheduling or term.name not in ("queue", "image build")]


def usd(seconds: float, usd_per_hour: Decimal, rules: TargetRules) -> Decimal:
    """What the place takes for so long."""
    unit = rules.billing_unit_s
    return (Decimal(ceil(round(seconds, 6) / unit) * unit) * (usd_per_hour / 3600)).quantize(_DIGITS, ROUND_UP)


def priced(estimate: Estimate, rules: TargetRules, max_cost: Decimal | None) -> Estimate:
    """The estimate in dollars. A budget caps the timeout; one that does not cover the P90 is said in `why_not`."""
    rate = estimate.offer.usd_per_hour
    if rate is None:
        return estimate
    unit, per_second = rules.billing_unit_s, rate / 3600

    def dollars(seconds: float) -> Decimal:
        return usd(seconds, rate, rules)

    parts = billed(list(estimate.wall_terms), rules)
    money = Money(*(dollars(seconds) for seconds in estimate.running))
    terms = [Term(part.name, part.value.times(float(per_second)), f"{part.value.p50:.0f} s × ${rate}/h", part.note) for part in parts]
    rounding = float(money.p50) - sum(term.value.p50 for term in terms)
    terms.append(Term("billing unit", point(rounding), f"billed by the {'minute' if unit == 60 else 'second'}, rounded up"))
    limit = rules.startup_limit_s
    if limit is None:
        limit = ceil(sum(part.value.p90 for part in parts if part.name in ("image pull", "container start")))
    # an attempt that continues from another may take its whole timeout; one that ends by itself takes its P90
    least = estimate.timeout_s if estimate.segments > 1 else min(estimate.timeout_s, ceil(estimate.running.p90))
    needed = dollars(limit + least) * estimate.attempts
    timeout, why_not = estimate.timeout_s, estimate.why_not
    if max_cost is not None and needed > max_cost:
        why_not = why_not or f"needs a budget of ${needed.quantize(Decimal('0.01'), ROUND_UP)} for its slow end and its start-up limit"
    elif max_cost is not None:
        affordable = int(max_cost / estimate.attempts / per_second)
        timeout = min(timeout, affordable - affordable % unit - limit)
    attempts = f"{estimate.attempts} attempt{'s' if estimate.attempts > 1 else ''}"
    rounded = ", rounded up to the minute" if unit == 60 else ""
    return estimate._replace(
        usd=money, usd_terms=tuple(terms), usd_max=dollars(limit + timeout) * estimate.attempts,
        usd_max_formula=f"({limit} s start-up + {timeout} s timeout{rounded}) × {attempts} × ${rate}/h",
        usd_needed=needed, timeout_s=timeout, why_not=why_not,
        price_grade="given" if estimate.offer.price_method == "user" else "measured",
    )
