"""What a shell completes after a flag, from the catalogue. A broken catalogue completes to nothing."""

from __future__ import annotations

from collections.abc import Iterable


def policies(incomplete: str) -> list[str]:
    return _starting(incomplete, "policies")


def gpus(incomplete: str) -> list[str]:
    return _starting(incomplete, "gpus")


def targets(incomplete: str) -> list[str]:
    return _starting(incomplete, "targets")


def releases(incomplete: str) -> list[str]:
    from planner.workload import RELEASES

    return _matching(incomplete, RELEASES)


def emissions(incomplete: str) -> list[str]:
    return _matching(incomplete, ("hf", "modal", "lerobot", "local"))


def runs(incomplete: str) -> list[str]:
    from planner.errors import PlanError
    from planner.runs import Ledger

    try:
        with Ledger() as ledger:
            return _matching(incomplete, ["last", *(entry.id for entry in ledger.newest(100))])
    except (PlanError, OSError):
        return []


def _starting(incomplete: str, section: str) -> list[str]:
    from planner import catalogue
    from planner.errors import PlanError

    try:
        return _matching(incomplete, getattr(catalogue.load(), section))
    except (PlanError, OSError):
        return []


def _matching(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
