"""What must hold for any workload: more is never cheaper, bigger never needs less, sums are sums."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import speed
from planner.catalogue import data_dir, load
from planner.estimate import Estimator
from planner.evidence import load_calibration
from planner.plans import Estimate
from planner.prices import priced
from planner.profiles import Cost
from planner.records import Figure, Gpu
from planner.request import Workload
from planner.resolve import resolve
from planner.units import Interval, total
from planner.variants import usual_chunk
from planner.workload import Training

CATALOGUE = load(user=Path("/nonexistent"))
ESTIMATOR = Estimator(CATALOGUE, load_calibration(CATALOGUE, data_dir()))
POLICIES = sorted(CATALOGUE.policies)
FLAVORS = sorted({offer.id for offer in CATALOGUE.offers if offer.num_gpus})


def training(policy: str, frames: int, batch: int, cameras: int, epochs: float = 3.0) -> Training:
    most = CATALOGUE.policies[policy].max_cameras or 4
    return resolve(
        Workload(policy=policy, frames=frames, batch_size=batch, cameras=(f"{min(cameras, most)}x320x240",), epochs=epochs,
                 lerobot_version=CATALOGUE.policies[policy].releases[-1]), CATALOGUE)


def estimate(job: Training, row: str) -> Estimate:
    offer = next(offer for offer in priced(CATALOGUE, job) if offer.id == row)
    return ESTIMATOR.estimate(job, offer)


workloads = st.tuples(
    st.sampled_from(POLICIES), st.integers(1, 5_000_000), st.integers(1, 512), st.integers(1, 4), st.sampled_from(FLAVORS))


@settings(max_examples=150, deadline=None)
@given(workloads, st.integers(1, 5_000_000))
def test_more_frames_never_cost_less(case: tuple[str, int, int, int, str], more: int) -> None:
    policy, frames, batch, cameras, row = case
    few, many = estimate(training(policy, frames, batch, cameras), row), estimate(training(policy, frames + more, batch, cameras), row)
    assert many.steps >= few.steps
    assert few.usd and many.usd and few.usd.p50 <= many.usd.p50 and few.usd.p90 <= many.usd.p90
    assert few.wall_clock.p50 <= many.wall_clock.p50 * (1 + 1e-12)


@settings(max_examples=150, deadline=None)
@given(workloads, st.integers(1, 512))
def test_bigger_batch_never_needs_less_memory_nor_time_a_step(case: tuple[str, int, int, int, str], more: int) -> None:
    policy, frames, batch, cameras, row = case
    small, big = estimate(training(policy, frames, batch, cameras), row), estimate(training(policy, frames, batch + more, cameras), row)
    assert big.memory.needed_bytes >= small.memory.needed_bytes
    assert big.step.seconds.p50 >= small.step.seconds.p50
    assert small.memory.fits or not big.memory.fits


@settings(max_examples=100, deadline=None)
@given(workloads)
def test_more_cameras_never_need_less(case: tuple[str, int, int, int, str]) -> None:
    policy, frames, batch, cameras, row = case
    one, more = estimate(training(policy, frames, batch, 1), row), estimate(training(policy, frames, batch, cameras), row)
    assert more.memory.peak.p50 >= one.memory.peak.p50 * 0.999
    assert more.step.seconds.p50 >= one.step.seconds.p50 * 0.999


CHUNKED = sorted(name for name, policy in CATALOGUE.policies.items() if usual_chunk(policy, policy.releases[-1]) > 1)


@settings(max_examples=200, deadline=None)
@given(workloads, st.sampled_from(CHUNKED), st.sampled_from(("", "bfloat16", "lora", "all")), st.integers(1, 400), st.integers(0, 400))
def test_a_longer_chunk_never_costs_less(
    case: tuple[str, int, int, int, str], policy: str, kind: str, chunk: int, more: int
) -> None:
    _, frames, batch, cameras, row = case
    job = training(policy, frames, batch, cameras)
    changed = {"bfloat16": {"dtype": "bfloat16"}, "lora": {"trained": "lora", "lora_rank": 16}, "all": {"trained": "all"}}.get(kind, {})

    def of(length: int) -> Training:
        return job._replace(variant=job.variant._replace(chunk=length if length != job.policy.chunk else 0, **changed))

    short, long = estimate(of(chunk), row), estimate(of(chunk + more), row)
    assert long.memory.peak.p50 >= short.memory.peak.p50 * (1 - 1e-9)
    assert long.step.seconds.p50 >= short.step.seconds.p50 * (1 - 1e-9)
    costs = [ESTIMATOR.cost(of(length)) for length in (chunk, chunk + more)]
    for name in ("floor_bytes", "a_bytes", "b_bytes", "weight_bytes", "flops", "activation_bytes", "params"):
        assert 0 < getattr(costs[0], name) <= getattr(costs[1], name) * (1 + 1e-9), name


@settings(max_examples=200, deadline=None)
@given(workloads)
def test_sums_are_sums_and_intervals_are_ordered(case: tuple[str, int, int, int, str]) -> None:
    policy, frames, batch, cameras, row = case
    found = estimate(training(policy, frames, batch, cameras), row)
    assert found.usd is not None and found.usd_max is not None and found.offer.usd_per_hour is not None
    assert sum(term.value.p50 for term in found.wall_terms) == pytest.approx(found.wall_clock.p50, rel=1e-9)
    assert sum(term.value.p50 for term in found.usd_terms) == pytest.approx(float(found.usd.p50), rel=1e-6, abs=1e-6)
    assert sum(term.value.p50 for term in found.memory.terms) == pytest.approx(found.memory.needed_bytes, rel=1e-9, abs=2)
    assert sum((usd for _, usd in found.offer.price_parts), Decimal(0)) == found.offer.usd_per_hour
    for span in (found.memory.peak, found.step.seconds, found.wall_clock, found.startup, found.usd):
        assert span.p10 <= span.p50 <= span.p90
    assert found.usd.p90 <= found.usd_max, "the worst case covers the P90"
    assert found.timeout_s * found.attempts >= found.running.p90, "the timeout covers the P90"
    assert found.running.p90 <= found.wall_clock.p90 * (1 + 1e-9)
    assert all(term.value.p10 <= term.value.p50 <= term.value.p90 for term in found.wall_terms)


@settings(max_examples=100, deadline=None)
@given(workloads, st.decimals(Decimal("0.05"), Decimal("500"), places=2))
def test_budget_is_never_exceeded_by_the_worst_case(case: tuple[str, int, int, int, str], budget: Decimal) -> None:
    policy, frames, batch, cameras, row = case
    job = training(policy, frames, batch, cameras)
    offer = next(offer for offer in priced(CATALOGUE, job) if offer.id == row)
    found = ESTIMATOR.estimate(job, offer, max_cost=budget)
    assert found.usd_max is not None
    if found.why_not is None:
        assert found.usd_max <= budget and found.timeout_s * found.segments >= found.running.p90
    elif found.fits and found.usd_needed is not None:
        assert found.usd_needed > budget or "budget" not in found.why_not


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(POLICIES), st.integers(1, 64), st.integers(2, 8))
def test_more_gpus_take_fewer_steps_of_at_least_the_same_length(policy: str, batch: int, count: int) -> None:
    job = training(policy, 100_000, batch, 1)
    offer = next(offer for offer in priced(CATALOGUE, job) if offer.id == "modal:H100")
    one, many = (ESTIMATOR.estimate(job, offer._replace(num_gpus=n, vcpus=64.0 * n)) for n in (1, count))
    assert many.steps <= one.steps
    assert many.step.seconds.p50 >= one.step.seconds.p50 * 0.999
    assert many.memory.needed_bytes >= one.memory.needed_bytes


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)).map(lambda v: Interval(*sorted(v))), min_size=1))
def test_total_lies_between_its_ends(parts: list[Interval]) -> None:
    summed = total(parts)
    assert summed.p50 == pytest.approx(sum(part.p50 for part in parts))
    assert sum(part.p10 for part in parts) <= summed.p10 * (1 + 1e-9) + 1e-6
    assert summed.p10 <= summed.p50 <= summed.p90 <= sum(part.p90 for part in parts) * (1 + 1e-9) + 1e-6


@settings(max_examples=100)
@given(st.sampled_from(POLICIES), st.integers(1, 256), st.sampled_from(sorted(CATALOGUE.gpus)), st.floats(1.0, 20.0))
def test_a_faster_gpu_is_never_slower_and_more_work_never_faster(policy: str, batch: int, gpu: str, times: float) -> None:
    job, device = training(policy, 1000, batch, 1), CATALOGUE.gpus[gpu]
    cost, kappa = ESTIMATOR.cost(job), CATALOGUE.targets["local"].decode_kappa

    def step(device: Gpu, cost: Cost) -> float:
        return speed.estimate(job, device, 1, 64.0, cost, ESTIMATOR.calibration, kappa).seconds.p50

    def faster(figure: Figure | None) -> Figure | None:
        return None if figure is None else figure._replace(value=figure.value * times)

    rates = {name: faster(getattr(device, name)) for name in ("fp32", "tf32", "fp16", "bf16", "bandwidth")}
    now = step(device, cost)
    assert step(device._replace(**rates), cost) <= now * (1 + 1e-9)
    assert step(device, cost._replace(flops=cost.flops * times)) >= now * (1 - 1e-9)
    assert step(device, cost._replace(activation_bytes=cost.activation_bytes * times)) >= now * (1 - 1e-9)
