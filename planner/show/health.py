"""The answers of `plan doctor`: one line a check, and below it what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.doctor import STATUSES, Check
from planner.show import lines, text
from planner.show.lines import COMMAND, Line

#: status -> its word in the table; symbols alone would be lost where colours and fonts are
_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red"), "unknown": ("?", "dim")}
_TITLES = {"here": "This machine", "hf": "Hugging Face", "modal": "Modal"}


def checks(found: Sequence[Check], *, width: int, colour: bool, plain: bool, ascii_only: bool = False) -> str:
    """The checks by place; words wrap, and what mends a thing stands below it."""
    out: list[Line] = []
    for place in dict.fromkeys(check.place for check in found):
        out.append([(_TITLES.get(place, place), "bold")])
        for names, check in _alike([one for one in found if one.place == place]):
            out += _check(names, check, width)
    counts = [f"{number} {_MARKS[status][0]}" for status in STATUSES if (number := sum(one.status == status for one in found))]
    out += [[], [(" · ".join(counts), "dim")]]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _alike(found: Sequence[Check]) -> list[tuple[str, Check]]:
    """(names, check): what fails in the same words, as everything at a place that is down, is said once."""
    groups: dict[tuple[str, ...], list[Check]] = {}
    for number, check in enumerate(found):
        words = (check.status, check.text, check.fix)
        groups.setdefault(words if check.status == "fail" else (*words, str(number)), []).append(check)
    return [(", ".join(check.name for check in group), group[0]) for group in groups.values()]


def _check(names: str, check: Check, width: int) -> list[Line]:
    mark, style = _MARKS[check.status]
    label = f" {lines.pad(mark, 4)}  "
    words = lines.wrap(text.clean(f"{names}: {check.text}"), max(20, width - len(label)))
    out = lines.labelled(label, words, "", style)
    if check.fix and check.status != "ok":
        out += lines.labelled(" " * len(label) + "→ ", lines.wrap(text.clean(check.fix), max(20, width - len(label) - 2)), COMMAND)
    return out


def document(found: Sequence[Check], exit_code: int) -> dict[str, Any]:
    """The checks as JSON-ready values."""
    return {
        "schema": "doctor/1",
        "checks": [
            {"place": one.place, "name": one.name, "status": one.status, "text": one.text, "fix": one.fix or None} for one in found
        ],
        "exit_code": exit_code,
    }
