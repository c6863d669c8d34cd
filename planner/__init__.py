"""Sizes, times, prices and chooses a training run before it starts.

    from planner import plan, Workload
    best = plan(Workload(policy="smolvla", episodes=50)).recommended
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.api import plan
    from planner.errors import PlanError
    from planner.plans import Estimate, Plan
    from planner.request import Search, Workload

__all__ = ["Estimate", "Plan", "PlanError", "Search", "Workload", "plan"]

_HOME = {"Estimate": "plans", "Plan": "plans", "PlanError": "errors", "Search": "request", "Workload": "request", "plan": "api"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"planner.{_HOME[name]}"), name)
    raise AttributeError(f"module 'planner' has no attribute {name!r}")
