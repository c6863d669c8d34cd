"""A loopback Hugging Face Hub for what `plan doctor` asks: who is this, which jobs and hardware, may this be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import loopback
from tests.servers.loopback import TOKEN, Reply, Request, Service

USER: dict[str, Any] = {
    "type": "user", "name": "me", "canPay": True, "isPro": False,
    "orgs": [{"type": "org", "name": "lab", "roleInOrg": "write", "canPay": False}],
    "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}},
}  # fmt: skip
HARDWARE = [{"name": "l4x1", "prettyName": "1x Nvidia L4", "cpu": "8 vCPU", "ram": "30 GB", "unitCostUSD": 0.0133, "unitLabel": "minute"}]


def fine_grained(**scopes: list[str]) -> dict[str, Any]:
    """An account whose token has these permissions by namespace."""
    scoped = [{"entity": {"type": "user", "name": name}, "permissions": granted} for name, granted in scopes.items()]
    fine = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
    return {**USER, "auth": {"type": "access_token", "accessToken": {"role": "fineGrained", "fineGrained": fine}}}


@dataclass
class Account(Service):
    """One account. A request that changes something is unknown, and so fails the test."""

    user: Any = field(default_factory=lambda: dict(USER))
    readable: set[str] = field(default_factory=set)  # models/ID, datasets/ID
    gated: set[str] = field(default_factory=set)  # and the terms are not accepted

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def answer(self, request: Request) -> Reply | None:
        path = request.path
        if request.method != "GET":
            return None
        if path == "/api/jobs/hardware":
            return Reply(200, HARDWARE)
        if path.endswith("/auth-check"):
            repo = path.removeprefix("/api/").removesuffix("/auth-check")
            if repo in self.gated:
                return Reply(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
            return Reply(200, {}) if repo in self.readable else Reply(404, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})
        if path != "/api/whoami-v2" and not path.startswith("/api/jobs/"):
            return None
        if request.token != TOKEN:
            return Reply(401, {"error": "Invalid user token."})
        return Reply(200, self.user if path == "/api/whoami-v2" else [])


@contextmanager
def serve() -> Iterator[Account]:
    """A running Hub on a free port."""
    with loopback.serve(Account()) as account:
        yield account
