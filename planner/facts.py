"""What the Hub said about datasets, kept on this machine: one small JSON file a repository, below the cache folder.

A commit never changes, so its facts hold for ever; which commit a branch or tag names was true when it was asked. A file that is
not as it should be counts as absent and is written anew.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from planner import folders

_FORMAT = 1


class Facts(NamedTuple):
    """A dataset at one commit."""

    commit: str
    asked: datetime  # when the Hub last said that the revision is this commit; UTC
    info: dict[str, Any]  # the part of meta/info.json that is read
    size_bytes: int | None = None
    lengths: tuple[int, ...] | None = None  # frames of each episode; None: not read yet


def path(endpoint: str, repo: str) -> Path:
    host = re.sub(r"[^A-Za-z0-9.]+", "-", endpoint.partition("://")[2].rpartition("@")[2]).strip("-")
    return folders.cache() / "datasets" / f"{host}--{repo.replace('/', '--')}.json"


def load(endpoint: str, repo: str, revision: str | None) -> Facts | None:
    """What is known of a revision (None: the one that LeRobot reads by itself), or None."""
    document = _read(endpoint, repo)
    try:
        asked = document["asked"][revision or ""]
        commit = asked["commit"]
        kept = document["commits"][commit]
        size, lengths, when = kept["bytes"], kept.get("lengths"), datetime.fromisoformat(asked["at"])
        if when.tzinfo is None or not isinstance(commit, str) or not isinstance(kept["info"], dict):
            return None
        if not _is_count(size, least=0) or not (lengths is None or isinstance(lengths, list) and all(map(_is_count, lengths))):
            return None
        return Facts(commit, when, kept["info"], size, None if lengths is None else tuple(lengths))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def save(endpoint: str, repo: str, revision: str | None, facts: Facts) -> None:
    """Keep `facts`. A folder that cannot be written costs the next plan a question, and this one nothing."""
    document = _read(endpoint, repo)
    asked, commits = _mapping(document, "asked"), _mapping(document, "commits")
    asked[revision or ""] = {"commit": facts.commit, "at": facts.asked.isoformat(timespec="seconds")}
    commits[facts.commit] = {"info": facts.info, "bytes": facts.size_bytes} | (
        {} if facts.lengths is None else {"lengths": list(facts.lengths)}
    )
    named = {one.get("commit") for one in asked.values() if isinstance(one, dict)}
    document = {
        "format": _FORMAT, "endpoint": endpoint, "repository": repo, "asked": asked,
        "commits": {commit: kept for commit, kept in commits.items() if commit in named},
    }  # fmt: skip
    file = path(endpoint, repo)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
        beside.replace(file)


def _read(endpoint: str, repo: str) -> dict[str, Any]:
    try:
        document = json.loads(path(endpoint, repo).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or [document.get(key) for key in ("format", "endpoint", "repository")] != [_FORMAT, endpoint, repo]:
        return {}
    return document


def _mapping(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _is_count(value: object, least: int | None = None) -> bool:
    return value is None and least is not None or type(value) is int and value >= 0
