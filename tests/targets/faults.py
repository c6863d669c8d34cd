"""What every place must do while its provider fails: one suite, written against the Target protocol.

A `Place` is a target and the loopback provider that it speaks to. Faults have neutral names; a place makes of them what its own
protocol has for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from planner import launch
from planner.errors import Ambiguous, NotAuthorised, PlanError, Unreachable, UsageError
from planner.job import Check, Handle, Job
from planner.runs import REFUSED, SUBMITTING, Ledger
from planner.targets.base import Target

CALLS = ("preflight", "submit", "find", "status", "logs", "usage", "cancel")
FAULTS = ("unauthorised", "no-credit", "forbidden", "missing", "conflict", "busy", "broken", "down", "dropped-before", "dropped-after",
          "hangs-before", "hangs-after", "garbage-before", "garbage-after")  # fmt: skip
#: faults after which nobody knows whether a request was acted upon
UNSURE = ("conflict", "broken", "down", "dropped-before", "dropped-after", "hangs-before", "hangs-after", "garbage-before", "garbage-after")
ACTED = ("dropped-after", "hangs-after", "garbage-after")
NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


class Place(Protocol):
    """A target with its provider under the test's control."""

    target: Target
    secrets: tuple[str, ...]  # no output may hold a piece of one of these

    def job(self, run: str) -> Job:
        """A small job that asks for every kind of thing, with `run` as its plan-run-id."""
        ...

    def fail(self, call: str, fault: str) -> None:
        """Let everything that `call` asks fail so from now on."""
        ...

    def heal(self) -> None: ...

    def jobs(self) -> int:
        """How many jobs the provider ever took."""
        ...

    def tolerated(self, call: str, fault: str) -> bool:
        """Whether `call` rightly answers without an error."""
        ...


def survives(place: Place, call: str, fault: str) -> None:
    """`call` under `fault`: one line of the right kind of error, or an answer where that is right; never a second job, no secret."""
    job = place.job("run-1")
    handle = place.target.submit(job) if call in ("status", "logs", "usage", "cancel") else None
    place.fail(call, fault)
    try:
        said: Any = _perform(place.target, call, job, handle)
    except PlanError as error:
        assert call != "preflight", "checks are returned, also those that fail"
        assert not place.tolerated(call, fault), error.text
        checked(error, place)
        assert type(error) in _expected(call, fault), (type(error), error.text)
        assert error.__cause__ is None and error.__suppress_context__, "a traceback would show what the client knows"
        said = error.text
    else:
        if call == "preflight":
            assert any(check.ok is False for check in said), said
            for check in said:
                checked(check, place)
        else:
            assert place.tolerated(call, fault), said
    assert place.jobs() <= 1
    clean(repr(said), place)
    place.heal()
    if call == "submit" and place.jobs():
        found = place.target.find(job)
        assert found, "the job is found again by its label"
        assert fault in ACTED


def _perform(target: Target, call: str, job: Job, handle: Handle | None) -> Any:
    if call in ("preflight", "submit", "find"):
        return getattr(target, call)(job)
    if call == "logs":
        return list(target.logs(handle or {}, follow=True))
    return getattr(target, call)(handle)


def _expected(call: str, fault: str) -> tuple[type[PlanError], ...]:
    if call == "submit" and fault in UNSURE:
        return (Ambiguous,)
    if fault in ("unauthorised", "forbidden"):
        return (NotAuthorised,)
    return (Unreachable, UsageError) if fault == "missing" else (Unreachable,)


def checked(said: PlanError | Check, place: Place) -> None:
    """One line, not empty, of a length that people read, without a secret."""
    text = said.text
    assert text and "\n" not in text and len(text) < 500, text
    assert not isinstance(said, PlanError) or str(said) == text
    clean(text, place)


def clean(text: str, place: Place) -> None:
    for secret in place.secrets:
        assert not any(secret[start : start + 8] in text for start in range(len(secret) - 7)), "a piece of a secret"


def launch_is_true(place: Place, fault: str, find_fails: bool, path: Path) -> None:
    """A launch whose submission fails with `fault`: the ledger is true at once and after everything works again."""
    ledger, job = Ledger(path / "runs.sqlite"), place.job("run-1")
    row = launch.entry(job, {"estimate": "x"}, Decimal("3.00"), NOW)
    place.fail("submit", fault)
    if find_fails:
        place.fail("find", "broken")
    try:
        launch.launch(job, row, place.target, ledger)
    except PlanError as error:
        checked(error, place)
        raised: PlanError | None = error
    else:
        raised = None
    run = ledger.get("run-1")
    acted = fault in ACTED
    if fault not in UNSURE:
        assert run.state == REFUSED and not isinstance(raised, Ambiguous) and raised is not None
    elif acted and not find_fails:
        assert raised is None and run.state == "queued" and run.handle
    else:
        assert isinstance(raised, Ambiguous) and run.state == SUBMITTING and run.handle is None
    assert place.jobs() == acted

    # again, at once: a run that may exist, or does, is not started a second time
    place.heal()
    if run.state != REFUSED:
        try:
            launch.launch(place.job("run-2"), row._replace(id="run-2"), place.target, ledger)
            raise AssertionError("a second launch went through")
        except PlanError as error:
            checked(error, place)
    assert place.jobs() == acted

    launch.recover(ledger, lambda _: place.target, NOW + timedelta(minutes=11))
    run = ledger.get("run-1")
    assert run.state == ("queued" if acted else REFUSED)
    assert bool(run.handle) == acted
    assert place.jobs() == acted
    if acted and run.handle:
        assert place.target.status(run.handle).state in ("queued", "running")
    ledger.close()
    for file in path.iterdir():
        clean(file.read_bytes().decode(errors="replace"), place)
