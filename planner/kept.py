"""What the tool keeps on this machine, entry by entry with its size; and what of it can go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from planner import folders

#: kind -> what is in its folder
KINDS = {
    "config": "what you wrote",
    "cache": "what can be fetched or made again",
    "state": "what cannot be made again",
}


class Kept(NamedTuple):
    """A file, or a folder with all that is in it."""

    kind: str  # config, cache, state
    path: Path
    size_bytes: int
    files: int


def kept() -> tuple[Kept, ...]:
    """Everything in the tool's folders, one entry a file or folder at their top."""
    return tuple(entry for kind in KINDS for entry in inside(kind))


def folder(kind: str) -> Path:
    """The folder of a kind, whether it is there or not."""
    path: Path = getattr(folders, kind)()
    return path


def inside(kind: str) -> list[Kept]:
    """The entries of one folder by name; none where it is not there or may not be read."""
    try:
        paths = sorted(folder(kind).iterdir())
    except OSError:
        return []
    return [Kept(kind, path, *_size(path)) for path in paths]


def clear(entries: tuple[Kept, ...]) -> list[tuple[Kept, str]]:
    """Remove caches; returns what could not be removed, with the reason. A link is removed, not what it points to."""
    failed: list[tuple[Kept, str]] = []
    for entry in entries:
        assert entry.kind == "cache", "only caches can be made again"
        try:
            if entry.path.is_dir() and not entry.path.is_symlink():
                shutil.rmtree(entry.path)
            else:
                entry.path.unlink()
        except FileNotFoundError:  # another terminal was faster
            continue
        except OSError as error:
            failed.append((entry, error.strerror or str(error)))
    return failed


def _size(path: Path) -> tuple[int, int]:
    """(bytes, files) of a file or of everything below a folder; links count as themselves."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size, 1
        size = files = 0
        for root, _, names in os.walk(path):
            for name in names:
                try:
                    size, files = size + Path(root, name).lstat().st_size, files + 1
                except OSError:  # gone meanwhile
                    continue
        return size, files
    except OSError:
        return 0, 0
