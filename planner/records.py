"""The catalogue's records: what data/ says, checked and frozen. No I/O, no arithmetic beyond lookups."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class Figure(NamedTuple):
    """A number of the catalogue with where it comes from. `value` is in base units (see planner.units)."""

    value: float
    source: str  # id in data/sources.yaml
    as_of: str  # ISO date, or the year or "undated" where the source has no more


class Source(NamedTuple):
    """Where figures come from."""

    id: str
    title: str
    ref: str
    as_of: str
    kind: str


#: kinds of GPU, as `plan gpus` lists them -> their title
KINDS = {
    "datacenter": "Data centre", "workstation": "Workstation", "desktop": "Desktop", "laptop": "Laptop",
    "shared": "Memory shared with the host",
}  # fmt: skip


class Gpu(NamedTuple):
    """A device. FLOP/s are dense, with FP32 accumulation; None is unknown or absent in hardware."""

    id: str
    name: str
    vendor: str  # nvidia, amd, apple, cpu
    arch: str
    memory_bytes: Figure  # on the box
    usable_bytes: Figure  # what CUDA can really use
    bandwidth: Figure  # bytes/s
    fp32: Figure
    tf32: Figure | None
    fp16: Figure | None
    bf16: Figure | None  # None: no bf16 units
    compute_capability: str | None
    watts: Figure | None
    interconnect: Figure | None  # bytes/s between two of them in one host, one direction
    notes: str = ""
    devices: tuple[str, ...] | None = None  # what it calls itself; None: as its id
    kind: str = "desktop"  # of KINDS

    @property
    def unified(self) -> bool:
        """Its memory is the host's."""
        return self.kind == "shared"


class StartupRange(NamedTuple):
    """P10/P50/P90 with a source: seconds of a start-up term, or what the field that holds it says."""

    p10: float
    p50: float
    p90: float
    source: str


class Offer(NamedTuple):
    """Something that can be rented (or is owned): one row to be priced."""

    target: str  # hf, modal, local
    flavor: str
    gpu: str
    num_gpus: int
    vcpus: float | None
    ram_bytes: int | None
    disk_bytes: int | None
    usd_per_hour: Decimal | None  # everything that runs meanwhile; None: cannot price
    price_source: str | None
    price_as_of: str | None
    price_method: str  # bundled, live, user
    per_gpu: bool = False  # the flavor is one GPU, and any number of it can be had
    rates_as_of: str | None = None  # the older date of the rates for CPU and memory in its price; None: none are, or the user gave them
    price_parts: tuple[tuple[str, Decimal], ...] = ()  # ("1 × L4", 0.80), ("5 cores", 0.2365) ...; sums to usd_per_hour

    @property
    def id(self) -> str:
        """Row id: hf:l4x1, modal:L4, modal:L4:4, local:rtx4090. Only where the flavor does not say how many, the count follows."""
        count = f":{self.num_gpus}" if self.num_gpus > 1 and self.per_gpu else ""
        return f"{self.target}:{self.flavor}{count}"


class Quote(NamedTuple):
    """What a place's own price list says of one flavor."""

    flavor: str
    usd_per_hour: Decimal | None  # of the flavor, or of one GPU where those are sold singly; None: no price, or none that is above 0
    gpu: str | None = None  # the place's words for its GPU; None: not said
    num_gpus: int | None = None  # 0: none; None: not said
    vram_bytes: int | None = None  # of all its GPUs together
    vcpus: float | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    per_gpu: bool = False
    odd_unit: str | None = None  # the unit of its price where that is not known: the price is not used


class PriceList(NamedTuple):
    """The answer of one place to the question what it rents, and for how much."""

    target: str
    source: str  # id in data/sources.yaml
    quotes: tuple[Quote, ...]
    usd_per_core_hour: Decimal | None = None
    usd_per_gib_hour: Decimal | None = None
    remarks: tuple[str, ...] = ()  # what of the answer is not used, and why
    as_of: str = ""  # UTC, 2026-11-20T20:18:01Z


class Unplanned(NamedTuple):
    """Something that a place lists or listed, and that cannot be planned."""

    target: str
    quote: Quote
    price_source: str | None
    price_as_of: str | None
    price_method: str  # bundled, live
    why: str
    gone: bool = False  # it was offered once

    @property
    def id(self) -> str:
        return f"{self.target}:{self.quote.flavor}"


class BillingRule(NamedTuple):
    """One rule by which a place bills, as it stands in the catalogue."""

    name: str
    value: str  # with its unit: 1 min, 0.0473 USD/core-h, × 1.15
    source: str
    as_of: str


class Lot(NamedTuple):
    """Many offers of the same GPUs at one place, as columns; planner.feeds takes them apart, as far as somebody looks.

    Every column is text with one word an offer, cheapest first: a hundred thousand offers load in a few milliseconds.
    """

    target: str
    gpu: str
    num_gpus: int
    number: int  # of offers
    disk_bytes: int | None  # of the host with the least; None where none says
    flavors: str
    prices: str  # dollars per hour as they were written; empty where none of these offers has a price
    hosts: str  # vCPUs/bytes of memory/bytes of disk; a part is empty where it is not known
    origins: str  # source=date; one word where all have the same


class TargetRules(NamedTuple):
    """How a target bills and what it bounds; from data/offers/<target>.yaml."""

    id: str
    title: str
    billing_unit_s: int  # 60: by the minute, rounded up; 1: by the second
    default_timeout_s: int | None
    max_timeout_s: int | None  # None: none published
    startup_limit_s: int | None  # billable start-up that the target bounds; None: unbounded
    bills_scheduling: bool
    output: str  # where results survive: hub, volume, folder
    fresh_disk: bool  # every run downloads its weights and dataset
    usd_per_core_hour: Figure | None  # physical core, on top of the GPU
    usd_per_gib_hour: Figure | None
    egress_usd_per_gib: Figure | None
    startup: dict[str, StartupRange]  # term -> seconds; names in planner/estimate.py
    bandwidth: dict[str, StartupRange]  # term -> bytes/s (p10 is the slow end)
    decode_kappa: StartupRange  # decode cost of this target's hosts relative to the reference core
    unbounded: tuple[str, ...]  # what the worst case cannot include, in words
    notes: str = ""
    draw: dict[str, StartupRange] = {}  # where electricity is what it costs: "gpu", a share of the board power; "rest", a share of that
    price_list: str | None = None  # source id of the place's own answer, where it can be asked
    rates_method: str = "bundled"  # bundled, live, user: how the two rates got here
    billing: tuple[BillingRule, ...] = ()  # every rule above that is about money or time, and those that a plan does not use, dated


class Base(NamedTuple):
    """Pretrained weights a policy starts from and how LeRobot names them."""

    id: str  # Hub id
    flag: str  # --policy.path, --policy.pretrained_path, or "" where the policy loads it by itself
    download_bytes: Figure
    cameras: tuple[str, ...] = ()  # its cameras' feature keys, in its order; empty: not known


class Policy(NamedTuple):
    """A trainable model type of LeRobot."""

    id: str
    title: str
    group: str
    releases: tuple[str, ...]  # LeRobot releases that have it: 0.4.4, 0.6.1, main
    extra: dict[str, str | None]  # release -> extra to install beside the trainer
    base: Base | None
    batch_size: Figure  # default of its own guide, else LeRobot's 8
    dtype: str  # what an unstated dtype means
    trained: str  # what an unstated choice trains: all, expert, vlm ...
    observation_steps: int
    chunk: int  # actions of a sample, by default
    image_cost: str  # "pixels": cost grows with resolution; "resized": only the number of cameras counts
    max_cameras: int | None
    launch_family: str  # key of the calibration's launch overhead
    flags: dict[str, dict[str, object]]  # release -> flag name without "--policy." -> default
    analogy: dict[str, object] | None  # for a policy without a profile: sibling, ratio, source
    sizes: dict[str, Figure]  # params, trainable params, checkpoint bytes ... where published
    scratch_dtype: str | None = None  # what the weights are without a base, if not `dtype`
    same_cameras: bool = False  # all cameras must have one size
    required: tuple[str, ...] = ()  # arguments that the type cannot train without, e.g. --policy.action_mode=auto
    trained_by: tuple[tuple[dict[str, object], str], ...] = ()  # flag values -> what they train; first match decides
    downloads: tuple[tuple[str, Figure], ...] = ()  # (Hub id, bytes) it fetches beside its base
    gated: tuple[str, ...] = ()  # Hub ids whose licence has to be accepted before it can train
    caveats: dict[str, str] = {}  # release -> what stops it from training this as it is installed
    trainer: str = "lerobot-train"  # what trains it, where that is not lerobot-train
    notes: str = ""

    @property
    def download_bytes(self) -> float:
        """Bytes of weights that a fresh container fetches."""
        return (self.base.download_bytes.value if self.base else 0.0) + sum(size.value for _, size in self.downloads)


class Profile(NamedTuple):
    """Cost of one policy variant at one camera set, from the policy's own code (one fitted line).

    Peak bytes at a batch are max(floor, a + b·batch): docs/accuracy.md says how they were made.
    """

    policy: str
    dtype: str  # float32, bfloat16
    gradient_checkpointing: bool
    trained: str
    lora_rank: int
    autocast: bool
    cameras: int
    width: int
    height: int
    chunk: int
    params: int
    grad_params: int  # parameters that receive gradients
    flops_per_sample: float  # forward and backward, recomputation included
    weight_bytes: int
    activation_bytes: int  # per sample, saved for backward
    floor_bytes: int
    a_bytes: int
    b_bytes: int
    source: str
    as_of: str


class Run(NamedTuple):
    """A measured run: evidence."""

    id: str
    system: str
    policy: str
    dtype: str | None
    gradient_checkpointing: bool | None
    trained: str | None
    lora_rank: int | None
    compiled: bool | None
    autocast: bool | None
    chunk: int | None  # None: nobody said, taken as the policy's own
    optimizer: str | None  # where it is not the policy's own preset
    gpu: str | None
    num_gpus: int | None
    batch_size: int | None
    cameras: int | None
    width: int | None
    height: int | None
    steps: int | None
    wall_clock_s: float | None
    update_s: float | None
    data_s: float | None
    whole_step: bool  # update_s is the whole iteration, loader included
    vram_bytes: int | None
    oom: bool | None
    loader: str
    lerobot: str | None
    scored: bool  # used for the calibration
    reason: str  # why it is not scored, or how a missing field was inferred
    kind: str
    confidence: str
    source: str
    as_of: str


class Catalogue(NamedTuple):
    """Everything the estimates are made from."""

    sources: dict[str, Source]
    gpus: dict[str, Gpu]
    groups: dict[str, str]  # id -> title
    policies: dict[str, Policy]
    targets: dict[str, TargetRules]
    offers: tuple[Offer, ...]
    aliases: dict[str, str]  # a provider's other names for a flavor -> the flavor
    profiles: tuple[Profile, ...]
    runs: tuple[Run, ...]  # those that are scored; read_runs() has all
    digest: str = ""  # of the bundled files it was made from; empty where a user's entries change what is calibrated
    unplanned: tuple[Unplanned, ...] = ()  # what a live price list names and no plan can use
    feed: tuple[Lot, ...] = ()  # a user's own offers where there are thousands: offers/*.csv

    def source(self, name: str | None) -> Source | None:
        return self.sources.get(name or "")
