"""What the commands for launched runs share: the ledger with its unsettled rows looked after, and one run followed to its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from planner import diagnose, follow, reconcile
from planner.commands import terminal
from planner.errors import PlanError, RunFailed
from planner.job import Status, restored
from planner.runs import Entry, Ledger
from planner.targets import base

if TYPE_CHECKING:
    from planner.estimate import Estimator
    from planner.reconcile import Ended


def now() -> datetime:
    return datetime.now(timezone.utc)


def ledger() -> Ledger:
    """The ledger, after launches whose reply was lost have been looked for."""
    from planner import launch

    opened = Ledger()
    for settled in launch.recover(opened, base.get, now()):
        found = "was found" if settled.handle else "was never taken"
        terminal.note(f"note: {settled.id}, whose reply was lost, {found} on {settled.target}")
    return opened


def refreshed(book: Ledger, entries: Sequence[Entry], *, learn: bool = True) -> list[Entry]:
    """The entries as their places say they are now; who does not answer is left as it was, with a note."""
    out = []
    for entry in entries:
        if entry.live and entry.handle is not None:
            target = base.get(entry.target)
            try:
                status = target.status(entry.handle)
            except PlanError as error:
                terminal.note(f"note: {entry.id} is shown as it was last seen: {error.text}")
            else:
                entry = settle(book, entry, status, learn=learn).entry if status.ended else book.update(entry.id, state=status.state)
        out.append(entry)
    return out


def settle(book: Ledger, entry: Entry, status: Status, *, learn: bool = True, peak_bytes: int | None = None) -> Ended:
    """The end of a run, written down beside its plan; its measurement joins the user's evidence unless `learn` is off."""
    from planner import catalogue, ownruns

    ended = reconcile.finish(entry, status, base.get(entry.target), book, _estimator(), now(), peak_bytes)
    if learn and ended.evidence:
        try:
            ownruns.add(ended.evidence, catalogue.user_dir())
        except (PlanError, OSError) as error:  # the run's end is what counts; its measurement can be read again
            terminal.note(f"note: the measurement was not kept: {error}")
    return ended


def _estimator() -> Estimator:
    from planner import catalogue
    from planner.estimate import Estimator
    from planner.evidence import load_calibration

    known = catalogue.load()
    return Estimator(known, load_calibration(known, catalogue.data_dir()))


def watch(book: Ledger, entry: Entry, *, learn: bool = True, quiet: bool = False) -> int:
    """Follow a run to its end, on stderr; Ctrl-C leaves it running and says how to come back. The exit code.

    Raises RunFailed where it failed or timed out.
    """
    try:
        return _watch(book, entry, learn, quiet)
    except KeyboardInterrupt:
        return left(entry.id)
    except RunFailed:
        raise
    except PlanError:  # the place does not answer any more
        left(entry.id)
        raise


def left(run: str) -> int:
    """Somebody stopped following: what becomes of the run, and how to come back."""
    with Ledger() as book:
        if not book.get(run).live:
            terminal.note(f"{run} has ended: plan status {run} shows how")
            return 0
    terminal.note(f"left running: plan logs {run} --follow comes back to it, plan cancel {run} stops it")
    return 0


def _watch(book: Ledger, entry: Entry, learn: bool, quiet: bool) -> int:
    assert entry.handle is not None
    target = base.get(entry.target)
    peak: int | None = None
    status: Status | None = None
    with _display(entry, quiet) as display:
        for event in follow.events(target, entry.handle):
            if isinstance(event, str):
                display.line(event)
                continue
            status = event
            if status.ended or status.state == "unknown":
                break
            display.status(status)
            entry = book.update(entry.id, state=status.state)
            with suppress(PlanError):
                usage = target.usage(entry.handle)  # type: ignore[arg-type]
                if usage and usage.vram_bytes:
                    peak = max(peak or 0, usage.vram_bytes)
    assert status is not None
    if status.state == "unknown":
        terminal.note(f"note: {entry.target} does not know {entry.id} any more: plan status {entry.id} looks again")
        return 0
    ended = settle(book, entry, status, learn=learn, peak_bytes=peak)
    return report(book, ended.entry, ended.lines)


def report(book: Ledger, entry: Entry, log: Sequence[str]) -> int:
    """Print how a run ended; RunFailed where it failed or timed out."""
    from planner.show import runs

    why = cause_of(entry, log)
    bad = entry.state in ("failed", "timed_out")
    text = runs.detail(entry, book.segments(entry.id), now(), why, diagnose.tail(log) if bad else (), **_error_style())
    print(text, end="", file=sys.stderr)
    if bad:
        what = f"{why.text}; {why.fix}" if why else f"plan logs {entry.id} shows what it printed"
        raise RunFailed("run-" + entry.state.replace("_", "-"), f"{entry.id} {entry.state.replace('_', ' ')}: {what}")
    return 0


def looked_up(entry: Entry) -> tuple[list[str], diagnose.Cause | None]:
    """The log of a run that failed, asked for again, and what it says of the cause; nothing of any other."""
    if entry.state not in ("failed", "timed_out"):
        return [], None
    log = reconcile.log_of(base.get(entry.target), entry)
    return log, cause_of(entry, log)


def cause_of(entry: Entry, log: Sequence[str]) -> diagnose.Cause | None:
    status = Status(entry.state, entry.message, exit_code=(entry.actual or {}).get("exit_code"))
    return diagnose.cause(log, status, restored(entry.job))


def _error_style() -> dict[str, Any]:
    """As terminal.style, for stderr."""
    from planner.show.text import encodable

    plain = not sys.stderr.isatty()
    return {"width": terminal.width(), "colour": not plain and terminal.colour(), "plain": plain,
            "ascii_only": not encodable(sys.stderr.encoding)}  # fmt: skip


def _display(entry: Entry, quiet: bool) -> Any:
    from planner.show.progress import Bar, Plain, Silent

    if quiet:
        return Silent()
    return Bar(entry, now) if sys.stderr.isatty() else Plain()
