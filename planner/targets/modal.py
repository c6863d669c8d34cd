"""Modal: one Python script for `modal run` that needs only the `modal` package here and nothing of ours there."""

from __future__ import annotations

import json
import posixpath
import shlex
from pathlib import Path
from string import Template

from planner.errors import UsageError
from planner.job import Job, Output
from planner.units import GIB

name = "modal"

LONGEST_S = 86_400  # Modal's limit for one attempt (modal.com/docs/guide/timeouts)
OUTPUTS = "/outputs"
UV = "0.9.5"  # `latest` would make the image differ from build to build
PYTHON = {"0.4.4": "3.11"}  # LeRobot from 0.5 on needs 3.12
STARTUP_S = 1800  # pulling the image; by default Modal allows as long as for the training
SECRETS = {"HF_TOKEN": "huggingface-secret", "WANDB_API_KEY": "wandb-secret"}


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A folder on the outputs volume, or a model repository where only that was named."""
    if repo_id and not output:
        return Output("hub", repo_id)
    where = posixpath.normpath(output) if output else f"{OUTPUTS}/{run_name}"
    if not where.startswith(OUTPUTS + "/"):
        raise UsageError("output", f"--output {output}: a container on modal keeps only what is below {OUTPUTS}, "
                         f"e.g. --output {OUTPUTS}/{run_name}")
    return Output("volume", where)


def emit(job: Job) -> str:
    """The script. Raises UsageError for a timeout that Modal refuses."""
    if not 1 <= job.timeout_s <= LONGEST_S:
        raise UsageError("timeout", f"modal stops an attempt after {LONGEST_S} s, {job.timeout_s} s was asked for: "
                         "use --timeout 24h and --attempts, each attempt continues from the last checkpoint")
    template = Template(Path(__file__).with_name("modal_script.py.txt").read_text(encoding="utf-8"))
    launcher = job.argv[: len(job.argv) - len(job.trainer)]
    label = next(iter(job.labels.values()), "plan")
    volumes = {volume.mount: _identifier(volume.name) for volume in job.volumes}
    return template.substitute(
        outputs_name=next((v.name for v in job.volumes if v.mount == OUTPUTS), "that the script names"),
        output_dir=_expression(job.output.where, volumes),
        launcher=_list([repr(token) for token in launcher], ""),
        arguments=_list([_expression(token, volumes) for token in job.trainer], ""),
        environment=_dict({key: _expression(value, volumes) for key, value in job.env.items()}, ""),
        app_name=repr(label),
        tags=repr(job.labels),
        python=repr(PYTHON.get(job.lerobot, "3.12")),
        packages=", ".join(_string(package) for package in job.packages),
        uv=repr(UV),
        volumes="".join(
            f"{_identifier(v.name)} = modal.Volume.from_name({_string(v.name)}, create_if_missing=True)\n" for v in job.volumes
        ) + f"VOLUMES = [{', '.join(volumes.values())}]\n",
        gpu=_string(job.flavor if job.num_gpus == 1 else f"{job.flavor}:{job.num_gpus}"),
        resources=_resources(job),
        timeout=job.timeout_s,
        startup_timeout=job.startup_timeout_s or STARTUP_S,
        retries=f"modal.Retries(initial_delay=0.0, max_retries={job.attempts - 1})" if job.attempts > 1 else "0",
        mounts=_dict({mount: identifier for mount, identifier in volumes.items()}, "    ", rooted=True),
        secrets=_list([_secret(secret) for secret in job.secrets], "    "),
        results=_string(""),
    )
