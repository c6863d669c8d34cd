"""A run's folder as every process reads it: alive or over, its log, its results. `_local_supervisor.py` writes it."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from planner.job import Status

_CHUNK = 1 << 16


def status(run: Path) -> Status:
    """How the run is."""
    if not (run / "request.json").exists():
        return Status("unknown", f"{run} is gone")
    supervised, training = held(run / "supervisor.lock"), held(run / "trainer.lock")
    ended = _ended(run)  # read after the locks: who has let go of them has written it
    if ended is not None:
        return Status(ended["state"], ended["message"], running_s=ended["running_s"], exit_code=ended["exit_code"])
    if not supervised and not training:
        return Status("failed", "its process is gone: killed, or the machine was restarted")
    return Status("running", None if supervised else "its supervisor is gone: nothing ends it at its timeout",
                  running_s=max(0.0, time.time() - (run / "request.json").stat().st_mtime))  # fmt: skip


def lines(run: Path, follow: bool, wait: Callable[[], None]) -> Iterator[str]:
    """The log's lines, each once; `wait` is called between two looks at a log that grows."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    rest, position = "", 0
    while True:
        over = not follow or status(run).state != "running"  # looked at before the log is read to its end
        with contextlib.suppress(FileNotFoundError), (run / "log").open("rb") as file:
            file.seek(position)
            while chunk := file.read(_CHUNK):
                position += len(chunk)
                *whole, rest = (rest + decoder.decode(chunk)).split("\n")
                yield from filter(None, whole)
        if over:
            yield from filter(None, (rest + decoder.decode(b"", final=True)).split("\n"))
            return
        wait()


def held(lock: Path) -> bool:
    """Whether a living process holds the lock."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def trainer_pid(run: Path) -> int | None:
    """The trainer's process while it, or one that it started, lives."""
    lock = run / "trainer.lock"
    return int(text) if held(lock) and (text := lock.read_text().strip()) else None


def copied(source: Path, target: Path, progress: Callable[[str], None]) -> Path:
    """`target` with the bytes of `source`, written beside and moved; one of the same size and time stays."""
    there = source.stat()
    if target.is_file() and (target.stat().st_size, int(target.stat().st_mtime)) == (there.st_size, int(there.st_mtime)):
        return target
    progress(target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(source, part)
    if part.stat().st_size != there.st_size:
        part.unlink()
        raise OSError(None, "changed while it was copied", str(source))
    part.replace(target)
    return target


def _ended(run: Path) -> dict[str, Any] | None:
    try:
        ended: dict[str, Any] = json.loads((run / "exit.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return ended
