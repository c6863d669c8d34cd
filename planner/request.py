"""What a user asks for, before anything is filled in: the flags of the command line, or a call in Python; and where from.

`Workload` and `Search` hold only what was said; None means "not said". planner.resolve turns them into a
Training, with every assumption listed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

#: seconds that a plan spends on the network, all requests together
DEADLINE_S = 5.0
#: what the Hub said about a dataset is asked again after this long
DATASET_AGE_S = 86_400.0


class Workload(NamedTuple):
    """What to train. `plan(Workload(policy="smolvla", episodes=50))` equals `plan --policy smolvla --episodes 50`."""

    policy: str | None = None
    dataset: str | None = None  # a local LeRobotDataset folder, or a Hub id: owner/name or owner/name@revision
    episodes: int | None = None
    episode_seconds: float | None = None
    fps: float | None = None
    frames: int | None = None
    cameras: tuple[str, ...] = ()  # "2x640x480", repeatable for mixed cameras
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None  # per GPU
    lerobot_version: str | None = None
    tail: tuple[str, ...] = ()  # what stands after `--`: trainer arguments, or a whole command


class Default(NamedTuple):
    """A value that a planner.toml or the environment gave where the command line said nothing; the plan lists it."""

    field: str  # of Workload or Search
    name: str
    value: str
    flag: str  # that says it on the command line; empty: none does
    origin: str  # "planner.toml: target"


class Search(NamedTuple):
    """Where to look and what to prefer."""

    targets: tuple[str, ...] = ()  # hf, modal, local; empty: all that can be priced, and the GPUs named
    gpus: tuple[str, ...] = ()
    num_gpus: int | None = None
    max_cost: Decimal | None = None  # dollars, for the whole run, at P90
    max_hours: float | None = None  # at P90
    optimize: str = "cost"  # cost, time, balanced
    timeout_s: int | None = None  # the user's own timeout
    attempts: int | None = None
    offline: bool = False  # nothing is fetched
    live: bool = False  # prices and the facts of a Hub dataset are fetched first
    max_price_age: float | None = None  # days; older prices stop a launch
    deadline_s: float = DEADLINE_S  # for all that is fetched
    dataset_age_s: float = DATASET_AGE_S  # the kept facts of a Hub dataset are used this long without asking
    usd_per_kwh: Decimal | None = None  # what electricity costs here; None: it is not priced
    defaults: tuple[Default, ...] = ()  # which values of this search and its workload were not said but configured

    def configured(self, field: str) -> bool:
        """Whether a field's value was configured, not said."""
        return any(one.field == field for one in self.defaults)

    def without(self, *fields: str) -> Search:
        """The search without what was configured for these fields; what was said stays."""
        dropped = {one.field for one in self.defaults if one.field in fields}
        unset = {field: self._field_defaults[field] for field in dropped}
        return self._replace(**unset, defaults=tuple(one for one in self.defaults if one.field not in dropped))


class Device(NamedTuple):
    """A GPU of this machine, as it calls itself."""

    name: str
    memory_bytes: int | None = None  # None: nobody says
    used_bytes: int = 0  # by other processes, now
    part: bool = False  # of a card (MIG), which trains alone


class Machine(NamedTuple):
    """The machine that the plan is made on, and that may train too. None is unknown, or not looked at."""

    devices: tuple[Device, ...] = ()
    vcpus: float | None = None  # hardware threads that this process may use
    ram_bytes: int | None = None
    disk_bytes: int | None = None  # free where outputs go
    driver: str | None = None
    notes: tuple[str, ...] = ()  # why a GPU that may be here cannot be seen
