"""A real training on this machine from its launch to its end: followed, killed in the middle, continued, measured.

LeRobot's ACT on a dataset that the test makes, on the CPU; PLAN_LEROBOT_044 and PLAN_LEROBOT_061 name the Pythons.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from planner import Search, Workload, plan, trainlog
from planner import launch as launches
from planner.job import Job
from planner.recipes import lerobot
from planner.recipes.resume import resumed, steps_left
from planner.runs import Entry, Ledger
from planner.targets import local
from tests.lerobot.conftest import HERE, environment, interpreter
from tests.lerobot.test_training import TINY

pytestmark = pytest.mark.e2e

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
STEPS, SAVED = 60, 10
LIMIT_S = 600  # a hang fails; nothing here takes a tenth of it


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine of the test's own: no way to the Hub, one thread, since the tests share few cores."""
    for name, value in environment(HF_HOME=str(tmp_path / "cache"), PLAN_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(local, "POLL_S", 0.02)
    monkeypatch.chdir(tmp_path)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)


def make_job(release: str, dataset: Path) -> Job:
    """A planned training of some tens of steps, as `plan --launch` makes it."""
    subprocess.run([str(interpreter(release)), str(HERE / "make_dataset.py"), str(dataset)], env=dict(os.environ), check=True, timeout=300)
    planned = plan(
        Workload(policy="act", dataset=str(dataset), steps=STEPS, batch_size=2, lerobot_version=release,
                 tail=(*TINY, f"--save_freq={SAVED}")),
        Search(targets=("local",), gpus=("rtx4090",)),
    )  # fmt: skip
    assert planned.recommended is not None
    output = local.output_for(repo_id=None, output=None, run_name="tiny")
    job = lerobot.job(planned.estimate(planned.recommended.id), planned.workload, target="local", output=output, name="tiny")
    return named(job._replace(trainer_at=str(interpreter(release))))


def named(job: Job) -> Job:
    """With a run id of its own: an id never starts twice."""
    return job._replace(labels={**job.labels, launches.LABEL: launches.run_id(job.name)})


def send(job: Job, ledger: Ledger) -> Entry:
    """Launch it, as `plan --launch` and `plan resume` do."""
    return launches.launch(job, launches.entry(job, {}, None, NOW, group="tiny"), local, ledger)


def follow(row: Entry, ledger: Ledger, until: str | None = None) -> list[str]:
    """Its log up to a line that holds `until`, or to the end; then the ledger says how it ended."""
    assert row.handle
    lines = []
    for line in local.logs(row.handle, follow=True):
        lines.append(line)
        if until is not None and until in line:
            return lines
    ledger.update(row.id, state=local.status(row.handle).state)
    return lines


def kill_the_trainer(row: Entry) -> None:
    """As the kernel does when memory runs out."""
    assert row.handle
    os.kill(int((Path(row.handle["run"]) / "trainer.lock").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("release", ["0.4.4", "0.6.1"])
def test_a_training_is_killed_and_continued_to_its_end(release: str, tmp_path: Path) -> None:
    job = make_job(release, tmp_path / "it's a dataset")
    checks = {check.name: check for check in local.preflight(job)}
    assert {name: check.ok for name, check in checks.items()} == dict.fromkeys(
        ("trainer", "lerobot", "gpu", "attempts", "output", "disk", "dataset", "others"), True)  # fmt: skip
    with Ledger() as ledger:
        first = send(job, ledger)
        follow(first, ledger, until=f"Checkpoint policy after step {2 * SAVED}")
        kill_the_trainer(first)
        follow(first, ledger)
        assert ledger.get(first.id).state == "failed"
        assert first.handle and "SIGKILL" in str(local.status(first.handle).message)
        assert not local.preflight(job)[4].ok, "LeRobot refuses an output that is there"

        checkpoint = local.checkpoint(first.handle, job)
        assert checkpoint is not None and SAVED <= int(checkpoint.name) < STEPS
        assert steps_left(job, checkpoint) == STEPS - int(checkpoint.name)
        rest = named(resumed(job, checkpoint))
        assert [check for check in local.preflight(rest) if check.ok is False] == []
        second = send(rest, ledger)
        log = follow(second, ledger)
        assert ledger.get(second.id).state == "succeeded", "\n".join(log[-30:])
        assert {one.state for one in ledger.of_group("tiny")} == {"failed", "succeeded"}

    saved = [int(line.rsplit(" ", 1)[1]) for line in log if "Checkpoint policy after step" in line]
    assert saved == list(range(int(checkpoint.name) + SAVED, STEPS + 1, SAVED)), "it went on where the checkpoint was"
    said = trainlog.read("\n".join(log))
    steady = trainlog.steady(said)
    assert (said.release, said.steps, said.batch_size) == (release, STEPS, 2) and steady.used >= 3 and steady.step_s > 0
    assert second.handle
    files = local.fetch(second.handle, rest, tmp_path / "model", print)
    assert {"config.json", "model.safetensors", "train_config.json"} <= {path.name for path in files}
    config = json.loads((tmp_path / "model" / "train_config.json").read_text())
    assert (config["steps"], config["policy"]["dim_model"], config["resume"]) == (STEPS, 64, True)
