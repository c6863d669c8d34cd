"""Modal: one Python script for `modal run` that needs only the `modal` package here and nothing of ours there."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template

from planner.doctor import FAIL, OK, UNKNOWN, WARN, Ask, Check, failed
from planner.errors import NotAuthorised, Unreachable, UsageError
from planner.job import Job, Output
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


# ------------------------------------------------------------------------------------------ what a launch needs

USAGE = "https://modal.com/settings/usage"


def checkup(*, secrets: Mapping[str, str], volumes: Sequence[str], num_gpus: int | None, offline: bool) -> list[Ask]:
    """What to ask of Modal. `secrets` and `volumes` are the names under which a run looks for them."""
    if offline:
        return [Ask(name, "account", lambda: [_token_here()])]
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a call left behind at the deadline complains when the process ends
    if _token_here().status == FAIL:  # nothing else would be answered
        rest = Check(name, "workspace, secrets, volumes, limits", UNKNOWN, "not asked without a token")
        return [Ask(name, "account", lambda: [_token_here(), rest])]
    return [
        Ask(name, "account", _account),
        Ask(name, "limits", lambda: _limits(num_gpus or 1)),
        *(Ask(name, f"secret {secret_name(variable, secrets)}", _secret_there(variable, secrets)) for variable in SECRETS),
        *(Ask(name, f"volume {volume}", _volume_there(volume)) for volume in volumes),
    ]


def _token_here() -> Check:
    """Whether there is a token, and where from; by name alone."""
    try:
        from modal import config
    except Exception as error:  # modal reads its file when it is imported
        return failed(name, "token", f"modal cannot read its configuration ({type(error).__name__})",
                      "mend ~/.modal.toml, or move it away and run modal setup", NotAuthorised)
    file = f"{config.user_config_path}, profile {getattr(config, '_profile', 'default')}"
    if config.config.get("oauth_refresh_token"):
        return Check(name, "token", OK, "OAuth credentials")
    source = "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET" if os.environ.get("MODAL_TOKEN_ID") else file
    if config.config.get("token_id") and config.config.get("token_secret"):
        return Check(name, "token", OK, f"from {source}; whether Modal takes it was not asked")
    half = config.config.get("token_id") or config.config.get("token_secret")
    text = f"half a token in {source}: the id and the secret are both needed" if half else f"no token in {file}"
    return failed(name, "token", text, "modal setup, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET", NotAuthorised)


def _account() -> list[Check]:
    import modal

    here = _token_here()
    try:
        workspace = modal.Workspace.from_context()
        workspace.hydrate()
    except Exception as error:
        return [_trouble("token", error)]
    source = here.text.partition(";")[0]
    return [Check(name, "token", OK, source), Check(name, "workspace", OK, workspace.name or "(without a name)")]


def _limits(num_gpus: int) -> list[Check]:
    """What the environment allows. The plan's own limits and the means of payment are told by no call of the client."""
    from modal import config, environments

    untold = Check(name, "plan", UNKNOWN, "Modal's API tells neither the plan's GPU limit nor the payment method", f"look at {USAGE}")
    try:
        listed = environments.list_environments()
    except Exception as error:
        return [_trouble("environment", error), untold]
    wanted = config.config.get("environment")
    one = next((item for item in listed if (item.name == wanted if wanted else item.default)), None)
    if one is None:
        if wanted:
            known = ", ".join(item.name for item in listed) or "none"
            return [failed(name, "environment", f"no environment {wanted}; there are {known}", "correct MODAL_ENVIRONMENT"), untold]
        return [Check(name, "environment", UNKNOWN, "Modal names no default environment", "modal environment list"), untold]
    limit = one.effective_cycle_spend_limit or (one.cycle_budget_dollars if one.HasField("cycle_budget_dollars") else 0.0)
    spent = f", ${one.current_cycle_usage:,.2f} of ${limit:,.2f} spent in this cycle" if limit else ""
    most = one.max_concurrent_gpus if one.HasField("max_concurrent_gpus") else None
    gpus = "" if most is None else f", at most {most} GPUs at a time, {one.current_concurrent_gpus} in use"
    text = f"{one.name}{spent}{gpus}"
    if one.spend_limit_reached:
        return [failed(name, "environment", f"{text}: the spending limit is reached, nothing starts", f"raise it at {USAGE}"), untold]
    if most is not None and most < num_gpus:
        few = f"{text}: fewer than the {num_gpus} of this run"
        return [failed(name, "environment", few, f"raise it at {USAGE}, or --num-gpus {most}"), untold]
    return [Check(name, "environment", OK, text), untold]


def _secret_there(variable: str, secrets: Mapping[str, str]) -> Callable[[], list[Check]]:
    """Whether the secret exists and holds the variable; its value is never asked for."""

    def ask() -> list[Check]:
        import modal

        called = secret_name(variable, secrets)
        title = f"secret {called}"
        fix = f"modal secret create {shlex.quote(called)} {variable}=YOUR_VALUE"
        try:
            modal.Secret.from_name(called, required_keys=[variable]).hydrate()
            return [Check(name, title, OK, f"holds {variable}")]
        except (modal.exception.NotFoundError, modal.exception.InvalidError, modal.exception.ConflictError):
            pass  # not there, or without the variable: Modal's text tells them apart, its type may not
        except Exception as error:
            return [_trouble(title, error)]
        try:
            modal.Secret.from_name(called).hydrate()
            text, fix = f"is there, without {variable}", f"{fix} --force, with what else it holds"
        except modal.exception.NotFoundError:
            text = "is not there"
        except Exception as error:
            return [_trouble(title, error)]
        if variable != "HF_TOKEN":
            return [Check(name, title, WARN, f"{text}; only runs that log to it need it", fix)]
        return [failed(name, title, text, fix)]

    return ask


def _volume_there(volume: str) -> Callable[[], list[Check]]:
    def ask() -> list[Check]:
        import modal

        try:
            modal.Volume.from_name(volume).hydrate()
        except modal.exception.NotFoundError:
            return [Check(name, f"volume {volume}", OK, "not there yet: the first run makes it")]
        except Exception as error:
            return [_trouble(f"volume {volume}", error)]
        return [Check(name, f"volume {volume}", OK, "is there")]

    return ask


def _trouble(what: str, error: Exception) -> Check:
    """No useful answer, in our words."""
    from modal import exception

    kind = type(error).__name__
    if isinstance(error, exception.AuthError):
        return failed(name, what, "Modal refuses the token", "modal setup, or correct MODAL_TOKEN_ID and MODAL_TOKEN_SECRET", NotAuthorised)
    if isinstance(error, exception.PermissionDeniedError):
        return failed(name, what, "the token may not see it", "ask the workspace's owner for access", NotAuthorised)
    if isinstance(error, exception.ResourceExhaustedError):
        return failed(name, what, "Modal says that a quota is used up", f"look at {USAGE}")
    if isinstance(error, exception.VersionError):
        return failed(name, what, "this client is too old for Modal", "pip install -U 'modal<2'")
    if isinstance(error, (exception.UnimplementedError, exception.DeprecationError)):
        return Check(name, what, UNKNOWN, f"Modal does not answer this any more ({kind})", "please report it")
    return failed(name, what, f"Modal cannot be reached ({kind})", "check the network, see https://status.modal.com, and try again",
                  Unreachable)
