"""Quantities as people read them: `2.1 h (1.6–2.9)`, `$1.68`, `15 of 22 GB`. An unknown is "unknown", never 0.

Everything rounds to nearest except money's outer ends and worst cases, which round outwards and upwards.
"""

from __future__ import annotations

import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from math import floor, log10

from planner.plans import Money
from planner.units import GB, Interval

UNKNOWN = "unknown"
CENT = Decimal("0.01")

#: grade -> the mark that stands beside a number of that grade
MARKS = {"measured": "●", "scaled": "◐", "modelled": "○", "given": "□"}
GRADE_TEXT = {
    "measured": "measured",
    "scaled": "scaled from another GPU",
    "modelled": "modelled",
    "given": "given by you",
}

#: what stands in where the terminal's encoding lacks a symbol; the same length wherever columns depend on it
ASCII = str.maketrans(
    {
        "★": "*", "✗": "x", "●": "#", "◐": "+", "○": "o", "□": "=", "▇": "#", "▁": ".",
        "–": "-", "×": "x", "·": "-", "≈": "~", "≤": "<=", "…": "...", "→": "->", "−": "-",
    }  # fmt: skip
)


def encodable(encoding: str | None) -> bool:
    """Whether a stream of this encoding can carry the symbols of a plan."""
    try:
        "★✗●◐○□▇▁–×·≈≤…→−".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def clean(text: str) -> str:
    """`text` without control characters: a name in a dataset must not steer the terminal."""
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf") else char for char in text)


def cells(text: str) -> int:
    """Terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def number(value: float, most: int | None = None) -> str:
    """Two significant digits, whole parts never rounded away: 0.35, 2.1, 13, 1,234; `most` limits the decimals."""
    places = _places(value)
    if most is not None and round(value, most):
        places = min(places, most)
    return f"{value:,.{places}f}"


def _places(value: float) -> int:
    """Decimals that two significant digits of `value` take."""
    if not value:
        return 0
    places = 1 - floor(log10(abs(value)))
    return max(0, 1 - floor(log10(abs(round(value, places)))))  # 9.96 rounds to 10, which has none


def count(value: int | None) -> str:
    """45000 -> `45,000`."""
    return UNKNOWN if value is None else f"{value:,}"


_DURATIONS = (("ms", 1e-3, 100), ("s", 1, 60), ("min", 60, 60), ("h", 3600, 48), ("d", 86400, None))


def _duration_unit(seconds: float) -> tuple[str, float]:
    for unit, size, limit in _DURATIONS:
        if limit is None or float(number(seconds / size).replace(",", "")) < limit:
            return unit, size
    raise AssertionError("the last unit has no limit")


def duration(seconds: float | None) -> str:
    """Seconds -> `35 ms`, `45 s`, `12 min`, `2.1 h`, `3.2 d`."""
    if seconds is None:
        return UNKNOWN
    unit, size = _duration_unit(seconds)
    return f"{number(seconds / size, 2 if unit == 's' else 1)} {unit}"


def duration_span(interval: Interval) -> str:
    """P10 and P90 in the unit that `duration` gives P50: `(1.6–2.9)`; empty where they show no width."""
    unit, size = _duration_unit(interval.p50)
    most = max(1, _places(interval.p50 / size))
    low, high = (number(value / size, most) for value in (min(interval.p10, interval.p50), max(interval.p90, interval.p50)))
    return "" if low == high else f"({low}–{high})"


def money(usd: Decimal | None) -> str:
    """`$1.68`, `$117`, `<$0.01`."""
    if usd is None:
        return UNKNOWN
    if 0 < usd < CENT:
        return "<$0.01"
    cents = usd.quantize(CENT, ROUND_HALF_EVEN)
    return f"${cents:,.2f}" if cents < 100 else f"${usd:,.0f}"


def money_span(usd: Money | None) -> str:
    """P10 and P90 of money, rounded outwards, without the dollar sign: `(1.30–2.30)`, `(16–23)`."""
    if usd is None or usd.p10 == usd.p90:
        return ""

    def end(value: Decimal, rounding: str) -> str:
        if 0 < value < CENT:
            return "<0.01"
        return f"{value.quantize(CENT if value < 10 else Decimal(1), rounding):,}"

    return f"({end(min(usd.p10, usd.p50), ROUND_FLOOR)}–{end(max(usd.p90, usd.p50), ROUND_CEILING)})"


def at_most(usd: Decimal | None) -> str:
    """A worst case: rounded up to the cent."""
    return UNKNOWN if usd is None else f"${usd.quantize(CENT, ROUND_CEILING):,.2f}"


def gigabytes(size: float | None) -> str:
    """Bytes -> `15 GB` of 10⁹ bytes; one decimal below 10."""
    return UNKNOWN if size is None else f"{number(size / GB)} GB"


def memory_of(needed: int, usable: int) -> str:
    """`15 of 22 GB`; with a decimal where whole numbers would hide which is larger."""
    a, b = needed / GB, usable / GB
    if min(a, b) >= 10 and round(a) != round(b):
        return f"{a:,.0f} of {b:,.0f} GB"
    places = 1 if round(a, 1) != round(b, 1) else 2
    return f"{a:,.{places}f} of {b:,.{places}f} GB"


def gpu_label(gpu: str) -> str:
    """A GPU id as a name: `l4` -> `L4`, `rtx3060-laptop` -> `RTX3060-Laptop`."""
    return "-".join(part.upper() if len(part) <= 3 or not part.isalpha() else part.title() for part in gpu.split("-"))


def gpu_count(gpu: str, count: int) -> str:
    """`4 × L4`; a machine without a GPU is its CPU alone."""
    return f"{count} × {gpu_label(gpu)}" if count else gpu_label(gpu)
