"""`--emit PLACE`: the best row of that place as the command that runs it, and nothing else on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from planner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.commands.options import Request
    from planner.config import Setting
    from planner.plans import Estimate, Plan
    from planner.request import Search
    from planner.workload import Training

#: tables and keys of planner.toml that only the command of a place uses
_USED = {"modal": ("secrets", "volumes"), "local": ("trainer",), "hf": ()}
LEROBOT = "lerobot"  # LeRobot's own --job.target: it submits to Hugging Face Jobs, one process on one GPU


def place_of(emit: str) -> str:
    """The target that runs what `--emit` prints."""
    return "hf" if emit == LEROBOT else emit


def search_for(request: Request) -> Search:
    """The search, restricted to the place whose command is asked for."""
    search, emit = request.search.without("targets"), request.emit
    place = place_of(emit)
    if search.targets and place not in search.targets:
        raise UsageError("usage", f"--emit {emit} runs on {place}, but --target says {', '.join(search.targets)}; leave one out")
    search = search._replace(targets=(place,), dataset_age_s=0.0)  # the command names the dataset's commit: of now
    if emit != LEROBOT:
        return search
    if (search.num_gpus or 1) > 1:
        raise UsageError("usage", f"--emit lerobot starts one process, but --num-gpus says {search.num_gpus}; use --emit hf")
    return search._replace(num_gpus=1)


class Emitted(NamedTuple):
    """A command, and what to know about it."""

    text: str  # for stdout
    warnings: tuple[str, ...]
    notes: tuple[str, ...]  # what the policy asks of data and settings
    needs: tuple[str, ...]  # what has to be there before it can run
    assumed: tuple[str, ...] = ()  # what planner.toml or the environment gave


def command(plan: Plan, request: Request) -> Emitted:
    """The recommended row as a command. UsageError where that place cannot run it."""
    from planner import catalogue
    from planner.job import Output
    from planner.recipes import lerobot
    from planner.targets import base

    assert plan.recommended is not None
    place, form = place_of(request.emit), LEROBOT if request.emit == LEROBOT else ""
    estimate = plan.estimate(plan.recommended.id)
    target, name = base.get(place), run_name(plan.workload, estimate)
    settings = request.settings
    if form and not request.repo_id:
        output = Output("hub", "")  # LeRobot makes a private repository by itself
    else:
        output = target.output_for(repo_id=request.repo_id, output=request.output, run_name=name)
    job = lerobot.job(
        estimate, plan.workload, target=place, output=output, name=name, form=form,
        repo_id=request.repo_id, startup_timeout_s=catalogue.load().targets[place].startup_limit_s,
        volumes=named(settings, "volumes"),
    )  # fmt: skip
    job = job._replace(namespace=request.namespace, secret_names=secret_names(settings))
    if form:
        from planner.targets import hf

        text, needs = hf.emit_lerobot(job), hf.needs_lerobot(job)
    elif place == "local":
        from planner.targets import local

        trainer = settings.get("trainer")
        text, needs = local.emit(job, trainer and trainer.value), target.needs(job)
    else:
        text, needs = target.emit(job), target.needs(job)
    notes = (plan.workload.policy.notes,) if plan.workload.policy.notes else ()
    assumed = [f"{one.name} {one.value} ({one.origin})" for one in request.search.defaults]
    assumed += [f"{key} {one.text} ({one.origin})" for key, one in settings.items() if key.partition(".")[0] in _USED[place]]
    return Emitted(text, job.warnings, notes, needs, tuple(assumed))


def named(settings: Mapping[str, Setting], table: str) -> dict[str, str]:
    """What a table such as [volumes] of planner.toml says."""
    return {name.partition(".")[2]: one.value for name, one in settings.items() if name.startswith(f"{table}.")}


def secret_names(settings: Mapping[str, Setting]) -> dict[str, str] | None:
    """What [secrets] of planner.toml says, by the variable that each secret holds."""
    from planner.targets.modal import VARIABLES

    return {VARIABLES[key]: name for key, name in named(settings, "secrets").items()} or None


def run_name(training: Training, estimate: Estimate) -> str:
    """`smolvla-pick-3f2a91`: policy, dataset, and six digits that change with what is trained, and on how many GPUs.

    The same training keeps its name, so that running it again resumes it; another one never meets its files. The kind of
    GPU does not change what is learned, nor does what the user only told the plan: a Hub dataset's frames, the price.
    """
    import re
    from hashlib import sha256

    what = (
        training.policy.id, training.variant, training.dataset, training.dataset_revision, training.dataset_episodes,
        training.dataset_root,
        training.frames if training.dataset_root else None, training.lerobot, training.trainer_args,
        max(1, estimate.offer.num_gpus), estimate.batch_size, estimate.gradient_accumulation, estimate.steps,
    )  # fmt: skip
    digits = sha256(repr(what).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    dataset = re.sub(r"[^A-Za-z0-9_-]+", "-", (training.dataset or training.dataset_root or "").rstrip("/").split("/")[-1])
    return "-".join(part for part in (training.policy.id, dataset.strip("-")[:30], digits) if part)
