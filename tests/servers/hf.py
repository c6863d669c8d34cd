"""A loopback Hugging Face Hub for the real client: jobs, hardware and datasets. Strict: what it does not know it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import loopback
from tests.servers.hub import Datasets
from tests.servers.loopback import TOKEN, Reply, Request

__all__ = ["HARDWARE", "TOKEN", "USER", "Hub", "flavor", "serve"]

USER = "me"
FIELDS = {"command", "arguments", "environment", "flavor", "secrets", "timeoutSeconds", "attempts", "labels", "volumes",
          "dockerImage"}
HARDWARE = "/api/jobs/hardware"


def flavor(
    name: str, usd_per_minute: float | None, gpu: str | None = None, count: int = 1, vram: str = "24 GB", **fields: Any
) -> dict[str, Any]:
    """An entry of the hardware list as the Hub writes it; `vram` is that of all GPUs together."""
    accelerator = gpu and {"type": "gpu", "model": gpu, "quantity": str(count), "vram": vram, "manufacturer": "Nvidia"}
    micro = None if usd_per_minute is None else round(usd_per_minute * 10**6)
    return {
        "name": name, "prettyName": name, "cpu": "8 vCPU", "ram": "30 GB", "ephemeralStorage": "400 GB", "accelerator": accelerator,
        "unitCostMicroUSD": micro, "unitCostUSD": usd_per_minute, "unitLabel": "minute",
    } | fields


@dataclass
class Hub(Datasets):
    """`jobs` holds the accepted job requests, `hardware` what can be rented, which anybody may ask for."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    hardware: Any = field(default_factory=list)

    def answer(self, request: Request) -> Reply | None:
        route = (request.method, request.path)
        if route == ("GET", HARDWARE):
            return Reply(200, self.hardware)
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
