"""What `plan doctor` asks of Modal: token, workspace, limits, secrets, volumes. Read-only."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence

from planner.doctor import FAIL, OK, UNKNOWN, WARN, Ask, Check, failed
from planner.errors import NotAuthorised, Unreachable
from planner.targets.modal import SECRETS, secret_name

name = "modal"

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
        Ask(name, "account", account),
        Ask(name, "limits", lambda: limits(num_gpus or 1)),
        *(Ask(name, f"secret {secret_name(variable, secrets)}", secret_there(variable, secrets)) for variable in SECRETS),
        *(Ask(name, f"volume {volume}", volume_there(volume)) for volume in volumes),
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


def account() -> list[Check]:
    import modal

    here = _token_here()
    try:
        workspace = modal.Workspace.from_context()
        workspace.hydrate()
    except Exception as error:
        return [_trouble("token", error)]
    source = here.text.partition(";")[0]
    return [Check(name, "token", OK, source), Check(name, "workspace", OK, workspace.name or "(without a name)")]


def limits(num_gpus: int) -> list[Check]:
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


def secret_there(variable: str, secrets: Mapping[str, str]) -> Callable[[], list[Check]]:
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


def volume_there(volume: str) -> Callable[[], list[Check]]:
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
