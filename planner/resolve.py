"""From what was said to a Training: every gap filled, every filling listed as an assumption. Pure.

Flags and the tail after `--` are one request: a value given both ways must agree, and an error names both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from planner import datasets, metadata, pasted
from planner.errors import UsageError
from planner.pasted import Pasted
from planner.records import Policy
from planner.variants import accumulation_of, variant_of
from planner.workload import (
    DEFAULT_EPISODE_SECONDS,
    DEFAULT_EPOCHS,
    DEFAULT_FPS,
    DEFAULT_NUM_WORKERS,
    RELEASES,
    Assumption,
    Camera,
    Training,
)

if TYPE_CHECKING:
    from planner.metadata import Dataset
    from planner.records import Catalogue
    from planner.request import Workload

LEROBOT_BATCH, LEROBOT_STEPS = 8, 100_000  # lerobot-train's own defaults
DEFAULT_CAMERAS = (Camera(640, 480), Camera(640, 480))
MAX_EPISODES, MAX_FRAMES, MAX_STEPS, MAX_BATCH, MAX_CAMERAS = 10**7, 10**10, 10**9, 10**6, 16

_CAMERA = re.compile(r"(?:(\d{1,3})x)?(\d{1,5})x(\d{1,5})")


def resolve(request: Workload, catalogue: Catalogue, dataset: Dataset | None = None) -> Training:
    """`dataset` holds what is known of the dataset, None where that is only its name."""
    tail = pasted.read(request.tail)
    assumed: list[Assumption] = []
    warnings: list[tuple[str, str]] = []
    release = _release(request.lerobot_version)
    policy = _policy(request, tail, catalogue, release)
    if not request.lerobot_version:
        assumed.append(Assumption("LeRobot", release, "--lerobot-version"))
    variant = variant_of(policy, release, tail)
    cameras = _cameras(request, policy, dataset, assumed)
    batch = _agree("--batch-size", _count("--batch-size", request.batch_size, MAX_BATCH), "--batch_size", tail.integer("batch_size", 1))
    if batch is None:
        batch = LEROBOT_BATCH if tail.whole else int(policy.batch_size.value)
        assumed.append(Assumption("batch size per GPU", str(batch), "--batch-size"))
    frames, episodes, fps = _frames(request, tail, dataset, assumed, warnings)
    chosen = tail.integers("dataset.episodes")
    if dataset is not None and chosen is None and episodes is not None and episodes < dataset.episodes:
        chosen = tuple(range(episodes))  # the first ones, and the trainer is told so
    epochs, steps = _length(request, tail, frames, assumed)
    if dataset is not None:
        warnings += dataset.warnings(release)
    workers = tail.integer("num_workers")
    if workers is None:
        assumed.append(Assumption("loader workers", str(DEFAULT_NUM_WORKERS), "-- --num_workers"))
    if any(camera.codec is None for camera in cameras):
        assumed.append(Assumption("video codec", "av1", "--dataset"))
    return Training(
        policy=policy,
        variant=variant,
        cameras=cameras,
        batch_size=batch,
        num_workers=DEFAULT_NUM_WORKERS if workers is None else workers,
        lerobot=release,
        frames=frames,
        episodes=episodes,
        fps=fps,
        epochs=epochs,
        given_steps=steps,
        gradient_accumulation=accumulation_of(tail, release),
        dataset=_dataset_name(request, tail, dataset),
        dataset_episodes=chosen,
        dataset_root=_dataset_root(tail, dataset),
        dataset_bytes=dataset.size_bytes if dataset else None,
        dataset_revision=_dataset_revision(request, tail, dataset),
        save_freq=_save_freq(tail),
        video_backend=tail.get("dataset.video_backend") or "torchcodec",
        trainer_args=request.tail,
        pasted=tail.whole,
        launcher_gpus=_launcher_gpus(tail),
        environment=tail.environment,
        assumptions=tuple(assumed),
        warnings=tuple(warnings),
    )


def nearest(name: str, names: list[str] | tuple[str, ...]) -> str:
    """`did you mean …?`, or all the names where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), names, 3, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"


_T = TypeVar("_T", str, int)


def _agree(flag: str, given: _T | None, argument: str, tailed: _T | None) -> _T | None:
    """One value said in two ways must be the same."""
    if given is not None and tailed is not None and given != tailed:
        raise UsageError("conflict", f"{flag} {given} and {argument}={tailed} after `--` disagree; give one of them")
    return given if given is not None else tailed


def _count(flag: str, value: Any, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UsageError("usage", f"{flag} {value}: expected a whole number from 1 to {most}")
    return value


def _positive(flag: str, value: Any, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise UsageError("usage", f"{flag} {value}: expected a number above 0 and at most {most:g}")
    return float(value)


# ------------------------------------------------------------------------------------------ policy


def _release(asked: str | None) -> str:
    if asked is None:
        return RELEASES[0]
    wanted = asked.removeprefix("v")
    if wanted not in RELEASES:
        raise UsageError("usage", f"--lerobot-version {asked}: expected one of {', '.join(RELEASES)}")
    return wanted


def _policy(request: Workload, tail: Pasted, catalogue: Catalogue, release: str) -> Policy:
    names = sorted(catalogue.policies)
    typed = tail.get("policy.type")
    weights = {policy.base.id: policy.id for policy in catalogue.policies.values() if policy.base}
    path = tail.get("policy.path") or tail.get("policy.pretrained_path")
    name = _agree("--policy", request.policy, "--policy.type", typed)
    based = weights.get(path or "")
    if name is None and based is None:
        if tail.get("config_path") is not None:
            raise UsageError("policy", "what a resumed run trains stands in its train_config.json, which is not read: "
                             "add --policy TYPE, --batch-size N and --steps N (those that remain)")
        if path is not None:
            raise UsageError("policy", f"the policy behind {path} is not known here: add --policy TYPE ({', '.join(names)})")
        raise UsageError("policy", "which policy? --policy NAME, for example --policy smolvla; `plan policies` lists them")
    if name is not None and based is not None and name != based and typed is None:
        raise UsageError("conflict", f"--policy {name} and --policy.path={path} after `--` disagree: that is a {based}")
    name = name or based
    assert name is not None
    policy = catalogue.policies.get(name)
    if policy is None:
        raise UsageError("policy", f"no policy {name!r}: {nearest(name, names)} (`plan policies` lists them)")
    if release not in policy.releases:
        raise UsageError("policy", f"LeRobot {release} has no {name}; it is in {', '.join(policy.releases)}: --lerobot-version")
    return policy


# ------------------------------------------------------------------------------------------ data and length


def _cameras(request: Workload, policy: Policy, dataset: Dataset | None, assumed: list[Assumption]) -> tuple[Camera, ...]:
    if policy.image_cost == "none":
        return ()
    most = policy.max_cameras or MAX_CAMERAS
    given = "--cameras"
    if dataset is not None:
        if request.cameras:
            raise UsageError("conflict", f"--cameras and --dataset {dataset.name} both say what is seen; leave --cameras out")
        cameras, given = dataset.cameras, f"--dataset {dataset.name}"
    elif request.cameras:
        cameras = tuple(camera for text in request.cameras for camera in parse_cameras(text))
    else:
        cameras = DEFAULT_CAMERAS[:most]
        assumed.append(Assumption("cameras", f"{len(cameras)} × 640×480", "--cameras"))
    if len(cameras) > most:
        raise UsageError("cameras", f"{given}: LeRobot trains {policy.id} on at most {most} camera{'s' if most > 1 else ''}, "
                         f"and there are {len(cameras)}")
    if policy.same_cameras and len({(camera.width, camera.height) for camera in cameras}) > 1:
        raise UsageError("cameras", f"{given}: LeRobot trains {policy.id} only on cameras of one size; resize the dataset's videos")
    return cameras


def parse_cameras(text: str) -> tuple[Camera, ...]:
    """`2x640x480` → two cameras; `640x480` → one; `0` → none."""
    if text == "0":
        return ()
    match = _CAMERA.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError("usage", f"--cameras {text}: expected COUNTxWIDTHxHEIGHT, such as 2x640x480")
    count, width, height = int(match[1] or 1), int(match[2]), int(match[3])
    if not 1 <= count <= MAX_CAMERAS or not 16 <= width <= 8192 or not 16 <= height <= 8192:
        raise UsageError("usage", f"--cameras {text}: expected 1 to {MAX_CAMERAS} cameras of 16 to 8192 pixels a side")
    return (Camera(width, height),) * count


def _frames(
    request: Workload, tail: Pasted, dataset: Dataset | None, assumed: list[Assumption], warnings: list[tuple[str, str]]
) -> tuple[int | None, int | None, float | None]:
    frames = _count("--frames", request.frames, MAX_FRAMES)
    episodes = _count("--episodes", request.episodes, MAX_EPISODES)
    seconds, fps = _positive("--episode-seconds", request.episode_seconds, 86_400), _positive("--fps", request.fps, 1000)
    chosen = tail.integers("dataset.episodes")
    if chosen is not None:
        episodes = _agree("--episodes", episodes, "number of --dataset.episodes", len(chosen))
    if frames is not None:
        for flag, value in (("--episode-seconds", seconds), ("--episodes", request.episodes)):
            if value is not None and (flag == "--episode-seconds" or seconds is not None):
                raise UsageError("conflict", f"--frames and {flag} both say how many frames there are; give one of them")
        if dataset is not None and frames != dataset.frames:
            raise UsageError("conflict", f"--frames {frames} and --dataset {dataset.name}, which has {dataset.frames}, disagree; "
                             "leave --frames out")
        return frames, episodes, fps
    if dataset is not None:
        return _dataset_frames(dataset, chosen, episodes, fps, seconds, warnings)
    if episodes is None:
        return None, None, fps
    if seconds is None:
        seconds = DEFAULT_EPISODE_SECONDS
        assumed.append(Assumption("episode length", f"{seconds:g} s", "--episode-seconds"))
    if fps is None:
        fps = DEFAULT_FPS
        assumed.append(Assumption("frame rate", f"{fps:g} fps", "--fps"))
    total = max(1, round(episodes * seconds * fps))
    if total > MAX_FRAMES:
        raise UsageError("usage", f"--episodes {episodes} of {seconds:g} s make {total} frames; at most {MAX_FRAMES} can be planned")
    return total, episodes, fps


def _dataset_frames(
    dataset: Dataset, chosen: tuple[int, ...] | None, episodes: int | None, fps: float | None, seconds: float | None,
    warnings: list[tuple[str, str]],
) -> tuple[int, int, float]:
    for flag, value in (("--fps", fps), ("--episode-seconds", seconds)):
        if value is not None:
            raise UsageError("conflict", f"{flag} and --dataset {dataset.name} both say how long the episodes are; leave {flag} out")
    if chosen is None and episodes is not None:
        if episodes > dataset.episodes:
            raise UsageError("dataset", f"--episodes {episodes}: {dataset.name} has {dataset.episodes}")
        if episodes < dataset.episodes:
            chosen = tuple(range(episodes))
    if chosen is None:
        return dataset.frames, dataset.episodes, dataset.fps
    frames, exact = metadata.frames_of(dataset, chosen)
    if not exact:
        why = f": {dataset.lengths_unread}" if dataset.lengths_unread else ""
        warnings.append(("frames", f"frames of {len(chosen)} episodes are taken from the mean length of all {dataset.episodes}{why}"))
    return frames, len(chosen), dataset.fps


def _length(request: Workload, tail: Pasted, frames: int | None, assumed: list[Assumption]) -> tuple[float | None, int | None]:
    epochs = _positive("--epochs", request.epochs, 100_000)
    steps = _agree("--steps", _count("--steps", request.steps, MAX_STEPS), "--steps", tail.integer("steps", 1))
    if steps is not None and epochs is not None:
        raise UsageError("conflict", "--steps and --epochs both say how long to train; give one of them")
    if steps is not None:
        return None, steps
    if tail.whole and epochs is None:
        assumed.append(Assumption("steps", f"{LEROBOT_STEPS} (lerobot-train's default)", "--steps"))
        return None, LEROBOT_STEPS
    if frames is None:
        if request.dataset is not None or tail.get("dataset.repo_id") is not None:
            name = request.dataset or tail.get("dataset.repo_id")
            raise UsageError("frames", f"how long is {name}? It is not read here: add --episodes N or --frames N")
        raise UsageError("frames", "how much data? --episodes N, --frames N, --steps N, or --dataset with a folder or a Hub id")
    if epochs is None:
        epochs = DEFAULT_EPOCHS
        assumed.append(Assumption("epochs", f"{epochs:g}", "--epochs"))
    return epochs, None


def _launcher_gpus(tail: Pasted) -> int | None:
    """Processes of a pasted command: one without a launcher; None where nothing, or `accelerate` by itself, decides."""
    if not tail.whole or tail.num_processes is not None:
        return tail.num_processes
    return None if tail.launcher[0].endswith(("accelerate", "torchrun")) else 1


def _save_freq(tail: Pasted) -> int | None:
    every = tail.get("save_freq")
    if every is None:
        return None
    number = pasted.integer("save_freq", every.lstrip("-") or every)
    return number if number > 0 and not every.startswith("-") else MAX_STEPS


def _dataset_name(request: Workload, tail: Pasted, dataset: Dataset | None) -> str | None:
    said = tail.get("dataset.repo_id")
    if dataset is not None and dataset.root is not None:
        return said or (dataset.name if "/" in dataset.name else None)
    hub = datasets.hub_name(request.dataset or "")
    return _agree("--dataset", hub.repo if hub else request.dataset, "--dataset.repo_id", said)


def _dataset_root(tail: Pasted, dataset: Dataset | None) -> str | None:
    said = tail.get("dataset.root")
    return said if said is not None else str(dataset.root) if dataset is not None and dataset.root is not None else None


def _dataset_revision(request: Workload, tail: Pasted, dataset: Dataset | None) -> str | None:
    """The commit that was read on the Hub; where none was, the revision as it was said."""
    if dataset is not None:
        return dataset.revision
    hub, said = datasets.hub_name(request.dataset or ""), tail.get("dataset.revision")
    return (hub.revision if hub else None) or (None if said in ("null", "None") else said)
