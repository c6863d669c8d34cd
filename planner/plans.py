"""What a plan is made of: the records that estimating and choosing produce and that everything else shows.

Times are seconds, memory bytes, money Decimal dollars. An unknown is None.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from planner.records import Offer, Unplanned
from planner.units import Interval
from planner.workload import Training

#: grades of a number, strong to weak
GRADES = ("measured", "scaled", "modelled", "given")


class Term(NamedTuple):
    """One addend of a sum, as `plan explain` shows it."""

    name: str
    value: Interval  # in the unit of the sum it belongs to
    source: str  # source id, evidence id, or the formula in words
    note: str = ""


class Memory(NamedTuple):
    """Peak bytes on one GPU. `peak` is what the framework allocates; `needed` adds context and slack to its P90."""

    peak: Interval
    needed_bytes: int
    usable_bytes: int
    driver: str  # optimizer, activations, weights
    grade: str
    terms: tuple[Term, ...]  # sum to needed_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.usable_bytes


class Step(NamedTuple):
    """Seconds per iteration: the GPU's work or the loader's, whichever is slower, and what both share."""

    seconds: Interval
    limiter: str  # compute, loader, launch, network
    grade: str
    terms: tuple[Term, ...]  # p50s sum to seconds.p50
    source: str  # the evidence it leans on
    loader: Interval  # seconds that the loader alone needs for one batch


class Money(NamedTuple):
    """Dollars, P10–P50–P90."""

    p10: Decimal
    p50: Decimal
    p90: Decimal


class Instead(NamedTuple):
    """What would fit where the asked batch does not: the largest batch, its price, and what it changes."""

    batch_size: int
    gradient_accumulation: int
    steps: int
    wall_clock_s: Interval
    usd: Money | None
    text: str  # e.g. "batch 32 fits: --batch-size 32 (effective batch shrinks from 64)"


class Estimate(NamedTuple):
    """One workload on one offer."""

    offer: Offer
    memory: Memory
    batch_size: int
    gradient_accumulation: int
    steps: int
    updates: int
    step: Step
    startup: Interval  # everything before the first step, queue included
    startup_grade: str
    wall_clock: Interval
    wall_terms: tuple[Term, ...]  # p50s sum to wall_clock.p50
    running: Interval  # the part of it that is billed and that the timeout has to cover: all but queue and image build
    usd: Money | None  # None: no price
    usd_terms: tuple[Term, ...]  # p50s sum to usd.p50, in dollars
    usd_max: Decimal | None  # the target's own bound
    usd_max_formula: str
    usd_needed: Decimal | None  # the smallest budget whose timeout covers the P90
    unbounded: tuple[str, ...]  # what usd_max cannot include
    price_grade: str | None  # measured for a price list; given for a user's; None without a price
    timeout_s: int
    attempts: int
    segments: int  # attempts that the run needs, each continuing from the newest checkpoint
    save_freq: int  # steps between checkpoints
    why_not: str | None = None  # None: can be recommended
    fits: bool = True
    instead: Instead | None = None
    pareto: bool = False

    @property
    def id(self) -> str:
        return self.offer.id


class Price(NamedTuple):
    """The price list of one target that a plan used."""

    target: str
    source: str
    as_of: str
    method: str  # bundled, live, user


class Recommendation(NamedTuple):
    """The row to take and the one-sentence reason."""

    id: str
    target: str
    flavor: str
    why: str


class Plan(NamedTuple):
    """All estimates of a workload, ranked, one recommended."""

    kind: str
    workload: Training
    estimates: tuple[Estimate, ...]
    prices: tuple[Price, ...]
    recommended: Recommendation | None
    cheapest: str | None
    fastest: str | None
    warnings: tuple[tuple[str, str], ...] = ()
    error: tuple[str, str] | None = None  # (code, text)
    exit_code: int = 0
    unplanned: tuple[Unplanned, ...] = ()  # what places list, or listed, and that cannot be estimated
    left_out: int = 0  # offers that the search allows and that are not among the estimates; planner/shortlist.py says which

    def estimate(self, row: str) -> Estimate:
        """The estimate with this id; KeyError if there is none."""
        for estimate in self.estimates:
            if estimate.id == row:
                return estimate
        raise KeyError(row)
