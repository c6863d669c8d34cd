"""The real LeRobot, one environment a release. PLAN_LEROBOT_044 and PLAN_LEROBOT_061 name their Pythons (make_env.sh)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INTERPRETERS = {"0.4.4": "PLAN_LEROBOT_044", "0.6.1": "PLAN_LEROBOT_061"}


def interpreter(release: str) -> Path:
    """The Python of the release's environment; without it this group fails, it is never skipped."""
    variable = INTERPRETERS[release]
    python = Path(os.environ.get(variable, ""))
    if not python.is_file():
        pytest.fail(f"{variable} must name the Python of a LeRobot {release} environment: tests/lerobot/make_env.sh {release} DIR")
    return python


def environment(**extra: str) -> dict[str, str]:
    """Environment of a LeRobot process: importable on this machine, and with no way to the Hub."""
    return {**os.environ, "PYTHONPATH": str(HERE / "shims"), "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", **extra}


class Trainer:
    """One LeRobot that reads command lines. Importing it costs seconds, so it is asked many times."""

    def __init__(self, python: Path) -> None:
        self.errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115  a pipe nobody reads would block
        self.process = subprocess.Popen(
            [str(python), str(HERE / "parse.py")], env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, encoding="utf-8",
        )  # fmt: skip

    def read(self, argv: tuple[str, ...], hub: dict[str, dict[str, Any]], cameras: tuple[str, ...] = ()) -> dict[str, Any]:
        """{"config", "learning_rate"} as LeRobot understands `argv` for a dataset with these cameras, or {"error"}."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"argv": argv, "hub": hub, "cameras": cameras}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            pytest.fail(f"LeRobot did not start or died:\n{self.errors.read()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def trainer() -> Iterator[Callable[[str], Trainer]]:
    """`trainer("0.6.1").read(argv, hub)`: one process a release for all tests."""
    started: dict[str, Trainer] = {}

    def of(release: str) -> Trainer:
        if release not in started:
            started[release] = Trainer(interpreter(release))
        return started[release]

    yield of
    for one in started.values():
        one.close()
