"""The connection to Modal: one question at a time within a limit, and the one place where the client's errors become a line."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from planner.errors import Ambiguous, NotAuthorised, PlanError, Unreachable, UsageError

T = TypeVar("T")

# Modal's client repeats what fails for a moment, with one idempotency key, and waits for ever where nobody answers. Seconds for a
# question, for the start of a call, where not knowing is worse than waiting, and for an image that is built before it.
ANSWER_S, START_S, BUILD_S = 30.0, 120.0, 3600.0

sleep: Callable[[float], None] = time.sleep

USAGE = "https://modal.com/settings/usage"
_AGAIN = "try again, and look at https://status.modal.com"

#: Errors after which the same question may be answered: Unreachable of these codes.
TRANSIENT = frozenset(("server", "timeout", "connection", "garbage", "quota"))
#: Errors of the client (by name: its package is imported late) with which Modal refused a request, so that it did nothing.
_REFUSED = frozenset(("AuthError", "PermissionDeniedError", "NotFoundError", "InvalidError", "ResourceExhaustedError",
                      "UnimplementedError", "VersionError"))  # fmt: skip


def ask(what: str, question: Callable[[], Coroutine[Any, Any, T]], limit_s: float | None = None) -> T:
    """The answer to `question`. Errors become one line that begins with `modal did not` and `what`."""

    async def within() -> T:
        return await asyncio.wait_for(question(), ANSWER_S if limit_s is None else limit_s)

    try:
        return asyncio.run(within())
    except PlanError:
        raise
    except Exception as error:
        raise explained(error, what) from None


def refused(error: BaseException) -> bool:
    """Whether Modal said no, so that nothing was done for sure."""
    names = _names(error)
    return bool(names & _REFUSED) and "ConflictError" not in names


def explained(error: BaseException, what: str) -> PlanError:
    """What an error of the client means for the user; of the server's own words only a refusal's, without anything secret."""
    kind, code, reason, fix = _meaning(error)
    return kind(code, f"modal did not {what}: {reason}: {fix}")


def ambiguous(error: BaseException, app: str) -> Ambiguous:
    """For a call that was sent and may be running."""
    return Ambiguous("reply-lost", f"modal may have started the run, its reply is missing: {_meaning(error)[2]}: look for the app {app} "
                     "with `modal app list` before it is sent again")


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _meaning(error: BaseException) -> tuple[type[PlanError], str, str, str]:
    """Class, code, reason, what to do."""
    from modal import exception

    said = redacted(str(error))
    words = f" ({said})" if said else ""
    if isinstance(error, exception.AuthError):
        missing = "Token missing" in str(error)
        return (NotAuthorised, "token", "no token is set" if missing else "the token is refused",
                "run `modal setup`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET")  # fmt: skip
    if isinstance(error, exception.PermissionDeniedError):
        return NotAuthorised, "forbidden", f"the token may not{words}", "ask the workspace's owner for access"
    if isinstance(error, exception.ResourceExhaustedError):
        return Unreachable, "quota", f"a quota, a budget or a rate limit is used up{words}", f"look at {USAGE}"
    if isinstance(error, exception.NotFoundError):
        return Unreachable, "not-found", f"there is no such thing{words}", "check the names and MODAL_ENVIRONMENT"
    if isinstance(error, exception.ConflictError):
        return Unreachable, "conflict", f"it is in conflict with what is there{words}", "look with `modal app list`"
    if isinstance(error, exception.ImageBuildError):
        return UsageError, "image", f"the image was not built{words}", "look at its log with `modal app list` and `modal app logs`"
    if isinstance(error, exception.VersionError):
        return Unreachable, "version", "this client is too old for Modal", "pip install -U 'modal<2'"
    if isinstance(error, (exception.InvalidError, exception.UnimplementedError)):
        return UsageError, "refused", f"it refuses the request{words}", "look at it with --dry-run"
    if isinstance(error, asyncio.TimeoutError):
        return Unreachable, "timeout", "no answer in time", _AGAIN
    names = _names(error)
    if isinstance(error, (exception.ServiceError, exception.InternalError, exception.InternalFailure, exception.DataLossError)):
        return Unreachable, "server", "its server failed", _AGAIN
    if isinstance(error, (exception.ConnectionError, ConnectionError)) or names & {"StreamTerminatedError", "ClientError", "GRPCError"}:
        return Unreachable, "connection", f"the connection failed ({type(error).__name__})", "check the network and try again"
    if isinstance(error, OSError) and error.strerror:  # of this machine
        where = f" ({redacted(str(error.filename))})" if error.filename else ""
        return Unreachable, "files", f"{error.strerror}{where}", "check the disk and the folder's permissions"
    return Unreachable, "garbage", f"the answer is not Modal's ({type(error).__name__})", "is there a proxy between? try again"


def redacted(text: str, longest: int = 160) -> str:
    """One line of the server's words without anything of the token."""
    from modal import config

    secrets = [value for key in ("token_id", "token_secret", "oauth_refresh_token") if (value := config.config.get(key))]
    for value in secrets:
        text = text.replace(value, "***")
    text = re.sub(r"\b(?:ak|as)-\w{6,}|\bhf_\w{6,}", "***", text)
    text = re.sub(r"[\w+/=.~-]{6,}", lambda word: "***" if any(word[0] in value for value in secrets) else word[0], text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
