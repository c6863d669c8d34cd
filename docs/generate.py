"""Writes what documentation can take from the code: `python docs/generate.py`, or `--check` to compare.

Generated parts stand between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
FILES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
COMMANDS = ((), ("explain",), ("policies",), ("gpus",), ("prices",), ("calibrate",), ("backtest",), ("doctor",), ("config",))
TODAY = "2026, 11, 20"  # what the samples count ages to, whatever the day


def plan(*arguments: str, columns: int = 120) -> str:
    """What the installed program prints into a pipe."""
    environment = os.environ | {"COLUMNS": str(columns), "XDG_CONFIG_HOME": "/nonexistent", "PLAN_HOME": "/nonexistent",
                                "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, "-c", f"""import sys, datetime; from planner import api; from planner.commands import main
api.clock = lambda: datetime.datetime({TODAY}, tzinfo=datetime.timezone.utc); sys.argv[0] = 'plan'; sys.exit(main())"""]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.rstrip()


def block(text: str) -> str:
    return f"```\n{text}\n```"


def sample() -> str:
    return block("$ plan --policy smolvla --episodes 50\n" + plan("--policy", "smolvla", "--episodes", "50"))


def options() -> str:
    titles = (("`" + " ".join(("plan", *command)) + "`", plan(*command, "--help", columns=100)) for command in COMMANDS)
    return "\n\n".join(f"## {title}\n\n{block(text)}" for title, text in titles)


def schema() -> str:
    """The JSON document as a table, from its schema."""
    root = json.loads((ROOT / "planner" / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))

    def resolved(node: dict) -> dict:
        while "$ref" in node:
            target = root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        for choice in node.get("anyOf", node.get("oneOf", ())):
            if resolved(choice).get("type") != "null":
                return {**resolved(choice), **{key: value for key, value in node.items() if key == "description"}, "nullable": True}
        return node

    def rows(node: dict, path: str) -> Iterator[str]:
        for name, value in node.get("properties", {}).items():
            child = resolved(value)
            kind = child.get("type", "")
            nullable = child.get("nullable") or (isinstance(kind, list) and "null" in kind)
            kinds = [k for k in (kind if isinstance(kind, list) else [kind]) if k and k != "null"]
            values = f" ({', '.join(str(v) for v in child['enum'] if v is not None)})" if "enum" in child else ""
            text = child.get("description", "").replace("|", "\\|").replace("\n", " ")
            yield f"| `{path}{name}` | {' or '.join(kinds)}{' or null' if nullable else ''}{values} | {text} |"
            if "properties" in child:
                yield from rows(child, f"{path}{name}.")
            items = resolved(child["items"]) if isinstance(child.get("items"), dict) else {}
            yield from rows(items, f"{path}{name}[].")

    return "\n".join(["| key | type | meaning |", "|---|---|---|", *rows(root, "")])


def keys() -> str:
    """The keys of planner.toml, from the code."""
    from planner.commands.settings import KEYS

    def row(key: Any) -> str:
        kind = "number" if key.number else "text or list" if key.many else "text"
        usual = "" if key.default is None else f"`{key.default}`{f' {key.unit}' if key.unit else ''}"
        kind += f", {key.unit}" if key.unit else ""
        return f"| `{key.name}` | {kind} | {usual} | {key.project} | {key.text} |"

    return "\n".join(["| key | value | default | project | meaning |", "|---|---|---|---|---|", *map(row, KEYS)])


def _accuracy() -> dict[str, Callable[[], str]]:
    sys.path.insert(0, str(DOCS))
    import accuracy

    return {name: getattr(accuracy, name) for name in ("memory", "time", "wall", "summary", "guide", "unscored")}


BLOCKS: dict[str, Callable[[], str]] = {"sample": sample, "options": options, "schema": schema, "keys": keys, **_accuracy()}


def rewritten(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        return f"<!-- begin {match[1]} -->\n{BLOCKS[match[1]]()}\n<!-- end {match[1]} -->"

    return re.sub(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", replace, text, flags=re.S)


def main() -> int:
    check, stale = "--check" in sys.argv, []
    for path in FILES:
        before = path.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            stale.append(path.name)
            if not check:
                path.write_text(after, encoding="utf-8")
    if check and stale:
        print(f"not current: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
