"""A real training through the launch on Modal: preempted in the middle, resumed, finished, fetched.

The real client and a loopback Modal that runs the uploaded script; LeRobot's ACT on a dataset that the test makes, on the CPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner import Search, Workload, plan, trainlog
from planner.recipes import lerobot
from planner.targets import modal as target
from tests.lerobot.conftest import HERE, environment, interpreter
from tests.lerobot.test_training import TINY
from tests.servers.modal_jobs import DATASETS, Cloud, serve_jobs

pytestmark = pytest.mark.e2e

STEPS, SAVED = 60, 10
LIMIT_S = 600  # a hang fails; nothing here takes a tenth of it


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    from modal.client import _Client

    with serve_jobs(tmp_path / "cloud") as running:
        for name, value in {**running.server.environment, "PLAN_HOME": str(tmp_path / "home")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(_Client, "_client_from_env", None)
        yield running


@pytest.mark.parametrize("release", ["0.4.4", "0.6.1"])
def test_a_training_is_preempted_resumed_and_finished(release: str, cloud: Cloud, tmp_path: Path) -> None:
    python, dataset = interpreter(release), tmp_path / "a dataset"
    here = environment(HF_HOME=str(tmp_path / "cache"), OMP_NUM_THREADS="1")
    subprocess.run([str(python), str(HERE / "make_dataset.py"), str(dataset)], env=here, check=True, timeout=300)
    planned = plan(
        Workload(policy="act", dataset=str(dataset), steps=STEPS, batch_size=2, lerobot_version=release,
                 tail=(*TINY, f"--save_freq={SAVED}")),
        Search(targets=("modal",), gpus=("l4",), num_gpus=1),
    )  # fmt: skip
    assert planned.recommended is not None
    output = target.output_for(repo_id=None, output=None, run_name="tiny")
    job = lerobot.job(planned.estimate(planned.recommended.id), planned.workload, target="modal", output=output, name="tiny")
    folder = next(flag for flag in job.trainer if flag.startswith("--dataset.root=")).removeprefix("--dataset.root=/datasets/")
    assert [check.name for check in target.preflight(job) if check.ok is False] == ["dataset"], "it is not uploaded yet"
    shutil.copytree(dataset, cloud.volume(DATASETS) / folder)
    assert [check.name for check in target.preflight(job) if check.ok is False] == []

    cloud.execute = True
    cloud.environment = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": here["PYTHONPATH"],
                         "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
    handle = target.submit(job)
    call = cloud.calls[handle["call_id"]]
    assert cloud.printed(call.id, f"Checkpoint policy after step {2 * SAVED}", LIMIT_S), call.log
    assert target.status(handle).state == "running"
    cloud.preempt(call.id)
    assert call.over.wait(LIMIT_S)
    log = list(target.logs(handle, follow=False))
    assert target.status(handle).state == "succeeded", "\n".join(log[-40:])
    assert call.attempts == 2

    last = next(number for number, line in enumerate(log) if line.startswith("continuing from "))
    at = int(log[last].rsplit("/", 1)[1])
    saved = [int(line.rsplit(" ", 1)[1]) for line in log[last:] if "Checkpoint policy after step" in line]
    assert at >= SAVED and saved == list(range(at + SAVED, STEPS + 1, SAVED)), "it went on where the checkpoint was"
    assert trainlog.read("\n".join(log)).steps == STEPS
    files = target.fetch(handle, job, tmp_path / "model", print)
    assert {"config.json", "model.safetensors", "train_config.json"} <= {path.name for path in files}
    config = json.loads((tmp_path / "model" / "train_config.json").read_text())
    assert (config["steps"], config["policy"]["dim_model"], config["resume"]) == (STEPS, 64, True)
