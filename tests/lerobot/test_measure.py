"""tools/measure_step.py measures a real policy in a real LeRobot, and what it writes is evidence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from planner import entries
from planner.records import Run
from tests.lerobot.conftest import environment, interpreter

TOOL = Path(__file__).parents[2] / "tools" / "measure_step.py"
RELEASE = "0.6.1"
TINY = (  # ACT small enough for a CPU
    "policy.dim_model=64", "policy.n_heads=2", "policy.dim_feedforward=64", "policy.chunk_size=4", "policy.n_action_steps=4",
)  # fmt: skip
TOO_MUCH = 10**14  # samples; no address space holds them


def measure(*options: str) -> subprocess.CompletedProcess[str]:
    """The tool on the CPU, with one thread: others may use this machine, and threads that wait for each other spin."""
    line = [str(interpreter(RELEASE)), str(TOOL), "--device", "cpu", *options]
    return subprocess.run(line, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, encoding="utf-8", timeout=300)


def read(path: Path) -> list[Run]:
    return [entries.run(path.name, name, row) for name, row in yaml.safe_load(path.read_text(encoding="utf-8"))["runs"].items()]


@pytest.mark.lerobot
def test_rows_are_evidence_and_what_fails_is_named_while_the_rest_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "rows.yaml"
    done = measure(
        "--policies", "sarm,act", "--variants", "default,bf16", "--batches", f"2,1,{TOO_MUCH}", "--cameras", "1x96x64", "--steps", "3",
        "--warmup", "1", "--output", str(output), "--config", *TINY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]

    small, large, too_much = read(output)
    assert (small.batch_size, large.batch_size) == (1, 2)
    assert (too_much.batch_size, too_much.oom, too_much.update_s) == (TOO_MUCH, True, None)
    for run in (small, large):
        assert (run.policy, run.gpu, run.num_gpus, run.lerobot) == ("act", "cpu", 1, RELEASE)
        assert (run.cameras, run.width, run.height) == (1, 96, 64)
        assert (run.dtype, run.trained, run.autocast, run.gradient_checkpointing) == ("float32", "all", False, False)
        assert run.chunk == 4
        assert run.update_s and 0 < run.update_s < 60
        assert run.vram_bytes is None and run.oom is False  # the CPU has no allocator that counts
        assert not run.scored and "dim_model=64" in run.reason  # nobody trains this
    assert "sarm default: not measured:" in done.stderr
    assert "act bf16: not measured: it has no dtype" in done.stderr

    assert measure("--policies", "sarm").returncode == 1
    again = measure("--policies", "act", "--output", str(output))
    assert again.returncode == 2 and "exists" in again.stderr


@pytest.mark.lerobot
def test_dry_run_names_the_flags_and_measures_nothing() -> None:
    dry = measure("--policies", "pi05", "--variants", "bf16+gc,all,lora", "--batches", "4", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "pi05 bf16+gc 2x640x480 batch [4]: --policy.dtype=bfloat16 --policy.gradient_checkpointing=true" in dry.stderr
    assert "pi05 all: not measured: that is its default" in dry.stderr
    chunked = measure("--policies", "act,diffusion,evo1", "--variants", "chunk16,stage2", "--dry-run").stderr
    assert "act chunk16 2x640x480 batch [1, 8, 32]: --policy.pretrained_backbone_weights=null --policy.chunk_size=16 " \
        "--policy.n_action_steps=16" in chunked
    assert "--policy.horizon=16 --policy.n_action_steps=16" in chunked
    assert "evo1 stage2 2x640x480 batch [1, 8, 32]: --policy.training_stage=stage2" in chunked
    assert "act stage2: not measured: it has no training_stage" in chunked
    assert "pi05 lora: not measured: unknown variant" in dry.stderr


def test_the_tool_names_a_device_as_the_catalogue_does(tmp_path: Path) -> None:
    """In the fast group, by a bare interpreter: the tool imports torch only when it measures, and nothing that `plan` installs."""
    code = f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import measure_step as tool\n" \
        "print(tool.gpu_id('NVIDIA GeForce RTX 4090', 47.4 * 2**30), tool.gpu_id('Apple M2 Max', None), tool.gpu_id('cpu', None))\n" \
        "print(tool.gpu_id('NVIDIA GeForce RTX 9090', 47.4 * 2**30), 'yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["rtx4090-48", "m2-max", "cpu", "None", "False"]
