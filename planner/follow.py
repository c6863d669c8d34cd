"""A run as it goes: its log's lines and its states in the order in which they come, and how far it is. No printing."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from planner.errors import PlanError
from planner.job import Handle, Status
from planner.targets.base import Target

#: How often the place is asked how the run is while its log is silent.
EVERY_S = 10.0
#: What is left of a log is read for so long after the run has ended.
LAST_LINES_S = 20.0
MOST_FAILURES = 5

_BAR = re.compile(r"(?<!\d)(\d+)/(\d+) \[")
_STEP = re.compile(r"\bstep:(\d+(?:\.\d+)?)([KMB]?)\b")
_LOSS = re.compile(r"\bloss:(-?\d+\.?\d*(?:e[-+]?\d+)?)\b")
_UPDATE = re.compile(r"\bupdt_s:(\d+\.?\d*)")
_DATA = re.compile(r"\bdata_s:(\d+\.?\d*)")
_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


class Progress(NamedTuple):
    """How far a training is. None is what its log has not said yet."""

    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    step_s: float | None = None  # of the newest record

    @property
    def remaining_s(self) -> float | None:
        if self.step is None or self.steps is None or self.step_s is None:
            return None
        return max(0, self.steps - self.step) * self.step_s


def read_line(line: str, before: Progress) -> Progress:
    """`before` with what one line of LeRobot's log says: the progress bar's exact step, a record's loss and step time."""
    after = before
    if (bars := _BAR.findall(line)) and "Training" in line:
        done, steps = map(int, bars[-1])
        after = after._replace(step=done, steps=steps)
    if (step := _STEP.search(line)) and (update := _UPDATE.search(line)):
        rounded = round(float(step[1]) * _FACTORS[step[2]])
        data = _DATA.search(line)
        after = after._replace(step=max(rounded, after.step or 0), step_s=float(update[1]) + (float(data[1]) if data else 0.0))
        if loss := _LOSS.search(line):
            after = after._replace(loss=float(loss[1]))
    return after


def events(
    target: Target, handle: Handle, every_s: float = EVERY_S, wait: Callable[[float], object] = time.sleep
) -> Iterator[str | Status]:
    """Lines and states until the run has ended; the last one is its final state.

    The log is read beside the states, so that a log that hangs hides no end and a place that does not answer stops no log.
    Raises what the place answers MOST_FAILURES times in a row.
    """
    lines: queue.Queue[str | PlanError | None] = queue.Queue()

    def read() -> None:
        try:
            for line in target.logs(handle, follow=True):
                lines.put(line)
        except PlanError as error:
            lines.put(error)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    failures, reading, until = 0, True, 0.0  # how it is now comes first
    while True:
        while (left := until - time.monotonic()) > 0:
            try:
                line = lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                reading = False  # the run has ended, or its log cannot be read: the states go on
            else:
                yield line if isinstance(line, str) else f"plan: {line.text}"
            if not reading and lines.empty():
                break
        try:
            status = target.status(handle)
            failures = 0
        except PlanError:
            failures += 1
            if failures >= MOST_FAILURES:
                raise
            status = None
        if status is not None:
            if status.ended or status.state == "unknown":
                break
            yield status
        until = time.monotonic() + every_s
        if not reading:
            wait(every_s)
    while reading:
        try:
            line = lines.get(timeout=LAST_LINES_S)
        except queue.Empty:
            break
        if line is not None:
            yield line if isinstance(line, str) else f"plan: {line.text}"
        reading = line is not None
    yield status
