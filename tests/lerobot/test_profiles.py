"""The checked-in profiles come out of LeRobot's own code again."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from tests.lerobot.conftest import HERE, environment, interpreter

pytestmark = pytest.mark.lerobot

ROOT = HERE.parents[1]
PROFILES = ROOT / "data" / "profiles.csv"
CASE = {"dtype": "float32", "gradient_checkpointing": "false", "trained": "all", "lora_rank": "0", "autocast": "false",
        "cameras": "2", "width": "640", "height": "480"}  # fmt: skip
MEASURED = ("params", "grad_params", "flops_per_sample", "weight_bytes", "activation_bytes", "floor_bytes", "a_bytes", "b_bytes")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("policy", "changed"),
    [
        ("act", {"chunk": "100"}),
        ("diffusion", {"cameras": "1", "width": "96", "height": "96", "chunk": "64"}),
        ("diffusion", {"chunk": "16"}),
        ("evo1", {"dtype": "bfloat16", "autocast": "true", "chunk": "50"}),  # recomputes under autocast, in the backward pass
    ],
    ids=("act", "diffusion", "chunk", "recomputed"),
)
def test_rows_are_reproduced(tmp_path: Path, policy: str, changed: dict[str, str]) -> None:
    """The profiler resumes: of a file that lacks one row it makes that row again and leaves the others as they are."""
    wanted = {"policy": policy, **CASE, **changed}
    rows = read(PROFILES)
    (at,) = (number for number, row in enumerate(rows) if {name: row[name] for name in wanted} == wanted)
    output = tmp_path / "profiles.csv"
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[:at] + rows[at + 1 :])

    command = [str(interpreter("0.6.1")), str(ROOT / "tools" / "profile_policies.py"), "--policies", policy, "--jobs", "1"]
    ran = subprocess.run([*command, "--output", str(output)], env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True,
                         timeout=600)  # fmt: skip

    assert ran.returncode == 0, ran.stderr[-3000:]
    made = read(output)
    assert made[:at] + made[at + 1 :] == rows[:at] + rows[at + 1 :]
    assert {name: made[at][name] for name in (*wanted, "lerobot", "method", "note")} == {
        name: rows[at][name] for name in (*wanted, "lerobot", "method", "note")
    }
    for name in MEASURED:
        assert float(made[at][name]) == pytest.approx(float(rows[at][name]), rel=0.01), name
