"""A local LeRobotDataset's facts, and one clear line for every way its files can be wrong."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from planner.datasets import HubName, locate, named, read_local
from planner.errors import UsageError
from planner.metadata import Dataset, frames_of
from planner.pasted import Pasted
from planner.workload import Camera


def video(height: int = 480, width: int = 640, **more: Any) -> dict[str, Any]:
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {"video.height": height, "video.width": width, "video.codec": "av1", "video.fps": 30.0},
    } | more


def info(**more: Any) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": "so101",
        "total_episodes": 50,
        "total_frames": 15_000,
        "total_tasks": 2,
        "fps": 30,
        "splits": {"train": "0:50"},
        "features": {
            "action": {"dtype": "float32", "shape": [6], "names": {"motors": ["a"] * 6}},
            "observation.state": {"dtype": "float32", "shape": [6], "names": None},
            "observation.images.front": video(),
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        },
    } | more


def write(folder: Path, content: Any) -> Path:
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "meta" / "info.json").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, **more: Any) -> Dataset:
    return read_local(write(folder, info(**more)))


def locate_folder(text: str) -> Path:
    found = locate(text)
    assert isinstance(found, Path)
    return found


def test_reads_v3(tmp_path: Path) -> None:
    root = write(tmp_path / "pick", info())
    dataset = read_local(root)
    assert (dataset.name, dataset.root, dataset.codebase_version) == ("pick", root, "v3.0")
    assert (dataset.frames, dataset.episodes, dataset.fps, dataset.tasks) == (15_000, 50, 30.0, 2)
    assert dataset.cameras == (Camera(640, 480, "av1", "observation.images.front"),)
    assert dataset.size_bytes == (root / "meta" / "info.json").stat().st_size
    assert dataset.warnings("0.6.1") == ()


def test_name_in_lerobots_own_cache_is_the_hub_id(tmp_path: Path) -> None:
    assert read(tmp_path / "lerobot" / "me" / "pick").name == "me/pick"


def test_cameras_of_every_kind(tmp_path: Path) -> None:
    names = ["channels", "height", "width"]
    old = {"dtype": "video", "shape": [3, 240, 320], "names": names, "video_info": {"video.codec": "h264"}}
    features = {
        "observation.images.top": video(720, 1280),
        "observation.images.old": old,
        "observation.images.unnamed": {"dtype": "image", "shape": [96, 64, 3]},
        "observation.images.unnamed_old": {"dtype": "image", "shape": [3, 96, 64], "names": None},
        "observation.images.named_wrongly": video(shape=[3, 480, 640]),
        "observation.images.grey": video(names=["height", "width", "channel"], shape=[480, 640, 1]),
        "observation.images.no_codec": video(info={"video.codec": None}),
    }
    cameras = read(tmp_path, features=features).cameras
    assert [camera.key for camera in cameras] == list(features)
    assert tuple(camera._replace(key=None) for camera in cameras) == (
        Camera(1280, 720, "av1"),
        Camera(320, 240, "h264"),
        Camera(64, 96, "png"),
        Camera(64, 96, "png"),
        Camera(640, 480, "av1"),
        Camera(640, 480, "av1"),
        Camera(640, 480, None),
    )


def test_no_cameras_is_a_dataset_of_states(tmp_path: Path) -> None:
    assert read(tmp_path, features={"action": {"dtype": "float32", "shape": [6]}}).cameras == ()


@pytest.mark.parametrize(
    ("release", "module", "root"),
    [
        ("0.4.4", "lerobot.datasets.v30.convert_dataset_v21_to_v30", "."),
        ("0.6.1", "lerobot.scripts.convert_dataset_v21_to_v30", "my pick"),
    ],
)
def test_v21_is_read_and_the_conversion_named(tmp_path: Path, release: str, module: str, root: str) -> None:
    dataset = read(tmp_path / "my pick", codebase_version="v2.1")
    ((code, text),) = dataset.warnings(release)
    command = shlex.split(text.split("in place: ")[1])
    assert code == "dataset-version" and f"LeRobot {release} refuses" in text
    assert command == ["python", "-m", module, "--repo-id=my pick", f"--root={tmp_path / root}", "--push-to-hub=false"]


def test_v20_needs_a_step_more(tmp_path: Path) -> None:
    assert "to v2.1 with LeRobot 0.3, then" in read(tmp_path, codebase_version="v2.0").warnings("0.6.1")[0][1]


WRONG = {
    "version missing": ({"codebase_version": None}, "codebase_version"),
    "version of before": ({"codebase_version": "v1.6"}, "codebase_version"),
    "version as number": ({"codebase_version": 3.0}, "codebase_version"),
    "no frames": ({"total_frames": 0}, "total_frames"),
    "negative frames": ({"total_frames": -5}, "total_frames"),
    "fractional frames": ({"total_frames": 1.5}, "total_frames"),
    "absurd frames": ({"total_frames": 10**12}, "total_frames"),
    "frames of a word": ({"total_frames": "many"}, "total_frames"),
    "true frames": ({"total_frames": True}, "total_frames"),
    "fewer frames than episodes": ({"total_frames": 49}, "total_frames"),
    "absurd episodes": ({"total_frames": 10**10, "total_episodes": 10**9}, "total_episodes"),
    "no episodes": ({"total_episodes": 0}, "total_episodes"),
    "fps 0": ({"fps": 0}, "fps"),
    "fps NaN": ({"fps": float("nan")}, "fps"),
    "fps infinite": ({"fps": float("inf")}, "fps"),
    "fps of a word": ({"fps": "30"}, "fps"),
    "features a list": ({"features": []}, "features"),
    "shape missing": ({"features": {"cam": {"dtype": "video"}}}, "features.cam.shape"),
    "shape of two": ({"features": {"cam": video(shape=[480, 640])}}, "features.cam.shape"),
    "shape negative": ({"features": {"cam": video(shape=[-480, 640, 3])}}, "features.cam.shape"),
    "shape absurd": ({"features": {"cam": video(shape=[480, 10**6, 3])}}, "features.cam.shape"),
    "shape without channels": ({"features": {"cam": video(shape=[480, 640, 5])}}, "features.cam.shape"),
}


@pytest.mark.parametrize(("wrong", "field"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_field_is_one_line_that_names_file_and_field(tmp_path: Path, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, **wrong)
    text = caught.value.text
    assert str(tmp_path / "meta" / "info.json") in text and f" {field}: " in text and "--frames" in text
    assert len(text.splitlines()) == 1 and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 200_000, '{"total_frames": ' + "9" * 5000 + "}", "\x00"],
    ids=lambda text: text[:8] or "empty",
)
def test_a_file_that_is_no_info_is_one_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError, match="info.json") as caught:
        read_local(write(tmp_path, content))
    assert len(caught.value.text.splitlines()) == 1 and len(caught.value.text) < 400


def test_not_utf8(tmp_path: Path) -> None:
    write(tmp_path, info())
    (tmp_path / "meta" / "info.json").write_bytes(b'{"fps": "\xff"}')
    with pytest.raises(UsageError, match="not valid JSON"):
        read_local(tmp_path)


@pytest.mark.parametrize("field", ["codebase_version", "total_frames", "total_episodes", "fps", "features"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    content = info()
    del content[field]
    with pytest.raises(UsageError, match=f"{field}: is missing"):
        read_local(write(tmp_path, content))


def test_a_folder_without_meta(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the folder that contains meta/"):
        read_local(locate_folder(str(tmp_path)))


class TestFind:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("text", ["lerobot/pusht", "me/pick-and_place.v2"])
    def test_a_hub_id(self, text: str) -> None:
        assert locate(text) == HubName(text)

    @pytest.mark.parametrize("revision", ["v3.0", "main", "refs/pr/1", "3f" * 20])
    def test_a_hub_id_with_its_revision(self, revision: str) -> None:
        assert locate(f"me/pick@{revision}") == HubName("me/pick", revision)

    @pytest.mark.parametrize(
        ("text", "tail", "expected"),
        [
            (None, (), None),
            (None, ("--dataset.repo_id=me/pick",), HubName("me/pick")),
            (None, ("--dataset.repo_id=me/pick", "--dataset.revision=v2.1"), HubName("me/pick", "v2.1")),
            ("me/pick", ("--dataset.revision", "abc"), HubName("me/pick", "abc")),
            ("me/pick@abc", ("--dataset.revision=abc",), HubName("me/pick", "abc")),
            ("me/pick", ("--dataset.revision=null",), HubName("me/pick")),
            (None, ("--dataset.repo_id=pick",), None),
            ("me/pick", ("--dataset.root=/elsewhere",), None),  # the command reads that folder
            (None, ("--dataset.repo_id=me/bucket", "--dataset.repo_type=bucket"), None),
        ],
    )
    def test_what_flags_and_tail_mean(self, text: str | None, tail: tuple[str, ...], expected: HubName | None) -> None:
        assert named(text, Pasted(args=tail)) == expected

    def test_a_folder_in_the_tail(self, tmp_path: Path) -> None:
        assert named(None, Pasted(args=(f"--dataset.root={tmp_path}",))) == tmp_path
        assert named("me/pick", Pasted(args=(f"--dataset.root={tmp_path}",))) == tmp_path

    def test_two_revisions(self) -> None:
        with pytest.raises(UsageError, match="--dataset me/pick@a and --dataset.revision=b"):
            named("me/pick@a", Pasted(args=("--dataset.revision=b",)))

    def test_an_existing_folder_wins_over_the_hub(self, tmp_path: Path) -> None:
        write(tmp_path / "me" / "pick", info())
        assert locate("me/pick") == Path("me/pick")

    @pytest.mark.parametrize("text", ["./nowhere", "/nowhere", "~/nowhere-at-all", "a/b/c", "../nowhere"])
    def test_a_path_that_is_not_there(self, text: str) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            locate(text)

    @pytest.mark.parametrize(
        "text",
        ["", "pusht", "me/", "me/a b", "https://huggingface.co/datasets/me/x", "me/x\n", "a\0b", "me/" + "x" * 300, "me/x@", "me/x@a b"],
        ids=lambda text: text[:10] or "empty",
    )
    def test_neither_folder_nor_hub_id(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            locate(text)
        assert len(caught.value.text.splitlines()) == 1 and len(caught.value.text) < 300


class TestFramesOf:
    def lengths(self, folder: Path, lengths: list[int]) -> Dataset:
        dataset = read(folder, codebase_version="v2.1", total_episodes=len(lengths), total_frames=sum(lengths))
        lines = [json.dumps({"episode_index": index, "tasks": [], "length": length}) for index, length in enumerate(lengths)]
        (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n\n")
        assert dataset.lengths is None, "only where a part is asked for"
        return read_local(folder, part=True)

    def parquet(self, folder: Path, *files: dict[str, list[Any]], **more: Any) -> Path:
        write(folder, info(**more))
        chunk = folder / "meta" / "episodes" / "chunk-000"
        chunk.mkdir(parents=True)
        for number, columns in enumerate(files):
            parquet.write_table(pyarrow.table(columns), chunk / f"file-{number:03d}.parquet")
        return folder

    def test_v2_sums_the_lengths(self, tmp_path: Path) -> None:
        dataset = self.lengths(tmp_path, [100, 20, 3])
        assert frames_of(dataset, (0, 2)) == (103, True)
        assert frames_of(dataset, (2, 2)) == (3, True)
        assert frames_of(dataset, (2, 1, 0)) == (123, True)

    def test_v3_reads_them_from_parquet(self, tmp_path: Path) -> None:
        first = {"episode_index": [0, 1], "length": [100, 20], "stats/action/mean": [[0.0], [1.0]]}
        root = self.parquet(tmp_path, first, {"episode_index": [2], "length": [3]}, total_episodes=3, total_frames=123)
        dataset = read_local(root, part=True)
        assert (dataset.lengths, dataset.lengths_unread) == ((100, 20, 3), "")
        assert frames_of(dataset, (0, 2)) == (103, True)

    def test_without_pyarrow_v3_scales_by_the_mean_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.parquet(tmp_path, {"episode_index": [0], "length": [3]})
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        dataset = read_local(root, part=True)
        assert "pip install pyarrow" in dataset.lengths_unread
        assert frames_of(dataset, (0, 1, 2)) == (900, False)
        assert frames_of(dataset, tuple(range(50))) == (15_000, True)

    def test_v3_without_the_files(self, tmp_path: Path) -> None:
        dataset = read_local(write(tmp_path, info()), part=True)
        assert "no parquet files" in dataset.lengths_unread and frames_of(dataset, (0,)) == (300, False)

    @pytest.mark.parametrize(
        "columns",
        [{"length": [1]}, {"episode_index": [0], "length": [-1]}, {"episode_index": ["a"], "length": [1]},
         {"episode_index": [None], "length": [1]}],
    )
    def test_parquet_that_is_something_else(self, tmp_path: Path, columns: dict[str, list[Any]]) -> None:
        with pytest.raises(UsageError, match="meta/episodes: file: expected parquet"):
            read_local(self.parquet(tmp_path, columns), part=True)

    def test_parquet_that_is_none(self, tmp_path: Path) -> None:
        root = self.parquet(tmp_path, {"episode_index": [0], "length": [3]})
        (root / "meta" / "episodes" / "chunk-000" / "file-000.parquet").write_bytes(b"PAR1 but not really")
        with pytest.raises(UsageError, match="meta/episodes: file: expected parquet"):
            read_local(root, part=True)

    @pytest.mark.parametrize("episodes", [(50,), (-1,), ()])
    def test_episodes_that_do_not_exist(self, tmp_path: Path, episodes: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match="takes 0 to 49"):
            frames_of(read(tmp_path), episodes)

    @pytest.mark.parametrize("line", ["{", "[]", '{"episode_index": 0}', '{"episode_index": 0, "length": -4}', "7"])
    def test_a_broken_line_is_named(self, tmp_path: Path, line: str) -> None:
        self.lengths(tmp_path, [10, 10])
        (tmp_path / "meta" / "episodes.jsonl").write_text(line + "\n")
        with pytest.raises(UsageError, match="episodes.jsonl: line 1"):
            read_local(tmp_path, part=True)

    def test_an_episode_missing_from_the_list(self, tmp_path: Path) -> None:
        self.lengths(tmp_path, [10, 10])
        (tmp_path / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "length": 10}\n')
        with pytest.raises(UsageError, match="episode 1: is missing"):
            frames_of(read_local(tmp_path, part=True), (1,))
