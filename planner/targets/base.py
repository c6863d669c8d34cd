"""What every place that runs jobs offers, and how it is found.

A place is a module of this package; a new one is one file. No module imports a provider's SDK when it is
loaded: planning and emitting must work without it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Protocol, cast

from planner.deadline import Deadline
from planner.errors import UsageError
from planner.job import Job, Output
from planner.records import PriceList, Quote


class Target(Protocol):
    """A place. The protocol grows when jobs are also launched from here: submit, status, logs, cancel, fetch, bill."""

    name: str

    def emit(self, job: Job) -> str:
        """The command or script that runs the job. Raises UsageError where the place cannot run it."""
        ...

    def needs(self, job: Job) -> tuple[str, ...]:
        """What has to be there before the command can run, in the order of doing it; one line each, never a secret's value."""
        ...

    def output_for(self, *, repo_id: str | None, output: str | None, run_name: str) -> Output:
        """Where the results of a run go, unless the user said (`repo_id` or `output`)."""
        ...


def names() -> list[str]:
    """Names of all places; a module whose name begins with `_` is a part of one."""
    import planner.targets

    return sorted(module.name for module in pkgutil.iter_modules(planner.targets.__path__)
                  if module.name != "base" and not module.name.startswith("_"))  # fmt: skip


def get(name: str) -> Target:
    """The place of this name. Raises UsageError that lists the names."""
    if name not in names():
        raise UsageError("target", f"unknown target {name!r}; targets are {', '.join(names())}")
    return cast(Target, importlib.import_module(f"planner.targets.{name}"))


def feed(name: str) -> Callable[[Deadline], PriceList] | None:
    """What asks the place of this name for its prices: `prices(deadline)` of its module. None where it has none to ask for.

    It returns the answer without source and date, or raises NotAuthorised, Unreachable or, where it gives up in time, TimeoutError.
    """
    found: Callable[[Deadline], PriceList] | None = getattr(get(name), "prices", None)
    return found


#: unit of a price -> how many of it an hour has
PER_HOUR = {"second": 3600, "minute": 60, "hour": 1}


def odd_units(place: str, quotes: Iterable[Quote]) -> tuple[str, ...]:
    """What to say of prices in a unit that is not in PER_HOUR."""
    return tuple(f"{place} {quote.flavor}: sold by the {quote.odd_unit!r}, a unit that is not known: its live price is not used"
                 for quote in quotes if quote.odd_unit is not None)


def usd(value: object, times: int = 1) -> Decimal | None:
    """A price as a place states it, `times` over; None where it is none: absent, zero, negative or no number."""
    try:
        price = (Decimal(str(value)) * times).normalize()
        if not price.is_finite() or price <= 0:
            return None
        return price.quantize(Decimal("0.01")) if price == round(price, 2) else price
    except ArithmeticError:
        return None


def install(job: Job) -> str:
    """How an environment gets the trainer of this job."""
    return f"pip install {shlex.join(job.packages)}"


def label(text: str, longest: int = 50) -> str:
    """Text as a label's value: letters, digits, `-` and `_`. 50 is Modal's limit, Hugging Face allows 100."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:longest].strip("-") or "run"
