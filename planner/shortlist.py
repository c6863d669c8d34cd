"""Which of a feed's offers are worth an estimate: those that can be recommended, beaten by nothing, or among the best. Pure.

What is left out would change nothing. Of several offers of one place with the same GPUs, cores, memory and disk only the cheapest
counts. The others are looked at in the order of what they cost and take at the least, and no further than that can matter. The bounds
are the estimate's own sums (Estimator.least): first for the best host that those GPUs could have, then for the offer's own. So the rows
that are found are those that estimating every offer finds; tests/test_shortlist.py compares the two.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from heapq import heappop, heappush
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from planner import bill, feeds, prices
from planner.estimate import ANY_VCPUS, Estimator, Least
from planner.plans import Estimate
from planner.records import Lot, Offer
from planner.workload import Training

if TYPE_CHECKING:
    from planner.request import Search

Rank = tuple[object, ...]


class _Line:
    """The offers of one lot, cheapest first, taken out as far as somebody asks."""

    def __init__(self, lot: Lot, training: Training, estimator: Estimator) -> None:
        self.priced = bool(lot.prices)
        self.rules = estimator.catalogue.targets[lot.target]
        self.host_ram_bytes = prices.host_ram_bytes(training, lot.num_gpus)  # that the run needs
        self._price: Callable[[Offer], Offer] = lambda offer: prices.priced_offer(offer, estimator.catalogue, training)
        self.first = self._price(feeds.first(lot))
        #: no host of these GPUs is better than this one
        self.ideal = self.first._replace(vcpus=ANY_VCPUS, disk_bytes=lot.disk_bytes, ram_bytes=None)
        memory = estimator.ground(training, self.ideal).memory
        self.shortfall = 0 if memory.fits else memory.needed_bytes - memory.usable_bytes  # bytes of GPU memory
        self._offers: list[Offer] = [self.first]
        self._more: Iterator[Offer] = islice(feeds.offers(lot, distinct=True), 1, None)

    def offer(self, number: int) -> Offer | None:
        """The `number`-th host's cheapest offer; None where there is none."""
        while len(self._offers) <= number:
            following = next(self._more, None)
            if following is None:
                return None
            self._offers.append(self._price(following))
        return self._offers[number]


class Shortlist:
    """Estimates of those offers of `lots` that matter. `judged` makes an estimate, `rank` orders estimates."""

    def __init__(
        self, lots: Iterable[Lot], training: Training, search: Search, estimator: Estimator,
        judged: Callable[[Offer], Estimate], rank: Callable[[Estimate], Rank],
    ) -> None:
        self.training, self.search, self.estimator, self.judged, self.rank = training, search, estimator, judged, rank
        self._known: dict[tuple[object, ...], Least] = {}
        self._rows: dict[tuple[int, int], Estimate] = {}
        self._lines = [_Line(lot, training, estimator) for lot in lots]
        self._order = count()  # decides between equal bounds

    def rows(self, others: Iterable[Estimate], listed: int) -> list[Estimate]:
        """`others`, which are estimated already, and every estimate that was needed to know the best `listed` and what nothing beats."""
        others = list(others)
        self._beaten_by_nothing(others)
        self._fastest_without_a_price(others)
        self._best(others, listed)
        return [*others, *self._rows.values()]

    def cheapest(self) -> list[Estimate]:
        """The cheapest offer of every GPU: what to look at where nothing can be taken."""
        found: dict[str, tuple[Decimal, int]] = {}
        for number, line in enumerate(self._lines):
            usd = line.first.usd_per_hour
            here = (_NEVER if usd is None else usd, number)
            found[line.first.gpu] = min(here, found.get(line.first.gpu, here))
        return [self._row(number, 0) for _, number in found.values()]

    # -------------------------------------------------------------------------------------- what is needed

    def _beaten_by_nothing(self, others: list[Estimate]) -> None:
        """Rows with a price that no other row beats in time and money, the cheapest and the fastest among them."""
        front = _Front()
        for row in others:
            front.add(row)
        waiting: list[tuple[Decimal, int, int, int]] = []

        def wait(number: int, place: int) -> None:
            """Unless what is known beats it, and so all that come after: they cost more and take as long at the least."""
            line = self._lines[number]
            offer = line.offer(place)
            if offer is not None and line.priced:
                bound = self._bound(line, offer, line.ideal)
                if bound.may_be_taken and not front.beats(bound.usd, bound.wall):
                    heappush(waiting, (bound.usd, next(self._order), number, place))

        for number in range(len(self._lines)):
            wait(number, 0)
        while waiting:
            _, _, number, place = heappop(waiting)
            line = self._lines[number]
            offer = line.offer(place)
            assert offer is not None
            bound = self._bound(line, offer, offer)
            if bound.may_be_taken and not front.beats(bound.usd, bound.wall):
                front.add(self._row(number, place))
            wait(number, place + 1)

    def _fastest_without_a_price(self, others: list[Estimate]) -> None:
        fastest = min((row.wall_clock.p50 for row in (*others, *self._rows.values()) if _able(row)), default=float("inf"))
        for number, line in enumerate(self._lines):
            if line.priced or not (bound := self._bound(line, line.first, line.ideal)).may_be_taken:
                continue
            place = 0
            while bound.wall <= fastest and (offer := line.offer(place)) is not None:
                here = self._bound(line, offer, offer)
                if here.wall <= fastest and here.may_be_taken and _able(row := self._row(number, place)):
                    fastest = min(fastest, row.wall_clock.p50)
                place += 1

    def _best(self, others: list[Estimate], listed: int) -> None:
        """The `listed` rows that rank first."""
        ranks = sorted(self.rank(row) for row in (*others, *self._rows.values()))
        waiting: list[tuple[Rank, int, int, int, bool]] = []

        def wait(number: int, place: int, known: bool) -> None:
            line = self._lines[number]
            offer = line.offer(place)
            if offer is not None:
                rank = self._bound_rank(line, self._bound(line, offer, offer if known else line.ideal))
                heappush(waiting, (rank, next(self._order), number, place, known))

        for number in range(len(self._lines)):
            wait(number, 0, False)
        while waiting:
            least, _, number, place, known = heappop(waiting)
            if len(ranks) >= listed and not least < ranks[listed - 1]:
                return
            if not known:
                wait(number, place, True)
                wait(number, place + 1, False)
            elif (number, place) not in self._rows:
                insort(ranks, self.rank(self._row(number, place)))

    def _row(self, number: int, place: int) -> Estimate:
        key = (number, place)
        if key not in self._rows:
            offer = self._lines[number].offer(place)
            assert offer is not None
            self._rows[key] = self.judged(offer)
        return self._rows[key]

    # -------------------------------------------------------------------------------------- what it takes at least

    def _bound(self, line: _Line, offer: Offer, host: Offer) -> _Bound:
        """Of `offer` where it runs on `host`: itself, or line.ideal for what no offer of this price is below."""
        search, rules = self.search, line.rules
        wall, running = self.estimator.least(self.training, host, self._known)
        usd = _NEVER if offer.usd_per_hour is None else bill.usd(running, offer.usd_per_hour, rules)
        ratios = [1.0]
        if search.max_cost is not None:
            longest = min(limit for limit in (running, search.timeout_s, rules.max_timeout_s) if limit is not None)
            ratios.append(float(usd / search.max_cost) * longest / running)
        if search.max_hours is not None:
            ratios.append(wall / 3600 / search.max_hours)
        if search.timeout_s is not None and rules.output != "volume":
            ratios.append(running / search.timeout_s)
        excess = max(1.0, max(ratios) * (1 - 1e-9))
        lacks = bool(line.shortfall) or (host.ram_bytes is not None and line.host_ram_bytes > host.ram_bytes)
        return _Bound(usd, wall, excess, lacks)

    def _bound_rank(self, line: _Line, bound: _Bound) -> Rank:
        """No larger than planner.choose's rank of a row within the bound."""
        usd, wall, excess, _ = bound
        score = {"time": wall, "cost": float(usd), "balanced": float(usd) * wall}[self.search.optimize]
        able = bound.may_be_taken
        return (not able, bound.lacks, 1.0 if able else excess, able and not line.priced, line.shortfall, score, usd, wall, Decimal(0), "")


_NEVER = Decimal("Infinity")


class _Bound(NamedTuple):
    """What a row costs and takes at the least (P50), how far over the limits it is at the least, and whether it lacks memory."""

    usd: Decimal
    wall: float
    excess: float
    lacks: bool

    @property
    def may_be_taken(self) -> bool:
        return not self.lacks and self.excess <= 1


def _able(row: Estimate) -> bool:
    return row.fits and row.why_not is None


class _Front:
    """The rows that can be taken and that no other beats so far, each dearer and faster than the one before."""

    def __init__(self) -> None:
        self._usd: list[Decimal] = []
        self._wall: list[float] = []

    def add(self, row: Estimate) -> None:
        if not _able(row) or row.usd is None:
            return
        usd, wall = row.usd.p50, row.wall_clock.p50
        place = bisect_right(self._usd, usd)
        if place and self._wall[place - 1] <= wall:
            return
        end = place
        while end < len(self._wall) and self._wall[end] >= wall:
            end += 1
        self._usd[place:end], self._wall[place:end] = [usd], [wall]

    def beats(self, usd: Decimal, wall: float) -> bool:
        """Whether what costs and takes at least so much is beaten. Equal rows do not beat each other."""
        place = bisect_right(self._usd, usd)
        return place > 0 and self._wall[place - 1] <= wall and (self._usd[place - 1] < usd or self._wall[place - 1] < wall)
