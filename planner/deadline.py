"""One limit for all that a command fetches, whatever the servers do: a call that hangs is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Late(Exception):
    """A call did not answer within what was left of the deadline."""


class Deadline:
    """Counts down from when it is made. `clock` gives seconds and never goes back."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock, self._end = seconds, clock, clock() + seconds

    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end - self._clock())

    def start(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin `call` at once; the function returned waits for its result.

        That raises what the call raised, or Late. The thread of a call that hangs ends with the process.
        """
        done = threading.Event()
        result: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                result.append(call())
            except BaseException as error:  # whatever it is, it belongs to who waits
                failed.append(error)
            done.set()

        threading.Thread(target=work, daemon=True).start()

        def wait() -> T:
            if not done.wait(self.remaining()):
                raise Late(f"no answer within {self.seconds:g} s")
            if failed:
                raise failed[0]
            return result[0]

        return wait

    def run(self, call: Callable[[], T]) -> T:
        """Begin `call` and wait for its result."""
        return self.start(call)()
