"""Peak memory against what real runs printed, and the verdicts that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import evidence, memory, profiles
from planner.catalogue import load
from planner.profiles import cost_of
from planner.records import Catalogue
from planner.request import Workload
from planner.resolve import resolve
from planner.units import GIB


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(user=Path("/nonexistent"))


def peak_gib(catalogue: Catalogue, policy: str, batch: int, *tail: str, cameras: str = "2x640x480", release: str = "0.6.1") -> float:
    training = resolve(
        Workload(policy=policy, steps=10, batch_size=batch, cameras=(cameras,), tail=tail, lerobot_version=release), catalogue)
    return cost_of(catalogue, training.policy, training.variant, training.cameras).peak_bytes(batch) / GIB


@pytest.mark.parametrize(
    ("policy", "batch", "cameras", "measured"),
    [  # GiB that torch itself reported: runs r049-r051, r281-r284, r026, r073, r294, r295
        ("act", 8, "2x640x480", 3.73), ("act", 16, "2x640x480", 6.85), ("act", 32, "2x640x480", 13.1),
        ("act", 64, "2x640x480", 25.57), ("act", 128, "2x640x480", 49.05), ("act", 8, "640x480", 2.02),
        ("diffusion", 8, "96x96", 4.95), ("smolvla", 32, "2x640x480", 7.68), ("smolvla", 64, "2x640x480", 14.05),
    ],
)  # fmt: skip
def test_peak_matches_measured_runs(catalogue: Catalogue, policy: str, batch: int, cameras: str, measured: float) -> None:
    assert peak_gib(catalogue, policy, batch, cameras=cameras) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(("policy", "expected"), [("pi0", 74.4), ("pi05", 83.7)])
def test_default_dtype_of_the_large_policies_is_float32(catalogue: Catalogue, policy: str, expected: float) -> None:
    """The 24-40 GB that guides give hold for bf16 with gradient checkpointing, which nobody gets by default."""
    assert peak_gib(catalogue, policy, 8) == pytest.approx(expected, rel=0.01)
    lighter = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true")
    assert 34 < peak_gib(catalogue, policy, 8, *lighter) < 40


def test_optimizer_sets_the_peak_of_pi05_in_bf16(catalogue: Catalogue) -> None:
    tail = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true")
    assert peak_gib(catalogue, "pi05", 1, *tail) == pytest.approx(peak_gib(catalogue, "pi05", 8, *tail), rel=0.01)
    training = resolve(Workload(policy="pi05", steps=10, batch_size=4, tail=tail), catalogue)
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    estimate = memory.estimate(training, catalogue.gpus["a100-80"], 1, cost, memory.measured(catalogue.runs, training))
    assert estimate.driver == "optimizer"


def test_terms_add_up_to_what_is_needed(catalogue: Catalogue) -> None:
    training = resolve(Workload(policy="act", steps=10), catalogue)
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    for gpus in (1, 4):
        estimate = memory.estimate(training, catalogue.gpus["l4"], gpus, cost, memory.measured(catalogue.runs, training))
        assert sum(term.value.p50 for term in estimate.terms) == pytest.approx(estimate.needed_bytes, abs=2)


def test_no_false_verdict_on_the_evidence(catalogue: Catalogue) -> None:
    """No `fits` for a run that ran out of memory; no `does not fit` for one that finished with 10 % to spare."""
    checked = 0
    for run in catalogue.runs:
        if not run.scored or run.gpu not in catalogue.gpus or not run.batch_size or run.cameras is None or run.optimizer:
            continue
        training = evidence.workload_of(run, catalogue)
        gpu = catalogue.gpus[run.gpu]
        cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
        verdict = memory.estimate(training, gpu, run.num_gpus or 1, cost, ())
        if run.oom:
            assert not verdict.fits, run.id
            checked += 1
        elif run.vram_bytes and run.vram_bytes < 0.9 * gpu.usable_bytes.value:
            assert verdict.fits, run.id
            checked += 1
    assert checked >= 20


def test_largest_batch_is_the_largest(catalogue: Catalogue) -> None:
    training = resolve(Workload(policy="act", steps=10), catalogue)
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    gpu = catalogue.gpus["rtx5060ti-16"]
    batch = memory.largest_batch(training, gpu, 1, cost, memory.measured(catalogue.runs, training))
    assert 32 <= batch < 64, "32 finished and 64 ran out of memory on this card (runs r051, r052)"
    assert memory.estimate(training.with_batch(batch), gpu, 1, cost, memory.measured(catalogue.runs, training)).fits
    assert not memory.estimate(training.with_batch(batch + 1), gpu, 1, cost, memory.measured(catalogue.runs, training)).fits


@pytest.mark.parametrize(("batch", "rounded"), [(1, 1), (7, 7), (9, 8), (31, 28), (35, 32), (57, 56), (129, 128)])
def test_round_batch(batch: int, rounded: int) -> None:
    assert memory.round_batch(batch) == rounded


@pytest.mark.parametrize(
    ("policy", "cameras", "tail", "a", "b"),
    [  # the memory lines of profiles that are not in data/: tools/profile_policies.py, LeRobot 0.6.1
        ("smolvla", "640x480", ("--policy.chunk_size=100",), 1_319_404_544, 186_443_200),
        ("smolvla", "640x480", ("--policy.chunk_size=10",), 1_319_394_987, 104_537_067),
        ("smolvla", "4x640x480", ("--policy.chunk_size=100",), 1_322_756_772, 479_514_009),
        ("act", "4x640x480", ("--policy.chunk_size=200",), 634_295_164, 1_059_205_446),
    ],
)
def test_other_chunks_cost_what_a_profile_of_their_own_says(
    catalogue: Catalogue, policy: str, cameras: str, tail: tuple[str, ...], a: int, b: int
) -> None:
    assert peak_gib(catalogue, policy, 32, *tail, cameras=cameras) == pytest.approx((a + 32 * b) / GIB, rel=0.04)


@pytest.mark.parametrize(
    ("policy", "release", "tail", "basis"),
    [
        ("smolvla", "0.6.1", ("--policy.chunk_size=100",), "profile"),
        ("smolvla", "0.6.1", ("--policy.chunk_size=70",), "near"),  # between profiled ones
        ("pi05", "0.6.1", ("--policy.dtype=bfloat16", "--policy.chunk_size=100"), "near"),  # profiled in float32 only
        ("tdmpc", "0.6.1", ("--policy.horizon=10",), "near"),  # profiled with its own only
        ("diffusion", "0.4.4", (), "profile"),
    ],
)
def test_a_derived_chunk_says_so(catalogue: Catalogue, policy: str, release: str, tail: tuple[str, ...], basis: str) -> None:
    cameras = ("96x96",) if policy == "tdmpc" else ("2x640x480",)
    training = resolve(Workload(policy=policy, steps=10, cameras=cameras, tail=tail, lerobot_version=release), catalogue)
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    usual = cost_of(catalogue, training.policy, training.variant._replace(chunk=0), training.cameras)
    assert cost.basis == basis and f"chunk {training.variant.chunk}" in cost.source
    assert (cost.flops > usual.flops) == (training.variant.chunk > training.policy.chunk and policy != "tdmpc")


def test_lora_rank_costs_what_it_adds(catalogue: Catalogue) -> None:
    """Weights, gradient and two moments of every parameter of the adapter."""
    tail = ("--policy.dtype=bfloat16", "--peft.method_type=LORA")

    def cost(rank: int) -> profiles.Cost:
        training = resolve(Workload(policy="pi05", steps=10, cameras=("2x640x480",), tail=(*tail, f"--peft.r={rank}")), catalogue)
        return cost_of(catalogue, training.policy, training.variant, training.cameras)

    costs = {rank: cost(rank) for rank in (8, 16, 32, 48, 64)}
    added = costs[16].params - costs[8].params
    for low, high in ((16, 32), (32, 48), (48, 64)):
        assert costs[high].params - costs[low].params == pytest.approx((high - low) / 8 * added, rel=0.01)
        assert costs[high].floor_bytes > costs[low].floor_bytes
    assert {rank for rank, one in costs.items() if one.basis == "near"} == {48}
