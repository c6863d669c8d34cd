"""Reading the values of flags: each reader returns the value or raises UsageError with one clear line."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from planner.errors import UsageError

Reader = Callable[[str], Any]

_WHOLE = re.compile(r"[0-9][0-9_]*", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|sec|m|min|h|d|)", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

MAX_TIMEOUT_S = 30 * 86400


def count(flag: str, most: int) -> Reader:
    """A whole number from 1 to `most`."""

    def read(text: str) -> int:
        text = text.strip()
        if not _WHOLE.fullmatch(text):
            number = _number(text)
            if number is not None and number == number.to_integral_value() and 1 <= number <= most:
                raise _usage(f"{flag} takes a whole number: write {int(number)}, not {_shown(text)}")
            if number is not None and number < 1:
                raise _usage(f"{flag} must be at least 1, got {_shown(text)}")
            if number is not None and number > most:
                raise _usage(f"{flag} must be at most {most:,}, got {_shown(text)}")
            plain = text.replace(",", "")
            hint = f": write {plain}" if _WHOLE.fullmatch(plain) else f", got {_shown(text)}; write it like 100 or 20000"
            raise _usage(f"{flag} takes a whole number{hint}")
        digits = text.replace("_", "").lstrip("0")
        if not digits:
            raise _usage(f"{flag} must be at least 1, got {_shown(text)}")
        if len(digits) > len(str(most)) or int(digits) > most:
            raise _usage(f"{flag} must be at most {most:,}, got {_shown(text)}")
        return int(digits)

    return read


def number(flag: str, most: float, unit: str) -> Reader:
    """A number above 0 and at most `most`, of `unit`."""

    def read(text: str) -> float:
        value = _number(text.strip())
        if value is None:
            raise _usage(f"{flag} takes a number of {unit}, got {_shown(text)}; write it like 0.5 or 30")
        if not 0 < value <= Decimal(str(most)) or float(value) == 0.0:
            raise _usage(f"{flag} must be above 0 and at most {most:,} {unit}, got {_shown(text)}")
        return float(value)

    return read


def dollars(flag: str, most: int) -> Reader:
    """An amount of dollars above 0, exact."""

    def read(text: str) -> Decimal:
        value = _number(text.strip().removeprefix("$"))
        if value is None:
            raise _usage(f"{flag} takes dollars, got {_shown(text)}; write it like 5 or 12.50")
        if not 0 < value <= most:
            raise _usage(f"{flag} must be above 0 and at most {most:,} dollars, got {_shown(text)}")
        return value

    return read


def duration(flag: str) -> Reader:
    """`4h`, `90m`, `2d` or plain seconds -> whole seconds."""

    def read(text: str) -> int:
        match = _DURATION.fullmatch(text.strip().lower())
        if match is None:
            raise _usage(f"{flag} takes a time such as 4h, 90m, 2d or 3600 (seconds), got {_shown(text)}")
        seconds = Decimal(match.group(1)) * _SECONDS[match.group(2)]
        if not 60 <= seconds <= MAX_TIMEOUT_S:
            raise _usage(f"{flag} must be from 60 seconds to 30 days, got {_shown(text)}")
        return int(seconds)

    return read


def choice(flag: str, names: tuple[str, ...]) -> Reader:
    """One of a few names."""

    def read(text: str) -> str:
        if text in names:
            return text
        raise _usage(f"{flag} must be {_either(names)}, got {_shown(text)}{nearest(text, names)}")

    return read


def text(flag: str) -> Reader:
    """Any text but none at all."""

    def read(value: str) -> str:
        if not value.strip():
            raise _usage(f"{flag} is empty: give it a value, or leave it out")
        return value

    return read


def repository(flag: str) -> Reader:
    """A repository of the Hub: owner/name."""

    def read(value: str) -> str:
        if not _REPOSITORY.fullmatch(value):
            raise _usage(f"{flag} takes USER/NAME of a Hub repository, got {_shown(value)}")
        return value

    return read


def name(flag: str) -> Reader:
    """The name of something at a provider, such as a volume: safe in a command, a script and a path."""

    def read(value: str) -> str:
        if not _NAME.fullmatch(value):
            raise _usage(f"{flag} takes a name of letters, digits, `-`, `_` and `.`, got {_shown(value)}")
        return value

    return read


def nearest(name: str, names: tuple[str, ...] | list[str]) -> str:
    """`; did you mean a or b?`, or nothing where no name is close."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), names, 2, 0.65)
    return f"; did you mean {_either(near)}?" if near else ""


def _either(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _number(text: str) -> Decimal | None:
    """A finite decimal number; None for NaN, infinities, fractions and words."""
    if len(text) > 100 or not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _shown(text: str) -> str:
    """The value as an error quotes it: short, on one line, in quotes where it has to be."""
    plain = text.isprintable() and text.strip() and " " not in text
    quoted = text if plain else repr(text)
    return quoted if len(quoted) <= 60 else quoted[:57] + "..."


def _usage(text: str) -> UsageError:
    return UsageError("usage", text)
