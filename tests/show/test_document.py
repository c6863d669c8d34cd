from __future__ import annotations

import copy
import json
from decimal import Decimal
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from planner.plans import Money, Plan
from planner.show import document
from tests.show import factory

SCHEMA = json.loads((files("planner") / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PLANS = [factory.PLAN, factory.NOTHING_FITS, factory.OVER_BUDGET, factory.PASTED]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("plan", PLANS)
def test_documents_follow_the_schema(plan: Plan) -> None:
    text = document.dump(plan)
    assert text.endswith("\n")
    VALIDATOR.validate(json.loads(text))


def test_a_failure_has_the_same_shape() -> None:
    failed = document.failure("lerobot", "usage", "no such policy")
    VALIDATOR.validate(failed)
    assert failed.keys() == document.document(factory.PLAN).keys()
    assert failed["error"] == {"code": "usage", "text": "no such policy"} and failed["recommended"] is None
    assert json.loads(document.dump(failed)) == failed


def _objects(schema: Any) -> list[dict[str, Any]]:
    """Every object of the schema."""
    if isinstance(schema, list):
        return [found for item in schema for found in _objects(item)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if "properties" in schema and "type" in schema else []
    return here + [found for item in schema.values() for found in _objects(item)]


def test_the_schema_is_strict_and_described_everywhere() -> None:
    found = _objects(SCHEMA)
    assert len(found) > 10
    for schema in found:
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
        undescribed = [name for name, inner in schema["properties"].items() if "description" not in inner]
        assert undescribed in ([], ["p10", "p50", "p90"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("estimates", 0, "vram_needed_gb"), None),
        (("estimates", 0, "usd_max"), "2.80"),
        (("estimates", 0, "step_s"), 2.1),
        (("estimates", 0, "time_grade"), "guessed"),
        (("estimates", 0, "surprise"), 1),
        (("workload", "frames"), "45000"),
        (("schema",), "plan/2"),
        (("error",), "text"),
    ],
)
def test_the_schema_rejects_what_is_wrong(path: tuple[Any, ...], value: Any) -> None:
    wrong = copy.deepcopy(document.document(factory.PLAN))
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(wrong)


@pytest.mark.parametrize("key", ["vram_usable_gb", "step_s", "usd_per_hour", "usd_max", "timeout_s"])
def test_the_schema_rejects_a_missing_quantity(key: str) -> None:
    wrong = copy.deepcopy(document.document(factory.PLAN))
    del wrong["estimates"][0][key]
    assert not VALIDATOR.is_valid(wrong)


def test_quantities_are_rounded_as_documented() -> None:
    third = Decimal(1) / 3
    row = factory.ROWS[0]._replace(
        usd=Money(third, third, third), usd_max=Decimal("2.80001"),
        startup=factory.interval(1 / 3, 1, 1), memory=factory.ROWS[0].memory._replace(needed_bytes=15_123_456_789),
    )  # fmt: skip
    shown = document.estimate(row)
    assert shown["usd"] == {"p10": 0.3333, "p50": 0.3333, "p90": 0.3333}
    assert shown["usd_max"] == 2.8001  # up
    assert shown["startup_s"]["p50"] == 0.333333
    assert shown["vram_needed_gb"] == 15.123


def test_no_price_is_null_and_never_zero() -> None:
    local = next(row for row in document.document(factory.PLAN)["estimates"] if row["id"] == "local:rtx3090")
    assert [local[key] for key in ("usd_per_hour", "usd", "usd_max", "price_grade")] == [None] * 4


def test_money_has_no_binary_noise() -> None:
    numbers = [row["usd"]["p50"] for row in document.document(factory.PLAN)["estimates"] if row["usd"]]
    assert numbers and all(len(repr(value).partition(".")[2]) <= 4 for value in numbers)


def test_what_would_fit_instead_stands_in_the_row() -> None:
    t4 = next(row for row in document.document(factory.PLAN)["estimates"] if row["id"] == "hf:t4-small")
    assert t4["fits"] is False and t4["why_not"] and t4["instead"]["batch_size"] == 32
