"""Where the tool keeps files on this machine: one folder each for settings, for what can be fetched again, and for what cannot.

PLAN_HOME puts all three below one folder, which is how tests and shared machines keep them apart.
"""

from __future__ import annotations

import os
from pathlib import Path

NAME = "planner"


def config() -> Path:
    """What the user wrote: planner.toml, own catalogue entries."""
    return _folder("config")


def cache() -> Path:
    """What can be fetched or made again: facts of datasets, live prices, compiled catalogues."""
    return _folder("cache")


def state() -> Path:
    """What must not be lost: the ledger of runs, the history of prices."""
    return _folder("state")


def _folder(kind: str) -> Path:
    home = os.environ.get("PLAN_HOME")
    if home:
        return Path(home).expanduser() / kind
    import platformdirs

    path: Path = getattr(platformdirs, f"user_{kind}_path")(NAME)
    return path
