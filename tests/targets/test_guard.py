"""What a container does first, run here with a torch that says what the test wants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.targets._guard import NO_GPU, guarded

ARGUMENTS = ("--name=it's \"a\" $(x)\n", "-c", "--", "")


def run(folder: Path, torch: str | None, num_gpus: int) -> subprocess.CompletedProcess[str]:
    """The guarded command, which prints its arguments, its process and ends with 3."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    show = "import os, sys; print(sys.argv[1:], os.getpid()); sys.exit(3)"
    (folder / "torch.py").write_text("raise ImportError('no torch here')" if torch is None else torch)
    command = guarded((sys.executable, "-c", show, *ARGUMENTS), num_gpus)
    assert command[0] == ("python" if num_gpus else sys.executable)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    started = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(folder), "PATH": path}, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    out, err = started.communicate()
    if started.returncode == 3:
        assert out == f"{list(ARGUMENTS)} {started.pid}\n", "the command takes the guard's place, so that signals reach it"
    return subprocess.CompletedProcess(command, started.returncode, out, err)


def torch(available: bool, gpus: int) -> str:
    return f"class cuda:\n    is_available = staticmethod(lambda: {available})\n    device_count = staticmethod(lambda: {gpus})\n"


@pytest.mark.parametrize(("fake", "asked"), [(torch(True, 1), 1), (torch(True, 4), 2), (torch(False, 0), 0), (None, 1),
                                             ("raise RuntimeError('broken')", 1)])  # fmt: skip
def test_the_command_runs(tmp_path: Path, fake: str | None, asked: int) -> None:
    assert run(tmp_path, fake, asked).returncode == 3


@pytest.mark.parametrize(("fake", "asked", "seen"), [(torch(False, 0), 1, 0), (torch(False, 2), 1, 0), (torch(True, 1), 4, 1)])
def test_it_stops_without_its_gpus(tmp_path: Path, fake: str, asked: int, seen: int) -> None:
    done = run(tmp_path, fake, asked)
    assert (done.returncode, done.stdout) == (NO_GPU, "")
    assert done.stderr == f"plan guard: GPUs asked for: {asked}, visible to CUDA: {seen}; stopped before training\n"
