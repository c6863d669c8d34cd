"""A plan over a user's own price feed, through the installed program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import jsonschema
import pytest

from planner import choose

WORK = ("--policy", "smolvla", "--episodes", "50")
OFFERS = 600
SCHEMA = json.loads((Path(__file__).parents[2] / "planner" / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))


class Plan(Protocol):
    def __call__(self, *arguments: str) -> Any: ...


@pytest.fixture
def fed(plan: Any, tmp_path: Path) -> Plan:
    """`plan` of somebody with a place `amber`: pairs of equal machines, one of them dearer; every third pair too small."""
    folder = tmp_path / "home" / "config" / "catalogue"
    (folder / "offers").mkdir(parents=True)
    (folder / "sources.yaml").write_text('feed: {title: my feed, ref: none, as_of: "2026-11-01", kind: feed}\n', encoding="utf-8")
    (folder / "offers" / "amber.yaml").write_text("title: Amber Cloud\nlike: hf\n", encoding="utf-8")
    lines = ["flavor,gpu,num_gpus,vcpus,ram_gb,disk_gb,usd_per_hour,source,as_of"]
    for n in range(OFFERS // 2):
        gpu = ("l4", "a100-80", "t4")[n % 3]
        for place, usd in (("us", 0.3), ("eu", 0.9)):
            lines.append(f"{place}/m{n},{gpu},1,{8 + n},64,400,{usd + n / 1000:.3f},feed,2026-11-01")
    (folder / "offers" / "amber.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")

    def run(*arguments: str) -> Any:
        return plan(*arguments, PLAN_HOME=str(tmp_path / "home"))

    return run


def test_what_is_not_listed_is_counted_and_can_be_listed(fed: Plan) -> None:
    document = json.loads(fed(*WORK, "--target", "amber", "--json").stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["left_out"] == OFFERS - len(document["estimates"]) > 0
    assert len(document["estimates"]) >= choose.LISTED
    assert (document["recommended"]["id"], document["cheapest"]) == ("amber:us/m1", "amber:us/m1")
    assert all(row["flavor"].startswith("us/") for row in document["estimates"]), "of equal machines the cheaper one is listed"
    fewer = json.loads(fed(*WORK, "--target", "amber", "--gpu", "eu/m1", "--gpu", "eu/m4", "--json").stdout)
    assert ({row["id"] for row in fewer["estimates"]}, fewer["left_out"]) == ({"amber:eu/m1", "amber:eu/m4"}, 0)


def test_the_table_says_how_many_are_not_listed(fed: Plan) -> None:
    for arguments in ((), ("--all",)):
        shown = " ".join(fed(*WORK, *arguments).stdout.split())
        assert "Not listed: " in shown and "--gpu, --num-gpus and --target list others" in shown
    assert "Not listed" not in fed(*WORK, "--target", "hf").stdout


def test_a_place_of_ones_own_is_not_offered_a_command(fed: Plan) -> None:
    shown = fed(*WORK, "--target", "amber").stdout
    assert "taken to do as Hugging Face Jobs does" in " ".join(shown.split())
    assert "--emit" not in shown and "plan explain amber:us/m1" in shown


def test_a_row_that_is_not_listed_can_be_explained(fed: Plan) -> None:
    shown = fed("explain", "amber:eu/m5", *WORK)
    assert shown.returncode == 0 and "eu/m5" in shown.stdout
    missing = fed("explain", "amber:eu/none", *WORK)
    assert (missing.returncode, missing.stdout) == (2, "") and "no row amber:eu/none in this plan" in missing.stderr


def test_nothing_fits_in_a_feed_still_says_what_would(fed: Plan) -> None:
    document = json.loads(fed("--policy", "pi05", "--episodes", "50", "--target", "amber", "--gpu", "l4", "--gpu", "t4", "--json").stdout)
    assert document["error"]["code"] == "nothing-fits" and "what would" in document["error"]["text"]


def test_gpus_shows_the_ends_of_the_feed(fed: Plan) -> None:
    l4 = next(gpu for gpu in json.loads(fed("gpus", "--json").stdout)["gpus"] if gpu["id"] == "l4")
    prices = [offer["usd_per_hour"] for offer in l4["offers"] if offer["id"].startswith("amber:")]
    assert prices == [0.3, 1.197]
    assert "amber" in fed("gpus").stdout


def test_a_mistake_is_one_line_and_the_usual_code(fed: Plan, tmp_path: Path) -> None:
    path = tmp_path / "home" / "config" / "catalogue" / "offers" / "amber.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("us/m3,l4,", "us/m3,l44,"), encoding="utf-8")
    done = fed(*WORK)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "amber.csv:8: column 'gpu': 'l44' does not exist; did you mean 'l4'?" in done.stderr
