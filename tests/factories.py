"""Records for tests that need an estimate but not the estimator: plausible values, each to be overridden."""
# ruff: noqa: C408  (keyword form reads as the record does)

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import yaml

from planner.plans import Estimate, Memory, Money, Step
from planner.records import Base, Figure, Offer, Policy
from planner.units import GB, Interval, point
from planner.workload import Camera, Training, Variant


def figure(value: float) -> Figure:
    return Figure(value, "test", "2026-01-01")


def policy(name: str = "act", **fields: Any) -> Policy:
    """act (no base weights), smolvla (--policy.path) or pi05 (--policy.pretrained_path)."""
    schedule = {"scheduler_decay_steps": 30_000, "scheduler_warmup_steps": 1000}
    known: dict[str, dict[str, Any]] = {
        "act": dict(extra={"0.6.1": None, "0.4.4": None, "main": None}, base=None, flags={}, dtype="float32"),
        "smolvla": dict(
            extra={"0.6.1": "smolvla", "0.4.4": "smolvla", "main": "smolvla"},
            base=Base("lerobot/smolvla_base", "--policy.path", figure(0.9 * GB)),
            flags={**schedule, "train_expert_only": True, "freeze_vision_encoder": True, "compile_model": False},
            dtype="bfloat16", trained="expert",
            trained_by=(
                ({"train_expert_only": True}, "expert"),
                ({"freeze_vision_encoder": False}, "all"),
                ({"freeze_vision_encoder": True}, "vlm+expert"),
            ),
        ),
        "pi05": dict(
            extra={"0.6.1": "pi", "0.4.4": None, "main": "pi"},
            base=Base("lerobot/pi05_base", "--policy.pretrained_path", figure(7.5 * GB)),
            flags={**schedule, "dtype": "float32", "gradient_checkpointing": False, "compile_model": False,
                   "train_expert_only": False},
            dtype="float32",
            trained_by=(({"train_expert_only": True}, "expert"), ({}, "all")),
        ),
    }
    values = dict(
        id=name, title=name, group="test", releases=("0.4.4", "0.6.1", "main"), batch_size=figure(8), trained="all",
        observation_steps=1, chunk=50, image_cost="resized", max_cameras=None, launch_family="vla-small", analogy=None,
        sizes={},
    ) | known[name]
    values["flags"] = {release: dict(values["flags"]) for release in ("0.4.4", "0.6.1", "main")}
    return Policy(**(values | fields))


def workload(name: str = "act", **fields: Any) -> Training:
    trained = fields.pop("policy", None) or policy(name)
    values: dict[str, Any] = dict(
        policy=trained, variant=Variant(dtype=trained.dtype, trained=trained.trained), cameras=(Camera(640, 480),) * 2,
        batch_size=8, num_workers=4, lerobot="0.6.1", frames=45_000, epochs=5.0, dataset="me/pick",
    )
    return Training(**(values | fields))


def offer(target: str = "hf", **fields: Any) -> Offer:
    values: dict[str, Any] = dict(
        target=target, flavor={"hf": "l4x1", "modal": "L40S", "local": "rtx4090"}[target], gpu="l4", num_gpus=1, vcpus=8,
        ram_bytes=32 * 2**30, disk_bytes=400 * GB, usd_per_hour=Decimal("0.80"), price_source="test",
        price_as_of="2026-01-01", price_method="bundled",
    )
    return Offer(**(values | fields))


def estimate(where: Offer | None = None, **fields: Any) -> Estimate:
    step = Interval(0.9, 1.0, 1.2)
    values: dict[str, Any] = dict(
        offer=where or offer(),
        memory=Memory(point(3.0 * GB), 4 * GB, 22 * GB, "activations", "measured", ()),
        batch_size=8, gradient_accumulation=1, steps=20_000, updates=20_000,
        step=Step(step, "compute", "measured", (), "test", point(0.2)),
        startup=Interval(60, 120, 300), startup_grade="modelled", wall_clock=step.times(20_000), wall_terms=(),
        running=step.times(20_000),
        usd=Money(Decimal(4), Decimal(5), Decimal(6)), usd_terms=(), usd_max=Decimal(8), usd_max_formula="",
        usd_needed=Decimal(7), unbounded=(),
        price_grade="measured", timeout_s=28_800, attempts=1, segments=1, save_freq=2_500,
    )
    return Estimate(**(values | fields))


def said(argv: Sequence[str], name: str) -> object:
    """The value of `--name=…` as LeRobot reads it: as YAML."""
    return yaml.safe_load(next(token.split("=", 1)[1] for token in argv if token.startswith(f"--{name}=")))
