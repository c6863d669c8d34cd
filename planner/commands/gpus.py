"""`plan gpus [NAME…]`: the cards, what they can do, and what they cost where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from planner.commands import terminal
from planner.commands.options import JSON, Request, takes
from planner.errors import UsageError

if TYPE_CHECKING:
    from planner.records import Catalogue


@takes(JSON)
def run(
    request: Request,
    names: list[str] = typer.Argument(  # noqa: B008  (how typer declares it)
        None, metavar="[NAME]…", help="Only those with this in their id, as in rtx40, laptop or jetson [all].", show_default=False
    ),
) -> int:
    from planner import api
    from planner.show import browse

    known = _only(api.offered(), names or ())
    if request.json:
        terminal.write_json(browse.gpus_document(known))
    else:
        terminal.write(browse.gpus(known, **terminal.style()))
    return 0


def _only(known: Catalogue, names: tuple[str, ...] | list[str]) -> Catalogue:
    """The catalogue with the GPUs that any of `names` is a part of. UsageError where one is a part of none."""
    from planner.devices import plain

    if not names:
        return known
    found: set[str] = set()
    for name in names:
        part = plain(name)
        fitting = {gpu for gpu in known.gpus if part and part in plain(gpu)}
        if not fitting:
            from planner.commands.values import nearest

            hint = nearest(name, list(known.gpus)) or "; `plan gpus` lists them"
            raise UsageError("gpu", f"no GPU with {terminal.one_line(name)} in its id{hint}")
        found |= fitting
    return known._replace(gpus={gpu: entry for gpu, entry in known.gpus.items() if gpu in found})
