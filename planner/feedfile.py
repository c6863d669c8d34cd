"""offers/<place>.csv → offers: a price feed with one offer a line. A mistake is one line: file, line, column, what was expected."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.records import Offer
from planner.units import GB

if TYPE_CHECKING:
    from planner.records import Gpu, Source

NEEDED = ("flavor", "gpu", "num_gpus")
COLUMNS = (*NEEDED, "vcpus", "ram_gb", "disk_gb", "usd_per_hour", "source", "as_of")
MAX_GPUS = 1024
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_FLAVOR = re.compile(r"[^\s:\x00-\x1f\x7f]{1,200}")
_DATE = re.compile(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


def read(path: Path, target: str, gpus: dict[str, Gpu], sources: dict[str, Source], taken: Collection[str]) -> Iterator[Offer]:
    """Every line as an offer of `target`. `taken` are the flavors that this place has elsewhere. Raises UsageError."""
    number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            columns = _columns(path, next(rows, []))
            line = _Line(path, target, gpus, sources)
            seen: dict[str, int] = {}
            for row in rows:
                number = rows.line_num
                if not row:
                    continue
                if len(row) != len(columns):
                    raise UsageError("catalogue", f"{path}:{number}: expected {len(columns)} columns as in line 1, got {len(row)}")
                offer = line.offer(number, dict(zip(columns, row, strict=True)))
                if offer.flavor in seen:
                    raise line.fail("flavor", f"{offer.flavor!r} stands twice (first in line {seen[offer.flavor]})")
                if offer.flavor in taken:
                    raise line.fail("flavor", f"{offer.flavor!r} is an offer of offers/{target}.yaml already")
                seen[offer.flavor] = number
                yield offer
    except OSError as error:
        raise UsageError("catalogue", f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError("catalogue", f"{path}: is not UTF-8 text") from None
    except csv.Error as error:
        raise UsageError("catalogue", f"{path}:{number + 1}: not valid CSV: {error}") from None


def _columns(path: Path, header: list[str]) -> list[str]:
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise UsageError("catalogue", f"{path}:1: column {name!r}: unknown{_near(name, COLUMNS)}; expected {', '.join(COLUMNS)}")
        if columns.count(name) > 1:
            raise UsageError("catalogue", f"{path}:1: column {name!r}: stands twice")
    for name in NEEDED:
        if name not in columns:
            raise UsageError("catalogue", f"{path}:1: column {name!r}: is missing")
    return columns


class _Line:
    """One line, read column by column."""

    def __init__(self, path: Path, target: str, gpus: dict[str, Gpu], sources: dict[str, Source]) -> None:
        self.path, self.target, self.gpus, self.sources = path, target, gpus, sources
        self.number = 0

    def fail(self, column: str, expected: str) -> UsageError:
        return UsageError("catalogue", f"{self.path}:{self.number}: column {column!r}: {expected}")

    def offer(self, number: int, row: dict[str, str]) -> Offer:
        self.number = number
        flavor, gpu = row["flavor"], row["gpu"]
        if not _FLAVOR.fullmatch(flavor):
            raise self.fail("flavor", f"expected a name without spaces and colons, got {flavor!r}")
        if gpu not in self.gpus:
            raise self.fail("gpu", f"{gpu!r} does not exist{_near(gpu, self.gpus)} (`plan gpus` lists them)")
        if self.gpus[gpu].vendor == "cpu":
            raise self.fail("gpu", "expected a GPU")
        count = row["num_gpus"]
        if not count.isascii() or not count.isdigit() or not 0 < int(count) <= MAX_GPUS:
            raise self.fail("num_gpus", f"expected a whole number from 1 to {MAX_GPUS}, got {count!r}")
        ram, disk = self._decimal(row, "ram_gb"), self._decimal(row, "disk_gb")
        vcpus, price = self._decimal(row, "vcpus"), self._decimal(row, "usd_per_hour")
        source, as_of = row.get("source") or None, row.get("as_of") or None
        if price is not None:
            if price == 0:
                raise self.fail("usd_per_hour", "expected more than 0; leave it empty where the price is unknown")
            if source not in self.sources:
                raise self.fail("source", f"{source!r} is not in sources.yaml{_near(source, self.sources)}" if source else "is missing")
            if as_of is None:
                raise self.fail("as_of", "is missing; a price needs its date")
            if not _DATE.fullmatch(as_of):
                raise self.fail("as_of", f"expected a date such as 2026-10-08, got {as_of!r}")
        return Offer(
            self.target, flavor, gpu, int(count), None if vcpus is None else float(vcpus), None if ram is None else int(ram * GB),
            None if disk is None else int(disk * GB), price, source if price else None, as_of if price else None, "user",
        )

    def _decimal(self, row: dict[str, str], column: str) -> Decimal | None:
        text = row.get(column)
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            raise self.fail(column, f"expected a plain number such as 1.25, or nothing, got {text!r}")
        return Decimal(text)


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
