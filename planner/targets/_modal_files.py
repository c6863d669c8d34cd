"""What lies on Modal's volumes: the status of a run, its checkpoints, their way to this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from planner.errors import Unreachable
from planner.targets import _modal_api as api

FETCH_S = 24 * 3600.0  # for one file: its blocks have limits of their own, in the client


class File(NamedTuple):
    path: str  # below the volume's root, without a leading /
    size_bytes: int


async def told(volume: str, folder: str) -> dict[str, Any] | None:
    """What the container wrote down of the run that makes `folder`; None before it has."""
    import modal

    try:
        blocks = [block async for block in modal.Volume.from_name(volume).read_file.aio(f"{folder}.status.json")]
    except (FileNotFoundError, modal.exception.NotFoundError):
        return None
    found = json.loads(b"".join(blocks))
    if not isinstance(found, dict):
        raise ValueError("no status")
    return found


async def listed(volume: str, folder: str) -> list[File]:
    """All files below a folder of a volume; none where either is not there."""
    import modal
    from modal.types import FileEntryType

    try:
        entries = await modal.Volume.from_name(volume).listdir.aio(folder, recursive=True)
    except (FileNotFoundError, modal.exception.NotFoundError):
        return []
    return [File(entry.path.lstrip("/"), entry.size) for entry in entries if entry.type == FileEntryType.FILE]


def checkpoints(files: list[File], folder: str) -> dict[str, list[File]]:
    """The complete checkpoints below a run's folder, oldest first: `…/checkpoints/000500` -> its files."""
    steps: dict[str, list[File]] = {}
    for file in files:
        if match := re.match(rf"{re.escape(folder)}/checkpoints/\d+(?=/)", file.path):
            steps.setdefault(match[0], []).append(file)
    whole = ("pretrained_model/train_config.json", "training_state/training_step.json")
    return {step: steps[step] for step in sorted(steps, key=lambda path: int(path.rsplit("/", 1)[1]))
            if {f"{step}/{name}" for name in whole} <= {file.path for file in steps[step]}}  # fmt: skip


def fetch(volume: str, folder: str, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """The model of the newest complete checkpoint. What is there with its size is not copied again."""
    found = checkpoints(api.ask(f"list the volume {volume}", lambda: listed(volume, folder)), folder)
    if not found:
        raise Unreachable("no-results", f"{folder} on the volume {volume} holds no checkpoint yet: `plan logs` says how far the run is")
    newest = list(found)[-1]
    model = f"{newest}/pretrained_model/"
    progress(f"{newest.rsplit('/', 1)[1]} is the newest checkpoint")
    return tuple(_file(volume, file, file.path.removeprefix(model), to, progress) for file in found[newest] if file.path.startswith(model))


def _file(volume: str, file: File, name: str, to: Path, progress: Callable[[str], None]) -> Path:
    path = to / name
    if not path.resolve().is_relative_to(to.resolve()):
        raise Unreachable("garbage", f"{volume} names a file outside its folder ({api.redacted(name)}): it was not written")
    if path.is_file() and path.stat().st_size == file.size_bytes:
        return path
    partial = path.with_name(path.name + ".part")

    async def copy() -> None:
        import modal

        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            async for block in modal.Volume.from_name(volume).read_file.aio(file.path):
                out.write(block)

    api.ask(f"send {name}", copy, FETCH_S)
    if partial.stat().st_size != file.size_bytes:
        raise Unreachable("incomplete", f"{partial} has {partial.stat().st_size} bytes, {file.size_bytes} were announced: "
                          "run `plan fetch` again")  # fmt: skip
    partial.replace(path)
    progress(f"{name} ({file.size_bytes:,} bytes)")
    return path
