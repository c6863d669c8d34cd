"""The values of a job's secrets, which travel in its request and nowhere else."""

from __future__ import annotations

import netrc
import os
from pathlib import Path

from planner.errors import NotAuthorised
from planner.job import Job
from planner.targets import _hf_api as hub


def values(job: Job) -> dict[str, str]:
    """The values behind the names. Raises NotAuthorised that names what is missing."""
    found = {variable: value_of(variable) for variable in job.secrets}
    if missing := [variable for variable, value in found.items() if not value]:
        more = "; or run `wandb login`" if "WANDB_API_KEY" in missing else ""
        raise NotAuthorised("secret", f"the job needs {', '.join(missing)}, which this shell does not have: export it{more}")
    return {variable: value for variable, value in found.items() if value}


def value_of(variable: str) -> str | None:
    """The login's token, the shell's variable, and W&B's key also from ~/.netrc."""
    if variable == "HF_TOKEN":
        return hub.token()
    return os.environ.get(variable) or (_netrc("api.wandb.ai") if variable == "WANDB_API_KEY" else None)


def _netrc(host: str) -> str | None:
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        entry = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None
