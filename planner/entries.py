"""From plain YAML data to checked records, one function a kind of entry."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from planner.fields import Entry, spread
from planner.records import KINDS, Base, BillingRule, Figure, Gpu, Offer, Policy, Run, Source, TargetRules
from planner.units import parse_quantity


def source(file: str, name: str, data: Any) -> Source:
    entry = Entry(file, name, data)
    result = Source(name, entry.text("title"), entry.text("ref"), entry.date("as_of"), entry.text("kind"))
    entry.done()
    return result


def gpu(file: str, name: str, data: Any, sources: dict[str, Source]) -> Gpu:
    entry = Entry(file, name, data, sources)
    result = Gpu(
        id=name,
        name=entry.text("name"),
        vendor=entry.choice("vendor", ("nvidia", "amd", "apple", "cpu", "other")),
        arch=entry.text("arch"),
        memory_bytes=entry.figure("memory", "bytes"),
        usable_bytes=entry.figure("usable", "bytes"),
        bandwidth=entry.figure("bandwidth", "bytes/s"),
        fp32=entry.figure("fp32", "FLOP/s"),
        tf32=entry.figure("tf32", "FLOP/s", None),
        fp16=entry.figure("fp16", "FLOP/s", None),
        bf16=entry.figure("bf16", "FLOP/s", None),
        compute_capability=entry.text("compute_capability", None),
        watts=entry.figure("watts", "W", None),
        interconnect=entry.figure("interconnect", "bytes/s", None),
        notes=entry.text("notes", ""),
        devices=entry.names("devices", None),
        kind=entry.choice("kind", KINDS, "desktop"),
    )
    entry.done()
    if result.usable_bytes.value > result.memory_bytes.value * 1.08:  # a "24 GB" card may hold 24 GiB
        raise entry.fail("usable", "expected no more than the memory on the box")
    return result


def rules(file: str, target: str, data: dict[str, Any], sources: dict[str, Source], rates_method: str) -> TargetRules:
    """The part of data/offers/<target>.yaml that is not offers. Takes its keys out of `data`."""
    top = Entry(file, target, {key: data.get(key) for key in ("title", "rules", "startup", "bandwidth", "cpu_kappa", "draw")}, sources)
    rule = Entry(file, "rules", top.take("rules"), sources)
    price_list = rule.take("price_list", None)
    if price_list is not None:
        inner = Entry(file, "rules: price_list", price_list, sources)
        price_list = inner.origin()[0]
        inner.done()
    others = rule.mapping("other", {})  # rules that a plan does not use
    billing = tuple(_billing_rule(Entry(file, f"rules: {name}", value, sources), name)
                    for name, value in {**rule.data, **others}.items() if name in others or isinstance(value, dict))
    startup = Entry(file, "startup", top.take("startup"), sources)
    bandwidth = Entry(file, "bandwidth", top.take("bandwidth"), sources)
    draw = Entry(file, "draw", top.take("draw") or {}, sources)
    unit = rule.figure("billing_unit", "s")
    limits = {name: rule.figure(name, "s", None) for name in ("default_timeout", "max_timeout", "startup_limit")}
    result = TargetRules(
        id=target,
        title=top.text("title"),
        billing_unit_s=int(unit.value),
        default_timeout_s=_seconds(limits["default_timeout"]),
        max_timeout_s=_seconds(limits["max_timeout"]),
        startup_limit_s=_seconds(limits["startup_limit"]),
        bills_scheduling=rule.flag("bills_scheduling"),
        output=rule.choice("output", ("hub", "volume", "folder")),
        fresh_disk=rule.flag("fresh_disk"),
        usd_per_core_hour=rule.figure("cpu_price", "USD/core-h", None),
        usd_per_gib_hour=rule.figure("memory_price", "USD/GiB-h", None),
        egress_usd_per_gib=rule.figure("egress_price", "USD/GiB", None),
        startup={name: startup.spread(name, "s") for name in list(startup.data)},
        bandwidth={name: bandwidth.spread(name, "bytes/s") for name in list(bandwidth.data)},
        decode_kappa=spread(Entry(file, "cpu_kappa", top.take("cpu_kappa"), sources), None),
        unbounded=rule.names("unbounded", ()),
        notes=rule.text("notes", ""),
        draw={name: spread(Entry(file, f"draw: {name}", draw.take(name), sources), None) for name in ("gpu", "rest") if draw.data},
        price_list=price_list,
        rates_method=rates_method,
        billing=billing,
    )
    rule.done()
    draw.done()
    return result


def _billing_rule(entry: Entry, name: str) -> BillingRule:
    value = entry.text("value")
    result = BillingRule(name.replace("_", " "), value, *entry.origin())
    entry.done()
    return result


def _seconds(figure: Figure | None) -> int | None:
    return None if figure is None else int(figure.value)


def offers(file: str, target: str, name: str, data: Any, sources: dict[str, Source], method: str) -> list[Offer]:
    """The offers of one entry: one, or one a count where the price is per GPU."""
    entry = Entry(file, name, data, sources)
    if entry.text("alias_of", None) is not None:
        return []
    counts = entry.take("counts", None)
    if counts is None:
        counts = [entry.number("num_gpus", whole=True)]
    elif not isinstance(counts, list) or not counts or not all(type(n) is int and n > 0 for n in counts):
        raise entry.fail("counts", f"expected a list of whole numbers, got {counts!r}")
    price, price_source, as_of = None, None, None
    raw = entry.take("price", None)
    if raw is not None:
        inner = Entry(file, f"{name}: price", raw, sources)
        text = inner.take("value")
        try:
            parse_quantity(text, "USD/h")
            price = Decimal(str(text).split()[0].replace("_", ""))
        except (ValueError, InvalidOperation) as error:
            raise inner.fail("value", str(error)) from None
        if price <= 0:
            raise inner.fail("value", f"expected more than 0, got {text!r}; leave the price out where it is unknown")
        if "as_of" not in inner.data:
            raise inner.fail("as_of", "is missing; a price needs its date, such as as_of: 2026-10-08")
        price_source, as_of = inner.origin()
        inner.done()
    per_gpu = entry.choice("price_unit", ("per GPU", "per flavor"), "per flavor") == "per GPU"
    first = Offer(
        target=target, flavor=name, gpu=entry.text("gpu"), num_gpus=1, vcpus=entry.number("vcpus", None),
        ram_bytes=_whole(entry.quantity("ram", "bytes", None)), disk_bytes=_whole(entry.quantity("disk", "bytes", None)),
        usd_per_hour=price, price_source=price_source, price_as_of=as_of, price_method=method,
        per_gpu=per_gpu,
    )
    entry.text("notes", "")
    entry.done()
    return [
        first._replace(num_gpus=count, usd_per_hour=price * count if price is not None and per_gpu else price) for count in counts
    ]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def policy(file: str, name: str, data: Any, sources: dict[str, Source]) -> Policy:
    entry = Entry(file, name, data, sources)
    base = None
    raw = entry.take("base", None)
    if raw is not None:
        inner = Entry(file, f"{name}: base", raw, sources)
        base = Base(inner.text("id"), inner.text("flag"), inner.figure("download", "bytes"), inner.names("cameras", ()))
        inner.done()
    downloads = []
    for item in entry.take("downloads", None) or ():
        inner = Entry(file, f"{name}: downloads", item, sources)
        downloads.append((inner.text("id"), inner.figure("size", "bytes")))
        inner.done()
    trained_by = []
    for item in entry.take("trained_by", None) or ():
        inner = Entry(file, f"{name}: trained_by", item, sources)
        trained_by.append((inner.mapping("flags"), inner.text("trained")))
        inner.done()
    sizes = Entry(file, f"{name}: sizes", entry.take("sizes", None) or {}, sources)
    analogy = entry.take("analogy", None)
    if analogy is not None:
        inner = Entry(file, f"{name}: analogy", analogy, sources)
        analogy = {
            "sibling": inner.text("sibling"), "dtype": inner.text("dtype"),
            "gradient_checkpointing": inner.flag("gradient_checkpointing"), "trained": inner.text("trained"),
            "lora_rank": inner.number("lora_rank", whole=True), "memory_ratio": inner.number("memory_ratio"),
            "cost_ratio": inner.number("cost_ratio"), "why": inner.text("why"), "source": inner.origin()[0],
        }
        inner.done()
    result = Policy(
        id=name,
        title=entry.text("title"),
        group=entry.text("group"),
        releases=entry.names("releases"),
        extra=entry.mapping("extra"),
        base=base,
        batch_size=entry.figure("batch_size", None),
        dtype=entry.choice("dtype", ("float32", "bfloat16")),
        trained=entry.text("trained"),
        observation_steps=entry.number("observation_steps", whole=True, least=1),
        chunk=entry.number("chunk", whole=True, least=1),
        image_cost=entry.choice("image_cost", ("pixels", "resized", "none")),
        max_cameras=entry.number("max_cameras", None, whole=True),
        launch_family=entry.choice("launch_family", ("cnn", "diffusion", "vla-small", "vla-large")),
        flags=entry.mapping("flags"),
        analogy=analogy,
        sizes={key: sizes.figure(key, None) for key in list(sizes.data)},
        scratch_dtype=entry.choice("scratch_dtype", ("float32", "bfloat16"), None),
        same_cameras=entry.flag("same_cameras", False),
        required=entry.names("required", ()),
        trained_by=tuple(trained_by),
        downloads=tuple(downloads),
        gated=entry.names("gated", ()),
        caveats=entry.mapping("caveats", {}),
        trainer=entry.text("trainer", "lerobot-train"),
        notes=entry.text("notes", ""),
    )
    entry.done()
    return result


def run(file: str, name: str, data: Any) -> Run:
    entry = Entry(file, name, data)
    variant = Entry(file, f"{name}: variant", entry.take("variant", None) or {})
    optimizer = variant.text("optimizer", None)
    autocast = variant.flag("autocast", None)
    result = Run(
        id=name,
        system=entry.text("system", "lerobot"),
        policy=entry.text("policy"),
        dtype=variant.text("dtype", None),
        gradient_checkpointing=variant.flag("gradient_checkpointing", None),
        trained=variant.text("trained", None),
        lora_rank=variant.number("lora_rank", None, whole=True),
        compiled=variant.flag("compiled", None),
        autocast=autocast,
        chunk=variant.number("chunk", None, whole=True, least=1),
        optimizer=optimizer,
        gpu=entry.text("gpu", None),
        num_gpus=entry.number("num_gpus", None, whole=True),
        batch_size=entry.number("batch_size", None, whole=True, least=1),
        cameras=entry.number("cameras", None, whole=True),
        width=entry.number("width", None, whole=True),
        height=entry.number("height", None, whole=True),
        steps=entry.number("steps", None, whole=True),
        wall_clock_s=entry.quantity("wall_clock", "s", None),
        update_s=entry.quantity("update", "s", None),
        data_s=entry.quantity("data", "s", None),
        whole_step=entry.flag("whole_step", False),
        vram_bytes=_whole(entry.quantity("vram", "bytes", None)),
        oom=entry.flag("oom", None),
        loader=entry.text("loader", ""),
        lerobot=entry.text("lerobot", None),
        scored=entry.flag("scored"),
        reason=entry.text("reason", ""),
        kind=entry.text("kind"),
        confidence=entry.choice("confidence", ("high", "medium", "low")),
        source=entry.text("source"),
        as_of=entry.date("as_of"),
    )
    entry.done()
    variant.done()
    return result
