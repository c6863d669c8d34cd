"""A run's log beside what would have been predicted for it, and the evidence row that it makes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from planner import devices
from planner.errors import UsageError
from planner.plans import Memory, Step
from planner.records import Offer
from planner.request import Workload
from planner.resolve import nearest, resolve
from planner.trainlog import Log, Steady
from planner.units import GIB
from planner.workload import Training

if TYPE_CHECKING:
    from planner.estimate import Estimator
    from planner.metadata import Dataset
    from planner.records import Catalogue, Gpu

SYSTEMS = {"lerobot": "LeRobot", "trl": "TRL", "skyrl": "SkyRL", "own": "own log format"}
#: A policy whose parameters differ more than this from the profiled ones was built with other sizes.
_SAME_SIZE = 0.10
#: Settings that change what a sample costs and that are planned at their defaults.
_PICTURE = frozenset(("n_obs_steps", "resize_shape", "crop_shape", "crop_ratio", "image_resize_shape", "image_crop_shape"))
#: words of a device's name that make it another device
_OTHER_DEVICE = frozenset(("laptop", "mobile", "super", "max", "mig", "pcie", "nvl", "ada"))


class Said(NamedTuple):
    """What the user says of a run, to fill what its log lacks."""

    policy: str | None = None
    batch_size: int | None = None
    cameras: tuple[str, ...] = ()
    gpu: str | None = None
    num_gpus: int | None = None


class Result(NamedTuple):
    """One log, read, compared and ready to be kept."""

    file: str
    id: str
    log: Log
    steady: Steady
    policy: str
    gpu: str
    num_gpus: int
    batch_size: int | None
    training: Training | None  # None: not a training that is estimated
    step: Step | None  # the prediction, None likewise
    memory: Memory | None
    row: dict[str, Any]  # as data/evidence.yaml has it
    notes: tuple[str, ...]

    @property
    def samples_per_s(self) -> float | None:
        return None if self.batch_size is None else self.batch_size * self.num_gpus / self.steady.step_s


def row_id(log: Log, digest: str) -> str:
    """The same content is the same row, whatever the file is called. `digest` is hexadecimal."""
    return f"own-{log.date or 'undated'}-{digest[:6]}"


def result(file: str, digest: str, log: Log, steady: Steady, said: Said, estimator: Estimator, dataset: Dataset | None) -> Result:
    """`dataset` is the run's dataset where it is on this machine. UsageError names what the log lacks and which flag says it."""
    catalogue = estimator.catalogue
    policy = _policy(log, said, catalogue)
    batch_size = _agreed("batch size", "--batch-size", log.batch_size, said.batch_size)
    num_gpus = _agreed("number of GPUs", "--num-gpus", log.num_gpus, said.num_gpus) or 1
    gpu, notes = _gpu(log, said, catalogue)
    training: Training | None = None
    step: Step | None = None
    memory: Memory | None = None
    reason, confidence = "", "high"
    if log.system == "lerobot" or (log.system == "own" and policy in catalogue.policies):
        training = _training(log, said, policy, batch_size, catalogue, dataset)
        offer = Offer("local", gpu, gpu, num_gpus, None, None, None, None, None, None, "bundled", per_gpu=True)
        memory, step = estimator.ground(training, offer)
        usual = estimator.cost(training).params
        profiled = any(profile.policy == policy for profile in catalogue.profiles)
        if log.params and profiled and abs(log.params / usual - 1) > _SAME_SIZE:
            reason = f"{log.params / 1e6:.0f} M parameters, where {policy} as it is planned has {usual / 1e6:.0f} M"
        differs = _other_pictures(log, training)
        if differs:
            confidence = "medium"
            notes = (*notes, f"counts half, and makes nothing `measured`: {differs}, which is planned otherwise")
    else:
        reason = "only trainings of LeRobot are estimated"
    if reason:
        notes = (*notes, f"kept, but estimates do not rest on it: {reason}")
    row = _row(file, log, steady, policy, gpu, num_gpus, batch_size, training, confidence, reason)
    return Result(file, row_id(log, digest), log, steady, policy, gpu, num_gpus, batch_size, training, step, memory, row, notes)


# ------------------------------------------------------------------------------------------ what was trained, on what


def _agreed(what: str, flag: str, logged: int | None, said: int | None) -> int | None:
    if logged is not None and said is not None and logged != said:
        raise UsageError("conflict", f"{what} in the log is {logged}, and {flag} says {said}: leave {flag} out")
    return logged if logged is not None else said


def _policy(log: Log, said: Said, catalogue: Catalogue) -> str:
    logged = log.setting("policy", "type")
    if isinstance(logged, str):
        if said.policy not in (None, logged):
            raise UsageError("conflict", f"the log is of {logged}, and --policy says {said.policy}: leave --policy out")
        return logged
    if said.policy is None:
        raise UsageError("policy", "does not say what was trained: add --policy NAME")
    if log.system == "lerobot" and said.policy not in catalogue.policies:
        raise UsageError("policy", f"no policy {said.policy!r}: {nearest(said.policy, sorted(catalogue.policies))}")
    return said.policy


def _gpu(log: Log, said: Said, catalogue: Catalogue) -> tuple[str, tuple[str, ...]]:
    named = {name: gpu for name in log.devices if (gpu := gpu_named(name, catalogue.gpus))}
    if said.gpu is not None:
        gpu = gpu_named(said.gpu, catalogue.gpus)
        if gpu is None:
            raise UsageError("gpu", f"--gpu {said.gpu}: {nearest(said.gpu, sorted(catalogue.gpus))} (`plan gpus` lists them)")
        others = [name for name, one in named.items() if one != gpu]
        return gpu, (f"the log names {others[0]}; taken as {gpu}, as --gpu says",) if others else ()
    if log.setting("policy", "device") == "cpu":
        return "cpu", ()
    if len(set(named.values())) != 1:
        raise UsageError("gpu", "does not say on which GPU it ran: add --gpu NAME (`plan gpus` lists them)")
    return next(iter(named.values())), ()


def gpu_named(text: str, gpus: Mapping[str, Gpu]) -> str | None:
    """`NVIDIA A100-SXM4-80GB` or `a100-80` → a100-80; None where it may be another device, or several."""
    same = devices.named(text, gpus)
    if same:  # of several that share a name, the one that it names fully: RTX 4090, and not one modified to 48 GB
        return same[0].id if len(same) == 1 else next((gpu.id for gpu in same if devices.plain(gpu.id) == devices.plain(text)), None)
    words = re.sub(r"[^a-z0-9]+", " ", text.lower())
    words = re.sub(r"\b(\d+) ?gi?b\b", r"\1", re.sub(r"\brtx (?=\d)", "rtx", words))
    tokens = set(re.sub(r"(?<=\d) (ti|d)\b", r"\1", words).split())
    found: dict[str, set[str]] = {}
    for gpu in gpus:
        parts = set(gpu.split("-"))
        if gpu == text.strip().lower():
            return gpu
        if parts <= tokens and not (tokens - parts) & _OTHER_DEVICE:
            found[gpu] = parts
    best = max((len(parts) for parts in found.values()), default=0)
    most = [gpu for gpu, parts in found.items() if len(parts) == best]
    return most[0] if len(most) == 1 else None


def _training(
    log: Log, said: Said, policy: str, batch_size: int | None, catalogue: Catalogue, dataset: Dataset | None
) -> Training:
    known = catalogue.policies.get(policy)
    cameras = said.cameras or _cameras(log, known.base.id if known and known.base else None, dataset)
    if not cameras and known is not None and known.image_cost != "none":
        raise UsageError("cameras", "does not say what the cameras were: add --cameras, such as --cameras 2x640x480")
    if batch_size is None:
        raise UsageError("batch", "does not say the batch size: add --batch-size N (per GPU)")
    request = Workload(policy=policy, frames=log.frames or None, cameras=cameras, steps=log.steps or 1, batch_size=batch_size,
                       lerobot_version=log.release, tail=_arguments(log, policy, catalogue))
    return resolve(request, catalogue)


def _cameras(log: Log, base: str | None, dataset: Dataset | None) -> tuple[str, ...]:
    """Cameras as --cameras takes them: of the policy's own inputs, unless these are its base's; else of the dataset."""
    inputs, weights = log.setting("policy", "input_features"), log.setting("policy", "pretrained_path")
    if isinstance(inputs, dict) and (weights is None or weights != base):
        shapes: list[Any] = [one.get("shape") for one in inputs.values() if isinstance(one, dict) and one.get("type") == "VISUAL"]
        if shapes and all(isinstance(shape, (list, tuple)) and len(shape) == 3 for shape in shapes):
            return tuple(f"{shape[2]}x{shape[1]}" for shape in shapes)
    if dataset is not None and (log.setting("dataset", "episodes") is not None or dataset.frames == log.frames):
        return tuple(f"{camera.width}x{camera.height}" for camera in dataset.cameras) or ("0",)
    return ()


def _other_pictures(log: Log, training: Training) -> str:
    """Settings of a policy without base weights that make its pictures other ones than those that are planned."""
    usual, own = training.policy.flags.get(training.lerobot, {}), log.setting("policy")
    if not isinstance(own, dict) or own.get("pretrained_path") is not None:
        return ""
    said = {name: own[name] for name in sorted(_PICTURE & usual.keys() & own.keys())}
    return ", ".join(f"{name} is {value}" for name, value in said.items() if value != usual[name])


def _arguments(log: Log, policy: str, catalogue: Catalogue) -> tuple[str, ...]:
    """The trainer's arguments that decide cost, as LeRobot's configuration has them."""
    known = catalogue.policies[policy].flags.get(log.release or "", {}) if policy in catalogue.policies else {}
    found = {f"policy.{name}": log.setting("policy", name) for name in ("type", "pretrained_path", *known)}
    for path in (("num_workers",), ("dataset", "video_backend"), ("accelerator", "mixed_precision"),
                 ("accelerator", "gradient_accumulation", "steps")):
        found[".".join(path)] = log.setting(*path)
    adapter = log.setting("peft")
    if isinstance(adapter, dict):
        found |= {"peft.method_type": adapter.get("method_type") or "LORA", "peft.r": adapter.get("r")}
    scalars = {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
    return tuple(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in scalars.items())


# ------------------------------------------------------------------------------------------ the evidence row


def _row(
    file: str, log: Log, steady: Steady, policy: str, gpu: str, num_gpus: int, batch_size: int | None, training: Training | None,
    confidence: str, reason: str,
) -> dict[str, Any]:
    """The entry of the user's evidence.yaml; `reason` says why estimates do not rest on it."""
    row: dict[str, Any] = {"policy": policy}
    if training is None:
        row["system"] = log.system
    else:
        row["variant"] = _variant(log, training)
    row |= {"gpu": gpu, "num_gpus": num_gpus, "batch_size": batch_size}
    if training is not None:
        row["cameras"] = len(training.cameras)
        largest = max(training.cameras, key=lambda camera: camera.megapixels, default=None)
        if largest is not None:
            row |= {"width": largest.width, "height": largest.height}
    row |= {
        "steps": log.steps,
        "wall_clock": _seconds(log.wall_clock_s),
        "update": _seconds(steady.update_s),
        "data": _seconds(steady.data_s),
        "whole_step": log.whole_step,
        "vram": f"{steady.vram_bytes / GIB:.5g} GiB" if steady.vram_bytes else None,
        "loader": _loader(log),
        "lerobot": log.release,
        "scored": not reason,
        "reason": reason or None,
        "kind": "log",
        "confidence": confidence,
        "source": file,
        "as_of": log.date or "undated",
    }
    return {name: value for name, value in row.items() if value is not None}


def _variant(log: Log, training: Training) -> dict[str, Any]:
    variant = training.variant
    found: dict[str, Any] = {
        "dtype": variant.dtype, "gradient_checkpointing": variant.gradient_checkpointing, "trained": variant.trained,
        "lora_rank": variant.lora_rank, "compiled": variant.compiled,
        # with 0.4.4 mixed precision is accelerate's, and the log does not say it
        "autocast": None if log.release == "0.4.4" else variant.autocast,
    }
    if variant.chunk:
        found["chunk"] = variant.chunk
    if log.setting("use_policy_training_preset") is False and isinstance(log.setting("optimizer", "type"), str):
        found["optimizer"] = log.setting("optimizer", "type")
    return {name: value for name, value in found.items() if value is not None}


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g} s"


def _loader(log: Log) -> str | None:
    workers, backend = log.setting("num_workers"), log.setting("dataset", "video_backend")
    said = [f"{workers} workers"] if isinstance(workers, int) else []
    return ", ".join(said + ([backend] if isinstance(backend, str) else [])) or None
