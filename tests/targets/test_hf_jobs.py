"""Jobs on Hugging Face from launch to bill: the real huggingface_hub against a strict loopback Hub."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal
from typing import Any

import pytest

from planner.errors import Ambiguous, NotAuthorised, UsageError
from planner.job import STATES, Handle, Usage, Volume, restored
from planner.targets import _hf_api, hf
from planner.targets.base import Target, names
from tests.servers.hf_jobs import ORG, TOKEN, USER
from tests.targets.conftest import MODEL, WANDB, HfPlace


def test_it_is_a_target() -> None:
    for name, method in vars(Target).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            promised = inspect.signature(method).parameters.values()
            offered = inspect.signature(getattr(hf, name)).parameters.values()
            assert [(one.name, one.kind) for one in promised if one.name != "self"] == [(one.name, one.kind) for one in offered], name
    assert hf.name in names() and not any(name.startswith("_") for name in names())
    assert hf.limits().num_gpus == 8


def started(place: HfPlace, run: str = "run-1") -> Handle:
    return hf.submit(place.job(run))


def test_what_is_sent_is_what_was_shown(hf_place: HfPlace) -> None:
    job = hf_place.job("run-1", flavor="a10g-largex2", num_gpus=2)
    job = job._replace(namespace=ORG, attempts=3, volumes=(Volume("cache", "/cache"), Volume("you/data", "/data")))
    shown = hf.request(job)
    assert not hf_place.hub.received, "showing sends nothing"
    handle = hf.submit(job)
    [(method, path, body)] = hf_place.hub.received  # the account was named: nobody was asked who this is
    assert (method, path) == (shown["method"], shown["path"])
    sent = json.loads(body)
    assert sent.pop("secrets") == {"HF_TOKEN": TOKEN, "WANDB_API_KEY": WANDB}
    assert shown["body"].pop("secrets") == {"HF_TOKEN": "***", "WANDB_API_KEY": "***"}
    assert shown["body"] == sent
    assert (sent["timeoutSeconds"], sent["attempts"], sent["flavor"]) == (15_000, 3, "a10g-largex2")
    assert sent["labels"]["plan-run-id"] == "run-1" and sent["environment"] == {"GREETING": "héllo"}
    assert [volume["source"] for volume in sent["volumes"]] == [f"{ORG}/cache", "you/data"]
    assert tuple(sent["command"][4:]) == job.argv and sent["command"][:2] == ["python", "-c"] and sent["command"][3] == "2"
    assert handle == {"job_id": "job1", "namespace": ORG, "url": f"{hf_place.hub.url}/jobs/{ORG}/job1", "timeout_s": "15000", "repo": MODEL}
    assert json.loads(json.dumps(handle)) == handle and TOKEN not in repr(job) + repr(handle)


def test_the_account_is_asked_once(hf_place: HfPlace) -> None:
    handle = started(hf_place)
    assert handle["namespace"] == USER
    started(hf_place, "run-2")
    hf.find(hf_place.job("run-1"))
    hf.status(handle)
    hf.preflight(hf_place.job("run-1"))
    assert hf_place.hub.asked("GET", "/api/whoami-v2") == 1


def test_a_wrong_request_is_refused(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's strictness is what the other tests stand on."""
    good = hf_place.job("run-1")
    wrong = {
        "flavor": good._replace(flavor="l4x9"), "label": good._replace(labels={"plan-run-id": "a/b"}),
        "volume": good._replace(volumes=(Volume("x", "relative"),)),
    }  # fmt: skip
    for what, job in wrong.items():
        with pytest.raises(UsageError, match=rf"{what}.*--dry-run$"):
            hf.submit(job)
    with pytest.raises(UsageError, match="--timeout"):
        hf.submit(good._replace(timeout_s=0))
    for asked in ({"expose": [80]}, {"timeout": None}):
        real = hf._asked
        with monkeypatch.context() as patch, pytest.raises(UsageError, match="unknown fields|no \\['timeoutSeconds"):
            patch.setattr(hf, "_asked", lambda job, real=real, asked=asked: {**real(job), **asked})
            hf.submit(good)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "else" * 8)
    with pytest.raises(NotAuthorised, match="hf auth login"):
        hf.submit(good)
    assert not hf_place.hub.jobs and len(hf_place.hub.refused) == 6


def test_without_a_secret_nothing_is_sent(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(NotAuthorised, match="WANDB_API_KEY.*wandb login"):
        started(hf_place)
    assert not hf_place.hub.jobs
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {WANDB}\n")
    started(hf_place)
    assert hf_place.hub.jobs["job1"].body["secrets"]["WANDB_API_KEY"] == WANDB
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NotAuthorised, match="hf auth login"):
        started(hf_place)


def test_secrets_of_any_form_stay_secret(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", odd := "p: ä!{}`ss w")
    text = f"no <{odd}> x{TOKEN}x Bearer abc.def hf_othertoken {TOKEN[-9:]} l4x1 is fine"
    assert _hf_api.redacted(text, [odd]) == "no <***> x***x Bearer *** *** *** l4x1 is fine"
    assert _hf_api.redacted("a\n\tb " + "c" * 300) == "a b " + "c" * 155 + "…"


def test_nobody_listens(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never left is no doubt."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="the connection failed") as refused:
        hf.submit(hf_place.job("run-1")._replace(namespace=USER))
    assert not isinstance(refused.value, Ambiguous)


def test_a_job_is_found_by_its_label(hf_place: HfPlace) -> None:
    job = hf_place.job("run-3")
    assert hf.find(job) is None
    for run in ("run-1", "run-3", "run-2", "run-33"):
        started(hf_place, run)
    assert hf.find(restored(json.loads(json.dumps(job._asdict())))) == started_as("job2", hf_place)
    started(hf_place, "run-3")
    found = hf.find(job)
    assert found and found["job_id"] == "job5", "the newest, where a run was resumed"


def started_as(job: str, place: HfPlace) -> Handle:
    return {"job_id": job, "namespace": USER, "url": f"{place.hub.url}/jobs/{USER}/{job}", "timeout_s": "15000", "repo": MODEL}


def test_a_server_without_filters_and_with_pages(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        started(hf_place, f"run-{number}")
    hf_place.hub.page = 2
    monkeypatch.setattr("tests.servers.hf_routes.FILTERS", False)
    found = hf.find(hf_place.job("run-2"))
    assert found and found["job_id"] == "job3"
    assert hf_place.hub.asked("GET", f"/api/jobs/{USER}") == 3


@pytest.mark.parametrize(
    ("stage", "message", "running_s", "state", "exit_code"),
    [
        ("SCHEDULING", None, None, "queued", None), ("RUNNING", None, 5, "running", None), ("COMPLETED", None, 5, "succeeded", None),
        ("CANCELED", None, 5, "cancelled", None), ("DELETED", None, 5, "cancelled", None),
        ("ERROR", "Job failed with exit code: 86. Reason: Error", 20_000, "failed", 86), ("ERROR", None, 5, "failed", None),
        ("ERROR", "Job timeout", 15_001, "timed_out", None), ("ERROR", None, 15_000, "timed_out", None),
        ("ERROR", "Job timed out", None, "timed_out", None), ("HIBERNATING", None, 5, "running", None),
        ("PULLING", "layer 3 of 9", None, "queued", None),
    ],
)  # fmt: skip
def test_stages(hf_place: HfPlace, stage: str, message: str | None, running_s: int | None, state: str, exit_code: int | None) -> None:
    handle = started(hf_place)
    hf_place.hub.advance("job1", stage, message=message, running_s=running_s)
    status = hf.status(handle)
    assert (status.state, status.exit_code, status.waiting_s, status.running_s) == (state, exit_code, 40, running_s)
    assert status.state in STATES and status.message == (message or ("stage HIBERNATING" if stage == "HIBERNATING" else None))


LINES = [f"step {number} loss 0.{number}" for number in range(6)] + ["step 5 loss 0.5", "", "déjà vu"]  # the same line twice is two lines


@pytest.mark.parametrize("faults", [(), ("cut",), ("torn",), ("503", "cut", "500"), ("html-before", "429"), ("dropped-before", "torn")])
def test_every_line_once(hf_place: HfPlace, slept: list[Any], faults: tuple[str, ...]) -> None:
    """The stream breaks in these ways; while somebody pauses, the job goes on."""
    handle, hub = started(hf_place), hf_place.hub
    hub.advance("job1", "RUNNING", *LINES[:4])
    for fault in faults:
        hub.fail("logs", fault, 1)
    rest = iter(LINES[4:])

    def goes_on(_: float) -> None:
        line = next(rest, None)
        hub.advance("job1", "COMPLETED" if line is None else "RUNNING", *([] if line is None else [line]))

    slept.append(goes_on)
    assert list(hf.logs(handle, follow=True)) == LINES
    assert hf.status(handle).state == "succeeded"


@pytest.mark.parametrize("fault", ["cut", "torn", "503", "dropped-before"])
def test_a_cut_after_the_end_loses_nothing(hf_place: HfPlace, fault: str) -> None:
    handle = started(hf_place)
    hf_place.hub.advance("job1", "ERROR", *LINES)
    hf_place.hub.fail("logs", fault, 1)
    assert list(hf.logs(handle, follow=True)) == LINES


def test_the_log_so_far(hf_place: HfPlace) -> None:
    handle = started(hf_place)
    assert list(hf.logs(handle, follow=False)) == []
    hf_place.hub.advance("job1", "RUNNING", *LINES)
    assert list(hf.logs(handle, follow=False)) == LINES


def test_use_of_the_hardware(hf_place: HfPlace) -> None:
    handle = started(hf_place)
    assert hf.usage(handle) is None
    hf_place.hub.jobs["job1"].metrics = {
        "cpu_usage_pct": 10, "memory_used_bytes": 7, "memory_total_bytes": 9, "replica": "a",
        "gpus": {"a": {"utilization": 50, "memory_used_bytes": 10, "memory_total_bytes": 24},
                 "b": {"utilization": 100, "memory_used_bytes": 20, "memory_total_bytes": 25}},
    }  # fmt: skip
    hf_place.hub.advance("job1", "RUNNING")
    assert hf.usage(handle) == Usage(0.75, 20, 25, 7)
    hf_place.hub.advance("job1", "COMPLETED")
    assert hf.usage(handle) is None


def test_cancelling_twice(hf_place: HfPlace) -> None:
    handle = started(hf_place)
    hf.cancel(handle)
    hf.cancel(handle)
    assert hf.status(handle).state == "cancelled" and hf_place.hub.jobs["job1"].stage == "CANCELED"
    second = started(hf_place, "run-2")
    hf_place.hub.advance("job2", "COMPLETED")
    hf.cancel(second)
    assert hf.status(second).state == "succeeded"


def test_the_bill(hf_place: HfPlace) -> None:
    handle, bills = started(hf_place), hf_place.hub.bills
    assert hf.bill(handle) is None
    bills.append({"jobId": "other", "completedAt": "2026-01-01T01:00:00Z", "totalCostMicroUsd": 5})
    bills.append({"jobId": "job1", "hardwareFlavor": "l4x1", "completedAt": None, "totalMinutes": 3, "totalCostMicroUsd": 40_000})
    assert hf.bill(handle) is None, "it still runs"
    bills[1]["completedAt"] = "2026-01-01T01:00:00Z"
    assert hf.bill(handle) == Decimal("0.04")
    hf_place.hub.fail("billing", "403")
    assert hf.bill(handle) is None, "a token that may not read bills"
