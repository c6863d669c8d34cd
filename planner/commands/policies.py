"""`plan policies`: what can be trained, and the memory that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.commands import terminal
from planner.commands.options import JSON, Request, takes

if TYPE_CHECKING:
    from planner.records import Catalogue

GPU = "h100"  # any NVIDIA card: what a training needs is the same on all of them


@takes(JSON)
def run(request: Request) -> int:
    from planner import catalogue
    from planner.show import browse

    known = catalogue.load()
    memory = _memory(known)
    if request.json:
        terminal.write_json(browse.policies_document(known, memory))
    else:
        terminal.write(browse.policies(known, memory, **terminal.style()))
    return 0


def _memory(catalogue: Catalogue) -> dict[str, float | None]:
    """Policy -> bytes that its default batch needs on one GPU, with everything else at its default, too."""
    from planner import memory
    from planner.profiles import cost_of
    from planner.request import Workload
    from planner.resolve import resolve
    from planner.workload import RELEASES

    needs: dict[str, float | None] = {}
    for policy in catalogue.policies.values():
        newest = next(release for release in RELEASES if release in policy.releases)
        training = resolve(Workload(policy=policy.id, episodes=1, lerobot_version=newest), catalogue)
        cost = cost_of(catalogue, policy, training.variant, training.cameras)
        needs[policy.id] = memory.estimate(training, catalogue.gpus[GPU], 1, cost, memory.measured(catalogue.runs, training)).needed_bytes
    return needs
