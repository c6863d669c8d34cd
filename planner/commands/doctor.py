"""`plan doctor`: what a launch needs, checked side by side, each with what mends it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from planner.commands import terminal, values
from planner.commands.options import COMMAND, JSON, SEARCH, WORKLOAD, Request, takes
from planner.errors import UsageError

if TYPE_CHECKING:
    from planner.doctor import Ask, Check
    from planner.records import Policy

DEADLINE_S = 20.0  # two clients are imported and a dozen questions asked
PLACES = ("hf", "modal", "local")

CHECKED = {
    **{name: WORKLOAD[name] for name in ("policy", "dataset", "lerobot_version")},
    **{name: SEARCH[name] for name in ("targets", "num_gpus", "offline")},
    "namespace": COMMAND["namespace"],
}


@takes(CHECKED, JSON)
def run(
    request: Request,
    deadline: str = typer.Option(  # a number, once its reader has seen it
        None, "--deadline", metavar="S", parser=values.number("--deadline", 3600, "seconds"),
        help="Seconds for all checks together [20].", show_default=False,
    ),
) -> int:  # fmt: skip
    from planner import doctor
    from planner.deadline import Deadline
    from planner.show import health

    limit = Deadline(float(deadline or DEADLINE_S))
    checks = doctor.examine(_asks(request, limit.seconds), limit)
    if request.search.offline:
        checks += (doctor.Check("here", "network", doctor.UNKNOWN, "--offline: nothing was asked of Hugging Face or Modal"),)
    code = doctor.exit_code(checks)
    if request.json:
        terminal.write_json(health.document(checks, code))
    else:
        terminal.write(health.checks(checks, **terminal.style()))
    return code


def _asks(request: Request, timeout_s: float) -> list[Ask]:
    """The questions of the places that are wanted. UsageError for a place or policy that there is not."""
    from planner import datasets, pasted
    from planner.doctor import Ask, packages, trainer
    from planner.workload import RELEASES

    offline = request.search.offline
    places = request.search.targets or PLACES
    for place in places:
        if place not in PLACES:
            raise UsageError("usage", f"--target {place}: expected one of {', '.join(PLACES)}")
    release = request.workload.lerobot_version or RELEASES[0]
    if release not in RELEASES:
        raise UsageError("usage", f"--lerobot-version {release}: expected one of {', '.join(RELEASES)}")
    policy = _policy(request.workload.policy)
    data = datasets.named(request.workload.dataset, pasted.read(()))
    found = datasets.read_local(data) if isinstance(data, Path) else None
    settings = request.settings
    own = settings.get("trainer")
    asks = [Ask("here", "packages", packages)]
    if "local" in places:
        needed = "local" in request.search.targets
        program, origin = (own.value, own.origin) if own else (None, "")
        asks.append(Ask("here", "trainer", lambda: trainer(program, origin, release, needed=needed, timeout_s=timeout_s)))
        asks.append(Ask("here", "gpu", lambda: _gpus(needed)))
    asks += _disk(policy, places)
    if found is not None:
        asks.append(Ask("here", "dataset", lambda: [_local(found, release, places)]))
    if "hf" in places:
        asks += _hf(request, policy, release, data.repo if isinstance(data, datasets.HubName) else None)
    if "modal" in places:
        asks += _modal(request, settings, offline)
    return asks


def _policy(name: str | None) -> Policy | None:
    from planner import catalogue
    from planner.commands.values import nearest

    if name is None:
        return None
    known = catalogue.load().policies
    if name not in known:
        raise UsageError("policy", f"no policy {terminal.one_line(name)}{nearest(name, list(known))} (`plan policies` lists them)")
    return known[name]


def _gpus(needed: bool) -> list[Check]:
    from planner import catalogue, doctor, machine, owned

    here = machine.look()
    return doctor.gpus(here, [text for _, text in owned.remarks(here, catalogue.load())], needed=needed)


def _disk(policy: Policy | None, places: tuple[str, ...]) -> list[Ask]:
    import os

    from planner.doctor import Ask, disk

    if "local" not in places:
        return []
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    return [Ask("here", "disk", lambda: disk(home, policy.download_bytes if policy else 0.0))]


def _local(dataset: Any, release: str, places: tuple[str, ...]) -> Check:
    from planner.doctor import OK, WARN, Check

    for _, text in dataset.warnings(release):
        return Check("here", "dataset", WARN, text, "convert it before the run")
    what = f"{dataset.name}: {dataset.episodes} episodes, {dataset.frames} frames, read from its folder"
    if "hf" in places:
        return Check("here", "dataset", WARN, f"{what}; a job on hf cannot read it", "push it to the Hub and name it USER/NAME")
    return Check("here", "dataset", OK, what)


def _hf(request: Request, policy: Policy | None, release: str, dataset: str | None) -> list[Ask]:
    from planner.recipes import lerobot
    from planner.targets import hf

    setting = request.settings.get("namespace")
    models = ([policy.base.id] if policy.base else []) + list(policy.gated) if policy else []
    return hf.checkup(
        namespace=request.namespace or (setting.value if setting else None), models=models, dataset=dataset, release=release,
        image=(lerobot.IMAGE, lerobot.IMAGE_RELEASE), offline=request.search.offline, clock=time.time,
    )  # fmt: skip


def _modal(request: Request, settings: Mapping[str, Any], offline: bool) -> list[Ask]:
    from planner.commands.emission import named, secret_names
    from planner.recipes import lerobot
    from planner.targets import modal

    usual = {"outputs": lerobot.OUTPUTS, "datasets": lerobot.DATASETS, "cache": lerobot.CACHE}
    volumes = [named(settings, "volumes").get(purpose, volume.name) for purpose, volume in usual.items()]
    return modal.checkup(secrets=secret_names(settings) or {}, volumes=volumes, num_gpus=request.search.num_gpus, offline=offline)
