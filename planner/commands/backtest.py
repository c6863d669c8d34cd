"""`plan backtest`: how far off the estimates are on runs whose source they have not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.commands import terminal
from planner.commands.options import JSON, Request, takes
from planner.errors import UsageError

if TYPE_CHECKING:
    from planner.records import Catalogue, Run


@takes(JSON)
def run(
    request: Request,
    csv: str = typer.Option(None, "--csv", metavar="FILE", help="Score the runs of this table instead of the evidence's own."),
    show_all: bool = typer.Option(False, "--all", help="Also by policy and GPU, and every run."),
) -> int:
    from planner import backtest, catalogue
    from planner.show import scores

    known = catalogue.load()
    found = backtest.backtest(known, catalogue.read_runs(catalogue.data_dir()) if csv is None else _table(csv, known))
    if request.json:
        terminal.write_json(scores.document(found))
    else:
        terminal.write(scores.scores(found, show_all=show_all, **terminal.style()))
    return 0


def _table(path: str, known: Catalogue) -> list[Run]:
    from planner import published

    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            return published.read(file, known)
    except OSError as error:
        raise UsageError("csv", f"--csv {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError("csv", f"--csv {path}: is not UTF-8 text") from None
