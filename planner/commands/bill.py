"""`plan bill [RUN]`: what a run cost by the place's own account, beside what was planned."""

from __future__ import annotations

from planner.commands import running, terminal
from planner.commands.options import JSON, Request, takes
from planner.commands.status import RUN


@takes(JSON)
def run(request: Request, name: str = RUN) -> int:
    from planner import reconcile
    from planner.show import runs
    from planner.targets import base

    with running.ledger() as book:
        [entry] = running.refreshed(book, [book.get(name)])
        if entry.handle is not None:
            billed = reconcile.billed(base.get(entry.target), entry, book)
            if billed is not None:
                entry = book.update(entry.id, usd_spent=billed)
        if request.json:
            terminal.write_json(runs.document_of([entry], running.now()))
        else:
            terminal.write(runs.detail(entry, book.segments(entry.id), running.now(), **terminal.style()))
            if entry.usd_spent is None:
                own = entry.target == "local"
                terminal.note("note: nobody bills your own machine" if own else
                              f"note: {entry.target} does not say yet what it billed; ≈ is the time it ran at the planned price")
    return 0
