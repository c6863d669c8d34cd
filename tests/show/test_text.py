from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.plans import Money
from planner.show import text
from planner.units import GB, Interval


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.035, "35 ms"), (0.35, "0.35 s"), (0.996, "1.0 s"), (2.1, "2.1 s"), (45, "45 s"), (59.7, "1.0 min"), (60, "1.0 min"),
        (720, "12 min"), (3599, "1.0 h"), (7560, "2.1 h"), (36_000, "10 h"), (172_700, "2.0 d"), (276_480, "3.2 d"),
        (86_400 * 1234, "1,234 d"), (0, "0 ms"), (None, "unknown"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(5679, 7572, 10_601), "(1.6–2.9)"),
        (Interval(3560, 5760, 10_080), "(1.0–2.8)"),  # no more decimals than 1.6 h has
        (Interval(34_560, 43_200, 57_600), "(9.6–16)"),
        (Interval(60, 60, 60), ""),
        (Interval(100, 60, 50), ""),  # never wider than it is, never P10 above P50
    ],
)
def test_duration_span(interval: Interval, shown: str) -> None:
    assert text.duration_span(interval) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ("0", "$0.00"), ("0.0099", "<$0.01"), ("0.014", "$0.01"), ("1.684", "$1.68"), ("99.994", "$99.99"), ("117.4", "$117"),
        ("1234", "$1,234"),
    ],
)
def test_money(usd: str, shown: str) -> None:
    assert text.money(Decimal(usd)) == shown


def test_unknown_is_never_zero() -> None:
    assert {text.money(None), text.at_most(None), text.gigabytes(None), text.count(None), text.duration(None)} == {"unknown"}
    assert text.money_span(None) == ""


@pytest.mark.parametrize(
    ("usd", "shown"), [("2.80", "$2.80"), ("2.8000001", "$2.81"), ("0.0001", "$0.01"), ("1234.561", "$1,234.57")]
)
def test_a_worst_case_rounds_up(usd: str, shown: str) -> None:
    assert text.at_most(Decimal(usd)) == shown


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        (("1.30", "1.68", "2.30"), "(1.30–2.30)"),
        (("16.76", "16.80", "23.1"), "(16–24)"),  # outwards: 17 would stand above $16.80
        (("0.001", "0.02", "0.03"), "(<0.01–0.03)"),
        (("5", "5", "5"), ""),
    ],
)
def test_money_span(ends: tuple[str, str, str], shown: str) -> None:
    assert text.money_span(Money(*map(Decimal, ends))) == shown


@pytest.mark.parametrize(
    ("needed", "usable", "shown"),
    [
        (14.96, 22.03, "15 of 22 GB"), (15.4, 15.3, "15.4 of 15.3 GB"), (15.02, 15.04, "15.02 of 15.04 GB"),
        (2.1, 22.03, "2.1 of 22.0 GB"), (102.4, 191.5, "102 of 192 GB"),
    ],
)  # fmt: skip
def test_memory_of(needed: float, usable: float, shown: str) -> None:
    assert text.memory_of(int(needed * GB), int(usable * GB)) == shown


@pytest.mark.parametrize(
    ("gpu", "shown"),
    [("l4", "L4"), ("a100-80", "A100-80"), ("rtx3060-laptop", "RTX3060-Laptop"), ("jetson-thor", "Jetson-Thor")],
)
def test_gpu_label(gpu: str, shown: str) -> None:
    assert text.gpu_label(gpu) == shown
    assert text.gpu_count(gpu, 2) == f"2 × {shown}"
    assert text.gpu_count(gpu, 0) == shown


def _value(shown: str) -> float:
    return float(shown.strip("(<$)").replace(",", ""))


@given(st.lists(st.floats(0.01, 1e8), min_size=3, max_size=3).map(sorted))
def test_no_interval_shows_its_p50_outside(ends: list[float]) -> None:
    interval = Interval(*ends)
    span = text.duration_span(interval)
    if span:
        low, high = (_value(end) for end in span.strip("()").split("–"))
        assert low <= _value(text.duration(interval.p50).split()[0]) <= high

    usd = Money(*(Decimal(f"{end:.6f}") for end in ends))
    span = text.money_span(usd)
    if span:
        low, high = (_value(end) for end in span.strip("()").split("–"))
        assert low <= _value(text.money(usd.p50)) <= high


@given(st.floats(1e-3, 1e9), st.floats(1, 1.01))
def test_a_longer_time_never_shows_as_a_shorter_one(seconds: float, factor: float) -> None:
    sizes = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}

    def shown(value: float) -> float:
        figure, unit = text.duration(value).split()
        return _value(figure) * sizes[unit]

    assert shown(seconds) <= shown(seconds * factor)


def test_names_cannot_steer_the_terminal() -> None:
    assert text.clean("me/\x1b[31mpick\n\u202e") == "me/?[31mpick??"


def test_cells_counts_wide_and_combining_characters() -> None:
    assert [text.cells(word) for word in ("act", "数据", "é", "e\u0301")] == [3, 4, 1, 1]


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("cp1252", False), (None, False), ("nonsense", False)]
)
def test_encodable(encoding: str | None, can: bool) -> None:
    assert text.encodable(encoding) is can
