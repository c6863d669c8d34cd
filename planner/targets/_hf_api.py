"""The connection to the Hub: its client with a time limit, and the one place where its errors become a line for the user."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planner.errors import Ambiguous, NotAuthorised, PlanError, Unreachable, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# The client itself waits for ever. Seconds without a byte: where something is asked, and where something is changed, since there
# a longer wait is better than not knowing. The longest is also the client's own for a log that says nothing.
ANSWER_S, LONGEST_S = 30.0, 120.0

sleep: Callable[[float], None] = time.sleep

BILLING = "https://huggingface.co/settings/billing"
TOKENS = "https://huggingface.co/settings/tokens"

#: Errors after which the same question may be answered: Unreachable of these codes.
TRANSIENT = frozenset(("rate-limited", "server", "garbage", "timeout", "connection"))
#: A request that was answered with one of these did nothing. Not 408, 409, 425 and 5xx: those may come from what stands between.
_REFUSED = frozenset((400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 429))
#: Errors of the HTTP client, whose package is httpx or httpx2 by version: the request never left.
_UNSENT = frozenset(("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "OfflineModeIsEnabled"))


def client() -> HfApi:
    """The client for the endpoint and login of now. Raises NotAuthorised without a login."""
    return _client(os.environ.get("HF_ENDPOINT") or None, token())


def token() -> str:
    """HF_TOKEN, else the login of `hf auth login`."""
    from huggingface_hub import get_token

    found = get_token()
    if not found:
        raise NotAuthorised("not-logged-in", "hf has no login on this machine: run `hf auth login`")
    return found


@functools.lru_cache(maxsize=4)  # whoami, which is rate limited, is remembered in it
def _client(endpoint: str | None, token: str) -> HfApi:
    from huggingface_hub import HfApi

    _limit_waiting()
    return HfApi(endpoint=endpoint, token=token, library_name="training-planner")


def whoami() -> dict[str, Any]:
    """The account of the login: asked once."""
    found = client()
    with asking("say whose login this is"):
        who = found.whoami(cache=True)
        _ = who["name"]
    return who


def account(namespace: str | None) -> str:
    """Who pays: `namespace`, or the user."""
    return namespace or str(whoami()["name"])


def get(path: str, params: list[tuple[str, str]] | None = None) -> Any:
    """JSON of an endpoint that the client does not wrap, or wraps in retries that sleep: asked once."""
    return _get(client(), path, params).json()


def get_all(path: str, params: list[tuple[str, str]]) -> Iterator[Any]:
    """The items of all pages of a list."""
    hub = client()
    page = _get(hub, path, params)
    while True:
        yield from list(page.json())
        further = page.links.get("next", {}).get("url", "")
        if not further.startswith(f"{hub.endpoint}/"):  # the token stays with the Hub
            return
        page = _get(hub, further.removeprefix(hub.endpoint), None)


def _get(hub: HfApi, path: str, params: list[tuple[str, str]] | None) -> Any:
    from huggingface_hub import get_session, hf_raise_for_status

    http: Any = get_session()
    response = http.get(hub.endpoint + path, params=params, headers={"authorization": f"Bearer {hub.token}"})
    hf_raise_for_status(response)
    return response


@functools.cache
def _limit_waiting() -> None:
    """Give every request of the client a time limit, also those that it sends with none on purpose.

    What it would print of its own repeated attempts is left out: what they come to is told.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.logging import set_verbosity

    if "HF_HUB_VERBOSITY" not in os.environ:
        set_verbosity(logging.ERROR)

    def limit(request: Any) -> None:
        waits = request.extensions.get("timeout", {})
        most = LONGEST_S if request.method == "POST" else ANSWER_S
        for kind, seconds in waits.items():
            waits[kind] = most if seconds is None else min(seconds, LONGEST_S)

    def made() -> Any:
        http = default_client_factory()
        http.event_hooks = {**http.event_hooks, "request": [*http.event_hooks["request"], limit]}
        return http

    set_client_factory(made)


# ------------------------------------------------------------------------------------ errors


@contextmanager
def asking(what: str, namespace: str | None = None) -> Iterator[None]:
    """Errors inside become one line that begins with `hf did not` and `what`."""
    try:
        yield
    except PlanError:
        raise
    except Exception as error:
        raise explained(error, what, namespace) from None


def not_taken(error: Exception) -> bool:
    """Whether a request that failed so did nothing for sure."""
    return status_of(error) in _REFUSED or bool(_UNSENT & {kind.__name__ for kind in type(error).__mro__})


def status_of(error: Exception) -> int | None:
    """The HTTP status. (`HfHubHTTPError` is an OSError, too: look here before anything that catches those.)"""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def explained(error: Exception, what: str, namespace: str | None = None, hidden: Iterable[str] = ()) -> PlanError:
    """What an error of the client means for the user. Nothing of `hidden` and no token is in it, nor the error's own text."""
    kind, code, reason, fix = _meaning(error, namespace, tuple(hidden))
    return kind(code, f"hf did not {what}: {reason}: {fix}")


def ambiguous(error: Exception, namespace: str, hidden: Iterable[str]) -> Ambiguous:
    """For a job that was sent and may be running."""
    _, _, reason, _ = _meaning(error, namespace, tuple(hidden))
    return Ambiguous("reply-lost", f"hf may have started the job, its reply is missing: {reason}: look with `hf jobs ps -a --namespace "
                     f"{namespace}` before it is sent again")


_Meaning = tuple[type[PlanError], str, str, str]  # class, code, reason, what to do
_AGAIN = "try again, and look at https://status.huggingface.co"


def _meaning(error: Exception, namespace: str | None, hidden: tuple[str, ...]) -> _Meaning:
    if (status := status_of(error)) is not None:
        return _answered(status, error, namespace, hidden)
    names = {kind.__name__ for kind in type(error).__mro__}
    if "LocalTokenNotFoundError" in names:
        return NotAuthorised, "not-logged-in", "there is no login on this machine", "run `hf auth login`"
    if "OfflineModeIsEnabled" in names:
        return Unreachable, "offline", "HF_HUB_OFFLINE is set", "unset it"
    if "TimeoutException" in names:
        return Unreachable, "timeout", "no answer in time", _AGAIN
    if "HTTPError" in names or isinstance(error, ConnectionError):
        return Unreachable, "connection", f"the connection failed ({type(error).__name__})", "check the network and try again"
    if isinstance(error, OSError) and error.strerror:  # of this machine
        where = f" ({redacted(str(error.filename), hidden)})" if error.filename else ""
        return Unreachable, "files", f"{error.strerror}{where}", "check the disk and the folder's permissions"
    # JSONDecodeError, KeyError, TypeError: an answer, but not of the Hub's API
    return (Unreachable, "garbage", f"the answer is not the Hub's ({type(error).__name__})",
            "is there a proxy or a log-in page between? try again")  # fmt: skip


def _answered(status: int, error: Exception, namespace: str | None, hidden: tuple[str, ...]) -> _Meaning:
    headers = getattr(error, "response").headers  # noqa: B009  (of the client's own type)
    said = redacted(str(getattr(error, "server_message", None) or ""), hidden)
    words = f" ({status}: {said})" if said else f" ({status})"
    who = namespace or "the account"
    if status == 401:
        return NotAuthorised, "token", f"the token is not valid{words}", "run `hf auth login`, or set another HF_TOKEN"
    if status == 402:
        return Unreachable, "payment", f"{who} has no credit{words}", f"add some at {BILLING}, or in the organisation's settings"
    if status == 403:
        return (NotAuthorised, "forbidden", f"the token may not{words}",
                f"it needs write access, and for jobs the permission job.write of {who}: {TOKENS}")  # fmt: skip
    if status == 404:
        return (Unreachable, "not-found", f"there is no such thing, or it is hidden from this login{words}",
                "check the names, --namespace and `hf auth whoami`")  # fmt: skip
    if status == 429:
        return Unreachable, "rate-limited", f"too many requests{words}", f"try again {_wait(headers)}"
    if status >= 500 or status in (408, 425):
        return Unreachable, "server", f"its server failed{words}", f"try again {_wait(headers)}, and look at https://status.huggingface.co"
    if status == 409:
        return Unreachable, "conflict", f"it is in conflict with what is there{words}", "look with `hf jobs ps -a`"
    return UsageError, "refused", f"it refuses the request{words}", "look at it with --dry-run"


def _wait(headers: Any) -> str:
    """`in 30 s` where the server said so (Retry-After, or the IETF draft's RateLimit)."""
    after = re.fullmatch(r"\s*(\d+)\s*", headers.get("retry-after", "")) or re.search(r"\bt\s*=\s*(\d+)", headers.get("ratelimit", ""))
    return f"in {after[1]} s" if after else "in a minute"


def redacted(text: str, hidden: Iterable[str] = (), longest: int = 160) -> str:
    """One line of a server's words without anything secret, nor a piece of it."""
    from huggingface_hub import get_token

    secrets = [value for value in (*hidden, get_token()) if value]
    for value in secrets:
        text = text.replace(value, "***")
    text = re.sub(r"\bhf_\w{6,}|(?<=Bearer )\S+", "***", text)
    text = re.sub(r"[\w+/=.~-]{6,}", lambda word: "***" if any(word[0] in value for value in secrets) else word[0], text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
