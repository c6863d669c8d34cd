"""Modal: one Python script for `modal run` that needs only the `modal` package here and nothing of ours there."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from planner.deadline import Deadline
from planner.doctor import Ask
from planner.errors import UsageError
from planner.job import Job, Output
from planner.records import PriceList
from planner.targets.base import label

name = "modal"

MIB = 2**20
LONGEST_S = 86_400  # Modal's limit for one attempt (modal.com/docs/guide/timeouts)
OUTPUTS = "/outputs"
UV = "0.9.5"  # `latest` would make the image differ from build to build
PYTHON = {"0.4.4": "3.11"}  # LeRobot from 0.5 on needs 3.12
STARTUP_S = 1800  # pulling the image; by default Modal allows as long as for the training
SECRETS = {"HF_TOKEN": "huggingface-secret", "WANDB_API_KEY": "wandb-secret"}
VARIABLES = {"hf": "HF_TOKEN", "wandb": "WANDB_API_KEY"}  # as planner.toml calls their secrets


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder on the outputs volume, from which a restarted run continues; a repository can only be added to it."""
    where = posixpath.normpath(output) if output else f"{OUTPUTS}/{run_name}"
    if not where.startswith(OUTPUTS + "/"):
        raise UsageError("output", f"--output {output}: a container on modal keeps only what is below {OUTPUTS}, "
                         f"e.g. --output {OUTPUTS}/{run_name}")
    return Output("volume", where)


def emit(job: Job, secrets: Mapping[str, str] = SECRETS) -> str:
    """The script. `secrets` names the Modal secret of a variable where it is not the usual one.

    Raises UsageError for a timeout that Modal refuses.
    """
    assert job.output.kind == "volume", "a run on Modal keeps its outputs on a volume"
    if not 1 <= job.timeout_s <= LONGEST_S:
        raise UsageError("timeout", f"modal stops an attempt after {LONGEST_S} s, {job.timeout_s} s was asked for: "
                         "use --timeout 24h with --attempts; each attempt continues from the last checkpoint")
    template = Template(Path(__file__).with_name("modal_script.py.txt").read_text(encoding="utf-8"))
    mounts = {volume.mount: volume.mount.strip("/").replace("/", "_") for volume in job.volumes}
    return template.substitute(
        needs="\n".join(f"    {line}" for line in needs(job, secrets)[:-1]),
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
        secrets=_block("[]", [_secret(variable, secrets) for variable in job.secrets], "    "),
        results=_string(job.output.where.removeprefix(OUTPUTS)),
    )


def needs(job: Job, secrets: Mapping[str, str] = SECRETS) -> tuple[str, ...]:
    """The `modal` package, an account, and one named secret for each secret variable."""
    create = (f"modal secret create {shlex.quote(secret_name(one, secrets))} {one}=YOUR_VALUE" for one in job.secrets)
    return ("pip install modal", "modal setup", *create, "modal run --detach FILE, where FILE holds this script")


def _resources(job: Job) -> str:
    """CPU in physical cores and memory in MiB: Modal's defaults, 0.125 cores and 128 MiB, starve a data loader."""
    cpu = "" if job.cores is None else f"\n    cpu={job.cores},"
    return cpu + ("" if job.ram_bytes is None else f"\n    memory={-(-job.ram_bytes // MIB)},  # MiB")


def _secret(variable: str, secrets: Mapping[str, str]) -> str:
    """Modal keeps secrets as named sets of variables; the value never leaves it."""
    return f"modal.Secret.from_name({_string(secret_name(variable, secrets))}, required_keys=[{_string(variable)}])"


def secret_name(variable: str, secrets: Mapping[str, str] = SECRETS) -> str:
    """The Modal secret that holds this variable."""
    return secrets.get(variable) or SECRETS.get(variable) or variable.lower().replace("_", "-")


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


def prices(deadline: Deadline) -> PriceList:
    """Today's rates, asked with the user's own token. NotAuthorised, Unreachable, TimeoutError."""
    from planner.targets import _modal_prices

    return _modal_prices.prices(deadline)


def checkup(*, secrets: Mapping[str, str], volumes: Sequence[str], num_gpus: int | None, offline: bool) -> list[Ask]:
    """What `plan doctor` asks of Modal. `secrets` and `volumes` are the names under which a run looks for them."""
    from planner.targets import _modal_doctor

    return _modal_doctor.checkup(secrets=secrets, volumes=volumes, num_gpus=num_gpus, offline=offline)
