"""A loopback Hub that runs jobs as the test says, for the real huggingface_hub. Strict: what it does not know it refuses.

A job moves only when the test moves it (`Hub.advance`). `Hub.fail` makes a route fail; all that came in is in `Hub.received`.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.hf_routes import COMMIT, ENDED, ORG, ROUTES, TOKEN, USER, Ask, Hub, Refusal, Running

__all__ = ["ORG", "TOKEN", "USER", "Hub", "serve"]


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if (self.command, self.path) == ("GET", "/api/agent-harnesses"):  # the client's own, in some terminals, without a token
            self.send(200, b"{}", {"Content-Type": "application/json"})
            return
        with self.hub.changed:
            self.hub.received.append((self.command, self.path, body))
            self.hub.changed.notify_all()
        fitting = ((re.fullmatch(pattern, url.path), name, reply) for method, pattern, name, reply in ROUTES if method == self.command)
        match, name, reply = next((found for found in fitting if found[0]), (None, "", None))
        if match is None or reply is None:
            self.refuse(Refusal(404, "no such route"))
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(Refusal(401, "Invalid user token."))
            return
        ask, fault = Ask(match.groupdict(), parse_qs(url.query), body), self.hub.fault(name)
        if self.fails(fault, body):
            return
        try:
            said = reply(self.hub, ask)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        except (KeyError, TypeError, ValueError) as error:
            self.refuse(Refusal(400, f"malformed: {type(error).__name__} {error}"))
            return
        if self.fails((fault or "").replace("-after", "-before"), body):
            return
        if isinstance(said, tuple):
            {"stream": self.stream, "live": self.follow, "file": self.file}[said[0]](said[1], fault)
        else:
            self.send(200, json.dumps(said).encode(), {"Content-Type": "application/json", **ask.headers})

    def fails(self, fault: str | None, body: bytes) -> bool:
        """Fail as asked, at this moment."""
        released = self.hub.healed
        if fault == "hangs-before":
            released.wait(30)
        if fault in ("hangs-before", "dropped-before"):
            self.connection.close()
        elif fault == "html-before":
            self.send(200, b"<html><body>Log in</body></html>", {"Content-Type": "text/html"})
        elif fault and fault.isdigit():  # a server that says too much: the client must not repeat it
            extra = {"Retry-After": "7"} if fault in ("429", "503") else {}
            said = json.dumps({"error": f"no\nway {TOKEN} {body.decode(errors='replace')[-200:]}"})
            self.send(int(fault), said.encode(), {"Content-Type": "application/json", **extra})
        else:
            return False
        return True

    def stream(self, events: list[str], fault: str | None) -> None:
        """Server-sent events. `cut`: the connection dies after half of the bytes; `torn`: it ends there as if that were all."""
        data = "".join(f"{event}\n\n" for event in events).encode()
        if fault == "cut":
            self.send(200, data[: len(data) // 2], {"Content-Type": "text/event-stream"}, announced=len(data))
        else:
            self.send(200, data[: len(data) // 2] if fault == "torn" else data, {"Content-Type": "text/event-stream"}, announced=None)

    def follow(self, job: Running, fault: str | None) -> None:
        """The log as it grows, until the job has ended."""
        self.send(200, b"", {"Content-Type": "text/event-stream"}, announced=None)
        sent, over = 0, False
        while not (over or self.hub.closed):
            with self.hub.changed:
                self.hub.changed.wait_for(partial(self.news, job, sent), 1)
                lines, over = job.printed[sent:], job.stage in ENDED
            for line in lines:
                self.wfile.write(f"data: {json.dumps({'data': line, 'timestamp': '2026-01-01T00:00:00.000Z'})}\n\n".encode())
            sent += len(lines)

    def news(self, job: Running, sent: int) -> bool:
        return len(job.printed) > sent or job.stage in ENDED or self.hub.closed

    def file(self, data: bytes, fault: str | None) -> None:
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")) else 0
        status = 206 if start else 200
        headers = {"ETag": '"e7a9"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if start:
            self.hub.resumed.append(start)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        self.send(status, rest[: len(rest) // 2] if fault == "cut" else rest, headers, announced=len(rest))

    def refuse(self, refusal: Refusal) -> None:
        self.hub.refused.append(f"{self.command} {self.path}: {refusal.status} {refusal}")
        code = {"X-Error-Code": refusal.code} if refusal.code else {}
        self.send(refusal.status, json.dumps({"error": str(refusal)}).encode(), {"Content-Type": "application/json", **code})

    def send(self, status: int, data: bytes, headers: dict[str, str], announced: int | None = -1) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if announced is not None:
            self.send_header("Content-Length", str(len(data) if announced == -1 else announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Counts the connections that it has taken and not closed."""

    hub: Hub
    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.hub.changed:
            self.hub.answering += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.hub.changed:
            self.hub.answering -= 1
            self.hub.changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked is gone: killed, or tired of waiting."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub on a free port."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.closed = True
        hub.heal()
        server.shutdown()
        thread.join()
        server.server_close()
