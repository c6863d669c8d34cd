"""The installed `plan`, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Result]:
    """`plan("--policy", "act", COLUMNS="80")` -> the finished process; nothing of the developer's own settings."""
    program = Path(sys.executable).with_name("plan")
    assert program.exists(), "install the package first: pip install -e '.[test]'"

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> Result:
        clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}
        clean |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        return subprocess.run(
            [str(program), *arguments],
            cwd=cwd, env=clean | environment, capture_output=True, text=True, encoding="utf-8", timeout=60,
        )  # fmt: skip

    return run
