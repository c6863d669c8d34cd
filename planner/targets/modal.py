"""Modal: one Python script for `modal run` that needs only the `modal` package here and nothing of ours there; a launch runs it, too.

`_modal_api` is the connection, `_modal_checks` looks before a launch, `_modal_run` starts and asks, `_modal_logs` reads log and bill,
`_modal_files` the volumes.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from planner.deadline import Deadline
from planner.doctor import Ask
from planner.errors import UsageError
from planner.job import Check, Handle, Job, Output, Status, Usage
from planner.records import PriceList
from planner.targets.base import Limits, label

name = "modal"

MIB = 2**20
LABEL = "plan-run-id"
LONGEST_S = 86_400  # Modal's limit for one attempt (modal.com/docs/guide/timeouts)
MOST_GPUS, FEWER_GPUS = 8, {"A10": 4, "A10G": 4}  # in one container (modal.com/docs/guide/gpu)
OUTPUTS = "/outputs"
UV = "0.9.5"  # `latest` would make the image differ from build to build
PYTHON, NEWEST_PYTHON = {"0.4.4": "3.11"}, "3.12"  # LeRobot from 0.5 on needs 3.12
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


def emit(job: Job) -> str:
    """The script, which `submit` runs as well. Raises UsageError for what Modal's client takes and Modal refuses."""
    assert job.output.kind == "volume", "a run on Modal keeps its outputs on a volume"
    refuse(job)
    template = Template(Path(__file__).with_name("modal_script.py.txt").read_text(encoding="utf-8"))
    mounts = {volume.mount: volume.mount.strip("/").replace("/", "_") for volume in job.volumes}
    return template.substitute(
        needs="\n".join(f"    {line}" for line in needs(job)[:-1]),
        outputs_name=next(volume.name for volume in job.volumes if volume.mount == OUTPUTS),
        output_dir=_rooted(job.output.where, mounts),
        launcher=_block("[]", [_string(token) for token in job.argv[: len(job.argv) - len(job.trainer)]]),
        arguments=_block("[]", [_rooted(token, mounts) for token in job.trainer]),
        environment=_block("{}", [f"{_string(key)}: {_rooted(value, mounts)}" for key, value in job.env.items()]),
        app_name=_string(app_name(job)),
        run=_string(job.labels[LABEL]),
        attempts=job.attempts,
        tags="{" + ", ".join(f"{_string(key)}: {_string(value)}" for key, value in job.labels.items()) + "}",
        python=_string(PYTHON.get(job.lerobot, NEWEST_PYTHON)),
        packages=", ".join(_string(package) for package in job.packages),
        uv=_string(UV),
        volumes="".join(
            f"{mounts[volume.mount]} = modal.Volume.from_name({_string(volume.name)}, create_if_missing=True)\n"
            for volume in job.volumes
        ),
        gpu=_string(gpu(job)),
        resources=_resources(job),
        timeout=job.timeout_s,
        startup_timeout=job.startup_timeout_s or STARTUP_S,
        retries=f"modal.Retries(initial_delay=0.0, max_retries={job.attempts - 1})" if job.attempts > 1 else "0",
        mounts=_block("{}", [f"ROOT + {_string(mount)}: {name}" for mount, name in mounts.items()], "    "),
        secrets=_block("[]", [_secret(variable, job.secret_names or {}) for variable in job.secrets], "    "),
        results=_string(job.output.where.removeprefix(OUTPUTS)),
    )


def needs(job: Job) -> tuple[str, ...]:
    """The `modal` package, an account, and one named secret for each secret variable."""
    secrets = job.secret_names or {}
    create = (f"modal secret create {shlex.quote(secret_name(one, secrets))} {one}=YOUR_VALUE" for one in job.secrets)
    return ("pip install modal", "modal setup", *create, "modal run --detach FILE, where FILE holds this script")


def refuse(job: Job) -> None:
    """UsageError for what Modal refuses only when it is running, if at all: its client takes any GPU, count and timeout."""
    if not 1 <= job.timeout_s <= LONGEST_S:
        raise UsageError("timeout", f"modal stops an attempt after {LONGEST_S} s, {job.timeout_s} s was asked for: "
                         "use --timeout 24h with --attempts; each attempt continues from the last checkpoint")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+!-]*", job.flavor):
        raise UsageError("gpu", f"{job.flavor!r} is no GPU of modal: plan gpus lists them")
    most = FEWER_GPUS.get(job.flavor.upper(), MOST_GPUS)
    if not 1 <= job.num_gpus <= most:
        raise UsageError("num-gpus", f"a container on modal has 1 to {most} {job.flavor}, {job.num_gpus} were asked for: --num-gpus {most}")


def gpu(job: Job) -> str:
    """`gpu=` of the function, as in L40S or H100:4."""
    return job.flavor if job.num_gpus == 1 else f"{job.flavor}:{job.num_gpus}"


def app_name(job: Job) -> str:
    """The app's name, by which a launch whose reply was lost is found: the run's id."""
    return label(job.labels[LABEL], 64)


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


# ------------------------------------------------------------------------------------ running


def limits() -> Limits:
    """24 h an attempt; how often a call may be repeated is not published."""
    return Limits(timeout_s=LONGEST_S, attempts=None, num_gpus=MOST_GPUS)


def account(namespace: str | None) -> str:
    """The workspace of the token."""
    from planner.targets import _modal_checks

    return namespace or _modal_checks.workspace()


def preflight(job: Job) -> tuple[Check, ...]:
    from planner.targets import _modal_checks

    return _modal_checks.checks(job)


def request(job: Job) -> dict[str, Any]:
    """The app, what it is built from, and the script that makes it."""
    script = emit(job)
    image = {"debian_slim": PYTHON.get(job.lerobot, NEWEST_PYTHON), "apt": ["ffmpeg", "git"], "packages": list(job.packages), "uv": UV}
    return {
        "app": app_name(job), "tags": job.labels,
        "function": {
            "gpu": gpu(job), "cpu": job.cores, "memory_mib": None if job.ram_bytes is None else -(-job.ram_bytes // MIB),
            "timeout": job.timeout_s, "startup_timeout": job.startup_timeout_s or STARTUP_S, "retries": job.attempts - 1,
            "max_containers": 1,
        },
        "image": {**image, "sha256": sha256(repr(sorted(image.items())).encode()).hexdigest()},
        "volumes": {volume.mount: volume.name for volume in job.volumes},
        "secrets": {secret_name(variable, job.secret_names or {}): {variable: "***"} for variable in job.secrets},
        "environment": job.env, "command": list(job.argv), "script": script,
    }  # fmt: skip


def submit(job: Job) -> Handle:
    from planner.targets import _modal_run

    return _modal_run.submit(job)


def find(job: Job) -> Handle | None:
    from planner.targets import _modal_run

    return _modal_run.find(job)


def status(handle: Handle) -> Status:
    from planner.targets import _modal_run

    return _modal_run.status(handle)


def logs(handle: Handle, *, follow: bool) -> Iterator[str]:
    from planner.targets import _modal_logs

    return _modal_logs.lines(handle, follow=follow)


def usage(handle: Handle) -> Usage | None:
    """Modal's client gives measurements as series of an app's past, none of the moment."""
    return None


def cancel(handle: Handle) -> None:
    from planner.targets import _modal_run

    _modal_run.cancel(handle)


def fetch(handle: Handle, job: Job, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    from planner.targets import _modal_files

    return _modal_files.fetch(handle["volume"], handle["folder"], to.expanduser(), progress)


def checkpoint(handle: Handle, job: Job) -> Path | None:
    """They lie on the outputs volume, where a run that starts again goes on by itself."""
    return None


def bill(handle: Handle) -> Decimal | None:
    from planner.targets import _modal_logs

    return _modal_logs.bill(handle)
