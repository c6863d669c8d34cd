"""What a LeRobotDataset's own files say: `meta/info.json`, and the lengths of its episodes. No network, nothing of LeRobot.

Formats v2.0, v2.1 and v3.0 (LeRobot `datasets/utils.py`). `where` names the file in every error, on this machine or on the Hub.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from planner.errors import UsageError
from planner.workload import Camera

#: format that LeRobot 0.4.4, 0.6.1 and main read (CODEBASE_VERSION), and the tag that they ask the Hub for
CODEBASE = "v3.0"

WAY_OUT = "; repair the file, or leave --dataset out and give --frames"

MAX_FRAMES = 10**10  # the largest public collections hold about 10**9
MAX_EPISODES = 10**7
MAX_FPS = 1_000
MAX_SIDE = 16_384  # pixels; the largest picture that AV1 and HEVC levels allow
MAX_INFO_BYTES = 16 * 2**20

_CHANNELS = (1, 3, 4)  # grey or depth, RGB, RGBA
_KEPT = ("codebase_version", "total_frames", "total_episodes", "total_tasks", "fps")


class Dataset(NamedTuple):
    """What a dataset's files say."""

    name: str  # "owner/name" on the Hub and inside LeRobot's own cache, else the folder's name
    root: Path | None  # None: on the Hub
    codebase_version: str  # v2.1, v3.0
    frames: int
    episodes: int
    fps: float
    cameras: tuple[Camera, ...]
    tasks: int | None
    size_bytes: int | None  # of all its files; None: not known
    revision: str | None = None  # commit on the Hub
    lengths: tuple[int, ...] | None = None  # frames of each episode by its index, 0 where it is not listed; None: not read
    lengths_unread: str = ""  # why they were not, where they were asked for

    @property
    def where(self) -> str:
        return f"{self.name} on the Hub" if self.root is None else str(self.root)

    def warnings(self, release: str) -> tuple[tuple[str, str], ...]:
        """(code, text) of what stops LeRobot `release` from reading this dataset as it is."""
        if not self.codebase_version.startswith("v2."):
            return ()
        old = release.startswith("0.4")
        module = "lerobot.datasets.v30.convert_dataset_v21_to_v30" if old else "lerobot.scripts.convert_dataset_v21_to_v30"
        command = ["python", "-m", module]
        if self.root is None:
            command += [f"--repo-id={self.name}"]
            where, after = "", f"; for a dataset of someone else add --push-to-hub=false and plan with --dataset " \
                f"~/.cache/huggingface/lerobot/{self.name}"
        else:
            # The converter's --root is the dataset's folder from 0.6 on, and its parent in 0.4
            # (convert_dataset_v21_to_v30.py of both releases).
            command += [f"--repo-id={self.root.name}", f"--root={self.root.parent if old else self.root}", "--push-to-hub=false"]
            where, after = " in place", ""
        first = "" if self.codebase_version == "v2.1" else " to v2.1 with LeRobot 0.3, then"
        text = (
            f"{self.where} is in format {self.codebase_version}, which LeRobot {release} refuses; "
            f"convert it{first}{where or ' and push it'}: {shlex.join(command)}{after}"
        )
        return (("dataset-version", text),)


def load(data: bytes | str, where: str) -> dict[str, Any]:
    """The object in the text of an info.json. UsageError where it is none."""
    try:
        if len(data) > MAX_INFO_BYTES:
            raise broken(where, "file", "larger than 16 MiB, which no dataset's info is")
        info = json.loads(data.decode("utf-8") if isinstance(data, bytes) else data)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise broken(where, "file", f"not valid JSON ({reason})") from None
    if not isinstance(info, dict):
        raise broken(where, "file", f"expected a JSON object, got {shown(info)}")
    return info


def kept(info: dict[str, Any]) -> dict[str, Any]:
    """The part of an info.json that `dataset` reads."""
    features: Any = info.get("features")
    if isinstance(features, dict):
        features = {name: feature for name, feature in features.items() if _is_camera(feature)}
    return {name: info[name] for name in _KEPT if name in info} | {"features": features}


def dataset(
    info: dict[str, Any], where: str, *, name: str, root: Path | None, size_bytes: int | None, revision: str | None = None,
    lengths: tuple[int, ...] | None = None, lengths_unread: str = "",
) -> Dataset:  # fmt: skip
    """The facts in an info.json. UsageError, naming file and field, where one is missing or cannot be."""
    read = _Info(where, info)
    version = read.get("codebase_version")
    if not isinstance(version, str) or not re.fullmatch(r"v[23]\.\d+", version):
        raise read.fail("codebase_version", f"expected v2.0, v2.1 or v3.0, got {shown(version)}")
    frames, episodes = read.count("total_frames", MAX_FRAMES), read.count("total_episodes", MAX_EPISODES)
    if frames < episodes:
        raise read.fail("total_frames", f"{frames} frames cannot fill {episodes} episodes")
    fps = read.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= MAX_FPS:
        raise read.fail("fps", f"expected frames per second above 0 and at most {MAX_FPS}, got {shown(fps)}")
    features = read.get("features")
    if not isinstance(features, dict):
        raise read.fail("features", f"expected a mapping of features, got {shown(features)}")
    tasks = info.get("total_tasks")
    return Dataset(
        name=name,
        root=root,
        codebase_version=version,
        frames=frames,
        episodes=episodes,
        fps=float(fps),
        cameras=tuple(_camera(read, key, feature) for key, feature in features.items() if _is_camera(feature)),
        tasks=tasks if isinstance(tasks, int) and tasks >= 0 else None,
        size_bytes=size_bytes,
        revision=revision,
        lengths=lengths,
        lengths_unread=lengths_unread,
    )


def frames_of(dataset: Dataset, episodes: tuple[int, ...]) -> tuple[int, bool]:
    """(frames, exact) of the chosen episodes, as `--dataset.episodes=[…]` trains them; an episode counts once.

    Where the episodes' lengths were not read the mean length stands in, and `exact` is False.
    """
    chosen = sorted(set(episodes))
    wrong = [index for index in chosen if not 0 <= index < dataset.episodes]
    if wrong or not chosen:
        what = f"has no episode {wrong[0]}" if wrong else "cannot train on no episode at all"
        raise UsageError("dataset", f"{dataset.where} {what}: --dataset.episodes takes 0 to {dataset.episodes - 1}")
    if len(chosen) == dataset.episodes:
        return dataset.frames, True
    lengths = dataset.lengths
    if lengths is None:
        return max(1, round(dataset.frames * len(chosen) / dataset.episodes)), False
    missing = [index for index in chosen if index >= len(lengths) or not lengths[index]]
    if missing:
        raise broken(dataset.where, f"episode {missing[0]}", "is missing in the list of its episodes")
    return sum(lengths[index] for index in chosen), True


# ------------------------------------------------------------------------------------------ lengths of episodes


def lengths_of_lines(text: str, where: str) -> tuple[int, ...]:
    """Frames of each episode, from the text of a v2 `meta/episodes.jsonl`."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append((row["episode_index"], row["length"]))
            _check(rows[-1])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise broken(where, f"line {number}", "expected an object with episode_index and a length above 0") from None
    return _by_index(rows)


def can_read_parquet() -> bool:
    """Whether pyarrow, which is not required, is installed."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def lengths_of_parquet(files: Iterable[Any], where: str) -> tuple[int, ...]:
    """Frames of each episode, from the files below a v3 `meta/episodes`: paths, or binary streams. Needs pyarrow."""
    import pyarrow
    from pyarrow import parquet

    rows: list[tuple[Any, Any]] = []
    try:
        for file in files:
            columns = parquet.read_table(file, columns=["episode_index", "length"]).to_pydict()
            rows += zip(columns["episode_index"], columns["length"], strict=True)
        for row in rows:
            _check(row)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError):
        raise broken(where, "file", "expected parquet with columns episode_index and length") from None
    return _by_index(rows)


def _check(row: tuple[Any, Any]) -> None:
    """ValueError for what is no (index, length)."""
    index, length = row
    if type(index) is not int or type(length) is not int or not 0 <= index < MAX_EPISODES or not 0 < length <= MAX_FRAMES:
        raise ValueError


def _by_index(rows: list[tuple[int, int]]) -> tuple[int, ...]:
    found = dict(rows)
    return tuple(found.get(index, 0) for index in range(max(found, default=-1) + 1))


# ------------------------------------------------------------------------------------------ fields


class _Info:
    """The mapping of one info.json, with errors that name file and field."""

    def __init__(self, where: str, data: dict[str, Any]) -> None:
        self.where, self.data = where, data

    def fail(self, field: str, expected: str) -> UsageError:
        return broken(self.where, field, expected)

    def get(self, field: str) -> Any:
        if field not in self.data:
            raise self.fail(field, "is missing")
        return self.data[field]

    def count(self, field: str, most: int) -> int:
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.fail(field, f"expected a whole number from 1 to {most}, got {shown(value)}")
        return value


def _is_camera(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("dtype") in ("video", "image")


def _camera(info: _Info, name: str, feature: dict[str, Any]) -> Camera:
    shape: Any = feature.get("shape")
    field = f"features.{name}.shape"
    sizes = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 1 <= n <= MAX_SIDE for n in shape)
    if not sizes:
        raise info.fail(field, f"expected three sizes in pixels, such as [480, 640, 3], got {shown(shape)}")
    channel = _channel_axis(shape, feature.get("names"))
    if channel is None:
        raise info.fail(field, f"none of {shown(shape)} is a number of channels (1, 3 or 4)")
    height, width = (n for axis, n in enumerate(shape) if axis != channel)
    if feature["dtype"] == "image":
        return Camera(width, height, "png", name)  # LeRobot stores image features as PNG bytes
    video: dict[str, Any] = {}
    for key in ("video_info", "info"):  # v2 writes the former, newer formats the latter
        if isinstance(feature.get(key), dict):
            video |= feature[key]
    codec = video.get("video.codec")
    return Camera(width, height, codec.lower() if isinstance(codec, str) and codec else None, name)


def _channel_axis(shape: list[int], names: Any) -> int | None:
    """0 for [C, H, W], 2 for [H, W, C]: as `names` say, and by the size where they are absent or cannot be true."""
    if isinstance(names, list) and len(names) == 3:
        for axis in (2, 0):
            if str(names[axis]).lower().startswith("c") and shape[axis] in _CHANNELS:
                return axis
    return next((axis for axis in (2, 0) if shape[axis] in _CHANNELS), None)


def broken(where: str, field: str, expected: str) -> UsageError:
    return UsageError("dataset", f"{where}: {field}: {expected}{WAY_OUT}")


def shown(value: object) -> str:
    """A value for an error line: quoted, on one line, not endless."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number with over 30 digits"
    return text if len(text) <= 80 else text[:77] + "..."
