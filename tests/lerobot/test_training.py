"""An emitted line trains: a real LeRobot, a real dataset, a few steps on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from planner import Search, Workload, plan
from planner.recipes import lerobot
from planner.targets import local
from tests.lerobot.conftest import HERE, environment, interpreter

pytestmark = pytest.mark.lerobot

RELEASE = "0.4.4"  # runs on the same Python as the tests' other tools
TINY = (  # ACT small enough for a CPU
    "--policy.device=cpu", "--policy.pretrained_backbone_weights=null", "--policy.dim_model=64", "--policy.n_heads=2",
    "--policy.dim_feedforward=64", "--policy.chunk_size=4", "--policy.n_action_steps=4", "--num_workers=0", "--log_freq=5",
)  # fmt: skip


def test_emitted_line_trains_and_leaves_its_checkpoints(tmp_path: Path) -> None:
    python = interpreter(RELEASE)
    dataset = tmp_path / "it's a $(tiny) dataset"
    here = environment(HF_HOME=str(tmp_path / "cache"), PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run([str(python), str(HERE / "make_dataset.py"), str(dataset)], env=here, check=True, timeout=300)

    tail = (*TINY, "--save_freq=5")
    planned = plan(
        Workload(policy="act", dataset=str(dataset), steps=10, batch_size=2, lerobot_version=RELEASE, tail=tail),
        Search(targets=("local",), gpus=("rtx4090",)),
    )
    assert (planned.workload.frames, planned.workload.episodes, len(planned.workload.cameras)) == (48, 4, 1)
    assert planned.recommended is not None
    output = local.output_for(repo_id=None, output=str(tmp_path / "runs" / "a run"), run_name="tiny")
    job = lerobot.job(planned.estimate(planned.recommended.id), planned.workload, target="local", output=output, name="tiny")

    trained = subprocess.run(["bash", "-c", local.emit(job)], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=300)

    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "End of training" in trained.stderr
    checkpoints = Path(job.output.where) / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["000005", "000010", "last"]
    assert (checkpoints / "last").resolve().name == "000010"
    config = json.loads((checkpoints / "last" / "pretrained_model" / "train_config.json").read_text())
    assert (config["steps"], config["batch_size"], config["job_name"]) == (10, 2, "tiny")
    assert (checkpoints / "last" / "pretrained_model" / "model.safetensors").stat().st_size > 100_000
