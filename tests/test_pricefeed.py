"""Live prices as they are kept, and fetched by the real clients from loopback servers with every fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from grpclib import Status

from planner import folders, pricefeed
from planner.records import PriceList, Quote
from tests.servers import hf as hub_server
from tests.servers import modal as modal_server
from tests.servers.hf import HARDWARE, Hub, flavor
from tests.servers.loopback import FAULTS, Reply
from tests.servers.modal import Modal

ANSWER = PriceList(
    "hf", "hf_jobs_hardware",
    (Quote("l4x1", Decimal("0.80"), "L4", 1, 24 * 10**9, 8, 30 * 10**9, None), Quote("odd", None, odd_unit="fortnight")),
    Decimal("0.05"), None, ("a remark",), "2026-11-20T12:00:00Z",
)  # fmt: skip
LATER = ANSWER._replace(as_of="2026-11-21T12:00:00Z", quotes=(ANSWER.quotes[0]._replace(usd_per_hour=Decimal("0.90")),))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAN_HOME", str(tmp_path))
    return tmp_path


def cached() -> Path:
    return folders.cache() / "prices" / "hf.json"


# ------------------------------------------------------------------------------------------ keeping


def test_an_answer_comes_back_as_it_was() -> None:
    pricefeed.keep(ANSWER)
    assert pricefeed.read(["hf", "modal"]) == {"hf": ANSWER}
    assert [path.name for path in cached().parent.iterdir()] == ["hf.json"]


def test_an_older_answer_does_not_take_the_place_of_a_newer_one() -> None:
    pricefeed.keep(LATER)
    pricefeed.keep(ANSWER)
    assert pricefeed.read(["hf"]) == {"hf": LATER}


@pytest.mark.parametrize("change", ["torn", "empty", "html", "schema", "fields", "price", "date", "list"])
def test_a_damaged_cache_is_as_none(change: str) -> None:
    pricefeed.keep(ANSWER)
    good = cached().read_text()
    plain = json.loads(good)
    damaged: dict[str, Any] = {
        "torn": good[: len(good) // 2], "empty": "", "html": "<html>", "schema": json.dumps(plain | {"schema": "price-list/0"}),
        "fields": json.dumps(plain | {"fields": ["flavor"]}), "price": good.replace('"0.80"', '"NaN"'),
        "date": good.replace("2026-11-20", "yesterday"), "list": "[]",
    }  # fmt: skip
    cached().write_text(damaged[change])
    assert pricefeed.read(["hf"]) == {}
    pricefeed.keep(ANSWER)
    assert pricefeed.read(["hf"]) == {"hf": ANSWER}


def test_the_history_gets_a_line_when_a_price_changes() -> None:
    for answer in (ANSWER, ANSWER._replace(as_of="2026-11-20T13:00:00Z"), LATER):
        pricefeed.keep(answer)
    lines = pricefeed.recorded("hf")
    assert [(line["at"], line["prices"]["l4x1"]) for line in lines] == [("2026-11-20T12:00:00Z", "0.80"), ("2026-11-21T12:00:00Z", "0.90")]
    assert lines[0]["rates"] == {"core": "0.05", "gib": None} and pricefeed.recorded("modal") == []


def test_a_torn_line_of_the_history_loses_only_itself() -> None:
    pricefeed.keep(ANSWER)
    with pricefeed.history().open("a") as file:
        file.write('{"at": "2026-11-2')
    pricefeed.keep(LATER)
    assert [line["at"] for line in pricefeed.recorded("hf")] == [ANSWER.as_of, LATER.as_of]


# ------------------------------------------------------------------------------------------ the real clients


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.serve() as hub:
        hub.hardware = [flavor("cpu-basic", 0.000167, cpu="2 vCPU", ram="16 GB"), flavor("l4x1", 0.015, "L4"),
                        flavor("l4x4", 0.063333, "L4", 4, "96 GB")]  # fmt: skip
        yield hub


@pytest.fixture
def modal() -> Iterator[Modal]:
    with modal_server.serve() as modal:
        yield modal


ASK = """
import sys, json, datetime
from planner import catalogue, pricefeed
from planner.deadline import Deadline
now = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.timezone.utc)
known = catalogue.load()
fetched = pricefeed.ask(pricefeed.sources(known, sys.argv[2:]), Deadline(float(sys.argv[1])), now)()
print(json.dumps([[one.target, one.answer and pricefeed._plain(one.answer), one.error and [one.error.exit_code, one.error.text]]
                  for one in fetched]))
"""


def ask(*targets: str, deadline_s: float = 60, **environment: str) -> dict[str, tuple[Any, Any]]:
    """Target -> (answer as it is cached, [exit code, text]) of asking these places, by a process as a user has it."""
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ["PLAN_HOME"], "PLAN_HOME": os.environ["PLAN_HOME"], "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", ASK, str(deadline_s), *targets], env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {target: (answer, error) for target, answer, error in json.loads(done.stdout)}


def test_hugging_face_says_what_it_rents(hub: Hub) -> None:
    answer, error = ask("hf", HF_ENDPOINT=hub.url, HF_TOKEN="hf_stale")["hf"]
    assert error is None
    assert [(one.path, one.token) for one in hub.requests] == [(HARDWARE, None)]  # no token is sent, for none is needed
    quotes = {quote.flavor: quote for quote in pricefeed._list(answer, "hf").quotes}
    assert quotes["l4x1"] == Quote("l4x1", Decimal("0.90"), "L4", 1, 24 * 10**9, 8, 30 * 10**9, 400 * 10**9)
    assert (quotes["l4x4"].num_gpus, quotes["l4x4"].vram_bytes) == (4, 96 * 10**9)
    assert (quotes["cpu-basic"].num_gpus, quotes["cpu-basic"].usd_per_hour) == (0, Decimal("0.01002"))
    assert answer["as_of"] == "2026-11-20T12:00:00Z" and pricefeed.read(["hf"])["hf"].quotes == tuple(quotes.values())


@pytest.mark.parametrize(
    ("entry", "price", "remark"),
    [
        (flavor("l4x1", None, "L4"), None, ""),
        (flavor("l4x1", 0.0, "L4"), None, ""),
        (flavor("l4x1", -0.01, "L4"), None, ""),
        (flavor("l4x1", 0.01, "L4", unitCostUSD=None), Decimal("0.60"), ""),  # in micro-dollars alone
        ({key: value for key, value in flavor("l4x1", 0.01, "L4").items() if not key.startswith("unitCost")}, None, ""),
        (flavor("l4x1", 0.8, "L4", unitLabel="hour"), Decimal("0.80"), ""),
        (flavor("l4x1", 0.8, "L4", unitLabel="fortnight"), None, "hf l4x1: sold by the 'fortnight'"),
        (flavor("l4x1", 0.8, "L4", unitLabel=None), None, "hf l4x1: sold by the 'None'"),
    ],
)
def test_a_price_that_is_none_or_has_another_unit(hub: Hub, entry: dict[str, Any], price: Decimal | None, remark: str) -> None:
    hub.hardware[1] = entry
    answer, error = ask("hf", HF_ENDPOINT=hub.url)["hf"]
    assert error is None
    found = pricefeed._list(answer, "hf")
    assert next(quote for quote in found.quotes if quote.flavor == "l4x1").usd_per_hour == price
    assert "".join(found.remarks).startswith(remark) and bool(found.remarks) == bool(remark)
    assert next(quote for quote in found.quotes if quote.flavor == "l4x4").usd_per_hour == Decimal("3.79998")  # the others stay


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (Reply(401, {"error": "no"}), 6, "HTTP 401"), (Reply(403, {"error": "no"}), 6, "HTTP 403"),
        (Reply(404, {"error": "no"}), 7, "HTTP 404"), (FAULTS["429"], 7, "HTTP 429"),
        (FAULTS["500"], 7, "HTTP 500"), (FAULTS["503"], 7, "HTTP 503"), (FAULTS["dropped"], 7, "RemoteProtocolError"),
        (FAULTS["html"], 7, "no price list"), (FAULTS["truncated"], 7, "no price list"),
    ],
)  # fmt: skip
def test_hugging_face_fails(hub: Hub, fault: Reply, code: int, text: str) -> None:
    pricefeed.keep(ANSWER)
    before = cached().read_bytes()
    hub.faults[HARDWARE] = fault
    answer, error = ask("hf", HF_ENDPOINT=hub.url)["hf"]
    assert answer is None and error[0] == code and text in error[1] and error[1].startswith("hf: ")
    assert cached().read_bytes() == before and len(pricefeed.recorded("hf")) == 1  # no date renewed, nothing cleared


@pytest.mark.parametrize("hardware", [[], [{"name": "x"}], [7], [flavor("x", 0.1) | {"accelerator": {"type": "gpu"}}], {"error": "later"}])
def test_hugging_face_answers_what_is_no_list(hub: Hub, hardware: Any) -> None:
    hub.hardware = hardware
    answer, error = ask("hf", HF_ENDPOINT=hub.url)["hf"]
    if hardware == [{"name": "x"}]:
        assert pricefeed._list(answer, "hf").quotes == (Quote("x", None, num_gpus=0),)
    else:
        assert answer is None and error[0] == 7


def test_modal_says_its_rates(modal: Modal) -> None:
    modal.rates["gpu_hour_cost_x900"] = "9"
    answer, error = ask("modal", **modal.environment)["modal"]
    assert error is None and not modal.refused and modal.seen[-1] == "WorkspaceBillingRates"
    found = pricefeed._list(answer, "modal")
    quotes = {quote.flavor: quote for quote in found.quotes}
    assert {"T4", "L4", "A10", "L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200", "B300", "X900"} == quotes.keys()
    assert quotes["A10"].usd_per_hour == Decimal("1.10") and all(quote.per_gpu for quote in found.quotes)
    assert (found.usd_per_core_hour, found.usd_per_gib_hour, found.remarks) == (Decimal("0.0473"), Decimal("0.008"), ())


def test_modal_rates_that_are_none_or_have_another_unit(modal: Modal) -> None:
    modal.rates |= {"gpu_hour_cost_l4": "0", "gpu_fortnight_cost_t4": modal.rates.pop("gpu_hour_cost_t4"), "cpu_hour_cost": "0",
                    "mem_lifetime_cost": "1"}  # fmt: skip
    answer, _ = ask("modal", **modal.environment)["modal"]
    found = pricefeed._list(answer, "modal")
    quotes = {quote.flavor: quote for quote in found.quotes}
    assert quotes["L4"] == Quote("L4", None, "l4", 1, per_gpu=True)
    assert (quotes["T4"].usd_per_hour, quotes["T4"].odd_unit, found.usd_per_core_hour) == (None, "fortnight", None)
    assert [remark.split(":")[0] for remark in found.remarks] == ["modal cpu_hour_cost", "modal mem_lifetime_cost", "modal T4"]


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (Status.UNAUTHENTICATED, 6, "modal setup"), (Status.PERMISSION_DENIED, 6, "may not read"), (Status.NOT_FOUND, 7, "NotFound"),
        (Status.RESOURCE_EXHAUSTED, 7, "ResourceExhausted"), (Status.INTERNAL, 7, "InternalError"), (modal_server.DROP, 7, "not an answer"),
    ],
)  # fmt: skip
def test_modal_fails(modal: Modal, fault: Status | str, code: int, text: str) -> None:
    modal.faults["WorkspaceBillingRates"] = fault
    answer, error = ask("modal", **modal.environment)["modal"]
    assert answer is None and error[0] == code and text in error[1]
    assert pricefeed.read(["modal"]) == {} and not pricefeed.history().exists()


def test_modal_answers_what_are_no_rates(modal: Modal, hub: Hub) -> None:
    modal.rates = {"gpu_hour_cost_l4": "cheap"}
    assert ask("modal", **modal.environment)["modal"][1][0] == 7
    modal.rates = {}
    assert ask("modal", **modal.environment)["modal"][1][0] == 7
    assert ask("modal", **modal.environment | {"MODAL_SERVER_URL": hub.url})["modal"][1][0] == 7  # a web server, not Modal


def test_a_token_that_is_missing_or_wrong(modal: Modal) -> None:
    _, error = ask("modal")["modal"]
    assert error[0] == 6 and "no Modal token is set" in error[1] and "modal setup" in error[1]
    _, error = ask("modal", **modal.environment | {"MODAL_TOKEN_SECRET": "as-canary"})["modal"]
    assert error[0] == 6 and "refused the token" in error[1] and "canary" not in error[1]


def test_places_that_hang_cost_one_deadline(hub: Hub, modal: Modal) -> None:
    hub.faults[HARDWARE], modal.faults["WorkspaceNameLookup"] = FAULTS["hangs"], modal_server.HANG
    found = ask(deadline_s=2, HF_ENDPOINT=hub.url, **modal.environment)
    assert {target: error for target, (_, error) in found.items()} == {
        target: [7, f"{target}: no answer within 2 s: try again later"] for target in ("hf", "modal")}


def test_nobody_listens() -> None:
    """Modal's client tries for a minute where nobody listens; the deadline ends it."""
    found = ask(deadline_s=2, MODAL_SERVER_URL="http://127.0.0.1:9", MODAL_TOKEN_ID="ak-x", MODAL_TOKEN_SECRET="as-x")
    assert found["hf"][1] == [7, "hf: Hugging Face gave no price list (ConnectError): try again later"]
    assert found["modal"][1][0] == 7


def test_one_place_that_fails_keeps_nobody_else_from_answering(hub: Hub, modal: Modal) -> None:
    hub.faults[HARDWARE] = FAULTS["500"]
    found = ask(HF_ENDPOINT=hub.url, **modal.environment)
    assert found["hf"][1][0] == 7 and found["modal"][1] is None
    assert pricefeed.read(["hf", "modal"]).keys() == {"modal"}


def test_a_folder_that_cannot_be_written_loses_no_answer(hub: Hub, home: Path) -> None:
    (home / "state").write_text("in the way")
    answer, error = ask("hf", HF_ENDPOINT=hub.url)["hf"]
    assert answer is not None and error[0] == 1 and "cannot be kept" in error[1] and "disk" in error[1]


