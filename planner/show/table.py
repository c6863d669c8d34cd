"""The table of a plan: what is trained, what was assumed, the rows, why one is recommended, what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from planner.plans import Estimate, Plan
from planner.show import lines, text
from planner.show.lines import COMMAND, Column, Line
from planner.workload import RELEASES, Training, Variant

FITTING_ROWS = 12
OTHER_ROWS = 3
REASON_WIDTH = 34  # a reason narrower than this reads better on a line of its own

_COLUMNS = (
    Column("mark", "", gap=1),
    Column("where", "where", gap=1),
    Column("flavor", "flavor"),
    Column("gpu", "GPU"),
    Column("bar", "", gap=1),
    Column("vram", "VRAM", right=True),
    Column("step", "step", right=True),
    Column("grade", "", gap=1),
    Column("time", "time", right=True),
    Column("time_span", "P10–P90", gap=1),
    Column("cost", "cost", right=True),
    Column("cost_span", "P10–P90", gap=1),
    Column("at_most", "at most", right=True),
)
#: what gives way first where the terminal is narrow, and to what; place, time, cost and worst case stay
_NARROWER = (
    (_COLUMNS[4], Column("short_bar", "", gap=1)),
    (Column("short_bar", "", gap=1), None),
    (_COLUMNS[3], None),
    (_COLUMNS[6], None),
    (_COLUMNS[7], Column("grade", "")),  # no longer beside the step
    (_COLUMNS[5], Column("short_vram", "VRAM GB", right=True)),
    (Column("short_vram", "VRAM GB", right=True), None),
    (_COLUMNS[11], None),
    (_COLUMNS[9], None),
)
_RESULTS = {"step", "grade", "time", "time_span", "cost", "cost_span", "at_most"}
_TARGETS = {"hf": "HF", "modal": "Modal"}
_EMITTED = ("hf", "modal", "local")  # a place of the user's own is planned for, and started by other means


def table(
    plan: Plan, *, width: int, colour: bool, plain: bool, show_all: bool, command: str, ascii_only: bool = False
) -> str:
    """The plan for a terminal of `width` columns, ending in a newline. It shows `plan.error` too.

    `command` is the command line that made the plan; the next commands are built from it. `plain` is for
    a pipe: no escape codes, no bar. `ascii_only` is for an encoding without the symbols (text.encodable).
    """
    rows = _choose_rows(plan, show_all)
    out = [*head(plan, width), *assumptions(plan, width), []]
    if rows:
        out += _rows(plan, rows, width, plain)
        out += _unplanned(plan, width) if show_all else []
        out += _left_out(plan, rows, width, show_all)
        out.append([])
    out += _footer(plan, rows, width)
    out += _next_commands(plan, command)
    while out and not out[-1]:
        out.pop()
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def head(plan: Plan, width: int, gpus: int | None = None) -> list[Line]:
    """What is trained, in bold; on `gpus` GPUs where one row is spoken of."""
    work = plan.workload
    items = [work.policy.id]
    if work.variant != Variant(work.policy.dtype, trained=work.policy.trained):
        items.append(work.variant.label)
    named = work.dataset or (work.dataset_root or "").rstrip("/").rsplit("/", 1)[-1]
    if named:
        revision = work.dataset_revision or ""
        at = f" at {revision[:7] if len(revision) == 40 else revision}" if revision else ""
        items.append(text.clean(named + at))
    if work.lerobot != RELEASES[0]:
        items.append(f"LeRobot {work.lerobot}")
    if work.frames is not None:
        frames = f"{text.count(work.frames)} frames"
        if work.episodes is not None:
            guessed = any(assumption.flag == "--episode-seconds" for assumption in work.assumptions) or "frames" in dict(work.warnings)
            frames = f"{text.count(work.episodes)} episode{'s' * (work.episodes != 1)} {'≈' if guessed else '='} {frames}"
        items.append(frames)
    if any(camera.key for camera in work.cameras):  # as the dataset names them
        items.append(", ".join(f"{n} × {w}×{h}" for (w, h), n in _sizes(work).items()))
    steps = f"{text.count(work.steps(gpus or 1))} steps"
    batch = f"batch {text.count(work.batch_size)}"
    if work.gradient_accumulation > 1:
        batch += f" × {work.gradient_accumulation} accumulated"
    if work.given_steps is not None or work.epochs is None:
        items.append(f"{steps} at {batch}")
    else:
        several = any(estimate.offer.num_gpus > 1 for estimate in plan.estimates)
        one = f" on {gpus or 'one'} GPU{'s' * ((gpus or 1) > 1)}" if several else ""
        items.append(f"{work.epochs:g} epoch{'s' * (work.epochs != 1)} at {batch} = {steps}{one}")
    return [[(line, "bold")] for line in lines.flow(items, " · ", width)]


def _sizes(work: Training) -> dict[tuple[int, int], int]:
    sizes: dict[tuple[int, int], int] = {}
    for camera in work.cameras:
        sizes[camera.width, camera.height] = sizes.get((camera.width, camera.height), 0) + 1
    return sizes


def assumptions(plan: Plan, width: int) -> list[Line]:
    """What nobody said, with the flags that say it."""
    items = [f"{a.name.replace('_', ' ')} {text.clean(a.value)} ({text.clean(a.origin or a.flag)})" for a in plan.workload.assumptions]
    label = "assumed: "
    return lines.labelled(label, lines.flow(items, ", ", width - len(label)), "dim") if items else []


def _choose_rows(plan: Plan, show_all: bool) -> list[Estimate]:
    """Recommended first, then what can be had in the plan's order, then what cannot."""
    chosen = plan.recommended.id if plan.recommended else None
    ranked = sorted(plan.estimates, key=lambda estimate: estimate.id != chosen)
    good = [estimate for estimate in ranked if estimate.why_not is None]
    bad = [estimate for estimate in ranked if estimate.why_not is not None]
    if show_all:
        return good + bad
    own = {estimate.id for estimate in good if estimate.offer.target == "local"}  # never hidden, whatever it costs
    keep = {estimate.id for estimate in good if estimate.pareto} | own | {chosen, plan.cheapest, plan.fastest}
    room = FITTING_ROWS - sum(estimate.id in keep for estimate in good)
    shown = []
    for estimate in good:
        if estimate.id not in keep:
            room -= 1
        if estimate.id in keep or room >= 0:
            shown.append(estimate)
    # nearest: what fits but is ruled out, then the smallest lack of memory
    bad.sort(key=lambda e: (not e.fits, 0.0 if e.fits else e.memory.needed_bytes / e.memory.usable_bytes))
    return shown + bad[:OTHER_ROWS]


def _cells(plan: Plan, estimate: Estimate) -> dict[str, str]:
    offer, memory = estimate.offer, estimate.memory
    vram = text.memory_of(memory.needed_bytes, memory.usable_bytes)
    out = {
        "where": offer.target,
        "flavor": offer.id.partition(":")[2],
        "gpu": text.gpu_count(offer.gpu, offer.num_gpus),
        "bar": bar(memory.needed_bytes / memory.usable_bytes, 8),
        "short_bar": bar(memory.needed_bytes / memory.usable_bytes, 5),
        "vram": vram,
        "short_vram": vram.removesuffix(" GB").replace(" of ", "/"),
    }
    if estimate.why_not is not None:
        out["mark"] = "✗"
    elif plan.recommended and estimate.id == plan.recommended.id:
        out["mark"] = "★"
    if estimate.fits:
        out |= {
            "step": text.duration(estimate.step.seconds.p50),
            "grade": text.MARKS[estimate.step.grade] + ("L" if estimate.step.limiter == "loader" else ""),
            "time": text.duration(estimate.wall_clock.p50),
            "time_span": text.duration_span(estimate.wall_clock),
            "cost": text.money(estimate.usd.p50 if estimate.usd else None),
            "cost_span": text.money_span(estimate.usd),
        }
        if estimate.why_not is None:  # what will not run has no worst case
            out["at_most"] = text.at_most(estimate.usd_max)
    return out


def bar(share: float, size: int) -> str:
    """`share` of the usable memory in `size` cells; any use shows."""
    full = max(1, min(size, round(share * size)))
    return "▇" * full + "▁" * (size - full)


def _rows(plan: Plan, rows: list[Estimate], width: int, plain: bool) -> list[Line]:
    filled = [(estimate, _cells(plan, estimate)) for estimate in rows]
    columns = [column for column in _COLUMNS if column.key == "mark" or any(row.get(column.key) for _, row in filled)]
    if plain:
        columns = [column for column in columns if column.key != "bar"]
    sizes = lines.widths(columns, (row for _, row in filled))
    for wide, narrow in _NARROWER:
        if lines.total_width(columns, sizes) <= width:
            break
        instead = [] if narrow is None else [narrow]
        columns = [kept for column in columns for kept in (instead if column == wide else [column])]
        sizes = lines.widths(columns, (row for _, row in filled))
    out: list[Line] = [[(lines.title_text(columns, sizes), "dim")]]
    for estimate, row in filled:
        line = lines.row_text(columns, sizes, row)
        if estimate.why_not is not None:
            left = [column for column in columns if column.key not in _RESULTS]
            indent = lines.total_width(left, sizes) + 2
            below = estimate.fits or width - indent < REASON_WIDTH  # its numbers stay, or the room is too small
            reasons = lines.wrap(_reason(estimate), width - (7 if below else indent))
            if below:
                out += [[(line, "dim")], *([(" " * 7 + reason, "dim")] for reason in reasons)]
            else:
                out += lines.labelled(lines.pad(line, indent), reasons, "dim")
        elif row.get("mark") == "★":
            mark, _, rest = line.partition("★")
            out.append([(mark + "★", "bold green"), (rest, "bold")])
        else:
            out.append([(line, "")])
    return out


def _reason(estimate: Estimate) -> str:
    """Why a row is out, and what would fit instead with its price."""
    if estimate.instead is None:
        return text.clean(estimate.why_not or "")
    instead = estimate.instead
    price = f", {text.money(instead.usd.p50)}" if instead.usd else ""
    return f"{text.clean(instead.text)}: {text.duration(instead.wall_clock_s.p50)}{price}"


def _unplanned(plan: Plan, width: int) -> list[Line]:
    """What places list, or listed, and that has no estimate: its machine and why."""
    out: list[Line] = []
    for one in plan.unplanned:
        quote = one.quote
        machine = [] if quote.gpu is None or not quote.num_gpus else [f"{quote.num_gpus} × {quote.gpu}"]
        machine += [f"{text.gigabytes(quote.vram_bytes)} of VRAM"] if quote.vram_bytes else []
        machine += [f"{text.money(quote.usd_per_hour)}/h"] if quote.usd_per_hour and not one.gone else []
        words = f"{one.target} {quote.flavor}: {', '.join([*machine, one.why])}"
        out += lines.labelled(" ✗ ", lines.wrap(text.clean(words), width - 3), "dim")
    return out


def _left_out(plan: Plan, rows: list[Estimate], width: int, show_all: bool) -> list[Line]:
    said = []
    hidden = [estimate for estimate in plan.estimates if all(estimate is not row for row in rows)]
    unplanned = 0 if show_all else len(plan.unplanned)
    if hidden or unplanned:
        fit = sum(estimate.fits and estimate.why_not is None for estimate in hidden)
        lack = sum(not estimate.fits for estimate in hidden)
        ruled_out = len(hidden) - fit - lack
        kinds = [(fit, "that fit"), (lack, "too small"), (ruled_out, "ruled out"), (unplanned, "without an estimate")]
        what = ", ".join(f"{number} {kind}" for number, kind in kinds if number)
        said.append(f"Shown {len(rows)} of {len(plan.estimates) + unplanned}; not shown: {what}. --all shows every one.")
    if plan.left_out:
        said.append(f"Not listed: {text.count(plan.left_out)} more offers, of the same hosts at higher prices or ranking lower. "
                    "--gpu, --num-gpus and --target list others.")
    return [line for one in said for line in lines.labelled("   ", lines.wrap(one, width - 3), "dim")]


def _footer(plan: Plan, rows: list[Estimate], width: int) -> list[Line]:
    out: list[Line] = []
    if plan.error:
        out += _paragraph("✗", "bold red", plan.error[1], width)
    if plan.recommended:
        out += _paragraph("★", "bold green", f"{_name(plan, plan.recommended.id)}: {plan.recommended.why}", width)
    out += _alternatives(plan, width)
    for _, warning in plan.warnings:
        out += _paragraph("!", "yellow", warning, width)
    for label, items in (("", _legend(rows)), ("prices: ", _prices(plan))):
        if items:
            out += lines.labelled(f" {label}", lines.flow(items, " · " if label else "  ", width - len(label) - 1), "dim")
    for left_out in _unbounded(plan, rows):
        out += lines.labelled(" ", lines.wrap(text.clean(left_out), width - 1), "dim")
    return [*out, []]


def sentences(texts: Iterable[str]) -> str:
    """Texts in one line, each ending in a full stop."""
    return " ".join(one if one.endswith(".") else one + "." for one in texts)


def _paragraph(mark: str, style: str, words: str, width: int) -> list[Line]:
    return lines.labelled(f" {mark} ", lines.wrap(text.clean(words), width - 3), label_style=style)


def _name(plan: Plan, row: str) -> str:
    offer = plan.estimate(row).offer
    return f"{offer.target} {offer.id.partition(':')[2]}"


def _alternatives(plan: Plan, width: int) -> list[Line]:
    """The cheapest and the fastest row, against the recommended one."""
    if plan.recommended is None:
        return []
    best = plan.estimate(plan.recommended.id)
    out = []
    for title, row in (("cheapest", plan.cheapest), ("fastest", plan.fastest)):
        if row is None or row == best.id or _name(plan, row) in plan.recommended.why:
            continue
        other = plan.estimate(row)
        ratio = best.wall_clock.p50 / other.wall_clock.p50
        speed = f"{text.number(ratio)} × faster" if ratio >= 1 else f"{text.number(1 / ratio)} × slower"
        price = ""
        if best.usd and other.usd:
            change = other.usd.p50 - best.usd.p50
            price = f" for {'+' if change >= 0 else '−'}{text.money(abs(change))}"
        out += _paragraph(" ", "", f"{title}: {_name(plan, row)}, {speed}{price}", width)
    return out


def _legend(rows: Iterable[Estimate]) -> list[str]:
    steps = [estimate.step for estimate in rows if estimate.fits]
    used = {step.grade for step in steps}
    out = [f"{mark} {text.GRADE_TEXT[grade]}" for grade, mark in text.MARKS.items() if grade in used]
    if any(step.limiter == "loader" for step in steps):
        out.append("L loading data, not the GPU, sets the pace")
    return out


def _prices(plan: Plan) -> list[str]:
    return [
        f"{_TARGETS.get(price.target, price.target)} {f'{price.method} {price.as_of}' if price.as_of else f'as {price.source} says'}"
        for price in plan.prices
    ]


def _unbounded(plan: Plan, rows: Iterable[Estimate]) -> list[str]:
    """What the worst case leaves out: spelled out where the plan would run, by reference for other targets."""
    first: dict[str, Estimate] = {}
    for estimate in rows:
        if estimate.why_not is None and estimate.usd_max is not None and estimate.unbounded:
            first.setdefault(estimate.offer.target, estimate)
    home = plan.recommended.target if plan.recommended else next(iter(first), None)
    out = []
    for target, estimate in first.items():
        missing = estimate.unbounded
        words = sentences(missing) if target == home else f"{len(missing)} thing{'s' * (len(missing) > 1)}, see plan explain {estimate.id}"
        out.append(f"at most leaves out ({_TARGETS.get(target, target)}): {words}")
    return out


def _next_commands(plan: Plan, command: str) -> list[Line]:
    work = plan.workload
    if plan.recommended is None:
        return []
    argv = shlex.split(command)
    tail = argv.index("--") if "--" in argv else len(argv)
    flags = next((n for n, word in enumerate(argv) if word.startswith("-")), len(argv))
    missing = ["--dataset", "USER/NAME"] if work.dataset is None and work.dataset_root is None else []
    if plan.recommended.target == "hf":  # the disk is gone when the job ends: the model needs a repository
        missing += ["--repo-id", "USER/NAME"]
    rest = argv[tail:]
    if plan.recommended.target == "hf" and work.dataset is None and work.dataset_root is not None:  # a job reads the Hub alone
        rest = [*(rest or ["--"]), "--dataset.repo_id=USER/NAME"]
    emit = [*argv[:tail], *missing, "--emit", plan.recommended.target, *rest]
    explain = [*argv[:flags], "explain", plan.recommended.id, *argv[flags:]]
    can_emit = work.policy.trainer == "lerobot-train" and plan.recommended.target in _EMITTED
    return [
        *([[(" see the command  ", "dim"), (shlex.join(emit), COMMAND)]] if can_emit else []),
        [(" every term       ", "dim"), (shlex.join(explain), COMMAND)],
    ]
