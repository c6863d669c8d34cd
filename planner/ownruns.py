"""The user's own measured runs: entries added to the evidence.yaml of the configuration directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from planner import entries, yamlfile
from planner.errors import UsageError

FILE = "evidence.yaml"
_HEAD = "# Runs measured here, added by `plan calibrate`. An entry can be edited or deleted.\nruns:\n"


def add(rows: Mapping[str, Mapping[str, Any]], user: Path) -> tuple[str, ...]:
    """Add the entries whose ids are not there; returns these ids.

    What stands in the file is kept byte for byte, and the whole file is replaced at once: whoever reads it sees the old
    or the new one. Who adds at the same time waits. UsageError, with nothing changed, where it is broken or not written in a
    way that entries can be added to.
    """
    from filelock import FileLock

    path = (user / FILE).resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{FILE}.lock")):
        return _add(rows, path)


def _add(rows: Mapping[str, Mapping[str, Any]], path: Path) -> tuple[str, ...]:
    before = yamlfile.read(path) if path.exists() else {"runs": {}}
    runs = _runs(path, before)
    new = {name: dict(row) for name, row in rows.items() if name not in runs}
    if not new:
        return ()
    for name, row in new.items():
        entries.run(FILE, name, row)
    text = path.read_bytes().decode("utf-8") if path.exists() else _HEAD
    if not text.endswith("\n"):
        text += "\n"
    _replace(path, text + _text(new, _indent(text)), {**before, "runs": {**runs, **new}})
    return tuple(new)


def _runs(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    runs = content.get("runs")
    if runs is None and "runs" in content:
        return {}
    if not isinstance(runs, dict):
        raise UsageError("catalogue", f"{path}: runs: expected a mapping of entries")
    return runs


def _text(rows: dict[str, dict[str, Any]], indent: str) -> str:
    """The entries as data/evidence.yaml has them: one field a line, the variant in one."""
    import yaml

    done = ""
    for name, row in rows.items():
        flow = None if any(isinstance(value, dict) for value in row.values()) else False  # None: innermost mappings alone
        text = yaml.safe_dump({name: row}, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=1000)
        done += "".join(f"{indent}{line}\n" for line in text.splitlines())
    return done


def _indent(text: str) -> str:
    """The white space in front of the file's first entry."""
    inside = False
    for line in text.splitlines():
        if inside and line.strip() and not line.lstrip().startswith("#"):
            return line[: len(line) - len(line.lstrip())] or "  "
        inside = inside or line.startswith("runs:")
    return "  "


def _replace(path: Path, text: str, expected: dict[str, Any]) -> None:
    """Write `text` beside `path`, read it back, and move it there if it says what is expected."""
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE}.", suffix=".new", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        try:
            same = yamlfile.read(beside) == expected
        except UsageError:
            same = False
        if not same:
            raise UsageError("catalogue", f"{path}: entries cannot be added to it as it is written; put `runs:` last, with one "
                             "indented entry below the other")
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
