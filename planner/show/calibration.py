"""Measured runs beside their predictions: what `plan calibrate` prints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from planner.calibrate import SYSTEMS, Result
from planner.show import document, lines, text
from planner.show.lines import Column, Line
from planner.units import GB, Interval

SCHEMA = "calibration/1"

_COLUMNS = (
    Column("what", "", gap=3),
    Column("measured", "measured", right=True),
    Column("predicted", "predicted P10–P90", right=True),
    Column("error", "off by", right=True),
    Column("inside", ""),
)
_LEAST_COLUMNS = 3  # in a narrow terminal


def calibration(
    results: Iterable[Result], added: frozenset[str], path: Path | None, *, width: int, colour: bool, plain: bool,
    ascii_only: bool = False,
) -> str:  # fmt: skip
    """Every log in turn. `added` are the ids that are new in the evidence at `path`; None: nothing was to be kept."""
    out: list[Line] = []
    for result in results:
        out += [*([[]] if out else []), *_log(result, width), *_kept(result, added, path, width)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _log(result: Result, width: int) -> list[Line]:
    steady = result.steady
    out: list[Line] = [[(line, "bold")] for line in lines.flow(_head(result), " · ", width)]
    windows = f"median of {steady.used} of {steady.used + steady.dropped} step times in the log, the first {steady.dropped} left out"
    out += [[(line, "dim")] for line in lines.wrap(windows, width)]
    rows = _rows(result)
    columns = [column for column in _COLUMNS if result.step is not None or column.key in ("what", "measured")]
    sizes = lines.widths(columns, rows)
    while lines.total_width(columns, sizes) > width and len(columns) > _LEAST_COLUMNS:
        columns.pop()
    out += [[], [(lines.title_text(columns, sizes), "dim")]]
    out += [[(lines.row_text(columns, sizes, row), "")] for row in rows]
    if result.samples_per_s is not None:
        out += [[(f"   {text.number(result.samples_per_s)} samples/s", "")]]
    for note in result.notes:
        out += [[(" ! " + line if n == 0 else "   " + line, "")] for n, line in enumerate(lines.wrap(text.clean(note), width - 3))]
    return out


def _head(result: Result) -> list[str]:
    log, training = result.log, result.training
    items = [text.clean(result.file), text.clean(result.policy)]
    if training is not None:
        items.append(training.variant.label)
    items.append(text.gpu_count(result.gpu, result.num_gpus))
    items.append(SYSTEMS[log.system] + (f" {log.release}" if log.release else ""))
    if result.batch_size is not None:
        items.append(f"batch {result.batch_size}")
    if training is not None:
        items.append(f"{len(training.cameras)} camera{'' if len(training.cameras) == 1 else 's'}")
    if log.steps is not None:
        items.append(f"{text.count(log.steps)} steps")
    return items


def _rows(result: Result) -> list[dict[str, str]]:
    steady, step = result.steady, result.step
    rows = [{"what": "step", "measured": text.duration(steady.step_s)}]
    if step is not None:
        rows[0] |= _beside(steady.step_s, step.seconds, text.duration(step.seconds.p50), text.duration_span(step.seconds))
    if steady.data_s is not None:
        share = steady.data_s / steady.step_s
        rows.append({"what": "  update", "measured": text.duration(steady.update_s)})
        rows.append({"what": f"  data, {share:.0%} of it", "measured": text.duration(steady.data_s)})
    if steady.vram_bytes is not None:
        rows.append({"what": "peak memory", "measured": text.gigabytes(steady.vram_bytes)})
        if result.memory is not None:
            peak = result.memory.peak
            rows[-1] |= _beside(steady.vram_bytes, peak, text.gigabytes(peak.p50), f"({peak.p10 / GB:.1f}–{peak.p90 / GB:.1f})")
    return rows


def _beside(measured: float, predicted: Interval, middle: str, span: str) -> dict[str, str]:
    error = _error(measured, predicted)
    inside = "inside" if _inside(measured, predicted) else "outside"
    return {"predicted": f"{middle} {span}".rstrip(), "error": f"{error:+.0%}".replace("-", "−"), "inside": inside}


def _error(measured: float, predicted: Interval) -> float:
    return predicted.p50 / measured - 1


def _inside(measured: float, predicted: Interval) -> bool:
    return predicted.p10 <= measured <= predicted.p90


def _kept(result: Result, added: frozenset[str], path: Path | None, width: int) -> list[Line]:
    if path is None:
        told = f"not kept, as asked; it would be {result.id}"
    elif result.id in added:
        told = f"kept as {result.id} in {path}"
    else:
        told = f"was kept before, as {result.id} in {path}; delete that entry to read the log anew"
    return [[(" " + line, "dim")] for line in lines.wrap(told, width - 1)]


def document_of(results: Iterable[Result], added: frozenset[str], path: Path | None) -> dict[str, Any]:
    """The same as JSON-ready values: seconds, GB of 10⁹ bytes, `error` as predicted ÷ measured − 1. Unknown is null."""
    return {"schema": SCHEMA, "evidence": None if path is None else str(path), "logs": [_one(result, added) for result in results]}


def _one(result: Result, added: frozenset[str]) -> dict[str, Any]:
    log, steady = result.log, result.steady
    return {
        "file": result.file,
        "id": result.id,
        "added": result.id in added,
        "scored": result.row["scored"],
        "system": log.system,
        "lerobot": log.release,
        "policy": result.policy,
        "variant": result.row.get("variant"),
        "gpu": result.gpu,
        "num_gpus": result.num_gpus,
        "batch_size": result.batch_size,
        "cameras": None if result.training is None else [[camera.width, camera.height] for camera in result.training.cameras],
        "frames": log.frames,
        "steps": log.steps,
        "as_of": log.date,
        "wall_clock_s": log.wall_clock_s,
        "windows": {"used": steady.used, "dropped": steady.dropped},
        "update_s": document.significant(steady.update_s),
        "data_s": None if steady.data_s is None else document.significant(steady.data_s),
        "loader_share": None if steady.data_s is None else document.significant(steady.data_s / steady.step_s),
        "samples_per_s": None if result.samples_per_s is None else document.significant(result.samples_per_s),
        "step_s": _compared(steady.step_s, result.step and result.step.seconds, result.step and result.step.grade, 1),
        "vram_gb": _compared(steady.vram_bytes, result.memory and result.memory.peak, result.memory and result.memory.grade, GB),
        "notes": list(result.notes),
    }


def _compared(measured: float | None, predicted: Interval | None, grade: str | None, unit: float) -> dict[str, Any] | None:
    if measured is None:
        return None
    out: dict[str, Any] = {"measured": document.significant(measured / unit), "predicted": None, "error": None, "inside": None}
    if predicted is not None:
        p10, p50, p90 = (document.significant(value / unit) for value in predicted)
        out["predicted"] = {"p10": p10, "p50": p50, "p90": p90, "grade": grade}
        out["error"] = document.significant(_error(measured, predicted))
        out["inside"] = _inside(measured, predicted)
    return out
