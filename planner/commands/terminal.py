"""Where output goes: data on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.plans import Plan

WIDTH_WHEN_PIPED = 120
NARROWEST = 40


def width() -> int:
    """Columns of the terminal, or COLUMNS, or 120 when stdout is no terminal."""
    import shutil

    return max(NARROWEST, shutil.get_terminal_size((WIDTH_WHEN_PIPED, 24)).columns)


def plain() -> bool:
    """Whether stdout is a pipe, a file or a terminal without any control sequences."""
    return not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"


def colour() -> bool:
    return not plain() and not os.environ.get("NO_COLOR")


def style() -> dict[str, Any]:
    """Keyword arguments of every function of planner.show that draws for a terminal."""
    from planner.show.text import encodable

    return {"width": width(), "colour": colour(), "plain": plain(), "ascii_only": not encodable(sys.stdout.encoding)}


def write(text: str) -> None:
    """Data to stdout, in its own encoding. A reader that has seen enough (`plan | head`) is no error."""
    if not text.endswith("\n"):
        text += "\n"
    _write(text.encode(sys.stdout.encoding or "utf-8", "replace"))


def write_command(text: str) -> None:
    """A command or script for another program: UTF-8, with the bytes of argv as they came."""
    _write((text if text.endswith("\n") else text + "\n").encode("utf-8", "surrogateescape"))


def write_json(plan: Plan | dict[str, Any]) -> None:
    """A plan or another document as JSON, which is UTF-8 whatever the locale says."""
    from planner.show import document

    _write(document.dump(plan).encode("utf-8", "backslashreplace"))


def note(text: str) -> None:
    """One line for the person, on stderr."""
    if sys.stderr is not None:  # closed by the caller (`2>&-`): print would turn to stdout
        print(one_line(text), file=sys.stderr)


def one_line(text: str) -> str:
    """`text` without line breaks or control characters, which a quoted value could smuggle in."""
    joined = " ".join(text.split("\n"))
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in joined)


def _write(data: bytes) -> None:
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Point stdout elsewhere, or the interpreter complains again when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
