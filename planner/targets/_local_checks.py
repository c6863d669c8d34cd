"""What a launch on this machine needs, looked at before it: nothing is started, written or fetched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from planner import datasets, pasted, trainer
from planner.errors import UsageError
from planner.job import Check, Job
from planner.targets.base import install
from planner.units import GB

#: A checkpoint of the smallest policy that is worth training (ACT: weights and two moments, 0.6 GB), three times.
LEAST_FREE_BYTES = 2 * GB


def checks(job: Job, folder: Path, env: dict[str, str], alive: Sequence[str]) -> tuple[Check, ...]:
    """All checks. `folder` is where the run starts, `env` its environment, `alive` the other runs of this machine."""
    return (
        *_trainer(job, env), _attempts(job), _output(job, folder), _disk(job, folder), _dataset(job, folder, env),
        *(_secret(name, env) for name in job.secrets), _others(alive),
    )  # fmt: skip


def _trainer(job: Job, env: dict[str, str]) -> tuple[Check, ...]:
    """Whether it is there, of the planned release, and sees the GPUs that were asked for."""
    try:
        found = trainer.find(job.trainer_at)
        if "/" not in job.argv[0]:
            found.program(job.argv[0])
    except UsageError as error:
        return (Check("trainer", False, error.text, f"{install(job)} in an environment of its own"),)
    facts = trainer.ask(found, env)
    return Check("trainer", True, str(found.programs)), _release(job, facts), _gpu(job, facts)


def _release(job: Job, facts: trainer.Facts) -> Check:
    if facts.lerobot is None:
        return Check("lerobot", False, facts.trouble or "LeRobot is not installed there", f"{install(job)} in that environment")
    if facts.lerobot == job.lerobot:
        return Check("lerobot", True, f"LeRobot {facts.lerobot}")
    text = f"LeRobot {facts.lerobot} is there, the command is for {job.lerobot}"
    near = job.lerobot == "main" or facts.lerobot.split(".")[:2] == job.lerobot.split(".")[:2]
    known = next((one for one in ("0.4.4", "0.6.1") if one.split(".")[:2] == facts.lerobot.split(".")[:2]), "main")
    return Check("lerobot", None if near else False, text, "" if near else f"--lerobot-version {known}, or {install(job)}")


def _gpu(job: Job, facts: trainer.Facts) -> Check:
    """The guard: a GPU that was asked for and that torch cannot use would be hours of training on a CPU."""
    asked = pasted.value_of(job.trainer, "policy.device") or _device(job.gpu)
    cpu = "or train on the CPU with -- --policy.device=cpu"
    if asked == "cpu":
        return Check("gpu", True, "trains on the CPU")
    if facts.cards is None:
        return Check("gpu", False, f"its torch does not load: {facts.trouble}", f"mend that environment: {install(job)}")
    if asked == "mps":
        return Check("gpu", facts.mps, "Apple's GPU" if facts.mps else "torch sees no Apple GPU", "" if facts.mps else
                     f"install a torch for Apple silicon, {cpu}")
    if len(facts.cards) < job.num_gpus:
        seen = f"torch sees {len(facts.cards)}: {', '.join(facts.cards)}" if facts.cards else "torch sees none (torch.cuda)"
        fix = f"--num-gpus {len(facts.cards)}" if facts.cards else "look at nvidia-smi and CUDA_VISIBLE_DEVICES, install a torch " \
            f"for CUDA, {cpu}"
        return Check("gpu", False, f"{job.num_gpus} × {job.gpu} asked for and {seen}", fix)
    return Check("gpu", True, ", ".join(facts.cards[: job.num_gpus]))


def _device(gpu: str) -> str:
    """What LeRobot chooses by itself on this kind of GPU."""
    return "cpu" if gpu == "cpu" else "mps" if re.match(r"m\d", gpu) else "cuda"


def _attempts(job: Job) -> Check:
    if job.attempts > 1:
        return Check("attempts", False, f"{job.attempts} attempts asked for, and a run on this machine has one",
                     "leave --attempts out; `plan resume` continues from the last checkpoint")
    return Check("attempts", True, "1")


def _output(job: Job, folder: Path) -> Check:
    where = folder / Path(job.output.where).expanduser()
    resume = pasted.value_of(job.trainer, "resume")
    if resume is not None and pasted.boolean("resume", resume):
        config = folder / (pasted.value_of(job.trainer, "config_path") or "")
        there = config.is_file() or (config / "train_config.json").is_file()
        return Check("output", there, f"continues from {config}" if there else f"{config} is no checkpoint's configuration",
                     "" if there else "--config_path names pretrained_model/train_config.json of a checkpoint")  # fmt: skip
    if where.exists():
        return Check("output", False, f"{where} exists, which LeRobot refuses", "--output FOLDER, or `plan resume` to continue that run")
    return Check("output", True, str(where))


def _disk(job: Job, folder: Path) -> Check:
    where = folder / Path(job.output.where).expanduser()
    there = next(path for path in (where, *where.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Check("disk", False, f"{there} cannot be written", "--output FOLDER")
    free = shutil.disk_usage(there).free
    enough = free >= LEAST_FREE_BYTES
    return Check("disk", enough, f"{free / GB:.0f} GB free in {there}", "" if enough else "free some, or --output on another disk")


def _dataset(job: Job, folder: Path, env: dict[str, str]) -> Check:
    root, repo = pasted.value_of(job.trainer, "dataset.root"), pasted.value_of(job.trainer, "dataset.repo_id") or ""
    if root is None:
        home = Path(env.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
        cached = Path(env.get("HF_LEROBOT_HOME") or home / "lerobot").expanduser() / repo
        if not repo or not (cached / "meta" / "info.json").is_file():
            return Check("dataset", None, f"{repo or 'the dataset'} is fetched from the Hub when the run starts")
        root = str(cached)
    try:
        found = datasets.read_local(folder / Path(root).expanduser())
    except UsageError as error:
        return Check("dataset", False, error.text, "--dataset FOLDER of a LeRobotDataset")
    for _, text in found.warnings(job.lerobot):
        what, _, fix = text.partition("; ")
        return Check("dataset", False, what, fix)
    return Check("dataset", True, f"{found.frames:,} frames in {found.root}")


def _secret(name: str, env: dict[str, str]) -> Check:
    """By name; the value is neither kept nor shown."""
    if env.get(name):
        return Check("secret", True, f"{name} is set", exit_code=6)
    if name == "HF_TOKEN":
        from huggingface_hub import get_token

        if get_token():
            return Check("secret", True, "HF_TOKEN as hf auth login keeps it", exit_code=6)
        return Check("secret", False, "HF_TOKEN is not set and nobody is logged in", "hf auth login", 6)
    if name == "WANDB_API_KEY" and _in_netrc("api.wandb.ai"):
        return Check("secret", True, "WANDB_API_KEY from the netrc file", exit_code=6)
    return Check("secret", False, f"{name} is not set", "wandb login" if name == "WANDB_API_KEY" else f"export {name}=…", 6)


def _in_netrc(host: str) -> bool:
    import netrc

    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _others(alive: Sequence[str]) -> Check:
    if not alive:
        return Check("others", True, "no other run on this machine")
    return Check("others", None, f"{', '.join(alive)} {'is' if len(alive) == 1 else 'are'} running on this machine: they share its GPU "
                 "and memory", f"plan cancel {alive[0]}, or wait for its end")  # fmt: skip
