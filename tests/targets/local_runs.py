"""What tests of runs on this machine share: an environment with a fake trainer, jobs for it, and waiting without sleeping (on Linux)."""

from __future__ import annotations

import fcntl
import os
import select
import sys
from pathlib import Path
from typing import Any

from planner.job import Handle, Job, Output

TRAINER = Path(__file__).with_name("fake_trainer.py")


class Bench:
    """A folder with a trainer's environment and two pipes to a trainer in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"
        self.bin.mkdir(parents=True)
        (self.bin / "python").symlink_to(sys.executable)
        self.program("lerobot-train", f"#!{sys.executable}\n{TRAINER.read_text()}")
        self.started, self.ready, self.gate = folder / "started", folder / "ready", folder / "gate"
        for pipe in (self.ready, self.gate):
            os.mkfifo(pipe)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def job(self, run: str, *arguments: str, waits: bool = True, **fields: Any) -> Job:
        """A job whose trainer says that it runs and, where it `waits`, goes on when it is let through."""
        pipes = (f"--ready={self.ready}", f"--gate={self.gate}") if waits else ()
        trainer = (f"--started={self.started}", *pipes, *arguments)
        values: dict[str, Any] = {
            "name": run, "target": "local", "flavor": "rtx4090", "gpu": "rtx4090", "num_gpus": 1, "lerobot": "0.6.1", "image": None,
            "packages": ("lerobot==0.6.1",), "argv": ("lerobot-train", *trainer), "trainer": trainer, "env": {}, "secrets": (),
            "volumes": (), "cores": None, "ram_bytes": None, "timeout_s": 3600, "startup_timeout_s": None, "attempts": 1,
            "output": Output("folder", "out"), "labels": {"plan-run-id": run}, "folder": str(self.folder),
            "trainer_at": str(self.folder / "env"),
        }  # fmt: skip
        return Job(**{**values, **fields})

    def wait_ready(self) -> None:
        """Until the trainer has printed its first lines."""
        assert self.ready.read_text() == "ready"

    def let_through(self) -> None:
        self.gate.write_text("go")

    def pids(self) -> list[int]:
        """Of everything that was ever started, in order."""
        return [int(line) for line in self.started.read_text().split()] if self.started.exists() else []


def wait_released(handle: Handle, lock: str = "supervisor.lock") -> None:
    """Until no process holds the run's lock: the kernel wakes this one."""
    with (Path(handle["run"]) / lock).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def wait_gone(pid: int) -> None:
    """Until the process has ended, whoever its parent is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
