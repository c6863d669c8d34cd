"""The catalogue to look at: policies with what they need, GPUs with what they can do and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from planner import feeds
from planner.records import KINDS, Catalogue, Figure, Gpu, Offer, Policy
from planner.show import document, lines, text
from planner.show.lines import Column, Line
from planner.units import GB, GIB

ABSENT = "–"

_POLICY_COLUMNS = (
    Column("policy", "policy", gap=3),
    Column("batch", "batch", right=True),
    Column("memory", "memory", right=True),
    Column("params", "params", right=True),
    Column("trained", "trains"),
    Column("base", "starts from"),
    Column("extra", "extra"),
    Column("releases", "LeRobot"),
)
_POLICY_DROPS = ("extra", "base", "releases")

_GPU_COLUMNS = (
    Column("gpu", "GPU", gap=3),
    Column("box", "memory", right=True),
    Column("usable", "usable", right=True),
    Column("bandwidth", "GB/s", right=True),
    Column("fp32", "fp32", right=True),
    Column("tf32", "tf32", right=True),
    Column("fp16", "fp16", right=True),
    Column("bf16", "bf16", right=True),
    Column("compute", "CC", right=True),
)
_GPU_DROPS = ("tf32", "fp16", "compute", "box", "fp32", "bandwidth", "bf16")
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


def policies(
    catalogue: Catalogue, memory: Mapping[str, float | None], *, width: int, colour: bool, plain: bool,
    ascii_only: bool = False,
) -> str:  # fmt: skip
    """The policies by group. `memory` is policy id -> bytes that its default batch needs on one GPU."""
    rows = {policy.id: _policy_row(policy, memory.get(policy.id)) for policy in catalogue.policies.values()}
    columns, sizes = _fit(_POLICY_COLUMNS, _POLICY_DROPS, list(rows.values()), width)
    out: list[Line] = [[(lines.title_text(columns, sizes), "dim")]]
    for group, title in catalogue.groups.items():
        members = [policy.id for policy in catalogue.policies.values() if policy.group == group]
        if members:
            out += [[(f" {text.clean(title)}", "bold")]]
            out += [[(lines.row_text(columns, sizes, rows[member]), "")] for member in members]
    legend = "batch: of the policy's own guide, else lerobot-train's 8. memory: what that batch needs on one GPU."
    out += [[], *_dim(legend, width)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _policy_row(policy: Policy, memory: float | None) -> dict[str, str]:
    params = policy.sizes.get("params")
    extras = dict.fromkeys(extra for extra in policy.extra.values() if extra)
    dtype = {"float32": "fp32", "bfloat16": "bf16"}.get(policy.dtype, policy.dtype)
    return {
        "policy": policy.id,
        "batch": f"{policy.batch_size.value:.0f}",
        "memory": text.gigabytes(memory),
        "params": _params(params.value) if params else text.UNKNOWN,
        "trained": f"{policy.trained}, {dtype}",
        "base": policy.base.id if policy.base else "scratch",
        "extra": ", ".join(extras),
        "releases": ", ".join(policy.releases),
    }


def _params(value: float) -> str:
    return f"{text.number(value / 1e9)} B" if value >= 1e9 else f"{text.number(value / 1e6)} M"


def gpus(catalogue: Catalogue, *, width: int, colour: bool, plain: bool, ascii_only: bool = False) -> str:
    """The GPUs: first what can be rented, with the price of one GPU per hour at each target, then the rest by kind."""
    offers = {gpu: own for gpu, own in _by_gpu(catalogue).items() if gpu in catalogue.gpus}
    targets = [target for target in catalogue.targets if any(target in one for one in offers.values())]
    rows = {gpu.id: _gpu_row(gpu, offers.get(gpu.id, {}), catalogue) for gpu in catalogue.gpus.values()}
    wanted = (*_GPU_COLUMNS, *(Column(target, f"{target} $/h", right=True) for target in targets))
    columns, sizes = _fit(wanted, _GPU_DROPS, list(rows.values()), width)
    out: list[Line] = [[(lines.title_text(columns, sizes), "dim")]]
    sections = {"Rented": [gpu for gpu in rows if gpu in offers]}
    for kind, title in KINDS.items():
        sections[title] = [gpu.id for gpu in catalogue.gpus.values() if gpu.kind == kind and gpu.id not in offers]
    for title, members in sections.items():
        if members:
            out += [[(f" {title}", "bold")]]
            out += [[(lines.row_text(columns, sizes, rows[member]), "")] for member in members]
    shown = {column.key for column in columns}
    notes = ["What nobody rents is planned as local.", "usable: what CUDA can use, in GB of 10⁹ bytes."]
    notes += ["GB/s: to the device's own memory."] * ("bandwidth" in shown)
    rates = " ".join(name for name in _PRECISIONS if name in shown)
    notes += [f"{rates}: dense TFLOP/s with FP32 accumulation; {ABSENT} is absent or unknown."]
    notes += ["CC: compute capability."] * ("compute" in shown)
    if targets:
        notes += [f"$/h: of one GPU, {', '.join(_dates(catalogue, target) for target in targets)}."]
    out += [[], *_dim(" ".join(notes), width)]
    return lines.render(out, colour=colour, plain=plain, ascii_only=ascii_only)


def _gpu_row(gpu: Gpu, offers: Mapping[str, list[Offer]], catalogue: Catalogue) -> dict[str, str]:
    row = {
        "gpu": gpu.id,
        "box": _box(gpu.memory_bytes.value),
        "usable": f"{gpu.usable_bytes.value / GB:.1f} GB",
        "bandwidth": f"{gpu.bandwidth.value / GB:,.0f}",
        "compute": gpu.compute_capability or ABSENT,
    }
    for name in _PRECISIONS:
        figure: Figure | None = getattr(gpu, name)
        row[name] = ABSENT if figure is None else text.number(figure.value / 1e12)
    return row | {target: _price_range(own, catalogue) for target, own in offers.items()}


def _box(size: float) -> str:
    """Memory as on the box: binary gigabytes where it is a whole number of them."""
    return f"{size / GIB:.0f} GiB" if size % GIB == 0 else f"{size / GB:.0f} GB"


def _by_gpu(catalogue: Catalogue) -> dict[str, dict[str, list[Offer]]]:
    """GPU id -> target -> its offers."""
    out: dict[str, dict[str, list[Offer]]] = {}
    for offer in catalogue.offers:
        out.setdefault(offer.gpu, {}).setdefault(offer.target, []).append(offer)
    for lot in catalogue.feed:  # its cheapest and its dearest
        out.setdefault(lot.gpu, {}).setdefault(lot.target, []).extend(feeds.ends(lot))
    return out


def _price_range(offers: Iterable[Offer], catalogue: Catalogue) -> str:
    """Lowest and highest price of one GPU per hour; `+` where the target bills cores and memory on top."""
    prices = [offer.usd_per_hour / max(1, offer.num_gpus) for offer in offers if offer.usd_per_hour is not None]
    if not prices:
        return text.UNKNOWN
    rules = catalogue.targets[next(iter(offers)).target]
    ends = dict.fromkeys(f"{price:.2f}" for price in (min(prices), max(prices)))
    return "–".join(ends) + ("+" if rules.usd_per_core_hour else "")


def _dates(catalogue: Catalogue, target: str) -> str:
    dates = {o.price_as_of for o in catalogue.offers if o.target == target}
    dates |= {date for lot in catalogue.feed if lot.target == target for _, date in feeds.origins(lot)}
    priced = sorted(date for date in dates if date)
    date = "undated" if not priced else priced[0] if len(priced) == 1 else f"{priced[0]} to {priced[-1]}"
    return f"{target} {date}" + (" (+: cores and memory on top)" if catalogue.targets[target].usd_per_core_hour else "")


def _fit(
    columns: Iterable[Column], drops: Iterable[str], rows: list[dict[str, str]], width: int
) -> tuple[list[Column], dict[str, int]]:
    kept = list(columns)
    sizes = lines.widths(kept, rows)
    for key in drops:
        if lines.total_width(kept, sizes) <= width:
            break
        kept = [column for column in kept if column.key != key]
    return kept, sizes


def _dim(words: str, width: int) -> list[Line]:
    return [[(" " + line, "dim")] for line in lines.wrap(words, width - 1)]


def policies_document(catalogue: Catalogue, memory: Mapping[str, float | None]) -> dict[str, Any]:
    """The policies as JSON-ready values; `memory` as in `policies`."""
    return {
        "schema": "policies/1",
        "groups": [{"id": group, "title": title} for group, title in catalogue.groups.items()],
        "policies": [
            {
                "id": policy.id,
                "title": policy.title,
                "group": policy.group,
                "releases": list(policy.releases),
                "extra": policy.extra,
                "base": policy.base and {"id": policy.base.id, "download_gb": _figure(policy.base.download_bytes, GB)},
                "batch_size": _figure(policy.batch_size),
                "dtype": policy.dtype,
                "trained": policy.trained,
                "vram_needed_gb": _gigabytes(memory.get(policy.id)),
                "sizes": {name: _figure(figure) for name, figure in policy.sizes.items()},
                "notes": policy.notes,
            }
            for policy in catalogue.policies.values()
        ],
        "sources": _sources(catalogue),
    }


def gpus_document(catalogue: Catalogue) -> dict[str, Any]:
    """The GPUs as JSON-ready values: GB of 10⁹ bytes, dense TFLOP/s, US dollars per hour of the whole offer."""
    offers = _by_gpu(catalogue)
    return {
        "schema": "gpus/1",
        "gpus": [
            {
                "id": gpu.id,
                "name": gpu.name,
                "vendor": gpu.vendor,
                "arch": gpu.arch,
                "kind": gpu.kind,
                "compute_capability": gpu.compute_capability,
                "memory_gb": _figure(gpu.memory_bytes, GB),
                "usable_gb": _figure(gpu.usable_bytes, GB),
                "bandwidth_gb_per_s": _figure(gpu.bandwidth, GB),
                **{f"{name}_tflop_per_s": _figure(getattr(gpu, name), 1e12) for name in _PRECISIONS},
                "watts": _figure(gpu.watts),
                "interconnect_gb_per_s": _figure(gpu.interconnect, GB),
                "offers": [_offer(offer) for own in offers.get(gpu.id, {}).values() for offer in own],
                "notes": gpu.notes,
            }
            for gpu in catalogue.gpus.values()
        ],
        "sources": _sources(catalogue),
    }


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.id,
        "num_gpus": offer.num_gpus,
        "vcpus": offer.vcpus,
        "ram_gb": _gigabytes(offer.ram_bytes),
        "usd_per_hour": document.usd(offer.usd_per_hour),
        "source": offer.price_source,
        "as_of": offer.price_as_of,
        "method": offer.price_method,
    }


def _figure(figure: Figure | None, unit: float = 1) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {"value": document.significant(figure.value / unit), "source": figure.source, "as_of": figure.as_of}


def _gigabytes(size: float | None) -> float | None:
    return None if size is None else round(size / GB, 3)


def _sources(catalogue: Catalogue) -> dict[str, Any]:
    return {
        name: {"title": source.title, "ref": source.ref, "as_of": source.as_of}
        for name, source in catalogue.sources.items()
    }
