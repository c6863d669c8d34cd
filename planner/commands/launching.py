"""`plan … --launch`: the plan is shown, a person says yes, the job is sent once and followed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from planner.commands import terminal
from planner.commands.emission import named, run_name, secret_names
from planner.errors import Declined, PlanError, UsageError

if TYPE_CHECKING:
    from decimal import Decimal

    from planner.commands.options import Request
    from planner.job import Job
    from planner.plans import Estimate, Plan
    from planner.request import Search
    from planner.runs import Entry
    from planner.targets.base import Target


def launch(plan: Plan, request: Request) -> int:
    """Launch the recommended row. The exit code; errors are raised, and before the request leaves they cost nothing."""
    from planner.show import runs
    from planner.targets import base

    assert plan.recommended is not None
    estimate = plan.estimate(plan.recommended.id)
    priced(plan, request)
    target = base.get(estimate.offer.target)
    job = job_of(plan, estimate, target, request)
    shown = not (request.json or request.quiet or request.dry_run)  # the table names the plan's warnings
    for warning in (*(() if shown else (text for _, text in plan.warnings)), *job.warnings):
        terminal.note(f"warning: {warning}")
    if request.dry_run:
        show_request(target, job)
        terminal.note("nothing was sent")
        return 0
    _not_twice(job, request)
    check(target, job)
    confirm(runs.question(estimate), request, free=estimate.usd_max is None)
    entry = send(plan, estimate, target, job, request)
    return after(entry, request)


def job_of(plan: Plan, estimate: Estimate, target: Target, request: Request, *, probe: bool = False) -> Job:
    """The job of the row, with a run id of its own and what is configured of its place."""
    from planner import catalogue, launch
    from planner.recipes import lerobot

    settings = request.settings
    name = run_name(plan.workload, estimate)
    run = launch.run_id(f"probe-{name}" if probe else name)
    repo_id, said = (None, None) if probe else (request.repo_id, request.output)
    rules = catalogue.load().targets[target.name]
    if rules.output == "hub" and repo_id is None:
        repo_id = f"{target.account(request.namespace)}/{name}"
    output = target.output_for(repo_id=repo_id, output=said, run_name=run if probe else name)
    job = lerobot.job(estimate, plan.workload, target=target.name, output=output, name=name, probe=probe,
                      repo_id=None if probe else request.repo_id, startup_timeout_s=rules.startup_limit_s,
                      volumes=named(settings, "volumes"))  # fmt: skip
    trainer = settings.get("trainer")
    return job._replace(labels={**job.labels, launch.LABEL: run}, namespace=request.namespace, secret_names=secret_names(settings),
                        trainer_at=trainer.value if trainer else job.trainer_at)  # fmt: skip


def search_of(request: Request) -> Search:
    """The search of what is to be launched: places that run jobs from here, and today's prices asked for first."""
    from planner.targets import base

    search, launching = request.search, [name for name in base.names() if hasattr(base.get(name), "submit")]
    for target in search.targets:
        if target in base.names() and target not in launching:
            raise UsageError("target", f"plan does not launch on {target} yet: --emit {target} prints what runs there")
    targets = search.targets or tuple(launching)
    return search._replace(targets=targets, live=not search.offline and targets != ("local",))


def pushed(request: Request) -> Request:
    """The same request for a dataset on the Hub, after the local one has been uploaded there, privately."""
    from pathlib import Path

    from planner import datasets
    from planner.commands.options import Request
    from planner.targets import hf

    folder = request.workload.dataset
    if folder is None or not datasets.exists(folder):
        raise UsageError("usage", "--push-dataset uploads the local folder that --dataset names; leave it out for a dataset on the Hub")
    root = Path(folder).expanduser().resolve()
    terminal.note(f"uploading {root} to a private repository")
    repo = hf.push_dataset(root, root.name, request.namespace)
    terminal.note(f"the dataset is {repo}")
    return Request(request.workload._replace(dataset=repo), request.search, request.argv, request.said)


def priced(plan: Plan, request: Request) -> None:
    """PricesTooOld where the recommended row's price is unknown, or older than a launch takes."""
    from planner import prices
    from planner.commands import running

    error = prices.too_old(plan, running.now(), request.search.max_price_age)
    if error:
        raise error


def _not_twice(job: Job, request: Request) -> None:
    """Said before anything is looked at; the ledger makes sure of it when the job is sent."""
    from planner import launch
    from planner.commands import running

    with running.ledger() as book:
        for other in running.refreshed(book, book.twins(launch.fingerprint(job))):
            if other.live and not request.said.get("again"):
                raise launch.refused_twin(other)


def show_request(target: Target, job: Job) -> None:
    """What would be sent, as JSON on stdout."""
    terminal.write(json.dumps(target.request(job), indent=2, ensure_ascii=False, default=str))


def check(target: Target, job: Job) -> None:
    """Everything that a launch needs, looked at before anything is asked or spent."""
    from planner.show.runs import check_lines

    checks = target.preflight(job)
    failed = [check for check in checks if check.ok is False]
    for line in check_lines(check for check in checks if check not in failed[:1]):
        terminal.note(line)
    if failed:
        first = failed[0]
        error = PlanError("preflight", f"{first.name}: {first.text}{f'; {first.fix}' if first.fix else ''}")
        error.exit_code = first.exit_code
        raise error


def confirm(question: str, request: Request, *, free: bool) -> None:
    """Yes from a person, or from a script that has also said how much it may cost. `free`: nothing is billed."""
    if request.yes and (free or request.search.max_cost is not None):
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("confirmation", "there is no terminal to ask on: a launch needs --yes and --max-cost USD; the question was: "
                         f"{question.removesuffix(' Proceed? [y/N] ')}")
    if request.yes:
        return
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("declined", "nothing was launched")


def send(plan: Plan, estimate: Estimate, target: Target, job: Job, request: Request) -> Entry:
    """Write the run down, send it, and return it."""
    from planner import launch
    from planner.commands import running
    from planner.show import document

    now = running.now()
    shown = {**document.document(plan), "estimates": [document.estimate(estimate)], "request": request.workload._asdict()}
    job = job._replace(namespace=target.account(job.namespace))  # by name: a later command may have another login
    row = launch.entry(job, shown, estimate.usd_max, now)
    with running.ledger() as book:
        running.refreshed(book, book.twins(row.fingerprint))  # one that has ended meanwhile is none
        return launch.launch(job, row, target, book, again=bool(request.said.get("again")), usd_per_day=per_day(request))


def per_day(request: Request) -> Decimal | None:
    """What a day's launches may cost together, where that is configured."""
    setting = request.settings.get("max_cost_per_day")
    return setting.value if setting else None


def after(entry: Entry, request: Request) -> int:
    """Say what was launched, and follow it unless it is left alone; the exit code. From here on it runs, and Ctrl-C says so."""
    from planner.commands import running

    try:
        return _told(entry, request) if request.json else _shown(entry, request)
    except KeyboardInterrupt:
        return running.left(entry.id)


def _shown(entry: Entry, request: Request) -> int:
    quiet = bool(request.said.get("quiet"))
    if quiet:
        terminal.write(entry.id)
    else:
        url = (entry.handle or {}).get("url")
        terminal.note(f"launched {entry.id}{f': {url}' if url else ''}")
    if request.detach:
        if not quiet:
            terminal.note(f"come back with: plan logs {entry.id} --follow")
        return 0
    return _followed(entry, request, quiet)


def _followed(entry: Entry, request: Request, quiet: bool) -> int:
    from planner.commands import running

    with running.ledger() as book:
        return running.watch(book, entry, learn=not request.no_learn, quiet=quiet)


def _told(entry: Entry, request: Request) -> int:
    """The run as one JSON document: as it was started with --detach, else as it is when nobody follows it any more."""
    from planner.commands import running
    from planner.runs import Ledger
    from planner.show import runs

    code = 0
    if not request.detach:
        try:
            code = _followed(entry, request, quiet=True)
        except KeyboardInterrupt:
            code = running.left(entry.id)
        except PlanError as error:
            terminal.note(f"error: {error.text}")
            code = error.exit_code
        with Ledger() as book:
            entry = book.get(entry.id)
    _, cause = running.looked_up(entry)
    terminal.write_json(runs.document_of([entry], running.now(), {entry.id: cause} if cause else None))
    return code


def refuse_contradictions(request: Request) -> None:
    """Options that make no sense with, or without, --launch; said before anything is planned or asked."""
    from planner import pasted

    if request.launch and request.search.offline and request.search.targets != ("local",):
        raise UsageError("usage", "--launch needs the network, and --offline forbids it: leave one out")
    if request.push_dataset and request.dry_run:
        raise UsageError("usage", "--push-dataset uploads, and --dry-run sends nothing: leave one out")
    stated = any(pasted.value_of(request.workload.tail, name) for name in ("dataset.repo_id", "dataset.root"))
    if request.launch and not (request.workload.dataset or stated):
        raise UsageError("dataset", "a launch needs a dataset: --dataset USER/NAME, or a local folder with --target local")
    for name in ("yes", "detach", "dry_run", "push_dataset", "again", "no_learn"):
        if getattr(request, name) and not request.launch:
            raise UsageError("usage", f"--{name.replace('_', '-')} needs --launch; add that or leave it out")


