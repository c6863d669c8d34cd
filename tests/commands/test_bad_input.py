"""Every mistake on the command line is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORK = ("--policy", "act", "--episodes", "50")

#: name -> (arguments, what the line must contain)
WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # names
    "unknown policy": (("--policy", "smolvla2", "--episodes", "5"), ("smolvla2", "smolvla")),
    "unknown gpu": ((*WORK, "--gpu", "h10"), ("h10", "h100")),
    "unknown target": ((*WORK, "--target", "hff"), ("hff", "hf")),
    "unknown aim": ((*WORK, "--optimize", "costs"), ("--optimize", "cost, time or balanced")),
    "unknown emission": ((*WORK, "--emit", "mdal"), ("--emit", "modal")),
    "unknown release": ((*WORK, "--lerobot-version", "0.6.2"), ("0.6.2", "0.6.1")),
    "unknown option": (("--polcy", "act"), ("--polcy", "did you mean --policy")),
    "underscores": ((*WORK, "--batch_size", "8"), ("--batch_size", "--batch-size")),
    "unknown short option": ((*WORK, "-x"), ("-x", "--help")),
    "unknown command": (("explan",), ("explan", "did you mean explain")),
    "policy as command": (("smolvla",), ("--policy smolvla",)),
    "no policy": (("--episodes", "50"), ("--policy",)),
    "no length": (("--policy", "act"), ("--episodes",)),
    # counts
    "no episodes": (("--policy", "act", "--episodes", "0"), ("--episodes", "at least 1")),
    "negative episodes": (("--policy", "act", "--episodes", "-5"), ("--episodes", "at least 1")),
    "fractional episodes": (("--policy", "act", "--episodes", "2.5"), ("--episodes", "whole number")),
    "absurd episodes": (("--policy", "act", "--episodes", "1000000000"), ("--episodes", "at most 10,000,000")),
    "endless episodes": (("--policy", "act", "--episodes", "9" * 5000), ("--episodes", "at most 10,000,000")),
    "episodes in words": (("--policy", "act", "--episodes", "fifty"), ("--episodes", "whole number")),
    "episodes in other digits": (("--policy", "act", "--episodes", "５０"), ("--episodes", "whole number")),
    "empty episodes": (("--policy", "act", "--episodes", ""), ("--episodes", "whole number")),
    "absurd frames": (("--policy", "act", "--frames", "1000000000000"), ("--frames", "at most 10,000,000,000")),
    "frames with commas": (("--policy", "act", "--frames", "45,000"), ("--frames", "write 45000")),
    "steps with exponent": ((*WORK, "--steps", "1e5"), ("--steps", "write 100000")),
    "steps with point": ((*WORK, "--steps", "1000.0"), ("--steps", "write 1000")),
    "exponent bomb": ((*WORK, "--steps", "1e999999999"), ("--steps",)),
    "no steps": ((*WORK, "--steps", "0"), ("--steps", "at least 1")),
    "batch of 0": ((*WORK, "--batch-size", "0"), ("--batch-size", "at least 1")),
    "negative batch": ((*WORK, "--batch-size", "-8"), ("--batch-size", "at least 1")),
    "absurd batch": ((*WORK, "--batch-size", "1000000000"), ("--batch-size", "at most")),
    "no GPUs": ((*WORK, "--num-gpus", "0"), ("--num-gpus", "at least 1")),
    "no attempts": ((*WORK, "--attempts", "0"), ("--attempts", "at least 1")),
    # numbers
    "fps 0": ((*WORK, "--fps", "0"), ("--fps", "above 0")),
    "fps NaN": ((*WORK, "--fps", "nan"), ("--fps", "number")),
    "fps infinite": ((*WORK, "--fps", "inf"), ("--fps", "number")),
    "negative fps": ((*WORK, "--fps", "-30"), ("--fps", "above 0")),
    "negative seconds": ((*WORK, "--episode-seconds", "-1"), ("--episode-seconds", "above 0")),
    "no epochs": ((*WORK, "--epochs", "0"), ("--epochs", "above 0")),
    "epochs too small to be": ((*WORK, "--epochs", "1e-999"), ("--epochs", "above 0")),
    "absurd epochs": ((*WORK, "--epochs", "1e9"), ("--epochs", "at most")),
    "hours in words": ((*WORK, "--max-hours", "soon"), ("--max-hours", "number")),
    # money
    "budget 0": ((*WORK, "--max-cost", "0"), ("--max-cost", "above 0")),
    "negative budget": ((*WORK, "--max-cost", "-5"), ("--max-cost", "above 0")),
    "budget NaN": ((*WORK, "--max-cost", "NaN"), ("--max-cost", "dollars")),
    "budget with comma": ((*WORK, "--max-cost", "5,00"), ("--max-cost", "12.50")),
    # times
    "timeout 0": ((*WORK, "--timeout", "0"), ("--timeout", "60 seconds")),
    "timeout of a year": ((*WORK, "--timeout", "365d"), ("--timeout", "30 days")),
    "timeout in words": ((*WORK, "--timeout", "forever"), ("--timeout", "4h")),
    # cameras
    "cameras in words": ((*WORK, "--cameras", "two"), ("--cameras", "2x640x480")),
    "no cameras": ((*WORK, "--cameras", "0x640x480"), ("--cameras", "1 to 16")),
    "cameras without pixels": ((*WORK, "--cameras", "2x0x480"), ("--cameras", "pixels")),
    "absurd cameras": ((*WORK, "--cameras", "2x640x99999"), ("--cameras", "8192")),
    # datasets
    "dataset not there": (("--policy", "act", "--dataset", "./nowhere"), ("nowhere", "no such folder")),
    "dataset that is no id": (("--policy", "act", "--dataset", "pusht"), ("pusht", "owner/name")),
    "Hub id without length": (("--policy", "act", "--dataset", "lerobot/pusht", "--offline"), ("lerobot/pusht", "--offline", "--frames")),
    "empty dataset": (("--policy", "act", "--dataset", ""), ("--dataset", "empty")),
    # shape of the line
    "option without value": (("--policy",), ("--policy", "needs a value")),
    "switch with value": ((*WORK, "--json=1"), ("--json", "takes no value")),
    "trainer argument before the cut": (("--policy.type=act",), ("--policy.type", "after `--`")),
    "options before the command": ((*WORK, "explain", "hf:l4x1"), ("plan explain --policy act --episodes 50 hf:l4x1",)),
    "two kinds of output": ((*WORK, "-q", "--emit", "hf"), ("--quiet and --emit",)),
    "repository without owner": ((*WORK, "--emit", "hf", "--repo-id", "x"), ("--repo-id", "USER/NAME")),
    "folder for hf": ((*WORK, "--emit", "hf", "--output", "out"), ("--output", "modal|local")),
    "repository without emission": ((*WORK, "--repo-id", "me/x"), ("--repo-id", "--emit")),
    "namespace for Modal": ((*WORK, "--emit", "modal", "--namespace", "me"), ("--namespace", "--emit hf")),
    "emission elsewhere": ((*WORK, "--emit", "modal", "--target", "hf"), ("--emit modal", "--target")),
    "emission on many GPUs": ((*WORK, "--emit", "lerobot", "--num-gpus", "4"), ("--num-gpus", "--emit hf")),
    "emission without dataset": ((*WORK, "--emit", "modal"), ("--dataset",)),
    "launching without dataset": ((*WORK, "--launch"), ("--dataset", "launch")),
    "launching offline": ((*WORK, "--launch", "--offline"), ("--launch", "--offline")),
    "launching and printing": ((*WORK, "--launch", "--emit", "hf"), ("--launch", "--emit")),
    "yes to nothing": ((*WORK, "--yes"), ("--yes", "--launch")),
    "row that is not there": (("explain", "hf:l4x9", *WORK), ("hf:l4x9", "hf:l4x1")),
    "two rows": (("explain", "hf:l4x1", "hf:t4-small", *WORK), ("hf:t4-small",)),
    "option of plan at a command": (("explain", *WORK, "--all"), ("--all", "plan explain")),
    "a tail that nobody reads": (("gpus", "--", "--policy.type=act"), ("plan gpus", "leave out")),
    "a shell's line in the tail": ((*WORK, "--", "rm", "-rf", "x"), ("rm",)),
    "option in the tail": ((*WORK, "--", "--dataset.repo_id=me/z", "--emit", "hf"), ("--emit stands after `--`", "before")),
    "switch in the tail": ((*WORK, "--", "--json"), ("--json stands after `--`",)),
    "option in a pasted command": (("--", "lerobot-train", "--policy.type=act", "--max_cost=5"), ("--max_cost", "write --max-cost before")),
    "option in the tail of explain": (("explain", *WORK, "--", "--gpu=l4"), ("--gpu stands after `--`",)),
    "command in quotes": (("--", "lerobot-train --policy.type=act"), ("remove the quotes",)),
    "weights of this machine": ((*WORK, "--offline", "--dataset", "me/x", "--emit", "modal", "--", "--policy.path=./w"),
                                ("--policy.path=./w", "Hub")),
    "said twice": ((*WORK, "--batch-size", "8", "--", "--batch_size=16"), ("--batch-size", "--batch_size", "16")),
    "control characters": (("--policy", "act\x1b[31m\nx", "--episodes", "5"), ("act\\x1b[31m",)),
}


@pytest.mark.parametrize(("arguments", "parts"), WRONG.values(), ids=WRONG.keys())
def test_is_one_line_and_exit_2(plan: Callable[..., Any], arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    result = plan(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and line.isprintable() and len(line) < 400
    for part in parts:
        assert part in line


@pytest.mark.parametrize("arguments", [WRONG["no steps"][0], WRONG["unknown policy"][0], WRONG["unknown option"][0]])
def test_with_json_the_error_is_a_document(plan: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    result, plain = plan("--json", *arguments), plan(*arguments)
    document = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (2, "")
    assert document["schema"] == "plan/1" and document["recommended"] is None
    assert f"error: {document['error']['text']}\n" == plain.stderr


CATALOGUES = {
    "tabs": "gpus.yaml", "duplicate keys": "gpus.yaml", "anchor bomb": "gpus.yaml", "empty": "gpus.yaml",
    "not a mapping": "policies.yaml",
}  # fmt: skip
BROKEN = {
    "tabs": "l4:\n\tname: L4\n",
    "duplicate keys": "l4: {name: L4}\nl4: {name: L4}\n",
    "anchor bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "empty": "",
    "not a mapping": "- 1\n",
}


@pytest.mark.parametrize("kind", CATALOGUES)
def test_a_broken_catalogue_file_is_named(plan: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "config" / "planner" / "catalogue" / CATALOGUES[kind]
    file.parent.mkdir(parents=True)
    file.write_text(BROKEN[kind])
    result = plan(*WORK)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and str(file) in line


def sabotage(folder: Path, module: str, name: str, error: str) -> str:
    """PYTHONPATH of an interpreter in which that function only raises."""
    code = f"import {module} as it\ndef broken(*_): raise {error}\nit.{name} = broken\n"
    (folder / "sitecustomize.py").write_text(code)
    return str(folder)


def test_a_bug_is_one_line_too(plan: Callable[..., Any], tmp_path: Path) -> None:
    path = sabotage(tmp_path, "planner.commands.values", "nearest", "RuntimeError('boom')")
    result = plan("explan", PYTHONPATH=path)
    assert result.returncode == 1
    assert result.stderr == "error: unexpected RuntimeError: boom; please report it with the output of PLAN_DEBUG=1\n"
    debug = plan("explan", PYTHONPATH=path, PLAN_DEBUG="1")
    assert "Traceback" in debug.stderr and debug.returncode == 1


def test_interrupted_is_130_and_silent(plan: Callable[..., Any], tmp_path: Path) -> None:
    result = plan(*WORK, PYTHONPATH=sabotage(tmp_path, "planner.api", "plan", "KeyboardInterrupt"))
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("kind", [(), ("--json",), ("-q",)])
def test_a_full_disk_is_one_line(plan: Callable[..., Any], tmp_path: Path, kind: tuple[str, ...]) -> None:
    path = sabotage(tmp_path, "planner.commands.terminal", "_write", "OSError(28, 'No space left on device')")
    result = plan(*WORK, *kind, PYTHONPATH=path)
    assert result.returncode == 1 and "No space left on device" in result.stderr.splitlines()[0]
