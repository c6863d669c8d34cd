"""The ledger: several terminals at once, nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.runs import Entry, Ledger, OverDailyBudget, Twin, utc

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def entry(run: str, *, fingerprint: str = "", hours: float = 0, usd: str | None = "3.00") -> Entry:
    return Entry(id=run, target="hf", flavor="l4x1", state="submitting", fingerprint=fingerprint or run,
                 created_at=utc(NOW + timedelta(hours=hours)), job={"name": run}, plan={"usd": "2.10"},
                 usd_max=None if usd is None else Decimal(usd))  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "runs.sqlite")


def test_a_run_comes_back_as_it_was(ledger: Ledger) -> None:
    first = entry("act-1")
    ledger.begin(first)
    assert ledger.get("last") == first
    after = ledger.update("act-1", state="running", handle={"job_id": "j"}, actual={"step_s": 0.5}, usd_spent=Decimal("1.20"))
    assert Ledger(ledger.path).get("act-1") == after
    assert (after.plan, after.handle) == ({"usd": "2.10"}, {"job_id": "j"})
    assert (after.usd_max, after.usd_spent) == (Decimal("3.00"), Decimal("1.20"))
    [segment] = ledger.segments("act-1")
    assert (segment.number, segment.state, segment.handle) == (1, "running", {"job_id": "j"})


def test_names_are_ids_beginnings_or_last(ledger: Ledger) -> None:
    for number, run in enumerate(("act-a", "act-ab", "smol_x")):
        ledger.begin(entry(run, hours=number))
    assert ledger.get("act-a").id == "act-a" and ledger.get("smol").id == "smol_x" and ledger.get("last").id == "smol_x"
    for name, message in (("act", "may be act-a, act-ab"), ("pi05", "no run pi05"), ("smolx", "no run"), ("%", "no run %")):
        with pytest.raises(UsageError, match=message):
            ledger.get(name)
    assert [one.id for one in ledger.newest(2)] == ["smol_x", "act-ab"]


def test_the_same_thing_is_not_begun_twice(ledger: Ledger) -> None:
    ledger.begin(entry("one", fingerprint="same"))
    with pytest.raises(Twin):
        ledger.begin(entry("two", fingerprint="same"), again=True)  # the first may have been taken: nobody knows
    ledger.update("one", state="running")
    with pytest.raises(Twin):
        ledger.begin(entry("two", fingerprint="same"))
    ledger.begin(entry("two", fingerprint="same"), again=True)
    ledger.update("one", state="succeeded")
    ledger.update("two", state="refused")
    ledger.begin(entry("three", fingerprint="same"))


def test_what_has_ended_stays_ended(ledger: Ledger) -> None:
    ledger.begin(entry("one"))
    ledger.update("one", state="failed", message="out of memory")
    assert ledger.update("one", state="running").state == "failed"
    assert ledger.update("one", state="timed_out").state == "timed_out"  # another end is a better answer


def test_a_resumed_run_has_a_segment_more(ledger: Ledger) -> None:
    ledger.begin(entry("one"))
    with pytest.raises(Twin):
        ledger.resume("one", utc(NOW), job={"name": "one, continued"})
    ledger.update("one", state="failed", handle={"job_id": "a"}, ended_at=utc(NOW))
    assert ledger.resume("one", utc(NOW + timedelta(hours=1)), job={"name": "one, continued"}).job == {"name": "one, continued"}
    assert (ledger.get("one").state, ledger.get("one").handle, ledger.unresolved()[0].id) == ("submitting", None, "one")
    ledger.update("one", state="succeeded", handle={"job_id": "b"})
    assert [(one.number, one.state, one.handle) for one in ledger.segments("one")] == [
        (1, "failed", {"job_id": "a"}), (2, "succeeded", {"job_id": "b"})]  # fmt: skip


def test_a_day_has_a_budget(ledger: Ledger) -> None:
    ledger.begin(entry("yesterday", hours=-25, usd="100"))
    ledger.begin(entry("billed", hours=-3, usd="50"))
    ledger.update("billed", state="succeeded", usd_spent=Decimal("2.50"))
    ledger.begin(entry("refused", hours=-2, usd="50"))
    ledger.update("refused", state="refused")
    ledger.begin(entry("open", hours=-1, usd="3.00"))
    with pytest.raises(OverDailyBudget) as over:
        ledger.begin(entry("new", usd="4.51"), usd_per_day=Decimal("10"))
    assert over.value.committed == Decimal("5.50")
    ledger.begin(entry("new", usd="4.50"), usd_per_day=Decimal("10"))


def test_eight_processes_at_once(tmp_path: Path) -> None:
    """Each begins five runs of its own and one that all of them want; the day's budget holds for all together."""
    code = """
import json, sys
from decimal import Decimal
from pathlib import Path
from planner.runs import *
path, me = Path(sys.argv[1]), sys.argv[2]
template = json.loads(sys.stdin.read())
ledger, begun = Ledger(path), []
for number in range(6):
    run = f"{me}-{number}"
    row = Entry(**{**template, "id": run, "usd_max": Decimal(1), "fingerprint": run if number else "wanted"})
    try:
        ledger.begin(row, usd_per_day=Decimal(30))
    except (Twin, OverDailyBudget) as error:
        begun.append(type(error).__name__)
    else:
        ledger.update(run, state="running", handle={"pid": me})
        begun.append(run)
print(json.dumps(begun))
"""
    path = tmp_path / "runs.sqlite"
    template = json.dumps({**entry("x")._asdict(), "usd_max": None})
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True) for one in range(8)]  # fmt: skip
    for process in started:
        assert process.stdin
        process.stdin.write(template)
        process.stdin.close()
    said = [word for process in started if process.stdout for word in json.loads(process.stdout.read())]
    assert [process.wait() for process in started] == [0] * 8
    ledger = Ledger(path)
    runs = ledger.newest(100)
    assert len(runs) == 30 and {one.id for one in runs} == {word for word in said if word not in ("Twin", "OverDailyBudget")}
    assert sum(one.fingerprint == "wanted" for one in runs) == 1 and said.count("Twin") == 7
    assert {one.state for one in runs} == {"running"} and all(one.handle for one in runs)


def test_a_newer_ledger_is_left_alone(ledger: Ledger) -> None:
    ledger._base.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="update plan"):
        Ledger(ledger.path)
