"""What is said before a launch, and runs with their plan beside them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from planner.diagnose import Cause
from planner.follow import Progress
from planner.job import Check
from planner.runs import Entry, Segment, utc
from planner.show import document, progress, runs
from tests.show import factory
from tests.show.golden import check

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
ROW = factory.ROWS[0]
STYLE: dict[str, Any] = {"colour": False, "plain": True}


def entry(run: str, state: str, hours_ago: float, **fields: Any) -> Entry:
    """A run of the first row of the factory's plan."""
    plan = {**document.document(factory.PLAN), "estimates": [document.estimate(ROW)]}
    return Entry(
        id=run, target="hf", flavor="l4x1", state=state, fingerprint=run, created_at=utc(NOW - timedelta(hours=hours_ago)),
        job={}, plan=plan, usd_max=ROW.usd_max, handle={"job_id": "1", "url": "https://example.invalid/jobs/me/1"},
    )._replace(**fields)  # fmt: skip


RUNNING = entry("smolvla-pick-3f2a91-k7mx2", "running", 0.5)
DONE = entry("smolvla-pick-3f2a91-b2c3d", "succeeded", 30, ended_at=utc(NOW - timedelta(hours=27.7)), usd_spent=Decimal("1.84"),
             actual={"running_s": 8000.0, "waiting_s": 280.0, "step_s": 2.2, "vram_bytes": 14_600_000_000})  # fmt: skip
FAILED = entry("act-cube-0a1b2c-zzzzz", "failed", 3, ended_at=utc(NOW - timedelta(hours=2.9)), message="exit code 1",
               actual={"running_s": 240.0, "exit_code": 1})  # fmt: skip
LOST = entry("act-cube-0a1b2c-qqqqq", "submitting", 1, handle=None, message="the connection broke")
CAUSE = Cause("out-of-memory", "the GPU ran out of memory", "--batch-size 32, or a larger GPU (--gpu)")


def test_the_question_names_expected_interval_worst_case_and_stop() -> None:
    asked = runs.question(ROW)
    assert asked.endswith("Proceed? [y/N] ") and asked.count("\n") == 0
    check("question.txt", "\n".join([asked, runs.offer_line(ROW._replace(usd=None, usd_max=None)),
                                     runs.offer_line(factory.ROWS[-1]), runs.offer_line(ROW._replace(attempts=3))]) + "\n")  # fmt: skip


@pytest.mark.parametrize(("seconds", "shown"), [
    (7200, "2 h 0 min"), (7201, "2 h 1 min"), (60, "1 min"), (3599, "1 h 0 min"), (3600, "1 h 0 min")])
def test_bounds_are_told_to_the_minute_and_rounded_up(seconds: float, shown: str) -> None:
    assert runs.hours_minutes(seconds) == shown


@pytest.mark.parametrize("width", [80, 120])
def test_the_list(width: int) -> None:
    shown = runs.listing([RUNNING, LOST, FAILED, DONE], NOW, width=width, **STYLE)
    check(f"runs-{width}.txt", shown)
    assert all(len(line) <= width for line in shown.splitlines())


@pytest.mark.parametrize(("name", "one", "cause", "log"), [
    ("running", RUNNING, None, []), ("done", DONE, None, []), ("lost", LOST, None, []),
    ("failed", FAILED, CAUSE, ["Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA out of memory"]),
])  # fmt: skip
def test_one_run(name: str, one: Entry, cause: Cause | None, log: list[str]) -> None:
    segments = [Segment(one.id, 1, one.state, one.created_at)]
    check(f"run-{name}.txt", runs.detail(one, segments, NOW, cause, log, width=80, **STYLE))


def test_json_says_the_same() -> None:
    made = runs.document_of([DONE, FAILED], NOW, {FAILED.id: CAUSE})
    done, failed = made["runs"]
    assert (made["schema"], done["taken_s"], done["usd_spent"], done["planned"]["usd"]["p50"]) == ("runs/1", 8280.0, 1.84, 1.6827)
    assert failed["cause"] == {"code": "out-of-memory", "text": CAUSE.text, "fix": CAUSE.fix}
    assert failed["usd_spent"] is None and failed["usd_running"] == pytest.approx(0.8 * 240 / 3600, abs=1e-4)


def test_the_bar_tells_steps_loss_time_left_and_dollars() -> None:
    said = progress.told(RUNNING, Progress(step=1200, steps=3520, loss=0.1234, step_s=2.1), 3600.0)
    assert said == "1,200/3,520 · loss 0.123 · 1.4 h left · $0.80 of $1.68"


def test_no_control_character_of_a_log_reaches_the_terminal_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    plain = progress.Plain()
    plain.line("Training:  50%|█| 1/2 [00:01<00:01, 2step/s]\rTraining: 100%|█| 2/2 [00:02<00:00, 2step/s]INFO step:2 \x1b]0;owned\x07")
    plain.line("Training: 100%|█| 2/2 [00:02<00:00, 2step/s]")
    plain.line("End of training")
    assert capsys.readouterr().err == "INFO step:2 ?]0;owned?\nEnd of training\n"


def test_checks_that_fail_end_in_what_to_do() -> None:
    checks = [Check("token", False, "no token", "hf auth login", 6), Check("credit", None, "not told"), Check("gpu", True, "")]
    made = runs.check_lines(checks)
    assert made == ["error: token: no token; hf auth login", "note: credit: not told"]
