"""A user's desk: the installed `plan` with a login of its own against the loopback Hub, in a pipe or in a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from planner.commands.terminal import WIDTH_WHEN_PIPED
from tests.servers import hf_jobs
from tests.test_datasets import info

PLAN = Path(sys.executable).with_name("plan")
WANDB = "w4nd6key" * 5
LIMIT_S = 60  # for what never comes
#: A launch that the loopback Hub takes. Bundled prices are of a day that goes further away with every day.
LAUNCH = ("--policy", "act", "--dataset", "me/pick", "--target", "hf", "--gpu", "l4", "--max-price-age", "36500", "--launch")
SCRIPT = ("--yes", "--max-cost", "5")

Result = subprocess.CompletedProcess[str]


class Said(NamedTuple):
    """What a terminal showed, and the exit code."""

    text: str
    returncode: int


class Desk:
    """A home folder and a shell's environment, with nothing of the developer's own."""

    def __init__(self, folder: Path, hub: hf_jobs.Hub, **environment: str) -> None:
        assert PLAN.exists(), "install the package first: pip install -e '.[dev]'"
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.hub, self.home = folder, hub, folder / "home"
        self.environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", "HOME": str(folder), "PLAN_HOME": str(self.home),
            "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url, "HF_TOKEN": hf_jobs.TOKEN, "NETRC": str(folder / "netrc"),
            "WANDB_API_KEY": WANDB,
        } | environment  # fmt: skip

    def plan(self, *arguments: str, **environment: str) -> Result:
        """`plan …` to its end, without a terminal."""
        done = subprocess.run(
            [str(PLAN), *arguments], cwd=self.folder, env=self.environment | environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, encoding="utf-8", timeout=LIMIT_S,
        )  # fmt: skip
        self.clean(done.stdout + done.stderr)
        return done

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`plan …` as a process that goes on."""
        return subprocess.Popen(
            [str(PLAN), *arguments], cwd=self.folder, env=self.environment | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str]) -> Result:
        """What a started process said, at its end."""
        out, err = process.communicate(timeout=LIMIT_S)
        self.clean(out + err)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def terminal(self, *arguments: str, types: str, when: str = "Proceed? [y/N]", **environment: str) -> Said:
        """`plan …` in a terminal where somebody `types` once it shows `when`."""
        size = {"COLUMNS": str(WIDTH_WHEN_PIPED), "TERM": "xterm"}
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.folder)
            os.execve(PLAN, ["plan", *arguments], self.environment | size | environment)
        shown, typed, until = b"", False, time.monotonic() + LIMIT_S
        while True:
            assert select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0], shown.decode(errors="replace")
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
            if not typed and when in shown.decode(errors="replace"):
                os.write(terminal, types.encode())
                typed = True
        os.close(terminal)
        text = shown.decode(errors="replace").replace("\r\n", "\n")
        self.clean(text)
        return Said(text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def runs(self) -> list[dict[str, Any]]:
        """The ledger as `plan runs --json` tells it, newest first."""
        done = self.plan("runs", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["schema"], document["error"]) == ("runs/1", None)
        found: list[dict[str, Any]] = document["runs"]
        return found

    def clean(self, text: str) -> None:
        """No secret and no traceback was shown, and no secret is kept."""
        assert "Traceback" not in text and "unexpected" not in text, text
        for where, held in (("shown", text), *((str(path), path.read_bytes().decode(errors="replace")) for path in self.files())):
            for secret in (hf_jobs.TOKEN, WANDB):
                assert not any(secret[at : at + 10] in held for at in range(len(secret) - 9)), f"a piece of a secret: {where}"

    def files(self) -> list[Path]:
        return [path for path in self.home.rglob("*") if path.is_file()] if self.home.exists() else []


def dataset(hub: hf_jobs.Hub, name: str = "me/pick") -> None:
    """A LeRobotDataset on the Hub with what planning reads of it."""
    hub.repos[f"datasets/{name}"] = {"private": True, "tags": ["v3.0"], "files": {"meta/info.json": json.dumps(info()).encode()}}
