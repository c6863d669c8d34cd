"""tools/measure_step.py measures a real policy in a real LeRobot, and what it writes is evidence."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml

from planner import entries
from planner.catalogue import load
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


def test_devices_have_ids_of_the_catalogue() -> None:
    """In the fast group: the tool imports torch only when it measures."""
    spec = importlib.util.spec_from_file_location("measure_step", TOOL)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    gpus = load().gpus
    assert set(tool.GPUS) <= set(gpus)
    for name, gib, gpu in (
        ("NVIDIA A100-SXM4-80GB", 79.2, "a100-80"), ("NVIDIA A100 80GB PCIe", 79.2, "a100-80"), ("NVIDIA H100 80GB HBM3", 79.2, "h100"),
        ("NVIDIA H100 PCIe", 79.2, None), ("Tesla T4", 14.6, "t4"), ("NVIDIA RTX A6000", 47.5, "a6000"),
        ("NVIDIA GeForce RTX 4090", 23.5, "rtx4090"), ("NVIDIA GeForce RTX 4090", 47.4, "rtx4090-48"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 7.8, "rtx4060-laptop"), ("NVIDIA GeForce RTX 3080", 11.8, None),
        ("NVIDIA GeForce RTX 5060 Ti", 7.7, None), ("Apple M2 Max", 0, "m2-max"), ("NVIDIA GB10", 119.7, "gb10"), ("cpu", 0, "cpu"),
    ):  # fmt: skip
        assert tool.gpu_id(name, gib) == gpu, name
    for gpu, (box, *_) in tool.GPUS.items():  # what torch can use of a card is near enough to what stands on its box
        assert not box or 0.85 * box < gpus[gpu].usable_bytes.value / 2**30 < 1.05 * box, gpu
