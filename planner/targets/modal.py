"""Modal: one Python script for `modal run` that needs only the `modal` package here and nothing of ours there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from string import Template

from planner.deadline import Deadline
from planner.errors import NotAuthorised, Unreachable, UsageError
from planner.job import Job, Output
from planner.records import PriceList, Quote
from planner.targets.base import PER_HOUR, label, odd_units, usd

name = "modal"

MIB = 2**20
LONGEST_S = 86_400  # Modal's limit for one attempt (modal.com/docs/guide/timeouts)
OUTPUTS = "/outputs"
UV = "0.9.5"  # `latest` would make the image differ from build to build
PYTHON = {"0.4.4": "3.11"}  # LeRobot from 0.5 on needs 3.12
STARTUP_S = 1800  # pulling the image; by default Modal allows as long as for the training
SECRETS = {"HF_TOKEN": "huggingface-secret", "WANDB_API_KEY": "wandb-secret"}


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder on the outputs volume, from which a restarted run continues; a repository can only be added to it."""
    where = posixpath.normpath(output) if output else f"{OUTPUTS}/{run_name}"
    if not where.startswith(OUTPUTS + "/"):
        raise UsageError("output", f"--output {output}: a container on modal keeps only what is below {OUTPUTS}, "
                         f"e.g. --output {OUTPUTS}/{run_name}")
    return Output("volume", where)


def emit(job: Job) -> str:
    """The script. Raises UsageError for a timeout that Modal refuses."""
    assert job.output.kind == "volume", "a run on Modal keeps its outputs on a volume"
    if not 1 <= job.timeout_s <= LONGEST_S:
        raise UsageError("timeout", f"modal stops an attempt after {LONGEST_S} s, {job.timeout_s} s was asked for: "
                         "use --timeout 24h with --attempts; each attempt continues from the last checkpoint")
    template = Template(Path(__file__).with_name("modal_script.py.txt").read_text(encoding="utf-8"))
    mounts = {volume.mount: volume.mount.strip("/").replace("/", "_") for volume in job.volumes}
    return template.substitute(
        needs="\n".join(f"    {line}" for line in needs(job)[:-1]),
        outputs_name=next(volume.name for volume in job.volumes if volume.mount == OUTPUTS),
        output_dir=_rooted(job.output.where, mounts),
        launcher=_block("[]", [_string(token) for token in job.argv[: len(job.argv) - len(job.trainer)]]),
        arguments=_block("[]", [_rooted(token, mounts) for token in job.trainer]),
        environment=_block("{}", [f"{_string(key)}: {_rooted(value, mounts)}" for key, value in job.env.items()]),
        app_name=_string(label(job.name, 64)),
        tags="{" + ", ".join(f"{_string(key)}: {_string(value)}" for key, value in job.labels.items()) + "}",
        python=_string(PYTHON.get(job.lerobot, "3.12")),
        packages=", ".join(_string(package) for package in job.packages),
        uv=_string(UV),
        volumes="".join(
            f"{mounts[volume.mount]} = modal.Volume.from_name({_string(volume.name)}, create_if_missing=True)\n"
            for volume in job.volumes
        ),
        gpu=_string(job.flavor if job.num_gpus == 1 else f"{job.flavor}:{job.num_gpus}"),
        resources=_resources(job),
        timeout=job.timeout_s,
        startup_timeout=job.startup_timeout_s or STARTUP_S,
        retries=f"modal.Retries(initial_delay=0.0, max_retries={job.attempts - 1})" if job.attempts > 1 else "0",
        mounts=_block("{}", [f"ROOT + {_string(mount)}: {name}" for mount, name in mounts.items()], "    "),
        secrets=_block("[]", [_secret(secret) for secret in job.secrets], "    "),
        results=_string(job.output.where.removeprefix(OUTPUTS)),
    )


def needs(job: Job) -> tuple[str, ...]:
    """The `modal` package, an account, and one named secret for each secret variable."""
    secrets = (f"modal secret create {_secret_name(variable)} {variable}=YOUR_VALUE" for variable in job.secrets)
    return ("pip install modal", "modal setup", *secrets, "modal run --detach FILE, where FILE holds this script")


def _resources(job: Job) -> str:
    """CPU in physical cores and memory in MiB: Modal's defaults, 0.125 cores and 128 MiB, starve a data loader."""
    cpu = "" if job.cores is None else f"\n    cpu={job.cores},"
    return cpu + ("" if job.ram_bytes is None else f"\n    memory={-(-job.ram_bytes // MIB)},  # MiB")


def _secret(variable: str) -> str:
    """Modal keeps secrets as named sets of variables; the value never leaves it."""
    return f"modal.Secret.from_name({_string(_secret_name(variable))}, required_keys=[{_string(variable)}])"


def _secret_name(variable: str) -> str:
    return SECRETS.get(variable, variable.lower().replace("_", "-"))


def _rooted(token: str, mounts: dict[str, str]) -> str:
    """Python for a value, or for `--flag=value`; a path below a mount moves with ROOT."""
    flag, value = re.fullmatch(r"(--[\w.]+=)?(.*)", token, re.DOTALL).groups("")  # type: ignore[union-attr]
    if not any(value == mount or value.startswith(mount + "/") for mount in mounts):
        return _string(token)
    return f"{_string(flag)} + ROOT + {_string(value)}" if flag else f"ROOT + {_string(value)}"


def _string(value: str) -> str:
    """A Python literal, with double quotes where that needs no escape."""
    literal = repr(value)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in value else literal


def _block(brackets: str, items: list[str], indent: str = "") -> str:
    """A list or a dict: on one line where it is short, else one item a line."""
    line = brackets[0] + ", ".join(items) + brackets[1]
    if len(line) <= 88:
        return line
    inner = "".join(f"{indent}    {item},\n" for item in items)
    return f"{brackets[0]}\n{inner}{indent}{brackets[1]}"


# ------------------------------------------------------------------------------------------ prices

_GPU_KEY, _OTHER_KEY = re.compile(r"gpu_([a-z]+)_cost_(\w+)"), re.compile(r"(gpu|cpu|mem)_.*cost.*")
#: keys of the bill whose GPU has another name in gpu=…; the rest are that name in lower case
_NAMES = {"a10g": "A10", "rtx6000": "RTX-PRO-6000"}
_GPUS = {"rtx6000": "RTX PRO 6000"}
#: keys of what a training does not use: sandboxes and notebooks cost three times as much
_OTHERS = ("cpu_hour_cost_sandbox", "mem_gib_hour_cost_sandbox")


#: part of what is left of the deadline that a call may take: one that is given up in time leaves nothing to be cleared away
_IN_TIME = 0.85


def prices(deadline: Deadline) -> PriceList:
    """What Modal says today of its rates, asked with the user's own token. NotAuthorised, Unreachable, TimeoutError."""
    import asyncio

    from modal import Workspace
    from modal.exception import AuthError, Error, PermissionDeniedError

    async def ask() -> Mapping[str, Decimal]:
        return await asyncio.wait_for(Workspace.from_context().billing.rates.aio(), _IN_TIME * deadline.remaining())

    try:
        rates = dict(asyncio.run(ask()))
    except AuthError as error:
        missing = "Token missing" in str(error) or "was not found" in str(error)
        what = "no Modal token is set" if missing else "Modal refused the token"
        raise NotAuthorised("prices", f"modal: {what}: run modal token new, or leave Modal out with --target hf") from None
    except PermissionDeniedError:
        raise NotAuthorised("prices", "modal: the token may not read the workspace's rates: use one of a member of the workspace") from None
    except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
        raise TimeoutError from None
    except Exception as error:  # gRPC's own errors are not modal.exception.Error, and rates that are no numbers are neither
        kind = type(error).__name__ if isinstance(error, Error) else f"{type(error).__name__}, not an answer of Modal's"
        raise Unreachable("prices", f"modal: Modal gave no rates ({kind}): try again later") from None
    return _price_list(rates)


def _price_list(rates: Mapping[str, Decimal]) -> PriceList:
    """Rates are dollars per hour of one GPU, one physical core, one GiB; what has another unit is left out and said."""
    quotes, remarks = [], []
    for key, value in sorted(rates.items()):
        gpu = _GPU_KEY.fullmatch(key)
        if gpu:
            unit, name_ = gpu.groups()
            flavor, times = _NAMES.get(name_, name_.upper().replace("_", "-")), PER_HOUR.get(unit)
            odd = unit if times is None and usd(value) is not None else None
            quotes.append(Quote(flavor, usd(value, times) if times else None, gpu=_GPUS.get(name_, name_), num_gpus=1, per_gpu=True,
                                odd_unit=odd))
        elif key in ("cpu_hour_cost", "mem_gib_hour_cost"):
            if usd(value) is None:
                remarks.append(f"modal {key}: {value} is no price: the rate of the catalogue is used")
        elif _OTHER_KEY.fullmatch(key) and key not in _OTHERS:
            remarks.append(f"modal {key}: a unit that is not known: it is not used")
    if not quotes:
        raise Unreachable("prices", "modal: Modal listed no GPU rates: try again later")
    remarks += odd_units(name, quotes)
    return PriceList(name, "", tuple(quotes), usd(rates.get("cpu_hour_cost")), usd(rates.get("mem_gib_hour_cost")), tuple(remarks))
