"""What `plan` prints with the bundled catalogue, piped, at 80 and 120 columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from planner import machine
from planner.commands import main
from planner.request import Device, Machine
from planner.units import GB, GIB
from tests.servers import hub
from tests.show.golden import check
from tests.show.test_explain import TOTALS, sums
from tests.test_datasets import info

Plan = Callable[..., tuple[int, str]]
TODAY = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)  # what ages are counted to, whatever the day
BYTES = bytes(3_000_000)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Plan]:
    """`plan("--policy", "act", columns=80)` -> exit code and stdout, without the developer's own catalogue. me/pick is on the Hub."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLAN_HOME", str(tmp_path))
    monkeypatch.setattr("planner.api.clock", lambda: TODAY)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, columns: int = 120) -> tuple[int, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        code = main(arguments)
        return code, capsysbinary.readouterr().out.decode()

    with hub.serve() as server:
        server.dataset("me/pick", info(), **{"data/file.parquet": BYTES})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield run


CASES = {
    "smolvla": (0, ("--policy", "smolvla", "--episodes", "50")),
    "over-budget": (4, ("--policy", "pi05", "--episodes", "200", "--max-cost", "2")),
    "nothing-fits": (3, ("--policy", "pi05", "--episodes", "50", "--batch-size", "512")),
    "own-card": (0, ("--policy", "act", "--episodes", "50", "--target", "local", "--gpu", "rtx3090")),
    "pasted": (0, ("--", "lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=50000")),
    "hub": (0, ("--policy", "smolvla", "--dataset", "me/pick", "--episodes", "10")),
    "explain": (0, ("explain", "hf:l4x1", "--policy", "smolvla", "--episodes", "50")),
    "policies": (0, ("policies",)),
    "gpus": (0, ("gpus",)),
    "prices": (0, ("prices",)),
}


CARD = Device("NVIDIA GeForce RTX 3090", 24 * GIB)
DESK = Machine((CARD, CARD._replace(used_bytes=9 * GIB), Device("NVIDIA GeForce RTX 9090", 96 * GIB)), 24.0, 64 * GB, 500 * GB, "550.54.15")
HERE = {
    "here": ("--policy", "act", "--episodes", "50", "--electricity", "0.30"),
    "here-unpriced": ("--policy", "act", "--episodes", "50", "--target", "local"),
    "here-explain": ("explain", "local:rtx3090:2", "--policy", "act", "--episodes", "50", "--electricity", "0.30"),
}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", HERE)
def test_golden_of_a_machine_with_gpus(plan: Plan, name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "look", lambda *_: DESK)
    code, shown = plan(*HERE[name], columns=columns)
    assert code == 0
    check(f"real-{name}-{columns}.txt", shown)
    _, document = plan(*HERE["here"], "--json")
    schema = json.loads((files("planner") / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(document))


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", CASES)
def test_golden(plan: Plan, name: str, columns: int) -> None:
    code, arguments = CASES[name]
    got, shown = plan(*arguments, columns=columns)
    assert got == code
    check(f"real-{name}-{columns}.txt", shown)


def test_json_follows_the_schema_that_the_package_ships(plan: Plan) -> None:
    schema = json.loads((files("planner") / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))
    wrong = (2, ("--policy", "nonsense", "--episodes", "1"))
    for code, arguments in (CASES["smolvla"], CASES["nothing-fits"], CASES["over-budget"], wrong):
        got, shown = plan(*arguments, "--json")
        assert got == code
        jsonschema.Draft202012Validator(schema).validate(json.loads(shown))


def test_every_row_explains_itself_in_terms_that_add_up(plan: Plan) -> None:
    for row in ("hf:l4x1", "modal:H100:8", "modal:L4", "hf:t4-small"):
        code, shown = plan("explain", row, "--policy", "smolvla", "--episodes", "50")
        assert code == 0
        found = sums(shown)
        assert found.keys() == set(TOTALS)
        for name, (terms, printed) in found.items():
            assert terms == printed, (row, name)


def test_the_table_and_explain_agree(plan: Plan) -> None:
    _, shown = plan("--policy", "smolvla", "--episodes", "50", "--json")
    row = next(one for one in json.loads(shown)["estimates"] if one["id"] == "modal:H100")
    _, explained = plan("explain", "modal:H100", "--policy", "smolvla", "--episodes", "50")
    totals = {name: float(printed) for name, (_, printed) in sums(explained).items()}
    assert totals["needed"] == pytest.approx(row["vram_needed_gb"], abs=0.02)
    assert totals["from submit to end"] == pytest.approx(row["wall_clock_s"]["p50"], abs=6)  # whole seconds, 12 terms
    assert totals["for the run"] == pytest.approx(row["usd"]["p50"], abs=0.001)
