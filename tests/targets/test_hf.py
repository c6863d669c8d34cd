"""The `hf jobs run` line, read by the real `hf` CLI: parsed offline, and submitted to a loopback Hub."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.errors import UsageError
from planner.job import Job, Output
from planner.recipes.lerobot import job as make
from planner.targets import hf
from tests.factories import estimate, offer, said, workload
from tests.hf_cli import parsed
from tests.servers.hf import TOKEN, serve

HOSTILE = "it's \"a\" $(touch x) `id` ;&|> *\nü☃ --flavor=cpu\\"


def hf_job(**fields: Any) -> Job:
    where = offer("hf", flavor=fields.pop("flavor", "l4x1"), num_gpus=fields.pop("num_gpus", 1))
    made = make(estimate(where, timeout_s=15_000), workload(**fields), target="hf", output=Output("hub", "me/out"), name="pick-1")
    return made._replace(attempts=2)


def test_the_cli_parses_what_the_plan_says() -> None:
    job = hf_job(trainer_args=("--wandb.enable=true", "--token", "x", "--env=y", "--name", HOSTILE))
    params = parsed(hf.emit(job._replace(namespace="my-lab")))
    assert (params["flavor"], params["timeout"], params["attempts"]) == ("l4x1", "15000s", 2)
    assert list(params["secrets"]) == ["HF_TOKEN", "WANDB_API_KEY"]
    assert list(params["label"]) == ["plan-run-id=pick-1"]
    assert params["namespace"] == "my-lab"
    assert params["detach"] is True
    assert params["image"] == "huggingface/lerobot-gpu:latest"
    assert tuple(params["command"]) == job.argv
    assert params["token"] is None


def test_a_loopback_hub_receives_the_job(tmp_path: Path) -> None:
    program = shutil.which("hf", path=str(Path(sys.executable).parent))
    assert program, "the test environment has huggingface_hub's CLI"
    job = hf_job(dataset=HOSTILE, flavor="a10g-largex2", num_gpus=2, environment=(("GREETING", f" {HOSTILE}\t#"),))
    environment = {
        "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    with serve() as hub:
        environment["HF_ENDPOINT"] = hub.url
        done = subprocess.run(["bash", "-c", hf.emit(job)], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (received,) = hub.jobs
        assert not hub.refused
        wrong = subprocess.run(["bash", "-c", hf.emit(job)], env=environment | {"HF_TOKEN": "hf_other"}, cwd=tmp_path,
                               capture_output=True, text=True)
        assert wrong.returncode != 0, "a server that takes any token proves nothing"
        assert len(hub.jobs) == 1
    assert tuple(received["command"]) == job.argv
    assert job.argv[:4] == ("accelerate", "launch", "--multi_gpu", "--num_processes=2")
    assert said(received["command"], "dataset.repo_id") == HOSTILE
    assert received["dockerImage"] == job.image
    assert (received["flavor"], received["timeoutSeconds"], received["attempts"]) == ("a10g-largex2", 15_000, 2)
    assert received["labels"]["plan-run-id"] == "pick-1"
    assert received["environment"] == {"GREETING": f" {HOSTILE}\t#"}
    assert received["secrets"] == {"HF_TOKEN": TOKEN}
    assert TOKEN not in hf.emit(job)
    assert not (tmp_path / "x").exists(), "nothing of the line was run by the shell"


def test_durations() -> None:
    assert [hf.duration(seconds) for seconds in (3600, 14_400, 5400, 90)] == ["1h", "4h", "5400s", "90s"]


def test_lerobot_submits_it() -> None:
    made = make(estimate(offer("hf")), workload("smolvla", trainer_args=("--job.tags=[a]",)), target="hf",
                output=Output("hub", ""), name="pick-1", form="lerobot")
    words = shlex.split(hf.emit_lerobot(made))
    assert words[0] == "lerobot-train"
    assert words[-3:] == ["--job.target=l4x1", "--job.timeout=8h", "--job.detach=true"]
    assert "--job.tags=[a]" in words
    assert not any("repo_id" in word and "dataset" not in word for word in words)
    assert any("--repo-id" in warning for warning in made.warnings)


def test_lerobot_submits_only_what_it_can() -> None:
    def emitted(release: str, gpus: int) -> str:
        where = offer("hf", flavor="l4x4" if gpus > 1 else "l4x1", num_gpus=gpus)
        return hf.emit_lerobot(make(estimate(where), workload(lerobot=release), target="hf", output=Output("hub", "me/out"),
                                    name="n", form="lerobot"))

    assert "--policy.repo_id=me/out" in emitted("0.6.1", 1)
    with pytest.raises(UsageError, match="--emit hf"):
        emitted("0.4.4", 1)
    with pytest.raises(UsageError, match="one process"):
        emitted("0.6.1", 4)


def test_what_it_needs() -> None:
    job = hf_job(trainer_args=("--wandb.enable=true",))
    cli, login, balance, wandb = hf.needs(job)
    assert "huggingface_hub" in cli and login == "hf auth login" and "balance" in balance and wandb.startswith("WANDB_API_KEY ")
    install, *account = hf.needs_lerobot(job)
    assert "pip install 'lerobot[training]==0.6.1'" in install and account == [login, balance]


def test_results_need_a_repository() -> None:
    assert hf.output_for(repo_id="me/out", output=None, run_name="r") == Output("hub", "me/out")
    for name in (None, "", "out", "a b/c", "me/out/x", "$(id)/x"):
        with pytest.raises(UsageError, match="--repo-id"):
            hf.output_for(repo_id=name, output=None, run_name="r")


def test_variables_that_the_cli_cannot_carry() -> None:
    with pytest.raises(UsageError, match="ODD"):
        hf.emit(hf_job()._replace(env={"ODD": "a\x0bb"}))
