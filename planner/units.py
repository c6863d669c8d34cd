"""Quantities with their units: parsing `24 GB`, and the P10–P50–P90 interval.

Inside the program memory is integer bytes, time is seconds, money is Decimal dollars. Binary and decimal
prefixes are different units and are never mixed: GB is 10**9 bytes, GiB is 2**30.
"""

from __future__ import annotations

import re
from math import hypot
from typing import NamedTuple

GB = 10**9
GIB = 2**30

#: dimension -> unit -> factor to the base unit (bytes, bytes/s, FLOP/s, watts, seconds, USD/h)
UNITS: dict[str, dict[str, float]] = {
    "bytes": {"B": 1, "KB": 1e3, "MB": 1e6, "GB": GB, "TB": 1e12, "MiB": 2**20, "GiB": GIB, "TiB": 2**40},
    "bytes/s": {"MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12},
    "FLOP/s": {"TFLOP/s": 1e12, "PFLOP/s": 1e15},
    "W": {"W": 1},
    "s": {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400},
    "USD/h": {"USD/h": 1},
    "USD/core-h": {"USD/core-h": 1},
    "USD/GiB-h": {"USD/GiB-h": 1},
    "USD/GiB": {"USD/GiB": 1},
}

_QUANTITY = re.compile(r"^\s*([-+]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*(\S+)\s*$")


def parse_quantity(text: object, dimension: str) -> float:
    """`"24 GB"` in dimension `"bytes"` -> 24e9. Raises ValueError that says what was expected."""
    units = UNITS[dimension]
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    if match is None or match.group(2) not in units:
        raise ValueError(f"expected a number with a unit ({', '.join(units)}), got {text!r}")
    return float(match.group(1)) * units[match.group(2)]


class Interval(NamedTuple):
    """P10, P50 and P90 of one quantity; eight of ten real values should land between the outer two."""

    p10: float
    p50: float
    p90: float

    def times(self, factor: float) -> Interval:
        return Interval(self.p10 * factor, self.p50 * factor, self.p90 * factor)

    def __add__(self, other: object) -> Interval:
        raise TypeError("intervals do not add end to end; use total()")


def point(value: float) -> Interval:
    """A quantity known exactly."""
    return Interval(value, value, value)


def total(parts: list[Interval]) -> Interval:
    """Sum of independent quantities.

    Medians add. The distances to P10 and P90 add as root of the sum of squares, the rule for independent
    errors: adding the outer ends instead would claim that every term goes wrong at once.
    """
    low = middle = below = above = 0.0
    for p10, p50, p90 in parts:  # once over, because a plan adds up hundreds of them
        low, middle = low + p10, middle + p50
        below, above = below + (p50 - p10) ** 2, above + (p90 - p50) ** 2
    return Interval(max(middle - below**0.5, low), middle, middle + above**0.5)


def product(one: Interval, other: Interval) -> Interval:
    """Product of two independent positive quantities: medians multiply, relative distances add as in total()."""
    p50 = one.p50 * other.p50
    low = hypot(1 - one.p10 / one.p50, 1 - other.p10 / other.p50)
    high = hypot(one.p90 / one.p50 - 1, other.p90 / other.p50 - 1)
    return Interval(max(p50 * (1 - low), one.p10 * other.p10), p50, p50 * (1 + high))
