"""Hugging Face Jobs: an `hf jobs run` line, LeRobot's own `--job.target`, or the job itself through the Hub's API.

`_hf_api` is the connection, `_hf_checks` looks before a launch, `_hf_files` moves data sets and results.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from planner import pasted
from planner.deadline import Deadline
from planner.doctor import Ask
from planner.errors import PlanError, UsageError
from planner.job import Check, Handle, Job, Output, Status, Usage
from planner.records import PriceList
from planner.targets import _hf_api as hub
from planner.targets import _hf_secrets
from planner.targets._guard import guarded
from planner.targets.base import Limits, install

name = "hf"

DEFAULT_IMAGE = "huggingface/lerobot-gpu:latest"  # what `--job.image` says where it is not given


def output_for(*, repo_id: str | None, output: str | None, run_name: str) -> Output:
    """A model repository: the container's disk is gone when the job ends. Without one, the user is asked for it."""
    where = repo_id or output
    if not where:
        raise UsageError("repo-id", "a job on hf keeps only what it pushes: name the model repository, "
                         f"e.g. --repo-id USER/{run_name}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", where):
        raise UsageError("repo-id", f"--repo-id {where}: expected USER/NAME of a model repository")
    return Output("hub", where)


def emit(job: Job) -> str:
    """One `hf jobs run` line. `--` stands before the image: without it `hf` takes the trainer's flags for its own."""
    assert job.image is not None, "a job on Hugging Face runs in a registry image"
    options = ["--flavor", job.flavor, "--timeout", duration(job.timeout_s)]
    if job.attempts > 1:
        options += ["--attempts", str(job.attempts)]
    for secret in job.secrets:
        options += ["--secrets", secret]
    for key, value in job.env.items():
        options += ["--env", f"{key}={_dotenv(key, value)}"]
    for key, value in job.labels.items():
        options += ["--label", f"{key}={value}"]
    if job.namespace:
        options += ["--namespace", job.namespace]
    return shlex.join(["hf", "jobs", "run", *options, "--detach", "--", job.image, *job.argv])


def emit_lerobot(job: Job) -> str:
    """`lerobot-train … --job.target=FLAVOR`: LeRobot submits the job itself, from an environment that has LeRobot."""
    if job.lerobot == "0.4.4":
        raise UsageError("emit", "LeRobot 0.4.4 has no --job.target: use --emit hf, or --lerobot-version 0.6.1")
    if job.num_gpus > 1:
        raise UsageError("emit", f"--job.target starts one process and {job.flavor} has {job.num_gpus} GPUs: "
                         "use --emit hf, or --num-gpus 1")
    flags = [f"--job.target={job.flavor}", f"--job.timeout={duration(job.timeout_s)}"]
    if job.image != DEFAULT_IMAGE and pasted.value_of(job.trainer, "job.image") is None:
        flags.append(f"--job.image={job.image}")
    if pasted.value_of(job.trainer, "job.tags") is None:
        flags.append("--job.tags=" + json.dumps([f"{key}-{value}" for key, value in job.labels.items()]))
    environment = [f"{key}={shlex.quote(value)}" for key, value in job.env.items()]
    return " ".join([*environment, shlex.join([pasted.TRAINER, *job.trainer, *flags, "--job.detach=true"])])


def needs(job: Job) -> tuple[str, ...]:
    """The `hf` CLI with a login; secrets other than the token are taken from the shell."""
    return (
        "the hf command: pip install 'huggingface_hub>=2.4'",
        *_account(),
        *(f"{name} set in the shell, from which hf takes the secret" for name in job.secrets if name != "HF_TOKEN"),
    )


def needs_lerobot(job: Job) -> tuple[str, ...]:
    """For `emit_lerobot`: an environment with LeRobot, which submits the job."""
    return (f"an environment with {install(job)}", *_account())


def _account() -> tuple[str, str]:
    return "hf auth login", "a positive credit balance: the run bills the account that it runs under"


def duration(seconds: int) -> str:
    """Whole hours as `4h`, else seconds; both forms are Hugging Face's own."""
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


def _dotenv(key: str, value: str) -> str:
    """The value as `hf jobs run --env` reads it: one line of a .env file, with its escapes."""
    if re.fullmatch(r"[\w./:,@%+=-]*", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if len(escaped.splitlines()) > 1:
        raise UsageError("environment", f"{key}: hf jobs run cannot pass this line separator in a variable")
    return f'"{escaped}"'


def prices(deadline: Deadline) -> PriceList:
    """Today's hardware and prices; no token is needed, so none is sent. NotAuthorised, Unreachable."""
    from planner.targets import _hf_prices

    return _hf_prices.prices(deadline)


def checkup(
    *, namespace: str | None, models: Sequence[str], dataset: str | None, release: str, image: tuple[str, str], offline: bool,
    clock: Callable[[], float],
) -> list[Ask]:  # fmt: skip
    """What `plan doctor` asks of Hugging Face. `models` and `dataset` are Hub ids; `image` is its name and the LeRobot in it."""
    from planner.targets import _hf_doctor

    return _hf_doctor.checkup(namespace=namespace, models=models, dataset=dataset, release=release, image=image, offline=offline,
                              clock=clock)  # fmt: skip


# ------------------------------------------------------------------------------------ running


STAGES = {"SCHEDULING": "queued", "RUNNING": "running", "COMPLETED": "succeeded", "CANCELED": "cancelled", "DELETED": "cancelled",
          "ERROR": "failed"}  # fmt: skip
LABEL = "plan-run-id"
_LOG_TRIES, _LONGEST_PAUSE_S = 12, 60.0  # without a new line in between: about nine minutes


def limits() -> Limits:
    """No longest timeout is published; a flavor has at most eight GPUs."""
    return Limits(timeout_s=None, attempts=None, num_gpus=8)


def account(namespace: str | None) -> str:
    return hub.account(namespace)


def preflight(job: Job) -> tuple[Check, ...]:
    from planner.targets import _hf_checks

    return _hf_checks.checks(job)


def request(job: Job) -> dict[str, Any]:
    """Method, path and body. The guard before the command stops a container without its GPUs (`_guard`)."""
    asked = _asked(job)
    body: dict[str, Any] = {
        "command": asked["command"], "arguments": [], "environment": asked["env"], "flavor": asked["flavor"],
        "timeoutSeconds": asked["timeout"], "labels": {**asked["labels"], "name": asked["name"]}, "dockerImage": asked["image"],
    }  # fmt: skip
    if job.secrets:
        body["secrets"] = dict.fromkeys(job.secrets, "***")
    if asked["attempts"]:
        body["attempts"] = asked["attempts"]
    if job.volumes:
        body["volumes"] = [{"type": "bucket", "source": source, "mountPath": mount} for source, mount in _buckets(job, "YOU")]
    return {"method": "POST", "path": f"/api/jobs/{job.namespace or 'YOU'}", "body": body}


def submit(job: Job) -> Handle:
    client, namespace, hidden = hub.client(), hub.account(job.namespace), _hf_secrets.values(job)
    asked = _asked(job)
    if job.volumes:
        from huggingface_hub import Volume

        asked["volumes"] = [Volume(type="bucket", source=source, mount_path=mount) for source, mount in _buckets(job, namespace)]
    try:
        return _handle(client.run_job(**asked, secrets=hidden or None, namespace=namespace), namespace, job)
    except Exception as error:
        if hub.not_taken(error):
            raise hub.explained(error, "start the job", namespace, hidden.values()) from None
        raise hub.ambiguous(error, namespace, hidden.values()) from None


def find(job: Job) -> Handle | None:
    """The newest, where a run that was resumed has several."""
    from huggingface_hub import JobInfo

    run, client, namespace = job.labels[LABEL], hub.client(), hub.account(job.namespace)
    with hub.asking("list the jobs", namespace):
        every = [JobInfo(**item, endpoint=client.endpoint)
                 for item in hub.get_all(f"/api/jobs/{namespace}", [("label", f"{LABEL}={run}")])]  # fmt: skip
        ours = [info for info in every if (info.labels or {}).get(LABEL) == run]
        ours.sort(key=lambda info: info.created_at.timestamp() if info.created_at else 0.0)
        return _handle(ours[-1], namespace, job) if ours else None


def status(handle: Handle) -> Status:
    client = hub.client()
    with hub.asking("say how the job is", handle["namespace"]):
        try:
            info = client.inspect_job(job_id=handle["job_id"], namespace=handle["namespace"])
        except Exception as error:
            if hub.status_of(error) == 404:
                return Status("unknown", "Hugging Face does not know this job, or not for this login")
            raise
        stage, said = str(getattr(info.status.stage, "value", info.status.stage)), info.status.message
        waiting, running = (info.durations.scheduling_secs, info.durations.running_secs) if info.durations else (None, None)
        code = re.search(r"exit code:?\s*(-?\d+)", said or "", re.IGNORECASE)
        # a stage of the future is not an end: the job is looked at again
        state = STAGES.get(stage, "running" if running else "queued")
        if state == "failed" and _timed_out(said, running, handle, coded=code is not None):
            state = "timed_out"
        message = hub.redacted(said) if said else None if stage in STAGES else f"stage {stage}"
        return Status(state, message, waiting, running, int(code[1]) if code else None)


def _timed_out(said: str | None, running_s: float | None, handle: Handle, *, coded: bool) -> bool:
    """By the place's words (`Job timeout`, as LeRobot knows them), else by its clock where it names no exit code."""
    if re.search(r"time(d)?[ -]?out", said or "", re.IGNORECASE):
        return True
    return not coded and running_s is not None and running_s >= float(handle["timeout_s"])


def logs(handle: Handle, *, follow: bool) -> Iterator[str]:
    """The client reconnects by itself after a cut, but an answer of 4xx, 5xx or nonsense ends it, and so does a cut after the job has
    ended, whatever is missing then. So it is begun again here, and once more at the end.
    """
    client, seen, failures, following = hub.client(), 0, 0, follow
    while True:
        try:
            stream = client.fetch_job_logs(job_id=handle["job_id"], namespace=handle["namespace"], follow=following)
            for number, line in enumerate(stream, 1):
                if number > seen:  # every stream begins with the first line
                    seen, failures = number, 0
                    yield line
            if not following:
                return
            following = False
            continue
        except Exception as error:
            why = hub.explained(error, "send the log", handle["namespace"])
            failures += 1
            if not follow or why.code not in hub.TRANSIENT or failures > _LOG_TRIES:
                raise why from None
        hub.sleep(min(_LONGEST_PAUSE_S, 2.0 ** (failures - 1)))


def usage(handle: Handle) -> Usage | None:
    client = hub.client()
    with hub.asking("measure the job", handle["namespace"]):
        try:
            samples = list(client.fetch_job_metrics(job_id=handle["job_id"], namespace=handle["namespace"]))
        except Exception as error:
            if hub.status_of(error) == 404:
                return None
            raise
        if not samples:
            return None  # not running
        gpus = list((samples[0].get("gpus") or {}).values())
        fullest: dict[str, Any] = max(gpus, key=lambda gpu: gpu.get("memory_used_bytes") or 0, default={})
        shares = [gpu["utilization"] / 100 for gpu in gpus if gpu.get("utilization") is not None]  # in percent
        return Usage(sum(shares) / len(shares) if shares else None, fullest.get("memory_used_bytes"),
                     fullest.get("memory_total_bytes"), samples[0].get("memory_used_bytes"))  # fmt: skip


def cancel(handle: Handle) -> None:
    """The status is asked afterwards: one that has ended refuses, and the client reads no answer, be it a proxy's page."""
    client = hub.client()
    try:
        client.cancel_job(job_id=handle["job_id"], namespace=handle["namespace"])
    except Exception as error:
        why = hub.explained(error, "cancel the job", handle["namespace"])
        try:
            ended = status(handle).ended
        except PlanError:
            ended = False
        if not ended:
            raise why from None
    else:
        status(handle)


def push_dataset(root: Path, name: str, namespace: str | None = None) -> str:
    """Upload a local LeRobotDataset to a private repository; its id."""
    from planner.targets import _hf_files

    return _hf_files.push_dataset(root, name, namespace)


def fetch(handle: Handle, job: Job, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    from planner.targets import _hf_files

    return _hf_files.fetch(job.output.where, to, progress)


def checkpoint(handle: Handle, job: Job) -> Path | None:
    """They lie on the Hub."""
    return None


def bill(handle: Handle) -> Decimal | None:
    """From the user's usage of the current billing period. Jobs that an organisation pays, and earlier ones, are not in it.

    Fields as public clients of the API have them: usage.jobDetails[].{jobId, completedAt, totalCostMicroUsd}.
    """
    with hub.asking("show the bill"):
        try:
            usage = hub.get("/api/settings/billing/usage/jobs").get("usage") or {}
        except Exception as error:
            if hub.status_of(error) in (403, 404):  # a token without the permission user.billing.read
                return None
            raise
        for one in usage.get("jobDetails") or ():
            if one.get("jobId") == handle["job_id"] and one.get("completedAt") and one.get("totalCostMicroUsd") is not None:
                return Decimal(one["totalCostMicroUsd"]) / 1_000_000
    return None


def _asked(job: Job) -> dict[str, Any]:
    """What the client's run_job is asked for, without secrets and volumes."""
    if job.timeout_s < 1:
        raise UsageError("timeout", "a job on hf without a timeout is stopped after 30 minutes: give --timeout")
    assert job.image is not None, "a job on Hugging Face runs in a registry image"
    return {
        "image": job.image, "command": guarded(job.argv, job.num_gpus), "env": job.env, "flavor": job.flavor,
        "timeout": job.timeout_s, "attempts": job.attempts if job.attempts > 1 else None, "name": job.labels[LABEL],
        "labels": job.labels,
    }  # fmt: skip


def _buckets(job: Job, namespace: str) -> list[tuple[str, str]]:
    return [(volume.name if "/" in volume.name else f"{job.namespace or namespace}/{volume.name}", volume.mount) for volume in job.volumes]


def _handle(info: Any, namespace: str, job: Job) -> Handle:
    """The timeout is kept here because the API does not say it again."""
    if not isinstance(info.id, str) or not info.id:
        raise ValueError("an answer without a job")
    return {"job_id": info.id, "namespace": namespace, "url": info.url, "timeout_s": str(job.timeout_s), "repo": job.output.where}
