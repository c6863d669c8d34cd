"""Hugging Face Jobs: an `hf jobs run` line, or LeRobot's own `--job.target`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence

from planner import pasted
from planner.deadline import Deadline
from planner.doctor import Ask
from planner.errors import UsageError
from planner.job import Job, Output
from planner.records import PriceList
from planner.targets.base import install

name = "hf"

DEFAULT_IMAGE = "huggingface/lerobot-gpu:latest"  # what `--job.image` says where it is not given


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A model repository: the container's disk is gone when the job ends. Without one, the user is asked for it."""
    where = repo_id or output
    if not where:
        raise UsageError("repo-id", "a job on hf keeps only what it pushes: name the model repository, "
                         f"e.g. --repo-id USER/{run_name}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", where):
        raise UsageError("repo-id", f"--repo-id {where}: expected USER/NAME of a model repository")
    return Output("hub", where)


def emit(job: Job, namespace: str | None = None) -> str:
    """One `hf jobs run` line. `--` stands before the image: without it `hf` takes the trainer's flags for its own."""
    assert job.image is not None, "a job on Hugging Face runs in a registry image"
    options = ["--flavor", job.flavor, "--timeout", duration(job.timeout_s)]
    if job.attempts > 1:
        options += ["--attempts", str(job.attempts)]
    for secret in job.secrets:
        options += ["--secrets", secret]
    for key, value in job.env.items():
        options += ["--env", f"{key}={_dotenv(key, value)}"]
    for key, value in job.labels.items():
        options += ["--label", f"{key}={value}"]
    if namespace:
        options += ["--namespace", namespace]
    return shlex.join(["hf", "jobs", "run", *options, "--detach", "--", job.image, *job.argv])


def emit_lerobot(job: Job) -> str:
    """`lerobot-train … --job.target=FLAVOR`: LeRobot submits the job itself, from an environment that has LeRobot."""
    if job.lerobot == "0.4.4":
        raise UsageError("emit", "LeRobot 0.4.4 has no --job.target: use --emit hf, or --lerobot-version 0.6.1")
    if job.num_gpus > 1:
        raise UsageError("emit", f"--job.target starts one process and {job.flavor} has {job.num_gpus} GPUs: "
                         "use --emit hf, or --num-gpus 1")
    flags = [f"--job.target={job.flavor}", f"--job.timeout={duration(job.timeout_s)}"]
    if job.image != DEFAULT_IMAGE and pasted.value_of(job.trainer, "job.image") is None:
        flags.append(f"--job.image={job.image}")
    if pasted.value_of(job.trainer, "job.tags") is None:
        flags.append("--job.tags=" + json.dumps([f"{key}-{value}" for key, value in job.labels.items()]))
    environment = [f"{key}={shlex.quote(value)}" for key, value in job.env.items()]
    return " ".join([*environment, shlex.join([pasted.TRAINER, *job.trainer, *flags, "--job.detach=true"])])


def needs(job: Job) -> tuple[str, ...]:
    """The `hf` CLI with a login; secrets other than the token are taken from the shell."""
    return (
        "the hf command: pip install 'huggingface_hub>=2.4'",
        *_account(),
        *(f"{name} set in the shell, from which hf takes the secret" for name in job.secrets if name != "HF_TOKEN"),
    )


def needs_lerobot(job: Job) -> tuple[str, ...]:
    """For `emit_lerobot`: an environment with LeRobot, which submits the job."""
    return (f"an environment with {install(job)}", *_account())


def _account() -> tuple[str, str]:
    return "hf auth login", "a positive credit balance: the run bills the account that it runs under"


def duration(seconds: int) -> str:
    """Whole hours as `4h`, else seconds; both forms are Hugging Face's own."""
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


def _dotenv(key: str, value: str) -> str:
    """The value as `hf jobs run --env` reads it: one line of a .env file, with its escapes."""
    if re.fullmatch(r"[\w./:,@%+=-]*", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if len(escaped.splitlines()) > 1:
        raise UsageError("environment", f"{key}: hf jobs run cannot pass this line separator in a variable")
    return f'"{escaped}"'


def prices(deadline: Deadline) -> PriceList:
    """Today's hardware and prices; no token is needed, so none is sent. NotAuthorised, Unreachable."""
    from planner.targets import _hf_prices

    return _hf_prices.prices(deadline)


def checkup(
    *, namespace: str | None, models: Sequence[str], dataset: str | None, release: str, image: tuple[str, str], offline: bool,
    clock: Callable[[], float],
) -> list[Ask]:  # fmt: skip
    """What `plan doctor` asks of Hugging Face. `models` and `dataset` are Hub ids; `image` is its name and the LeRobot in it."""
    from planner.targets import _hf_doctor

    return _hf_doctor.checkup(namespace=namespace, models=models, dataset=dataset, release=release, image=image, offline=offline,
                              clock=clock)  # fmt: skip
