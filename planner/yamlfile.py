"""Reading one YAML file of the catalogue: plain data, or one line that says where it is wrong.

YAML allows much that a catalogue must not: the same key twice (the last one silently wins), aliases (a few
lines can expand to billions of entries), a whole file that is empty. All of these are refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.errors import UsageError

MAX_BYTES = 20_000_000


def read(path: Path) -> dict[str, Any]:
    """The mapping in `path`. Raises UsageError with file and line."""
    import yaml

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise UsageError("catalogue", f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError("catalogue", f"{path}: is not UTF-8 text") from None
    if len(raw) > MAX_BYTES:
        raise UsageError("catalogue", f"{path}: is larger than {MAX_BYTES // 10**6} MB; a catalogue file is text")
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise UsageError("catalogue", f"{path}: is empty; expected a mapping of entries (or delete the file)")
        _refuse_traps(node, path)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UsageError("catalogue", f"{path}{_where(error)}: {_reason(error, text)}") from None
    except (RecursionError, ValueError) as error:
        raise UsageError("catalogue", f"{path}: cannot be read as YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise UsageError("catalogue", f"{path}: expected a mapping of entries, got {type(data).__name__}")
    return data


def _refuse_traps(root: Any, path: Path) -> None:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            raise UsageError("catalogue", f"{path}:{node.start_mark.line + 1}: YAML aliases (*name) are not allowed; write it out")
        seen.add(id(node))
        if node.id == "sequence":
            waiting.extend(node.value)
        elif node.id == "mapping":
            keys: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.id != "scalar":
                    raise UsageError("catalogue", f"{path}:{line}: a key must be plain text")
                if key.value in keys:
                    raise UsageError("catalogue", f"{path}:{line}: {key.value!r} stands twice (first in line {keys[key.value]})")
                keys[key.value] = line
                waiting.append(value)


def _where(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _reason(error: Any, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    line = text.splitlines()[mark.line] if mark is not None and mark.line < len(text.splitlines()) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab; YAML is indented with spaces"
    return f"not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
