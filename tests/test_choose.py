"""Which rows there are, which is taken and why, and what is said when none can be."""

from __future__ import annotations

from decimal import Decimal

import pytest

from planner import Plan, Search, Workload, plan
from planner.errors import UsageError

SMOLVLA = Workload(policy="smolvla", episodes=50)


def search(**fields: object) -> Search:
    return Search(**fields)  # type: ignore[arg-type]


def row_ids(result: Plan) -> list[str]:
    return [row.id for row in result.estimates]


def test_python_api_is_the_public_one() -> None:
    result = plan(SMOLVLA)
    assert result.recommended is not None
    assert result.recommended.id == result.estimates[0].id
    assert result.estimate(result.recommended.id) is result.estimates[0]
    with pytest.raises(KeyError):
        result.estimate("moon:l4")


def test_recommended_is_the_cheapest_by_default() -> None:
    result = plan(SMOLVLA)
    able = [row for row in result.estimates if row.why_not is None and row.usd]
    assert result.cheapest == result.recommended.id == min(able, key=lambda row: row.usd.p50).id  # type: ignore
    assert result.fastest == min(able, key=lambda row: row.wall_clock.p50).id


def test_optimize() -> None:
    by_time, by_cost, balanced = (plan(SMOLVLA, search(optimize=how)) for how in ("time", "cost", "balanced"))
    assert by_time.recommended and by_time.recommended.id == by_time.fastest
    row = {name: result.estimates[0] for name, result in (("time", by_time), ("cost", by_cost), ("balanced", balanced))}
    assert row["time"].wall_clock.p50 <= row["balanced"].wall_clock.p50 <= row["cost"].wall_clock.p50
    assert row["cost"].usd.p50 <= row["balanced"].usd.p50 <= row["time"].usd.p50  # type: ignore[union-attr]


def test_rows_without_a_price_come_after_those_with_one() -> None:
    result = plan(SMOLVLA, search(gpus=("l4", "rtx4090"), targets=("hf", "modal", "local")))
    prices = [row.usd is not None for row in result.estimates if row.why_not is None]
    assert prices == sorted(prices, reverse=True) and not all(prices)
    unpriced = next(row for row in result.estimates if row.offer.target == "local")
    assert unpriced.usd is None and unpriced.usd_max is None and unpriced.price_grade is None


def test_card_nobody_rents_is_planned_as_local() -> None:
    result = plan(SMOLVLA, search(gpus=("rtx4080",)))
    assert row_ids(result) == ["local:rtx4080"]


@pytest.mark.parametrize("name", [
    "A100-80GB", "a100-80", "a10g-large", "H100", "h100!", "L40S:2", "rtx-4090", "NVIDIA L4", "A10", "NVIDIA RTX A5000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX 4070 Ti SUPER",
])  # fmt: skip
def test_gpu_names_people_use(name: str) -> None:
    assert plan(SMOLVLA, search(gpus=(name,))).estimates


def test_spellings_that_mean_something_are_kept() -> None:
    assert row_ids(plan(SMOLVLA, search(gpus=("H100!",), num_gpus=1))) == ["modal:H100!"]
    pinned, plain = (plan(SMOLVLA, search(gpus=(name,), num_gpus=1)).estimates[0] for name in ("H100!", "H100"))
    assert pinned.usd == plain.usd


def test_any_number_of_gpus_that_are_sold_singly() -> None:
    three = plan(SMOLVLA, search(gpus=("H100:3",))).estimates
    assert [row.id for row in three] == ["modal:H100:3"]
    one = plan(SMOLVLA, search(gpus=("H100",), num_gpus=1)).estimates[0]
    assert three[0].offer.price_parts[0][1] == 3 * one.offer.price_parts[0][1]
    with pytest.raises(UsageError):
        plan(SMOLVLA, search(gpus=("A10:5",)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"gpus": ("rtx409",)}, "did you mean"), ({"gpus": ("RTX 4060 Ti",)}, "rtx4060ti-16"),
     ({"targets": ("aws",)}, "--target aws"), ({"num_gpus": 9}, "nothing is offered"),
     ({"targets": ("local",)}, "no GPU was found on this machine"), ({"targets": ("hf",), "gpus": ("h100",)}, "nothing is offered")],
)
def test_impossible_searches(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        plan(SMOLVLA, search(**fields))


def test_pareto_set_is_what_nothing_beats() -> None:
    able = [row for row in plan(SMOLVLA).estimates if row.why_not is None and row.usd]
    for row in able:
        beaten = any(o.usd.p50 <= row.usd.p50 and o.wall_clock.p50 < row.wall_clock.p50 for o in able)  # type: ignore[union-attr]
        assert row.pareto is not beaten or not beaten
        if row.pareto:
            assert not beaten, row.id


def test_too_big_a_batch_names_the_largest_that_fits() -> None:
    result = plan(SMOLVLA, search(gpus=("t4",)))
    assert (result.recommended, result.exit_code) == (None, 3)
    row = result.estimates[0]
    assert row.instead and 0 < row.instead.batch_size < 64
    assert f"--batch-size {row.instead.batch_size}" in row.instead.text and "shrinks from 64" in row.instead.text
    smaller = plan(Workload(policy="smolvla", episodes=50, batch_size=row.instead.batch_size), search(gpus=("t4",)))
    assert smaller.recommended is not None, "the advice works"
    bigger = plan(Workload(policy="smolvla", episodes=50, batch_size=row.instead.batch_size + 8), search(gpus=("t4",)))
    assert bigger.recommended is None, "and is the largest"


def test_gradient_accumulation_only_where_the_release_has_it() -> None:
    main = plan(Workload(policy="smolvla", episodes=50, lerobot_version="main"), search(gpus=("t4",)))
    instead = main.estimates[0].instead
    assert instead and instead.gradient_accumulation > 1 and "--accelerator.gradient_accumulation.steps=" in instead.text


def test_nothing_fits_says_what_would_with_numbers_that_hold() -> None:
    result = plan(Workload(policy="pi05", episodes=50), search(gpus=("a10g",)))
    assert result.exit_code == 3 and result.error is not None and result.error[0] == "nothing-fits"
    text = result.error[1]
    assert "--policy.train_expert_only=true" in text and "GB" in text and "--gpu rtx-pro-6000" in text
    lighter = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true", "--policy.train_expert_only=true")
    assert plan(Workload(policy="pi05", episodes=50, tail=lighter), search(gpus=("a10g",))).recommended is not None


def test_smaller_batch_is_not_offered_where_it_cannot_help() -> None:
    tail = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true")
    row = plan(Workload(policy="pi05", episodes=50, tail=tail), search(gpus=("a10g",))).estimates[0]
    assert row.instead is None and row.why_not is not None and "not even batch 1" in row.why_not


def test_budget_bounds_the_worst_case_and_is_an_error_of_its_own() -> None:
    result = plan(SMOLVLA, search(max_cost=Decimal("5")))
    assert result.recommended is not None
    for row in result.estimates:
        if row.why_not is None:
            assert row.usd and row.usd_max and row.usd.p90 <= 5 and row.usd_max <= 5
            assert row.timeout_s >= row.running.p90
    poor = plan(SMOLVLA, search(max_cost=Decimal("0.05")))
    assert (poor.exit_code, poor.error and poor.error[0]) == (4, "over-budget")


@pytest.mark.parametrize("dollars", [5, 5.0, "5", Decimal(5)])
def test_dollars_may_be_any_number(dollars: object) -> None:
    assert plan(SMOLVLA, search(max_cost=dollars)).recommended is not None


@pytest.mark.parametrize(
    "fields",
    [{"max_cost": "five"}, {"max_hours": -1}, {"num_gpus": 0}, {"attempts": 0}, {"timeout_s": 1.5}, {"optimize": "x"}],
)
def test_search_is_checked(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        plan(SMOLVLA, search(**fields))


def test_one_target_may_stand_alone() -> None:
    assert {row.offer.target for row in plan(SMOLVLA, search(targets="hf")).estimates} == {"hf"}


def test_timeouts_and_attempts_mean_what_they_can(capsys: pytest.CaptureFixture[str]) -> None:
    """Another attempt continues on a volume and begins again elsewhere; a bound that the user set is kept."""
    hub = plan(SMOLVLA, search(targets=("hf",), gpus=("l4x1",), timeout_s=3600, attempts=4))
    assert hub.recommended is None and "begin again" in str(hub.estimates[0].why_not)
    volume = plan(SMOLVLA, search(targets=("modal",), gpus=("l4",), num_gpus=1, timeout_s=3600, attempts=20))
    row = volume.estimates[0]
    assert row.why_not is None and row.segments > 1
    assert row.save_freq * row.step.seconds.p90 < 3600 / 2, "every attempt gets past a checkpoint"
    assert any(term.name == "restarts" and term.value.p50 > 0 for term in row.wall_terms)
    few = plan(SMOLVLA, search(targets=("modal",), gpus=("l4",), num_gpus=1, timeout_s=3600, attempts=1))
    assert few.estimates[0].why_not == f"needs up to {row.segments} attempts of 1 h: --attempts {row.segments}"
    hopeless = plan(SMOLVLA, search(targets=("modal",), gpus=("l4",), timeout_s=60, attempts=50))
    assert "no time to train" in str(hopeless.estimates[0].why_not)
    too_long = plan(SMOLVLA, search(targets=("modal",), timeout_s=90_000))
    assert "ends every attempt" in str(too_long.estimates[0].why_not)


def test_disk_that_is_too_small_rules_a_row_out() -> None:
    rows = plan(Workload(policy="pi05", frames=4_000_000, tail=("--save_freq=1000",)), search(targets=("hf",))).estimates
    assert any("of disk left" in str(row.why_not) for row in rows)
    fewer = plan(Workload(policy="pi05", frames=4_000_000), search(targets=("hf",))).estimates
    for row in fewer:
        assert row.offer.disk_bytes is not None
        if row.fits:
            assert row.steps / row.save_freq * 40e9 < row.offer.disk_bytes * 1.5


def test_budget_names_the_amount_that_works() -> None:
    refused = plan(SMOLVLA, search(max_cost=Decimal(1), gpus=("l40sx1",)))
    amount = str(refused.estimates[0].why_not).split("$")[1].split()[0]
    assert plan(SMOLVLA, search(max_cost=Decimal(amount), gpus=("l40sx1",))).recommended is not None
    assert plan(SMOLVLA, search(max_cost=Decimal(amount) - Decimal("0.05"), gpus=("l40sx1",))).recommended is None


def test_nearest_row_is_the_nearest() -> None:
    late = plan(SMOLVLA, search(max_hours=0.3))
    assert late.error is not None
    near = late.estimates[0]
    assert near.id in late.error[1]
    assert near.wall_clock.p90 == min(row.wall_clock.p90 for row in late.estimates if row.fits)


def test_deadline_and_own_timeout() -> None:
    late = plan(SMOLVLA, search(max_hours=0.01))
    assert late.exit_code == 4 and late.error and "--max-hours" in late.error[1]
    short = plan(SMOLVLA, search(timeout_s=60))
    assert short.exit_code == 4 and short.error and "--timeout 60" in short.error[1]
    fine = plan(SMOLVLA, search(timeout_s=86_400, targets=("hf",)))
    assert fine.recommended and fine.estimates[0].timeout_s == 86_400


def test_run_longer_than_any_timeout_is_cut_into_segments() -> None:
    result = plan(Workload(policy="smolvla", frames=60_000_000), search(targets=("modal",), gpus=("t4", "l4")))
    row = result.estimates[0]
    assert row.running.p90 > 86_400 and row.timeout_s == 86_400 and row.attempts > 1
    assert row.timeout_s * row.attempts >= row.running.p90
    assert any(code == "segments" for code, _ in result.warnings)


def test_host_memory_is_checked() -> None:
    tail = ("--policy.dtype=bfloat16", "--policy.gradient_checkpointing=true", "--peft.method_type=LORA")
    result = plan(Workload(policy="pi05", episodes=50, tail=tail, batch_size=1), search(targets=("hf",), gpus=("t4-small", "a10g")))
    small = result.estimate("hf:a10g-small")
    assert small.why_not is not None and "host memory" in small.why_not


def test_default_dtype_of_large_policies_is_warned_about() -> None:
    codes = {code for code, _ in plan(Workload(policy="pi05", episodes=50)).warnings}
    assert "dtype" in codes


def test_one_estimate_a_machine_however_many_prices() -> None:
    from planner.api import _data
    from planner.estimate import Estimator
    from planner.prices import priced
    from planner.resolve import resolve

    catalogue, calibration = _data()
    training = resolve(SMOLVLA, catalogue)
    estimator = Estimator(catalogue, calibration)
    offers = [offer for offer in priced(catalogue, training) if offer.num_gpus]
    for offer in [*offers, *offers]:
        estimator.estimate(training, offer)
    assert len(estimator._grounds) <= len({(o.gpu, o.num_gpus, o.vcpus, o.target) for o in offers})
