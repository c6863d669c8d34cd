"""`plan prices`: what every place asks, as bundled and as of today."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from planner.commands import complete, terminal
from planner.commands.options import JSON, Request, takes

if TYPE_CHECKING:
    from planner.pricebook import PriceBook


_TARGET = typer.Option(
    [], "--target", metavar="PLACE", autocompletion=complete.targets, show_default=False,
    help="Only this place: hf or modal; repeatable [all].",
)  # fmt: skip


@takes(JSON)
def run(
    request: Request,
    refresh: bool = typer.Option(False, "--refresh", help="Ask the places for today's prices first, and keep them for the next plans."),
    target: list[str] = _TARGET,
) -> int:
    from planner import api
    from planner.show import pricelist

    book = api.price_book(tuple(target), refresh=refresh)
    if request.json:
        terminal.write_json(pricelist.document(book))
    else:
        terminal.write(pricelist.table(book, **terminal.style()))
        for _, error in book.errors:
            terminal.note(f"error: {error.text}")
    return _exit_code(book)


def _exit_code(book: PriceBook) -> int:
    """0, or that of what failed; of several the largest: 7 unreachable before 6 not authorised."""
    return max((error.exit_code for _, error in book.errors), default=0)
