"""`plan prices`, `--live` and `--offline`: the installed program against loopback servers of both places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.commands.conftest import Result
from tests.servers import hf as hub_server
from tests.servers import modal as modal_server
from tests.servers.hf import HARDWARE, Hub, flavor
from tests.servers.loopback import FAULTS, Reply
from tests.servers.modal import Modal
from tests.show.golden import check

WORK = ("--policy", "act", "--episodes", "50")
SCHEMA = json.loads((files("planner") / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))


class Places:
    """Both servers, and `plan` in an environment that knows them."""

    def __init__(self, hub: Hub, modal: Modal, plan: Callable[..., Result], home: Path) -> None:
        self.hub, self.modal, self.home, self._plan = hub, modal, home, plan

    def plan(self, *arguments: str, **environment: str) -> Result:
        return self._plan(*arguments, **{"HF_ENDPOINT": self.hub.url, "PLAN_HOME": str(self.home), **self.modal.environment, **environment})

    def json(self, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
        done = self.plan(*arguments, "--json", **environment)
        return done.returncode, json.loads(done.stdout)

    @property
    def asked(self) -> int:
        """Requests for prices so far, at both."""
        return [one.path for one in self.hub.requests].count(HARDWARE) + self.modal.seen.count("WorkspaceBillingRates")


@pytest.fixture
def places(plan: Callable[..., Result], tmp_path: Path) -> Iterator[Places]:
    with hub_server.serve() as hub, modal_server.serve() as modal:
        hub.hardware = [
            flavor("cpu-basic", 0.000167), flavor("l4x1", 0.015, "L4"), flavor("l4x4", 0.063333, "L4", 4, "96 GB"),
            flavor("a100-large", None, "A100", 1, "80 GB"), flavor("h100", 0.06, "H100", 1, "80 GB"),
            flavor("gaudi3", 0.05, "Gaudi 3", 1, "128 GB"), flavor("t4-small", 1, "T4", 1, "16 GB", unitLabel="fortnight"),
        ]  # fmt: skip
        yield Places(hub, modal, plan, tmp_path / "home")


def entry(document: dict[str, Any], what: str) -> dict[str, Any]:
    return next(one for one in document["prices"] if one["what"] == what)


def test_refresh_fetches_keeps_and_says_what_changed(places: Places) -> None:
    code, before = places.json("prices")
    assert code == 0 and places.asked == 0 and all(one["live"] is None for one in before["prices"])
    code, after = places.json("prices", "--refresh")
    assert code == 0 and places.asked == 2 and after["refreshed"] == ["hf", "modal"] and after["error"] is None
    l4 = entry(after, "l4x1")
    assert (l4["bundled"]["usd_per_hour"], l4["live"]["usd_per_hour"], l4["difference"], l4["used"]) == (0.8, 0.9, 0.1, l4["live"])
    assert {one["what"]: (one["before"], one["after"]) for one in after["changes"] if one["target"] == "hf" and not one["note"]} == {
        "l4x1": (0.8, 0.9), "a100-large": (2.5, None)}
    assert {one["what"] for one in after["changes"] if one["note"] == "new"} == {"h100", "gaudi3"}
    assert entry(after, "h200")["used"] is None and "not offered any more" in entry(after, "h200")["note"]
    assert entry(after, "a100-large")["note"] == "cannot price" and entry(after, "a100-large")["used"]["usd_per_hour"] is None
    assert entry(after, "gaudi3")["note"] == "cannot estimate: unknown GPU Gaudi 3" and entry(after, "gaudi3")["vram_gb"] == 128
    assert entry(after, "t4-small")["used"]["usd_per_hour"] == 0.4 and "fortnight" in after["warnings"][0]["text"]
    _, kept = places.json("prices")
    assert places.asked == 2 and kept["prices"] == after["prices"] and kept["changes"] == []  # cached now
    places.hub.hardware[1]["unitCostUSD"] = 0.01
    _, again = places.json("prices", "--refresh", "--target", "hf")
    assert [(one["what"], one["before"], one["after"]) for one in again["changes"]] == [("l4x1", 0.9, 0.6)]
    history = [json.loads(line) for line in (places.home / "state" / "prices.jsonl").read_text().splitlines()]
    assert [line["prices"]["l4x1"] for line in history if line["target"] == "hf"] == ["0.90", "0.60"]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_tables(places: Places, columns: int) -> None:
    places.modal.rates["gpu_hour_cost_l4"] = "0.72"
    done = places.plan("prices", "--refresh", COLUMNS=str(columns))
    _, document = places.json("prices")
    today = entry(document, "l4x1")["live"]["as_of"]
    shown = "\n".join(line for line in done.stdout.replace(today, "2026-11-20").splitlines() if not line.startswith(" ! prices:"))
    assert max(map(len, done.stdout.splitlines())) <= columns
    check(f"prices-refreshed-{columns}.txt", shown.rstrip() + "\n")


def test_a_plan_uses_the_cache_without_asking(places: Places) -> None:
    places.plan("prices", "--refresh")
    places.hub.faults[HARDWARE] = FAULTS["500"]
    for how in ((), ("--offline",)):
        code, document = places.json(*WORK, *how)
        assert code == 0 and places.asked == 2
        jsonschema.Draft202012Validator(SCHEMA).validate(document)
        assert {(price["target"], price["method"]) for price in document["prices"]} >= {("hf", "live"), ("modal", "live")}
        rows = {row["id"]: row for row in document["estimates"]}
        assert rows["hf:l4x1"]["usd_per_hour"] == 0.9 and rows["hf:a100-large"]["usd"] is None and rows["hf:h100"]["gpu"] == "h100"
        left_out = {one["id"]: one["why"] for one in document["not_estimated"]}
        assert "unknown GPU" in left_out["hf:gaudi3"] and "not offered any more" in left_out["hf:h200"] and "hf:h200" not in rows
    shown = places.plan(*WORK, "--all").stdout
    assert "hf gaudi3: 1 × Gaudi 3, 128 GB of VRAM, $3.00/h, cannot estimate: unknown GPU" in shown
    assert "without an estimate" in places.plan(*WORK).stdout
    assert "cannot estimate" in places.plan(*WORK, "--gpu", "gaudi3").stderr
    assert '"method": "live"' in places.plan("gpus", "--json").stdout


def test_live_asks_first_and_offline_never(places: Places) -> None:
    code, document = places.json(*WORK, "--live")
    assert code == 0 and places.asked == 2
    assert {price["method"] for price in document["prices"] if price["target"] == "modal"} == {"live"}
    assert places.json(*WORK, "--live", "--target", "modal")[0] == 0 and places.asked == 3
    done = places.plan(*WORK, "--live", "--offline")
    assert done.returncode == 2 and "--live" in done.stderr and "--offline" in done.stderr and places.asked == 3


def test_a_plan_says_what_could_not_be_fetched(places: Places) -> None:
    places.plan("prices", "--refresh")
    places.hub.faults[HARDWARE] = FAULTS["html"]
    code, document = places.json(*WORK, "--live", MODAL_TOKEN_SECRET="as-canary")
    assert code == 0 and document["recommended"]
    texts = [one["text"] for one in document["warnings"] if one["code"] == "price-fetch"]
    assert len(texts) == 2 and all("(kept: the prices of 20" in text for text in texts)
    assert "canary" not in json.dumps(document)
    rows = {row["id"]: row for row in document["estimates"]}
    assert rows["hf:l4x1"]["usd_per_hour"] == 0.9  # the cached one


def test_places_that_hang_cost_a_plan_its_deadline_and_no_answer(places: Places) -> None:
    places.hub.faults[HARDWARE], places.modal.faults["WorkspaceNameLookup"] = FAULTS["hangs"], modal_server.HANG
    code = "from planner import Search, Workload, plan\n" \
        "made = plan(Workload(policy='act', episodes=50), Search(live=True, deadline_s=1.5))\n" \
        "print(made.recommended.id, [text for code, text in made.warnings if code == 'price-fetch'])"
    clean = {"PATH": os.environ["PATH"], "HOME": str(places.home), "PLAN_HOME": str(places.home), "HF_ENDPOINT": places.hub.url}
    done = subprocess.run([sys.executable, "-c", code], env=clean | places.modal.environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert all(f"{target}: no answer within" in done.stdout for target in ("hf", "modal"))
    assert done.stdout.count("(kept: the bundled prices)") == 2


@pytest.mark.parametrize(("fault", "code"), [(Reply(401, {"error": "no"}), 6), (FAULTS["500"], 7), (FAULTS["truncated"], 7)])
def test_a_refresh_that_fails_says_so_and_keeps_the_rest(places: Places, fault: Reply, code: int) -> None:
    places.hub.faults[HARDWARE] = fault
    done = places.plan("prices", "--refresh")
    assert done.returncode == code and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: hf: ") and line.endswith("(kept: the bundled prices)")
    status, document = places.json("prices", "--refresh")
    assert status == code and document["refreshed"] == ["modal"] and document["error"]["text"] == line.removeprefix("error: ")
    assert entry(document, "L4")["live"]["usd_per_hour"] == 0.8 and entry(document, "l4x1")["used"]["method"] == "bundled"


def test_a_refresh_without_a_modal_token(places: Places) -> None:
    done = places.plan("prices", "--refresh", MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert done.returncode == 6 and "modal setup" in done.stderr and "--target hf" in done.stderr
    assert places.plan("prices", "--refresh", "--target", "hf", MODAL_TOKEN_ID="").returncode == 0


def test_a_dataset_that_is_missing_ends_a_live_plan_in_one_line(places: Places) -> None:
    """Modal is still being asked when the Hub has said no."""
    done = places.plan("--policy", "act", "--dataset", "me/none", "--live")
    assert done.returncode != 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: me/none") and places.asked == 2


@pytest.mark.parametrize("target", ["local", "mars"])
def test_a_place_without_a_price_list(places: Places, target: str) -> None:
    done = places.plan("prices", "--target", target)
    assert done.returncode == 2 and "hf, modal" in done.stderr


def test_the_users_own_price_is_shown_and_used(places: Places) -> None:
    folder = places.home / "config" / "catalogue" / "offers"
    folder.mkdir(parents=True)
    (folder.parent / "sources.yaml").write_text('mine: {title: our contract, ref: none, as_of: "2026-11-01", kind: contract}\n')
    (folder / "hf.yaml").write_text('offers:\n  l4x1: {price: {value: 0.55 USD/h, source: mine, as_of: "2026-11-01"}}\n')
    _, document = places.json("prices", "--refresh")
    l4 = entry(document, "l4x1")
    assert (l4["used"]["usd_per_hour"], l4["used"]["method"], l4["live"]["usd_per_hour"], l4["note"]) == (0.55, "user", 0.9, "your price")


def test_a_damaged_cache_is_no_obstacle(places: Places) -> None:
    places.plan("prices", "--refresh")
    path = places.home / "cache" / "prices" / "hf.json"
    path.write_text(path.read_text()[:100])
    code, document = places.json(*WORK)
    assert code == 0 and {price["method"] for price in document["prices"] if price["target"] == "hf"} == {"bundled"}
