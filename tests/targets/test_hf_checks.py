"""What is looked at before a job on Hugging Face is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from planner.job import Check, Job, Output
from planner.targets import hf
from tests.servers.hf_jobs import ORG, TOKEN
from tests.targets import faults
from tests.targets.conftest import HfPlace


def checked(job: Job) -> dict[str, Check]:
    return {check.name: check for check in hf.preflight(job)}


def failed(job: Job) -> dict[str, int]:
    """Names of the checks that fail, with the exit code of a launch."""
    return {name: check.exit_code for name, check in checked(job).items() if check.ok is False}


def test_all_is_well(hf_place: HfPlace) -> None:
    job = hf_place.job("run-1")._replace(usd_per_hour="0.80")
    found = checked(job)
    assert all(check.ok for check in found.values()), found
    assert set(found) == {"login", "permission", "account", "credit", "hardware", "price", "secret HF_TOKEN", "secret WANDB_API_KEY",
                          "dataset", "results", "timeout"}  # fmt: skip
    assert found["price"].text == "l4x1 costs $0.80/h, $0.80/h was planned"
    assert all(method == "GET" for method, _, _ in hf_place.hub.received), "looked at, not touched"
    assert not hf_place.hub.jobs


def role(name: str, *scopes: tuple[str, str]) -> dict[str, Any]:
    fine = {"fineGrained": {"global": [], "scoped": [{"entity": {"name": who}, "permissions": [what]} for who, what in scopes]}}
    return {"auth": {"accessToken": {"role": name, **(fine if name == "fineGrained" else {})}}}


@pytest.mark.parametrize(
    ("who", "namespace", "ok"),
    [
        (role("write"), None, True), (role("read"), None, False), (role("god"), None, None), ({"auth": {}}, None, None),
        (role("fineGrained", ("me", "job.write")), None, True), (role("fineGrained", ("me", "repo.write")), None, False),
        (role("fineGrained", ("me", "job.write")), ORG, False), (role("fineGrained", (ORG, "job.write")), ORG, True),
    ],
)  # fmt: skip
def test_what_the_token_may(hf_place: HfPlace, who: dict[str, Any], namespace: str | None, ok: bool | None) -> None:
    hf_place.hub.who |= who
    check = checked(hf_place.job("run-1")._replace(namespace=namespace))["permission"]
    assert check.ok is ok
    assert ok or ("job.write" in check.fix and check.exit_code == 6)


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"namespace": "strangers"}, {"account": 6}),
        ({"flavor": "l4x9"}, {"hardware": 7}), ({"num_gpus": 4}, {"hardware": 7}),
        ({"usd_per_hour": "0.76"}, {"price": 5}), ({"usd_per_hour": "0.77"}, {}), ({"usd_per_hour": "2.00"}, {}),
        ({"timeout_s": 0}, {"timeout": 2}), ({"secrets": ("HF_TOKEN", "OTHER")}, {"secret OTHER": 6}),
        ({"trainer": ("--dataset.repo_id=me/absent",)}, {"dataset": 2}), ({"trainer": ("--dataset.repo_id=me/raw",)}, {"dataset": 2}),
        ({"output": Output("hub", "strangers/out")}, {"results": 6}), ({"output": Output("hub", "readers/out")}, {"results": 6}),
        ({"output": Output("hub", f"{ORG}/out"), "namespace": ORG}, {}),
    ],
)  # fmt: skip
def test_what_stops_a_launch(hf_place: HfPlace, change: dict[str, Any], failing: dict[str, int]) -> None:
    hf_place.hub.repos["datasets/me/raw"] = {"private": True, "tags": [], "files": {}}
    job = hf_place.job("run-1")._replace(**change)
    assert failed(job) == failing
    for check in hf.preflight(job):
        faults.checked(check, hf_place)
        assert check.ok or check.fix, f"{check.name} says what to do"


def test_what_is_not_told(hf_place: HfPlace) -> None:
    found = checked(hf_place.job("run-1")._replace(namespace="readers", usd_per_hour=None))
    assert found["credit"].ok is None and "prepaid" in found["credit"].text
    assert found["price"].ok is None and "$0.80/h" in found["price"].text
    for one in hf_place.hub.hardware:
        one["unitLabel"] = "fortnight"
    assert checked(hf_place.job("run-1"))["price"].ok is None


@pytest.mark.parametrize("fault", ["401", "403", "429", "500", "503", "dropped-before", "hangs-before", "html-before"])
@pytest.mark.parametrize(("route", "name"), [("hardware", "hardware"), ("repo", "dataset"), ("refs", "dataset")])
def test_one_that_cannot_be_asked_fails_alone(hf_place: HfPlace, route: str, name: str, fault: str) -> None:
    """Also where the client asks without a time limit on purpose."""
    hf_place.hub.fail(route, fault)
    found = hf.preflight(hf_place.job("run-1"))
    assert [check.name for check in found if check.ok is False] == [name]
    for check in found:
        faults.checked(check, hf_place)
    assert next(check for check in found if check.name == name).exit_code == (6 if fault in ("401", "403") else 7)
    assert TOKEN not in repr(found)


def test_nobody_is_logged_in(hf_place: HfPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    found = hf.preflight(hf_place.job("run-1"))
    assert [(check.name, check.exit_code) for check in found if check.ok is False] == [("login", 6), ("secrets", 6)]
    assert "hf auth login" in found[0].text and not hf_place.hub.received
