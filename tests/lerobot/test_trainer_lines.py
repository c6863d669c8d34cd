"""Every trainer line that can be emitted is read by the real LeRobot, and says what the plan says."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from planner import Search, Workload, plan
from planner.catalogue import load
from planner.job import Job, Output
from planner.plans import Estimate
from planner.recipes import lerobot
from planner.targets import base, hf
from planner.workload import Camera, Training

pytestmark = pytest.mark.lerobot

CATALOGUE = load()
RELEASES = ("0.4.4", "0.6.1")
PLACES = ("hf", "modal", "lerobot", "local")
TYPES = [
    (release, policy)
    for policy in CATALOGUE.policies.values()
    for release in RELEASES
    if release in policy.releases and policy.trainer == "lerobot-train"
]
SITES = [(release, place) for release in RELEASES for place in PLACES if (release, place) != ("0.4.4", "lerobot")]  # no --job.*
CASES = [
    pytest.param(release, policy.id, place, id=f"{release}-{policy.id}-{place}")
    for release, policy in TYPES
    for place in PLACES
    if (release, place) in SITES
]
SCHEDULED = [
    pytest.param(release, policy.id, steps, id=f"{release}-{policy.id}-{steps}")
    for release, policy in TYPES
    if "scheduler_decay_steps" in policy.flags[release]
    for steps in (10, 5_000, 30_000, 200_000)
]
VARIANTS = [
    pytest.param(release, policy.id, trained, id=f"{release}-{policy.id}-{trained}")
    for release, policy in TYPES
    for trained in dict.fromkeys(["lora", policy.trained, *(trained for _, trained in policy.trained_by)])
    if trained != "lora" or policy.id in ("smolvla", "pi0", "pi05")
]
#: What every release of LeRobot, reading values as YAML, would change if it were not quoted.
HOSTILE = [
    "it's", 'say "yes"', "two  words", " ends in blanks ", "$(touch pwned)", "`id`", "$HOME", "a;b|c&d", "a # comment", "key: value",
    "*star", "&amp", "@at", "%percent", "back\\slash", "line\nbreak", "tab\there", "-dash", "--steps=1", "{brace", "[1, 2]",
    "null", "yes", "1_000", "0x10", "ünïcode 机器人 🤖",
]  # fmt: skip


class Line:
    """One emitted line: the plan's row, the job, and the trainer's arguments as they leave the product."""

    def __init__(self, training: Training, estimate: Estimate, place: str, **destination: str | None) -> None:
        self.training, self.estimate, self.place = training, estimate, place
        target, form = ("hf", "lerobot") if place == "lerobot" else (place, "")
        self.job = lerobot.job(estimate, training, target=target, output=self._output(target, form, **destination),
                               name="a-run", form=form)  # fmt: skip
        self.argv = self._emitted(self.job)

    def _output(self, target: str, form: str, repo_id: str | None = None, output: str | None = None) -> Output:
        if form:
            return Output("hub", repo_id or "")  # LeRobot makes a repository itself
        repo_id = repo_id or ("me/model" if target == "hf" else None)
        return base.get(target).output_for(repo_id=repo_id, output=output, run_name="a-run")

    def _emitted(self, job: Job) -> tuple[str, ...]:
        """The trainer's arguments, for lines meant for a shell as a shell reads them."""
        if self.place == "modal":  # a script: tests/targets reads it
            return job.trainer
        text = hf.emit_lerobot(job) if self.place == "lerobot" else base.get(self.place).emit(job)
        words = shlex.split(text)
        launch = len(job.argv) - len(job.trainer)
        start = next(at for at in range(len(words)) if tuple(words[at : at + launch]) == job.argv[:launch])
        return tuple(words[start + launch :])

    @property
    def hub(self) -> dict[str, dict[str, Any]]:
        """What the line may read from the Hub while it is parsed."""
        config = {"Qwen/Qwen2.5-VL-3B-Instruct": {"model_type": "qwen2_5_vl"}}  # eo1 reads its backbone's
        if self.training.policy.base:
            base = self.training.policy.base
            inputs = {key: {"type": "VISUAL", "shape": [3, 256, 256]} for key in base.cameras}
            inputs["observation.state"] = {"type": "STATE", "shape": [6]}
            config.setdefault(base.id, {"type": self.training.policy.id} | ({"input_features": inputs} if base.cameras else {}))
        return config


def lines(release: str, policy: str, place: str, destination: dict[str, str] | None = None, **said: Any) -> Line:
    """The best row of the place, or its first one where nothing fits: the line is the same."""
    target = "hf" if place == "lerobot" else place
    said = {"dataset": "me/pick", "episodes": 50} | said
    search = Search(targets=(target,), gpus=("b200",) if place == "local" else (), num_gpus=1 if place == "lerobot" else None,
                    offline=True)
    planned = plan(Workload(policy=policy, lerobot_version=release, **said), search)
    row = planned.estimate(planned.recommended.id) if planned.recommended else planned.estimates[0]
    return Line(planned.workload, row, place, **(destination or {}))


def expected(line: Line) -> dict[str, Any]:
    """Dotted names of LeRobot's configuration, with what the plan says they are."""
    training, estimate, job = line.training, line.estimate, line.job
    policy, release = training.policy, training.lerobot
    flags = policy.flags[release]
    repository = job.output.where if job.output.kind == "hub" else None
    flag = policy.base.flag if policy.base else None
    named = bool(flag) or policy.id == "fastwam"  # which names its base itself
    # What LeRobot does with --job.target: the repository is its own, and named too late for a policy from --policy.path
    by_lerobot = line.place == "lerobot" and flag != "--policy.path"
    values: dict[str, Any] = {
        "policy.type": policy.id,
        "policy.pretrained_path": policy.base.id if policy.base and named else None,
        "dataset.repo_id": training.dataset,
        "dataset.root": None,
        "dataset.episodes": None,
        "batch_size": estimate.batch_size,
        "steps": estimate.steps,
        "save_freq": estimate.save_freq,
        "num_workers": training.num_workers,
        "job_name": job.name,
        "resume": False,
        "wandb.enable": False,
        "peft": None,
        "policy.repo_id": repository or ("user/made-by-lerobot" if by_lerobot else None),
        "policy.push_to_hub": line.place in ("hf", "lerobot"),
    }
    if job.output.kind != "hub":
        values["output_dir"] = job.output.where
    if release != "0.4.4":
        values["save_checkpoint_to_hub"] = line.place == "hf" or by_lerobot
        values["job.target"] = estimate.offer.flavor if line.place == "lerobot" else None
        values["job.detach"] = line.place == "lerobot"
    if line.place == "lerobot":
        values["job.image"] = job.image
    if flags.get("dtype") in ("float32", "bfloat16"):
        values["policy.dtype"] = training.variant.dtype
    if "gradient_checkpointing" in flags:
        values["policy.gradient_checkpointing"] = training.variant.gradient_checkpointing
    if "compile_model" in flags:
        values["policy.compile_model"] = training.variant.compiled
    for token in policy.required:
        name, _, value = token.removeprefix("--").partition("=")
        values[name] = value
    return values


def at(config: dict[str, Any], name: str) -> Any:
    """`policy.type` of nested mappings."""
    for part in name.split("."):
        config = config[part]
    return config


def understood(answer: dict[str, Any]) -> dict[str, Any]:
    assert "error" not in answer, answer["error"]
    config: dict[str, Any] = answer["config"]
    return config


Trainers = Callable[[str], Any]


@pytest.mark.parametrize(("release", "policy", "place"), CASES)
def test_says_what_the_plan_says(trainer: Trainers, release: str, policy: str, place: str) -> None:
    line = lines(release, policy, place)
    config = understood(trainer(release).read(line.argv, line.hub))
    wanted = expected(line)
    assert {name: at(config, name) for name in wanted} == wanted
    if place == "lerobot":
        number, unit = config["job"]["timeout"][:-1], config["job"]["timeout"][-1]
        assert int(number) * {"s": 1, "h": 3600}[unit] == line.job.timeout_s


@pytest.mark.parametrize(("release", "policy", "steps"), SCHEDULED)
def test_learning_rate_decays_over_this_run(trainer: Trainers, release: str, policy: str, steps: int) -> None:
    line = lines(release, policy, "hf", steps=steps)
    answer = trainer(release).read(line.argv, line.hub)
    config = understood(answer)
    decayed = config["policy"]["scheduler_decay_lr"] / config["policy"]["optimizer_lr"]
    assert answer["learning_rate"]["last"] == pytest.approx(decayed, rel=0.01, abs=1e-3)  # not earlier, and not later
    assert answer["learning_rate"]["peak"] > 0.5  # warm-up ends long before


@pytest.mark.parametrize(("release", "policy", "trained"), VARIANTS)
def test_variant_is_the_one_planned(trainer: Trainers, release: str, policy: str, trained: str) -> None:
    """A row may plan another variant than the default (LoRA, a frozen encoder): its flags must select it."""
    line = lines(release, policy, "hf")
    variant = line.training.variant._replace(trained=trained, lora_rank=16 if trained == "lora" else 0)
    line = Line(line.training._replace(variant=variant), line.estimate, "hf")
    config = understood(trainer(release).read(line.argv, line.hub))
    if trained == "lora":
        assert (config["peft"]["method_type"], config["peft"]["r"]) == ("LORA", 16)
        return
    rules = line.training.policy.trained_by
    flags = [(rule, says) for rule, says in rules if all(config["policy"].get(name) == value for name, value in rule.items())]
    assert (flags[0][1] if flags else line.training.policy.trained) == trained


@pytest.mark.parametrize(("release", "place"), SITES)
def test_own_arguments_win(trainer: Trainers, release: str, place: str) -> None:
    tail = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true", "--policy.train_expert_only=true",
            "--policy.optimizer_lr=1e-4", "--dataset.episodes=[0, 2, 5]", "--num_workers", "8", "--save_freq=1_000",
            "--policy.scheduler_decay_steps=7000", "--seed=7")  # fmt: skip
    line = lines(release, "pi05", place, tail=tail, episodes=None, frames=3_000)
    config = understood(trainer(release).read(line.argv, line.hub))
    wanted = {
        "policy.dtype": "bfloat16", "policy.gradient_checkpointing": True, "policy.train_expert_only": True,
        "policy.optimizer_lr": 1e-4, "dataset.episodes": [0, 2, 5], "num_workers": 8, "save_freq": 1000,
        "policy.scheduler_decay_steps": 7000, "seed": 7, "steps": line.estimate.steps, "batch_size": line.estimate.batch_size,
        "policy.pretrained_path": "lerobot/pi05_base",
    }  # fmt: skip
    assert {name: at(config, name) for name in wanted} == wanted


@pytest.mark.parametrize(("release", "place"), SITES)
def test_pasted_command_means_the_same_elsewhere(trainer: Trainers, release: str, place: str) -> None:
    pasted = ("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=50000", "--batch_size", "12",
              "--policy.push_to_hub=false", "--job_name=mine", "--policy.chunk_size=50", "--policy.n_action_steps=50",
              "--output_dir=here")  # fmt: skip
    line = lines(release, None, place, tail=pasted, dataset=None, episodes=None)  # type: ignore[arg-type]
    config = understood(trainer(release).read(line.argv, line.hub))
    wanted = {
        "policy.type": "act", "dataset.repo_id": "me/pick", "steps": 50_000, "batch_size": 12, "job_name": "mine",
        "policy.chunk_size": 50, "policy.push_to_hub": place in ("hf", "lerobot"),
        "policy.repo_id": {"hf": "me/model", "lerobot": "user/made-by-lerobot"}.get(place),
    }  # fmt: skip
    assert {name: at(config, name) for name in wanted} == wanted
    if place != "hf" and place != "lerobot":
        assert config["output_dir"] == line.job.output.where


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("release", RELEASES)
def test_names_are_data(trainer: Trainers, release: str, text: str) -> None:
    """Quotes, blanks, `$()` and line breaks in a dataset, a folder or a path reach the trainer as they are."""
    line = lines(release, "act", "local")
    training = line.training._replace(dataset=text, dataset_root=f"/data/{text}")
    line = Line(training, line.estimate, "local", output=f"/runs/{text}/out")
    config = understood(trainer(release).read(line.argv, line.hub))
    assert config["dataset"]["repo_id"] == text
    assert (config["dataset"]["root"], config["output_dir"]) == (f"/data/{text}", f"/runs/{text}/out")


@pytest.mark.parametrize(("release", "place"), SITES)
def test_names_are_data_everywhere(trainer: Trainers, release: str, place: str) -> None:
    text = 'it\'s "a" $(touch pwned) `id`\nname: [x # y'
    line = lines(release, "act", place)
    line = Line(line.training._replace(dataset=text), line.estimate, place)
    assert understood(trainer(release).read(line.argv, line.hub))["dataset"]["repo_id"] == text


@pytest.mark.parametrize(("release", "place"), SITES)
@pytest.mark.parametrize("commit", ["3f" * 20, "1" * 40, "0123456789" * 4, "12e4567890" * 4, "0" * 40])
def test_the_datasets_commit_is_the_one_that_was_planned(trainer: Trainers, release: str, place: str, commit: str) -> None:
    """Also where YAML would take it for a number."""
    line = lines(release, "act", place)
    line = Line(line.training._replace(dataset_revision=commit), line.estimate, place)
    assert understood(trainer(release).read(line.argv, line.hub))["dataset"]["revision"] == commit


NAMED = [
    pytest.param(release, policy.id, place, names, id=f"{release}-{policy.id}-{place}-{len(names)}")
    for release, policy in TYPES
    if policy.base and policy.base.cameras
    for place in PLACES
    if (release, place) in SITES
    for names in (("top",), ("top", "wrist"), ("a", "b", "c", "d"), (policy.base.cameras[0].split(".")[-1], "wrist"))
]


@pytest.mark.parametrize(("release", "policy", "place", "names"), NAMED)
def test_the_bases_cameras_are_the_datasets(trainer: Trainers, release: str, policy: str, place: str, names: tuple[str, ...]) -> None:
    keys = tuple(f"observation.images.{name}" for name in names)
    line = lines(release, policy, place)
    line = Line(line.training._replace(cameras=tuple(Camera(640, 480, "av1", key) for key in keys)), line.estimate, place)
    config = understood(trainer(release).read(line.argv, line.hub, keys))
    base = line.training.policy.base
    assert base and set(config["rename_map"].values()) <= set(base.cameras)
    unmapped = tuple(word for word in line.argv if not word.startswith("--rename_map="))
    assert unmapped != line.argv
    assert "eature mismatch" in trainer(release).read(unmapped, line.hub, keys)["error"]


def test_unknown_flags_are_noticed(trainer: Trainers) -> None:
    """The check itself can fail: LeRobot's parser is the real one."""
    for release in RELEASES:
        answer = trainer(release).read(("--policy.type=act", "--dataset.repo_id=a/b", "--policy.push_to_hub=false", "--stepz=1"), {})
        assert "unrecognized arguments" in answer["error"]
