"""A feed's plan is the plan that estimating every one of its offers makes; only what changes nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner import Plan, Search, Workload, choose, feeds
from planner.catalogue import data_dir, load
from planner.estimate import Estimator
from planner.evidence import load_calibration
from planner.plans import Estimate
from planner.records import Catalogue, Offer
from planner.resolve import resolve
from planner.units import GB
from planner.workload import Training

BUNDLED = load(user=Path("/nonexistent"))
CALIBRATION = load_calibration(BUNDLED, data_dir())
FEW = tuple(offer for offer in BUNDLED.offers if offer.flavor in ("l4x1", "a100-large", "H100"))


def offer(number: int, target: str, gpu: str, count: int, host: tuple[int | None, int | None, int | None], cents: int | None) -> Offer:
    vcpus, ram, disk = host
    return Offer(
        target, f"f{number}", gpu, count, None if vcpus is None else float(vcpus), None if ram is None else ram * GB,
        None if disk is None else disk * GB, None if cents is None else Decimal(cents) / 100, "feed", "2026-11-01", "user")


#: few values of each, so that equal hosts, equal prices and equal times are common
feed_offers = st.lists(
    st.tuples(
        st.sampled_from(["hf", "modal"]), st.sampled_from(["t4", "l4", "a10g", "a100-80", "h100"]), st.sampled_from([1, 1, 2, 8]),
        st.tuples(st.sampled_from([None, 1, 4, 8, 32]), st.sampled_from([None, 6, 15, 64]), st.sampled_from([None, 30, 60, 400])),
        st.sampled_from([None, 30, 31, 50, 51, 80, 200, 500, 2000]),
    ),
    min_size=12, max_size=70,
).map(lambda rows: [offer(number, *row) for number, row in enumerate(rows)])

trainings = st.builds(
    lambda policy, frames, batch, tail: Workload(policy=policy, frames=frames, batch_size=batch, epochs=1.0, tail=tail),
    st.sampled_from(["act", "smolvla", "pi05"]), st.sampled_from([300, 20_000, 400_000, 30_000_000]), st.sampled_from([1, 8, 64, 512]),
    st.sampled_from([(), ("--num_workers=0",), ("--dataset.video_backend=pyav",), ("--save_freq=100",)]),
)
searches = st.fixed_dictionaries({
    "optimize": st.sampled_from(choose.OPTIMIZE), "max_cost": st.sampled_from([None, None, Decimal("0.4"), Decimal(3), Decimal(100)]),
    "max_hours": st.sampled_from([None, None, 0.3, 20.0]), "timeout_s": st.sampled_from([None, None, 1800, 90_000]),
    "attempts": st.sampled_from([None, 1, 9]), "targets": st.sampled_from([(), ("hf",), ("modal",)]),
    "gpus": st.sampled_from([(), (), ("l4", "H100:2")]),
}).map(lambda said: Search(**said))


@contextmanager
def listed(rows: int) -> Iterator[None]:
    before, choose.LISTED = choose.LISTED, rows
    try:
        yield
    finally:
        choose.LISTED = before


def planned(workload: Workload, search: Search, catalogue: Catalogue, rows: int) -> Plan:
    with listed(rows):
        return choose.choose(resolve(workload, catalogue), search, catalogue, CALIBRATION)


def one_a_host(rows: tuple[Estimate, ...], offers: list[Offer]) -> list[Estimate]:
    """Without those of the feed's rows that have a cheaper one of the same host before them."""
    hosts = {one.flavor: one._replace(flavor="", usd_per_hour=Decimal(one.usd_per_hour is None)) for one in offers}
    first: dict[object, Estimate] = {}
    for row in rows:
        first.setdefault(hosts.get(row.offer.flavor, row.id), row)
    return list(first.values())


SMOLVLA = Workload(policy="smolvla", frames=20_000, batch_size=8, epochs=1.0)
LONG, HF = SMOLVLA._replace(frames=600_000, batch_size=64, epochs=5.0), Search(targets=("hf",))
SLOW = [offer(n, "hf", "l4", 1, (8 + n, 64, 400), 5) for n in range(6)]


@settings(max_examples=150, deadline=None)
@given(feed_offers, trainings, searches, st.sampled_from([3, 8]))
@example([offer(n, "modal", "l4", 1, (8, 64, 400), 30 + n) for n in range(20)],  # longer than an attempt: it is cut into several
         Workload(policy="smolvla", frames=30_000_000, batch_size=8, epochs=1.0), Search(), 3)
@example([*SLOW, *(offer(n, "hf", "h100", 1, (n, 64, 400), 200) for n in (32, 48))], SMOLVLA, HF, 3)  # as good as each other
@example([*SLOW, offer(9, "hf", "h100", 1, (32, 900, 400), None)], LONG, HF, 3)  # the fastest has no price
@example([*SLOW, *(offer(n, "hf", "h100", 1, (32, 400, n), 300 + 600 // n) for n in (80, 900))],  # room for fewer checkpoints is faster
         LONG, HF, 3)
def test_the_choice_is_that_of_estimating_every_offer(offers: list[Offer], workload: Workload, search: Search, rows: int) -> None:
    catalogue = BUNDLED._replace(offers=FEW, feed=feeds.fold(offers))
    everything, short = (planned(workload, search, catalogue, limit) for limit in (10**9, rows))
    assert (everything.left_out, short.left_out) == (0, len(everything.estimates) - len(short.estimates))
    assert (short.recommended and short.recommended.id) == (everything.recommended and everything.recommended.id)
    assert (short.cheapest, short.fastest, short.exit_code) == (everything.cheapest, everything.fastest, everything.exit_code)
    assert (short.error and short.error[0]) == (everything.error and everything.error[0])
    assert short.prices == everything.prices
    distinct = one_a_host(everything.estimates, offers)
    if short.left_out:
        ends = (everything.cheapest, everything.fastest)
        assert list(short.estimates) == [row for n, row in enumerate(distinct) if n < rows or row.pareto or row.id in ends]
    else:
        assert short.estimates == everything.estimates


@settings(max_examples=100, deadline=None)
@given(feed_offers, trainings)
def test_no_estimate_is_below_its_bound(offers: list[Offer], workload: Workload) -> None:
    from planner.estimate import ANY_VCPUS
    from planner.prices import priced_offer

    training = resolve(workload, BUNDLED)
    estimator = Estimator(BUNDLED, CALIBRATION)
    known: dict[tuple[object, ...], object] = {}
    for lot in feeds.fold(offers):
        ideal = priced_offer(feeds.first(lot), BUNDLED, training)._replace(vcpus=ANY_VCPUS, disk_bytes=lot.disk_bytes)
        best = estimator.least(training, ideal, known)  # type: ignore[arg-type]
        for one in feeds.offers(lot):
            own = priced_offer(one, BUNDLED, training)
            least, row = estimator.least(training, own, known), estimator.estimate(training, own)  # type: ignore[arg-type]
            assert best.wall <= least.wall <= row.wall_clock.p50 and best.running <= least.running <= row.running.p50
            if row.segments == 1:
                assert (least.wall, least.running) == (row.wall_clock.p50, row.running.p50), "and it is no looser than it must be"


def test_few_of_many_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = [offer(n, "hf", ("t4", "l4", "a100-80")[n % 3], 1 + n % 2, (8, 64, 400), 100 + n) for n in range(3_000)]
    offers += [offer(n, "modal", "h100", 1, (8 + n, 64 + n, 400 + n), 100 + n) for n in range(3_000, 6_000)]
    asked: list[str] = []
    estimate = Estimator.estimate

    def counted(self: Estimator, training: Training, where: Offer, *rest: Any) -> Estimate:
        asked.append(where.id)
        return estimate(self, training, where, *rest)

    monkeypatch.setattr(Estimator, "estimate", counted)
    found = planned(Workload(policy="act", episodes=50), Search(), BUNDLED._replace(offers=FEW, feed=feeds.fold(offers)), 20)
    assert found.left_out > 5_900
    assert len(asked) < 100


def test_folding_keeps_every_offer() -> None:
    offers = [offer(n, "hf", "l4", 1 + n % 3, (n, None, 3 * n), None if n % 7 == 0 else 500 - n) for n in range(300)]
    found = [one for lot in feeds.fold(offers) for one in feeds.offers(lot)]
    assert sorted(found, key=lambda one: int(one.flavor[1:])) == [
        one if one.usd_per_hour else one._replace(price_source="feed", price_as_of="2026-11-01") for one in offers]
    for lot in feeds.fold(offers):
        prices = [one.usd_per_hour for one in feeds.offers(lot) if one.usd_per_hour]
        assert prices == sorted(prices) and len(list(feeds.offers(lot))) == lot.number
        assert (feeds.first(lot), feeds.ends(lot)[-1]) == (next(feeds.offers(lot)), list(feeds.offers(lot))[-1])
        assert lot.disk_bytes == min(one.disk_bytes for one in feeds.offers(lot) if one.disk_bytes is not None)
