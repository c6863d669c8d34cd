"""`plan status RUN`: how a run is now; of one that failed, the likely cause and what mends it."""

from __future__ import annotations

import typer

from planner.commands import complete, running, terminal
from planner.commands.options import JSON, Request, takes

RUN = typer.Argument("last", metavar="RUN", help="A run's id, the beginning of one, or last.", autocompletion=complete.runs)


@takes(JSON)
def run(request: Request, name: str = RUN) -> int:
    from planner import diagnose
    from planner.show import runs

    with running.ledger() as book:
        [entry] = running.refreshed(book, [book.get(name)])
        log, cause = running.looked_up(entry)
        if request.json:
            terminal.write_json(runs.document_of([entry], running.now(), {entry.id: cause} if cause else None))
        else:
            terminal.write(runs.detail(entry, book.segments(entry.id), running.now(), cause, diagnose.tail(log), **terminal.style()))
    return 0
