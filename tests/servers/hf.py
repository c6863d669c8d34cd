"""A loopback Hugging Face Hub that takes jobs, for the real `hf` CLI. Strict: what it does not know it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "loopback" * 4  # no real token looks like this
USER = "me"
FIELDS = {"command", "arguments", "environment", "flavor", "secrets", "timeoutSeconds", "attempts", "labels", "volumes",
          "dockerImage"}


@dataclass
class Hub:
    """What the server saw. `jobs` holds the accepted job requests, `refused` the reason of each refusal."""

    url: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

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
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            if status >= 400:
                hub.refused.append(f"{self.command} {self.path}: {body}")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            route = (self.command, self.path)
            if route == ("GET", "/api/agent-harnesses"):  # the CLI asks it without a token
                self.answer(200, {})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid user token."})
            elif route == ("GET", "/api/whoami-v2"):
                self.answer(200, {"type": "user", "name": USER, "auth": {"accessToken": {"role": "write"}}})
            elif route == ("POST", f"/api/jobs/{USER}"):
                try:
                    self.answer(200, hub.submit(json.loads(body)))
                except ValueError as error:
                    self.answer(400, {"error": str(error)})
            else:
                self.answer(404, {"error": "no such route"})

        do_GET = do_POST = handle_any

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
