"""A place's own price list laid over the catalogue."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from planner import catalogue as catalogues
from planner import overlay
from planner.errors import UsageError
from planner.evidence import load_calibration
from planner.overlay import laid_over
from planner.plans import Plan
from planner.records import Catalogue, Offer, PriceList, Quote
from planner.request import Search, Workload
from planner.units import GB

TODAY = "2026-11-20T12:00:00Z"


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return catalogues.load(user=Path(tmp_path_factory.mktemp("empty")))


def answer(*quotes: Quote, target: str = "hf", as_of: str = TODAY, **fields: Any) -> dict[str, PriceList]:
    return {target: PriceList(target, "hf_jobs_hardware", quotes, as_of=as_of, **fields)}


def quote(flavor: str, usd: str | None, gpu: str | None = "L4", num_gpus: int | None = 1, vram: float = 24, **fields: Any) -> Quote:
    return Quote(flavor, None if usd is None else Decimal(usd), gpu, num_gpus, int(vram * GB), **fields)


def one(catalogue: Catalogue, row: str) -> Offer:
    return next(offer for offer in catalogue.offers if offer.id == row)


def same(catalogue: Catalogue, target: str) -> list[Quote]:
    """What the place would say if nothing had changed."""
    return [Quote(offer.flavor, offer.usd_per_hour, per_gpu=offer.per_gpu) for offer in catalogue.offers
            if offer.target == target and (offer.num_gpus == 1 or not offer.per_gpu)]


def test_a_live_price_takes_the_place_of_an_older_one(bundled: Catalogue) -> None:
    laid = laid_over(bundled, answer(*same(bundled, "hf")[1:], quote("cpu-basic", "0.02", None, 0)))
    assert [offer.id for offer in laid.offers] == [offer.id for offer in bundled.offers]
    offer = one(laid, "hf:cpu-basic")
    assert (offer.usd_per_hour, offer.price_source, offer.price_as_of, offer.price_method) == (
        Decimal("0.02"), "hf_jobs_hardware", "2026-11-20", "live")
    assert one(laid, "modal:L4") == one(bundled, "modal:L4") and not laid.unplanned


def test_an_answer_that_is_older_than_the_catalogue_changes_nothing(bundled: Catalogue) -> None:
    old = answer(quote("l4x1", "0.10"), quote("new-one", "0.10"), as_of="2026-08-20T23:59:59Z")
    assert laid_over(bundled, old).offers == bundled.offers
    same_day = laid_over(bundled, answer(*same(bundled, "hf"), as_of="2026-08-21T00:00:00Z"))
    assert {offer.price_method for offer in same_day.offers if offer.target == "hf"} == {"live"}


def test_the_users_own_price_stays(bundled: Catalogue) -> None:
    mine = one(bundled, "hf:l4x1")._replace(usd_per_hour=Decimal("0.55"), price_method="user", price_source="my_contract")
    own = bundled._replace(offers=tuple(mine if offer.id == mine.id else offer for offer in bundled.offers))
    assert one(laid_over(own, answer(quote("l4x1", "0.90"))), "hf:l4x1") == mine
    assert one(laid_over(own, answer(quote("t4-small", "0.90", "T4", 1, 16))), "hf:l4x1") == mine


def test_a_flavor_without_a_price_is_never_free(bundled: Catalogue) -> None:
    offer = one(laid_over(bundled, answer(quote("l4x1", None))), "hf:l4x1")
    assert offer.usd_per_hour is None and offer.price_method == "live"


def test_a_price_in_an_unknown_unit_leaves_the_older_one(bundled: Catalogue) -> None:
    offer = one(laid_over(bundled, answer(quote("l4x1", None, odd_unit="fortnight"))), "hf:l4x1")
    assert (offer.usd_per_hour, offer.price_as_of, offer.price_method) == (Decimal("0.80"), "2026-08-21", "bundled")


def test_what_is_not_in_the_answer_is_not_offered_any_more(bundled: Catalogue) -> None:
    laid = laid_over(bundled, answer(quote("l4x1", "0.80")))
    assert [offer.flavor for offer in laid.offers if offer.target == "hf"] == ["l4x1"]
    gone = next(one for one in laid.unplanned if one.id == "hf:h200x8")
    assert gone.gone and "not offered any more" in gone.why and "2026-11-20" in gone.why
    modal = laid_over(bundled, answer(Quote("L4", Decimal("0.8"), per_gpu=True), target="modal"))
    assert [one.id for one in modal.unplanned if one.id == "modal:H100"] == ["modal:H100"]  # once, not for every count


def test_a_new_flavor_of_a_known_gpu_is_offered(bundled: Catalogue) -> None:
    laid = laid_over(bundled, answer(
        quote("h100", "3.60", "H100", 1, 80, vcpus=24.0, ram_bytes=200 * GB, disk_bytes=100 * GB), quote("a100-40", "1.5", "A100", 2, 80),
        quote("rtx", "2", "NVIDIA RTX PRO 6000", 2, 192), quote("cpu-huge", "2", None, 0)))  # fmt: skip
    offer = one(laid, "hf:h100")
    assert (offer.gpu, offer.num_gpus, offer.vcpus, offer.ram_bytes, offer.usd_per_hour) == ("h100", 1, 24, 200 * GB, Decimal("3.60"))
    assert one(laid, "hf:a100-40").gpu == "a100-40" and one(laid, "hf:rtx").gpu == "rtx-pro-6000"  # VRAM is that of all GPUs
    assert (one(laid, "hf:cpu-huge").gpu, one(laid, "hf:cpu-huge").num_gpus) == ("cpu", 0)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (quote("x", "4", "MI300X-Ultra", 1, 192), "cannot estimate: unknown GPU MI300X-Ultra"),
        (quote("x", "4", "A100", 1, 24), "unknown GPU A100"),  # the name is known, with other memory
        (quote("x", "4", "A100", 1, 60), "unknown GPU"),  # between two cards
        (quote("x", "4", "L4", None), "does not say how many GPUs"),
    ],
)
def test_a_new_flavor_that_cannot_be_estimated_says_why(bundled: Catalogue, what: Quote, why: str) -> None:
    laid = laid_over(bundled, answer(*same(bundled, "hf"), what))
    assert not [offer for offer in laid.offers if offer.flavor == "x"]
    (unplanned,) = laid.unplanned
    assert why in unplanned.why and unplanned.quote == what and not unplanned.gone


def test_a_flavor_that_is_another_machine_now_is_taken_as_the_answer_has_it(bundled: Catalogue) -> None:
    laid = laid_over(bundled, answer(quote("l4x1", "3.00", "L4", 4, 96), quote("h200", "9", "B200", 1, 192)))
    assert one(laid, "hf:l4x1").num_gpus == 4 and one(laid, "hf:h200").gpu == "b200"
    assert one(laid, "hf:l4x1").usd_per_hour == Decimal("3.00")


def test_modal_rates_are_per_gpu_core_and_gib(bundled: Catalogue) -> None:
    rates = {"usd_per_core_hour": Decimal("0.05"), "usd_per_gib_hour": None}
    laid = laid_over(bundled, answer(Quote("L4", Decimal("1.00"), per_gpu=True), target="modal", **rates))
    assert [one(laid, row).usd_per_hour for row in ("modal:L4", "modal:L4:8")] == [1, 8]
    rules = laid.targets["modal"]
    assert rules.usd_per_core_hour is not None and (rules.usd_per_core_hour.value, rules.usd_per_core_hour.as_of) == (0.05, "2026-11-20")
    assert rules.usd_per_gib_hour == bundled.targets["modal"].usd_per_gib_hour and rules.rates_method == "live"
    own = bundled._replace(targets={**bundled.targets, "modal": bundled.targets["modal"]._replace(rates_method="user")})
    assert laid_over(own, answer(target="modal", **rates)).targets == own.targets


def test_changes_say_old_and_new(bundled: Catalogue) -> None:
    quotes = [q for q in same(bundled, "hf") if q.flavor not in ("l4x1", "h200x8", "t4-small")]
    after = laid_over(bundled, answer(*quotes, quote("l4x1", "0.90"), quote("t4-small", "0.40002", "T4", 1, 16),
                                      quote("mi", "4", "MI-none"), quote("h100", "3", "H100", 1, 80)))  # fmt: skip
    found = {one.what: one for one in overlay.changes(bundled, after, ("hf",))}
    assert found.keys() == {"l4x1", "h200x8", "mi", "h100"}  # a price per minute rounds: 0.40002 is 0.40
    assert (found["l4x1"].before, found["l4x1"].after, found["l4x1"].share) == (Decimal("0.80"), Decimal("0.90"), Decimal("0.125"))
    assert (found["h200x8"].after, found["h200x8"].note) == (None, "not offered any more")
    assert (found["mi"].after, found["mi"].note, found["h100"].note) == (4, "new", "new")
    assert not overlay.changes(after, after, ("hf", "modal"))
    assert {one.what: one.note for one in overlay.changes(after, bundled, ("hf",)) if one.what != "mi"} == {
        "l4x1": "", "h200x8": "new", "h100": "not offered any more"}


# ------------------------------------------------------------------------------------------ in a plan


def planned(catalogue: Catalogue, search: Search) -> Plan:
    from planner.choose import choose
    from planner.resolve import resolve

    training, calibration = resolve(Workload(policy="act", episodes=50), catalogue), load_calibration(catalogue, catalogues.data_dir())
    return choose(training, search, catalogue, calibration)


def test_a_plan_counts_with_live_prices_and_names_them(bundled: Catalogue) -> None:
    search = Search(targets=("hf",))
    dear = [q._replace(usd_per_hour=2 * q.usd_per_hour) for q in same(bundled, "hf") if q.usd_per_hour]
    before, after = planned(bundled, search), planned(laid_over(bundled, answer(*dear)), search)
    assert after.estimate("hf:l4x1").usd_max == 2 * before.estimate("hf:l4x1").usd_max  # type: ignore[operator]
    assert [(price.method, price.as_of) for price in after.prices] == [("live", "2026-11-20")]
    assert after.estimate("hf:l4x1").price_grade == "measured"


def test_a_plan_lists_what_it_cannot_estimate(bundled: Catalogue) -> None:
    laid = laid_over(bundled, answer(*same(bundled, "hf")[:-1], quote("gaudi3", "4.00", "Gaudi 3", 1, 128)))
    plan = planned(laid, Search())
    assert {one.id for one in plan.unplanned} == {"hf:gaudi3", "hf:rtx-pro-6000x8"}
    assert not {"hf:gaudi3", "hf:rtx-pro-6000x8"} & {row.id for row in plan.estimates}
    assert not planned(laid, Search(targets=("modal",))).unplanned
    for name, why in (("gaudi3", "unknown GPU"), ("rtx-pro-6000x8", "not offered any more")):
        with pytest.raises(UsageError, match=why):
            planned(laid, Search(gpus=(name,)))


def test_a_row_without_a_price_is_never_recommended_for_being_free(bundled: Catalogue) -> None:
    quotes = [q._replace(usd_per_hour=None) if q.flavor == "l40sx1" else q for q in same(bundled, "hf")]
    plan = planned(laid_over(bundled, answer(*quotes)), Search(targets=("hf",)))
    row = plan.estimate("hf:l40sx1")
    assert (row.usd, row.usd_max, row.price_grade) == (None, None, None)
    assert plan.cheapest != row.id and plan.recommended is not None and plan.recommended.id != row.id
