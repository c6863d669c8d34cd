"""Lines of styled text: columns that align, words that wrap, and one place that turns them into a string.

rich is imported only where escape codes are wanted: a piped plan starts faster without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from planner.show.text import ASCII, cells

Line = list[tuple[str, str]]  # (text, style); styles are rich's, colours the terminal's own named ones

#: style of text that a user copies: never wrapped, never translated
COMMAND = "bold not dim"

_NUMBER_UNIT = re.compile(r"(?<=[0-9]) (?=(?:of|[kMGT]?B|GiB|TFLOP/s|ms|s|min|h|d|×|%)\b)")
_GLUE = "\N{NO-BREAK SPACE}"


class Column(NamedTuple):
    """A column of a table; `gap` is the space before it."""

    key: str
    title: str
    right: bool = False
    gap: int = 2


def pad(text: str, width: int, right: bool = False) -> str:
    """`text` in `width` terminal columns."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def widths(columns: Sequence[Column], rows: Iterable[dict[str, str]]) -> dict[str, int]:
    """Terminal columns that each column needs for its title and every row."""
    rows = list(rows)
    return {c.key: max([cells(c.title), *(cells(row.get(c.key, "")) for row in rows)]) for c in columns}


def total_width(columns: Sequence[Column], sizes: dict[str, int]) -> int:
    """Terminal columns of a whole row."""
    return sum(column.gap + sizes[column.key] for column in columns)


def row_text(columns: Sequence[Column], sizes: dict[str, int], row: dict[str, str]) -> str:
    """One aligned row, without trailing space."""
    return "".join(
        " " * column.gap + pad(row.get(column.key, ""), sizes[column.key], column.right) for column in columns
    ).rstrip()


def title_text(columns: Sequence[Column], sizes: dict[str, int]) -> str:
    """The titles, aligned as their columns."""
    return row_text(columns, sizes, {column.key: column.title for column in columns})


def flow(items: Iterable[str], separator: str, width: int) -> list[str]:
    """Items joined by `separator`, broken only between items; an item longer than `width` keeps its line."""
    out: list[str] = []
    hanging = separator.rstrip()  # stays at the end of a broken line
    for item in items:
        if out and cells(out[-1] + separator + item + hanging) <= width:
            out[-1] += separator + item
        else:
            if out:
                out[-1] += hanging
            out.append(item)
    return out


def wrap(text: str, width: int) -> list[str]:
    """Words of `text` in lines of `width`; a number stays with its unit."""
    words = _NUMBER_UNIT.sub(_GLUE, text).split()
    return [line.replace(_GLUE, " ") for line in flow(words, " ", width)]


def labelled(label: str, texts: Sequence[str], style: str = "", label_style: str = "dim") -> list[Line]:
    """`label` once, then `texts` below each other beside it."""
    space = " " * cells(label)
    return [[(label if n == 0 else space, label_style), (text, style)] for n, text in enumerate(texts)]


def render(lines: Iterable[Line], *, colour: bool, plain: bool, ascii_only: bool = False) -> str:
    """Lines as one string ending in a newline.

    `plain` has no escape codes at all; without `colour` only bold and dim are kept (NO_COLOR).
    `ascii_only` puts ASCII in the place of symbols, and `?` for whatever else does not fit.
    """

    def shown(text: str, style: str) -> str:
        if not ascii_only:
            return text
        return (text if style == COMMAND else text.translate(ASCII)).encode("ascii", "replace").decode()

    done = [[(shown(text, style), style) for text, style in line] for line in lines]
    if plain:
        return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in done)

    from io import StringIO

    from rich.console import Console
    from rich.text import Text

    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", no_color=not colour, legacy_windows=False,
        highlight=False, markup=False, emoji=False, _environ={},
    )  # fmt: skip
    for line in done:
        console.print(Text.assemble(*line, end=""), soft_wrap=True)
    return out.getvalue()
