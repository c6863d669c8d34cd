"""From what was said to what is trained: gaps filled and listed, contradictions named."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.catalogue import load
from planner.errors import UsageError
from planner.metadata import Dataset
from planner.records import Catalogue
from planner.request import Workload
from planner.resolve import parse_cameras, resolve
from planner.workload import Camera, Training


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(user=Path("/nonexistent"))


def said(catalogue: Catalogue, *tail: str, **fields: object) -> Training:
    values = {"policy": "act", "episodes": 50} | fields
    return resolve(Workload(tail=tail, **values), catalogue)  # type: ignore[arg-type]


def test_every_gap_is_an_assumption_with_its_flag(catalogue: Catalogue) -> None:
    training = said(catalogue, policy="smolvla")
    flags = {assumption.flag: assumption.value for assumption in training.assumptions}
    assert flags == {
        "--lerobot-version": "0.6.1", "--cameras": "2 × 640×480", "--batch-size": "64", "--episode-seconds": "30 s",
        "--fps": "30 fps", "--epochs": "5", "-- --num_workers": "4", "--dataset": "av1",
    }
    assert (training.frames, training.steps(1)) == (45_000, 3_520)
    full = said(catalogue, "--num_workers=8", policy="smolvla", lerobot_version="0.6.1", cameras=("640x480",), batch_size=8,
                fps=10.0, epochs=1.0, episode_seconds=20.0)
    assert [assumption.name for assumption in full.assumptions] == ["video codec"], "only a dataset knows it"


@pytest.mark.parametrize(
    ("frames", "batch", "gpus", "epochs", "steps"),
    [(45_000, 64, 1, 5.0, 3_520), (45_000, 64, 4, 5.0, 880), (1, 64, 8, 5.0, 5), (45_001, 8, 1, 1.0, 5_626), (100, 8, 1, 0.5, 7)],
)
def test_steps(catalogue: Catalogue, frames: int, batch: int, gpus: int, epochs: float, steps: int) -> None:
    training = said(catalogue, episodes=None, frames=frames, batch_size=batch, epochs=epochs)
    assert training.steps(gpus) == steps


def test_accumulation_divides_updates_not_steps(catalogue: Catalogue) -> None:
    training = said(catalogue, "--accelerator.gradient_accumulation.steps=4", lerobot_version="main", steps=1000)
    assert (training.steps(1), training.updates(1)) == (1000, 250)


@pytest.mark.parametrize(
    ("policy", "tail", "expected"),
    [
        ("pi05", (), ("float32", False, "all", False)),
        ("pi05", ("--policy.dtype=bfloat16",), ("bfloat16", False, "all", True)),
        ("pi05", ("--policy.dtype", "bfloat16", "--policy.gradient_checkpointing=true"), ("bfloat16", True, "all", True)),
        ("pi0", ("--policy.train_expert_only=true",), ("float32", False, "expert", False)),
        ("pi0", ("--peft.method_type=LORA",), ("float32", False, "lora", False)),
        ("smolvla", (), ("bfloat16", False, "expert", False)),
        ("smolvla", ("--policy.train_expert_only=false", "--policy.freeze_vision_encoder=false"), ("bfloat16", False, "all", False)),
        ("smolvla", ("--policy.train_expert_only=false",), ("bfloat16", False, "vlm+expert", False)),
        ("smolvla", ("--policy.type=smolvla",), ("float32", False, "expert", False)),
        ("act", (), ("float32", False, "all", False)),
    ],
)
def test_variant(catalogue: Catalogue, policy: str, tail: tuple[str, ...], expected: tuple[object, ...]) -> None:
    variant = said(catalogue, *tail, policy=policy).variant
    assert (variant.dtype, variant.gradient_checkpointing, variant.trained, variant.autocast) == expected


def test_mixed_precision_comes_from_elsewhere_in_each_release(catalogue: Catalogue) -> None:
    bf16 = "--policy.dtype=bfloat16"
    assert not said(catalogue, bf16, policy="pi05", lerobot_version="0.4.4").variant.autocast
    assert said(catalogue, bf16, policy="pi05", lerobot_version="0.6.1").variant.autocast
    assert not said(catalogue, bf16, policy="pi05", lerobot_version="main").variant.autocast
    assert said(catalogue, "--accelerator.mixed_precision=bf16", policy="act", lerobot_version="main").variant.autocast


def test_pasted_command_is_planned_as_given(catalogue: Catalogue) -> None:
    training = resolve(Workload(tail=("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=50000")), catalogue)
    assert (training.policy.id, training.batch_size, training.steps(1), training.dataset) == ("act", 8, 50_000, "me/pick")
    assert training.pasted and training.frames is None
    silent = resolve(Workload(tail=("lerobot-train", "--policy.path=lerobot/smolvla_base", "--dataset.repo_id=me/pick")), catalogue)
    assert (silent.policy.id, silent.batch_size, silent.steps(1)) == ("smolvla", 8, 100_000), "lerobot-train's own defaults"


@pytest.mark.parametrize(
    ("fields", "tail", "expected"),
    [
        ({"policy": "smolvlaa"}, (), "did you mean smolvla"),
        ({"policy": None}, (), "which policy"),
        ({"policy": "sac", "lerobot_version": "0.6.1"}, (), "it is in 0.4.4"),
        ({"lerobot_version": "0.3"}, (), "0.6.1, 0.4.4, main"),
        ({"policy": "act"}, ("--policy.type=pi0",), "--policy act and --policy.type=pi0"),
        ({"policy": "act"}, ("--policy.path=lerobot/smolvla_base",), "that is a smolvla"),
        ({"policy": None}, ("--policy.path=me/mine",), "add --policy TYPE"),
        ({"batch_size": 8}, ("--batch_size=16",), "--batch-size 8 and --batch_size=16"),
        ({"steps": 10}, ("--steps=20",), "--steps 10 and --steps=20"),
        ({"steps": 10, "epochs": 2.0}, (), "--steps and --epochs"),
        ({"batch_size": 0}, (), "--batch-size 0"),
        ({"steps": -1}, (), "--steps -1"),
        ({"steps": True}, (), "--steps True"),
        ({"episodes": 10**9}, (), "from 1 to"),
        ({"episodes": None}, (), "how much data"),
        ({"fps": 0}, (), "--fps 0"),
        ({"epochs": float("nan")}, (), "--epochs nan"),
        ({"cameras": ("3x1x1",)}, (), "16 to 8192"),
        ({"cameras": ("two",)}, (), "COUNTxWIDTHxHEIGHT"),
        ({"policy": "vqbet", "cameras": ("2x640x480",)}, (), "at most 1 camera"),
        ({}, ("--accelerator.gradient_accumulation.steps=2",), "only main has it"),
        ({}, ("--batch_size=1e3",), "--batch_size=1e3"),
        ({}, ("--wandb.enable", "--peft.r"), "needs a value"),
        ({"frames": 10, "episode_seconds": 3.0}, (), "--frames and --episode-seconds"),
        ({"policy": "pi05"}, ("--policy.dtype=float16",), "float32 or bfloat16"),
        ({"policy": None}, ("--config_path=me/run", "--resume=true"), "train_config.json"),
        ({"policy": "act", "lerobot_version": "latest"}, (), "expected one of 0.6.1, 0.4.4, main"),
    ],
)
def test_bad_requests_are_one_line(catalogue: Catalogue, fields: dict[str, object], tail: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        said(catalogue, *tail, **fields)
    assert expected in caught.value.text and "\n" not in caught.value.text


def test_cameras() -> None:
    assert parse_cameras("2x640x480") == (Camera(640, 480),) * 2
    assert parse_cameras("640x480") == (Camera(640, 480),)
    assert parse_cameras("0") == ()


DATASET = Dataset(
    name="pick", root=Path("/data/pick"), codebase_version="v3.0", frames=1000, episodes=20, fps=30.0,
    cameras=(Camera(640, 480, "av1"), Camera(1280, 720, "av1")), tasks=1, size_bytes=10**8,
)


def test_local_dataset_decides_frames_and_cameras(catalogue: Catalogue) -> None:
    training = resolve(Workload(policy="act", dataset="/data/pick"), catalogue, DATASET)
    assert (training.frames, training.episodes, training.fps, training.cameras) == (1000, 20, 30.0, DATASET.cameras)
    assert {assumption.flag for assumption in training.assumptions} == {
        "--lerobot-version", "--batch-size", "--epochs", "-- --num_workers"}


def test_subset_of_a_local_dataset_is_trained_as_planned(catalogue: Catalogue) -> None:
    training = resolve(Workload(policy="act", dataset="/data/pick", episodes=5), catalogue, DATASET)
    assert (training.episodes, training.frames, training.dataset_episodes) == (5, 250, (0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"frames": 999}, "leave --frames out"),
        ({"cameras": ("640x480",)}, "leave --cameras out"),
        ({"fps": 10.0}, "leave --fps out"),
        ({"episodes": 21}, "has 20"),
        ({"policy": "vqbet"}, "at most 1 camera"),
        ({"policy": "diffusion"}, "cameras of one size"),
    ],
)
def test_what_a_local_dataset_contradicts(catalogue: Catalogue, fields: dict[str, object], expected: str) -> None:
    values = {"policy": "act", "dataset": "/data/pick"} | fields
    with pytest.raises(UsageError, match=expected):
        resolve(Workload(**values), catalogue, DATASET)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "release", "tail", "chunk"),
    [
        ("act", "0.6.1", (), 0),
        ("act", "0.6.1", ("--policy.chunk_size=100",), 0),
        ("act", "0.6.1", ("--policy.chunk_size=200",), 200),
        ("act", "0.6.1", ("--policy.chunk_size=20", "--policy.n_action_steps=20"), 20),
        ("act", "0.6.1", ("--policy.path=me/act_20", "--policy.chunk_size=20"), 20),
        ("smolvla", "0.6.1", ("--policy.chunk_size=10",), 10),  # the base says how many are executed
        ("diffusion", "0.6.1", ("--policy.horizon=32",), 32),
        ("diffusion", "0.4.4", (), 16),  # that release's own
        ("vqbet", "0.6.1", ("--policy.action_chunk_size=8",), 8),
        ("sac", "0.4.4", (), 0),
    ],
)
def test_chunk(catalogue: Catalogue, policy: str, release: str, tail: tuple[str, ...], chunk: int) -> None:
    assert said(catalogue, *tail, policy=policy, lerobot_version=release).variant.chunk == chunk


@pytest.mark.parametrize("tail", [("--policy.chunk_size=50",), ("--policy.chunk_size=50", "--policy.n_action_steps=51")])
def test_a_chunk_that_lerobot_refuses_is_named(catalogue: Catalogue, tail: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"--policy\.chunk_size=50: .* add --policy\.n_action_steps=50"):
        said(catalogue, *tail)
