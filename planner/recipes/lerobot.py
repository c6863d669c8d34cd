"""A LeRobot training on an offer -> the job: trainer arguments, launcher, packages, secrets, outputs.

The user's own arguments come through untouched and win. What the place or the plan needs different from them is
replaced, and every replacement is a warning of the job.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from planner import pasted
from planner.errors import UsageError
from planner.job import Job, Output, Volume
from planner.plans import Estimate
from planner.recipes import surroundings
from planner.recipes.arguments import Arguments
from planner.recipes.cameras import FLAG as RENAME
from planner.recipes.cameras import rename_map
from planner.recipes.flags import schedule_flags, variant_flags
from planner.recipes.launcher import launcher
from planner.workload import DEFAULT_NUM_WORKERS, Training

IMAGE = "huggingface/lerobot-gpu:latest"  # tracks releases
IMAGE_RELEASE = "0.6.1"
SOURCE = "git+https://github.com/huggingface/lerobot"

OUTPUTS = Volume("lerobot-outputs", "/outputs")
DATASETS = Volume("lerobot-datasets", "/datasets")
CACHE = Volume("huggingface-cache", "/cache")

PROBE_WINDOWS = 6  # in the log of a probe

DEFAULT_BATCH_SIZE, DEFAULT_STEPS = 8, 100_000  # of lerobot-train, where a pasted command says nothing


def job(
    estimate: Estimate,
    workload: Training,
    *,
    target: str,
    output: Output,
    name: str,
    form: str = "",
    repo_id: str | None = None,
    startup_timeout_s: int | None = None,
    probe: bool = False,
    volumes: Mapping[str, str] | None = None,
) -> Job:
    """The job of one estimate.

    `form` is "lerobot" where LeRobot itself submits it (`--job.target`). `repo_id` names a model repository that also
    receives the model where `output` is a volume or a folder. `volumes` renames outputs, datasets and cache. A `probe` is run
    for its step time: it keeps no model.

    Raises UsageError where this release, place or row cannot run the workload as it was planned.
    """
    if workload.policy.trainer != pasted.TRAINER:
        raise UsageError("emit", f"{workload.policy.id} is trained by {workload.policy.trainer} beside a robot or a simulator, "
                         "not by lerobot-train: there is no command to print")
    draft = _Draft(estimate=estimate, workload=workload, target=target, form=form, output=output, name=name, repo_id=repo_id,
                   probe=probe, own=_own(workload), volumes=_volumes(volumes or {}))
    if target != "local":
        surroundings.refuse_paths(draft.own, target, (OUTPUTS.mount, DATASETS.mount) if output.kind == "volume" else ())
    if workload.gradient_accumulation > 1 or estimate.gradient_accumulation > 1:
        if workload.lerobot != "main":
            raise UsageError("gradient-accumulation", f"LeRobot {workload.lerobot} has no gradient accumulation; "
                             "only --lerobot-version main has")
        draft.say("accelerator.gradient_accumulation.steps", estimate.gradient_accumulation)
    if not draft.own.whole:
        draft.policy()
    draft.cameras()
    draft.device()
    draft.dataset()
    draft.length()
    draft.results()
    draft.drop_job_flags()
    if workload.lerobot == "main" and target == "modal":
        draft.warnings.append("LeRobot main is installed as it is on the day of the run (unpinned)")
    trainer = (*draft.own.args, *draft.added) if draft.own.whole else (*draft.added, *draft.own.args)
    head, change = launcher(workload, draft.own, max(1, estimate.offer.num_gpus), here=target == "local")
    if form == "lerobot":
        if estimate.offer.num_gpus == 1 and head[0] == "accelerate" and not draft.own.launcher:
            raise UsageError("emit", "--job.target starts no accelerate, which this variant's bf16 autocast needs: use --emit hf")
        head = (pasted.TRAINER,)
    elif change:
        draft.warnings.append(change)
    env, secrets = draft.environment()
    offer = estimate.offer
    return Job(
        name=name,
        target=target,
        flavor=offer.flavor,
        gpu=offer.gpu,
        num_gpus=offer.num_gpus,
        lerobot=workload.lerobot,
        image=draft.image(),
        packages=packages(workload),
        argv=(*head, *trainer),
        trainer=trainer,
        env=env,
        secrets=secrets,
        volumes=tuple(draft.volumes.values()) if draft.output.kind == "volume" else (),
        cores=None if offer.vcpus is None else ceil(offer.vcpus / 2),
        ram_bytes=offer.ram_bytes,
        timeout_s=estimate.timeout_s,
        startup_timeout_s=startup_timeout_s,
        attempts=estimate.attempts,
        output=draft.output,
        labels={"plan-run-id": re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:50] or "run"},
        warnings=tuple(draft.warnings),
        usd_per_hour=None if offer.usd_per_hour is None else str(offer.usd_per_hour),
    )


def _volumes(names: Mapping[str, str]) -> dict[str, Volume]:
    """The volumes by purpose, each under the name that it is given."""
    usual = {"outputs": OUTPUTS, "datasets": DATASETS, "cache": CACHE}
    return {purpose: volume._replace(name=names.get(purpose, volume.name)) for purpose, volume in usual.items()}


def packages(workload: Training) -> tuple[str, ...]:
    """What to install for a fresh image: LeRobot with the policy's extra, and PEFT for LoRA."""
    extras = [] if workload.lerobot == "0.4.4" else ["training"]
    extras += [extra for extra in (workload.policy.extra.get(workload.lerobot),) if extra]
    extras += ["peft"] if workload.variant.trained == "lora" else []
    project = f"lerobot[{','.join(extras)}]" if extras else "lerobot"
    return (f"{project} @ {SOURCE}",) if workload.lerobot == "main" else (f"{project}=={workload.lerobot}",)


def _own(workload: Training) -> pasted.Pasted:
    """The user's part. Arguments alone that count as pasted are a whole command without its launcher."""
    own = pasted.read(workload.trainer_args)
    return own._replace(whole=own.whole or workload.pasted)


@dataclass(kw_only=True)
class _Draft(Arguments):
    """The arguments for one estimate on one place."""

    estimate: Estimate
    workload: Training
    target: str
    form: str
    output: Output
    name: str
    repo_id: str | None
    probe: bool
    volumes: dict[str, Volume]

    def policy(self) -> None:
        """Base weights the way the policy names them, and the variant's flags."""
        workload, policy = self.workload, self.workload.policy
        if self.stated("policy.path") is None:
            base = policy.base
            typed = self.stated("policy.type") is not None
            if base and base.flag == "--policy.path" and not typed and self.stated("policy.pretrained_path") is None:
                self.say("policy.path", base.id)
            else:
                self.say("policy.type", policy.id)
                if base and base.flag and base.flag != "--policy.path" and not typed:
                    self.say(base.flag.removeprefix("--"), base.id)
        for token in policy.required:
            name = pasted.flag_name(token)
            if name and self.stated(name) is None:
                self.added.append(token)
        for name, value in variant_flags(workload, self.own):
            self.say(name, value)
        if self.stated("use_policy_training_preset") is None:
            for name, value in schedule_flags(workload, self.estimate.steps):
                self.say(name, value)

    def cameras(self) -> None:
        """The dataset's camera names as the base's, where the base comes through --policy.path."""
        base = self.workload.policy.base
        path = self.stated("policy.path") or pasted.value_of(tuple(self.added), "policy.path")
        if base is None or path != base.id or self.stated(RENAME.removeprefix("--")) is not None:
            return
        renamed, warning = rename_map(base.cameras, tuple(camera.key for camera in self.workload.cameras))
        if renamed:
            self.added.append(f"{RENAME}={json.dumps(renamed, ensure_ascii=False)}")
        if warning:
            self.warnings.append(warning)

    def device(self) -> None:
        said = self.stated("policy.device")
        if self.estimate.offer.gpu == "cpu":
            self.say("policy.device", "cpu")  # LeRobot takes a GPU where it finds one
        elif said in ("cpu", "mps"):
            self.warnings.append(f"--policy.device={said} leaves the GPU idle: the plan's times and prices are for training on it")

    def dataset(self) -> None:
        workload = self.workload
        root = self.stated("dataset.root") or workload.dataset_root
        where = self.stated("dataset.repo_id") or workload.dataset
        if where is None and root is None:
            raise UsageError("dataset", "a command needs a dataset: --dataset USER/NAME or a local folder")
        if where is None:
            assert root is not None
            where = "local/" + (surroundings.last_part(root) or "dataset")
            if self.target == "hf":
                raise UsageError("dataset", f"a job on hf cannot read {root}: push the dataset to the Hub "
                                 "(--launch --push-dataset) and pass --dataset USER/NAME")
        self.say("dataset.repo_id", where)
        if workload.dataset_episodes is not None:
            self.say("dataset.episodes", list(workload.dataset_episodes))
        if root is None:
            self.pin()
            return
        if self.target == "hf":
            if self.stated("dataset.root") is not None:
                self.remove("dataset.root")
            self.warnings.append(f"--dataset.root={root} is left out: the job reads {where} from the Hub")
        elif self.output.kind == "volume" and not root.startswith(DATASETS.mount + "/"):
            folder = surroundings.folder_name(root)
            self.force("dataset.root", f"{DATASETS.mount}/{folder}", "a container sees only its volumes")
            volume = self.volumes["datasets"].name
            upload = shlex.join(["modal", "volume", "put", volume, root, "/" + folder])
            self.warnings.append("upload the dataset before the first run: "
                                 f"modal volume create {shlex.quote(volume)} (once), then {upload}")
        else:
            self.say("dataset.root", root)

    def pin(self) -> None:
        """The commit that was planned. Every release reads it as it is, where it would else look for the tag of its format.

        (`revision` in datasets/dataset_metadata.py of 0.6.1 and main, datasets/lerobot_dataset.py of 0.4.4: only a version
        such as v3.0 is looked up among the tags.) A resumed run goes on with the revision of its train_config.json.
        """
        if self.workload.dataset_revision is not None and not self.own.boolean("resume"):
            self.say("dataset.revision", self.workload.dataset_revision)

    def length(self) -> None:
        """Batch, steps, checkpoints, workers."""
        estimate, workload = self.estimate, self.workload
        why = "as planned for this row"
        for name, value, default in (("batch_size", estimate.batch_size, DEFAULT_BATCH_SIZE),
                                     ("steps", estimate.steps, DEFAULT_STEPS)):
            if not (self.own.whole and self.stated(name) is None and value == default):
                self.force(name, value, why)
        if not self.own.whole or estimate.attempts > 1:  # another attempt continues from a checkpoint
            self.say("save_freq", estimate.save_freq)
        if workload.num_workers != DEFAULT_NUM_WORKERS:
            self.say("num_workers", workload.num_workers)

    def results(self) -> None:
        """Outputs that outlive the machine."""
        if not self.own.whole:
            self.say("job_name", self.name)
        if self.probe:
            self._thrown_away()
        elif self.output.kind == "hub":
            self._to_hub()
        else:
            self._to_folder()

    def _thrown_away(self) -> None:
        """A probe keeps nothing of what it trains, and logs in short windows, the first of which is dropped."""
        for name in ("save_checkpoint", "policy.push_to_hub"):
            self.force(name, False, "a probe keeps nothing")
        self.force("log_freq", max(1, self.estimate.steps // PROBE_WINDOWS), "a probe logs in short windows")
        if self.output.kind != "hub":
            self.force("output_dir", self.output.where, "a probe has a folder of its own")

    def _to_hub(self) -> None:
        release, repo = self.workload.lerobot, self.output.where
        if repo:
            self.force("policy.repo_id", repo, "the repository asked for")
        if repo or self.form != "lerobot":
            self.force("policy.push_to_hub", True, "the disk is gone when the job ends")
            self.say("policy.private", True)
        if self.estimate.attempts > 1:
            self.warnings.append("another attempt on hf starts from the beginning; to continue from a pushed checkpoint, run "
                                 f"lerobot-train --config_path={repo or 'USER/NAME'} --resume=true")
        self._checkpoints_off()
        lost = "only the final model is pushed: a run that hits its timeout leaves nothing"
        if release == "0.4.4":
            self.warnings.append(f"LeRobot 0.4.4 cannot push checkpoints; {lost}")
        elif repo or self.stated("policy.path") is None and not any(a.startswith("--policy.path=") for a in self.added):
            self.say("save_checkpoint_to_hub", True)
        else:
            self.warnings.append(f"without --repo-id {lost}")

    def _to_folder(self) -> None:
        said = self.stated("output_dir")
        if said is not None and (self.output.kind == "folder" or said.startswith(OUTPUTS.mount + "/")):
            self.output = Output(self.output.kind, said)
        self.force("output_dir", self.output.where, f"only {OUTPUTS.mount} outlives the container")
        if self.output.kind == "volume" and self.own.boolean("save_checkpoint") is False:
            self.force("save_checkpoint", True, "nothing else of the run stays on the volume")
        if self.repo_id:
            self.force("policy.repo_id", self.repo_id, "the repository asked for")
            self.force("policy.push_to_hub", True, "a repository is asked for")
            self.say("policy.private", True)
        elif self.stated("policy.repo_id") is None:
            self.say("policy.push_to_hub", False)  # true is LeRobot's default and demands a repository

    def _checkpoints_off(self) -> None:
        """What the user's own arguments about checkpoints mean where only what is pushed survives."""
        every = self.stated("save_freq")
        if self.own.boolean("save_checkpoint") is False:
            self.warnings.append("--save_checkpoint=false: no checkpoint is pushed, only the final model; "
                                 "a run that stops early leaves nothing")
        elif every is not None and (every.startswith("-") or not every.strip("0_")):
            what = {"0": "stops at its first step (division by zero)"}.get(every, "saves a checkpoint at every step")
            self.warnings.append(f"--save_freq={every}: LeRobot 0.4.4 {what}; leave it out" if self.workload.lerobot == "0.4.4"
                                 else f"--save_freq={every}: only the last checkpoint and the final model are pushed; "
                                 "a run that stops early leaves nothing")

    def drop_job_flags(self) -> None:
        """`--job.*` says where LeRobot should send the run; the place is decided here."""
        kept = ("job.image", "job.tags") if self.form == "lerobot" else ()
        for name in {flag for flag, _ in pasted.spans(self.own.args) if flag and flag.startswith("job.")}:
            if name not in kept:
                self.warnings.append(f"--{name} is left out: the place is {self.target}")
                self.remove(name)

    def image(self) -> str | None:
        if self.target != "hf":
            return None
        if self.form == "lerobot" and (said := self.stated("job.image")):
            return said
        if self.workload.lerobot != IMAGE_RELEASE:
            planned = self.workload.lerobot
            self.warnings.append(f"{IMAGE} holds LeRobot {IMAGE_RELEASE}, the plan is for {planned}: the image does not match; "
                                 f"--emit modal installs {planned}")
        return IMAGE

    def environment(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Variables by value, secrets by name alone."""
        secrets = ["HF_TOKEN"] if self.target != "local" or self.output.kind == "hub" or self.repo_id else []
        wandb = self.stated("wandb.enable")
        if wandb is not None and pasted.boolean("wandb.enable", wandb):
            secrets.append("WANDB_API_KEY")
        own = {"HF_HOME": CACHE.mount} if self.output.kind == "volume" else {}
        env, more, warnings = surroundings.environment(self.workload.environment or self.own.environment, self.target, own)
        self.warnings += warnings
        return env, tuple(dict.fromkeys((*secrets, *more)))
