"""A launch is written down first, sent once, and found again when the reply is lost."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from planner import launch
from planner.errors import Ambiguous, Declined, NotAuthorised, Unreachable
from planner.job import Job, Output, restored
from planner.recipes.lerobot import job as make
from planner.runs import Entry, Ledger
from tests.factories import estimate, offer, workload
from tests.places import Scripted

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def job(run: str = "act-pick-000000-aaaaa", **fields: Any) -> Job:
    made = make(estimate(offer("hf")), workload("act", **fields), target="hf", output=Output("hub", "me/out"), name="act-pick-000000")
    return made._replace(labels={launch.LABEL: run})


def row(one: Job, now: datetime = NOW) -> Entry:
    return launch.entry(one, {"estimates": [{"usd_per_hour": 0.8}]}, Decimal("3.00"), now)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs.sqlite")


def test_a_job_survives_the_ledger(ledger: Ledger) -> None:
    one = job()
    ledger.begin(row(one))
    assert restored(ledger.get("last").job) == one


def test_the_run_is_in_the_ledger_before_the_request_leaves(ledger: Ledger) -> None:
    seen = []

    class Looking(Scripted):
        def submit(self, job: Job) -> dict[str, str]:
            seen.append(Ledger(ledger.path).get("last").state)
            return super().submit(job)

    done = launch.launch(job(), row(job()), Looking(), ledger)
    assert seen == ["submitting"] and (done.state, done.handle) == ("queued", {"job_id": done.id, "url": "https://example.invalid/job"})


def test_run_ids_differ_and_fit_into_a_label() -> None:
    ids = {launch.run_id("smolvla-a-very-long-dataset-name-that-goes-on-3f2a91") for _ in range(50)}
    assert len(ids) > 45 and all(len(one) <= 50 for one in ids)


def test_what_is_refused_costs_nothing_and_may_be_tried_again(ledger: Ledger) -> None:
    place = Scripted()
    place.fails["submit"] = [NotAuthorised("token", "the token is refused: hf auth login")]
    with pytest.raises(NotAuthorised):
        launch.launch(job(), row(job()), place, ledger)
    assert (ledger.get("last").state, place.jobs) == ("refused", {})
    other = job("act-pick-000000-bbbbb")
    assert launch.launch(other, row(other), place, ledger).state == "queued"


@pytest.mark.parametrize("taken", [True, False])
def test_a_lost_reply_is_looked_for_and_never_sent_again(ledger: Ledger, taken: bool) -> None:
    place = Scripted()
    place.acts_first = taken
    place.fails["submit"] = [Ambiguous("reply-lost", "the connection broke")]
    if taken:
        assert launch.launch(job(), row(job()), place, ledger).handle == {"job_id": "act-pick-000000-aaaaa"}
    else:
        with pytest.raises(Ambiguous, match="plan status act-pick-000000-aaaaa"):
            launch.launch(job(), row(job()), place, ledger)
        other = job("act-pick-000000-bbbbb")
        with pytest.raises(Ambiguous):  # the same training again, though another id, while nobody knows
            launch.launch(other, row(other), place, ledger, again=True)
    assert len(place.jobs) == taken


def test_the_next_command_settles_what_a_killed_one_left(ledger: Ledger) -> None:
    place = Scripted()
    taken, lost = job("act-taken-000000-aaaaa"), job("act-lost-000000-bbbbb", dataset="me/other")
    ledger.begin(row(taken))
    ledger.begin(row(lost))
    place.jobs["act-taken-000000-aaaaa"] = taken  # killed after the request, or before its reply was written down

    [adopted] = launch.recover(ledger, lambda name: place, NOW + timedelta(minutes=1))
    assert (adopted.id, adopted.state) == ("act-taken-000000-aaaaa", "queued") and adopted.handle
    assert [one.id for one in ledger.unresolved()] == ["act-lost-000000-bbbbb"]  # it may still appear in the place's list
    place.fails["find"] = [Unreachable("hf", "the Hub does not answer")]
    assert launch.recover(ledger, lambda name: place, NOW + timedelta(hours=1)) == []
    [given_up] = launch.recover(ledger, lambda name: place, NOW + timedelta(hours=1))
    assert (given_up.id, given_up.state) == ("act-lost-000000-bbbbb", "refused")


def test_the_same_training_is_not_started_twice_by_accident(ledger: Ledger) -> None:
    place, second = Scripted(), job("act-pick-000000-bbbbb")
    launch.launch(job(), row(job()), place, ledger)
    with pytest.raises(Declined, match="running as act-pick-000000-aaaaa"):
        launch.launch(second, row(second), place, ledger)
    launch.launch(second, row(second), place, ledger, again=True)
    assert len(place.jobs) == 2


def test_the_days_budget_stops_a_launch_before_it_is_sent(ledger: Ledger) -> None:
    place, second = Scripted(), job("act-pick-000000-bbbbb", dataset="me/other")
    launch.launch(job(), row(job()), place, ledger, usd_per_day=Decimal(5))
    with pytest.raises(Declined, match=r"\$3.00 already; this one may cost \$3.00"):
        launch.launch(second, row(second), place, ledger, usd_per_day=Decimal(5))
    assert len(place.jobs) == 1
