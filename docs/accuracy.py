"""The tables of docs/accuracy.md: every scored run predicted, its own source left out for times."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from statistics import median

from planner import Search, Workload, evidence, plan, speed
from planner import memory as memory_module
from planner.catalogue import data_dir, load, read_runs
from planner.plans import Estimate
from planner.profiles import cost_of
from planner.records import Run
from planner.units import GIB

CATALOGUE = load(user=Path("/nonexistent"))


@lru_cache(maxsize=1)
def _times() -> list[tuple[Run, float, float, float, str]]:
    """(run, P10, P50, P90, grade) of each timed run, predicted without its source."""
    rows = []
    for source in sorted({run.source for run in evidence.scored(CATALOGUE)}):
        held = evidence.calibrate(CATALOGUE, without=frozenset({source}))
        for run in evidence.scored(CATALOGUE):
            if run.source != source or run.optimizer:
                continue
            training, gpu = evidence.workload_of(run, CATALOGUE), CATALOGUE.gpus[run.gpu or ""]
            cost = cost_of(CATALOGUE, training.policy, training.variant, training.cameras)
            step = speed.estimate(training, gpu, run.num_gpus or 1, 1000, cost, held, CATALOGUE.targets["local"].decode_kappa)
            rows.append((run, *step.seconds, step.grade))
    return sorted(rows, key=lambda row: row[0].id)


def _head(*names: str) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def time() -> str:
    lines = _head("run", "policy", "GPU", "batch", "measured s", "predicted s (P10–P90)", "off by", "inside", "grade")
    for run, low, middle, high, grade in _times():
        measured = run.update_s or 0.0
        count = f"{run.num_gpus} × " if (run.num_gpus or 1) > 1 else ""
        lines.append(
            f"| {run.id} | {run.policy} | {count}{run.gpu} | {run.batch_size} | {measured:.3g} | {middle:.3g} ({low:.2g}–{high:.2g}) "
            f"| {middle / measured - 1:+.0%} | {'yes' if low <= measured <= high else 'no'} | {grade} |")
    return "\n".join(lines)


@lru_cache(maxsize=1)
def _peaks() -> list[tuple[Run, float]]:
    """(run, predicted GiB) of each run that printed torch's own peak. Memory is not fitted to runs."""
    rows = []
    for run in CATALOGUE.runs:
        if run.scored and run.vram_bytes and run.batch_size and run.cameras is not None and not run.optimizer and run.gpu in CATALOGUE.gpus:
            training, gpu = evidence.workload_of(run, CATALOGUE), CATALOGUE.gpus[run.gpu or ""]
            cost = cost_of(CATALOGUE, training.policy, training.variant, training.cameras)
            rows.append((run, memory_module.estimate(training, gpu, run.num_gpus or 1, cost, ()).peak.p50 / GIB))
    return rows


def memory() -> str:
    lines = _head("run", "policy", "GPU", "batch", "cameras", "measured GiB", "computed GiB", "off by")
    for run, predicted in _peaks():
        measured = (run.vram_bytes or 0) / GIB
        lines.append(
            f"| {run.id} | {run.policy} | {run.gpu} | {run.batch_size} | {run.cameras} | {measured:.2f} | {predicted:.2f} "
            f"| {predicted / measured - 1:+.0%} |")
    return "\n".join(lines)


def summary() -> str:
    times = [(abs(middle / (run.update_s or 1) - 1), low <= (run.update_s or 0) <= high) for run, low, middle, high, _ in _times()]
    peaks = sorted(abs(predicted / ((run.vram_bytes or 1) / GIB) - 1) for run, predicted in _peaks())
    errors = sorted(error for error, _ in times)
    inside = sum(hit for _, hit in times)
    return "\n".join([
        f"- Step time, {len(times)} runs, each predicted with its source left out: off by {median(errors):.0%} in the median, "
        f"{errors[int(0.9 * len(errors))]:.0%} at the 90th percentile; {inside} of {len(times)} inside P10–P90.",
        f"- Peak memory, {len(peaks)} runs: off by {median(peaks):.0%} in the median, "
        f"{peaks[int(0.9 * len(peaks))]:.0%} at the 90th percentile.",
    ])


def _row(policy: str, gpu: str, batch: int, *tail: str, count: int = 1, frames: int = 45_000) -> Estimate:
    request = Workload(
        policy=policy, frames=frames, epochs=5.0, batch_size=batch, cameras=("2x640x480",), lerobot_version="0.6.1", tail=tail)
    rented = any(offer.gpu == gpu for offer in CATALOGUE.offers)
    rows = plan(request, Search()._replace(gpus=(gpu,), num_gpus=count, targets=() if rented else ("local",))).estimates
    return min(rows, key=lambda row: row.wall_clock.p50)


_LIGHT = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true")
#: (row, what the guide says in hours, arguments of _row)
_GUIDE = (
    ("ACT, RTX 4090, batch 8", (0.5, 1.0), ("act", "rtx4090", 8), 1),
    ("diffusion, RTX 4090, batch 8", (2.0, 4.0), ("diffusion", "rtx4090", 8), 1),
    ("ACT, L4, batch 8", (1.0, 2.0), ("act", "l4", 8), 1),
    ("ACT, A10G, batch 8", (1.0, 2.0), ("act", "a10g", 8), 1),
    ("SmolVLA, L4, batch 4", (3.0, 6.0), ("smolvla", "l4", 4), 1),
    ("SmolVLA, A100 40 GB, batch 16", (1.0, 2.0), ("smolvla", "a100-40", 16), 1),
    ("pi0, A100 40 GB, batch 4 (bf16, gradient checkpointing)", (4.0, 8.0), ("pi0", "a100-40", 4, *_LIGHT), 1),
    ("ACT, M1 Max, batch 4", (6.0, 14.0), ("act", "m1-max", 4), 1),
    ("diffusion, 4 × H100, batch 32", (0.5, 1.0), ("diffusion", "h100", 32), 4),
    ("SmolVLA (all trained), 4 × H100, batch 32", (1.0, 2.0),
     ("smolvla", "h100", 32, "--policy.train_expert_only=false", "--policy.freeze_vision_encoder=false"), 4),
)


def guide() -> str:
    lines = _head("row of the guide (5 epochs of 45,000 frames)", "guide, h", "plan, h (P10–P90)", "inside")
    for name, (low, high), arguments, count in _GUIDE:
        row = _row(*arguments, count=count)  # type: ignore[arg-type]
        hours = [seconds / 3600 for seconds in row.wall_clock]
        verdict = "yes" if low <= hours[1] <= high else "the ranges overlap" if hours[0] <= high and hours[2] >= low else "no"
        lines.append(f"| {name} | {low:g}–{high:g} | {hours[1]:.2g} ({hours[0]:.2g}–{hours[2]:.2g}) | {verdict} |")
    return "\n".join(lines)


def unscored() -> str:
    reasons: dict[str, list[str]] = {}
    used = {run.id for run, *_ in _times()} | {run.id for run, _ in _peaks()}
    runs = read_runs(data_dir())
    for run in runs:
        if run.id not in used:
            reasons.setdefault(run.reason or "nothing to compare: neither step time nor peak memory", []).append(run.id)
    lines = [f"{len(used)} of {len(runs)} runs are compared. The others, by what they lack:", ""]
    lines += [f"- {reason}: {', '.join(ids)}" for reason, ids in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))]
    return "\n".join(lines)
