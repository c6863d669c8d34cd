"""Measured runs → calibration and grades. Pure; deterministic; plain Python.

Each scored run says how long a step took. The work term of planner.speed is multiplied by
exp(vendor + gpu + policy + policy on this architecture), where NVIDIA is the reference vendor, and the launch
overhead by exp(family + host of this GPU). All are fitted together to the logarithm of the measured times with ridge
penalties, so that a GPU or policy with few runs stays near the general efficiency. data/calibration.json holds the
result for the bundled evidence.
"""

from __future__ import annotations

import json
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

from planner.profiles import cost_of
from planner.records import Catalogue, Gpu, Policy, Run
from planner.variants import usual_chunk
from planner.work import together, work
from planner.workload import DEFAULT_NUM_WORKERS, RELEASES, Camera, Training, Variant

#: Launch overhead of one step in seconds before calibration: many small kernels cost their launch, not their work.
LAUNCH_S = {"cnn": 0.03, "diffusion": 0.05, "vla-small": 0.10, "vla-large": 0.15}
#: Ridge: how far (as a standard deviation of the logarithm) each kind of correction is expected to reach.
#: These and _NOISE were chosen once by leaving one source out; docs/accuracy.md has the errors that remain.
_SCALE = {"vendor": 0.7, "gpu": 0.35, "policy": 0.35, "pair": 0.15, "launch": 0.35, "host": 0.3}
#: Where a correction starts without runs of its own. Apple: a factor of two, from what an M1 Max is said to take for ACT (13 h
#: for 100,000 steps, lerobot issue 3191; 6-14 h for 56,250 at batch 4, the hardware guide), which states too little to be scored.
_PRIOR = {"vendor:apple": 0.7}
_NOISE = 0.15  # spread of one measured step time around the model, as a standard deviation of the logarithm
_WEIGHT = {"high": 1.0, "medium": 0.5, "low": 0.2}
_SWEEPS = 60
#: P10–P90 of a step time as ×/÷, by grade, before any evidence; the runs' errors, each with its source left out, widen or
#: narrow it with the weight of their sources against this many.
SPREAD = {"measured": 1.3, "scaled": 1.7, "modelled": 2.0}
_SPREAD_PRIOR_SOURCES, _SPREAD_QUANTILE = 5, 0.87
#: Two runs of one job on one machine differ by 3 %.
_LEAST_SPREAD = 1.06


class Kin(NamedTuple):
    """Timed runs that are like a training."""

    same: tuple[Run, ...]  # of its policy
    alike: tuple[Run, ...]  # of its variant, too


class Calibration(NamedTuple):
    """Corrections as logarithms, and which (policy, GPU) pairs were measured."""

    corrections: dict[str, float]  # "gpu:h100", "policy:act", "pair:act@Hopper", "launch:cnn"
    timed: tuple[Run, ...] = ()
    archs: dict[str, str] = {}  # GPU -> architecture, of the GPUs that runs were timed on
    spreads: dict[str, float] = SPREAD  # grade -> P10–P90 as ×/÷

    def launch(self, policy: Policy, gpu: Gpu) -> float:
        """Seconds of launch overhead per step."""
        return LAUNCH_S[policy.launch_family] * exp(sum(self.corrections.get(name, 0.0) for name in _launch_names(policy, gpu)))

    def factor(self, policy: Policy, gpu: Gpu) -> float:
        """What the work term is multiplied with."""
        return exp(sum(self.corrections.get(name, _PRIOR.get(name, 0.0)) for name in _work_names(policy.id, gpu)))

    def kin(self, training: Training) -> Kin:
        """The timed runs that a training's grade can rest on; the same on every offer."""
        same = tuple(run for run in self.timed if run.policy == training.policy.id)
        return Kin(same, tuple(run for run in same if matches(run, training)))

    def grade(self, training: Training, gpu: Gpu, num_gpus: int, kin: Kin | None = None) -> tuple[str, str]:
        """How well founded a step time is, and the run it leans on. `kin` is self.kin(training), where it is at hand."""
        same, alike = self.kin(training) if kin is None else kin
        here = next((run for run in alike if run.gpu == gpu.id and (run.num_gpus or 1) == num_gpus
                     and run.confidence == "high" and same_images(run, training)), None)
        if here is not None:
            return "measured", f"{here.id}: {here.source}"
        if same:
            best = max(alike or same, key=lambda run: (run.gpu == gpu.id, self.archs[run.gpu or ""] == gpu.arch, _WEIGHT[run.confidence]))
            return "scaled", f"{best.id} on {best.gpu}: {best.source}"
        return "modelled", "no timed run of this policy"


def matches(run: Run, training: Training) -> bool:
    """The run trained this policy as this variant, with the policy's own optimizer."""
    variant = training.variant
    return (
        run.policy == training.policy.id
        and run.trained == variant.trained
        and (run.dtype or variant.dtype) == variant.dtype
        and bool(run.gradient_checkpointing) == variant.gradient_checkpointing
        and bool(run.compiled) == variant.compiled
        and _same_chunk(run, training)
        and run.optimizer is None
    )


def _same_chunk(run: Run, training: Training) -> bool:
    """The run's samples had about as many actions: within a factor of two, as same_images(). Who says nothing took the usual."""
    here = training.variant.chunk or training.policy.chunk
    seen = run.chunk or usual_chunk(training.policy, training.lerobot)
    return here <= 2 * seen and seen <= 2 * here


def _launch_names(policy: Policy, gpu: Gpu) -> tuple[str, str]:
    return f"launch:{policy.launch_family}", f"host:{gpu.id}"


def same_images(run: Run, training: Training) -> bool:
    """The run saw about as many pixels a sample, or as many images where they are resized: within a factor of two."""
    if training.policy.image_cost == "pixels":
        seen = (run.cameras or 0) * (run.width or 640) * (run.height or 480) / 1e6
        here = sum(camera.megapixels for camera in training.cameras)
    else:
        seen, here = float(run.cameras or 0), float(len(training.cameras))
    return here <= 2 * seen and seen <= 2 * here


def _work_names(policy: str, gpu: Gpu) -> tuple[str, ...]:
    names = (f"gpu:{gpu.id}", f"policy:{policy}", f"pair:{policy}@{gpu.arch.split()[0]}")
    return names if gpu.vendor == "nvidia" else (f"vendor:{gpu.vendor}", *names)


class _Point(NamedTuple):
    """One run, reduced to what the fit needs."""

    measured: float
    launch: float
    fixed: float
    work: float
    launch_names: tuple[str, ...]
    work_names: tuple[str, ...]
    weight: float


def scored(catalogue: Catalogue) -> list[Run]:
    """Runs whose step time can be predicted: policy, variant, GPU, batch and cameras are known."""
    return [
        run for run in catalogue.runs
        if run.scored and run.update_s and run.gpu in catalogue.gpus and run.batch_size and run.cameras is not None
        and run.policy in catalogue.policies and run.trained is not None
    ]


def workload_of(run: Run, catalogue: Catalogue) -> Training:
    """The workload that a run was. Resolution and codec default to 640×480 AV1."""
    policy, release = catalogue.policies[run.policy], run.lerobot or RELEASES[0]
    chunk = run.chunk or usual_chunk(policy, release)
    variant = Variant(
        dtype=run.dtype or policy.dtype, gradient_checkpointing=bool(run.gradient_checkpointing),
        trained=run.trained or policy.trained, lora_rank=run.lora_rank or 0, autocast=bool(run.autocast), compiled=bool(run.compiled),
        chunk=chunk if chunk != policy.chunk else 0,
    )
    camera = Camera(run.width or 640, run.height or 480)
    return Training(
        policy=policy, variant=variant, cameras=(camera,) * (run.cameras or 0), batch_size=run.batch_size or 1,
        num_workers=DEFAULT_NUM_WORKERS, lerobot=release, given_steps=run.steps or 1,
    )


def calibrate(catalogue: Catalogue, without: frozenset[str] = frozenset(), spreads: dict[str, float] = SPREAD) -> Calibration:
    """Fit the corrections to the scored runs, leaving out the sources in `without`."""
    runs = [run for run in scored(catalogue) if run.source not in without]
    return Calibration(_fit([_point(run, runs, catalogue) for run in runs]), tuple(runs), _archs(catalogue, runs), spreads)


def _point(run: Run, runs: list[Run], catalogue: Catalogue) -> _Point:
    job = workload_of(run, catalogue)
    gpu = catalogue.gpus[run.gpu or ""]
    cost = cost_of(catalogue, job.policy, job.variant, job.cameras)
    parts = work(gpu, job.variant, cost, job.batch_size, LAUNCH_S[job.policy.launch_family])
    network = 0.03 if (run.num_gpus or 1) > 1 else 0.0
    optimizer = parts.optimizer * (0.4 if run.optimizer else 1.0)  # 8-bit moments
    rows = sum(other.source == run.source and other.gpu == run.gpu and other.policy == run.policy for other in runs)
    return _Point(
        measured=(run.update_s or 0.0) / (1 + network), launch=parts.launch, fixed=optimizer, work=parts.flops + parts.traffic,
        launch_names=_launch_names(job.policy, gpu), work_names=_work_names(run.policy, gpu),
        weight=_WEIGHT[run.confidence] / rows**0.5,  # rows of one page are not independent
    )


def spreads_of(catalogue: Catalogue) -> dict[str, float]:
    """P10–P90 as ×/÷ by grade: a quantile of the errors with each source left out, drawn towards SPREAD.

    Every source weighs the same, however many rows it has: the next run comes from another one. The quantile lies above the
    80 % that the interval promises, because rigs nobody has measured err more than those that somebody has.
    """
    runs = scored(catalogue)
    errors: dict[str, list[tuple[float, float]]] = {grade: [] for grade in SPREAD}  # (error, weight)
    for source in sorted({run.source for run in runs}):
        held, group = calibrate(catalogue, without=frozenset({source})), [run for run in runs if run.source == source]
        for run in group:
            job, gpu, item = workload_of(run, catalogue), catalogue.gpus[run.gpu or ""], _point(run, runs, catalogue)
            launch = held.launch(job.policy, gpu) * item.launch / LAUNCH_S[job.policy.launch_family]
            predicted = together(launch, item.fixed + item.work * held.factor(job.policy, gpu))
            errors[held.grade(job, gpu, run.num_gpus or 1)[0]].append((abs(log(predicted / item.measured)), 1 / len(group)))
    found = {}
    for grade, start in SPREAD.items():
        sources = sum(weight for _, weight in errors[grade])
        mixed = (sources * _quantile(sorted(errors[grade])) + _SPREAD_PRIOR_SOURCES * log(start)) / (sources + _SPREAD_PRIOR_SOURCES)
        found[grade] = round(max(_LEAST_SPREAD, exp(mixed)), 3)
    return found


def _quantile(weighted: list[tuple[float, float]]) -> float:
    """The _SPREAD_QUANTILE of sorted (value, weight); 0 where there are none."""
    total, passed = sum(weight for _, weight in weighted), 0.0
    for value, weight in weighted:
        passed += weight
        if passed >= _SPREAD_QUANTILE * total:
            return value
    return 0.0


def _archs(catalogue: Catalogue, runs: list[Run]) -> dict[str, str]:
    return {run.gpu: catalogue.gpus[run.gpu].arch for run in runs if run.gpu}


def _fit(points: list[_Point]) -> dict[str, float]:
    """Coordinate-wise Gauss–Newton on the weighted squared log error plus the ridge."""
    touching: dict[str, list[_Point]] = {}
    for item in points:
        for name in (*item.launch_names, *item.work_names):
            touching.setdefault(name, []).append(item)
    values = {name: _PRIOR.get(name, 0.0) for name in sorted(touching)}

    def parts(item: _Point) -> tuple[float, float]:
        return (item.launch * exp(sum(values[name] for name in item.launch_names)),
                item.work * exp(sum(values[name] for name in item.work_names)))

    for _ in range(_SWEEPS):
        for name, items in sorted(touching.items()):
            ridge = 1 / _SCALE[name.split(":")[0]] ** 2
            slope, curve = ridge * (values[name] - _PRIOR.get(name, 0.0)), ridge
            for item in items:
                launch, device = parts(item)
                predicted = together(launch, item.fixed + device)
                # d log(predicted) / d value, of the root of a sum of squares
                share = (launch * launch if name in item.launch_names else (item.fixed + device) * device) / predicted**2
                weight = item.weight / _NOISE**2
                slope += weight * share * log(predicted / item.measured)
                curve += weight * share * share
            values[name] -= 0.7 * slope / curve
    return {name: round(value, 4) for name, value in values.items()}


# ------------------------------------------------------------------------------------------ checked-in form

CALIBRATION = "calibration.json"


def load_calibration(catalogue: Catalogue, data: Path) -> Calibration:
    """The checked-in calibration while it belongs to this catalogue; a fresh fit otherwise."""
    try:
        stored: dict[str, Any] = json.loads((data / CALIBRATION).read_bytes())
    except (OSError, ValueError):
        stored = {}
    spreads = stored.get("spreads", SPREAD)
    if catalogue.digest and stored.get("catalogue") == catalogue.digest:
        runs = scored(catalogue)
        return Calibration(stored["corrections"], tuple(runs), _archs(catalogue, runs), spreads)
    return calibrate(catalogue, spreads=spreads)


def calibration_text(catalogue: Catalogue) -> str:
    """data/calibration.json for this catalogue."""
    content = {"catalogue": catalogue.digest, "spreads": spreads_of(catalogue), "corrections": calibrate(catalogue).corrections}
    return json.dumps(content, indent=1) + "\n"


def _main() -> None:
    """`python -m planner.evidence` rewrites the checked-in calibration; `--check` says whether it is current."""
    import sys

    from planner.catalogue import data_dir, load

    data = data_dir()
    text = calibration_text(load(data, user=data / "none"))
    path = data / CALIBRATION
    if "--check" in sys.argv:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not current: run python -m planner.evidence")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main()
