"""Every policy × release that can be emitted, through the front door, read back by the real `hf` and the real `modal`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from planner.catalogue import load
from planner.commands import main
from tests.factories import said
from tests.hf_cli import parsed

POLICIES = load(user=Path("/nonexistent")).policies
CASES = [(name, release) for name, policy in POLICIES.items() if policy.trainer == "lerobot-train" for release in policy.releases]
LARGE = ("--", "--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true")  # else pi0 and pi05 need an H200


def arguments(policy: str, release: str) -> tuple[list[str], list[str]]:
    """(options, tail) of a plan that fits somewhere on every place."""
    options = ["--policy", policy, "--dataset", "me/pick", "--offline", "--episodes", "50"]
    options += ["--lerobot-version", release, "--batch-size", "4"]
    lighter = {"gradient_checkpointing", "dtype"} <= set(POLICIES[policy].flags[release])
    return options, list(LARGE) if lighter else []


def planned(capsys: pytest.CaptureFixture[str], options: list[str], tail: list[str]) -> dict[str, Any]:
    """The recommended row of the same plan, from --json."""
    assert main([*options, "--json", *tail]) == 0
    document = json.loads(capsys.readouterr().out)
    best: dict[str, Any] = next(row for row in document["estimates"] if row["id"] == document["recommended"]["id"])
    return best


def emitted(capsys: pytest.CaptureFixture[str], options: list[str], tail: list[str], *emit: str) -> str:
    assert main([*options, "--emit", *emit, *tail]) == 0
    return capsys.readouterr().out


def check_trainer(argv: list[str], row: dict[str, Any]) -> None:
    assert (said(argv, "batch_size"), said(argv, "steps")) == (row["batch_size"], row["steps"])
    assert said(argv, "dataset.repo_id") == "me/pick"
    every = said(argv, "save_freq")
    assert isinstance(every, int) and 0 < every <= row["steps"]


@pytest.mark.parametrize(("policy", "release"), CASES)
def test_hf_line(capsys: pytest.CaptureFixture[str], policy: str, release: str) -> None:
    options, tail = arguments(policy, release)
    row = planned(capsys, [*options, "--target", "hf"], tail)
    line = emitted(capsys, options, tail, "hf", "--repo-id", "me/out")
    assert line.count("\n") == 1
    params = parsed(line)
    unit = {"s": 1, "h": 3600}[params["timeout"][-1]]
    assert (params["flavor"], int(params["timeout"][:-1]) * unit) == (row["flavor"], row["timeout_s"])
    assert params["timeout"] != "30m" and row["timeout_s"] >= row["wall_clock_s"]["p50"] - row["startup_s"]["p50"]
    assert list(params["secrets"]) == ["HF_TOKEN"] and params["detach"] is True
    check_trainer(params["command"], row)
    assert said(params["command"], "policy.repo_id") == "me/out" and said(params["command"], "policy.push_to_hub") is True
    assert ("accelerate" in params["command"] or "torchrun" in params["command"]) or row["num_gpus"] == 1


@pytest.mark.parametrize(("policy", "release"), [case for case in CASES if case[1] != "0.4.4"])
def test_lerobot_line(capsys: pytest.CaptureFixture[str], policy: str, release: str) -> None:
    options, tail = arguments(policy, release)
    row = planned(capsys, [*options, "--target", "hf", "--num-gpus", "1"], tail)
    argv = shlex.split(emitted(capsys, options, tail, "lerobot"))
    assert argv[0] == "lerobot-train"
    assert said(argv, "job.target") == row["flavor"]
    timeout = str(said(argv, "job.timeout"))
    assert int(timeout[:-1]) * {"s": 1, "h": 3600}[timeout[-1]] == row["timeout_s"]
    check_trainer(argv, row)


@pytest.mark.parametrize(("policy", "release"), CASES)
def test_modal_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, release: str
) -> None:
    options, tail = arguments(policy, release)
    row = planned(capsys, [*options, "--target", "modal"], tail)
    script = emitted(capsys, options, tail, "modal")
    monkeypatch.setenv("PLAN_MOUNT_ROOT", str(tmp_path))
    module = ModuleType("emitted")
    monkeypatch.setitem(sys.modules, "emitted", module)
    exec(compile(script, str(tmp_path / "emitted.py"), "exec"), module.__dict__)
    info = module.train.info()
    assert len(info.gpus) == 1 and info.gpus[0][1] == row["num_gpus"]
    assert info.gpus[0][0] == row["flavor"]
    assert info.timeout == row["timeout_s"] <= 86_400
    assert (info.startup_timeout, info.max_retries or 0) == (1800, row["attempts"] - 1)
    assert info.cpu == 5 * row["num_gpus"] and info.memory_mib >= 16 * 1024
    assert {volume.name for volume in info.volumes.values()} == {"lerobot-outputs", "lerobot-datasets", "huggingface-cache"}
    assert info.single_use_containers
    check_trainer(module.ARGUMENTS, row)
    assert said(module.ARGUMENTS, "policy.push_to_hub") is False
    assert str(said(module.ARGUMENTS, "output_dir")).startswith(f"{tmp_path}/outputs/")


def test_what_lerobot_train_does_not_train_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name, policy in POLICIES.items():
        if policy.trainer != "lerobot-train":
            options = ["--policy", name, "--dataset", "me/pick", "--offline", "--episodes", "5", "--lerobot-version", policy.releases[0]]
            assert main([*options, "--emit", "modal"]) == 2
            assert "not by lerobot-train" in capsys.readouterr().err
