"""`plan cancel RUN`: stop a run."""

from __future__ import annotations

from planner.commands import running, terminal
from planner.commands.options import Request, takes
from planner.commands.status import RUN
from planner.errors import UsageError


@takes()
def run(request: Request, name: str = RUN) -> int:
    from planner.targets import base

    with running.ledger() as book:
        entry = book.get(name)
        if not entry.live:
            terminal.note(f"{entry.id} has ended before: {entry.state.replace('_', ' ')}")
            return 0
        if entry.handle is None:
            raise UsageError("run", f"{entry.id} is not found on {entry.target} yet: plan status {entry.id} looks for it")
        base.get(entry.target).cancel(entry.handle)
        [after] = running.refreshed(book, [entry])
        done = after.state.replace("_", " ") if not after.live else "asked to stop; plan status says when"
        terminal.note(f"{entry.id}: {done}")
    return 0
