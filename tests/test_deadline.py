"""What hangs is left behind; what answers or fails is handed on."""

from __future__ import annotations

import threading

import pytest

from planner.deadline import Deadline, Late


def test_an_answer_is_returned_and_a_failure_raised() -> None:
    deadline = Deadline(60)
    assert deadline.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        deadline.run(lambda: 1 // 0)


def test_a_call_that_hangs_is_late_and_so_is_all_that_comes_after_the_deadline() -> None:
    hang, now = threading.Event(), [0.0]
    deadline = Deadline(5, clock=lambda: now[0])
    slow = deadline.start(hang.wait)
    now[0] = 4.0
    assert deadline.remaining() == 1.0
    now[0] = 6.0
    assert deadline.remaining() == 0.0
    with pytest.raises(Late, match="5 s"):
        slow()
    hang.set()


def test_calls_run_side_by_side() -> None:
    """The first can only end after the second has begun."""
    meet = threading.Barrier(2)
    deadline = Deadline(60)
    first, second = deadline.start(meet.wait), deadline.start(meet.wait)
    assert {first(), second()} == {0, 1}
