"""A loopback Modal for the real client: gRPC over plain HTTP/2, with Modal's own messages. Strict: what it does not know is refused.

`serve()` gives a Modal whose `answers` map the name of an RPC to a function of its request; a later launch adds its own.
`faults` map a name to a gRPC status, to DROP, HANG or HTML, which hold until they are taken away; `(AFTER, fault)` acts first. A request
that comes again with its idempotency key is answered as before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from grpclib import GRPCError, Status
from grpclib.server import Server, Stream
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

TOKEN_ID, TOKEN_SECRET = "ak-loopbackid1234", "as-loopbacksecret5678"  # no real token looks like this
HANG, DROP, HTML, AFTER = "hang", "drop", "html", "after"

#: what `modal billing rates` printed in August 2026, as text: the client makes Decimals of it
RATES = {
    "gpu_hour_cost_t4": "0.59", "gpu_hour_cost_l4": "0.80", "gpu_hour_cost_a10g": "1.10", "gpu_hour_cost_l40s": "1.95",
    "gpu_hour_cost_a100_40gb": "2.10", "gpu_hour_cost_a100_80gb": "2.50", "gpu_hour_cost_rtx6000": "3.03",
    "gpu_hour_cost_h100": "3.95", "gpu_hour_cost_h200": "4.54", "gpu_hour_cost_b200": "6.25", "gpu_hour_cost_b300": "7.10",
    "cpu_hour_cost": "0.0473", "mem_gib_hour_cost": "0.008", "cpu_hour_cost_sandbox": "0.1419", "mem_gib_hour_cost_sandbox": "0.024",
    "volume_storage_gib_month_cost": "0.09",
}


@dataclass
class Modal:
    """What the server says and saw. `seen` holds the names of the RPCs in their order, `refused` the reason of each refusal."""

    url: str = ""
    rates: dict[str, str] = field(default_factory=lambda: dict(RATES))
    faults: dict[str, Status | str | tuple[str, str]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)  # by idempotency key

    def __post_init__(self) -> None:
        self.answers = {
            "ClientHello": lambda _: api_pb2.ClientHelloResponse(),
            "WorkspaceNameLookup": lambda _: api_pb2.WorkspaceNameLookupResponse(username="me"),
            "WorkspaceBillingRates": lambda _: api_pb2.WorkspaceBillingRatesResponse(rates=self.rates),
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the client needs to find this server and to be let in."""
        return {"MODAL_SERVER_URL": self.url, "MODAL_TOKEN_ID": TOKEN_ID, "MODAL_TOKEN_SECRET": TOKEN_SECRET}

    async def handle(self, name: str, stream: Stream[Any, Any], released: asyncio.Event) -> None:
        self.seen.append(name)
        fault = self.faults.get(name)
        if not isinstance(fault, tuple):
            await self._fail(fault, stream, released)
            if fault in (HANG, DROP, HTML):
                return
        metadata = stream.metadata or {}
        if (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")) != (TOKEN_ID, TOKEN_SECRET):
            raise self._refusal(Status.UNAUTHENTICATED, f"{name}: token")
        request = await stream.recv_message()
        if name not in self.answers:
            raise self._refusal(Status.UNIMPLEMENTED, f"{name}: not answered here")
        key = str(metadata.get("x-idempotency-key") or "")
        if not key or key not in self.given:
            self.given[key] = self.answers[name](request)
        if isinstance(fault, tuple):
            await self._fail(fault[1], stream, released)
            return
        answer = self.given[key]
        for message in answer if isinstance(answer, list) else [answer]:
            await stream.send_message(message)

    async def _fail(self, fault: Status | str | None, stream: Stream[Any, Any], released: asyncio.Event) -> None:
        if fault == HANG:
            await released.wait()
        elif fault == DROP:
            stream._stream.connection._transport.abort()  # the cable is pulled: no answer, no goodbye
        elif fault == HTML:  # a proxy's log-in page
            await stream._stream.send_headers([(":status", "200"), ("content-type", "text/html")])
            await stream._stream.send_data(b"<html>Please log in</html>", end_stream=True)
            stream._send_trailing_metadata_done = stream._send_initial_metadata_done = True
        elif isinstance(fault, Status):
            raise GRPCError(fault, f"{fault.name.lower()} as asked, {TOKEN_ID} {TOKEN_SECRET}")  # it says too much

    def _refusal(self, status: Status, why: str) -> GRPCError:
        self.refused.append(why)
        return GRPCError(status, why)


def _service(modal: Modal, released: asyncio.Event) -> ModalClientBase:
    """Modal's service with every RPC going to `modal.handle`."""

    def method(name: str) -> Callable[..., Any]:
        async def call(self: Any, stream: Stream[Any, Any]) -> None:
            await modal.handle(name, stream, released)

        return call

    return type("Service", (ModalClientBase,), {name: method(name) for name in ModalClientBase.__abstractmethods__})()


@contextmanager
def serve() -> Iterator[Modal]:
    """A running Modal on a free port."""
    modal, ready, stop = Modal(), threading.Event(), []

    async def main() -> None:
        stopped, released = asyncio.Event(), asyncio.Event()
        server = Server([_service(modal, released)])
        await server.start("127.0.0.1", 0)
        assert server._server is not None
        modal.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        ready.set()
        await stopped.wait()
        released.set()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(30), "the loopback Modal did not start"
    try:
        yield modal
    finally:
        stop[0]()
        thread.join()
