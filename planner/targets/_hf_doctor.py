"""What `plan doctor` asks of Hugging Face: login, permission, payment, service, image, repositories. Read-only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from planner.doctor import FAIL, OK, UNKNOWN, WARN, Ask, Check, failed
from planner.errors import NotAuthorised, Unreachable

name = "hf"

TOKENS = "https://huggingface.co/settings/tokens"
BILLING = "https://huggingface.co/settings/billing"


def checkup(
    *, namespace: str | None, models: Sequence[str], dataset: str | None, release: str, image: tuple[str, str], offline: bool,
    clock: Callable[[], float],
) -> list[Ask]:  # fmt: skip
    """What to ask of Hugging Face. `models` and `dataset` are Hub ids; `image` is its name and the LeRobot in it."""
    asks = [Ask(name, "image", lambda: [_image(image, release)])]
    if offline:
        return [Ask(name, "account", _token_here), *asks]
    asks = [Ask(name, "account", lambda: _identity(namespace)), Ask(name, "service", lambda: _service(clock)), *asks]
    kinds = [("model", model) for model in models] + ([("dataset", dataset)] if dataset else [])
    return asks + [Ask(name, f"{kind} {repo}", _reaching(kind, repo)) for kind, repo in kinds]


def token_source() -> str | None:
    """Where the client takes its token from, by name; None without one. The value is not looked at beyond being there."""
    from huggingface_hub import constants

    for variable in ("HF_OIDC_RESOURCE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable, "").strip():
            return variable
    try:
        return constants.HF_TOKEN_PATH if Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip() else None
    except (OSError, UnicodeDecodeError):
        return None


def _token_here() -> list[Check]:
    source = token_source()
    if source is None:
        return [failed(name, "token", "no token", f"hf auth login (a write token from {TOKENS})", NotAuthorised)]
    return [Check(name, "token", OK, f"from {source}; who it belongs to and what it may do was not asked")]


def _identity(namespace: str | None) -> list[Check]:
    from huggingface_hub import HfApi, get_token

    source = token_source()
    try:
        token = get_token()
        if token is None:
            return _token_here()
        who = HfApi().whoami(token=token)
        if not isinstance(who, dict) or not isinstance(who.get("name"), str):
            raise ValueError("no account in the answer")
    except Exception as error:
        if _status(error) in (401, 403) or isinstance(error, UnicodeError):  # a token is plain ASCII
            hidden = "; it hides the login of `hf auth login`" if source and not source.startswith(("/", "~")) else ""
            fix = f"unset {source} or give it a valid token" if hidden else "hf auth login --force"
            return [failed(name, "token", f"the token from {source} is refused{hidden}", fix, NotAuthorised)]
        return [_down("token", error)]
    orgs = {org["name"]: org for org in who.get("orgs") or () if isinstance(org, dict) and isinstance(org.get("name"), str)}
    payer = namespace or who["name"]
    checks = [Check(name, "token", OK, f"from {source}: {who['name']}" + (f", in {', '.join(orgs)}" if orgs else ""))]
    if payer != who["name"] and payer not in orgs:
        known = ", ".join((who["name"], *orgs))
        return [*checks, failed(name, "namespace", f"{payer} is neither you nor an organisation of yours ({known})",
                                "correct --namespace, or ask to be added to it")]
    checks.append(_permission(who, payer, orgs))
    if checks[-1].status != FAIL:
        checks.append(_jobs(payer, token))
    return [*checks, _payment(orgs.get(payer, who), payer)]


def _permission(who: dict[str, Any], payer: str, orgs: dict[str, Any]) -> Check:
    """Whether the token may start jobs and push models in that namespace (its role, or its fine-grained permissions)."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")
    if role == "write":
        if orgs.get(payer, {}).get("roleInOrg") == "read":
            return Check(name, "permission", WARN, f"your role in {payer} is read: it may be refused to start jobs there",
                         "ask for the role write")
        return Check(name, "permission", OK, "a write token: may start jobs and push models")
    if role == "read":
        return failed(name, "permission", "a read token starts no jobs and pushes no models",
                      f"make a write token, or a fine-grained one with job.write, at {TOKENS}; then hf auth login", NotAuthorised)
    if role != "fineGrained":
        return Check(name, "permission", UNKNOWN, "the API does not tell what this kind of token may do")
    fine = token.get("fineGrained") or {}
    granted = set(fine.get("global") or ())
    for scope in fine.get("scoped") or ():
        if (scope.get("entity") or {}).get("name") == payer:
            granted |= set(scope.get("permissions") or ())
    lacking = [wanted for wanted in ("job.write", "repo.write") if wanted not in granted]
    if "job.write" in lacking:
        return failed(name, "permission", f"the fine-grained token lacks {' and '.join(lacking)} for {payer}",
                      f"add it at {TOKENS}", NotAuthorised)
    if lacking:
        return Check(name, "permission", WARN, f"a fine-grained token that starts jobs for {payer} but pushes no model there (repo.write)",
                     f"add repo.write at {TOKENS}")
    return Check(name, "permission", OK, f"a fine-grained token with job.write and repo.write for {payer}")


def _jobs(payer: str, token: str) -> Check:
    """Whether the jobs of that namespace can be seen with this token, without starting one."""
    from huggingface_hub import HfApi

    try:
        next(iter(HfApi().list_jobs(namespace=payer, token=token)), None)
    except Exception as error:
        if _status(error) in (401, 403):
            return failed(name, "jobs", f"the jobs of {payer} are refused to this token", f"check its permissions at {TOKENS}",
                          NotAuthorised)
        if _status(error) in (402, 404):
            return failed(name, "jobs", f"{payer} has no jobs: {'no credit' if _status(error) == 402 else 'no such namespace'}", BILLING)
        return _down("jobs", error)
    return Check(name, "jobs", OK, f"the jobs of {payer} can be seen")


def _payment(payer: dict[str, Any], called: str) -> Check:
    untold = "the API does not tell the credit balance, which has to be positive"
    if payer.get("canPay") is True:
        return Check(name, "payment", OK, f"{called} can pay; {untold}")
    if payer.get("canPay") is False:
        return Check(name, "payment", WARN, f"{called} has no payment method; {untold}", f"add one, or credit, at {BILLING}")
    return Check(name, "payment", UNKNOWN, untold, f"look at {BILLING}")


def _service(clock: Callable[[], float]) -> list[Check]:
    """The list of hardware, which needs no token; its date is compared with this machine's."""
    from huggingface_hub import constants, get_session

    from planner import doctor

    try:
        answer = get_session().get(f"{constants.ENDPOINT}/api/jobs/hardware")
        now = clock()
        answer.raise_for_status()
        flavors = answer.json()
        if not isinstance(flavors, list):
            raise ValueError("no list of hardware in the answer")
    except Exception as error:
        return [_down("service", error)]
    return [Check(name, "service", OK, f"up, {len(flavors)} kinds of hardware"), doctor.clock(answer.headers.get("date"), now)]


def _image(image: tuple[str, str], release: str) -> Check:
    what, holds = image
    if release == holds:
        return Check(name, "image", OK, f"{what} holds LeRobot {holds} as far as the catalogue knows; the registry was not asked")
    return Check(name, "image", WARN, f"{what} holds LeRobot {holds}, the plan is for {release}",
                 f"plan with --lerobot-version {holds}, or run it on modal, which installs {release}")


def _reaching(kind: str, repo: str) -> Callable[[], list[Check]]:
    """Whether this token may read a repository, licence and all."""

    def ask() -> list[Check]:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        title, page = f"{kind} {repo}", f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
        try:
            token = get_token()
            HfApi().auth_check(repo, repo_type=kind, token=token or False)
        except GatedRepoError:
            return [failed(name, title, "is gated, and its terms are not accepted", f"accept them at {page}", NotAuthorised)]
        except RepositoryNotFoundError:
            return [failed(name, title, "is not there, or private and not yours",
                           "check the name" + ("" if token else ", or hf auth login"))]
        except Exception as error:
            if _status(error) in (401, 403):
                return [failed(name, title, "is refused to this token", f"check its permissions at {TOKENS}", NotAuthorised)]
            return [_down(title, error)]
        return [Check(name, title, OK, "can be read")]

    return ask


def _status(error: Exception) -> int | None:
    """The HTTP status of an answer that was an error."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _down(what: str, error: Exception) -> Check:
    """No useful answer, in our words: the client's may quote what it sent."""
    status = _status(error)
    if type(error).__name__ == "OfflineModeIsEnabled":
        return failed(name, what, "HF_HUB_OFFLINE keeps the client off the network", "unset it, or check with --offline")
    if status == 429:
        return failed(name, what, "asked too often (429)", "try again in a few minutes", Unreachable)
    if status is not None:
        return failed(name, what, f"Hugging Face answered {status}", "see https://status.huggingface.co and try again", Unreachable)
    if isinstance(error, ValueError):
        return failed(name, what, "the answer is not what Hugging Face sends: a proxy or a log-in page in between?",
                      "check the network and HF_ENDPOINT", Unreachable)
    return failed(name, what, f"Hugging Face cannot be reached ({type(error).__name__})", "check the network, proxy and HF_ENDPOINT",
                  Unreachable)
