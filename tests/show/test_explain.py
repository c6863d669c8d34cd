from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest

from planner.plans import Estimate, Plan, Term
from planner.records import Catalogue, Source
from planner.show.explain import explain, explain_document
from planner.units import point
from tests.show import factory
from tests.show.golden import check

SOURCES = {
    "hf_prices": Source("hf_prices", "Hugging Face Jobs, pricing", "", "2026-08-21", "vendor docs"),
    "hf_startup": Source("hf_startup", "Start-up of published runs", "", "2026-10-01", "survey"),
}
CATALOGUE = Catalogue(SOURCES, {}, {}, {}, {}, (), {}, (), ())
ROWS = {"l4x1": factory.ROWS[0], "h200": factory.ROWS[9], "rtx2070": factory.ROWS[-1]}


def show(estimate: Estimate, width: int = 120, plan: Plan = factory.PLAN) -> str:
    return explain(plan, estimate, CATALOGUE, width=width, colour=False, plain=True)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ROWS)
def test_golden(name: str, width: int) -> None:
    shown = show(ROWS[name], width)
    check(f"explain-{name}-{width}.txt", shown)
    assert all(len(line) <= width for line in shown.splitlines())


TOTALS = ("needed", "per step", "from submit to end", "for the run")


def sums(shown: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Total's name -> (sum of the terms printed above it, printed total)."""
    out, running = {}, Decimal(0)
    for line in shown.splitlines():
        found = re.match(r"   (\S.*?) {2,}(−?)\$?([\d,.]+)(?: (?:GB|ms|s))?(?: |$)", line)
        if not line:
            running = Decimal(0)
        elif found:
            value = Decimal(found[3].replace(",", "")) * (-1 if found[2] else 1)
            if found[1] in TOTALS:
                out[found[1]] = (running, value)
            running += value
    return out


@pytest.mark.parametrize("row", factory.ROWS, ids=lambda row: row.id)
def test_the_printed_terms_add_up_to_the_printed_totals(row: Estimate) -> None:
    found = sums(show(row))
    assert found.keys() == set(TOTALS if row.usd else TOTALS[:3])
    for name, (terms, printed) in found.items():
        assert terms == printed, name


def test_thirds_add_up_too_and_small_terms_do_not_vanish() -> None:
    terms = tuple(Term(f"part {n}", point(value), "s") for n, value in enumerate((10 / 3, 10 / 3, 10 / 3, -0.00002)))
    found = sums(show(factory.ROWS[0]._replace(usd_terms=terms)))
    assert found["for the run"] == (Decimal("9.99997"), Decimal("9.99997"))


def test_a_term_that_is_zero_is_left_out() -> None:
    row = factory.ROWS[0]
    assert "nothing at all" not in show(row._replace(wall_terms=(*row.wall_terms, Term("nothing at all", point(0), "s"))))


def test_sources_of_the_catalogue_are_written_out_with_their_dates() -> None:
    shown = show(factory.ROWS[0])
    number = re.search(r"1 × GPU .* \[(\d)\]", shown)
    assert number and f"[{number[1]}] Hugging Face Jobs, pricing (2026-08-21)" in shown
    assert "profile of the policy's own code" in shown  # not of the catalogue: as it is


def test_without_a_price_cost_and_worst_case_are_unknown() -> None:
    shown = show(ROWS["rtx2070"])
    assert "unknown: no price" in shown and "unknown: without a price" in shown and "$" not in shown


def test_the_worst_case_shows_its_formula_and_what_it_leaves_out() -> None:
    shown = show(factory.ROWS[0])
    assert "at most $2.96 = (600 s start-up limit + 12720 s timeout) × 1 attempt × $0.80/h" in shown
    assert "leaves out: Time that a retry spends in the queue." in shown


def test_the_document_holds_the_same_sums() -> None:
    shown = json.loads(json.dumps(explain_document(factory.PLAN, factory.ROWS[0])))
    row = shown["estimate"]
    for name, total in (("vram_needed_gb", row["vram_needed_gb"]), ("step_s", row["step_s"]["p50"]),
                        ("wall_clock_s", row["wall_clock_s"]["p50"]), ("usd", row["usd"]["p50"])):  # fmt: skip
        assert sum(term["p50"] for term in shown["terms"][name]) == pytest.approx(total, rel=1e-4), name
        assert all(term["source"] for term in shown["terms"][name])
