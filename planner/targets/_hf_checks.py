"""What a job on Hugging Face needs, looked at before anything is paid: login, account, hardware and its price, data, secrets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from planner import pasted
from planner.errors import PlanError
from planner.job import Check, Job
from planner.targets import _hf_api as hub
from planner.targets import _hf_files, _hf_secrets

DEARER = Decimal("1.05")  # a price that rose by more since it was planned with stops a launch
_WRITERS = ("admin", "write", "contributor")  # roles in an organisation


def checks(job: Job) -> tuple[Check, ...]:
    """All of them; what depends on one that failed is not told."""
    try:
        who = hub.whoami()
    except PlanError as error:
        return (Check("login", False, error.text, exit_code=error.exit_code), *_tried("secrets", lambda: [_secret(n) for n in job.secrets]))
    namespace = job.namespace or str(who["name"])
    found = [Check("login", True, f"hf knows you as {who['name']}")]
    for name, look in (
        ("permission", lambda: [_permission(who, namespace)]),
        ("account", lambda: [_account(who, namespace)]),
        ("credit", lambda: [_credit(who, namespace)]),
        ("hardware", lambda: _hardware(job)),
        ("secrets", lambda: [_secret(variable) for variable in job.secrets]),
        ("dataset", lambda: [_dataset(job)]),
        ("results", lambda: [_results(job, who)]),
    ):  # fmt: skip
        found += _tried(name, look)
    return (*found, Check("timeout", job.timeout_s > 0, f"hf stops it after {job.timeout_s} s, in each of {job.attempts} attempts"
                          if job.attempts > 1 else f"hf stops it after {job.timeout_s} s", "give --timeout"))  # fmt: skip


def _tried(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    try:
        with hub.asking(f"answer ({name})"):
            return look()
    except PlanError as error:
        return [Check(name, False, error.text, exit_code=error.exit_code)]


def _permission(who: dict[str, Any], namespace: str) -> Check:
    """`auth.accessToken.role`, and for fine-grained tokens `fineGrained.scoped[].permissions`, as whoami-v2 tells them."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    fix = f"make a token that may write, with the permission job.write of {namespace}: {hub.TOKENS}"
    role = token.get("role")
    if role == "write":
        return Check("permission", True, "the token may write")
    if role == "read":
        return Check("permission", False, "the token may only read", fix, 6)
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if role != "fineGrained" or scopes is None:
        return Check("permission", None, "hf does not say what the token may do", fix, 6)
    granted = {one for scope in scopes if (scope.get("entity") or {}).get("name") == namespace for one in scope.get("permissions") or ()}
    text = f"the token {'may' if 'job.write' in granted else 'has no permission to'} run jobs for {namespace}"
    return Check("permission", "job.write" in granted, text, fix, 6)


def _organisation(who: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((org for org in who.get("orgs") or () if org.get("name") == name), None)


def _account(who: dict[str, Any], namespace: str) -> Check:
    ours = namespace == who["name"] or _organisation(who, namespace) is not None
    text = f"{namespace} {'pays' if ours else 'is neither you nor an organisation of yours'}"
    return Check("account", ours, text, f"--namespace {who['name']}, or the name of an organisation from `hf auth whoami`", 6)


def _credit(who: dict[str, Any], namespace: str) -> Check:
    """`canPay` says that there is a means of payment; prepaid credit is not told, and is enough."""
    pays = (who if namespace == who["name"] else _organisation(who, namespace) or {}).get("canPay")
    text = f"{namespace} {'can pay' if pays else 'may have no means of payment: without prepaid credit hf refuses the job'}"
    return Check("credit", True if pays else None, text, f"add credit: {hub.BILLING}", 7)


def _hardware(job: Job) -> list[Check]:
    every = {one["name"]: one for one in hub.get("/api/jobs/hardware")}
    live = every.get(job.flavor)
    if live is None:
        return [Check("hardware", False, f"hf has no {job.flavor} now", "`hf jobs hardware` lists what it has: choose with --gpu", 7)]
    gpus = int((live.get("accelerator") or {}).get("quantity") or 0)
    if gpus != job.num_gpus:
        return [Check("hardware", False, f"{job.flavor} has {gpus} GPUs now, {job.num_gpus} were planned", "plan again with --live", 7)]
    return [Check("hardware", True, f"hf has {job.flavor}"), _price(job, live)]


def _price(job: Job, live: dict[str, Any]) -> Check:
    units = {"minute": 60, "hour": 1, "second": 3600}
    per_hour = units.get(str(live.get("unitLabel")))
    if per_hour is None or live.get("unitCostMicroUSD") is None:
        return Check("price", None, f"hf names the price of {job.flavor} in a unit that is not known here", "`hf jobs hardware`", 5)
    usd = Decimal(live["unitCostMicroUSD"]) * per_hour / 1_000_000
    if job.usd_per_hour is None:
        return Check("price", None, f"{job.flavor} costs ${usd:.2f}/h; the plan knows no price for it", "plan again with --live", 5)
    planned = Decimal(job.usd_per_hour)
    text = f"{job.flavor} costs ${usd:.2f}/h, ${planned:.2f}/h was planned"
    return Check("price", usd <= planned * DEARER, text, "plan again with --live", 5)


def _secret(variable: str) -> Check:
    there = bool(_hf_secrets.value_of(variable))
    fix = {"HF_TOKEN": "`hf auth login`", "WANDB_API_KEY": "export WANDB_API_KEY, or `wandb login`"}.get(variable, f"export {variable}")
    return Check(f"secret {variable}", there, f"{variable} is {'there' if there else 'not set in this shell'}", fix, 6)


def _dataset(job: Job) -> Check:
    repo = pasted.value_of(job.trainer, "dataset.repo_id")
    if repo is None:
        return Check("dataset", None, "the command names no dataset")
    if _hf_files.dataset(repo) is None:
        return Check("dataset", False, f"the Hub has no dataset {repo}, or hides it from this login",
                     "`--push-dataset` uploads a local one to a private repository")  # fmt: skip
    if not _hf_files.tagged(repo):
        return Check("dataset", False, f"{repo} has no tag of its format (as v3.0), without which LeRobot does not read it",
                     f"hf repos tag create {repo} v3.0 --repo-type dataset, where its format is 3.0")  # fmt: skip
    return Check("dataset", True, f"the Hub has {repo}")


def _results(job: Job, who: dict[str, Any]) -> Check:
    """The model repository is made by the trainer: here only whether it may."""
    repo = job.output.where
    if not repo:
        return Check("results", None, "LeRobot names the repository itself")
    owner = repo.split("/")[0]
    role = "admin" if owner == who["name"] else (_organisation(who, owner) or {}).get("roleInOrg")
    if role in _WRITERS:
        return Check("results", True, f"results go to {repo}")
    why = f"{owner} is neither you nor an organisation of yours" if role is None else f"you may only read in {owner}"
    return Check("results", False, f"results cannot go to {repo}: {why}", f"--repo-id {who['name']}/NAME", 6)
