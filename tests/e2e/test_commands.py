"""The whole loop by the commands that a user types: launched, killed in the middle, resumed by the command that the failure
names, and its step time kept as evidence. LeRobot's ACT on a dataset that the test makes, on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.lerobot.conftest import HERE, environment, interpreter
from tests.lerobot.test_training import TINY

pytestmark = pytest.mark.e2e

PLAN = str(Path(sys.executable).with_name("plan"))
LIMIT_S = 600  # a hang fails; nothing here takes a tenth of it


@pytest.mark.parametrize("release", ["0.6.1"])
def test_launch_kill_resume_learn(release: str, tmp_path: Path) -> None:
    python = interpreter(release)
    here = environment(HF_HOME=str(tmp_path / "cache"), PLAN_HOME=str(tmp_path / "home"), PLAN_TRAINER=str(python), OMP_NUM_THREADS="1",
                       CUDA_VISIBLE_DEVICES="")  # fmt: skip
    subprocess.run([str(python), str(HERE / "make_dataset.py"), str(tmp_path / "ds")], env=here, check=True, timeout=LIMIT_S)

    def plan(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([PLAN, *words], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=LIMIT_S)

    launch = [PLAN, "--policy", "act", "--dataset", "./ds", "--target", "local", "--gpu", "cpu", "--steps", "200", "--batch-size", "2",
              "--lerobot-version", release, "--launch", "--yes", "--", *TINY, "--save_freq=20"]  # fmt: skip
    with subprocess.Popen(launch, cwd=tmp_path, env=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr and first.stdout
        said: list[str] = []
        for line in first.stderr:
            seen = any(" step:25 " in one for one in said)  # the failure quotes the log's end
            if " step:25 " in line and not seen:  # the checkpoint of step 20 is complete by now
                [run] = (tmp_path / "home" / "state" / "runs").glob("act-*")
                os.kill(int((run / "trainer.lock").read_text()), signal.SIGKILL)  # as the kernel does when memory runs out
            said.append(line)
        table = first.stdout.read()
    text = "".join(said)
    assert first.returncode == 10, text[-3000:]
    assert "local  cpu" in table and "host's memory" in text
    command = re.findall(r"plan (resume \S+)", text)[-1]
    assert json.loads(plan("status", "--json").stdout)["runs"][0]["cause"]["code"] == "host-memory"

    resumed = plan(*shlex.split(command), "--yes")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert re.search(r"goes on from step \d+, ", resumed.stderr) and "Checkpoint policy after step 200" in resumed.stderr
    [row] = json.loads(plan("runs", "--json").stdout)["runs"]
    assert (row["state"], row["actual"]["exit_code"]) == ("succeeded", 0) and row["actual"]["step_s"] > 0
    kept = yaml.safe_load((tmp_path / "home" / "config" / "catalogue" / "evidence.yaml").read_text())["runs"]
    measured = [one for one in kept.values() if one["source"] == f"run {row['id']}"]  # one a segment that was long enough
    assert {(one["policy"], one["gpu"]) for one in measured} == {("act", "cpu")}
    assert all(float(one["update"].split()[0]) > 0 for one in measured)

    fetched = plan("fetch", row["id"], "--to", "model")
    assert fetched.returncode == 0 and (tmp_path / "model" / "model.safetensors").stat().st_size > 100_000
    assert plan("cancel", "last").returncode == 0 and plan("resume", "last", "--yes").returncode == 2  # it is over
