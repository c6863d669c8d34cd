"""A loopback Hugging Face Hub with datasets, as the real `huggingface_hub` asks for them (2.4: hf_api.py, utils/_http.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.servers import loopback
from tests.servers.loopback import TOKEN, Reply, Request, Service


@dataclass
class Repository:
    """A dataset: `revisions` names commits, `commits` hold the files of each."""

    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)  # branches and tags
    private: bool = False
    gated: bool = False  # and the terms are not accepted
    says_size: bool = True  # the Hub gives mainSize
    moved: bool = False  # files are answered by a redirect, as the Hub does for its cache

    def commit(self, *revisions: str, files: dict[str, bytes]) -> str:
        """A new commit with these files, named by the revisions."""
        sha = f"{len(self.commits) + 1:x}" * 40
        self.commits[sha[:40]] = files
        self.revisions |= dict.fromkeys(revisions, sha[:40])
        return sha[:40]

    def find(self, revision: str) -> str | None:
        return self.revisions.get(revision, revision if revision in self.commits else None)


@dataclass
class Datasets(Service):
    """Datasets of a Hub, by name."""

    repositories: dict[str, Repository] = field(default_factory=dict)

    def dataset(self, name: str, info: dict[str, Any] | None = None, *revisions: str, **files: bytes) -> Repository:
        """A dataset with one commit that `revisions` name, by default main and v3.0."""
        repository = self.repositories[name] = Repository(name)
        content = dict(files) | ({} if info is None else {"meta/info.json": json.dumps(info).encode()})
        repository.commit(*(revisions or ("main", "v3.0")), files=content)
        return repository

    def answer(self, request: Request) -> Reply | None:
        if request.token not in (None, TOKEN):
            return Reply(401, {"error": "Invalid credentials in Authorization header"},
                         {"X-Error-Message": "Invalid credentials in Authorization header"})
        parts = request.path.strip("/").split("/")
        if request.method != "GET":
            return None
        if parts[:2] == ["api", "datasets"] and len(parts) >= 4:
            name, rest = "/".join(parts[2:4]), parts[4:]
        elif parts[0] == "datasets" and len(parts) >= 6 and parts[3] == "resolve":
            name, rest = "/".join(parts[1:3]), ["resolve", *parts[4:]]
        elif parts[0] == "moved" and len(parts) >= 5:  # where a redirect leads; it names no commit
            name, rest = "/".join(parts[1:3]), ["raw", *parts[3:]]
        else:
            return None
        repository = self.repositories.get(name)
        if repository is None or repository.private and request.token is None:
            return Reply(404 if request.token else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return self._dataset(repository, rest, request)

    def _dataset(self, repository: Repository, rest: list[str], request: Request) -> Reply | None:
        kind = rest[0] if rest else "revision"
        revision = unquote(rest[1]) if len(rest) > 1 else "main"
        commit = repository.find(revision)
        if commit is None:
            return Reply(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[commit]
        if kind == "revision":
            return self._info(repository, commit, request)
        if repository.gated:
            return Reply(403, {"error": "Access to dataset is restricted"}, {"X-Error-Code": "GatedRepo"})
        path = unquote("/".join(rest[2:]))
        if path not in files:
            return Reply(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        if kind == "raw":
            return Reply(200, files[path], {"Content-Type": "text/plain"})
        if kind != "resolve":
            return None
        headers = {"X-Repo-Commit": commit, "ETag": '"1"', "Content-Type": "text/plain"}
        if repository.moved:
            return Reply(307, b"", headers | {"Location": f"/moved/{repository.name}/{commit}/{path}"})
        return Reply(200, files[path], headers)

    def _info(self, repository: Repository, commit: str, request: Request) -> Reply | None:
        answer: dict[str, Any] = {"id": repository.name, "sha": commit}
        asked = set(request.query)
        if asked == {"expand"}:
            if not set(request.query["expand"]) <= {"sha", "mainSize"}:
                return None
            if repository.says_size:
                answer["mainSize"] = self._size(repository.commits[repository.revisions["main"]])
        elif asked == {"blobs"}:
            answer["siblings"] = [{"rfilename": name, "size": len(data)} for name, data in repository.commits[commit].items()]
        else:
            return None
        return Reply(200, answer)

    @staticmethod
    def _size(files: dict[str, bytes]) -> int:
        return sum(map(len, files.values()))


@contextmanager
def serve() -> Iterator[Datasets]:
    """A running Hub without datasets."""
    with loopback.serve(Datasets()) as hub:
        yield hub
