"""Prices side by side: bundled and live, what a plan uses, and the rules by which they are billed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from planner.overlay import RATES, Change
from planner.pricebook import Entry, Line, PriceBook
from planner.show import lines, text
from planner.show.lines import Column
from planner.units import GB

_COLUMNS = (
    Column("what", "flavor", gap=3),
    Column("gpu", "GPU"),
    Column("bundled", "bundled", right=True),
    Column("live", "live", right=True),
    Column("difference", "change", right=True),
    Column("note", ""),
)


def table(book: PriceBook, *, width: int, colour: bool, plain: bool, ascii_only: bool = False) -> str:
    """The prices by place for a terminal of `width` columns, ending in a newline."""
    out: list[lines.Line] = []
    for target, title in book.targets:
        own = [line for line in book.lines if line.target == target]
        rules = [rule for place, rule in book.rules if place == target]
        out.append([(f"{title}, $/h", "bold")])
        out += [[("   " + words, "dim")] for words in lines.flow(_origin(own), " · ", width - 3)]
        out += _rows(own, width)
        if any(line.gone for line in own):
            out += _dim("gone: not offered any more", width)
        items = [f"{rule.name} {rule.value} ({rule.source}, {rule.as_of})" for rule in rules]
        out += lines.labelled("   rules: ", lines.flow(items, ", ", width - 10), "dim")
        out.append([])
    out += _changes(book, width)
    for _, warning in book.warnings:
        out += lines.labelled(" ! ", lines.wrap(text.clean(warning), width - 3), label_style="yellow")
    while out and not out[-1]:
        out.pop()
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _dim(words: str, width: int) -> list[lines.Line]:
    return [[("   " + line, "dim")] for line in lines.wrap(words, width - 3)]


def _origin(own: list[Line]) -> list[str]:
    """Source and date of both sides, once for all lines that share them."""
    parts = []
    for side in ("bundled", "live"):
        entries: list[Entry] = [entry for line in own if (entry := getattr(line, side)) is not None and entry.usd_per_hour is not None]
        found = dict.fromkeys((entry.method, entry.source, entry.as_of) for entry in entries)
        words = [f"{source}, {as_of}{' (yours)' if method == 'user' else ''}" for method, source, as_of in found]
        parts.append(f"{side}: {'; '.join(words) if words else 'never fetched: plan prices --refresh' if side == 'live' else 'none'}")
    return parts


def _rows(own: list[Line], width: int) -> list[lines.Line]:
    rows = [_row(line) for line in own]
    columns = [column for column in _COLUMNS if any(row.get(column.key) for row in rows)]
    fixed = [column for column in columns if column.key != "note"]
    sizes = lines.widths(fixed, rows)
    if lines.total_width(fixed, sizes) > width:
        fixed = [column for column in fixed if column.key != "gpu"]
    out: list[lines.Line] = [[(lines.title_text(fixed, sizes), "dim")]]
    for line, row in zip(own, rows, strict=True):
        shown, style = lines.row_text(fixed, sizes, row), "" if line.used is not None and line.used.usd_per_hour is not None else "dim"
        used = lines.total_width(fixed, sizes) + 2
        if row["note"] and used + text.cells(row["note"]) <= width:
            shown = lines.pad(shown, used) + row["note"]
        out.append([(shown, style)])
        if row["note"] and used + text.cells(row["note"]) > width:
            out += [[("       " + words, "dim")] for words in lines.wrap(row["note"], width - 7)]
    return out


def _row(line: Line) -> dict[str, str]:
    return {
        "what": text.clean(line.what),
        "gpu": _gpu(line),
        "bundled": _side(line.bundled),
        "live": "gone" if line.gone else _side(line.live),
        "difference": percent(line.share),
        "note": "" if line.gone else text.clean(line.note),
    }


def _gpu(line: Line) -> str:
    if line.what in RATES:
        return ""
    if line.gpu is None or line.num_gpus is None:
        return text.clean(line.gpu or text.UNKNOWN)
    known = line.gpu.islower() or not line.num_gpus  # ids are; the place's own words are shown as they come
    return text.clean(text.gpu_count(line.gpu, line.num_gpus) if known else f"{line.num_gpus} × {line.gpu}")


def _side(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return text.UNKNOWN if entry.usd_per_hour is None else price(entry.usd_per_hour)


def price(usd: Decimal) -> str:
    """Dollars per hour: cents, or two significant digits below ten cents, up to six decimals."""
    if usd >= Decimal("0.1"):
        return f"{usd.quantize(text.CENT):,}"
    return f"{usd.quantize(Decimal('0.000001')).normalize():f}"


def percent(share: Decimal | None) -> str:
    """A change in percent; `=` below half of one, which is how a price per minute rounds."""
    if share is None:
        return ""
    return "=" if abs(share) < Decimal("0.005") else f"{'+' if share > 0 else '−'}{abs(share):,.0%}".replace("%", " %")


def _changes(book: PriceBook, width: int) -> list[lines.Line]:
    """What the refresh found: old → new, or that nothing changed."""
    if not book.refreshed:
        return []
    out: list[lines.Line] = [[("Changed since the last answer", "bold")]] if book.changes else []
    for change in book.changes:
        out += _dim(_change(change), width)
    same = [place for place in book.refreshed if not any(change.target == place for change in book.changes)]
    if same:
        out += _dim(f"{', '.join(same)}: fetched, no price changed", width)
    return [*out, []]


def _change(change: Change) -> str:
    old, new = (text.UNKNOWN if usd is None else f"${price(usd)}" for usd in (change.before, change.after))
    where = f"{change.target} {text.clean(change.what)}"
    if change.note == "new":
        return f"{where}: new, {new}"
    if change.note:
        return f"{where}: {change.note} (was {old})"
    return f"{where}: {old} → {new}{f' ({percent(change.share)})' if change.share is not None else ''}"


def document(book: PriceBook) -> dict[str, Any]:
    """The prices as JSON-ready values: US dollars per hour, of one GPU, core or GiB where those are sold singly."""
    first = book.errors[0][1] if book.errors else None
    return {
        "schema": "prices/1",
        "prices": [_line(line) for line in book.lines],
        "rules": [{"target": target, **rule._asdict()} for target, rule in book.rules],
        "refreshed": list(book.refreshed),
        "changes": [
            {"target": one.target, "what": one.what, "before": usd(one.before), "after": usd(one.after), "note": one.note}
            for one in book.changes
        ],
        "warnings": [{"code": code, "text": words} for code, words in book.warnings],
        "errors": [{"target": target, "code": error.code, "text": error.text} for target, error in book.errors],
        "error": first and {"code": first.code, "text": first.text},
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "target": line.target,
        "what": line.what,
        "gpu": line.gpu,
        "num_gpus": line.num_gpus,
        "vram_gb": None if line.vram_bytes is None else round(line.vram_bytes / GB, 3),
        "bundled": _entry(line.bundled),
        "live": _entry(line.live),
        "used": _entry(line.used),
        "difference": usd(line.difference),
        "note": line.note,
    }


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"usd_per_hour": usd(entry.usd_per_hour), "source": entry.source, "as_of": entry.as_of, "method": entry.method}


def usd(value: Decimal | None) -> float | None:
    """Dollars with at most six decimals, as rates need them."""
    return None if value is None else float(str(value.quantize(Decimal("0.000001"))))
