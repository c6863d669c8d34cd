"""The readers of flag values: what they accept, and that anything else is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from planner.commands import options, terminal, values
from planner.errors import UsageError
from planner.request import Search, Workload

COUNT = values.count("--n", 1000)
NUMBER = values.number("--x", 50, "units")
DOLLARS = values.dollars("--usd", 100)
DURATION = values.duration("--time")


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (COUNT, "1", 1),
        (COUNT, "1_000", 1000),
        (COUNT, " 007 ", 7),
        (NUMBER, "0.5", 0.5),
        (NUMBER, "5e-1", 0.5),
        (NUMBER, ".5", 0.5),
        (NUMBER, "29.97", 29.97),
        (DOLLARS, "12.50", Decimal("12.50")),
        (DOLLARS, "$0.1", Decimal("0.1")),
        (DURATION, "4h", 14_400),
        (DURATION, "90m", 5400),
        (DURATION, "1.5 h", 5400),
        (DURATION, "2D", 172_800),
        (DURATION, "3600", 3600),
        (DURATION, "3600s", 3600),
    ],
)
def test_reads(read: Callable[[str], Any], text: str, value: object) -> None:
    assert read(text) == value and type(read(text)) is type(value)


@pytest.mark.parametrize("text", ["1001", "0", "-1", "1.0", "1e2", "", "1 000", "0x10", "nan", "+5", "1" * 10_000])
def test_a_count_is_nothing_else(text: str) -> None:
    with pytest.raises(UsageError):
        COUNT(text)


@given(st.text() | st.integers().map(str) | st.floats().map(str) | st.decimals().map(str))
@example("1e-9999")
@example("9" * 5000)
@example("٣")
def test_any_text_is_a_value_in_range_or_one_line(text: str) -> None:
    for read, low, high in ((COUNT, 1, 1000), (NUMBER, 0, 50), (DOLLARS, 0, 100), (DURATION, 60, values.MAX_TIMEOUT_S)):
        try:
            assert low <= read(text) <= high
        except UsageError as error:
            assert error.text.startswith("--") and len(error.text) < 200
            assert terminal.one_line(error.text).isprintable()


def test_every_field_of_a_request_is_an_option() -> None:
    assert set(options.WORKLOAD) == set(Workload._fields) - {"tail"}
    # deadline and defaults come from the configuration; how old a dataset's facts may be, from what they are for
    assert {*options.SEARCH, "deadline_s", "dataset_age_s", "defaults"} == set(Search._fields)
