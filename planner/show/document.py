"""A plan as JSON: the contract `plan/1`, described by planner/schema/plan-1.schema.json.

Memory is in GB of 10⁹ bytes with three decimals, time in seconds with six significant digits, money in US
dollars with four decimals, the worst case rounded up. Unknown is null.
"""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any

from planner.plans import Estimate, Instead, Money, Plan
from planner.records import Unplanned
from planner.units import GB, Interval
from planner.workload import Training

SCHEMA = "plan/1"

_MONEY = Decimal("0.0001")


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON-ready values."""
    chosen = plan.recommended
    return {
        "schema": SCHEMA,
        "kind": plan.kind,
        "workload": workload(plan.workload),
        "assumptions": assumptions(plan),
        "prices": [
            {"target": price.target, "source": price.source, "as_of": price.as_of, "method": price.method}
            for price in plan.prices
        ],
        "estimates": [estimate(one) for one in plan.estimates],
        "left_out": plan.left_out,
        "not_estimated": [_unplanned(one) for one in plan.unplanned],
        "recommended": chosen
        and {"id": chosen.id, "target": chosen.target, "flavor": chosen.flavor, "why": chosen.why},
        "cheapest": plan.cheapest,
        "fastest": plan.fastest,
        "warnings": warnings(plan),
        "error": plan.error and {"code": plan.error[0], "text": plan.error[1]},
    }


def failure(kind: str, code: str, text: str) -> dict[str, Any]:
    """The document of a plan that could not be made: same shape, `error` filled."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "workload": None,
        "assumptions": [],
        "prices": [],
        "estimates": [],
        "left_out": 0,
        "not_estimated": [],
        "recommended": None,
        "cheapest": None,
        "fastest": None,
        "warnings": [],
        "error": {"code": code, "text": text},
    }


def dump(plan: Plan | dict[str, Any]) -> str:
    """A plan, or a document already made, as JSON text ending in a newline."""
    value = plan if isinstance(plan, dict) else document(plan)
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def assumptions(plan: Plan) -> list[dict[str, Any]]:
    """What the command line did not say, with the flag that says it, and the file or variable that did."""
    return [{"name": one.name, "value": one.value, "flag": one.flag, "origin": one.origin} for one in plan.workload.assumptions]


def warnings(plan: Plan) -> list[dict[str, str]]:
    """What to know before running it."""
    return [{"code": code, "text": words} for code, words in plan.warnings]


def workload(work: Training) -> dict[str, Any]:
    """What is trained; steps and updates are those of one GPU."""
    variant = work.variant
    return {
        "policy": work.policy.id,
        "variant": {
            "dtype": variant.dtype,
            "gradient_checkpointing": variant.gradient_checkpointing,
            "trained": variant.trained,
            "lora_rank": variant.lora_rank,
            "autocast": variant.autocast,
            "compiled": variant.compiled,
            "chunk": variant.chunk or work.policy.chunk,
        },
        "dataset": work.dataset,
        "dataset_revision": work.dataset_revision,
        "frames": work.frames,
        "episodes": work.episodes,
        "fps": work.fps,
        "cameras": [{"width": c.width, "height": c.height, "codec": c.codec} for c in work.cameras],
        "epochs": work.epochs,
        "steps": work.steps(1),
        "updates": work.updates(1),
        "batch_size": work.batch_size,
        "release": work.lerobot,
    }


def estimate(one: Estimate) -> dict[str, Any]:
    """One row."""
    offer, memory = one.offer, one.memory
    return {
        "id": one.id,
        "target": offer.target,
        "flavor": offer.flavor,
        "gpu": offer.gpu,
        "num_gpus": offer.num_gpus,
        "fits": one.fits,
        "vram_gb": interval(memory.peak, _gb),
        "vram_needed_gb": _gb(memory.needed_bytes),
        "vram_usable_gb": _gb(memory.usable_bytes),
        "vram_driver": memory.driver,
        "vram_grade": memory.grade,
        "batch_size": one.batch_size,
        "gradient_accumulation": one.gradient_accumulation,
        "steps": one.steps,
        "updates": one.updates,
        "step_s": interval(one.step.seconds, significant),
        "limiter": one.step.limiter,
        "time_grade": one.step.grade,
        "startup_s": interval(one.startup, significant),
        "startup_grade": one.startup_grade,
        "wall_clock_s": interval(one.wall_clock, significant),
        "usd_per_hour": usd(offer.usd_per_hour),
        "usd": _money(one.usd),
        "usd_max": usd(one.usd_max, ROUND_CEILING),
        "price_grade": one.price_grade,
        "timeout_s": one.timeout_s,
        "attempts": one.attempts,
        "pareto": one.pareto,
        "why_not": one.why_not,
        "instead": one.instead and _instead(one.instead),
        "unbounded": list(one.unbounded),
    }


def _unplanned(one: Unplanned) -> dict[str, Any]:
    quote = one.quote
    return {
        "id": one.id,
        "target": one.target,
        "flavor": quote.flavor,
        "gpu": quote.gpu,
        "num_gpus": quote.num_gpus,
        "vram_gb": None if quote.vram_bytes is None else _gb(quote.vram_bytes),
        "vcpus": quote.vcpus,
        "ram_gb": None if quote.ram_bytes is None else _gb(quote.ram_bytes),
        "usd_per_hour": usd(quote.usd_per_hour),
        "why": one.why,
    }


def _instead(instead: Instead) -> dict[str, Any]:
    return {
        "batch_size": instead.batch_size,
        "gradient_accumulation": instead.gradient_accumulation,
        "steps": instead.steps,
        "wall_clock_s": interval(instead.wall_clock_s, significant),
        "usd": _money(instead.usd),
        "text": instead.text,
    }


def interval(value: Interval, digits: Any) -> dict[str, float]:
    """P10, P50, P90, each rounded by `digits`."""
    return {"p10": digits(value.p10), "p50": digits(value.p50), "p90": digits(value.p90)}


def _gb(size: float) -> float:
    return round(size / GB, 3)


def significant(value: float) -> float:
    """`value` with six significant digits."""
    return float(f"{value:.6g}")


def usd(value: Decimal | None, rounding: str = ROUND_HALF_EVEN) -> float | None:
    """Dollars with at most four decimals, through text so that no binary noise shows."""
    return None if value is None else float(str(value.quantize(_MONEY, rounding)))


def _money(value: Money | None) -> dict[str, float | None] | None:
    return None if value is None else {"p10": usd(value.p10), "p50": usd(value.p50), "p90": usd(value.p90)}
