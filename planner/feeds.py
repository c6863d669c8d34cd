"""Offers by the thousand: the same GPUs at one place held together, cheapest first, taken apart only where somebody looks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import repeat

from planner.records import Lot, Offer

#: Offers in YAML that are held as a feed from this number on.
FOLDED_FROM = 1000


def folds(offer: Offer) -> bool:
    """Whether it can be held so: a user's own, one machine at one price, named by one word."""
    words = (offer.flavor, offer.price_source or "", offer.price_as_of or "")
    return offer.price_method == "user" and offer.num_gpus > 0 and not offer.per_gpu and not any(" " in word for word in words)


def fold(offers: Iterable[Offer]) -> tuple[Lot, ...]:
    """The offers, all of which `folds`, as columns."""
    groups: dict[tuple[str, str, int, bool], list[Offer]] = {}
    for offer in offers:
        groups.setdefault((offer.target, offer.gpu, offer.num_gpus, offer.usd_per_hour is not None), []).append(offer)
    return tuple(_lot(group) for group in groups.values())


def _lot(offers: list[Offer]) -> Lot:
    offers.sort(key=lambda offer: (offer.usd_per_hour or 0, offer.flavor))
    first = offers[0]
    origins = [f"{offer.price_source or ''}={offer.price_as_of or ''}" for offer in offers]
    return Lot(
        first.target, first.gpu, first.num_gpus, len(offers), min((o.disk_bytes for o in offers if o.disk_bytes is not None), default=None),
        flavors=" ".join(offer.flavor for offer in offers),
        prices="" if first.usd_per_hour is None else " ".join(str(offer.usd_per_hour) for offer in offers),
        hosts=" ".join("/".join("" if part is None else str(part) for part in (o.vcpus, o.ram_bytes, o.disk_bytes)) for o in offers),
        origins=origins[0] if len(set(origins)) == 1 else " ".join(origins),
    )


def offers(lot: Lot, distinct: bool = False) -> Iterator[Offer]:
    """The lot's offers, cheapest first; where `distinct`, only the cheapest of each host."""
    prices = _words(lot.prices) if lot.prices else repeat("")
    origins = _words(lot.origins) if " " in lot.origins else repeat(lot.origins)
    seen = set()
    for flavor, host, price, origin in zip(_words(lot.flavors), _words(lot.hosts), prices, origins, strict=False):
        if distinct:
            if host in seen:
                continue
            seen.add(host)
        vcpus, ram, disk = host.split("/")
        source, _, as_of = origin.partition("=")
        yield Offer(
            lot.target, flavor, lot.gpu, lot.num_gpus,
            float(vcpus) if vcpus else None, int(ram) if ram else None, int(disk) if disk else None,
            Decimal(price) if price else None, source or None, as_of or None, "user",
        )


def _words(column: str) -> Iterator[str]:
    """The words of a column; those at its end cost nothing until they are asked for."""
    chunk = 16
    while True:
        *words, column = column.split(" ", chunk)
        yield from words
        if len(words) < chunk:
            yield column
            return
        chunk *= 2


def first(lot: Lot) -> Offer:
    """The cheapest."""
    return _end(lot, lambda column: column.partition(" ")[0])


def ends(lot: Lot) -> list[Offer]:
    """The cheapest and the dearest; one where there is but one."""
    return [first(lot), _end(lot, lambda column: column.rpartition(" ")[2])][: lot.number]


def _end(lot: Lot, word: Callable[[str], str]) -> Offer:
    columns = (word(column) for column in (lot.flavors, lot.prices, lot.hosts, lot.origins))
    return next(offers(Lot(lot.target, lot.gpu, lot.num_gpus, 1, lot.disk_bytes, *columns)))


def has(lot: Lot, flavor: str) -> bool:
    return f" {flavor} " in f" {lot.flavors} "


def only(lot: Lot, flavors: Iterable[str]) -> Lot | None:
    """The lot with these flavors alone; None where it has none of them."""
    wanted = {flavor for flavor in flavors if has(lot, flavor)}
    return _lot([offer for offer in offers(lot) if offer.flavor in wanted]) if wanted else None


def origins(lot: Lot) -> set[tuple[str, str]]:
    """(source, date) of its prices."""
    pairs = (origin.partition("=") for origin in set(lot.origins.split(" ")))
    return {(source, as_of) for source, _, as_of in pairs}
