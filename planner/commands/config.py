"""`plan config`: each setting and where it comes from, the files that the tool keeps, and how to be rid of its caches."""

from __future__ import annotations

import sys

import typer

from planner.commands import terminal
from planner.commands.options import JSON, Request, takes
from planner.errors import PlanError, UsageError

DECLINED = 8


@takes(JSON)
def run(
    request: Request,
    paths: bool = typer.Option(False, "--paths", help="Show every file that the tool keeps, with its size.", show_default=False),
    clear: bool = typer.Option(
        False, "--clear", show_default=False, help="Remove the caches, which can be fetched again; asks first. Nothing else goes."
    ),
    yes: bool = typer.Option(False, "--yes", help="With --clear: do not ask.", show_default=False),
) -> int:
    if paths and clear:
        raise UsageError("usage", "--paths shows and --clear removes; leave one out")
    if yes and not clear:
        raise UsageError("usage", "--yes answers the question of --clear; add that or leave it out")
    if clear:
        return _clear(request, yes)
    return _paths(request) if paths else _settings(request)


def _settings(request: Request) -> int:
    from planner import config
    from planner.commands import settings
    from planner.show import settings as show

    found = config.found()
    said = settings.load(found)
    if request.json:
        terminal.write_json(show.settings_document(settings.KEYS, said, found))
    else:
        terminal.write(show.settings(settings.KEYS, said, found, **terminal.style()))
    return 0


def _paths(request: Request) -> int:
    from planner import config, kept
    from planner.show import settings as show

    entries, folders = kept.kept(), {kind: kept.folder(kind) for kind in kept.KINDS}
    if request.json:
        terminal.write_json(show.paths_document(entries, folders, config.project_file()))
    else:
        terminal.write(show.paths(entries, folders, config.project_file(), **terminal.style()))
    return 0


def _clear(request: Request, yes: bool) -> int:
    from planner import kept
    from planner.show import settings as show

    entries = tuple(kept.inside("cache"))
    for entry in entries if not request.json else ():
        terminal.note(f"{show.size(entry.size_bytes):>8}  {entry.path}")
    if entries and not yes and not _confirmed(request.json):
        terminal.note("nothing was removed")
        return DECLINED
    failed = kept.clear(entries)
    if request.json:
        terminal.write_json(show.cleared_document(entries, failed))
    else:
        terminal.write(show.cleared(entries, failed, kept.folder("cache")))
    for entry, reason in failed:
        terminal.note(f"error: {entry.path}: {reason}; check its permissions")
    return PlanError.exit_code if failed else 0


def _confirmed(json: bool) -> bool:
    """The person's word. UsageError where there is nobody to ask."""
    if json or sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("usage", "--clear asks before it removes anything, and nobody can answer here: add --yes")
    print("remove these? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
