"""A strict HTTP server on this machine that stands for a service: what it does not know it refuses, and every request is recorded.

A service is a class with `answer(request)`; faults are laid over it by path, so that any answer can fail in any way.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

TOKEN = "hf_" + "loopback" * 4  # no real token looks like this


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    token: str | None  # of the Authorization header
    body: bytes


class Reply(NamedTuple):
    status: int
    body: object = None  # bytes as they are, anything else as JSON
    headers: dict[str, str] = {}
    drop: bool = False  # the connection is closed without an answer
    promised: int = 0  # bytes that Content-Length promises and that never come
    hang: bool = False  # nothing is answered before the test ends


#: faults by name, for `service.faults[part of a path] = FAULTS[name]`
FAULTS = {
    "500": Reply(500, {"error": "Internal Error"}),
    "503": Reply(503, b"upstream is down"),
    "429": Reply(429, {"error": "Too Many Requests"}),
    "html": Reply(200, b"<html><body>Please log in to the network</body></html>", {"Content-Type": "text/html"}),
    "dropped": Reply(0, drop=True),
    "truncated": Reply(200, b'{"codebase_version": "v3', {"X-Repo-Commit": "1" * 40}, promised=1000),
    "hangs": Reply(0, hang=True),
}


@dataclass
class Service:
    """What a server saw, and how it is made to fail."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # the reason of each refusal
    unknown: list[str] = field(default_factory=list)  # requests that no service like this gets: a failure of the test
    faults: dict[str, Reply] = field(default_factory=dict)  # part of a path -> what is answered there
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: Request) -> Reply | None:
        """The reply, or None for a request that the service does not know."""
        raise NotImplementedError

    def reply(self, request: Request) -> Reply:
        if request.path == "/api/agent-harnesses":  # huggingface_hub's own, once a day before its first request, without a token
            return Reply(200, {})
        self.requests.append(request)
        for part, fault in self.faults.items():
            if part in request.path:
                return fault
        reply = self.answer(request)
        if reply is None:
            self.unknown.append(f"{request.method} {request.path}")
            return Reply(404, {"error": "no such route"})
        if reply.status >= 400:
            self.refused.append(f"{request.method} {request.path}: {reply.body}")
        return reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, parts.path, parse_qs(parts.query), token if scheme == "Bearer" else None, body)
        reply = self.service.reply(request)
        if reply.hang:
            self.service.over.wait()
        if reply.hang or reply.drop:
            self.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + reply.promised))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.close_connection = self.close_connection or bool(reply.promised)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_any

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serve(service: Service) -> Iterator[Any]:
    """`service`, answering on a free port. Requests that it did not know fail the test at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
    assert not service.unknown, f"asked for what the service does not have: {service.unknown}"
