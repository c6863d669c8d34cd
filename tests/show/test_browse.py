"""The catalogue as tables; the bundled one, because its size is what the columns must carry."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from planner import catalogue as catalogues
from planner.records import KINDS, Catalogue
from planner.show import browse
from planner.show.text import cells


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return catalogues.load(user=Path(tmp_path_factory.mktemp("empty")))


def row(shown: str, name: str) -> str:
    return next(line for line in shown.splitlines() if line.split()[:1] == [name])


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_tables_fit_and_hold_every_entry(catalogue: Catalogue, width: int) -> None:
    style = {"width": width, "colour": False, "plain": True}
    policies = browse.policies(catalogue, {}, **style)  # type: ignore[arg-type]
    gpus = browse.gpus(catalogue, **style)  # type: ignore[arg-type]
    assert all(cells(line) <= width for line in (policies + gpus).splitlines())
    for names, shown in ((catalogue.policies, policies), (catalogue.gpus, gpus)):
        assert [name for name in names if not any(line.split()[:1] == [name] for line in shown.splitlines())] == []


def test_policies_stand_in_their_groups_with_memory_or_unknown(catalogue: Catalogue) -> None:
    shown = browse.policies(catalogue, {"act": 3.2e9}, width=120, colour=False, plain=True)
    assert "3.2 GB" in row(shown, "act") and "unknown" in row(shown, "smolvla")
    titles = [line.strip() for line in shown.splitlines() if line.strip() in catalogue.groups.values()]
    assert titles == list(catalogue.groups.values())


def test_gpus_show_the_price_of_one_gpu_and_the_date(catalogue: Catalogue) -> None:
    offers = [offer._replace(usd_per_hour=Decimal(offer.num_gpus), price_as_of="2031-02-03") for offer in catalogue.offers
              if offer.gpu == "l4" and offer.target == "hf"]  # fmt: skip
    assert len(offers) > 1
    dearer = offers[0]._replace(flavor="dear", usd_per_hour=Decimal(3))
    shown = browse.gpus(catalogue._replace(offers=(*offers, dearer)), width=160, colour=False, plain=True)
    assert row(shown, "l4").split()[-1] == "1.00–3.00"
    assert "hf 2031-02-03" in " ".join(shown.split())
    assert shown.index("\n   l4 ") < shown.index(" Data centre") < shown.index("\n   h100 ") < shown.index(" Workstation")


def test_every_kind_has_its_section(catalogue: Catalogue) -> None:
    shown = browse.gpus(catalogue, width=120, colour=False, plain=True)
    titles = [line.strip() for line in shown.splitlines() if line.strip() in ("Rented", *KINDS.values())]
    assert titles == ["Rented", *KINDS.values()]
    for gpu, title in (("h20", "Data centre"), ("a5000", "Workstation"), ("rtx4080", "Desktop"), ("rtx4080-laptop", "Laptop"),
                       ("jetson-agx-orin-64", "Memory shared with the host")):  # fmt: skip
        above = shown[: shown.index(f"\n   {gpu} ")].splitlines()
        assert next(line.strip() for line in reversed(above) if line.strip() in titles) == title


def test_a_price_that_nobody_knows_is_unknown(catalogue: Catalogue) -> None:
    offers = tuple(offer._replace(usd_per_hour=None) for offer in catalogue.offers)
    assert row(browse.gpus(catalogue._replace(offers=offers), width=160, colour=False, plain=True), "l4").split()[-1] == "unknown"


def test_documents_give_every_figure_a_source_and_a_date(catalogue: Catalogue) -> None:
    policies = json.loads(json.dumps(browse.policies_document(catalogue, {"act": 3.2e9})))
    gpus = json.loads(json.dumps(browse.gpus_document(catalogue)))
    figures = [value for entry in [*policies["policies"], *gpus["gpus"]] for value in entry.values() if isinstance(value, dict)]
    figures = [value for value in figures if "value" in value]
    assert len(figures) > 200
    for figure in figures:
        assert figure["as_of"] and figure["source"] in gpus["sources"], figure
    assert next(one for one in policies["policies"] if one["id"] == "act")["vram_needed_gb"] == 3.2
    assert all(offer["as_of"] for gpu in gpus["gpus"] for offer in gpu["offers"])
