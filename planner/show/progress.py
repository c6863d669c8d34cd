"""A run that is followed, on stderr: its log with a bar below it in a terminal, its log alone elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from planner.follow import Progress, read_line
from planner.job import Status
from planner.reconcile import planned, running_usd
from planner.runs import Entry
from planner.show import text

_BAR = re.compile(r"^.*?\d+%\|.*?\d+/\d+ \[[^\]]*\]")


def without_bar(line: str) -> str:
    """What a line of a log says behind a progress bar, which a trainer and its log write into one line; empty for a bar alone."""
    last = line.rsplit("\r", 1)[-1]
    return text.clean(_BAR.sub("", last)).strip() if "%|" in last else text.clean(last)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, line: str) -> None:
        """A line of the log."""

    def status(self, status: Status) -> None:
        """What the place says."""


class Plain(Silent):
    """The log line by line without its progress bars, and a line for each change of state."""

    def __init__(self) -> None:
        self._state = ""

    def line(self, line: str) -> None:
        if said := without_bar(line):
            print(said, file=sys.stderr, flush=True)

    def status(self, status: Status) -> None:
        if status.state != self._state:
            self._state = status.state
            print(f"{status.state}{f': {text.clean(status.message)}' if status.message else ''}", file=sys.stderr, flush=True)


class Bar(Silent):
    """The log scrolling above one bar: steps, loss, time left, dollars so far against the estimate."""

    def __init__(self, entry: Entry, now: Callable[[], datetime]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Rich

        self._entry, self._now, self._progress, self._state = entry, now, Progress(), "queued"
        self._running_s: float | None = None
        self._began: datetime | None = None
        self._console = Console(stderr=True, highlight=False)
        self._bar = Rich(TextColumn("{task.fields[state]}"), BarColumn(bar_width=None), TextColumn("{task.fields[told]}"),
                         console=self._console, transient=True)  # fmt: skip
        steps = planned(entry, "steps")
        self._task: Any = self._bar.add_task("", total=steps, state=self._state, told="")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def line(self, line: str) -> None:
        self._progress = read_line(line, self._progress)
        if said := without_bar(line):  # the trainer's own bar is this one's source
            self._console.print(said, markup=False)
        self._show()

    def status(self, status: Status) -> None:
        if status.state == "running" and self._began is None:
            self._began = self._now()
        self._state, self._running_s = status.state, status.running_s
        self._show()

    def _show(self) -> None:
        running = self._running_s
        if running is None and self._began is not None:
            running = (self._now() - self._began).total_seconds()
        self._bar.update(self._task, completed=self._progress.step or 0, state=self._state,
                         total=self._progress.steps or planned(self._entry, "steps"), told=told(self._entry, self._progress, running))


def told(entry: Entry, progress: Progress, running_s: float | None) -> str:
    """`120/3,520 · loss 0.42 · 1.2 h left · $0.40 of $1.68`."""
    steps = progress.steps or planned(entry, "steps")
    parts = [f"{progress.step:,}/{steps:,}"] if progress.step is not None and steps else []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3g}")
    if progress.remaining_s is not None:
        parts.append(f"{text.duration(progress.remaining_s)} left")
    usd, expected = running_usd(entry, running_s), planned(entry, "usd", "p50")
    if usd is not None and expected is not None:
        parts.append(f"{text.money(usd)} of ${expected:.2f}")
    return " · ".join(parts)
