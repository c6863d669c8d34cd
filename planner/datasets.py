"""Which data is meant: a LeRobotDataset on this machine, whose facts are read here, or a repository of the Hub."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from planner import metadata
from planner.errors import UsageError
from planner.metadata import Dataset
from planner.pasted import Pasted

MAX_FILES = 20_000  # more than this many files are not counted: it would take longer than planning

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w.][\w./-]{0,199}))?", re.ASCII)


class HubName(NamedTuple):
    """A dataset on the Hub: `owner/name`, and the branch, tag or commit if one was said."""

    repo: str
    revision: str | None = None


def named(text: str | None, tail: Pasted) -> Path | HubName | None:
    """What `--dataset TEXT` and the trainer's own arguments train on; None where neither says, or where it lies elsewhere.

    A --dataset.root that is not here may exist where the command runs. UsageError where TEXT is neither a folder nor an id.
    """
    found = locate(text) if text is not None else None
    root = tail.get("dataset.root")
    if isinstance(found, Path):
        return found
    if root is not None:
        return Path(root).expanduser() if exists(root) and Path(root).expanduser().is_dir() else None
    if tail.get("dataset.repo_type") not in (None, "dataset"):  # a bucket, which has no revisions and no such address
        return None
    if found is None:
        found = hub_name(tail.get("dataset.repo_id") or "")
    said = tail.get("dataset.revision")
    if found is None or said in (None, "null", "None"):
        return found
    if found.revision not in (None, said):
        raise UsageError("conflict", f"--dataset {text} and --dataset.revision={said} after `--` disagree; give one of them")
    return found._replace(revision=said)


def locate(text: str) -> Path | HubName:
    """The folder here, or the Hub's dataset, that `--dataset TEXT` names. UsageError when it is neither."""
    if not text:
        raise UsageError("dataset", "--dataset is empty: give a folder or a Hub id such as lerobot/pusht")
    if exists(text):
        return Path(text).expanduser()
    found = hub_name(text)
    if found is not None:
        return found
    name = f"--dataset {metadata.shown(text)}"
    if looks_like_path(text):
        raise UsageError("dataset", f"{name}: no such folder; check the path, or give a Hub id such as lerobot/pusht")
    hint = " (without the address before it)" if "://" in text else ""
    raise UsageError("dataset", f"{name}: neither a folder here nor a Hub id; write owner/name{hint}")


def hub_name(text: str) -> HubName | None:
    """`owner/name` or `owner/name@revision`; None for anything else."""
    match = _HUB_ID.fullmatch(text)
    return HubName(match[1], match[2]) if match else None


def looks_like_path(text: str) -> bool:
    """Whether a text that names no folder was meant as one: it begins with . / ~, or has more than one slash."""
    return text.startswith((".", "/", "~", "\\")) or (text.count("/") > 1 and "://" not in text)


def exists(text: str) -> bool:
    """Whether a file or folder of this name is on this machine."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, no home directory
        return False


def read_local(path: str | os.PathLike[str], *, part: bool = False) -> Dataset:
    """The dataset in folder `path`, with the lengths of its episodes where only a part of them is asked for.

    UsageError, naming file and field, when it is missing or malformed.
    """
    root = Path(path).expanduser().absolute()
    file = root / "meta" / "info.json"
    info = metadata.load(_bytes(file), str(file))
    cached = root.parent.parent.name == "lerobot" and hub_name(f"{root.parent.name}/{root.name}")
    name = f"{root.parent.name}/{root.name}" if cached else root.name
    found = metadata.dataset(info, str(file), name=name, root=root, size_bytes=_size_bytes(root))
    if not part:
        return found
    lengths, why = _lengths(root, found.codebase_version)
    return found._replace(lengths=lengths, lengths_unread=why)


def _lengths(root: Path, version: str) -> tuple[tuple[int, ...] | None, str]:
    """(frames of each episode, "") or (None, why they are not known)."""
    if version.startswith("v2."):
        file = root / "meta" / "episodes.jsonl"
        if not file.is_file():
            return None, f"{file} is missing"
        return metadata.lengths_of_lines(_bytes(file).decode("utf-8", "replace"), str(file)), ""
    folder = root / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/*.parquet"))
    if not files:
        return None, f"{folder} holds no parquet files"
    if not metadata.can_read_parquet():
        return None, NO_PARQUET
    return metadata.lengths_of_parquet(files, str(folder)), ""


#: why the episodes' lengths of a v3 dataset are not known, and how they would be
NO_PARQUET = "pyarrow, which reads their lengths, is not installed: pip install pyarrow"


def _bytes(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise UsageError("dataset", f"{file}: no such file; --dataset takes the folder that contains meta/, or a Hub id")
        if file.stat().st_size > metadata.MAX_INFO_BYTES and file.name == "info.json":
            raise metadata.broken(str(file), "file", "larger than 16 MiB, which no dataset's info is")
        return file.read_bytes()
    except OSError as error:
        raise UsageError("dataset", f"{file}: cannot be read ({error.strerror}); check its permissions") from None


def _size_bytes(root: Path) -> int | None:
    """Size of all files, or None when there are too many to look at."""
    total = files = 0
    for folder, _, names in os.walk(root):
        files += len(names)
        if files > MAX_FILES:
            return None
        for name in names:
            with suppress(OSError):  # a dangling link of a partly downloaded dataset
                total += Path(folder, name).stat().st_size
    return total
