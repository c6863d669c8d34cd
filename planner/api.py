"""The Python interface: the same plan as the command line, as objects."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import UsageError
from planner.request import Search, Workload

if TYPE_CHECKING:
    from planner.evidence import Calibration
    from planner.plans import Plan
    from planner.records import Catalogue
    from planner.request import Machine


def plan(workload: Workload, search: Search | None = None, machine: Machine | None = None) -> Plan:
    """Estimate `workload` on every offer that `search` allows, rank them, recommend one.

    Raises planner.errors.PlanError where the request makes no sense. Where nothing fits, or nothing stays within
    the budget, the plan is returned with `error` set and `recommended` None. `machine` stands for this one, which is
    looked at where it may train.
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
    search = _checked(search or Search())
    if machine is None:
        from planner import machine as here
        from planner.request import Machine

        machine = here.look() if not search.targets or "local" in search.targets else Machine()
    return choose(training, search, catalogue, calibration, machine)


def _checked(search: Search) -> Search:
    """The search with dollars as Decimal and single names as lists, or one line that says what is wrong with it."""
    values = search._asdict()
    for name in ("targets", "gpus"):
        if isinstance(values[name], str):
            values[name] = (values[name],)
    for name in ("max_cost", "usd_per_kwh"):
        if values[name] is not None:
            try:
                values[name] = Decimal(str(values[name]))
            except ArithmeticError:
                raise UsageError("usage", f"{name} {values[name]!r}: expected dollars") from None
    for name in ("max_cost", "usd_per_kwh", "max_hours", "timeout_s", "num_gpus", "attempts"):
        value = values[name]
        if value is not None and (isinstance(value, bool) or not 0 < value < 10**9):
            raise UsageError("usage", f"{name} {value}: expected a number above 0")
        if name in ("timeout_s", "num_gpus", "attempts") and value is not None and not isinstance(value, int):
            raise UsageError("usage", f"{name} {value}: expected a whole number")
    return Search(**values)


@lru_cache(maxsize=1)
def _data() -> tuple[Catalogue, Calibration]:
    from planner.catalogue import data_dir, load
    from planner.evidence import load_calibration

    catalogue = load()
    return catalogue, load_calibration(catalogue, data_dir())
