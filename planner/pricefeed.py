"""Live prices as they come and are kept: fetched from the places, cached for the next plans, their history never thrown away.

The cache holds the newest answer of each place; a fetch that fails leaves it as it is, date and all. The history gets a line
whenever a place's answer differs from its last one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from planner import folders, overlay
from planner.deadline import Deadline, Late
from planner.errors import PlanError, Unreachable
from planner.records import Catalogue, PriceList, Quote

SCHEMA = "price-list/1"

class Fetched(NamedTuple):
    """What came of asking one place: its answer, or why there is none, or why it could not be kept."""

    target: str
    answer: PriceList | None
    error: PlanError | None


# ------------------------------------------------------------------------------------------ fetching


def sources(catalogue: Catalogue, targets: Iterable[str] = ()) -> dict[str, str]:
    """Target -> source id of its own price list, for those of `targets` [all] that have one."""
    wanted = tuple(targets)
    return {name: rules.price_list for name, rules in catalogue.targets.items() if rules.price_list and (not wanted or name in wanted)}


def ask(wanted: Mapping[str, str], deadline: Deadline, now: datetime) -> Callable[[], list[Fetched]]:
    """Ask all these places at once (target -> source id, as `sources` gives them).

    The function returned waits for them and keeps every answer, dated `now` (UTC), for the next plans.
    """
    from planner.targets import base

    waiting = {name: deadline.start(partial(feed, deadline)) for name in wanted if (feed := base.feed(name))}

    def wait() -> list[Fetched]:
        return [_kept(name, answer, wanted[name], deadline.seconds, now) for name, answer in waiting.items()]

    return wait


def _kept(target: str, wait: Callable[[], PriceList], source: str, limit_s: float, now: datetime) -> Fetched:
    try:
        answer = wait()._replace(source=source, as_of=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    except PlanError as error:
        return Fetched(target, None, error)
    except (Late, TimeoutError):
        return Fetched(target, None, Unreachable("prices", f"{target}: no answer within {limit_s:g} s: try again later"))
    try:
        keep(answer)
    except OSError as error:
        text = f"{target}: today's prices cannot be kept ({error.filename}: {error.strerror}); check the disk and the permissions"
        return Fetched(target, answer, PlanError("prices", text))
    return Fetched(target, answer, None)


def current(catalogue: Catalogue, targets: Iterable[str] = (), fetched: Iterable[Fetched] = ()) -> tuple[Catalogue, list[tuple[str, str]]]:
    """The catalogue with the newest answers laid over it, and warnings (code, text): what failed, and what is not used.

    `fetched` is what was asked for just now; without it, and where it failed, the cached answers count.
    """
    fetched = list(fetched)
    answers = read(sources(catalogue, targets)) | {one.target: one.answer for one in fetched if one.answer is not None}
    warnings = [("price-fetch", told(one, answers).text) for one in fetched if one.error]
    warnings += [("price-unit", remark) for answer in answers.values() for remark in answer.remarks]
    return overlay.laid_over(catalogue, answers), warnings


def told(one: Fetched, answers: Mapping[str, PriceList]) -> PlanError:
    """The error of a fetch, and which prices count all the same."""
    assert one.error is not None
    held = answers.get(one.target)
    kept = "the bundled prices" if held is None else f"the prices of {held.as_of[:10]}"
    return type(one.error)(one.error.code, f"{one.error.text} (kept: {kept})")


# ------------------------------------------------------------------------------------------ keeping


def read(targets: Iterable[str]) -> dict[str, PriceList]:
    """The cached answers of these places. A file that is missing, torn or of another version is as none."""
    found = {}
    for target in targets:
        try:
            found[target] = _list(json.loads(_cached(target).read_bytes()), target)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
            continue
    return found


def keep(answer: PriceList) -> None:
    """Make it the answer that the next plans use; one that is older than what is there only enters the history."""
    _remember(answer)
    held = read([answer.target]).get(answer.target)
    if held is not None and held.as_of > answer.as_of:
        return
    path = _cached(answer.target)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(_plain(answer)) + "\n", encoding="utf-8")
    beside.replace(path)


def history() -> Path:
    """JSON lines, oldest first: at, target, source, prices (flavor -> dollars per hour or null), rates."""
    return folders.state() / "prices.jsonl"


def recorded(target: str) -> list[dict[str, Any]]:
    """The history of one place; a torn line is passed over."""
    found = []
    try:
        lines = history().read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("target") == target:
            found.append(entry)
    return found


def _remember(answer: PriceList) -> None:
    entry = {
        "at": answer.as_of, "target": answer.target, "source": answer.source,
        "prices": {quote.flavor: _text(quote.usd_per_hour) for quote in answer.quotes},
        "rates": {"core": _text(answer.usd_per_core_hour), "gib": _text(answer.usd_per_gib_hour)},
    }
    last = recorded(answer.target)
    if last and all(last[-1].get(name) == entry[name] for name in ("source", "prices", "rates")):
        return
    path = history()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        torn = b""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = b"" if file.read(1) == b"\n" else b"\n"
        file.write(torn + json.dumps(entry).encode() + b"\n")  # one write: lines of two terminals do not mix


def _cached(target: str) -> Path:
    return folders.cache() / "prices" / f"{target}.json"


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else str(usd)


def _money(text: str | None) -> Decimal | None:
    usd = None if text is None else Decimal(text)
    if usd is not None and not usd > 0:
        raise ValueError(f"{text} is no price")
    return usd


def _plain(answer: PriceList) -> dict[str, Any]:
    rows = [[_text(value) if isinstance(value, Decimal) else value for value in quote] for quote in answer.quotes]
    rates = [_text(answer.usd_per_core_hour), _text(answer.usd_per_gib_hour)]
    return {"schema": SCHEMA, "target": answer.target, "source": answer.source, "as_of": answer.as_of, "fields": Quote._fields,
            "quotes": rows, "rates": rates, "remarks": answer.remarks}


def _list(plain: dict[str, Any], target: str) -> PriceList:
    """ValueError, KeyError or TypeError where the file is not what `_plain` writes."""
    if plain["schema"] != SCHEMA or plain["target"] != target or tuple(plain["fields"]) != Quote._fields:
        raise ValueError("another version wrote it")
    quotes = tuple(Quote(row[0], _money(row[1]), *row[2:]) for row in plain["quotes"])
    core, gib = plain["rates"]
    datetime.fromisoformat(plain["as_of"].removesuffix("Z"))
    return PriceList(target, plain["source"], quotes, _money(core), _money(gib), tuple(plain["remarks"]), plain["as_of"])
