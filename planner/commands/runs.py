"""`plan runs`: every run that was launched from here, with what was planned beside what it took."""

from __future__ import annotations

import typer

from planner.commands import running, terminal
from planner.commands.options import JSON, Request, takes


@takes(JSON)
def run(
    request: Request,
    most: int = typer.Option(20, "-n", "--number", metavar="N", min=1, help="How many, newest first."),
    offline: bool = typer.Option(False, "--offline", help="As they were last seen; ask no place.", show_default=False),
) -> int:
    from planner.runs import Ledger
    from planner.show import runs

    with Ledger() if offline else running.ledger() as book:
        entries = book.newest(most)
        entries = entries if offline else running.refreshed(book, entries)
    if request.json:
        terminal.write_json(runs.document_of(entries, running.now()))
    else:
        terminal.write(runs.listing(entries, running.now(), **terminal.style()))
    return 0
