"""Hugging Face Jobs: an `hf jobs run` line, or LeRobot's own `--job.target`."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from planner import pasted
from planner.deadline import Deadline
from planner.errors import NotAuthorised, PlanError, Unreachable, UsageError
from planner.job import Job, Output
from planner.records import PriceList, Quote
from planner.targets.base import PER_HOUR, install, odd_units, usd
from planner.units import parse_quantity

if TYPE_CHECKING:
    from huggingface_hub import JobHardwareInfo

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


# ------------------------------------------------------------------------------------------ prices

def prices(deadline: Deadline) -> PriceList:
    """What Hugging Face says today of its hardware for jobs; no token is needed, so none is sent.

    The client has no timeout of its own: who calls leaves it behind at the deadline. NotAuthorised, Unreachable.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        listed = _hardware()
    except HfHubHTTPError as error:
        raise _failed(error.response.status_code) from None
    except Exception as error:  # whatever else the client raises, there is no answer that can be used
        raise Unreachable("prices", f"hf: Hugging Face gave no price list ({type(error).__name__}): try again later") from None
    if not listed:
        raise Unreachable("prices", "hf: Hugging Face listed no hardware: try again later")
    quotes = tuple(_quote(one) for one in listed)
    return PriceList(name, "", quotes, remarks=odd_units(name, quotes))


def _hardware() -> list[JobHardwareInfo]:
    from huggingface_hub import HfApi, JobHardwareInfo, get_session, hf_raise_for_status

    api = HfApi(token=False)
    try:
        return api.list_jobs_hardware()
    except KeyError:  # one entry lacks a field, and the client then gives up all of them
        response = get_session().get(f"{api.endpoint}/api/jobs/hardware")
        hf_raise_for_status(response)
        blank = dict.fromkeys(("prettyName", "cpu", "ram", "unitCostMicroUSD", "unitCostUSD", "unitLabel"))
        return [JobHardwareInfo(**blank | entry) for entry in response.json()]


def _failed(status: int) -> PlanError:
    if status in (401, 403):
        return NotAuthorised("prices", f"hf: Hugging Face refused its price list, which needs no login (HTTP {status}): try again later")
    return Unreachable("prices", f"hf: Hugging Face answered HTTP {status}: try again later")


def _quote(one: JobHardwareInfo) -> Quote:
    """VRAM is that of all GPUs together; RAM and disk are decimal, as printed."""
    unit, times = one.unit_label, PER_HOUR.get(one.unit_label or "")
    cost = one.unit_cost_usd
    if cost is None and isinstance(one.unit_cost_micro_usd, int):
        cost = one.unit_cost_micro_usd / 10**6
    price = usd(cost, times or 1)
    gpu = one.accelerator
    return Quote(
        flavor=str(one.name), usd_per_hour=price if times else None,
        gpu=str(gpu.model) if gpu else None, num_gpus=_number(gpu.quantity) if gpu else 0, vram_bytes=_bytes(gpu.vram) if gpu else None,
        vcpus=_number(one.cpu), ram_bytes=_bytes(one.ram), disk_bytes=_bytes(one.ephemeral_storage),
        odd_unit=None if times or price is None else str(unit),
    )


def _number(text: object) -> int | None:
    """`2 vCPU` -> 2; None where no whole number above 0 stands first."""
    match = re.match(r"[1-9]\d{0,4}(?![\d.])", str(text))
    return int(match[0]) if match else None


def _bytes(text: object) -> int | None:
    try:
        return int(parse_quantity(text, "bytes")) or None
    except ValueError:
        return None
