"""`plan fetch RUN`: copy what a run made into a folder."""

from __future__ import annotations

from pathlib import Path

import typer

from planner.commands import running, terminal
from planner.commands.options import Request, takes
from planner.commands.status import RUN
from planner.errors import UsageError


@takes()
def run(
    request: Request,
    name: str = RUN,
    to: Path = typer.Option(None, "--to", metavar="DIR", help="Folder that receives it [./RUN].", show_default=False),  # noqa: B008
) -> int:
    from planner.job import restored
    from planner.targets import base

    with running.ledger() as book:
        entry = book.get(name)
    if entry.handle is None:
        raise UsageError("run", f"{entry.id} made nothing: {entry.message or 'its job was not found yet'}")
    folder = to or Path(entry.id)
    files = base.get(entry.target).fetch(entry.handle, restored(entry.job), folder, terminal.note)
    if not files:
        raise UsageError("fetch", f"{entry.id} has left nothing yet: plan status {entry.id}")
    terminal.write(str(folder))
    return 0
