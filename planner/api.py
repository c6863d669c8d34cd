"""The Python interface: the same plan as the command line, as objects."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from planner.errors import NothingOffered, PlanError, UsageError
from planner.request import Search, Workload
from planner.workload import Assumption

if TYPE_CHECKING:
    import datetime

    from planner.evidence import Calibration
    from planner.plans import Plan
    from planner.records import Catalogue
    from planner.request import Machine
    from planner.workload import Training


def plan(
    workload: Workload, search: Search | None = None, *, machine: Machine | None = None, now: datetime.datetime | None = None
) -> Plan:
    """Estimate `workload` on every offer that `search` allows, rank them, recommend one.

    `now`, with its time zone, is what ages are counted from; None reads the clock. A dataset on the Hub is asked for there
    unless its facts are kept and young enough, or `search.offline`.

    Raises planner.errors.PlanError where the request makes no sense. Where nothing fits, or nothing stays within
    the budget, the plan is returned with `error` set and `recommended` None. `machine` stands for this one, which is
    looked at where it may train.
    """
    from planner.choose import choose

    catalogue, calibration = _data()
    search = _checked(search or Search())
    training = _training(workload, search, catalogue, now)

    def chosen(search: Search) -> Plan:
        return choose(_listing(search, training), search, catalogue, calibration, _here(search) if machine is None else machine)

    try:
        return chosen(search)
    except NothingOffered:
        said = search.without("targets", "gpus")
        if said == search or not (said.targets or said.gpus or said.num_gpus or training.launcher_gpus):
            raise
        return chosen(said)  # what is said beats what is configured


def _here(search: Search) -> Machine:
    """This machine, looked at where it may train."""
    from planner import machine
    from planner.request import Machine

    return machine.look() if not search.targets or "local" in search.targets else Machine()


def _listing(search: Search, training: Training) -> Training:
    """The training with what was configured among its assumptions."""
    configured = (Assumption(one.name, one.value, one.flag, one.origin) for one in search.defaults)
    return training._replace(assumptions=(*configured, *training.assumptions))


def _training(workload: Workload, search: Search, catalogue: Catalogue, now: datetime.datetime | None) -> Training:
    """The workload with every gap filled. Where the Hub gives no facts, the user's own numbers do, if they are enough."""
    from planner.datasets import HubName, named, read_local
    from planner.pasted import read
    from planner.resolve import resolve

    tail = read(workload.tail)
    data = named(workload.dataset, tail)
    part = workload.episodes is not None or tail.integers("dataset.episodes") is not None
    if not isinstance(data, HubName):
        return resolve(workload, catalogue, read_local(data, part=part) if data is not None else None)

    from datetime import datetime, timezone

    from planner import hub
    from planner.deadline import Deadline

    try:
        found, warnings = hub.read(
            data, part=part, now=now or datetime.now(timezone.utc), deadline=Deadline(search.deadline_s), offline=search.offline,
            max_age_s=0.0 if search.live else search.dataset_age_s,
        )  # fmt: skip
    except PlanError as error:
        try:
            training = resolve(workload, catalogue)
        except UsageError as lacking:
            raise error if lacking.code == "frames" else lacking from None
        trains_all = workload.episodes is not None and training.dataset_episodes is None
        return training._replace(warnings=(hub.unread(error, trains_all), *training.warnings))
    training = resolve(workload, catalogue, found)
    return training._replace(warnings=(*warnings, *training.warnings))


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
