"""Results from the Hub and data sets to it. What Xet carries cannot be received here: the server asks for plain uploads and downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import PlanError, Unreachable, UsageError
from planner.targets import _hf_files, hf
from tests.targets.conftest import MODEL, HfPlace

FILES = {
    ".gitattributes": b"x", "config.json": b"{}", "model.safetensors": bytes(range(256)) * 40,
    "checkpoints/000010/pretrained_model/model.safetensors": b"m" * 5000, "checkpoints/000010/training_state/training_step.json": b"10",
}  # fmt: skip


@pytest.fixture
def handle(hf_place: HfPlace) -> dict[str, str]:
    hf_place.hub.repos[f"models/{MODEL}"] = {"private": True, "tags": [], "files": dict(FILES)}
    return hf.submit(hf_place.job("run-1"))


def fetched(place: HfPlace, handle: dict[str, str], to: Path) -> tuple[list[str], list[str]]:
    said: list[str] = []
    paths = hf.fetch(handle, place.job("run-1"), to, said.append)
    return [str(path.relative_to(to)) for path in paths], said


def test_results(hf_place: HfPlace, handle: dict[str, str], tmp_path: Path) -> None:
    to = tmp_path / "results"
    names, said = fetched(hf_place, handle, to)
    assert names == [name for name in FILES if name != ".gitattributes"]
    assert {name: (to / name).read_bytes() for name in names} == {name: FILES[name] for name in names}
    assert said[1] == "model.safetensors (10,240 bytes)"
    before = len(hf_place.hub.received)
    assert fetched(hf_place, handle, to) == (names, said)
    assert [where for _, where, _ in hf_place.hub.received[before:]] == [f"/api/models/{MODEL}?blobs=true"], "nothing is copied again"


def test_a_changed_file_is_copied_again(hf_place: HfPlace, handle: dict[str, str], tmp_path: Path) -> None:
    fetched(hf_place, handle, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    fetched(hf_place, handle, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_transfer_that_is_cut_goes_on(hf_place: HfPlace, handle: dict[str, str], tmp_path: Path) -> None:
    large = bytes(range(256)) * 100_000  # the client keeps whole chunks of 10 MB
    hf_place.hub.repos[f"models/{MODEL}"]["files"] = {"model.safetensors": large}
    hf_place.hub.fail("file", "cut", 1)
    fetched(hf_place, handle, tmp_path / "once")
    assert (tmp_path / "once" / "model.safetensors").read_bytes() == large and hf_place.hub.resumed == [10_485_760]


def test_a_fetch_that_failed_is_repeated(hf_place: HfPlace, handle: dict[str, str], tmp_path: Path) -> None:
    hf_place.hub.fail("file", "none", 2)  # the first two files arrive
    hf_place.hub.fail("file", "503")
    with pytest.raises(Unreachable, match="503"):
        fetched(hf_place, handle, tmp_path)
    hf_place.heal()
    before = len(hf_place.hub.received)
    fetched(hf_place, handle, tmp_path)
    again = [where.split("/", 5)[-1] for how, where, _ in hf_place.hub.received[before:] if how == "GET" and "/resolve/" in where]
    assert again == [name for name in FILES if name.startswith("checkpoints/")], "what has arrived is not sent again"


def test_wrong_sizes_and_names(hf_place: HfPlace, handle: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.servers.hf_routes as routes

    real = routes._info
    for change, code in (({"size": 7}, "incomplete"), ({"rfilename": "../outside"}, "garbage")):
        def wrong(hub: Any, ask: Any, change: Any = change) -> Any:
            said = real(hub, ask)
            said["siblings"] = [one | change for one in said["siblings"] if one["rfilename"] == "config.json"]
            return said

        swapped = [route[:3] + (wrong,) if route[2] == "repo" else route for route in routes.ROUTES]
        with monkeypatch.context() as patch, pytest.raises(Unreachable) as error:
            patch.setattr("tests.servers.hf_jobs.ROUTES", swapped)
            fetched(hf_place, handle, tmp_path / "to")
        assert error.value.code == code
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("fault", ["401", "403", "429", "500", "dropped-before", "hangs-before", "html-before", "cut"])
@pytest.mark.parametrize("route", ["repo", "head", "file"])
def test_faults_of_fetching(hf_place: HfPlace, handle: dict[str, str], route: str, fault: str, tmp_path: Path) -> None:
    if fault == "cut" and route != "file":
        fault = "500"
    hf_place.hub.fail(route, fault)
    with pytest.raises(PlanError) as error:
        fetched(hf_place, handle, tmp_path)
    assert "\n" not in error.value.text and error.value.exit_code in (6, 7)


def test_nothing_was_pushed(hf_place: HfPlace, tmp_path: Path) -> None:
    handle = hf.submit(hf_place.job("run-1"))
    with pytest.raises(Unreachable, match="pushed nothing yet.*plan logs"):
        fetched(hf_place, handle, tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    files = {"meta/info.json": json.dumps({"codebase_version": "v3.0"}).encode(), "data/chunk-000/file-000.parquet": b"PAR1" * 9,
             "videos/top/file-000.mp4": bytes(300), "images/raw.png": b"not wanted", ".cache/x": b"not wanted"}  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_a_dataset_goes_to_a_private_repository(hf_place: HfPlace, local: Path) -> None:
    assert _hf_files.push_dataset(local, "pull") == "me/pull"
    repo = hf_place.hub.repos["datasets/me/pull"]
    assert repo["private"] and repo["tags"] == ["v3.0"]
    wanted = ("meta/info.json", "data/chunk-000/file-000.parquet", "videos/top/file-000.mp4")
    assert repo["files"] == {name: (local / name).read_bytes() for name in wanted}
    job = hf_place.job("run-1")._replace(trainer=("--dataset.repo_id=me/pull",))
    assert next(check for check in hf.preflight(job) if check.name == "dataset").ok
    with pytest.raises(UsageError, match="on the Hub already"):
        _hf_files.push_dataset(local, "me/pull")


def test_an_upload_that_was_cut_is_continued(hf_place: HfPlace, local: Path) -> None:
    hf_place.hub.fail("commit", "500")
    with pytest.raises(PlanError):
        _hf_files.push_dataset(local, "my-lab/pull")
    assert hf_place.hub.repos["datasets/my-lab/pull"]["tags"] == [], "incomplete: not what LeRobot would read"
    hf_place.heal()
    _hf_files.push_dataset(local, "my-lab/pull")
    assert hf_place.hub.repos["datasets/my-lab/pull"]["tags"] == ["v3.0"]


def test_what_is_not_pushed(hf_place: HfPlace, local: Path) -> None:
    hf_place.hub.repos["datasets/me/open"] = {"private": False, "tags": [], "files": {}}
    with pytest.raises(UsageError, match="public"):
        _hf_files.push_dataset(local, "me/open")
    with pytest.raises(PlanError, match="403"):
        _hf_files.push_dataset(local, "strangers/pull")
    (local / "meta" / "info.json").write_text("{}")
    with pytest.raises(UsageError, match="no LeRobotDataset"):
        _hf_files.push_dataset(local, "me/pull")
    assert set(hf_place.hub.repos) == {"datasets/me/pick", "datasets/me/open"}
