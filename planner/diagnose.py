"""Why a run ended as it did: from the last lines of its log, the likely cause and the flag that mends it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from planner.job import Job, Status

#: How much of the end of a log is looked at: a traceback with a progress bar around it.
LINES = 400
SHOWN = 12  # last lines that a person gets to see


class Cause(NamedTuple):
    """`code` is stable; `text` says what happened, `fix` the next thing to do."""

    code: str
    text: str
    fix: str


#: the first that matches the log decides; what a place cannot see (its own kill) comes from the status
_SIGNS: tuple[tuple[str, str, str, str], ...] = (
    ("no-gpu", r"plan guard: |No CUDA GPUs are available|Found no NVIDIA driver|CUDA is not available",
     "the GPU was not visible in the container", "launch again; if it stays so, take another flavor with --gpu"),
    ("out-of-memory", r"OutOfMemoryError|CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory|MPS backend out of memory",
     "the GPU ran out of memory", "{smaller}"),
    ("disk", r"No space left on device|Disk quota exceeded", "the disk is full",
     "save fewer checkpoints (-- --save_freq=N), or take a flavor with a larger disk"),
    ("gated", r"GatedRepoError|is gated|access to model .* is restricted|awaiting a review from the repo authors",
     "the weights are gated", "accept the licence on the repository's page, then launch again"),
    ("wandb-key", r"(?i)wandb.*(?:api[_ ]key|not logged in|usage error)|No API key configured",
     "Weights & Biases got no key", "set WANDB_API_KEY, or leave out --wandb.enable"),
    ("token", r"Invalid user token|Invalid username or password|401 Client Error|LocalTokenNotFoundError|HF_TOKEN is not set",
     "the Hub refused the token", "`hf auth login`, then launch again"),
    ("forbidden", r"403 (?:Client Error|Forbidden)", "the token may not write there",
     "use a token with write access, or another --repo-id"),
    ("not-found", r"RepositoryNotFoundError|RevisionNotFoundError|404 Client Error", "a repository was not found",
     "check the names in --dataset and --repo-id"),
    ("output-exists", r"FileExistsError: Output directory", "the output folder is already there",
     "`plan resume RUN`, or another --output"),
    ("dataset-version", r"BackwardCompatibilityError|The dataset you requested .* is in .* format", "this LeRobot cannot read the dataset",
     "convert it (`plan --dataset …` prints the command)"),
    ("missing-package", r"ModuleNotFoundError: No module named|ImportError: .*(?:is not installed|pip install)", "a package is missing",
     "plan for the release that the image holds (--lerobot-version), or run it on modal"),
    ("shared-memory", r"insufficient shared memory|Bus error|DataLoader worker .* (?:is killed|exited unexpectedly)",
     "a loader process died", "fewer of them: -- --num_workers=2"),
    ("nccl", r"NCCL error|ProcessGroupNCCL|torch\.distributed\.\S*Error", "the GPUs lost each other",
     "launch again, or use one GPU: --num-gpus 1"),
    ("flags", r"error: unrecognized arguments|draccus\.\S*(?:Error|Exception)|DecodingError",
     "the trainer refused its arguments", "check what stands after `--`"),
    ("download", r"ConnectionError|ReadTimeout|LocalEntryNotFoundError|Temporary failure in name resolution|HfHubHTTPError",
     "a download failed", "launch again"),
)


def cause(lines: Sequence[str], status: Status, job: Job) -> Cause | None:
    """The likely cause of a run that failed or timed out; None for one that did neither, or that the log does not explain."""
    if status.state == "timed_out":
        return Cause("timeout", f"it was stopped after its timeout of {_hours(job.timeout_s)}",
                     "`plan resume RUN --timeout TIME` continues from its last checkpoint")
    if status.state != "failed":
        return None
    text = "\n".join(lines[-LINES:])
    for code, pattern, what, fix in _SIGNS:
        if re.search(pattern, text):
            return Cause(code, what, fix.format(smaller=_smaller(job)))
    if status.exit_code in (137, -9) or re.search(r"^Killed$|oom-kill|OOMKilled", text, re.M) or "OOM" in (status.message or ""):
        return Cause("host-memory", "it was killed, most likely because the host's memory ran out",
                     "fewer loader processes (-- --num_workers=2), or " +
                     ("close what else uses it" if job.target == "local" else "a flavor with more memory"))
    return None


def _smaller(job: Job) -> str:
    """What needs less memory than this job."""
    batch = next((int(value) for flag, _, value in (one.partition("=") for one in job.trainer)
                  if flag == "--batch_size" and value.isdecimal()), None)  # fmt: skip
    if batch and batch > 1:
        return f"--batch-size {batch // 2}, or a larger GPU (--gpu)"
    return "a larger GPU (--gpu), LoRA (-- --peft.method_type=LORA) or gradient checkpointing where the policy has it"


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"


def tail(lines: Sequence[str]) -> list[str]:
    """The last lines that say something: no blank ones, one of a progress bar's many."""
    told = [line.rsplit("\r", 1)[-1].rstrip() for line in lines[-LINES:]]
    kept: list[str] = []
    for line in told:
        bar = bool(re.search(r"\d+%\|", line))
        if line and not (bar and kept and re.search(r"\d+%\|", kept[-1])):
            kept.append(line)
        elif bar:
            kept[-1] = line
    return kept[-SHOWN:]
