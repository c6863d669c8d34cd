"""A backtest to look at: errors and interval coverage by group, the misses, what could not be scored."""

from __future__ import annotations

from collections import Counter
from typing import Any

from planner.backtest import Backtest, Score, summaries
from planner.show import lines
from planner.show.lines import Column, Line
from planner.units import GB

MISS = 0.5  # relative error above which a run is listed
_COLUMNS = (
    Column("quantity", "", gap=1),
    Column("group", ""),
    Column("scores", "runs", right=True),
    Column("median", "median off", right=True),
    Column("p90", "9 of 10 within", right=True),
    Column("inside", "in P10–P90", right=True),
    Column("spread", "P90/P10", right=True),
)
_RUN_COLUMNS = (
    Column("id", "run", gap=1),
    Column("policy", "policy"),
    Column("gpu", "GPU"),
    Column("batch", "batch", right=True),
    Column("quantity", ""),
    Column("measured", "measured", right=True),
    Column("predicted", "predicted", right=True),
    Column("error", "off by", right=True),
    Column("grade", "grade"),
)
_GRADES = ("all", "measured", "scaled", "modelled")


def scores(found: Backtest, *, show_all: bool, width: int, colour: bool, plain: bool, ascii_only: bool = False) -> str:
    """The table by quantity and grade, with `show_all` also by policy and GPU and every run; then verdicts and what is missing."""
    groups = [group for group in summaries(found.scores) if show_all or group.group in _GRADES]
    rows = [{
        "quantity": group.quantity, "group": group.group, "scores": str(group.scores), "median": f"{group.median_error:.0%}",
        "p90": f"{group.p90_error:.0%}", "inside": f"{group.inside / group.scores:.0%}", "spread": f"{group.median_spread:.1f}",
    } for group in groups]
    out = _table(_COLUMNS, rows)
    listed = [score for score in found.scores if show_all or abs(score.error) > MISS]
    if listed:
        title = " every run" if show_all else " off by more than half"
        out += [[], [(title, "bold")], *_table(_RUN_COLUMNS, [_row(score) for score in listed])]
    out += [[], *_verdicts(found, width), *_missing(found, width, show_all)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def document(found: Backtest) -> dict[str, Any]:
    """The same for a program: every score, verdict and unscorable row."""
    return {
        "schema": "backtest/1",
        "rows": len(found.scored_runs) + len(found.unscorable),
        "summaries": [summary._asdict() for summary in summaries(found.scores)],
        "scores": [{
            "id": score.run.id, "policy": score.run.policy, "gpu": score.run.gpu, "num_gpus": score.run.num_gpus,
            "batch_size": score.run.batch_size, "quantity": score.quantity, "unit": "bytes" if score.quantity == "memory" else "s",
            "measured": score.measured, "predicted": dict(zip(("p10", "p50", "p90"), score.predicted, strict=True)),
            "error": round(score.error, 6), "inside": score.inside, "grade": score.grade, "source": score.run.source,
        } for score in found.scores],
        "verdicts": [{
            "id": verdict.run.id, "says_fits": verdict.says_fits, "fitted": verdict.fitted, "free": verdict.margin,
        } for verdict in found.verdicts],
        "unscorable": [{"id": run.id, "lacks": why} for run, why in found.unscorable],
    }


def _table(columns: tuple[Column, ...], rows: list[dict[str, str]]) -> list[Line]:
    sizes = lines.widths(columns, rows)
    return [[(lines.title_text(columns, sizes), "dim")], *([(lines.row_text(columns, sizes, row), "")] for row in rows)]


def _row(score: Score) -> dict[str, str]:
    def shown(value: float) -> str:
        return f"{value / GB:.1f} GB" if score.quantity == "memory" else f"{value:,.3g} s" if value < 100 else f"{value:,.0f} s"

    count = f"{score.run.num_gpus} × " if (score.run.num_gpus or 1) > 1 else ""
    return {
        "id": score.run.id, "policy": score.run.policy, "gpu": f"{count}{score.run.gpu}", "batch": str(score.run.batch_size),
        "quantity": score.quantity, "measured": shown(score.measured), "predicted": shown(score.predicted.p50),
        "error": f"{score.error:+.0%}", "grade": score.grade,
    }


def _verdicts(found: Backtest, width: int) -> list[Line]:
    false_fits = [verdict.run.id for verdict in found.verdicts if verdict.says_fits and not verdict.fitted]
    false_alarms = [
        verdict.run.id for verdict in found.verdicts
        if not verdict.says_fits and verdict.fitted and verdict.margin is not None and verdict.margin > 0.1
    ]
    text = (f"{len(found.verdicts)} verdicts: {len(false_fits)} said `fits` of a run that ran out of memory{_named(false_fits)}, "
            f"{len(false_alarms)} said `does not fit` of one that had more than a tenth to spare{_named(false_alarms)}.")
    return [[(f" {line}", "")] for line in lines.wrap(text, width - 1)]


def _named(ids: list[str]) -> str:
    return f" ({', '.join(ids)})" if ids else ""


def _missing(found: Backtest, width: int, show_all: bool) -> list[Line]:
    rows = len(found.scored_runs) + len(found.unscorable)
    fields = Counter(why.partition(":")[0] for _, why in found.unscorable)
    by_field = ": " + ", ".join(f"{name} {count}" for name, count in fields.most_common()) if len(fields) <= 12 else ""
    text = f"{len(found.scored_runs)} of {rows} rows scored; {len(found.unscorable)} lack what a prediction needs{by_field}."
    text += "" if show_all else " --all: by policy and GPU, and every run; --json: what each lacks."
    return [[(f" {line}", "dim")] for line in lines.wrap(text, width - 1)]
