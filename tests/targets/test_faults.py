"""Every call of every place under every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.targets import faults
from tests.targets.conftest import HfPlace, ModalPlace


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("call", faults.CALLS)
def test_hf_survives(hf_place: HfPlace, call: str, fault: str) -> None:
    faults.survives(hf_place, call, fault)


@pytest.mark.parametrize("find_fails", [False, True])
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_the_ledger_is_true_of_hf(hf_place: HfPlace, fault: str, find_fails: bool, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    faults.launch_is_true(hf_place, fault, find_fails, tmp_path / "state")


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("call", faults.CALLS)
def test_modal_survives(modal_place: ModalPlace, call: str, fault: str) -> None:
    faults.survives(modal_place, call, fault)


@pytest.mark.parametrize("find_fails", [False, True])
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_the_ledger_is_true_of_modal(modal_place: ModalPlace, fault: str, find_fails: bool, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    faults.launch_is_true(modal_place, fault, find_fails, tmp_path / "state")
