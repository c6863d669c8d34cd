"""What every place that runs jobs offers, and how it is found.

A place is a module of this package; a new one is one file, or one with parts that begin with `_` and its name. No module
imports a provider's SDK when it is loaded: planning and emitting must work without it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from planner.deadline import Deadline
from planner.errors import UsageError
from planner.job import Check, Handle, Job, Output, Status, Usage
from planner.records import PriceList, Quote


class Limits(NamedTuple):
    """What a place bounds. None: it bounds nothing."""

    timeout_s: int | None  # the longest of one attempt
    attempts: int | None
    num_gpus: int | None  # in one job


class Target(Protocol):
    """A place. What asks a provider raises planner.errors.PlanError in one line: NotAuthorised, Unreachable, UsageError where the
    place refused the request itself, Ambiguous where it may have acted. Nothing else escapes, and no error holds a secret.
    """

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

    def account(self, namespace: str | None) -> str:
        """Who owns what a run leaves: `namespace`, else the user's own account."""
        ...

    def limits(self) -> Limits:
        """What the place bounds."""
        ...

    def preflight(self, job: Job) -> tuple[Check, ...]:
        """What a launch of `job` needs, looked at and not touched. Every check is returned, also those that fail."""
        ...

    def request(self, job: Job) -> dict[str, Any]:
        """Exactly what `submit` would send, secrets as `***`: JSON values. Nothing is asked or sent."""
        ...

    def submit(self, job: Job) -> Handle:
        """Send the job, once, with its labels. Raises Ambiguous where it may have been taken; any other error means it was not."""
        ...

    def find(self, job: Job) -> Handle | None:
        """The job that carries this one's `plan-run-id`, or None where the place has none."""
        ...

    def status(self, handle: Handle) -> Status:
        """How the job is. A place that has forgotten it says `unknown`."""
        ...

    def logs(self, handle: Handle, *, follow: bool) -> Iterator[str]:
        """The log's lines from the first one on, each once, also across reconnects; with `follow` until the job has ended."""
        ...

    def usage(self, handle: Handle) -> Usage | None:
        """What the job uses now; None where the place does not measure it, or not now."""
        ...

    def cancel(self, handle: Handle) -> None:
        """Stop the job. Nothing happens where it has ended."""
        ...

    def fetch(self, handle: Handle, job: Job, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
        """Copy the results into the folder `to`, sizes checked; the files. What is there and equal is not copied again."""
        ...

    def checkpoint(self, handle: Handle, job: Job) -> Path | None:
        """The newest complete checkpoint, `OUTPUT/checkpoints/000500`, where it lies on this machine; None elsewhere, or before one."""
        ...

    def bill(self, handle: Handle) -> Decimal | None:
        """Dollars that the place billed for the job; None where it does not say, or not yet."""
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
