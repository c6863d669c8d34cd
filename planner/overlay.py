"""A place's own price list laid over the catalogue: what changed, what is new, what is not offered any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from planner import devices, feeds
from planner.records import Catalogue, Figure, Gpu, Offer, PriceList, Quote, TargetRules, Unplanned

#: How far a GPU's memory may be from what the answer says before they are two cards: "80 GB" is 80 GiB on the box, and back.
_SAME_MEMORY = 0.15
NOT_OFFERED, _UNKNOWN_GPU = "not offered any more", "cannot estimate: unknown GPU"
#: Dollars per hour below which two prices are the same: Hugging Face's are whole micro-dollars a minute.
_RESOLUTION = Decimal("0.00006")


class Change(NamedTuple):
    """One price before and after; None is no price. `what` is a flavor, or one of RATES."""

    target: str
    what: str
    before: Decimal | None
    after: Decimal | None
    note: str  # "", new, not offered any more

    @property
    def share(self) -> Decimal | None:
        """The change as a part of the price before."""
        return None if self.after is None or not self.before else (self.after - self.before) / self.before


RATES = ("CPU core", "GiB of memory")


def laid_over(catalogue: Catalogue, lists: Mapping[str, PriceList]) -> Catalogue:
    """The catalogue with live prices in the place of bundled ones that are no newer. A user's own prices stay."""
    known = {target: answer for target, answer in lists.items() if target in catalogue.targets}
    if not known:
        return catalogue
    quotes = {target: {quote.flavor: quote for quote in answer.quotes} for target, answer in known.items()}
    offers: list[Offer] = []
    unplanned: list[Unplanned] = []
    listed: set[tuple[str, str]] = set()
    for offer in catalogue.offers:
        answer = known.get(offer.target)
        if answer is None or not newer(answer, offer.price_as_of) or offer.price_method == "user":
            offers.append(offer)
            listed.add((offer.target, offer.flavor))
            continue
        quote = quotes[offer.target].get(offer.flavor)
        if quote is None:
            unplanned += _withdrawn(offer, answer)
        elif _same_machine(quote, offer, catalogue):
            offers.append(_priced(offer, quote, answer))
            listed.add((offer.target, offer.flavor))
    for target, answer in known.items():
        dates = [offer.price_as_of for offer in catalogue.offers if offer.target == target and offer.price_method == "bundled"]
        if not all(newer(answer, date) for date in dates):
            continue  # the catalogue has been looked after since: what it lacks is gone
        for quote in answer.quotes:
            if (target, quote.flavor) in listed or quote.flavor in catalogue.aliases:
                continue
            if any(lot.target == target and feeds.has(lot, quote.flavor) for lot in catalogue.feed):
                continue  # a user's own
            made = _new(quote, answer, catalogue.gpus)
            (offers if isinstance(made, Offer) else unplanned).append(made)  # type: ignore[arg-type]
    targets = {name: _rules(rules, known.get(name)) for name, rules in catalogue.targets.items()}
    return catalogue._replace(offers=tuple(offers), targets=targets, unplanned=tuple(unplanned))


def newer(answer: PriceList, as_of: str | None) -> bool:
    """Whether the answer is from the day of a price or later. Dates are ISO; a price without a day is older."""
    return as_of is None or not as_of[:4].isdigit() or answer.as_of[:10] >= as_of


def _priced(offer: Offer, quote: Quote, answer: PriceList) -> Offer:
    """The offer as the answer has it; a price in an unknown unit leaves the old one, with its date."""
    offer = offer._replace(
        vcpus=offer.vcpus if quote.vcpus is None else quote.vcpus,
        ram_bytes=offer.ram_bytes if quote.ram_bytes is None else quote.ram_bytes,
        disk_bytes=offer.disk_bytes if quote.disk_bytes is None else quote.disk_bytes,
    )
    if quote.odd_unit is not None:
        return offer
    usd = quote.usd_per_hour
    if usd is not None and offer.per_gpu:
        usd *= offer.num_gpus
    return offer._replace(usd_per_hour=usd, price_source=answer.source, price_as_of=answer.as_of[:10], price_method="live")


def _same_machine(quote: Quote, offer: Offer, catalogue: Catalogue) -> bool:
    """Whether the answer means what the catalogue knows under this name."""
    if quote.num_gpus is not None and quote.num_gpus != offer.num_gpus and not offer.per_gpu:
        return False
    return gpu_named(quote, catalogue.gpus) in (None, offer.gpu)


def _new(quote: Quote, answer: PriceList, gpus: Mapping[str, Gpu]) -> Offer | Unplanned:
    """What the catalogue does not know: an offer if its GPU is known, else a line that says why not."""
    gpu = gpu_named(quote, gpus)
    why = None
    if quote.num_gpus is None:
        why = "cannot estimate: the place does not say how many GPUs it has"
    elif gpu is None:
        why = f"{_UNKNOWN_GPU} {quote.gpu or ''}".rstrip()
    if gpu is None or quote.num_gpus is None or why is not None:
        return Unplanned(answer.target, quote, answer.source, answer.as_of[:10], "live", why or _UNKNOWN_GPU)
    return Offer(
        target=answer.target, flavor=quote.flavor, gpu=gpu, num_gpus=quote.num_gpus, vcpus=quote.vcpus, ram_bytes=quote.ram_bytes,
        disk_bytes=quote.disk_bytes, usd_per_hour=quote.usd_per_hour, price_source=answer.source, price_as_of=answer.as_of[:10],
        price_method="live", per_gpu=quote.per_gpu,
    )


def _withdrawn(offer: Offer, answer: PriceList) -> list[Unplanned]:
    """A flavor that the answer lacks; of a GPU that is sold singly one line stands for all counts."""
    if offer.per_gpu and offer.num_gpus > 1:
        return []
    quote = Quote(offer.flavor, offer.usd_per_hour, offer.gpu, offer.num_gpus, None, offer.vcpus, offer.ram_bytes, offer.disk_bytes,
                  offer.per_gpu)
    return [Unplanned(offer.target, quote, offer.price_source, offer.price_as_of, offer.price_method,
                      f"{NOT_OFFERED}: not in the prices of {answer.as_of[:10]}", gone=True)]


def gpu_named(quote: Quote, gpus: Mapping[str, Gpu]) -> str | None:
    """Id of the GPU that the answer names: by its name and, where several cards share it, by the memory of one. None: unknown.

    A place says `A100` and the memory where a driver says `NVIDIA A100-SXM4-80GB`: beside devices' own names, ids count, with and
    without the size at their end.
    """
    if quote.num_gpus == 0:
        return "cpu"
    if quote.gpu is None:
        return None
    each = quote.vram_bytes / quote.num_gpus if quote.vram_bytes and quote.num_gpus else None
    reported = devices.gpu_id(quote.gpu, each, gpus)
    if reported is not None:
        return reported
    name = devices.plain(quote.gpu.replace("_", " ")).removesuffix("gb")
    exact = [gpu for gpu in gpus.values() if devices.plain(gpu.id) == name]
    sized = [gpu for gpu in gpus.values() if gpu.id.rpartition("-")[2].isdigit() and devices.plain(gpu.id.rpartition("-")[0]) == name]
    for found in (exact, sized):
        near = [gpu for gpu in found if each is None or abs(gpu.memory_bytes.value / each - 1) <= _SAME_MEMORY]
        if len(near) == 1:
            return near[0].id
    return None


def _rules(rules: TargetRules, answer: PriceList | None) -> TargetRules:
    """The rules with the live rates of CPU and memory, each where the answer has it and the catalogue's is no newer."""
    if answer is None or rules.rates_method == "user":
        return rules

    def rate(old: Figure | None, new: Decimal | None) -> Figure | None:
        if old is None or new is None or not newer(answer, old.as_of):
            return old
        return Figure(float(new), answer.source, answer.as_of[:10])

    core, gib = rate(rules.usd_per_core_hour, answer.usd_per_core_hour), rate(rules.usd_per_gib_hour, answer.usd_per_gib_hour)
    if (core, gib) == (rules.usd_per_core_hour, rules.usd_per_gib_hour):
        return rules
    return rules._replace(usd_per_core_hour=core, usd_per_gib_hour=gib, rates_method="live")


def bare(catalogue: Catalogue) -> dict[tuple[str, str], Decimal | None]:
    """(target, flavor) -> dollars per hour as the place quotes it: of one GPU where those are sold singly; then the rates on top."""
    found: dict[tuple[str, str], Decimal | None] = {}
    for offer in catalogue.offers:
        if not offer.per_gpu or offer.num_gpus == 1:
            found[offer.target, offer.flavor] = offer.usd_per_hour
    for name, rules in catalogue.targets.items():
        for what, figure in zip(RATES, (rules.usd_per_core_hour, rules.usd_per_gib_hour), strict=True):
            if figure is not None:
                found[name, what] = Decimal(repr(figure.value))
    return found


def changes(before: Catalogue, after: Catalogue, targets: Iterable[str]) -> tuple[Change, ...]:
    """What is priced otherwise in `after`, what is new there, and what is gone, at these targets."""
    old, new, places = bare(before), bare(after), set(targets)
    odd = {(one.target, one.quote.flavor): one.quote.usd_per_hour for one in after.unplanned if not one.gone}
    seen = {(one.target, one.quote.flavor) for one in before.unplanned}
    found = []
    for key in [*old, *(key for key in {**new, **odd} if key not in old)]:
        if key[0] not in places or key in seen and key not in new:
            continue
        if key in new or key in odd:
            usd = new[key] if key in new else odd[key]
            if key not in old:
                found.append(Change(*key, None, usd, "new"))
            elif not _same(usd, old[key]):
                found.append(Change(*key, old[key], usd, ""))
        else:
            found.append(Change(*key, old[key], None, NOT_OFFERED))
    return tuple(found)


def _same(one: Decimal | None, other: Decimal | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) < _RESOLUTION
