"""`plan --launch` on Modal as a user meets it: the installed `plan`, the real client, a loopback Modal that runs what was uploaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import hf
from tests.servers.modal import AFTER, HANG, TOKEN_ID, TOKEN_SECRET
from tests.servers.modal_jobs import Cloud, serve_jobs
from tests.targets.test_modal_jobs import TRAINER
from tests.test_datasets import info, video

Run = Callable[..., Any]
LAUNCH = ("--policy", "act", "--dataset", "me/pick", "--steps", "1000", "--target", "modal", "--gpu", "l40s", "--launch")
YES = ("--yes", "--max-cost", "50")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with serve_jobs(tmp_path / "cloud") as running:
        program = tmp_path / "bin" / "lerobot-train"
        program.parent.mkdir()
        program.write_text(TRAINER.format(python=sys.executable))
        program.chmod(0o755)
        running.execute = True
        running.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes"), "UNTIL": ""}
        yield running


@pytest.fixture
def there(plan: Run, cloud: Cloud, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of every command: a Hub with the dataset, a Modal, a home of its own."""
    with hf.serve() as hub:
        hub.dataset("me/pick", info(features={"observation.images.front": video()}))
        yield {"HF_ENDPOINT": hub.url, "PLAN_HOME": str(tmp_path / "home"), **cloud.server.environment}


def test_from_launch_to_bill(plan: Run, there: dict[str, str], cloud: Cloud, tmp_path: Path) -> None:
    shown = plan(*LAUNCH, "--dry-run", **there)
    request = json.loads(shown.stdout)
    assert shown.returncode == 0 and not cloud.apps and request["function"]["gpu"] == "L40S"
    assert request["secrets"] == {"huggingface-secret": {"HF_TOKEN": "***"}}

    done = plan(*LAUNCH, *YES, "--detach", "--quiet", **there)
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip()
    [app], [call] = cloud.apps.values(), cloud.calls.values()
    assert app.description == run and call.over.wait(60)

    status = plan("status", run, "--json", **there)
    [entry] = json.loads(status.stdout)["runs"]
    assert (entry["state"], entry["handle"]["app_id"], entry["actual"]["exit_code"]) == ("succeeded", app.id, 0)
    assert plan("logs", run, **there).stdout.count("step:") == 3
    fetched = plan("fetch", run, "--to", "model", **there)
    assert fetched.returncode == 0 and (tmp_path / "model" / "model.safetensors").stat().st_size == 1003
    assert "model.safetensors (1,003 bytes)" in fetched.stderr
    bill = plan("bill", run, **there)
    assert bill.returncode == 0 and "does not say yet" in bill.stderr
    assert "has ended before" in plan("cancel", run, **there).stderr
    for file in (path for path in (tmp_path / "home").rglob("*") if path.is_file()):
        assert TOKEN_SECRET not in file.read_bytes().decode(errors="replace") and TOKEN_ID not in file.read_bytes().decode(errors="replace")


def test_names_of_planner_toml_hold_for_a_launch(plan: Run, there: dict[str, str], cloud: Cloud, tmp_path: Path) -> None:
    cloud.secrets["team-hub"] = {"HF_TOKEN"}
    settings = tmp_path / "home" / "config" / "planner.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('[secrets]\nhf = "team-hub"\n[volumes]\noutputs = "team-outputs"\n')
    done = plan(*LAUNCH, *YES, "--detach", **there)
    assert done.returncode == 0, done.stderr
    [call] = cloud.calls.values()
    assert list(call.function.secret_ids) == ["st-team-hub"]
    assert "vo-team-outputs" in {mount.volume_id for mount in call.function.volume_mounts}
    assert call.over.wait(60) and plan("fetch", "last", "--to", "model", **there).returncode == 0


def test_a_missing_secret_stops_it_before_anything_is_built(plan: Run, there: dict[str, str], cloud: Cloud) -> None:
    cloud.secrets.clear()
    done = plan(*LAUNCH, *YES, **there)
    assert done.returncode == 6 and "modal secret create huggingface-secret HF_TOKEN=YOUR_VALUE" in done.stderr
    assert not cloud.apps


def test_a_run_that_failed_is_resumed_from_its_checkpoint(plan: Run, there: dict[str, str], cloud: Cloud, tmp_path: Path) -> None:
    """It fails after its second checkpoint; `plan resume` sends an app of its own that goes on there, and one run has both."""
    os.mkfifo(tmp_path / "until")
    cloud.environment |= {"UNTIL": str(tmp_path / "until"), "FAILS": "1"}
    run = plan(*LAUNCH, *YES, "--detach", "--quiet", **there).stdout.strip()
    (tmp_path / "until").read_text()
    [first] = cloud.calls.values()
    assert first.over.wait(60)
    failed = plan("status", run, **there)
    assert "failed" in failed.stdout and "exit code 1" in failed.stdout
    resumed = plan("resume", run, *YES, "--detach", **there)
    assert resumed.returncode == 0 and "goes on from step 2" in resumed.stderr, resumed.stderr
    second = list(cloud.calls.values())[-1]
    assert second is not first and second.app.description == f"{run}-2" and second.over.wait(60)
    [entry] = json.loads(plan("status", run, "--json", **there).stdout)["runs"]
    assert entry["state"] == "succeeded" and entry["handle"]["app_id"] == second.app.id
    steps = [line.split()[0] for one in (first, second) for _, line in one.log if line.startswith("step:")]
    assert steps == ["step:1", "step:2", "step:3"]
    assert "has ended before" in plan("cancel", run, **there).stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_it_waits_for_the_reply(plan: Run, there: dict[str, str], cloud: Cloud, tmp_path: Path, how: signal.Signals) -> None:
    """Between the call and its reply: the next command finds the run, and the same launch is refused."""
    cloud.execute = False
    cloud.server.faults["FunctionMap"] = (AFTER, HANG)
    program = Path(sys.executable).with_name("plan")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", **there}
    killed = subprocess.Popen([str(program), *LAUNCH, *YES], env=environment, cwd=tmp_path, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)  # fmt: skip
    assert cloud.called.wait(60)
    killed.send_signal(how)
    out, _ = killed.communicate(timeout=60)
    assert killed.returncode and b"Traceback" not in out, out
    cloud.server.faults.clear()
    again = plan(*LAUNCH, *YES, **there)
    assert again.returncode == 8 and "--again" in again.stderr and len(cloud.calls) == 1
    [entry] = json.loads(plan("runs", "--json", **there).stdout)["runs"]
    assert entry["state"] == "queued" and entry["handle"]["app_id"] == next(iter(cloud.apps))
