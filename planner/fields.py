"""One mapping of a catalogue file, read field by field: every field by name, with its unit, and nothing left over.

A mistake is one line: file, entry, field, and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from planner.errors import UsageError
from planner.records import Figure, Source, StartupRange
from planner.units import parse_quantity

REQUIRED: Any = object()
_DATE = re.compile(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?([ ,(].*)?|undated.*", re.DOTALL)


class Entry:
    """One mapping of a file. Reading a field takes it; `done()` refuses what nobody asked for."""

    def __init__(self, file: str, name: str, data: Any, sources: dict[str, Source] | None = None) -> None:
        self.file, self.name, self.sources = file, name, sources
        if not isinstance(data, dict):
            raise UsageError("catalogue", f"{file}: {name}: expected a mapping of fields, got {_kind(data)}")
        self.data = dict(data)
        self.known: list[str] = []

    def fail(self, field: str, expected: str) -> UsageError:
        return UsageError("catalogue", f"{self.file}: {self.name}: {field}: {expected}")

    def take(self, field: str, default: Any = REQUIRED) -> Any:
        self.known.append(field)
        if field in self.data:
            return self.data.pop(field)
        if default is REQUIRED:
            raise self.fail(field, "is missing")
        return default

    def done(self) -> None:
        for field in self.data:
            from difflib import get_close_matches

            near = get_close_matches(str(field), self.known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(self.known)}"
            raise self.fail(str(field), f"unknown field; {hint}")

    def text(self, field: str, default: Any = REQUIRED) -> Any:
        value = self.take(field, default)
        if value is None and default is not REQUIRED:
            return default
        if value is not default and not isinstance(value, str):
            raise self.fail(field, f"expected text, got {value!r}")
        return value

    def date(self, field: str) -> str:
        """An ISO date, a year, or a word such as `undated`."""
        value = self.take(field)
        text = value.isoformat() if hasattr(value, "isoformat") else str(value) if value is not None else ""
        if not _DATE.fullmatch(text):
            raise self.fail(field, f"expected a date such as 2026-10-08, a year, or undated; got {value!r}")
        return text

    def choice(self, field: str, allowed: Iterable[str], default: Any = REQUIRED) -> Any:
        value = self.take(field, default)
        if value is not default and value not in allowed:
            raise self.fail(field, f"expected one of {', '.join(allowed)}, got {value!r}")
        return value

    def flag(self, field: str, default: Any = REQUIRED) -> Any:
        value = self.take(field, default)
        if value is None and default is not REQUIRED:
            return default
        if value is not default and not isinstance(value, bool):
            raise self.fail(field, f"expected true or false, got {value!r}")
        return value

    def number(self, field: str, default: Any = REQUIRED, whole: bool = False, least: float = 0) -> Any:
        value = self.take(field, default)
        if value is default and default is not REQUIRED:
            return value
        if value is None and default is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value < 1e15:
            raise self.fail(field, f"expected a {'whole ' if whole else ''}number of at least {least:g}, got {value!r}")
        return value

    def quantity(self, field: str, dimension: str, default: Any = REQUIRED) -> Any:
        """A number with its unit, in base units."""
        value = self.take(field, default)
        if value is None and default is not REQUIRED:
            return default
        try:
            number = parse_quantity(value, dimension)
        except ValueError as error:
            raise self.fail(field, str(error)) from None
        if number < 0:
            raise self.fail(field, f"expected at least 0, got {value!r}")
        return number

    def figure(self, field: str, dimension: str | None, default: Any = REQUIRED) -> Any:
        """A number with unit (or a bare count where dimension is None), source and date."""
        value = self.take(field, default)
        if value is None and default is not REQUIRED:
            return default
        inner = Entry(self.file, f"{self.name}: {field}", value, self.sources)
        number = inner.number("value") if dimension is None else inner.quantity("value", dimension)
        result = Figure(number, *inner.origin())
        inner.done()
        return result

    def origin(self) -> tuple[str, str]:
        """(source id, date) of this mapping; the date defaults to the source's own."""
        source = self.text("source")
        if self.sources is not None and source not in self.sources:
            raise self.fail("source", f"{source!r} is not in sources.yaml")
        if "as_of" in self.data or self.sources is None:
            return source, self.date("as_of")
        self.known.append("as_of")
        return source, self.sources[source].as_of

    def names(self, field: str, default: Any = REQUIRED) -> Any:
        """A tuple of texts."""
        value = self.take(field, default)
        if value is None and default is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise self.fail(field, f"expected a list of texts, got {value!r}")
        return tuple(value)

    def mapping(self, field: str, default: Any = REQUIRED) -> dict[str, Any]:
        value = self.take(field, default)
        if not isinstance(value, dict):
            raise self.fail(field, f"expected a mapping, got {_kind(value)}")
        return value

    def spread(self, field: str, dimension: str) -> StartupRange:
        """{p10, p50, p90, source} of one quantity."""
        inner = Entry(self.file, f"{self.name}: {field}", self.take(field), self.sources)
        return spread(inner, dimension)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def spread(inner: Entry, dimension: str | None) -> StartupRange:
    p10, p50, p90 = (
        inner.number(name) if dimension is None else inner.quantity(name, dimension) for name in ("p10", "p50", "p90")
    )
    if not p10 <= p50 <= p90:
        raise inner.fail("p50", "expected p10 ≤ p50 ≤ p90")
    source = inner.origin()[0]
    inner.done()
    return StartupRange(p10, p50, p90, source)
