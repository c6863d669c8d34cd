"""Estimate every offer, rank, recommend, say why. Pure."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from math import ceil
from typing import TYPE_CHECKING

from planner import advice, feeds, offers, owned, prices
from planner.errors import UsageError
from planner.estimate import Estimator
from planner.plans import Estimate, Plan, Recommendation
from planner.records import Offer
from planner.request import Machine
from planner.workload import Training

if TYPE_CHECKING:
    from planner.evidence import Calibration
    from planner.records import Catalogue
    from planner.request import Search

OPTIMIZE = ("cost", "time", "balanced")
NOT_LOOKED_AT = Machine()
#: Rows that a plan lists at the least; where the search allows no more offers than this, it lists all of them.
LISTED = 200


def choose(
    training: Training, search: Search, catalogue: Catalogue, calibration: Calibration, machine: Machine = NOT_LOOKED_AT
) -> Plan:
    """The plan of one training over all offers that the search allows; `machine` is the one that may train it here."""
    if search.optimize not in OPTIMIZE:
        raise UsageError("usage", f"optimize {search.optimize!r}: expected one of {', '.join(OPTIMIZE)}")
    rentable, feed = offers.allowed(training, search, catalogue, machine), offers.fed(training, search, catalogue)
    every = len(rentable) + sum(lot.number for lot in feed)
    estimator = Estimator(catalogue, calibration)

    def judged(offer: Offer) -> Estimate:
        return _judge(estimator.estimate(training, offer, search.timeout_s, search.attempts, search.max_cost), training, search, estimator)

    shortlist = None
    if feed and every > LISTED:
        from planner.shortlist import Shortlist

        shortlist = Shortlist(feed, training, search, estimator, judged, lambda row: _rank(row, search))
    else:
        rentable += [prices.priced_offer(offer, catalogue, training) for lot in feed for offer in feeds.offers(lot)]
    rows = [judged(offer) for offer in rentable]
    rows = _mark_pareto(shortlist.rows(rows, LISTED) if shortlist else rows)
    rows.sort(key=lambda row: _rank(row, search))
    possible = [row for row in rows if row.fits and row.why_not is None]
    priced = [row for row in possible if row.usd is not None]
    best = _best(possible, search.optimize)
    if best is not None:
        rows.insert(0, rows.pop(rows.index(best)))
    cheapest = min(priced, key=_tie, default=None)
    fastest = min(possible, key=lambda row: (row.wall_clock.p50, *_tie(row)), default=None)
    if shortlist:
        rows = [row for number, row in enumerate(rows) if number < LISTED or row.pareto or row in (cheapest, fastest)]
    left_out = every - len(rows)
    looked_at = [*rows, *shortlist.cheapest()] if shortlist and best is None else rows
    error, code = (None, 0) if best else advice.nothing(looked_at, training, search, estimator)
    return Plan(
        kind="lerobot",
        workload=training,
        estimates=tuple(rows),
        prices=prices.used(rentable, catalogue, feed),
        recommended=None if best is None else Recommendation(
            best.id, best.offer.target, best.offer.flavor, _why(best, possible, cheapest, fastest, search, not left_out)),
        cheapest=cheapest.id if cheapest else None,
        fastest=fastest.id if fastest else None,
        warnings=(*training.warnings, *owned.remarks(machine, catalogue),
                  *advice.warnings(rows, best, training, search, estimator, machine)),
        error=error,
        exit_code=code,
        unplanned=offers.unplanned(search, catalogue),
        left_out=left_out,
    )


# ------------------------------------------------------------------------------------------ judging a row


def _judge(row: Estimate, training: Training, search: Search, estimator: Estimator) -> Estimate:
    """Say why a row cannot be taken, and what would."""
    if not row.memory.fits:
        return advice.too_big(row, training, search, estimator)
    if not row.fits or row.why_not is not None:
        return row
    if search.max_hours is not None and row.wall_clock.p90 > search.max_hours * 3600:
        hours = ceil(row.wall_clock.p90 / 36) / 100
        return row._replace(why_not=f"may take {hours:g} h, over --max-hours {search.max_hours:g}")
    here = row.offer.target == "local"
    if search.max_cost is not None and row.usd is None and not (here and search.configured("max_cost")):
        hint = ": --electricity gives it one" if here and search.usd_per_kwh is None else ""
        return row._replace(why_not=f"no price, so --max-cost cannot be kept{hint}")
    return row


# ------------------------------------------------------------------------------------------ ranking


def _mark_pareto(rows: list[Estimate]) -> list[Estimate]:
    """A row is in the Pareto set when no other takes less time for no more money, or costs less in no more time."""
    able = [row for row in rows if row.fits and row.why_not is None and row.usd is not None]
    best, fastest = set(), float("inf")  # of all that cost less
    for _, group in groupby(sorted(able, key=_money_and_time), key=lambda row: _money_and_time(row)[0]):
        same = list(group)
        if same[0].wall_clock.p50 < fastest:
            fastest = same[0].wall_clock.p50
            best |= {id(row) for row in same if row.wall_clock.p50 == fastest}
    return [row._replace(pareto=True) if id(row) in best else row for row in rows]


def _money_and_time(row: Estimate) -> tuple[Decimal, float]:
    return (row.usd.p50 if row.usd is not None else Decimal("Infinity"), row.wall_clock.p50)


def _score(row: Estimate, optimize: str) -> float:
    if optimize == "time":
        return row.wall_clock.p50
    if row.usd is None:
        return float("inf")
    usd = float(row.usd.p50)
    return usd if optimize == "cost" else usd * row.wall_clock.p50  # balanced: the least product of both


def _rank(row: Estimate, search: Search) -> tuple[object, ...]:
    """Rows that can be taken first, those without a price after those with one, then by the score.

    planner.shortlist knows a lower bound of it for offers that nobody has estimated.
    """
    able = row.fits and row.why_not is None
    shortfall = 0 if row.memory.fits else row.memory.needed_bytes - row.memory.usable_bytes
    beyond = 1.0 if able else advice.excess(row, search)
    return (not able, not row.fits, beyond, able and row.usd is None, shortfall, _score(row, search.optimize), *_tie(row))


def _tie(row: Estimate) -> tuple[object, ...]:
    """What decides between equal scores: money, then time, then the price of an hour."""
    return (*_money_and_time(row), row.offer.usd_per_hour or Decimal(0), row.id)


def _best(possible: list[Estimate], optimize: str) -> Estimate | None:
    """What is not priced is not free: it is only taken where time decides, or nothing else is left."""
    priced = [row for row in possible if row.usd is not None]
    pool = possible if optimize == "time" else priced or possible
    return min(pool, key=lambda row: (_score(row, optimize), *_tie(row)), default=None)


def _why(best: Estimate, possible: list[Estimate], cheapest: Estimate | None, fastest: Estimate | None, search: Search,
         alone: bool) -> str:
    """One sentence."""
    limits = " within your limits" if search.max_cost is not None or search.max_hours is not None or search.timeout_s is not None else ""
    if len(possible) == 1 and alone:
        return f"the only row that fits{limits}"
    if best.usd is None:
        return f"the fastest that fits{limits}; {'it has no price' if cheapest else 'no row has a price'}"
    if search.optimize == "time":
        return f"the fastest that fits{limits}"
    words = f"the cheapest that fits{limits}" if best is cheapest else f"the best balance of cost and time{limits}"
    if fastest is not None and fastest is not best and fastest.usd is not None:
        ratio = best.wall_clock.p50 / fastest.wall_clock.p50
        if ratio >= 1.15:
            words += f"; {ratio:.1f} × faster for {_difference(fastest.usd.p50 - best.usd.p50)}: {fastest.offer.target} {_flavor(fastest)}"
            if fastest.offer.num_gpus > 1:
                words += f" (effective batch {advice.effective(fastest)})"
    return words


def _flavor(row: Estimate) -> str:
    return row.id.split(":", 1)[1]


def _difference(usd: Decimal) -> str:
    return f"{'+' if usd >= 0 else '-'}${abs(usd):.2f}"
