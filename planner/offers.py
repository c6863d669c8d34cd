"""Which offers a search allows, by the names people use for GPUs and flavors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from planner import devices, feeds, owned, prices
from planner.errors import NothingOffered, UsageError
from planner.records import Lot, Offer, Unplanned
from planner.resolve import nearest
from planner.workload import Training

if TYPE_CHECKING:
    from planner.records import Catalogue
    from planner.request import Machine, Search


def allowed(training: Training, search: Search, catalogue: Catalogue, machine: Machine) -> list[Offer]:
    """What can be rented, and what `machine` has. A GPU that is neither is planned as local where it is named.

    UsageError where neither these nor the feed have anything.
    """
    targets = tuple(catalogue.targets)
    for target in search.targets:
        if target not in targets:
            raise UsageError("usage", f"--target {target}: {nearest(target, targets)}")
    names = [_named(name, catalogue) for name in search.gpus]
    num_gpus = search.num_gpus or training.launcher_gpus

    def asked(offer: Offer) -> bool:
        if search.targets and offer.target not in search.targets or num_gpus not in (None, offer.num_gpus):
            return False
        if not names:
            return offer.num_gpus > 0
        return any(name.covers(offer) for name in names)

    every = prices.priced(catalogue, training)
    every += [offer for name in names if name.spelled for offer in _spelled(name, every)]
    numbers = {n for n in (num_gpus, *(name.number for name in names)) if n}
    every += _more(every, numbers, catalogue, training)
    every += owned.offers(machine, catalogue, search.usd_per_kwh, numbers)
    offers = [offer for offer in every if asked(offer)]
    rented = _rented(catalogue)
    have = {(offer.gpu, offer.num_gpus) for offer in offers if offer.target == "local"}
    for name in names:
        wanted = (name.gpu, num_gpus or name.number or 1)
        if name.gpu and wanted not in have and ("local" in search.targets or (name.gpu not in rented and not search.targets)):
            offers.append(owned.offer(name.gpu, wanted[1], machine, catalogue, search.usd_per_kwh))
    if not offers and not fed(training, search, catalogue):
        raise NothingOffered("usage", _no_offer(search, training, machine, catalogue))
    return offers


def unplanned(search: Search, catalogue: Catalogue) -> tuple[Unplanned, ...]:
    """What the places asked for list, or listed, and no plan can use; nothing where GPUs are named, for those are known."""
    if search.gpus:
        return ()
    return tuple(one for one in catalogue.unplanned
                 if (not search.targets or one.target in search.targets) and search.num_gpus in (None, one.quote.num_gpus))


def fed(training: Training, search: Search, catalogue: Catalogue) -> list[Lot]:
    """Those of the feed, without their prices' CPU and memory."""
    if not catalogue.feed:
        return []
    names = [_named(name, catalogue) for name in search.gpus]
    num_gpus = search.num_gpus or training.launcher_gpus
    found: list[Lot] = []
    for lot in catalogue.feed:
        if search.targets and lot.target not in search.targets or num_gpus not in (None, lot.num_gpus):
            continue
        asked = [name for name in names if name.number in (None, lot.num_gpus)]
        if not names or any(name.gpu == lot.gpu for name in asked):
            found.append(lot)
        else:
            part = feeds.only(lot, [name.flavor for name in asked if name.flavor])
            found += [part] if part else []
    return found


def _spelled(name: _Named, offers: list[Offer]) -> list[Offer]:
    """A provider's own spelling is kept: H100! is an H100 that is not upgraded, B200+ may be a B300."""
    return [offer._replace(flavor=name.flavor) for offer in offers if offer.flavor == name.spelled and name.flavor]


def _more(offers: list[Offer], numbers: set[int], catalogue: Catalogue, training: Training) -> list[Offer]:
    """Where GPUs are sold singly any number up to the most can be had; the catalogue lists the usual ones."""
    found = []
    for one in [offer for offer in offers if offer.per_gpu and offer.num_gpus == 1]:
        listed = {offer.num_gpus for offer in offers if (offer.target, offer.flavor) == (one.target, one.flavor)}
        bare = next(offer for offer in catalogue.offers if (offer.target, offer.gpu, offer.num_gpus) == (one.target, one.gpu, 1))
        for number in sorted(numbers - listed):
            if number < max(listed):
                usd = None if bare.usd_per_hour is None else bare.usd_per_hour * number
                more = bare._replace(flavor=one.flavor, num_gpus=number, usd_per_hour=usd)
                found.append(prices.priced_offer(more, catalogue, training))
    return found


class _Named(NamedTuple):
    """What `--gpu NAME` asks for: a GPU of the catalogue or one flavor, and how many where it says so."""

    gpu: str | None
    flavor: str | None
    number: int | None
    spelled: str | None = None  # the listed flavor that `flavor` is another spelling of

    def covers(self, offer: Offer) -> bool:
        return (offer.gpu == self.gpu or offer.flavor == self.flavor) and self.number in (None, offer.num_gpus)


def _named(name: str, catalogue: Catalogue) -> _Named:
    """Spellings such as A100-80GB, `NVIDIA L4` and L40S:2 are understood.

    A name that is both goes to what can be rented: Modal's A10 is not the A10 but an A10G.
    """
    text, _, number = name.partition(":")
    if number and not (number.isdigit() and 0 < int(number) < 1000):
        raise UsageError("gpu", f"--gpu {name}: expected NAME or NAME:COUNT")
    count = int(number) if number else None

    def plain(text: str) -> str:
        text = text.lower().strip().removeprefix("nvidia").strip().removeprefix("geforce")
        return "".join(character for character in text if character.isalnum()).removesuffix("gb")

    for alias, flavor in catalogue.aliases.items():
        if text.strip().lower() == alias.lower():
            return _Named(None, alias, count, flavor)
    gpus = {plain(gpu): gpu for gpu in catalogue.gpus}
    flavors = {plain(offer.flavor): offer.flavor for offer in catalogue.offers}
    flavors |= {plain(alias): flavor for alias, flavor in catalogue.aliases.items()}
    rented = _rented(catalogue)
    wanted = plain(text)
    if wanted in gpus and (gpus[wanted] in rented or wanted not in flavors):
        return _Named(gpus[wanted], None, count)
    if wanted in flavors:
        return _Named(None, flavors[wanted], count)
    for one in catalogue.unplanned:
        if plain(one.quote.flavor) == wanted:
            raise UsageError("gpu", f"--gpu {name}: {one.id}: {one.why}; `plan prices` lists what there is")
    if any(feeds.has(lot, text) for lot in catalogue.feed):  # as it is written there
        return _Named(None, text, count)
    same = [gpu.id for gpu in devices.named(text, catalogue.gpus)]
    if len(same) == 1:
        return _Named(same[0], None, count)
    if same:
        raise UsageError("gpu", f"--gpu {name}: there are several, with different memory: {' or '.join(same)}")
    raise UsageError("gpu", f"--gpu {name}: {nearest(wanted, sorted(catalogue.gpus))} (`plan gpus` lists them)")


def _rented(catalogue: Catalogue) -> set[str]:
    return {offer.gpu for offer in catalogue.offers} | {lot.gpu for lot in catalogue.feed}


def _no_offer(search: Search, training: Training, machine: Machine, catalogue: Catalogue) -> str:
    if "local" in search.targets and not search.gpus and not owned.found(machine, catalogue):
        why = "; ".join(text for _, text in owned.remarks(machine, catalogue)) or "no GPU was found on this machine"
        return f"--target local: {why}; name a card with --gpu, for example --gpu rtx4090, or plan for the processor with --gpu cpu"
    said = [f"--target {target}" for target in search.targets] + [f"--gpu {name}" for name in search.gpus]
    said += [f"--num-gpus {search.num_gpus}"] if search.num_gpus else []
    said += [f"a launcher with {training.launcher_gpus} processes"] if training.launcher_gpus and not search.num_gpus else []
    return f"nothing is offered for {' and '.join(said) or 'this command'}; leave one out, or see `plan gpus`"
