"""`plan logs RUN`: what a run printed; with --follow until it ends."""

from __future__ import annotations

import typer

from planner.commands import running, terminal
from planner.commands.options import Request, takes
from planner.commands.status import RUN
from planner.errors import UsageError


@takes()
def run(
    request: Request,
    name: str = RUN,
    follow: bool = typer.Option(False, "-f", "--follow", help="Stay until the run ends; Ctrl-C leaves it running.", show_default=False),
    no_learn: bool = typer.Option(False, "--no-learn", help="Do not keep its measurement for the next plans.", show_default=False),
) -> int:
    from planner.targets import base

    with running.ledger() as book:
        entry = book.get(name)
        if entry.handle is None:
            raise UsageError("run", f"{entry.id} has no log: {entry.message or 'its job was not found yet'}")
        if follow and entry.live:
            return running.watch(book, entry, learn=not no_learn)
        for line in base.get(entry.target).logs(entry.handle, follow=False):
            terminal.write(line)
    return 0
