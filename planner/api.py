"""The Python interface: the same plan as the command line, as objects."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from planner.request import Search, Workload

if TYPE_CHECKING:
    from planner.catalogue import Catalogue
    from planner.evidence import Calibration
    from planner.plans import Plan


def plan(workload: Workload, search: Search | None = None) -> Plan:
    """Estimate `workload` on every offer that `search` allows, rank them, recommend one.

    Raises planner.errors.PlanError where the request makes no sense. Where nothing fits, or nothing stays within
    the budget, the plan is returned with `error` set and `recommended` None.
    """
    from planner.choose import choose
    from planner.datasets import find, read_local
    from planner.pasted import read
    from planner.resolve import resolve

    catalogue, calibration = _data()
    dataset = None
    if workload.dataset is not None:
        dataset = find(workload.dataset)
    else:
        root = read(workload.tail).get("dataset.root")
        if root is not None and Path(root).expanduser().is_dir():  # elsewhere it may exist where the command runs
            dataset = read_local(root)
    training = resolve(workload, catalogue, dataset)
    return choose(training, search or Search(), catalogue, calibration)


@lru_cache(maxsize=1)
def _data() -> tuple[Catalogue, Calibration]:
    from planner.catalogue import data_dir, load
    from planner.evidence import load_calibration

    catalogue = load()
    return catalogue, load_calibration(catalogue, data_dir())
