from __future__ import annotations

import re

import pytest

from planner.plans import Plan
from planner.show.table import FITTING_ROWS, OTHER_ROWS, table
from planner.show.text import cells
from tests.show import factory
from tests.show.golden import check

COMMAND = "plan --policy smolvla --episodes 50"
PLANS = {
    "plan": factory.PLAN,
    "nothing-fits": factory.NOTHING_FITS,
    "over-budget": factory.OVER_BUDGET,
    "pasted": factory.PASTED,
}


def show(plan: Plan, *, width: int = 120, plain: bool = False, colour: bool = False, **options: bool) -> str:
    return table(plan, **{"width": width, "colour": colour, "plain": plain, "show_all": False, "command": COMMAND, **options})  # type: ignore[arg-type]


def visible(shown: str) -> list[str]:
    """Lines as they stand on the screen, without the commands to copy."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    return [line for line in lines if COMMAND[5:] not in line]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", PLANS)
def test_golden(name: str, width: int) -> None:
    check(f"{name}-{width}.txt", "\n".join(visible(show(PLANS[name], width=width))) + "\n")


def test_golden_piped_ascii_all_and_colour() -> None:
    check("plan-piped.txt", show(factory.PLAN, plain=True))
    check("plan-ascii.txt", show(factory.PLAN, plain=True, ascii_only=True))
    check("plan-all.txt", show(factory.PLAN, plain=True, show_all=True))
    check("plan-colour.txt", show(factory.PLAN, colour=True))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 110, 120, 140])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    for show_all in (False, True):
        for line in visible(show(PLANS[name], width=width, show_all=show_all)):
            assert cells(line) <= width, line


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140])
def test_place_time_cost_and_worst_case_survive_every_width(width: int) -> None:
    row = next(line for line in visible(show(factory.PLAN, width=width)) if line.startswith(" ★"))
    assert re.search(r"★ hf +l4x1 .*2\.1 h.*\$1\.68.*\$2\.96$", row)


def test_a_wide_terminal_shows_every_column() -> None:
    header, row = visible(show(factory.PLAN, width=140))[4:6]
    assert header.split() == ["where", "flavor", "GPU", "VRAM", "step", "time", "P10–P90", "cost", "P10–P90", "at", "most"]
    assert "▇▇▇▇▇▁▁▁" in row and "2.1 s" in row


def test_a_pipe_gets_no_escape_codes_no_bar_and_no_boxes() -> None:
    shown = show(factory.PLAN, plain=True)
    assert not re.search(r"[\x1b▇▁─│┃━╭]", shown)
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_without_colour_only_bold_and_dim_remain() -> None:
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", show(factory.PLAN)))
    assert codes == {"0", "1", "2"}


def test_colours_are_the_terminals_own_and_never_a_background() -> None:
    codes = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", show(factory.PLAN, colour=True)) for code in codes.split(";")}
    assert codes <= {"0", "1", "2", "31", "32", "33"} and "32" in codes


def test_ascii_stands_in_for_every_symbol_and_keeps_the_columns() -> None:
    plain, ascii_only = show(factory.PLAN, plain=True), show(factory.PLAN, plain=True, ascii_only=True)
    assert ascii_only.isascii()
    assert [len(line) for line in plain.splitlines()][4:18] == [len(line) for line in ascii_only.splitlines()][4:18]


def test_rows_are_limited_and_the_rest_is_counted() -> None:
    lines = visible(show(factory.PLAN, plain=True))
    shown = [line for line in lines if re.match(r" [★✗ ] (hf|modal|local) +\S*[^\s:] ", line)]
    assert len([line for line in shown if "✗" not in line]) == FITTING_ROWS
    assert len([line for line in shown if "✗" in line]) == OTHER_ROWS
    assert "   Shown 15 of 20; not shown: 4 that fit, 1 too small. --all shows every one." in lines


def test_pareto_rows_are_shown_however_far_down_they_rank() -> None:
    hidden = next(row for row in factory.ROWS if row.id == "modal:H200")
    plan = factory.PLAN._replace(estimates=tuple(row._replace(pareto=row.pareto or row is hidden) for row in factory.ROWS))
    assert "modal  H200 " not in show(factory.PLAN) and "modal  H200 " in show(plan)


def test_a_card_of_ones_own_is_shown_however_far_down_it_ranks() -> None:
    assert factory.ROWS[15].offer.target == "local" and " rtx3090 " in show(factory.PLAN)


def test_the_recommended_row_comes_first() -> None:
    plan = factory.PLAN._replace(recommended=factory.PLAN.recommended._replace(id="modal:H100", target="modal", flavor="H100"))  # type: ignore[type-var]
    lines = visible(show(plan, plain=True))
    assert lines[5].startswith(" ★ modal  H100")
    assert "   cheapest: hf l4x1, 4.8 × slower for −$0.27" in lines


def test_a_row_without_a_price_says_unknown() -> None:
    row = next(line for line in visible(show(factory.PLAN, plain=True, show_all=True)) if " rtx3090 " in line)
    assert row.split()[-2:] == ["unknown", "unknown"] and "$" not in row


def test_the_worst_case_names_what_it_leaves_out() -> None:
    shown = " ".join(show(factory.PLAN, plain=True).split())
    assert "at most leaves out (HF): Time that a retry spends in the queue." in shown
    assert "at most leaves out (Modal): 2 things, see plan explain modal:L4" in shown


@pytest.mark.parametrize(
    ("command", "emit", "explain"),
    [
        ("plan --fps 9 -- --steps=9 --emit x", "plan --fps 9 --dataset USER/NAME --repo-id USER/NAME --emit hf -- --steps=9 --emit x",
         "plan explain hf:l4x1 --fps 9 -- --steps=9 --emit x"),
        ("python cli.py --policy act", "python cli.py --policy act --dataset USER/NAME --repo-id USER/NAME --emit hf",
         "python cli.py explain hf:l4x1 --policy act"),
    ],
)  # fmt: skip
def test_the_next_commands_can_be_copied(command: str, emit: str, explain: str) -> None:
    lines = table(factory.PLAN, width=80, colour=False, plain=True, show_all=False, command=command).splitlines()
    assert lines[-2:] == [f" see the command  {emit}", f" every term       {explain}"]


def test_a_name_with_control_characters_is_shown_harmless() -> None:
    assert "\x1b" not in show(factory.PASTED, plain=True)
