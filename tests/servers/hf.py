"""A loopback Hugging Face Hub that takes jobs, for the real `hf` CLI, and has datasets. Strict: what it does not know it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import loopback
from tests.servers.hub import Datasets
from tests.servers.loopback import TOKEN, Reply, Request

__all__ = ["TOKEN", "USER", "Hub", "serve"]

USER = "me"
FIELDS = {"command", "arguments", "environment", "flavor", "secrets", "timeoutSeconds", "attempts", "labels", "volumes",
          "dockerImage"}


@dataclass
class Hub(Datasets):
    """`jobs` holds the accepted job requests."""

    jobs: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: Request) -> Reply | None:
        route = (request.method, request.path)
        if route not in (("GET", "/api/whoami-v2"), ("POST", f"/api/jobs/{USER}")):
            return super().answer(request)
        if request.token != TOKEN:
            return Reply(401, {"error": "Invalid user token."})
        if request.method == "GET":
            return Reply(200, {"type": "user", "name": USER, "auth": {"accessToken": {"role": "write"}}})
        try:
            return Reply(200, self.submit(json.loads(request.body)))
        except ValueError as error:
            return Reply(400, {"error": str(error)})

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(body) - FIELDS:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        if not isinstance(body.get("command"), list) or not body["command"]:
            raise ValueError("command must be a list")
        if type(body.get("timeoutSeconds")) is not int:
            raise ValueError("timeoutSeconds must be given as whole seconds")
        self.jobs.append(body)
        return {
            "id": f"job{len(self.jobs)}", "owner": {"id": "1", "name": USER, "type": "user"},
            "status": {"stage": "RUNNING", "message": None}, "createdAt": "2026-01-01T00:00:00.000Z",
            "dockerImage": body["dockerImage"], "command": body["command"], "flavor": body["flavor"],
            "labels": body.get("labels"), "environment": body["environment"], "arguments": [],
        }


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub on a free port."""
    with loopback.serve(Hub()) as hub:
        yield hub
