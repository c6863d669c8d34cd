"""Hand-made plans: every shape that the views must cope with, with round numbers."""

from __future__ import annotations

from decimal import Decimal

from planner.plans import Estimate, Instead, Memory, Money, Plan, Price, Recommendation, Step, Term
from planner.records import Figure, Offer, Policy
from planner.units import GB, Interval, point
from planner.workload import Assumption, Camera, Training, Variant

FIGURE = Figure(64, "lerobot_guide", "2026-08-23")

SMOLVLA = Policy(
    id="smolvla", title="SmolVLA", group="small_vla", releases=("0.4.4", "0.6.1", "main"),
    extra={"0.6.1": "smolvla"}, base=None, batch_size=FIGURE, dtype="float32", trained="expert",
    observation_steps=1, chunk=50, image_cost="resized", max_cameras=None, launch_family="vla", flags={},
    analogy=None, sizes={},
)  # fmt: skip

ASSUMED = (
    Assumption("episode length", "30 s", "--episode-seconds"),
    Assumption("frame rate", "30 fps", "--fps"),
    Assumption("cameras", "2 × 640×480", "--cameras"),
    Assumption("epochs", "5", "--epochs"),
    Assumption("batch size", "64", "--batch-size"),
)

WORK = Training(
    policy=SMOLVLA, variant=Variant("float32", trained="expert"), cameras=(Camera(640, 480, "av1"),) * 2,
    batch_size=64, num_workers=4, lerobot="0.6.1", frames=45_000, episodes=50, fps=30.0, epochs=5.0,
    assumptions=ASSUMED,
)  # fmt: skip

_UNBOUNDED = {
    "hf": ("Time that a retry spends in the queue.",),
    "modal": ("A preempted function restarts and its time is billed again.", "Egress beyond the plan's quota."),
    "local": (),
}


def interval(p50: float, low: float = 0.75, high: float = 1.4) -> Interval:
    return Interval(p50 * low, p50, p50 * high)


def row(
    target: str,
    flavor: str,
    gpu: str,
    *,
    num: int = 1,
    needed: float = 15.0,
    usable: float = 22.03,
    step: float = 2.1,
    rate: str | None = "0.80",
    grade: str = "scaled",
    limiter: str = "compute",
    pareto: bool = False,
    why_not: str | None = None,
    instead: Instead | None = None,
) -> Estimate:
    """One estimate whose totals follow from its step time and hourly rate."""
    usd_per_hour = None if rate is None else Decimal(rate)
    steps = max(1, 3520 // num)
    startup = interval(180)
    train = interval(steps * step)
    wall = Interval(train.p10 + startup.p10, train.p50 + startup.p50, train.p90 + startup.p90)
    timeout = int(wall.p90 * 1.2)

    def price(seconds: float) -> Decimal:
        assert usd_per_hour is not None
        return usd_per_hour * Decimal(str(seconds)) / 3600

    usd = None if usd_per_hour is None else Money(price(wall.p10), price(wall.p50), price(wall.p90))
    needed_bytes = int(needed * GB)
    return Estimate(
        offer=Offer(target, flavor, gpu, num, 8, 30 * 2**30, None, usd_per_hour, f"{target}_prices", "2026-08-21", "bundled",
                    (("1 × GPU", usd_per_hour),) if usd_per_hour else ()),
        memory=Memory(
            interval((needed - 1.2) * GB, 0.9, 1.05), needed_bytes, int(usable * GB), "activations", grade,
            (Term("weights", point(0.9 * GB), "lerobot_guide"),
             Term("activations at batch 64", interval((needed - 2.1) * GB, 0.9, 1.05), "profile of the policy's own code"),
             Term("CUDA context and allocator slack", point(1.2 * GB), "lerobot_guide", "fixed per process")),
        ),
        batch_size=64, gradient_accumulation=1, steps=steps, updates=steps,
        step=Step(interval(step), limiter, grade,
                  (Term("forward and backward", interval(step * 0.9), "FLOPs ÷ the GPU's achieved rate"),
                   Term("optimizer and launch", interval(step * 0.1), "run smolvla-a100-1")),
                  "smolvla-a100-1", interval(step * 0.4)),
        startup=startup, startup_grade="measured",
        wall_clock=wall, running=wall,
        wall_terms=(Term("image pull and container start", interval(120), "hf_startup"),
                    Term("dataset and weights", interval(60), "hf_startup", "1.2 GB"),
                    Term("training", train, f"{steps} steps × {step} s")),
        usd=usd,
        usd_terms=() if usd is None else (
            Term("1 × GPU", Interval(float(usd.p10), float(usd.p50), float(usd.p90)), f"{target}_prices", "per minute"),),
        usd_max=None if usd_per_hour is None else price(600 + timeout),
        usd_max_formula=f"(600 s start-up limit + {timeout} s timeout) × 1 attempt × ${rate}/h",
        unbounded=_UNBOUNDED[target], price_grade=None if rate is None else "measured",
        timeout_s=timeout, attempts=1, segments=1, save_freq=steps, usd_needed=None if rate is None else price(600 + wall.p90),
        why_not=why_not, fits=needed <= usable, instead=instead, pareto=pareto,
    )  # fmt: skip


def smaller(batch: int, step: float, rate: str) -> Instead:
    steps = 225_000 // batch
    usd = Decimal(rate) * Decimal(str(steps * step)) / 3600
    return Instead(batch, 1, steps, interval(steps * step), Money(usd * Decimal("0.75"), usd, usd * Decimal("1.4")),
                   f"batch {batch} fits: --batch-size {batch} (effective batch shrinks from 64)")  # fmt: skip


ROWS = (
    row("hf", "l4x1", "l4", pareto=True),
    row("modal", "L4", "l4", rate="1.27", step=2.14),
    row("hf", "a10g-small", "a10g", rate="1.00", step=1.76, usable=22.5, limiter="loader"),
    row("hf", "a10g-large", "a10g", rate="1.50", step=1.4, usable=22.5),
    row("modal", "A10", "a10g", rate="1.57", step=1.4, usable=22.5),
    row("hf", "l40s-small", "l40s", rate="1.80", step=0.92, usable=44.4, grade="modelled"),
    row("hf", "a100-large", "a100-80", rate="2.50", step=0.61, usable=84.9, grade="measured", pareto=True),
    row("modal", "A100-80GB", "a100-80", rate="2.97", step=0.61, usable=84.9, grade="measured"),
    row("modal", "H100", "h100", rate="4.42", step=0.4, usable=84.9),
    row("hf", "h200", "h200", rate="5.00", step=0.37, usable=150.1, pareto=True),
    row("modal", "H200", "h200", rate="5.01", step=0.37, usable=150.1),
    row("hf", "l4x4", "l4", num=4, rate="3.80", step=2.3, limiter="loader"),
    row("hf", "rtx-pro-6000x2", "rtx-pro-6000", num=2, rate="4.50", step=0.5, usable=101.9, grade="modelled"),
    row("modal", "RTX-PRO-6000", "rtx-pro-6000", num=8, rate="27.50", step=0.5, usable=101.9, grade="modelled"),
    row("modal", "B200", "b200", rate="6.73", step=0.25, usable=191.5, grade="modelled", pareto=True),
    row("local", "rtx3090", "rtx3090", rate=None, step=1.2, usable=25.3, grade="measured"),
    row("hf", "t4-small", "t4", rate="0.40", needed=15.4, usable=15.3, why_not="needs 15.4 of 15.3 GB at batch 64",
        instead=smaller(32, 3.2, "0.40")),
    row("hf", "t4-medium", "t4", rate="0.60", needed=15.4, usable=15.3, why_not="needs 15.4 of 15.3 GB at batch 64",
        instead=smaller(32, 2.6, "0.60")),
    row("local", "rtx3060-laptop", "rtx3060-laptop", rate=None, needed=15.0, usable=5.9,
        why_not="needs 15.0 of 5.9 GB; no batch size fits"),
    row("local", "rtx2070", "rtx2070", rate=None, needed=15.0, usable=8.1,
        why_not="needs 15.0 of 8.1 GB; no batch size fits"),
)  # fmt: skip

PRICES = (
    Price("hf", "HF jobs-pricing", "2026-08-21", "bundled"),
    Price("modal", "modal.com/pricing", "2026-10-08", "bundled"),
)

PLAN = Plan(
    kind="lerobot", workload=WORK, estimates=ROWS, prices=PRICES,
    recommended=Recommendation("hf:l4x1", "hf", "l4x1", "the cheapest that fits, within its P90 of 3.0 h"),
    cheapest="hf:l4x1", fastest="modal:B200",
    warnings=(("dataset_unread", "frames are a guess from the number of episodes: --dataset DIR counts them"),),
)  # fmt: skip


def _without(plan: Plan, **changes: object) -> Plan:
    return plan._replace(recommended=None, cheapest=None, fastest=None, warnings=(), **changes)  # type: ignore[arg-type]


NOTHING_FITS = _without(
    PLAN,
    estimates=tuple(estimate for estimate in ROWS if not estimate.fits),
    error=("nothing_fits", "nothing has 15 GB: try --batch-size 32 (8.1 GB) or --gpu l4 (22 GB)"),
    exit_code=3,
)

OVER_BUDGET = _without(
    PLAN,
    estimates=tuple(
        estimate._replace(why_not="over --max-cost 1.00 at P90", pareto=False) for estimate in ROWS[:4]
    ) + ROWS[16:17],
    error=("over_budget", "the cheapest that fits costs $2.36 at P90, over --max-cost 1.00: raise it or plan fewer --epochs"),
    exit_code=4,
)  # fmt: skip

PASTED = PLAN._replace(
    workload=WORK._replace(frames=None, episodes=None, fps=None, epochs=None, given_steps=20_000, dataset="me/pick\x1b[31m",
                     lerobot="0.4.4", assumptions=ASSUMED[2:3],
                     variant=Variant("bfloat16", gradient_checkpointing=True, trained="lora", lora_rank=16)),
    warnings=(),
)  # fmt: skip
