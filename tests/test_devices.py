"""What a device calls itself, and which entry of the catalogue that is."""

from __future__ import annotations

from collections import Counter

import pytest

from planner.catalogue import load
from planner.devices import gpu_id, plain
from planner.records import Gpu
from planner.units import GIB


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gpu]:
    return load(user=tmp_path_factory.mktemp("empty")).gpus


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", 79.2, "a100-80"), ("NVIDIA A100 80GB PCIe", 79.2, "a100-80"), ("NVIDIA H100 80GB HBM3", 79.2, "h100"),
        ("NVIDIA H100 PCIe", 79.2, None), ("Tesla T4", 14.6, "t4"), ("NVIDIA RTX A6000", 47.5, "a6000"),
        ("NVIDIA GeForce RTX 4090", 23.5, "rtx4090"), ("NVIDIA GeForce RTX 4090", 47.4, "rtx4090-48"),
        ("NVIDIA GeForce RTX 4090 D", 23.5, "rtx4090d"), ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.6, "rtx4070ti-super"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 7.8, "rtx4060-laptop"), ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.1, "a100-mig-20"),
        ("Apple M2 Max", None, "m2-max"), ("Apple M4", 24, None), ("NVIDIA GB10", 119.7, "gb10"), ("cpu", None, "cpu"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95, "rtx-pro-6000"), ("NVIDIA B300 SXM6 AC", 268, "b300"),
        ("NVIDIA GeForce RTX 4090", None, None), ("NVIDIA GeForce RTX 4090", 32, None), ("", None, None),
    ],
)  # fmt: skip
def test_a_device_by_its_own_name(gpus: dict[str, Gpu], name: str, gib: float | None, expected: str | None) -> None:
    assert gpu_id(name, gib and gib * GIB, gpus) == expected


def test_every_card_is_found_again(gpus: dict[str, Gpu]) -> None:
    """By each of its names and the memory that torch reports; two that share a name differ in memory."""
    for gpu in gpus.values():
        for name in (gpu.id,) if gpu.devices is None else gpu.devices:
            assert gpu_id(name, gpu.usable_bytes.value, gpus) == gpu.id or gpu.unified, (gpu.id, name)
            assert gpu_id(f"NVIDIA {name.upper()} GPU", gpu.memory_bytes.value, gpus) == gpu.id, (gpu.id, name)


def test_a_devices_own_name_is_never_told_twice(gpus: dict[str, Gpu]) -> None:
    for gpu in gpus.values():
        assert max(Counter(map(plain, gpu.devices or ("",))).values()) == 1, gpu.id
