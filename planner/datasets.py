"""How many frames there are, and from which cameras: a LeRobotDataset on this machine, read from `meta/info.json`.

Formats v2.0, v2.1 and v3.0 (LeRobot `datasets/utils.py`). Nothing is imported from LeRobot and nothing is
fetched: a dataset that exists only on the Hub has no facts here.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from planner.errors import UsageError
from planner.workload import Camera

MAX_FRAMES = 10**10  # the largest public collections hold about 10**9
MAX_EPISODES = 10**7
MAX_FPS = 1_000
MAX_SIDE = 16_384  # pixels; the largest picture that AV1 and HEVC levels allow
MAX_FILES = 20_000  # more than this many files are not counted: it would take longer than planning
MAX_INFO_BYTES = 16 * 2**20

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_CHANNELS = (1, 3, 4)  # grey or depth, RGB, RGBA


class Dataset(NamedTuple):
    """What a dataset's `meta/info.json` says."""

    name: str  # "owner/name" inside LeRobot's own cache, else the folder's name
    root: Path
    codebase_version: str  # v2.1, v3.0
    frames: int
    episodes: int
    fps: float
    cameras: tuple[Camera, ...]
    tasks: int | None
    bytes_on_disk: int | None  # None: too many files to count quickly

    def warnings(self, release: str) -> tuple[tuple[str, str], ...]:
        """(code, text) of what stops LeRobot `release` from reading this dataset as it is."""
        if not self.codebase_version.startswith("v2."):
            return ()
        # The converter's --root is the dataset's folder from 0.6 on, and its parent in 0.4
        # (convert_dataset_v21_to_v30.py of both releases).
        if release.startswith("0.4"):
            module, root = "lerobot.datasets.v30.convert_dataset_v21_to_v30", self.root.parent
        else:
            module, root = "lerobot.scripts.convert_dataset_v21_to_v30", self.root
        command = ["python", "-m", module, f"--repo-id={self.root.name}", f"--root={root}", "--push-to-hub=false"]
        first = "" if self.codebase_version == "v2.1" else "to v2.1 with LeRobot 0.3, then "
        text = (
            f"{self.root} is in format {self.codebase_version}, which LeRobot {release} refuses; "
            f"convert it {first}in place: {shlex.join(command)}"
        )
        return (("dataset-version", text),)


def find(text: str) -> Dataset | None:
    """The local dataset that `--dataset TEXT` names, or None for an id of the Hub.

    UsageError when it is neither, or when the folder holds no readable dataset.
    """
    if not text:
        raise UsageError("dataset", "--dataset is empty: give a folder or a Hub id such as lerobot/pusht")
    if exists(text):
        return read_local(text)
    name = f"--dataset {_shown(text)}"
    if looks_like_path(text):
        raise UsageError("dataset", f"{name}: no such folder; check the path, or give a Hub id such as lerobot/pusht")
    if not _HUB_ID.fullmatch(text):
        hint = " (without the address before it)" if "://" in text else ""
        raise UsageError("dataset", f"{name}: neither a folder here nor a Hub id; write owner/name{hint}")
    return None


def looks_like_path(text: str) -> bool:
    """Whether a text that names no folder was meant as one: it begins with . / ~, or has more than one slash."""
    return text.startswith((".", "/", "~", "\\")) or (text.count("/") > 1 and "://" not in text)


def exists(text: str) -> bool:
    """Whether a file or folder of this name is on this machine."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, no home directory
        return False


def read_local(path: str | os.PathLike[str]) -> Dataset:
    """The dataset in folder `path`. UsageError, naming file and field, when it is missing or malformed."""
    root = Path(path).expanduser().absolute()
    file = root / "meta" / "info.json"
    info = _Info(file, _load(file))

    version = info.get("codebase_version")
    if not isinstance(version, str) or not re.fullmatch(r"v[23]\.\d+", version):
        raise info.fail("codebase_version", f"expected v2.0, v2.1 or v3.0, got {_shown(version)}")
    frames, episodes = info.count("total_frames", MAX_FRAMES), info.count("total_episodes", MAX_EPISODES)
    if frames < episodes:
        raise info.fail("total_frames", f"{frames} frames cannot fill {episodes} episodes")
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= MAX_FPS:
        raise info.fail("fps", f"expected frames per second above 0 and at most {MAX_FPS}, got {_shown(fps)}")
    features = info.get("features")
    if not isinstance(features, dict):
        raise info.fail("features", f"expected a mapping of features, got {_shown(features)}")
    cameras = tuple(
        _camera(info, name, feature)
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("dtype") in ("video", "image")
    )
    tasks = info.data.get("total_tasks")
    cached = root.parent.parent.name == "lerobot" and _HUB_ID.fullmatch(f"{root.parent.name}/{root.name}")
    return Dataset(
        name=f"{root.parent.name}/{root.name}" if cached else root.name,
        root=root,
        codebase_version=version,
        frames=frames,
        episodes=episodes,
        fps=float(fps),
        cameras=cameras,
        tasks=tasks if isinstance(tasks, int) and tasks >= 0 else None,
        bytes_on_disk=_bytes_on_disk(root),
    )


def frames_of(dataset: Dataset, episodes: tuple[int, ...]) -> tuple[int, bool]:
    """(frames, exact) of the chosen episodes, as `--dataset.episodes=[…]` trains them; an episode counts once.

    v2 datasets list every episode's length in `meta/episodes.jsonl`. v3 keeps them in parquet, which this
    program does not read: there the mean length stands in, and `exact` is False.
    """
    chosen = sorted(set(episodes))
    wrong = [index for index in chosen if not 0 <= index < dataset.episodes]
    if wrong or not chosen:
        what = f"has no episode {wrong[0]}" if wrong else "cannot train on no episode at all"
        raise UsageError("dataset", f"{dataset.root} {what}: --dataset.episodes takes 0 to {dataset.episodes - 1}")
    if len(chosen) == dataset.episodes:
        return dataset.frames, True
    file = dataset.root / "meta" / "episodes.jsonl"
    if dataset.codebase_version.startswith("v2.") and file.is_file():
        lengths = _lengths(file)
        missing = [index for index in chosen if index not in lengths]
        if missing:
            raise _broken(file, f"episode {missing[0]}", "is missing")
        return sum(lengths[index] for index in chosen), True
    return max(1, round(dataset.frames * len(chosen) / dataset.episodes)), False


class _Info:
    """The mapping of one info.json, with errors that name file and field."""

    def __init__(self, file: Path, data: dict[str, Any]) -> None:
        self.file, self.data = file, data

    def fail(self, field: str, expected: str) -> UsageError:
        return _broken(self.file, field, expected)

    def get(self, field: str) -> Any:
        if field not in self.data:
            raise self.fail(field, "is missing")
        return self.data[field]

    def count(self, field: str, most: int) -> int:
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.fail(field, f"expected a whole number from 1 to {most}, got {_shown(value)}")
        return value


def _camera(info: _Info, name: str, feature: dict[str, Any]) -> Camera:
    shape: Any = feature.get("shape")
    field = f"features.{name}.shape"
    sizes = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 1 <= n <= MAX_SIDE for n in shape)
    if not sizes:
        raise info.fail(field, f"expected three sizes in pixels, such as [480, 640, 3], got {_shown(shape)}")
    channel = _channel_axis(shape, feature.get("names"))
    if channel is None:
        raise info.fail(field, f"none of {_shown(shape)} is a number of channels (1, 3 or 4)")
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


def _load(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            raise UsageError("dataset", f"{file}: no such file; --dataset takes the folder that contains meta/, or a Hub id")
        if file.stat().st_size > MAX_INFO_BYTES:
            raise _broken(file, "file", "larger than 16 MiB, which no dataset's info is")
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("dataset", f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise _broken(file, "file", f"not valid JSON ({reason})") from None
    if not isinstance(data, dict):
        raise _broken(file, "file", f"expected a JSON object, got {_shown(data)}")
    return data


def _lengths(file: Path) -> dict[int, int]:
    """Episode index -> frames, from a v2 `episodes.jsonl`."""
    lengths: dict[int, int] = {}
    number = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                index, length = row["episode_index"], row["length"]
                if type(index) is not int or type(length) is not int or not 0 < length <= MAX_FRAMES:
                    raise ValueError
                lengths[index] = length
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _broken(file, f"line {number}", "expected an object with episode_index and a length above 0") from None
    except OSError as error:
        raise UsageError("dataset", f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    return lengths


def _bytes_on_disk(root: Path) -> int | None:
    """Size of all files, or None when there are too many to look at."""
    total = files = 0
    for folder, _, names in os.walk(root):
        files += len(names)
        if files > MAX_FILES:
            return None
        for name in names:
            with suppress(OSError):  # a dangling link of a partly downloaded dataset
                total += Path(folder, name).stat().st_size
    return total


def _broken(file: Path, field: str, expected: str) -> UsageError:
    way_out = "repair the file, or leave --dataset out and give --frames"
    return UsageError("dataset", f"{file}: {field}: {expected}; {way_out}")


def _shown(value: object) -> str:
    """A value for an error line: quoted, on one line, not endless."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number with over 30 digits"
    return text if len(text) <= 80 else text[:77] + "..."
