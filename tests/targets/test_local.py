"""The local line, run by bash with a trainer that only notes what it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.job import Output
from planner.recipes.lerobot import job as make
from planner.targets import base, local
from tests.factories import estimate, offer, said, workload

HOSTILE = "-it's \"a\" $(touch x) `touch x` ;&|>x *\nü☃ \\"
NOTE = "#!{python}\nimport json, os, sys\njson.dump([sys.argv, dict(os.environ)], open(os.environ['NOTES'], 'w'))\n"


def bash(line: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Runs the line; returns argv and environment as the trainer saw them."""
    for program in ("lerobot-train", "accelerate", "torchrun"):
        (folder / program).write_text(NOTE.format(python=sys.executable))
        (folder / program).chmod(0o755)
    notes = folder / "notes.json"
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", line], cwd=folder, env={"PATH": path, "NOTES": str(notes)}, check=True)
    argv, environment = json.loads(notes.read_text())
    return [Path(argv[0]).name, *argv[1:]], environment


@pytest.mark.parametrize(("release", "gpus", "program"), [
    ("0.6.1", 1, "lerobot-train"), ("0.6.1", 2, "accelerate"), ("0.4.4", 4, "accelerate"), ("main", 2, "torchrun"),
])
def test_hostile_text_reaches_the_trainer(tmp_path: Path, release: str, gpus: int, program: str) -> None:
    training = workload(lerobot=release, dataset=HOSTILE, dataset_root=f"/data/{HOSTILE}", environment=(("A", HOSTILE),),
                        trainer_args=("--dataset.single_task", HOSTILE[1:], f"--new.flag={HOSTILE}"))
    job = make(estimate(offer("local", num_gpus=gpus)), training, target="local",
               output=Output("folder", f"out/{HOSTILE}"), name=HOSTILE)
    argv, environment = bash(local.emit(job), tmp_path)
    assert argv[0] == program
    assert tuple(argv) == job.argv
    expected = {"dataset.repo_id": HOSTILE, "dataset.root": f"/data/{HOSTILE}", "output_dir": f"out/{HOSTILE}", "job_name": HOSTILE}
    assert {name: said(argv, name) for name in expected} == expected
    assert f"--new.flag={HOSTILE}" in argv and HOSTILE[1:] in argv, "the user's own arguments are not touched"
    assert environment["A"] == HOSTILE
    assert not (tmp_path / "x").exists()


def test_a_folder_of_its_own() -> None:
    assert local.output_for(repo_id=None, output=None, run_name="r") == Output("folder", "outputs/train/r")
    assert local.output_for(repo_id="me/out", output="elsewhere", run_name="r") == Output("folder", "elsewhere")


def test_what_it_needs() -> None:
    training = workload("smolvla", environment=(("MY_KEY", "the value"),))
    here = make(estimate(offer("local")), training, target="local", output=Output("folder", "out"), name="n")
    assert local.needs(here) == ("an environment with pip install 'lerobot[training,smolvla]==0.6.1'", "MY_KEY set in the shell")
    pushed = make(estimate(offer("local")), workload(), target="local", output=Output("folder", "out"), name="n", repo_id="me/x")
    assert local.needs(pushed)[1:] == ("hf auth login",)


def test_places_are_found_by_name() -> None:
    assert base.names() == ["hf", "local", "modal"]
    for name in base.names():
        assert base.get(name).name == name and callable(base.get(name).needs)
    with pytest.raises(UsageError, match="hf, local, modal"):
        base.get("base")


def test_emitting_imports_no_sdk() -> None:
    script = "import sys; from planner.targets import base; [base.get(n) for n in base.names()]; " \
        "print([m for m in ('modal', 'huggingface_hub', 'lerobot', 'yaml', 'rich') if m in sys.modules])"
    root = Path(local.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
