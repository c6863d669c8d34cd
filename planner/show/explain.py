"""One row of a plan, term by term: memory, step, time and money, each with its source, then the worst case.

The terms of a block are rounded to one number of decimals and its total is their sum, so what is printed
adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from planner.plans import Estimate, Plan, Term
from planner.records import Catalogue, Offer
from planner.show import document, lines, table, text
from planner.show.lines import Column, Line
from planner.units import GB, Interval

SCHEMA = "explain/1"
NARROW = 100  # below this a source stands under its term, not beside it
SOURCE_WIDTH = 36  # and so where names and numbers leave less than this
MORE_PLACES = 3  # decimals added at most so that a small term does not show as zero

_PRICE_TEXT = {**text.GRADE_TEXT, "measured": "list price", "given": "your price"}

_COLUMNS = (
    Column("name", "", gap=3),
    Column("p50", "", right=True),
    Column("span", "", gap=1),
)


def explain(
    plan: Plan, estimate: Estimate, catalogue: Catalogue, *, width: int, colour: bool, plain: bool,
    ascii_only: bool = False,
) -> str:  # fmt: skip
    """Every term of one row with its source, for a terminal of `width` columns."""
    numbers: dict[str, int] = {}

    def source(name: str) -> str:
        """A source of the catalogue as its number in the list at the end, any other as it is."""
        return name if catalogue.source(name) is None else f"[{numbers.setdefault(name, len(numbers) + 1)}]"

    out = [*table.head(plan, width, estimate.offer.num_gpus), *table.assumptions(plan, width), []]
    out += _offer(estimate, width)
    out += _memory(estimate, catalogue, source, width)
    out += _step(estimate, source, width)
    out += _time(estimate, source, width)
    out += _money(estimate, source, width)
    out += _worst_case(estimate, catalogue, width)
    out += _sources(numbers, catalogue, width)
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _offer(estimate: Estimate, width: int) -> list[Line]:
    offer = estimate.offer
    items = [f"{offer.target} {offer.id.partition(':')[2]}", text.gpu_count(offer.gpu, offer.num_gpus)]
    items.append(f"{offer.vcpus:g} vCPU" if offer.vcpus is not None else "vCPU unknown")
    items.append(f"{offer.ram_bytes / GB:.0f} GB RAM" if offer.ram_bytes is not None else "RAM unknown")
    out: list[Line] = [[(line, "bold")] for line in lines.flow(items, " · ", width)]
    if estimate.why_not:
        out += _note(f"✗ {estimate.why_not}", width)
    if estimate.instead:
        out += _note(estimate.instead.text, width)
    return out


def _memory(estimate: Estimate, catalogue: Catalogue, source: Callable[[str], str], width: int) -> list[Line]:
    memory = estimate.memory
    out = _block("memory of one GPU", memory.grade, memory.terms, 1 / GB, 2, "{} GB", source, width, "needed")
    share = memory.needed_bytes / memory.usable_bytes
    verdict = "fits" if memory.fits else "does not fit"
    gpu = catalogue.gpus.get(estimate.offer.gpu)
    seen = f" {source(gpu.usable_bytes.source)}" if gpu else ""
    out += _note(f"{verdict}: {share:.0%} of the {memory.usable_bytes / GB:.2f} GB that CUDA can use{seen}", width)
    low, middle, high = (f"{value / GB:.1f}" for value in memory.peak)
    out += _note(f"peak that the framework reports: {middle} GB ({low}–{high}), driven by {memory.driver}", width)
    return out


def _step(estimate: Estimate, source: Callable[[str], str], width: int) -> list[Line]:
    step = estimate.step
    scale, places, unit = (1e3, 2, "{} ms") if step.seconds.p50 < 1 else (1.0, 4, "{} s")
    out = _block("one step", step.grade, step.terms, scale, places, unit, source, width, "per step", step.seconds)
    out += _note(f"limited by {step.limiter}; the loader alone needs {_between(step.loader)} a batch", width)
    return out + _note(f"from {source(step.source)}", width)


def _time(estimate: Estimate, source: Callable[[str], str], width: int) -> list[Line]:
    wall = estimate.wall_clock
    places = 0 if wall.p50 >= 100 else 1
    grade = estimate.step.grade
    out = _block("time", grade, estimate.wall_terms, 1.0, places, "{} s", source, width, "from submit to end", wall)
    out += _note(f"= {_between(wall)}", width)
    steps = f"{text.count(estimate.steps)} steps at batch {estimate.batch_size} per GPU"
    saved = f"a checkpoint every {text.count(estimate.save_freq)}"
    out += _note(f"{steps}, {text.count(estimate.updates)} optimizer updates, {saved}", width)
    mark = text.MARKS[estimate.startup_grade]
    return out + _note(f"before the first step {_between(estimate.startup)}  {mark} {estimate.startup_grade}", width)


def _money(estimate: Estimate, source: Callable[[str], str], width: int) -> list[Line]:
    offer = estimate.offer
    if estimate.usd is None or estimate.price_grade is None:
        return [[], [("cost", "bold")], *_note(f"{text.UNKNOWN}: no price is known for this offer", width)]
    total = Interval(*(float(value) for value in (estimate.usd.p10, estimate.usd.p50, estimate.usd.p90)))
    out = _block("cost", estimate.price_grade, estimate.usd_terms, 1.0, 4, "${}", source, width, "for the run", total)
    out += _note(f"= {text.money(estimate.usd.p50)} {text.money_span(estimate.usd)}", width)
    return out + _note(_rate(offer, source), width)


def _rate(offer: Offer, source: Callable[[str], str]) -> str:
    """The hourly price and what it is made of."""
    parts = " + ".join(f"{name} ${usd:,.4f}" for name, usd in offer.price_parts)
    dated = f"{source(offer.price_source or text.UNKNOWN)}, {offer.price_method} {offer.price_as_of or ''}".rstrip()
    return f"${offer.usd_per_hour:,.4f}/h{f' = {parts}' if len(offer.price_parts) > 1 else ''}: {dated}"


def _worst_case(estimate: Estimate, catalogue: Catalogue, width: int) -> list[Line]:
    out: list[Line] = [[], [("worst case", "bold")]]
    if estimate.usd_max is None:
        out += _note(f"{text.UNKNOWN}: without a price nothing bounds it", width)
    else:
        out += _note(f"at most {text.at_most(estimate.usd_max)} = {estimate.usd_max_formula}", width)
    for missing in estimate.unbounded:
        out += _note(f"leaves out: {missing}", width)
    attempts = f"{estimate.attempts} attempt{'s' * (estimate.attempts != 1)}"
    out += _note(f"timeout {_seconds(estimate.timeout_s)}, {attempts}", width)
    rules = catalogue.targets.get(estimate.offer.target)
    if rules and rules.default_timeout_s is not None:
        out += _note(f"the target's own default is {_seconds(rules.default_timeout_s)}", width)
    if rules and rules.max_timeout_s is not None:
        out += _note(f"the target allows at most {_seconds(rules.max_timeout_s)}", width)
    return out


def _sources(numbers: dict[str, int], catalogue: Catalogue, width: int) -> list[Line]:
    out: list[Line] = [[], [("sources", "bold")]] if numbers else []
    for name, number in numbers.items():
        label = f"   {f'[{number}]':>4} "
        known = catalogue.sources[name]
        out += lines.labelled(label, lines.wrap(text.clean(f"{known.title} ({known.as_of})"), width - len(label)), "dim")
    return out


def _seconds(value: int) -> str:
    return f"{text.count(value)} s = {text.duration(value)}" if value >= 60 else f"{value} s"


def _between(value: Interval) -> str:
    return f"{text.duration(value.p50)} {text.duration_span(value)}".rstrip()


def _note(words: str, width: int) -> list[Line]:
    first, *rest = lines.wrap(text.clean(words), width - 5)
    return [[("   " + first, "")], *([("     " + line, "")] for line in rest)]


def _block(
    title: str, grade: str, terms: Iterable[Term], scale: float, places: int, unit: str,
    source: Callable[[str], str], width: int, total_name: str, total: Interval | None = None,
) -> list[Line]:  # fmt: skip
    """A titled sum: the terms that are not zero, and below them the sum of what was shown."""
    shown = [term for term in terms if any(term.value)]
    places = _places([abs(term.value.p50) * scale for term in shown], places)

    def amount(value: float | Decimal) -> str:
        sign = "−" if value < 0 else ""
        return sign + unit.format(f"{abs(value):,.{places}f}")

    def span(value: Interval | None) -> str:
        if value is None:
            return ""
        low, high = (f"{end * scale:,.{places}f}".replace("-", "−") for end in (value.p10, value.p90))
        return "" if low == high else f"({low}–{high})"

    values = [Decimal(f"{term.value.p50 * scale:.{places}f}") for term in shown]
    rows = [
        {"name": text.clean(term.name), "p50": amount(value), "span": span(term.value)}
        for term, value in zip(shown, values, strict=True)
    ]
    rows.append({"name": total_name, "p50": amount(sum(values, Decimal(0))), "span": span(total)})
    sizes = lines.widths(_COLUMNS, rows)
    indent = lines.total_width(_COLUMNS, sizes) + 2
    narrow = width < NARROW or width - indent < SOURCE_WIDTH
    basis = _PRICE_TEXT[grade] if title == "cost" else text.GRADE_TEXT[grade]
    out: list[Line] = [[], [(title, "bold"), (f"  {text.MARKS[grade]} {basis}", "dim")]]
    for term, row in zip(shown, rows[:-1], strict=True):
        origin = source(term.source)
        words = f"{term.note} {origin}" if origin.startswith("[") else "; ".join(filter(None, (origin, term.note)))
        line = lines.row_text(_COLUMNS, sizes, row)
        if narrow and indent + text.cells(words) > width:
            below = lines.wrap(text.clean(words), width - 5)
            out += [[(line, "")], *([(" " * 5 + part, "dim")] for part in below)]
        else:
            why = lines.wrap(text.clean(words), width - indent)
            out += lines.labelled(lines.pad(line, indent), why, "dim", label_style="")
    return [*out, [(lines.row_text(_COLUMNS, sizes, rows[-1]), "bold")]]


def _places(values: list[float], base: int) -> int:
    """Decimals so that no term rounds to zero, at least `base`."""
    places = base
    while places < base + MORE_PLACES and any(value > 0 and not round(value, places) for value in values):
        places += 1
    return places


def explain_document(plan: Plan, estimate: Estimate) -> dict[str, Any]:
    """The same row as JSON-ready values: the estimate of `plan/1`, and under `terms` the sums behind it.

    Memory terms are in GB of 10⁹ bytes, step and wall-clock in seconds, money in US dollars.
    """

    def sum_of(terms: Iterable[Term], scale: float = 1.0) -> list[dict[str, Any]]:
        return [
            {"name": term.name, **document.interval(term.value.times(scale), _nine), "source": term.source, "note": term.note}
            for term in terms
        ]

    offer = estimate.offer
    return {
        "schema": SCHEMA,
        "kind": plan.kind,
        "workload": document.workload(plan.workload),
        "assumptions": document.assumptions(plan),
        "estimate": document.estimate(estimate),
        "terms": {
            "vram_needed_gb": sum_of(estimate.memory.terms, 1 / GB),
            "step_s": sum_of(estimate.step.terms),
            "wall_clock_s": sum_of(estimate.wall_terms),
            "usd": sum_of(estimate.usd_terms),
        },
        "step_source": estimate.step.source,
        "loader_s": document.interval(estimate.step.loader, document.significant),
        "price": {
            "source": offer.price_source,
            "as_of": offer.price_as_of,
            "method": offer.price_method,
            "parts": [{"name": name, "usd_per_hour": document.usd(usd)} for name, usd in offer.price_parts],
        },
        "usd_max_formula": estimate.usd_max_formula,
        "warnings": document.warnings(plan),
        "error": None,
    }


def _nine(value: float) -> float:
    """Nine decimals: a byte in GB, a nanosecond."""
    return round(value, 9)
