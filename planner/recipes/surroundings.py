"""What a pasted command takes from this machine: variables, secrets, paths. Elsewhere they mean nothing, or too much."""

from __future__ import annotations

import re
from pathlib import Path

from planner import datasets
from planner.errors import UsageError
from planner.pasted import Pasted

_SECRET = re.compile(r"TOKEN(?!IZ)|KEY|SECRET|PASS|PWD|CREDENTIAL|AUTH|(?<![A-Z])PAT(?![A-Z])")  # TOKENIZERS_PARALLELISM is none
_SWITCH = re.compile(r"[01]?|true|false|yes|no|on|off", re.IGNORECASE)  # HF_HUB_DISABLE_IMPLICIT_TOKEN=1 keeps no secret
_PLACE_BOUND = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_PATHS = ("policy.path", "policy.pretrained_path", "config_path")


def is_secret(name: str, value: str) -> bool:
    """Whether a variable's value must not be printed, judged by its name."""
    return _SECRET.search(name.upper()) is not None and not _SWITCH.fullmatch(value)


def environment(
    said: tuple[tuple[str, str], ...], target: str, own: dict[str, str]
) -> tuple[dict[str, str], list[str], list[str]]:
    """(variables by value, names of secrets, warnings) of the variables in front of a command.

    `own` are the job's variables; away from this machine they win.
    """
    env, secrets, warnings = dict(own), [], []
    for key, value in said:
        if is_secret(key, value):
            secrets.append(key)
            source = "set it in the shell that runs this" if target == "local" else "the job takes it from a secret of that name"
            warnings.append(f"the value of {key} is left out: {source}")
        elif key in own:
            warnings.append(f"{key}={value} is left out: the job sets {key}={own[key]}")
        elif key in _PLACE_BOUND and target != "local":
            warnings.append(f"{key}={value} is left out: it names GPUs of this machine")
        else:
            env[key] = value
    return env, secrets, warnings


def refuse_paths(own: Pasted, target: str, mounts: tuple[str, ...]) -> None:
    """UsageError for weights or a configuration on this machine's disk, which a job elsewhere cannot read.

    `mounts` are the folders that the job sees as volumes.
    """
    for name in _PATHS:
        path = own.get(name)
        if path is None or any(path.startswith(mount + "/") for mount in mounts):
            continue
        if datasets.looks_like_path(path) or datasets.exists(path):
            volumes = " or put it on a volume and name its path below " + " or ".join(mounts) if mounts else ""
            raise UsageError("local-path", f"--{name}={path} is on this machine, which a job on {target} cannot read: "
                             f"push it to the Hub and write USER/NAME{volumes}")


def last_part(path: str) -> str:
    """The name of a folder, whichever way its path is written; empty for the root."""
    return path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def folder_name(path: str) -> str:
    """A name for this folder on a volume: its own and six digits, so that two folders called `data` stay apart."""
    from hashlib import sha256

    digits = sha256(str(Path(path).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{last_part(path) or 'dataset'}-{digits}"
