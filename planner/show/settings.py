"""The settings with their origins, and the files that the tool keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner import config
from planner.config import Found, Key, Setting
from planner.kept import KINDS, Kept
from planner.show import lines, text
from planner.show.lines import Column, Line

UNSET = "–"
_COLUMNS = (Column("key", "setting", gap=1), Column("value", "value"), Column("origin", "from"))
_PATHS = (Column("size", "size", right=True, gap=1), Column("files", "files", right=True), Column("path", "path"))


def settings(
    keys: Sequence[Key], said: Mapping[str, Setting], found: Found, *, width: int, colour: bool, plain: bool, ascii_only: bool = False
) -> str:
    """Each setting with its value and where that comes from; what was said and does not hold below it."""
    rows = [_row(key, said.get(key.name)) for key in keys]
    sizes = lines.widths(_COLUMNS, rows)
    out: list[Line] = [[(lines.title_text(_COLUMNS, sizes), "dim")]]
    indent = " " * (lines.total_width(_COLUMNS[:2], sizes) + _COLUMNS[2].gap)
    room = max(18, width - len(indent))
    for key, row in zip(keys, rows, strict=True):
        setting = said.get(key.name)
        origin, *more = lines.wrap(row["origin"], room) or [""]
        out.append([(lines.row_text(_COLUMNS, sizes, {**row, "origin": origin}), "" if setting else "dim")])
        under = [text.clean(f"over {one}") for one in setting.beside] if setting else []
        beside = [line for one in under for line in lines.wrap(one, room)]
        out += [[(indent + line, "dim")] for line in (*more, *beside)]
    out += [[], *_files(found, width), *_ignored(found, keys, width)]
    out += _words("Strongest first: flags, variables (PLAN_ and the setting in capitals), the project's planner.toml, yours.", width)
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _row(key: Key, setting: Setting | None) -> dict[str, str]:
    value = setting.text if setting else key.default
    return {
        "key": key.name,
        "value": UNSET if value is None else text.clean(f"{value} {key.unit}".rstrip()),
        "origin": text.clean(setting.origin) if setting else "default" if key.default is not None else "",
    }


def _files(found: Found, width: int) -> list[Line]:
    user = config.shown(found.user or config.user_file())
    out = _words(f"yours: {user}" + ("" if found.user else " (not there)"), width)
    return out + _words(f"the project's: {config.shown(found.project)}" if found.project else "the project's: none found", width)


def _ignored(found: Found, keys: Sequence[Key], width: int) -> list[Line]:
    names = config.ignored(found.variables, keys)
    return _words(f"no settings, not read: {', '.join(names)}", width) if names else []


def settings_document(keys: Sequence[Key], said: Mapping[str, Setting], found: Found) -> dict[str, Any]:
    """The settings as JSON-ready values."""
    return {
        "schema": "config/1",
        "files": {"user": str(found.user or config.user_file()), "project": found.project and str(found.project)},
        "settings": [_entry(key, said.get(key.name)) for key in keys],
        "ignored": config.ignored(found.variables, keys),
    }


def _entry(key: Key, setting: Setting | None) -> dict[str, Any]:
    default = None if key.default is None else key.read(key.default)
    return {
        "key": key.name,
        "value": _plain(setting.value if setting else default),
        "unit": key.unit or None,
        "layer": setting.layer if setting else "default" if key.default is not None else None,
        "origin": setting.origin if setting else None,
        "over": list(setting.beside) if setting else [],
        "variable": key.variable,
        "flag": key.flag or None,
        "project": key.project,
        "text": key.text,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, (str, int, float)) else float(str(value))


def paths(
    entries: Sequence[Kept], folders: Mapping[str, Path], project: Path | None, *, width: int, colour: bool, plain: bool,
    ascii_only: bool = False,
) -> str:  # fmt: skip
    """Every file that the tool keeps, by folder, with its size."""
    rows = [_path(entry) for entry in entries]
    sizes = lines.widths(_PATHS, rows)
    out: list[Line] = [[(lines.title_text(_PATHS, sizes), "dim")]] if entries else []
    for kind, folder in folders.items():
        members = [row for entry, row in zip(entries, rows, strict=True) if entry.kind == kind]
        out.append([(f" {kind}", "bold"), (f"  {KINDS[kind]}: {text.clean(str(folder))}" + ("" if members else " (nothing)"), "dim")])
        out += [[(lines.row_text(_PATHS, sizes, row), "")] for row in members]
    if project:
        out.append([(" project", "bold"), (f"  {text.clean(str(project))}", "")])
    out += [[], *_words("plan config --clear removes the cache, and nothing else.", width)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _path(entry: Kept) -> dict[str, str]:
    return {"size": size(entry.size_bytes), "files": text.count(entry.files), "path": text.clean(entry.path.name)}


def paths_document(entries: Sequence[Kept], folders: Mapping[str, Path], project: Path | None) -> dict[str, Any]:
    """The same as JSON-ready values, in bytes."""
    return {
        "schema": "paths/1",
        "folders": {kind: str(folder) for kind, folder in folders.items()},
        "project": project and str(project),
        "entries": [{"kind": one.kind, "path": str(one.path), "bytes": one.size_bytes, "files": one.files} for one in entries],
    }


def cleared(entries: Sequence[Kept], failed: Sequence[tuple[Kept, str]], folder: Path) -> str:
    """One line: how much was removed."""
    if not entries:
        return f"nothing to remove: {folder} is empty"
    stayed = {entry.path for entry, _ in failed}
    gone = [entry.size_bytes for entry in entries if entry.path not in stayed]
    return f"removed {size(sum(gone))} in {len(gone)} of {len(entries)} entries of {folder}"


def cleared_document(entries: Sequence[Kept], failed: Sequence[tuple[Kept, str]]) -> dict[str, Any]:
    """What was removed, as JSON-ready values."""
    kept = {one.path: reason for one, reason in failed}
    return {
        "schema": "cleared/1",
        "removed": [{"path": str(one.path), "bytes": one.size_bytes} for one in entries if one.path not in kept],
        "failed": [{"path": str(path), "reason": reason} for path, reason in kept.items()],
    }


def size(number: int) -> str:
    """Bytes as people read them: `812 B`, `4.1 kB`, `12 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{text.number(number / factor)} {unit}"
    return f"{number} B"


def _words(words: str, width: int) -> list[Line]:
    return [[(" " + line, "dim")] for line in lines.wrap(text.clean(words), width - 1)]
