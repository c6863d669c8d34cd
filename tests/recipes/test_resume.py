"""The command that continues a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.job import Job, Output
from planner.recipes.lerobot import job as make
from planner.recipes.resume import resumed, steps_left
from tests.factories import estimate, offer, said, workload


def stopped(target: str, output: Output, name: str = "smolvla", num_gpus: int = 1, **fields: object) -> Job:
    return make(estimate(offer(target, num_gpus=num_gpus)), workload(name, **fields), target=target, output=output, name="r")


def test_from_the_hub() -> None:
    job = stopped("hf", Output("hub", "me/out"), num_gpus=2)
    again = resumed(job)
    assert again.trainer == ("--config_path=me/out", "--resume=true", "--job.target=local")
    head = job.argv[: len(job.argv) - len(job.trainer)]
    assert "--num_processes=2" in head and again.argv == (*head, *again.trainer)
    assert again._replace(argv=job.argv, trainer=job.trainer) == job
    assert any(token.startswith("--policy.path=") for token in job.trainer), "which would begin from the base again"


def test_here() -> None:
    output = Output("folder", "outputs/train/r")
    config = "--config_path=outputs/train/r/checkpoints/last/pretrained_model/train_config.json"
    head = (config, "--resume=true", "--output_dir=outputs/train/r")
    assert resumed(stopped("local", output)).trainer[:4] == (*head, "--job.target=local")
    old = resumed(stopped("local", output, lerobot="0.4.4"))
    assert old.trainer[:3] == head and not any(token.startswith("--job.") for token in old.trainer)


def test_from_a_checkpoint_into_the_same_output() -> None:
    first = stopped("local", Output("folder", "out/it's"), dataset_root="/data/pick")
    output = "/data/out/it's: a run"
    rest = resumed(first, Path(output, "checkpoints", "005000"))
    config = f"{output}/checkpoints/005000/pretrained_model/train_config.json"
    assert rest.argv[:3] == ("lerobot-train", f"--config_path={config}", "--resume=true"), "LeRobot takes --config_path as it stands"
    assert said(rest.argv, "output_dir") == output == rest.output.where
    assert not any(token.startswith(("--policy.path", "--policy.type", "--policy.pretrained_path")) for token in rest.argv)
    for name in ("steps", "batch_size", "dataset.repo_id", "dataset.root", "save_freq", "policy.push_to_hub"):
        assert said(rest.argv, name) == said(first.argv, name)
    assert rest.argv[1:] == rest.trainer
    assert steps_left(first, Path("/data/out/checkpoints/005000")) == 15_000
    again = resumed(rest, Path(output, "checkpoints", "010000"))
    assert sum(token.startswith(("--resume", "--config_path", "--output_dir", "--job.")) for token in again.argv) == 4
    assert steps_left(again, Path("/x/checkpoints/010000")) == 10_000


def test_here_on_several_gpus() -> None:
    several = stopped("local", Output("folder", "out"), "act", num_gpus=2)
    rest = resumed(several, Path("/w/out/checkpoints/000500"))
    head = several.argv[: len(several.argv) - len(several.trainer)]
    assert head[0] == "accelerate" and rest.argv == (*head, *rest.trainer)


def test_an_adapter_of_0_4_4_cannot_be_continued() -> None:
    first = stopped("local", Output("folder", "out"), "act", lerobot="0.4.4", trainer_args=("--peft.method_type=LORA",))
    with pytest.raises(UsageError, match=r"new adapter.*--lerobot-version 0\.6\.1"):
        resumed(first, Path("/w/out/checkpoints/000500"))


def test_a_volume_continues_by_itself() -> None:
    job = stopped("modal", Output("volume", "/outputs/r"))
    assert resumed(job) == job


def test_what_left_no_checkpoint() -> None:
    for job in (stopped("hf", Output("hub", "me/out"), lerobot="0.4.4"),
                stopped("hf", Output("hub", "me/out"), trainer_args=("--save_checkpoint_to_hub=false",))):  # fmt: skip
        with pytest.raises(UsageError, match="launch it again"):
            resumed(job)
