"""`plan gpus`: the cards, what they can do, and what they cost where."""

from __future__ import annotations

from planner.commands import terminal
from planner.commands.options import JSON, Request, takes


@takes(JSON)
def run(request: Request) -> int:
    from planner import catalogue
    from planner.show import browse

    known = catalogue.load()
    if request.json:
        terminal.write_json(browse.gpus_document(known))
    else:
        terminal.write(browse.gpus(known, **terminal.style()))
    return 0
