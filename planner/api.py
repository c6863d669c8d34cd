"""The Python interface: the same plan as the command line, as objects."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from planner.errors import NothingOffered, PlanError, UsageError
from planner.request import Search, Workload
from planner.workload import Assumption

if TYPE_CHECKING:
    from planner.deadline import Deadline
    from planner.evidence import Calibration
    from planner.plans import Plan
    from planner.pricebook import PriceBook
    from planner.records import Catalogue
    from planner.request import Machine
    from planner.workload import Training

#: part of the deadline that fetching may take; the rest is for starting, estimating and showing
FETCHING = 0.85
#: seconds that `plan prices --refresh` waits for the places: it does nothing else
REFRESH_DEADLINE_S = 10.0


def clock() -> datetime:
    """The time in UTC: the one place that reads it, where the caller does not say."""
    return datetime.now(timezone.utc)


def plan(
    workload: Workload, search: Search | None = None, *, machine: Machine | None = None, now: datetime | None = None
) -> Plan:
    """Estimate `workload` on every offer that `search` allows, rank them, recommend one.

    `now`, with its time zone, is what ages are counted from; None reads the clock. A dataset on the Hub is asked for there
    unless its facts are kept and young enough, or `search.offline`; places are asked for prices with `search.live`, at the
    same time.

    Raises planner.errors.PlanError where the request makes no sense. Where nothing fits, or nothing stays within
    the budget, the plan is returned with `error` set and `recommended` None. `machine` stands for this one, which is
    looked at where it may train.
    """
    from planner import pricefeed, prices
    from planner.choose import choose
    from planner.deadline import Deadline

    now, search = (now or clock()).astimezone(timezone.utc), _checked(search or Search())
    catalogue, calibration = _data()
    deadline = Deadline(FETCHING * search.deadline_s)
    asked = pricefeed.ask(pricefeed.sources(catalogue, search.targets), deadline, now) if search.live and not search.offline else list
    try:
        training = _training(workload, search, catalogue, now, deadline)
    except PlanError:
        asked()  # what was begun is brought to its end: an answer is kept, and no client is torn down in the middle of a call
        raise
    catalogue, remarks = pricefeed.current(catalogue, search.targets, asked())

    def chosen(search: Search) -> Plan:
        return choose(_listing(search, training), search, catalogue, calibration, _here(search) if machine is None else machine)

    try:
        made = chosen(search)
    except NothingOffered:
        said = search.without("targets", "gpus")
        if said == search or not (said.targets or said.gpus or said.num_gpus or training.launcher_gpus):
            raise
        made = chosen(said)  # what is said beats what is configured
    aged = prices.age_warning(made.prices, now, search.max_price_age)
    return made._replace(warnings=(*made.warnings, *remarks, *([aged] if aged else [])))


def _here(search: Search) -> Machine:
    """This machine, looked at where it may train."""
    from planner import machine
    from planner.request import Machine

    return machine.look() if not search.targets or "local" in search.targets else Machine()


def _listing(search: Search, training: Training) -> Training:
    """The training with what was configured among its assumptions."""
    configured = (Assumption(one.name, one.value, one.flag, one.origin) for one in search.defaults)
    return training._replace(assumptions=(*configured, *training.assumptions))


def offered() -> Catalogue:
    """The catalogue with the live prices that were fetched last laid over it: what a plan is made from."""
    from planner import pricefeed

    return pricefeed.current(_data()[0])[0]


def price_book(
    targets: tuple[str, ...] = (), *, refresh: bool = False, now: datetime | None = None, deadline_s: float = REFRESH_DEADLINE_S
) -> PriceBook:
    """Every price at these targets [all], bundled and live; with `refresh` asked for first, what failed standing in the book.

    Raises UsageError for a target that does not exist or that has no prices.
    """
    from planner import pricebook, pricefeed
    from planner.deadline import Deadline

    now = (now or clock()).astimezone(timezone.utc)
    catalogue, _ = _data()
    known = pricefeed.sources(catalogue)
    for target in targets:
        if target not in known:
            raise UsageError("usage", f"--target {target}: the places with a price list are {', '.join(known)}")
    sources = pricefeed.sources(catalogue, targets)
    before = pricefeed.read(sources)
    fetched = pricefeed.ask(sources, Deadline(deadline_s), now)() if refresh else []
    after = before | {one.target: one.answer for one in fetched if one.answer}
    errors = tuple((one.target, pricefeed.told(one, after)) for one in fetched if one.error)
    return pricebook.book(catalogue, tuple(sources), before, after, errors, now)


def _training(workload: Workload, search: Search, catalogue: Catalogue, now: datetime, deadline: Deadline) -> Training:
    """The workload with every gap filled. Where the Hub gives no facts, the user's own numbers do, if they are enough."""
    from planner.datasets import HubName, named, read_local
    from planner.pasted import read
    from planner.resolve import resolve

    tail = read(workload.tail)
    data = named(workload.dataset, tail)
    part = workload.episodes is not None or tail.integers("dataset.episodes") is not None
    if not isinstance(data, HubName):
        return resolve(workload, catalogue, read_local(data, part=part) if data is not None else None)

    from planner import hub

    try:
        found, warnings = hub.read(
            data, part=part, now=now, deadline=deadline, offline=search.offline,
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


def forget() -> None:
    """Read the catalogue again at the next plan: something was added to it."""
    _data.cache_clear()


@lru_cache(maxsize=1)
def _data() -> tuple[Catalogue, Calibration]:
    from planner.catalogue import data_dir, load
    from planner.evidence import load_calibration

    catalogue = load()
    return catalogue, load_calibration(catalogue, data_dir())
