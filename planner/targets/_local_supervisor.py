"""Runs one trainer to its end, beside every terminal. `local.py` starts it; it needs the standard library alone.

    python -I _local_supervisor.py RUN

RUN is the run's folder with request.json {argv, folder, timeout_s, grace_s}. The environment is the trainer's, and one inherited
descriptor is that of RUN/supervisor.lock, which is locked for as long as this process lives. It writes

    log           what the trainer prints, both streams
    trainer.lock  the trainer's pid; locked for as long as the trainer or a process of it lives, whatever becomes of this one
    exit.json     {state, exit_code, message, started_at, running_s}, once, when it is over

and ends the trainer when RUN/cancel appears, when the timeout is over, and on SIGTERM. Locks instead of pids: the kernel releases them
however a process ends, a restart included, and nobody else's process is ever taken for one of the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICK_S = 0.5  # how late a cancellation or the timeout is noticed
KILLED_S = 10.0  # for the kernel to take a killed process down; one inside a driver can take longer, and is not waited for
ROOM_BYTES = 4096  # kept free for exit.json, so that a full disk does not swallow how the run ended
_PR_SET_CHILD_SUBREAPER = 36


def descendants(root: int) -> list[int]:
    """Pids of all processes below `root`, parents first."""
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
    if Path("/proc/self/stat").exists():
        pairs = []
        for entry in os.listdir("/proc"):  # noqa: PTH208  thousands of names, no paths needed
            if entry.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                    pairs.append((int(entry), int(fields[1])))
        return pairs
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in listed.splitlines())]


def end(run: Path, values: dict[str, Any]) -> None:
    """Write exit.json, all of it or nothing."""
    part = run / "exit.part"
    with part.open("r+b" if part.exists() else "wb") as file:
        file.write(json.dumps(values).encode().ljust(ROOM_BYTES))
        file.flush()
        os.fsync(file.fileno())
    part.replace(run / "exit.json")


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class _Supervisor:
    def __init__(self, run: Path) -> None:
        self.run = run
        self.request = json.loads((run / "request.json").read_text(encoding="utf-8"))
        self.stop: tuple[str, str] | None = None  # state and message of the end that was decided here
        self.started_at, self.started = time.time(), time.monotonic()
        (run / "exit.part").write_bytes(b" " * ROOM_BYTES)
        if sys.platform == "linux":  # processes that the trainer leaves behind become children of this one
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.wake, write = os.pipe()
        for descriptor in (self.wake, write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminated)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self.trainer = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        log = os.open(self.run / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)
        lock = os.open(self.run / "trainer.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)

        def ready() -> None:
            os.write(lock, str(os.getpid()).encode())
            for ignored in (signal.SIGINT, signal.SIGHUP):
                signal.signal(ignored, signal.SIG_DFL)

        try:
            return subprocess.Popen(self.request["argv"], cwd=self.request["folder"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    start_new_session=True, pass_fds=(lock,), preexec_fn=ready)  # fmt: skip
        finally:
            os.close(log)
            os.close(lock)

    def _terminated(self, *_: object) -> None:
        self.stop = ("failed", "stopped by SIGTERM, as when the machine shuts down")

    def follow(self) -> None:
        """Wait for the trainer's end, or bring it about, and write it down."""
        timeout_s = self.request["timeout_s"]
        while self.trainer.poll() is None and self.stop is None:
            self._sleep(TICK_S)
            if (self.run / "cancel").exists():
                self.stop = ("cancelled", "cancelled")
            elif time.monotonic() - self.started >= timeout_s:
                self.stop = ("timed_out", f"stopped after its timeout of {timeout_s} s")
        if self.trainer.poll() is None:
            self._halt()
        else:
            self.stop = None  # it was over before it could be stopped
        code = self.trainer.wait()
        self._clear()
        state, message = self.stop or _outcome(code)
        end(self.run, {"state": state, "message": message, "exit_code": code if code >= 0 else 128 - code, "started_at": self.started_at,
                       "running_s": round(time.monotonic() - self.started, 3)})  # fmt: skip

    def _halt(self) -> None:
        """SIGTERM to the trainer's group, and SIGKILL to all of it where the grace is not enough."""
        pid = self.trainer.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.request["grace_s"]
        while self.trainer.poll() is None and (left := deadline - time.monotonic()) > 0:
            self._sleep(min(left, TICK_S))
        if self.trainer.poll() is None:
            kill([*descendants(pid), pid])

    def _clear(self) -> None:
        """End what the trainer left behind: a launcher that dies leaves its workers, and they keep the GPU's memory.

        What is still finishing its work, as an upload of metrics does, has the grace for it.
        """
        if not self._emptied(self.request["grace_s"] if self.stop is None else 0):
            kill(descendants(os.getpid()))
            self._emptied(KILLED_S)  # the run is over when its GPU is free

    def _emptied(self, seconds: float) -> bool:
        """Whether nothing of the run is left within this time."""
        deadline = time.monotonic() + seconds
        while (left := bool(_unreaped())) and time.monotonic() < deadline:
            self._sleep(TICK_S)
        return not left

    def _sleep(self, seconds: float) -> None:
        """Until a child ends, a signal comes or the time is over."""
        if select.select([self.wake], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                while os.read(self.wake, 512):
                    pass


def _unreaped() -> list[int]:
    """Processes below this one, those that have ended taken off the kernel's list. The trainer itself must have been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants(os.getpid())


def _outcome(code: int) -> tuple[str, str | None]:
    if code == 0:
        return "succeeded", None
    if code > 0:
        return "failed", f"exit code {code}"
    name = signal.Signals(-code).name
    return "failed", f"killed by {name}" + (", as the kernel does when memory runs out" if -code == signal.SIGKILL else "")


def main(run: Path) -> None:
    """Detach, start the trainer, say `started` or what went wrong on stdout, close it, and stay until the end."""
    if os.fork():
        os._exit(0)
    try:
        supervisor = _Supervisor(run)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        with contextlib.suppress(OSError):
            end(run, {"state": "failed", "message": f"never started: {message}", "exit_code": None, "started_at": time.time(),
                      "running_s": 0.0})  # fmt: skip
        _say(message)
        return
    _say("started")
    supervisor.follow()


def _say(word: str) -> None:
    """To the process that started this one, if it still listens; then nobody does."""
    with contextlib.suppress(OSError):
        os.write(1, word.encode("utf-8", "replace"))
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
