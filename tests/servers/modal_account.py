"""A loopback Modal for what `plan doctor` asks: workspace, environments, secrets and volumes by name. Strict: it creates nothing.

The real client speaks to it over plaintext gRPC (MODAL_SERVER_URL=http://127.0.0.1:PORT).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKEN = ("ak-loopback", "as-loopback")


@dataclass
class Account:
    """The server's answers. `faults` maps an RPC's name to a grpclib status name, or to `hang`."""

    url: str = ""
    workspace: str = "lab"
    secrets: dict[str, set[str]] = field(default_factory=lambda: {"huggingface-secret": {"HF_TOKEN"}, "wandb-secret": {"WANDB_API_KEY"}})
    volumes: set[str] = field(default_factory=lambda: {"lerobot-outputs"})
    environment: dict[str, Any] = field(default_factory=lambda: {"name": "main", "default": True})
    faults: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Account]:
    """A running Modal on a free port."""
    account, ready, loop = Account(), threading.Event(), asyncio.new_event_loop()

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(_start(account))
        ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(server.wait_closed())
        loop.run_until_complete(loop.shutdown_asyncgens())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield account
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(account: Account) -> Any:
    from grpclib.server import Server

    server = Server([_service(account)])
    await server.start("127.0.0.1", 0)
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    account.url = f"http://127.0.0.1:{port}"
    return server


def _service(account: Account) -> Any:
    from grpclib import GRPCError, Status
    from modal_proto import api_grpc, api_pb2

    answers = {
        "WorkspaceNameLookup": lambda request: api_pb2.WorkspaceNameLookupResponse(username=account.workspace),
        "EnvironmentList": lambda request: api_pb2.EnvironmentListResponse(items=[account.environment]),
        "EnvironmentGetOrCreate": lambda request: api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1"),
        "AuthTokenGet": lambda request: api_pb2.AuthTokenGetResponse(token=""),
    }

    def secret(request: Any) -> Any:
        if request.object_creation_type or request.env_dict:
            raise GRPCError(Status.INVALID_ARGUMENT, "a check creates nothing")
        if request.deployment_name not in account.secrets:
            raise GRPCError(Status.NOT_FOUND, "Secret not found")
        if lacking := set(request.required_keys) - account.secrets[request.deployment_name]:
            raise GRPCError(Status.NOT_FOUND, f"Secret is missing key(s): {', '.join(lacking)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id="st-1")

    def volume(request: Any) -> Any:
        if request.object_creation_type:
            raise GRPCError(Status.INVALID_ARGUMENT, "a check creates nothing")
        if request.deployment_name not in account.volumes:
            raise GRPCError(Status.NOT_FOUND, "Volume not found")
        return api_pb2.VolumeGetOrCreateResponse(volume_id="vo-1")

    answers |= {"SecretGetOrCreate": secret, "VolumeGetOrCreate": volume}

    def handler(rpc: str) -> Any:
        async def handle(self: Any, stream: Any) -> None:
            request = await stream.recv_message()
            account.seen.append(rpc)
            fault = account.faults.get(rpc, account.faults.get("*"))
            if fault == "hang":
                await asyncio.Event().wait()
            if fault:
                raise GRPCError(Status[fault], "fault")
            sent = (stream.metadata.get("x-modal-token-id"), stream.metadata.get("x-modal-token-secret"))
            if sent != TOKEN:
                raise GRPCError(Status.UNAUTHENTICATED, "Token ID is invalid")
            if rpc not in answers:
                raise GRPCError(Status.UNIMPLEMENTED, f"{rpc}: a check has no need of it")
            await stream.send_message(answers[rpc](request))

        return handle

    names = [name for name in dir(api_grpc.ModalClientBase) if name[0].isupper()]
    return type("Servicer", (api_grpc.ModalClientBase,), {name: handler(name) for name in names})()
