"""The ledger: every run that was launched, in one SQLite file that several terminals use at once.

A row is written before the request goes out (`submitting`) and completed when the reply is there. Plan, prices and job stand in
it as they were, so that history is never priced again. A row that stays `submitting` is a launch whose reply was lost or whose
process was killed: `planner.launch` looks for its job by its label, and never sends it a second time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from planner import folders
from planner.errors import UsageError
from planner.job import ENDED, Handle

FILE = "runs.sqlite"
SUBMITTING, REFUSED = "submitting", "refused"  # states of the ledger's own, beside those of planner.job
_VERSION = 1
_WAIT_S = 20.0  # for another terminal that is writing
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY,
  group_id TEXT,
  target TEXT NOT NULL,
  flavor TEXT NOT NULL,
  state TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  created_at TEXT NOT NULL,
  ended_at TEXT,
  handle TEXT,
  job TEXT NOT NULL,
  plan TEXT NOT NULL,
  usd_max TEXT,
  usd_spent TEXT,
  message TEXT,
  actual TEXT
);
CREATE INDEX IF NOT EXISTS runs_created ON runs (created_at);
CREATE TABLE IF NOT EXISTS segments (
  run TEXT NOT NULL REFERENCES runs (id),
  number INTEGER NOT NULL,
  state TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at TEXT,
  handle TEXT,
  PRIMARY KEY (run, number)
);
"""


class Entry(NamedTuple):
    """One run. Times are ISO 8601 in UTC; None is what is not known."""

    id: str
    target: str
    flavor: str
    state: str  # submitting, refused, or one of planner.job.STATES
    fingerprint: str  # the same for two launches of the same thing
    created_at: str
    job: dict[str, Any]  # planner.job.Job as it was sent; secrets by name
    plan: dict[str, Any]  # the plan's document with the one row that was launched
    usd_max: Decimal | None = None  # what the place may bill at most; None: no price
    group: str | None = None  # of folds, sweeps
    ended_at: str | None = None
    handle: Handle | None = None
    usd_spent: Decimal | None = None  # as the place billed it
    message: str | None = None
    actual: dict[str, Any] | None = None  # start-up, step time, peak memory, as measured

    @property
    def live(self) -> bool:
        """It may cost money now or later."""
        return self.state not in ENDED and self.state != REFUSED

    @property
    def usd_committed(self) -> Decimal:
        """What counts against a budget: the bill, else the worst case; nothing for what never ran."""
        if self.state == REFUSED:
            return Decimal(0)
        return self.usd_spent if self.usd_spent is not None else self.usd_max or Decimal(0)


class Segment(NamedTuple):
    """One stretch of a run on one machine: its first, and one more for every time it was resumed."""

    run: str
    number: int  # from 1
    state: str
    started_at: str
    ended_at: str | None = None
    handle: Handle | None = None


class OverDailyBudget(Exception):
    """A launch would take the day's worst cases over the limit."""

    def __init__(self, committed: Decimal) -> None:
        super().__init__(str(committed))
        self.committed = committed


class Twin(Exception):
    """The same thing is running, or may be."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.id)
        self.entry = entry


class Ledger:
    """The file of runs. Every method is one transaction; a killed process leaves what was there before or after it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or folders.state() / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._base = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        found = self._base.execute("PRAGMA user_version").fetchone()[0]
        if found > _VERSION:
            raise UsageError("ledger", f"{self.path} was written by a newer version of plan: update plan")
        if found < _VERSION:
            self._base.executescript(f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        self._base.execute("PRAGMA synchronous = FULL")  # a row survives the power cord, too

    def close(self) -> None:
        self._base.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------------------- writing

    def begin(self, entry: Entry, *, again: bool = False, usd_per_day: Decimal | None = None) -> None:
        """Write down that `entry` is about to be sent.

        Raises Twin where a run of the same fingerprint is live (unless `again`, which still refuses one whose reply is missing),
        and OverDailyBudget where the worst cases of the last 24 hours and this one are more than `usd_per_day`.
        """
        with self._write():
            for other in self._select("fingerprint = ?", entry.fingerprint):
                if other.live and (other.state == SUBMITTING or not again):
                    raise Twin(other)
            if usd_per_day is not None:
                since = (datetime.fromisoformat(entry.created_at) - timedelta(days=1)).isoformat()
                committed = sum((one.usd_committed for one in self._select("created_at > ?", since)), Decimal(0))
                if committed + (entry.usd_max or Decimal(0)) > usd_per_day:
                    raise OverDailyBudget(committed)
            row = _row(entry)
            self._base.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
            self._base.execute("INSERT INTO segments (run, number, state, started_at) VALUES (?, 1, ?, ?)",
                               (entry.id, entry.state, entry.created_at))  # fmt: skip

    def update(self, run: str, **changes: Any) -> Entry:
        """Change fields of a run; its newest segment follows `state`, `handle` and `ended_at`. The run as it is then.

        What has ended stays as it ended: a late answer does not bring it back to life.
        """
        with self._write():
            before = self._one(run)
            if before.state in ENDED and changes.get("state", before.state) not in ENDED:
                changes.pop("state")
            after = before._replace(**changes)
            row = _row(after)
            self._base.execute(f"UPDATE runs SET {', '.join(f'{name} = ?' for name in row)} WHERE id = ?", (*row.values(), run))
            self._base.execute(
                "UPDATE segments SET state = ?, handle = ?, ended_at = ? WHERE run = ? AND number = "
                "(SELECT max(number) FROM segments WHERE run = ?)", (after.state, row["handle"], after.ended_at, run, run),
            )  # fmt: skip
            return after

    def resume(self, run: str, at: str, **changes: Any) -> Entry:
        """Begin the run's next segment, about to be sent, with `changes` of the run's fields. The run as it is then.

        Raises Twin while the run is live.
        """
        with self._write():
            before = self._one(run)
            if before.live:
                raise Twin(before)
            after = before._replace(state=SUBMITTING, handle=None, ended_at=None, message=None, usd_spent=None)._replace(**changes)
            row = _row(after)
            self._base.execute(f"UPDATE runs SET {', '.join(f'{name} = ?' for name in row)} WHERE id = ?", (*row.values(), run))
            self._base.execute("INSERT INTO segments (run, number, state, started_at) SELECT ?, max(number) + 1, ?, ? FROM segments "
                               "WHERE run = ?", (run, SUBMITTING, at, run))  # fmt: skip
            return after

    # -------------------------------------------------------------------------------- reading

    def get(self, name: str) -> Entry:
        """The run of this id, the only one whose id begins so, or `last`. UsageError where there is none, or several."""
        if name == "last":
            newest = self.newest(1)
            if not newest:
                raise UsageError("run", "no run was launched from here yet: plan … --launch")
            return newest[0]
        escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        found = list(self._select("id LIKE ? ESCAPE '\\'", f"{escaped}%"))
        exact = [entry for entry in found if entry.id == name]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            raise UsageError("run", f"{name} may be {', '.join(entry.id for entry in found[:4])}: write more of it")
        raise UsageError("run", f"no run {name} in {self.path}: `plan runs` lists them")

    def newest(self, most: int) -> list[Entry]:
        """The runs, newest first."""
        return list(self._entries("ORDER BY created_at DESC, rowid DESC LIMIT ?", most))

    def unresolved(self) -> list[Entry]:
        """Those whose reply is missing, oldest first."""
        return list(self._select("state = ?", SUBMITTING))

    def twins(self, fingerprint: str) -> list[Entry]:
        """Live runs of the same thing, as they were last seen."""
        return [one for one in self._select("fingerprint = ?", fingerprint) if one.live]

    def of_group(self, group: str) -> list[Entry]:
        return list(self._select("group_id = ?", group))

    def segments(self, run: str) -> list[Segment]:
        """The run's stretches in order."""
        rows = self._base.execute("SELECT * FROM segments WHERE run = ? ORDER BY number", (run,))
        return [Segment(**{**dict(row), "handle": row["handle"] and json.loads(row["handle"])}) for row in rows]

    # -------------------------------------------------------------------------------- inside

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def _one(self, run: str) -> Entry:
        for entry in self._select("id = ?", run):
            return entry
        raise KeyError(run)

    def _select(self, condition: str, *values: object) -> Iterable[Entry]:
        return self._entries(f"WHERE {condition} ORDER BY created_at, rowid", *values)

    def _entries(self, rest: str, *values: object) -> Iterable[Entry]:
        return [_entry(row) for row in self._base.execute(f"SELECT * FROM runs {rest}", values)]


_JSON = ("handle", "job", "plan", "actual")
_MONEY = ("usd_max", "usd_spent")


def _row(entry: Entry) -> dict[str, Any]:
    """Columns and their values; the record's `group` is no name for a column."""
    row: dict[str, Any] = {"group_id" if name == "group" else name: value for name, value in entry._asdict().items()}
    for name in _JSON:
        row[name] = None if row[name] is None else json.dumps(row[name], ensure_ascii=False)
    for name in _MONEY:
        row[name] = None if row[name] is None else str(row[name])
    return row


def _entry(row: sqlite3.Row) -> Entry:
    values: dict[str, Any] = {"group" if name == "group_id" else name: row[name] for name in row.keys()}  # noqa: SIM118  (a Row is no dict)
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    for name in _MONEY:
        values[name] = None if values[name] is None else Decimal(values[name])
    return Entry(**values)


def utc(moment: datetime) -> str:
    """A point in time as the ledger writes it: UTC, to the microsecond, so that text sorts as time does."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
