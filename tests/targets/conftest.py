"""Places to run against loopback providers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grpclib import Status

from planner.job import Job, Output
from planner.recipes.lerobot import job as make
from planner.targets import _hf_api, _modal_api, _modal_logs, hf, modal
from tests.factories import estimate, offer, workload
from tests.servers import hf_jobs, modal_jobs
from tests.servers.modal import AFTER, DROP, HANG, HTML, TOKEN_ID, TOKEN_SECRET

WANDB = "w4nd6" * 8
MODEL = "me/out"


class HfPlace:
    """Hugging Face Jobs by way of the real client."""

    target: Any = hf
    secrets = (hf_jobs.TOKEN, WANDB)

    def __init__(self, hub: hf_jobs.Hub) -> None:
        self.hub = hub

    def job(self, run: str, **fields: Any) -> Job:
        where = offer("hf", flavor=fields.pop("flavor", "l4x1"), num_gpus=fields.pop("num_gpus", 1))
        training = workload(trainer_args=("--wandb.enable=true",), environment=(("GREETING", "héllo"),), **fields)
        made = make(estimate(where, timeout_s=15_000), training, target="hf", output=Output("hub", MODEL), name=run)
        return made._replace(labels={"plan-run-id": run})

    def fail(self, call: str, fault: str) -> None:
        routes = {"preflight": "whoami", "find": "list", "status": "inspect", "usage": "metrics"}
        kinds = {"unauthorised": "401", "no-credit": "402", "forbidden": "403", "missing": "404", "conflict": "409", "busy": "429",
                 "broken": "500", "down": "503", "garbage-before": "html-before", "garbage-after": "html-after"}  # fmt: skip
        route = routes.get(call, call)
        self.hub.fail(route, kinds.get(fault, fault))
        if (call == "logs" and not kinds.get(fault, "").isdigit()) or (call, fault) == ("cancel", "garbage-before"):
            self.hub.fail("inspect", kinds.get(fault, fault))  # where a stream breaks the stage is asked, and after a cancel

    def heal(self) -> None:
        self.hub.heal()

    def jobs(self) -> int:
        return len(self.hub.jobs)

    def tolerated(self, call: str, fault: str) -> bool:
        """A job that is not known has a status; one that is not running has no measurements, nor has one whose stream is silent."""
        if call == "cancel":
            return fault in ("dropped-after", "hangs-after", "garbage-after")  # it was cancelled, as the status says
        silent = ("missing", "broken", "hangs-before", "hangs-after", "garbage-before", "garbage-after")
        return (call, fault) == ("status", "missing") or (call == "usage" and fault in silent)


@pytest.fixture
def hub() -> Iterator[hf_jobs.Hub]:
    with hf_jobs.serve() as running:
        running.repos["datasets/me/pick"] = {"private": True, "tags": ["v3.0"], "files": {}}
        yield running


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[float], None]]:
    """Nobody sleeps: each pause, ours or the client's, calls the functions in this list with its seconds."""
    import huggingface_hub.file_download
    import huggingface_hub.hf_api
    import huggingface_hub.utils._http

    calls: list[Callable[[float], None]] = []

    def pause(seconds: float) -> None:
        for call in list(calls):
            call(seconds)

    clock = SimpleNamespace(sleep=pause, monotonic=time.monotonic, time=time.time)
    for module in (huggingface_hub.hf_api, huggingface_hub.file_download, huggingface_hub.utils._http):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(_hf_api, "sleep", pause)
    return calls


@pytest.fixture
def hf_place(hub: hf_jobs.Hub, slept: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HfPlace:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hf_jobs.TOKEN)
    monkeypatch.setenv("WANDB_API_KEY", WANDB)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(_hf_api, "ANSWER_S", 0.2)  # a server that hangs is given up soon
    monkeypatch.setattr(_hf_api, "LONGEST_S", 0.2)
    monkeypatch.setattr(hf, "_LOG_TRIES", 2)
    return HfPlace(hub)


class ModalPlace:
    """Modal by way of the real client."""

    target: Any = modal
    secrets = (TOKEN_ID, TOKEN_SECRET)

    def __init__(self, cloud: modal_jobs.Cloud, patch: pytest.MonkeyPatch) -> None:
        self.cloud, self.patch = cloud, patch

    def job(self, run: str, **fields: Any) -> Job:
        where = offer("modal", flavor=fields.pop("flavor", "L40S"), num_gpus=fields.pop("num_gpus", 1))
        row = estimate(where, attempts=fields.pop("attempts", 1), timeout_s=fields.pop("timeout_s", 15_000))
        training = workload(trainer_args=("--wandb.enable=true",), environment=(("GREETING", "héllo"),), **fields)
        made = make(row, training, target="modal", output=Output("volume", "/outputs/pick-1"), name="pick-1", startup_timeout_s=900)
        return made._replace(labels={"plan-run-id": run})

    #: the question that each call cannot do without
    RPCS = {"preflight": "WorkspaceNameLookup", "submit": "FunctionMap", "find": "AppList", "status": "FunctionGetOutputs",
            "logs": "AppCountLogs", "cancel": "FunctionCallCancel"}  # fmt: skip
    KINDS: dict[str, Any] = {
        "unauthorised": Status.UNAUTHENTICATED, "no-credit": Status.RESOURCE_EXHAUSTED, "forbidden": Status.PERMISSION_DENIED,
        "missing": Status.NOT_FOUND, "conflict": Status.ABORTED, "busy": Status.RESOURCE_EXHAUSTED, "broken": Status.INTERNAL,
        "down": Status.UNAVAILABLE, "dropped-before": DROP, "dropped-after": (AFTER, DROP), "hangs-before": HANG,
        "hangs-after": (AFTER, HANG), "garbage-before": HTML, "garbage-after": (AFTER, HTML),
    }  # fmt: skip

    def fail(self, call: str, fault: str) -> None:
        if call == "usage":
            return  # nothing is asked
        if fault.startswith("hangs"):
            self.patch.setattr(_modal_api, "ANSWER_S", 0.3)
            self.patch.setattr(_modal_api, "START_S", 0.3)
        self.cloud.server.faults[self.RPCS[call]] = self.KINDS[fault]
        if call == "logs":
            self.cloud.server.faults["FunctionGetOutputs"] = self.KINDS[fault]

    def heal(self) -> None:
        self.cloud.server.faults.clear()

    def jobs(self) -> int:
        return len(self.cloud.calls)

    def tolerated(self, call: str, fault: str) -> bool:
        """A call that is not known has a status; one that was cancelled says so by its own status."""
        return call == "usage" or (call, fault) == ("status", "missing") or (
            call == "cancel" and fault in ("dropped-after", "hangs-after", "garbage-after"))  # fmt: skip


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[modal_jobs.Cloud]:
    with modal_jobs.serve_jobs(tmp_path / "cloud") as running:
        yield running


@pytest.fixture
def modal_place(cloud: modal_jobs.Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModalPlace:
    from modal import _functions, _grpc_client, config
    from modal._utils.grpc_utils import Retry
    from modal.client import _Client

    for name, value in cloud.server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLAN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config, "_user_config", {})
    monkeypatch.setattr(_Client, "_client_from_env", None)
    monkeypatch.setattr(_modal_api, "sleep", lambda seconds: None)
    for name in ("base_delay", "max_delay"):  # the client's pauses between attempts; a frozen record
        monkeypatch.setitem(_grpc_client._DEFAULT_RETRY.__dict__, name, 0.001)
    monkeypatch.setattr(_functions, "Retry", partial(Retry, base_delay=0.001, max_delay=0.001))
    monkeypatch.setattr(_modal_logs, "TRIES", 1)
    return ModalPlace(cloud, monkeypatch)
