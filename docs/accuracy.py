"""The tables of docs/accuracy.md: every scored run predicted, its own source left out for times."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from planner import Search, Workload, plan
from planner.backtest import Backtest, backtest, summaries
from planner.catalogue import data_dir, load, read_runs
from planner.plans import Estimate
from planner.units import GIB

CATALOGUE = load(user=Path("/nonexistent"))


@lru_cache(maxsize=1)
def _found() -> Backtest:
    return backtest(CATALOGUE, read_runs(data_dir()))


def _head(*names: str) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def _lines(quantity: str, unit: float) -> list[str]:
    lines = _head("run", "policy", "GPU", "batch", "cameras", "measured", "predicted (P10–P90)", "off by", "inside", "grade")
    for score in (score for score in _found().scores if score.quantity == quantity):
        run, (low, middle, high) = score.run, (value / unit for value in score.predicted)
        count = f"{run.num_gpus} × " if (run.num_gpus or 1) > 1 else ""
        lines.append(
            f"| {run.id} | {run.policy} | {count}{run.gpu} | {run.batch_size} | {run.cameras if run.cameras is not None else 'unknown'} "
            f"| {score.measured / unit:.3g} | {middle:.3g} ({low:.2g}–{high:.2g}) | {score.error:+.0%} "
            f"| {'yes' if score.inside else 'no'} | {score.grade} |")
    return lines


def time() -> str:
    return "\n".join(_lines("step", 1.0))


def memory() -> str:
    return "\n".join(_lines("memory", GIB))


def wall() -> str:
    return "\n".join(_lines("wall-clock", 1.0))


def summary() -> str:
    groups = [group for group in summaries(_found().scores) if group.group in ("all", "measured", "scaled", "modelled")]
    lines = _head("", "grade", "runs", "median off by", "9 of 10 within", "inside P10–P90", "P90 ÷ P10, median")
    lines += [
        f"| {group.quantity} | {group.group} | {group.scores} | {group.median_error:.0%} | {group.p90_error:.0%} "
        f"| {group.inside / group.scores:.0%} | {group.median_spread:.1f} |" for group in groups
    ]
    wrong = [verdict for verdict in _found().verdicts if verdict.says_fits and not verdict.fitted]
    alarms = [v for v in _found().verdicts if not v.says_fits and v.fitted and v.margin is not None and v.margin > 0.1]
    lines += ["", f"Of {len(_found().verdicts)} verdicts on memory {len(wrong)} said \"fits\" of a run that ran out of memory and "
              f"{len(alarms)} \"does not fit\" of one that finished with more than a tenth to spare."]
    return "\n".join(lines)


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
    found = _found()
    reasons: dict[str, list[str]] = {}
    for run, why in found.unscorable:
        reasons.setdefault(why, []).append(run.id)
    rows = len(found.scored_runs) + len(found.unscorable)
    lines = [f"{len(found.scored_runs)} of {rows} runs are compared. The others, by what they lack:", ""]
    lines += [f"- {reason}: {', '.join(ids)}" for reason, ids in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))]
    return "\n".join(lines)
