"""What an hour costs, and how old that is."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from planner import catalogue, prices
from planner.errors import PricesTooOld
from planner.plans import Plan, Price, Recommendation
from tests.factories import estimate, offer, workload

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("as_of", "days"),
    [("2026-11-20", 0), ("2026-11-19T23:59:59Z", 1), ("2026-10-21", 30), ("2026-08-22", 90), ("2027-01-01", 0), ("2026-11", 19),
     ("2026", 323), ("undated", None), ("", None)],
)  # fmt: skip
def test_age(as_of: str, days: int | None) -> None:
    assert prices.age_days(as_of, NOW) == days


def dated(*dates: str, method: str = "bundled") -> list[Price]:
    return [Price(target, "list", as_of, method) for target, as_of in zip(("hf", "modal"), dates, strict=False)]


def test_over_thirty_days_warns_in_one_line() -> None:
    assert prices.age_warning(dated("2026-10-21", "2026-11-20"), NOW) is None  # 30 days
    warning = prices.age_warning(dated("2026-10-20", "2026-11-20"), NOW)
    assert warning == ("price-age", "prices: hf 31 days old: plan prices --refresh")
    _, text = prices.age_warning(dated("2026-08-21", "2026-10-08"), NOW)  # type: ignore[misc]
    assert text == "prices: hf 91 days old (over 90: no launch), modal 43: plan prices --refresh"


def test_the_oldest_list_of_a_place_counts_and_the_users_own_never() -> None:
    both = [Price("hf", "a", "2026-11-20", "live"), Price("hf", "b", "2026-08-01", "bundled"), Price("modal", "c", "2020-01-01", "user")]
    _, text = prices.age_warning(both, NOW)  # type: ignore[misc]
    assert "hf 111 days" in text and "modal" not in text
    assert "undated" in prices.age_warning(dated("undated"), NOW)[1]  # type: ignore[index]


def test_another_limit_is_told() -> None:
    assert "no launch" not in prices.age_warning(dated("2026-08-01"), NOW, 200)[1]  # type: ignore[index]
    assert "over 10: no launch" in prices.age_warning(dated("2026-11-05"), NOW, 10)[1]  # type: ignore[index]


def plan(target: str = "hf", **fields: Any) -> Plan:
    row = estimate(offer(target, **fields))
    return Plan("lerobot", workload(), (row,), (), Recommendation(row.id, target, row.offer.flavor, ""), row.id, row.id)


def test_a_launch_takes_ninety_days_and_no_more() -> None:
    assert prices.too_old(plan(price_as_of="2026-08-22"), NOW) is None
    error = prices.too_old(plan(price_as_of="2026-08-21"), NOW)
    assert isinstance(error, PricesTooOld) and error.exit_code == 5
    assert "91 days old (2026-08-21)" in error.text and "--refresh" in error.text
    assert prices.too_old(plan(price_as_of="2026-08-21"), NOW, 91) is None
    assert prices.too_old(plan(price_as_of="2026-11-18"), NOW, 1.5) is not None
    assert prices.too_old(plan(price_as_of="2026-08-21"), NOW, float(error.text.rsplit(" ", 1)[1])) is None  # what it says helps


def test_a_launch_needs_a_price_with_a_date() -> None:
    assert prices.too_old(plan(usd_per_hour=None), NOW).code == "price-unknown"  # type: ignore[union-attr]
    assert "no date" in prices.too_old(plan(price_as_of=None), NOW).text  # type: ignore[union-attr]
    assert prices.too_old(plan("local", usd_per_hour=None, price_as_of=None), NOW) is None
    assert prices.too_old(plan(price_as_of="2020-01-01", price_method="user"), NOW) is None
    assert prices.too_old(plan()._replace(recommended=None), NOW) is None


def test_a_price_is_as_old_as_its_rates() -> None:
    fresh = {"price_as_of": "2026-11-20", "price_method": "live"}
    assert prices.too_old(plan("modal", **fresh, rates_as_of="2026-11-20"), NOW) is None
    assert prices.too_old(plan("modal", **fresh, rates_as_of="2026-08-01"), NOW) is not None


def test_rates_of_another_date_are_a_list_of_their_own() -> None:
    known = catalogue.load()
    rules = known.targets["modal"]
    assert rules.usd_per_core_hour is not None
    live = offer("modal", price_source="modal_billing_rates", price_as_of="2026-11-20", price_method="live")
    assert [(price.method, price.as_of) for price in prices.used([live], known)] == [("live", "2026-11-20"), ("bundled", "2026-10-08")]
    priced = prices.priced_offer(live, known, workload())
    assert priced.rates_as_of == "2026-10-08" and priced.usd_per_hour == sum((usd for _, usd in priced.price_parts), Decimal(0))
    both = known._replace(targets={"modal": rules._replace(
        rates_method="live", usd_per_core_hour=rules.usd_per_core_hour._replace(source="modal_billing_rates", as_of="2026-11-20"))})
    assert {(price.method, price.as_of) for price in prices.used([live], both)} == {("live", "2026-11-20"), ("bundled", "2026-10-08")}
