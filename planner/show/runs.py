"""Runs to look at: the question before a launch, the list of runs, one run with what was planned beside what it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from planner.diagnose import Cause
from planner.job import ENDED, Check
from planner.plans import Estimate, Money
from planner.reconcile import planned, running_usd
from planner.runs import REFUSED, SUBMITTING, Entry, Segment
from planner.show import document, lines, text
from planner.show.lines import Column, Line
from planner.units import Interval

SCHEMA = "runs/1"
_STATES = {SUBMITTING: "reply missing", REFUSED: "never started", "timed_out": "timed out"}
_STYLES = {"succeeded": "green", "running": "bold", "queued": "", "failed": "red", "timed_out": "red", SUBMITTING: "yellow"}


def question(estimate: Estimate) -> str:
    """`Launch on hf a10g-large: expected $2.10 (1.70–2.60), at most $3.00, stops after 2 h 0 min. Proceed? [y/N]`."""
    return f"{offer_line(estimate)} Proceed? [y/N] "


def offer_line(estimate: Estimate) -> str:
    """What a launch of this row may cost, and when it is stopped."""
    offer = estimate.offer
    if estimate.usd is None:
        money = f"expected {text.duration(estimate.wall_clock.p50)} {text.duration_span(estimate.wall_clock)}, price unknown"
        if offer.target == "local":
            money = f"expected {text.duration(estimate.wall_clock.p50)} {text.duration_span(estimate.wall_clock)} on your own machine"
    else:
        money = f"expected {text.money(estimate.usd.p50)} {text.money_span(estimate.usd)}, at most {text.at_most(estimate.usd_max)}"
    more = f" in {estimate.attempts} attempts" if estimate.attempts > 1 else ""
    return f"Launch on {offer.target} {offer.flavor}: {' '.join(money.split())}, stops after {hours_minutes(estimate.timeout_s)}{more}."


def hours_minutes(seconds: float) -> str:
    """7200 -> `2 h 0 min`: a bound is told to the minute, rounded up."""
    minutes = -int(-seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def check_lines(checks: Iterable[Check]) -> list[str]:
    """The checks that stop a launch, and those that nobody could make, a line each."""
    out = [f"error: {check.name}: {check.text}{f'; {check.fix}' if check.fix else ''}" for check in checks if check.ok is False]
    return out + [f"note: {check.name}: {check.text}" for check in checks if check.ok is None]


# ------------------------------------------------------------------------------------------ the list

_COLUMNS = (
    Column("id", "run", gap=1),
    Column("where", "where"),
    Column("state", "state"),
    Column("begun", "begun"),
    Column("time", "time", right=True),
    Column("time_off", "planned", right=True),
    Column("cost", "cost", right=True),
    Column("cost_off", "planned", right=True),
)
_DROPS = ("begun", "time_off", "where")


def listing(
    entries: Sequence[Entry], now: datetime, *, width: int, colour: bool, plain: bool, ascii_only: bool = False
) -> str:
    """Runs, newest first: what each took and cost, with what was planned and how far off that was."""
    if not entries:
        return "no run was launched from here yet: plan … --launch\n"
    rows = [_listed(entry, now) for entry in entries]
    columns = list(_COLUMNS)
    sizes = lines.widths(columns, rows)
    for key in _DROPS:
        if lines.total_width(columns, sizes) > width:
            columns = [column for column in columns if column.key != key]
    out: list[Line] = [[(lines.title_text(columns, sizes), "dim")]]
    out += [[(lines.row_text(columns, sizes, row), _STYLES.get(entry.state, ""))] for row, entry in zip(rows, entries, strict=True)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _listed(entry: Entry, now: datetime) -> dict[str, str]:
    took, usd, exact = taken_s(entry, now), spent(entry, now), entry.usd_spent is not None
    return {
        "id": entry.id, "where": f"{entry.target} {entry.flavor}", "state": _STATES.get(entry.state, entry.state),
        "begun": entry.created_at[:16].replace("T", " "),
        "time": text.duration(took) if took is not None else "", "time_off": _beside(took, planned(entry, "wall_clock_s", "p50"),
                                                                                     text.duration, entry),
        "cost": "" if usd is None else text.money(usd) if exact else f"≈ {text.money(usd)}",
        "cost_off": _beside(None if usd is None else float(usd), planned(entry, "usd", "p50"), _dollars, entry),
    }  # fmt: skip


def _dollars(value: float) -> str:
    return text.money(Decimal(str(value)))


def _beside(actual: float | None, plan: float | None, shown: Any, entry: Entry) -> str:
    """The planned figure, and of a run that succeeded how far it was off the real one: `2.1 h +5%`."""
    if plan is None:
        return ""
    off = f" {100 * (plan / actual - 1):+.0f}%" if entry.state == "succeeded" and actual else ""
    return f"{shown(plan)}{off}"


def taken_s(entry: Entry, now: datetime) -> float | None:
    """Seconds of all segments, to the end or to now; what the place measured counts more than this machine's clock."""
    if entry.state == REFUSED or entry.state == SUBMITTING and not entry.actual:
        return None
    actual = entry.actual or {}
    earlier = float(actual.get("earlier_waiting_s") or 0.0) + float(actual.get("earlier_running_s") or 0.0)
    if actual.get("running_s") is not None:
        return earlier + float(actual["running_s"]) + float(actual.get("waiting_s") or 0.0)
    end = datetime.fromisoformat(entry.ended_at) if entry.ended_at else now
    return earlier + (end - datetime.fromisoformat(actual.get("resumed_at") or entry.created_at)).total_seconds()


def spent(entry: Entry, now: datetime) -> Decimal | None:
    """The bill, else the time it ran at the planned price."""
    if entry.usd_spent is not None or entry.state in (REFUSED, SUBMITTING, "queued"):  # waiting is not billed
        return entry.usd_spent
    actual = entry.actual or {}
    running = actual.get("running_s")
    if running is None:
        return running_usd(entry, taken_s(entry, now))
    return running_usd(entry, float(running) + float(actual.get("earlier_running_s") or 0.0))


# ------------------------------------------------------------------------------------------ one run


def detail(
    entry: Entry, segments: Sequence[Segment], now: datetime, cause: Cause | None = None, tail: Sequence[str] = (), *,
    width: int, colour: bool, plain: bool, ascii_only: bool = False,
) -> str:  # fmt: skip
    """One run: where it is, what it took beside what was planned, and what its end says."""
    out: list[Line] = [[(f"{entry.id} · {entry.target} {entry.flavor} · ", ""),
                        (_STATES.get(entry.state, entry.state), _STYLES.get(entry.state, ""))]]  # fmt: skip
    url = (entry.handle or {}).get("url")
    if url:
        out.append([(url, "dim")])
    taken, usd = taken_s(entry, now), spent(entry, now)
    said = text.duration(taken)
    out.append([(f"{'time':9}", "dim"), (f"{said:12}", ""), (_planned_time(entry), "dim")])
    said = text.money(usd) if usd is None or entry.usd_spent is not None else f"≈ {text.money(usd)}"
    out.append([(f"{'cost':9}", "dim"), (f"{said:12}", ""), (_planned_cost(entry), "dim")])
    if entry.usd_max is not None:
        out.append([(f"{'at most':9}", "dim"), (text.at_most(entry.usd_max), "")])
    step, expected = (entry.actual or {}).get("step_s"), planned(entry, "step_s", "p50")
    if step:
        plan = f"planned {text.duration(expected)}, off by {100 * (expected / step - 1):+.0f}%" if expected else ""
        out.append([(f"{'step':9}", "dim"), (f"{text.duration(step):12}", ""), (plan, "dim")])
    memory, expected = (entry.actual or {}).get("vram_bytes"), planned(entry, "vram_gb", "p50")
    if memory:
        plan = f"planned {expected:.1f} GB" if expected else ""
        out.append([(f"{'memory':9}", "dim"), (f"{text.gigabytes(memory):12}", ""), (plan, "dim")])
    if len(segments) > 1:
        out.append([(f"{'segments':9}", "dim"), (", ".join(f"{one.number} {one.state}" for one in segments), "")])
    if entry.message:
        out += lines.labelled(f"{'said':9}", lines.wrap(text.clean(entry.message), width - 9))
    if tail:
        out += [[], [("the last lines of its log", "dim")], *([(f"  {text.clean(line)[: width - 2]}", "")] for line in tail)]
    if cause:
        out += [[], [("likely cause  ", "bold"), (cause.text, "")], [("what to do    ", "bold"), (cause.fix, "")]]
    commands = _next(entry)
    out += [[]] * bool(commands) + [[(f"{what:15}", "dim"), (command, lines.COMMAND)] for what, command in commands]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _planned_time(entry: Entry) -> str:
    span = planned(entry, "wall_clock_s")
    return f"planned {text.duration(span['p50'])} {text.duration_span(Interval(**span))}".rstrip() if span else ""


def _planned_cost(entry: Entry) -> str:
    span = planned(entry, "usd")
    if not span:
        return ""
    usd = Money(**{name: Decimal(str(value)) for name, value in span.items()})
    return f"planned {text.money(usd.p50)} {text.money_span(usd)}".rstrip()


def _next(entry: Entry) -> list[tuple[str, str]]:
    if entry.state == "succeeded":
        return [("get the model", f"plan fetch {entry.id}")]
    if entry.state in ENDED:
        return [("its log", f"plan logs {entry.id}"), ("go on with it", f"plan resume {entry.id}")]
    if entry.state == SUBMITTING:
        return [("look again", f"plan status {entry.id}")]
    if entry.state == REFUSED:
        return []
    return [("come back", f"plan logs {entry.id} --follow"), ("stop it", f"plan cancel {entry.id}")]


# ------------------------------------------------------------------------------------------ JSON


def document_of(entries: Sequence[Entry], now: datetime, causes: dict[str, Cause] | None = None) -> dict[str, Any]:
    """Runs as JSON-ready values: `runs/1`."""
    return {"schema": SCHEMA, "runs": [_json(entry, now, (causes or {}).get(entry.id)) for entry in entries], "error": None}


def _json(entry: Entry, now: datetime, cause: Cause | None) -> dict[str, Any]:
    taken = taken_s(entry, now)
    return {
        "id": entry.id, "group": entry.group, "target": entry.target, "flavor": entry.flavor, "state": entry.state,
        "created_at": entry.created_at, "ended_at": entry.ended_at, "handle": entry.handle, "message": entry.message,
        "taken_s": None if taken is None else document.significant(taken), "usd_spent": document.usd(entry.usd_spent),
        "usd_running": document.usd(spent(entry, now)), "usd_max": document.usd(entry.usd_max),
        "planned": {key: planned(entry, key) for key in ("wall_clock_s", "usd", "step_s", "vram_gb", "startup_s")},
        "actual": entry.actual, "cause": cause and {"code": cause.code, "text": cause.text, "fix": cause.fix},
    }  # fmt: skip
