"""From an estimate to the trainer's command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import UsageError
from planner.job import Job, Output
from planner.pasted import Pasted, read
from planner.recipes.flags import schedule_flags, text, variant_flags
from planner.recipes.lerobot import job as make
from planner.recipes.lerobot import packages
from planner.records import Base
from planner.workload import Camera, Variant
from tests.factories import estimate, figure, offer, policy, workload

OUTPUTS = {"hf": Output("hub", "me/out"), "modal": Output("volume", "/outputs/r"), "local": Output("folder", "outputs/train/r")}


def job(name: str = "act", target: str = "hf", **fields: Any) -> Job:
    row = {key: fields.pop(key) for key in ("batch_size", "steps", "gradient_accumulation", "attempts") if key in fields}
    form, repo_id = fields.pop("form", ""), fields.pop("repo_id", None)
    where = offer(target, num_gpus=fields.pop("num_gpus", 1))
    return make(estimate(where, **row), workload(name, **fields), target=target, output=fields.pop("output", OUTPUTS[target]),
                name="r", form=form, repo_id=repo_id)


def flags(made: Job) -> dict[str, str]:
    """The trainer's arguments by name; a flag given twice fails."""
    names = [token[2:].split("=")[0] for token in made.trainer if token.startswith("--")]
    assert len(names) == len(set(names)), f"a flag is given twice: {made.trainer}"
    tail = read(made.trainer)
    return {name: tail.get(name) or "" for name in names}


def test_a_plain_training() -> None:
    made = job(num_workers=6)
    assert made.argv == ("lerobot-train", *made.trainer)
    assert flags(made) == {
        "policy.type": "act", "dataset.repo_id": "me/pick", "batch_size": "8", "steps": "20000", "save_freq": "2500",
        "num_workers": "6", "job_name": "r", "policy.repo_id": "me/out", "policy.push_to_hub": "true",
        "policy.private": "true", "save_checkpoint_to_hub": "true",
    }
    assert (made.image, made.secrets, made.warnings) == ("huggingface/lerobot-gpu:latest", ("HF_TOKEN",), ())


def test_base_weights_as_the_policy_names_them() -> None:
    assert flags(job("smolvla"))["policy.path"] == "lerobot/smolvla_base"
    assert "policy.type" not in flags(job("smolvla"))
    pi05 = flags(job("pi05"))
    assert (pi05["policy.type"], pi05["policy.pretrained_path"]) == ("pi05", "lerobot/pi05_base")
    own = job(policy=policy("act", base=Base("x/own", "", figure(1))))
    assert "x/own" not in str(own.trainer), "a base that the type loads by itself is not named"


def test_the_users_weights_win() -> None:
    assert flags(job("smolvla", trainer_args=("--policy.path=me/tuned",)))["policy.path"] == "me/tuned"
    scratch = flags(job("smolvla", trainer_args=("--policy.type=smolvla",)))
    assert "policy.path" not in scratch
    tuned = flags(job("pi05", trainer_args=("--policy.pretrained_path", "me/tuned")))
    assert (tuned["policy.type"], tuned["policy.pretrained_path"]) == ("pi05", "me/tuned")


def test_required_arguments_once() -> None:
    needs = policy("act", required=("--policy.action_mode=auto",))
    assert flags(job(policy=needs))["policy.action_mode"] == "auto"
    assert flags(job(policy=needs, trainer_args=("--policy.action_mode=ee6d",)))["policy.action_mode"] == "ee6d"


def test_results_per_place() -> None:
    for target in ("modal", "local"):
        made = flags(job(target=target))
        assert made["output_dir"] == OUTPUTS[target].where
        assert made["policy.push_to_hub"] == "false"
        both = flags(job(target=target, repo_id="me/out"))
        assert (both["policy.repo_id"], both["policy.push_to_hub"]) == ("me/out", "true")
    assert job(target="modal").env == {"HF_HOME": "/cache"}
    assert [volume.mount for volume in job(target="modal").volumes] == ["/outputs", "/datasets", "/cache"]
    assert job(target="local").secrets == ()


def test_0_4_4_keeps_only_the_final_model() -> None:
    made = job(lerobot="0.4.4")
    assert "save_checkpoint_to_hub" not in flags(made)
    assert any("checkpoints" in warning for warning in made.warnings)
    assert any("does not match" in warning and warning.endswith("--emit modal installs 0.4.4") for warning in made.warnings)


def test_datasets_on_this_machine() -> None:
    made = job(target="local", dataset=None, dataset_root="/data/my pick/")
    assert (flags(made)["dataset.repo_id"], flags(made)["dataset.root"]) == ("local/my pick", "/data/my pick/")
    made = job(target="modal", dataset=None, dataset_root="/data/my pick")
    folder = flags(made)["dataset.root"].removeprefix("/datasets/")
    assert folder.startswith("my pick-")
    created, put = made.warnings[0].partition("modal volume create lerobot-datasets (once), then ")[1:]
    assert created and put == f"modal volume put lerobot-datasets '/data/my pick' '/{folder}'"
    other = job(target="modal", dataset=None, dataset_root="/elsewhere/my pick/")
    assert flags(other)["dataset.root"] not in (f"/datasets/{folder}", "/datasets/my pick")
    assert flags(job(target="modal", dataset_root="/data/my pick/"))["dataset.root"] == f"/datasets/{folder}"
    assert flags(job(target="modal", dataset_root="/datasets/x"))["dataset.root"] == "/datasets/x"
    made = job(target="hf", dataset_root="/data/x")
    assert "dataset.root" not in flags(made) and made.warnings
    with pytest.raises(UsageError, match="push the dataset"):
        job(target="hf", dataset=None, dataset_root="/data/x")
    with pytest.raises(UsageError, match="--dataset"):
        job(dataset=None)


def test_the_variants_flags() -> None:
    made = flags(job("pi05", variant=Variant("bfloat16", gradient_checkpointing=True, trained="expert", compiled=True)))
    assert {name: made[name] for name in made if name.startswith("policy.") and name.split(".")[1] in (
        "dtype", "gradient_checkpointing", "train_expert_only", "compile_model")} == {
        "policy.dtype": "bfloat16", "policy.gradient_checkpointing": "true", "policy.train_expert_only": "true",
        "policy.compile_model": "true"}
    lora = flags(job("smolvla", variant=Variant("bfloat16", trained="lora", lora_rank=32)))
    assert (lora["peft.method_type"], lora["peft.r"]) == ("LORA", "32")
    stated = flags(job("pi05", variant=Variant("bfloat16"), trainer_args=("--policy.dtype", "bfloat16")))
    assert stated["policy.dtype"] == "bfloat16"
    with pytest.raises(UsageError, match="no flag for gradient checkpointing"):
        job("act", variant=Variant("float32", gradient_checkpointing=True))
    with pytest.raises(UsageError, match="no flags to train"):
        job("act", variant=Variant("float32", trained="expert"))


@pytest.mark.parametrize(("trained", "said"), [
    ("expert", {}),
    ("all", {"policy.train_expert_only": False, "policy.freeze_vision_encoder": False}),
    ("vlm+expert", {"policy.train_expert_only": False}),
])
def test_flags_for_what_is_trained(trained: str, said: dict[str, bool]) -> None:
    found = dict(variant_flags(workload("smolvla", variant=Variant("bfloat16", trained=trained)), Pasted()))
    assert found == said


def test_the_schedule_follows_the_run() -> None:
    def said(name: str, steps: int, release: str = "0.6.1") -> list[object]:
        return [value for _, value in schedule_flags(workload(name, lerobot=release), steps)]

    assert said("smolvla", 3_000) == [3_000, 100]
    assert said("smolvla", 10) == [10, 1]
    assert said("smolvla", 30_000) == []
    assert said("smolvla", 60_000) == [60_000], "the warm-up does not grow"
    assert said("act", 3_000) == []
    made = flags(job("smolvla", steps=3_000, trainer_args=("--policy.scheduler_warmup_steps=7",)))
    assert (made["policy.scheduler_decay_steps"], made["policy.scheduler_warmup_steps"]) == ("3000", "7")
    assert "policy.scheduler_decay_steps" not in flags(job("smolvla", trainer_args=("--use_policy_training_preset=false",)))


def test_the_rows_batch_replaces_the_users_and_says_so() -> None:
    made = job(batch_size=4, trainer_args=("--batch_size", "64", "--steps=20_000", "--seed=1"))
    assert (flags(made)["batch_size"], flags(made)["steps"]) == ("4", "20_000")
    assert any("--batch_size=64 became --batch_size=4" in warning for warning in made.warnings)
    assert len(made.warnings) == 1


@pytest.mark.parametrize(("release", "gpus", "autocast", "expected"), [
    ("0.6.1", 1, False, "lerobot-train"),
    ("0.6.1", 0, False, "lerobot-train"),
    ("0.6.1", 1, True, "accelerate launch --num_processes=1 --num_machines=1 --mixed_precision=bf16"),
    ("0.4.4", 1, True, "accelerate launch --num_processes=1 --num_machines=1 --mixed_precision=bf16"),
    ("0.6.1", 4, False, "accelerate launch --multi_gpu --num_processes=4 --num_machines=1 --mixed_precision=no"),
    ("0.4.4", 2, True, "accelerate launch --multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=bf16"),
    ("main", 1, True, "lerobot-train"),
    ("main", 8, False, "torchrun --nproc_per_node=8 -m lerobot.scripts.lerobot_train"),
])
def test_launchers(release: str, gpus: int, autocast: bool, expected: str) -> None:
    made = job(num_gpus=gpus, lerobot=release, variant=Variant("float32", autocast=autocast))
    assert " ".join(made.argv).startswith(expected)
    assert made.argv[len(made.argv) - len(made.trainer):] == made.trainer
    assert ("accelerator.mixed_precision" in flags(made)) is (release == "main" and autocast)


def test_precision_that_the_policy_has_is_not_the_launchers() -> None:
    assert job("pi05", variant=Variant("bfloat16", autocast=True)).argv[0] == "lerobot-train"
    assert job("pi05", lerobot="0.4.4", variant=Variant("bfloat16", autocast=True)).argv[0] == "accelerate"
    assert job(policy=policy("act", flags={"0.6.1": {"use_amp": True}}), variant=Variant("float32", autocast=True),
               ).argv[0] == "lerobot-train"
    with pytest.raises(UsageError, match="--emit hf"):
        job("act", form="lerobot", variant=Variant("float32", autocast=True))


def test_gradient_accumulation_only_on_main() -> None:
    made = job(lerobot="main", gradient_accumulation=4)
    assert flags(made)["accelerator.gradient_accumulation.steps"] == "4"
    for release in ("0.6.1", "0.4.4"):
        with pytest.raises(UsageError, match="gradient accumulation"):
            job(lerobot=release, gradient_accumulation=2)


def test_packages() -> None:
    assert packages(workload("act")) == ("lerobot[training]==0.6.1",)
    assert packages(workload("smolvla", lerobot="0.4.4")) == ("lerobot[smolvla]==0.4.4",)
    lora = Variant("bfloat16", trained="lora", lora_rank=8)
    assert packages(workload("pi05", variant=lora)) == ("lerobot[training,pi,peft]==0.6.1",)
    assert packages(workload("act", lerobot="main"))[0].startswith("lerobot[training] @ git+https://github.com/")
    assert any("unpinned" in warning for warning in job(lerobot="main", target="modal").warnings)


def test_secrets_by_name_only() -> None:
    made = job(environment=(("HF_TOKEN", "hf_value"), ("MY_API_KEY", "key_value"), ("CUDA_VISIBLE_DEVICES", "3"), ("A", "b")),
               trainer_args=("--wandb.enable=True",))
    assert made.secrets == ("HF_TOKEN", "WANDB_API_KEY", "MY_API_KEY")
    assert made.env == {"A": "b"}
    assert "_value" not in str(made)
    assert job(target="local", environment=(("CUDA_VISIBLE_DEVICES", "3"),)).env == {"CUDA_VISIBLE_DEVICES": "3"}


@pytest.mark.parametrize("name", [
    "AWS_SECRET_ACCESS_KEY", "GITHUB_PAT", "WANDB_KEY", "OPENAI_API_KEY_2", "MY_PASSWORD", "DB_CREDENTIALS", "my_token", "PGPASS",
    "DB_PWD", "BASIC_AUTH", "PAT", "PAT_2",
])
@pytest.mark.parametrize("target", ["hf", "modal", "local"])
def test_what_may_be_a_secret_is_one(name: str, target: str) -> None:
    made = job(target=target, environment=((name, "s3cr3t"),))
    assert name in made.secrets and name not in made.env
    assert "s3cr3t" not in str(made) and any(name in warning for warning in made.warnings)


@pytest.mark.parametrize(("name", "value"), [
    ("PATH", "/bin"), ("TOKENIZERS_PARALLELISM", "false"), ("DISPATCH", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("SEED", "3"),
])
def test_what_is_no_secret(name: str, value: str) -> None:
    made = job(target="local", environment=((name, value),))
    assert (made.env, made.secrets) == ({name: value}, ())


def test_the_jobs_own_variables_win_elsewhere() -> None:
    made = job(target="modal", environment=(("HF_HOME", "/home/me/hf"), ("A", "b")))
    assert made.env == {"HF_HOME": "/cache", "A": "b"}
    assert made.warnings == ("HF_HOME=/home/me/hf is left out: the job sets HF_HOME=/cache",)
    assert job(target="local", environment=(("HF_HOME", "/home/me/hf"),)).env == {"HF_HOME": "/home/me/hf"}


@pytest.mark.parametrize("flag", ["policy.path", "policy.pretrained_path", "config_path"])
@pytest.mark.parametrize("path", ["./out/last", "/home/me/out", "~/out", "../out", "outputs/train/last", "here/now"])
def test_weights_of_this_machine_stay_here(flag: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "now").mkdir(parents=True)  # has the form of a Hub id
    monkeypatch.chdir(tmp_path)
    for target in ("hf", "modal"):
        with pytest.raises(UsageError, match=f"--{flag}={path} is on this machine.*push it to the Hub"):
            job(target=target, trainer_args=(f"--{flag}={path}",))
    assert flags(job(target="local", trainer_args=(f"--{flag}={path}",)))[flag] == path
    assert flags(job(target="hf", trainer_args=(f"--{flag}=me/tuned",)))[flag] == "me/tuned"


def test_weights_on_a_volume() -> None:
    for path in ("/outputs/a/checkpoints/last/pretrained_model", "/datasets/weights"):
        assert flags(job("smolvla", target="modal", trainer_args=(f"--policy.path={path}",)))["policy.path"] == path
        with pytest.raises(UsageError, match="on this machine"):
            job("smolvla", target="hf", trainer_args=(f"--policy.path={path}",))


BASE = Base("lerobot/smolvla_base", "--policy.path", figure(1), tuple(f"observation.images.camera{n}" for n in (1, 2, 3)))


def seen(*names: str | None, target: str = "local", **fields: Any) -> tuple[Any, tuple[str, ...]]:
    """(--rename_map, warnings) for a dataset with these cameras and a base with camera1 to camera3."""
    cameras = tuple(Camera(64, 64, None, name and f"observation.images.{name}") for name in names)
    made = job(target=target, policy=policy("smolvla", base=BASE), cameras=cameras, **fields)
    said = flags(made).get("rename_map")
    short = None if said is None else {
        ours.removeprefix("observation.images."): theirs.removeprefix("observation.images.") for ours, theirs in json.loads(said).items()
    }
    return short, made.warnings


def test_cameras_get_the_bases_names() -> None:
    mapping, warnings = seen("top", "wrist")
    assert mapping == {"top": "camera1", "wrist": "camera2"}
    assert len(warnings) == 1 and "top as camera1, wrist as camera2" in warnings[0]
    assert seen("wrist", "camera1")[0] == {"wrist": "camera2"}, "a name that the base knows stays"
    mapping, (warning,) = seen("a", "b", "c", "d")
    assert mapping == {"a": "camera1", "b": "camera2", "c": "camera3"} and "no place for d" in warning
    for names in (("camera2",), ("camera1", "camera2", "camera3", "extra"), ()):
        assert seen(*names) == (None, ()), "LeRobot takes a subset, either way round"


def test_cameras_that_nobody_knows_are_warned_of() -> None:
    mapping, (warning,) = seen(None, None)
    assert mapping is None and "observation.images.camera3" in warning and "--rename_map='{" in warning


def test_cameras_only_where_the_base_brings_its_names() -> None:
    assert seen("top", trainer_args=('--rename_map={"observation.images.top": "observation.images.camera3"}',)) == (
        {"top": "camera3"}, ())
    assert seen("top", trainer_args=("--policy.path=me/tuned",)) == (None, ())
    assert seen("top", trainer_args=("--policy.type=smolvla",)) == (None, ())
    whole = ("lerobot-train", "--policy.path=lerobot/smolvla_base", "--dataset.repo_id=me/pick")
    assert seen("top", trainer_args=whole, pasted=True)[0] == {"top": "camera1"}


def test_checkpoints_survive_on_a_volume() -> None:
    made = job(target="modal", trainer_args=("--save_checkpoint=no",))
    assert flags(made)["save_checkpoint"] == "true" and any("--save_checkpoint=no became" in warning for warning in made.warnings)
    assert "save_checkpoint" not in flags(job(target="modal"))
    assert flags(job(target="local", trainer_args=("--save_checkpoint=no",)))["save_checkpoint"] == "no"


@pytest.mark.parametrize(("argument", "release", "part"), [
    ("--save_checkpoint=false", "0.6.1", "only the final model"),
    ("--save_checkpoint=false", "0.4.4", "only the final model"),
    ("--save_freq=-1", "0.6.1", "only the last checkpoint and the final model"),
    ("--save_freq=0", "main", "only the last checkpoint and the final model"),
    ("--save_freq=-1", "0.4.4", "at every step"),
    ("--save_freq=0", "0.4.4", "division by zero"),
])
def test_no_checkpoints_on_hf_is_warned_of(argument: str, release: str, part: str) -> None:
    assert any(argument in warning and part in warning for warning in job(lerobot=release, trainer_args=(argument,)).warnings)
    assert not any(part in warning for warning in job(lerobot="0.6.1", trainer_args=("--save_freq=500",)).warnings)


def test_another_device_is_warned_of() -> None:
    for device in ("cpu", "mps"):
        made = job(target="modal", trainer_args=(f"--policy.device={device}",))
        assert flags(made)["policy.device"] == device and any("GPU idle" in warning for warning in made.warnings)
    assert job(target="modal", trainer_args=("--policy.device=cuda",)).warnings == ()


PASTED = ("lerobot-train", "--policy.type=act", "--dataset.repo_id", "me/pick", "--output_dir=out", "--odd", "x  y",
          "--job.target=a10g-small")


def test_a_pasted_command_stays_as_it_is() -> None:
    made = job(target="local", pasted=True, trainer_args=PASTED[:-1], batch_size=8, steps=100_000)
    assert made.argv == (*PASTED[:-1], "--policy.push_to_hub=false")
    assert made.output == Output("folder", "out")
    assert made.warnings == ()


def test_a_pasted_command_moves() -> None:
    made = job(target="modal", pasted=True, trainer_args=PASTED, steps=5000)
    assert made.argv == ("lerobot-train", "--policy.type=act", "--dataset.repo_id", "me/pick", "--odd", "x  y", "--steps=5000",
                         "--output_dir=/outputs/r", "--policy.push_to_hub=false")
    assert [warning.split()[0] for warning in made.warnings] == ["--output_dir=out", "--job.target"]
    made = job(target="hf", pasted=True, trainer_args=("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick",
               "--dataset.root=/data/x", "--policy.push_to_hub=false"), attempts=2)
    said = flags(made)
    assert "dataset.root" not in said
    assert (said["policy.push_to_hub"], said["policy.repo_id"], said["save_freq"]) == ("true", "me/out", "2500")
    assert [warning.split()[0] for warning in made.warnings] == ["--dataset.root=/data/x", "--policy.push_to_hub=false", "another"]


@pytest.mark.parametrize(("launcher", "target", "gpus", "kept"), [
    ("accelerate launch --num_processes=2 -m lerobot.scripts.lerobot_train", "hf", 2, True),
    ("accelerate launch --num_processes=2 /home/me/bin/lerobot-train", "local", 2, True),
    ("accelerate launch --num_processes=2 /home/me/bin/lerobot-train", "hf", 2, False),
    ("accelerate launch --config_file my.yaml -m lerobot.scripts.lerobot_train", "hf", 1, False),
    ("lerobot-train", "hf", 4, False),
    ("torchrun --nproc_per_node=8 -m lerobot.scripts.lerobot_train", "hf", 1, False),
    ("/opt/bin/lerobot-train", "modal", 1, False),
])
def test_pasted_launchers(launcher: str, target: str, gpus: int, kept: bool) -> None:
    tail = (*launcher.split(), "--policy.type=act", "--dataset.repo_id=me/pick")
    made = job(target=target, num_gpus=gpus, pasted=True, trainer_args=tail)
    assert (made.argv[:len(launcher.split())] == tuple(launcher.split())) is kept
    assert any("became" in warning for warning in made.warnings) is not kept


@pytest.mark.parametrize("value", ["me/pick", "it's", "$(x) `y`", "-x", "ü☃", "50", "x" * 300])
def test_ordinary_text_is_not_touched(value: str) -> None:
    assert text(value) == value


@pytest.mark.parametrize("value", ["a # b", "a\nb", "a: b", "null", "[a", "{x", "'x'", "~", "0x10", "*a", "@a", "a #\nb", "\x07", "! a"])
def test_what_yaml_would_change_is_quoted(value: str) -> None:
    import yaml

    assert text(value) != value
    assert yaml.safe_load(text(value)) == value


@pytest.mark.parametrize("release", ["0.6.1", "0.4.4", "main"])
@pytest.mark.parametrize("target", ["hf", "modal", "local"])
def test_the_commit_that_was_planned_is_the_one_that_is_trained(release: str, target: str) -> None:
    commit = "0123456789" * 4
    made = job(target=target, lerobot=release, dataset_revision=commit)
    assert flags(made)["dataset.revision"] == commit
    assert "dataset.revision" not in flags(job(target=target, lerobot=release))
    own = job(target=target, lerobot=release, dataset_revision=commit, trainer_args=("--dataset.revision=v3.0",))
    assert flags(own)["dataset.revision"] == "v3.0"
    resumed = ("lerobot-train", "--resume=true", "--config_path=me/x")
    assert "dataset.revision" not in flags(job(target=target, lerobot=release, dataset_revision=commit, trainer_args=resumed, pasted=True))
    assert "dataset.revision" not in flags(job(target="local", lerobot=release, dataset_root="/data/x"))


def test_a_part_of_the_dataset_is_said_to_the_trainer() -> None:
    assert flags(job(dataset_episodes=(0, 1, 2)))["dataset.episodes"] == "[0, 1, 2]"
    assert "dataset.episodes" not in flags(job())
    assert flags(job(dataset_episodes=(4,), trainer_args=("--dataset.episodes=[4]",)))["dataset.episodes"] == "[4]"
