"""Rows of this machine: which there are, what they stand on, and what their electricity costs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from planner import Plan, Search, Workload, plan
from planner.errors import UsageError
from planner.request import Device, Machine
from planner.units import GB, GIB

ACT = Workload(policy="act", episodes=50)
RTX3090 = Device("NVIDIA GeForce RTX 3090", 24 * GIB)
DESK = Machine((RTX3090,), vcpus=24.0, ram_bytes=64 * GB, disk_bytes=500 * GB, driver="550.54.15")
KWH = Decimal("0.30")


def on(machine: Machine, workload: Workload = ACT, **search: object) -> Plan:
    return plan(workload, Search(**search), machine)  # type: ignore[arg-type]


def rows(result: Plan) -> list[str]:
    return [row.id for row in result.estimates if row.offer.target == "local"]


def warned(result: Plan, code: str) -> str:
    return " ".join(text for one, text in result.warnings if one == code)


# ------------------------------------------------------------------------------------------ which rows


def test_found_gpus_are_offered_alone_in_twos_and_fours_and_all_together() -> None:
    seven = DESK._replace(devices=(RTX3090,) * 7)
    assert rows(on(seven)) and set(rows(on(seven))) == {"local:rtx3090", "local:rtx3090:2", "local:rtx3090:4", "local:rtx3090:7"}
    assert rows(on(seven, num_gpus=3)) == ["local:rtx3090:3"]
    assert rows(on(seven, gpus=("rtx3090:5",))) == ["local:rtx3090:5"]
    assert {row.offer.target for row in on(seven).estimates} == {"hf", "modal", "local"}
    assert {row.offer.target for row in on(seven, targets=("local",)).estimates} == {"local"}
    assert rows(on(seven, targets=("hf",))) == []


def test_parts_of_a_card_train_alone() -> None:
    part = Device("NVIDIA A100-SXM4-40GB MIG 3g.20gb", int(19.6 * GIB), part=True)
    assert rows(on(DESK._replace(devices=(part, part)))) == ["local:a100-mig-20"]


def test_the_found_host_stands_in_for_the_assumed_one_and_only_around_what_is_here() -> None:
    result = on(DESK, gpus=("rtx3090", "rtx4080"))
    here, elsewhere = result.estimate("local:rtx3090").offer, result.estimate("local:rtx4080").offer
    assert (here.vcpus, here.ram_bytes, here.disk_bytes) == (24.0, 64 * GB, 500 * GB)
    assert (elsewhere.vcpus, elsewhere.ram_bytes, elsewhere.disk_bytes) == (16.0, 32 * GB, None)
    texts = warned(result, "local-machine")
    assert "local:rtx3090: this machine with 24 threads, 64 GB of memory, 500 GB of free disk, driver 550.54.15" in texts
    assert "taken as 16 threads" in texts
    two = on(DESK, gpus=("rtx3090:2",)).estimates[0].offer
    assert (two.num_gpus, two.vcpus) == (2, 32.0), "two of them are not here"


def test_cores_memory_and_disk_of_the_host_count() -> None:
    fast, slow = (on(DESK._replace(vcpus=cores), targets=("local",)).estimates[0].step for cores in (24.0, 1.0))
    assert slow.loader.p50 > 2 * fast.loader.p50 and slow.limiter == "loader"
    small = on(DESK._replace(ram_bytes=3 * GB), targets=("local",)).estimates[0]
    assert "host memory" in str(small.why_not)
    full = on(DESK._replace(disk_bytes=2 * GB), Workload(policy="act", episodes=50, tail=("--save_freq=1000",)), targets=("local",))
    assert "of disk left" in str(full.estimates[0].why_not)


def test_memory_that_is_shared_is_as_large_as_the_machine() -> None:
    usable = [on(Machine((Device("Apple M3 Max", size),), 16.0, size, GB * 500), targets=("local",)).estimates[0].memory.usable_bytes
              for size in (128 * GIB, 36 * GIB)]  # fmt: skip
    assert usable[1] == pytest.approx(usable[0] * 36 / 128, rel=1e-6)


def test_the_processor_is_this_machines() -> None:
    result = on(DESK, Workload(policy="act", episodes=1), targets=("local",), gpus=("cpu",))
    assert rows(result) == ["local:cpu"] and result.estimates[0].offer.vcpus == 24.0


def test_no_gpu_is_said_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="no GPU was found on this machine; name a card with --gpu.*--gpu cpu"):
        on(Machine(), targets=("local",))
    with pytest.raises(UsageError, match="the driver sleeps"):
        on(Machine(notes=("the driver sleeps",)), targets=("local",))


def test_a_gpu_that_others_use_is_named() -> None:
    busy = on(DESK._replace(devices=(RTX3090._replace(used_bytes=12 * GIB),)))
    assert "12.9 of the 25.8 GB" in warned(busy, "gpu-in-use")
    assert not warned(on(DESK._replace(devices=(RTX3090._replace(used_bytes=GIB // 2),))), "gpu-in-use")


# ------------------------------------------------------------------------------------------ ranking


def test_what_is_not_priced_is_neither_free_nor_gone() -> None:
    result = on(DESK)
    assert result.recommended and result.recommended.target != "local" and "local:rtx3090" in rows(result)
    assert "--electricity" in warned(result, "electricity")
    assert "--electricity" in str(on(DESK, max_cost=Decimal(5)).estimate("local:rtx3090").why_not)
    alone = on(DESK, targets=("local",))
    assert alone.recommended and alone.recommended.id == "local:rtx3090"


def test_where_time_decides_a_price_does_not() -> None:
    eight = DESK._replace(devices=(Device("NVIDIA B200", 180 * GIB),) * 8, vcpus=256.0, ram_bytes=2000 * GB)
    result = on(eight, optimize="time")
    assert result.recommended and result.recommended.id == result.fastest == "local:b200:8"
    assert "it has no price" in result.recommended.why


# ------------------------------------------------------------------------------------------ electricity


def test_electricity_is_power_times_hours_times_the_tariff() -> None:
    result = on(DESK, usd_per_kwh=KWH, gpus=("rtx3090",))
    row = result.estimates[0]
    assert row.usd is not None and row.usd_max is not None and row.offer.usd_per_hour is not None
    kilowatts = 0.350 * 0.85 * (1 + 0.43)
    assert float(row.offer.usd_per_hour) == pytest.approx(kilowatts * 0.30, rel=1e-4)
    assert float(row.usd.p50) == pytest.approx(kilowatts * 0.30 * row.running.p50 / 3600, rel=1e-3)
    assert sum(term.value.p50 for term in row.usd_terms) == pytest.approx(float(row.usd.p50), abs=2e-6)
    assert sum(usd for _, usd in row.offer.price_parts) == row.offer.usd_per_hour
    assert float(row.usd_max) == pytest.approx(0.350 * (1 + 0.8) * 0.30 * row.timeout_s / 3600, rel=1e-3)
    assert row.usd.p10 < row.usd.p50 < row.usd.p90 < row.usd_max
    assert row.usd.p90 / row.usd.p50 > Decimal(row.running.p90 / row.running.p50), "the power is not known exactly either"
    assert (row.price_grade, row.offer.price_method) == ("given", "user")
    assert any("no upper bound" in text for text in row.unbounded)
    assert "85%" in warned(result, "electricity") and "43%" in warned(result, "electricity")


def test_a_dearer_kwh_and_more_gpus_cost_more() -> None:
    four = DESK._replace(devices=(RTX3090,) * 4)
    cheap, dear = (on(four, usd_per_kwh=kwh, targets=("local",)) for kwh in (KWH, 2 * KWH))
    for row in cheap.estimates:
        assert row.usd and (other := dear.estimate(row.id).usd)
        assert float(other.p50) == pytest.approx(2 * float(row.usd.p50), rel=1e-4)
    hourly = [cheap.estimate(name).offer.usd_per_hour for name in ("local:rtx3090", "local:rtx3090:4")]
    assert hourly[0] and hourly[1] and float(hourly[1]) == pytest.approx(4 * float(hourly[0]), rel=1e-4)


def test_a_priced_card_ranks_among_the_others_and_keeps_a_budget() -> None:
    result = on(DESK, usd_per_kwh=KWH)
    assert result.recommended and result.recommended.id == "local:rtx3090" == result.cheapest
    assert [(price.target, price.source, price.method) for price in result.prices if price.target == "local"] == [
        ("local", "--electricity", "user")]  # fmt: skip
    amount = result.estimate("local:rtx3090").usd_needed
    assert amount is not None
    within = on(DESK, usd_per_kwh=KWH, targets=("local",), max_cost=amount).estimates[0]
    assert within.why_not is None and within.usd_max is not None and within.usd_max <= amount and within.timeout_s >= within.running.p90 - 1
    beyond = on(DESK, usd_per_kwh=KWH, targets=("local",), max_cost=amount - Decimal("0.01"))
    assert beyond.exit_code == 4 and "needs a budget of $" in str(beyond.estimates[0].why_not)


def test_power_that_nobody_knows_cannot_be_priced() -> None:
    result = on(DESK, Workload(policy="act", episodes=1), targets=("local",), gpus=("cpu",), usd_per_kwh=KWH)
    assert result.estimates[0].usd is None and "cpu" in warned(result, "electricity")


@pytest.mark.parametrize("price", [0, -1, "much"])
def test_a_tariff_is_an_amount(price: object) -> None:
    with pytest.raises(UsageError, match="usd_per_kwh"):
        on(DESK, usd_per_kwh=price)
