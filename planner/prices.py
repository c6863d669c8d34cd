"""What an hour costs: the catalogue's prices, with CPU and memory added where a target sells them apart. Pure."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from planner.plans import Price
from planner.records import Catalogue, Offer
from planner.units import GIB
from planner.workload import Training

#: Host memory of the trainer without weights and batches: Python, torch, CUDA libraries, dataset tables.
BASE_RAM_BYTES = 4 * 10**9
_PREFETCH = {"0.4.4": 2}  # batches per worker; 4 since 0.6


def host_ram_bytes(training: Training, num_gpus: int) -> int:
    """Host memory a run needs: one copy of the weights while loading, and the loader's queue, per process."""
    frame_bytes = 4 if training.lerobot == "0.4.4" else 1
    sample = sum(3e6 * camera.megapixels for camera in training.cameras) * training.policy.observation_steps * frame_bytes
    queue = training.num_workers * _PREFETCH.get(training.lerobot, 4) * training.batch_size * sample
    return int(BASE_RAM_BYTES + num_gpus * (1.1 * training.policy.download_bytes + queue))


def requested_cores(training: Training, num_gpus: int) -> int:
    """Physical cores to ask for where they are sold apart: every loader worker and every main process has one."""
    return num_gpus * (training.num_workers + 1)


def requested_ram_bytes(training: Training, num_gpus: int) -> int:
    """Host memory to ask for where it is sold apart: half as much again as needed, in steps of 8 GiB, at least 16."""
    return max(16, 8 * ceil(1.5 * host_ram_bytes(training, num_gpus) / (8 * GIB))) * GIB


def priced(catalogue: Catalogue, training: Training) -> list[Offer]:
    """Every offer with the whole hourly price of running this workload on it."""
    return [priced_offer(offer, catalogue, training) for offer in catalogue.offers]


def priced_offer(offer: Offer, catalogue: Catalogue, training: Training) -> Offer:
    """One offer with its whole hourly price and what it is made of."""
    rules = catalogue.targets[offer.target]
    gpu = f"{offer.num_gpus} × {catalogue.gpus[offer.gpu].name}" if offer.num_gpus else offer.flavor
    if rules.usd_per_core_hour is None or rules.usd_per_gib_hour is None:
        parts = ((gpu, offer.usd_per_hour),) if offer.usd_per_hour is not None else ()
        return offer._replace(price_parts=parts)
    cores = requested_cores(training, offer.num_gpus)
    ram = requested_ram_bytes(training, offer.num_gpus)
    extra = (
        (f"{cores} CPU cores", _decimal(rules.usd_per_core_hour.value) * cores),
        (f"{ram // GIB} GiB of memory", _decimal(rules.usd_per_gib_hour.value) * (ram // GIB)),
    )
    placed = offer._replace(vcpus=2.0 * cores, ram_bytes=ram)
    if offer.usd_per_hour is None:
        return placed
    return placed._replace(usd_per_hour=offer.usd_per_hour + sum(usd for _, usd in extra), price_parts=((gpu, offer.usd_per_hour), *extra))


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def used(offers: list[Offer]) -> tuple[Price, ...]:
    """The price lists behind these offers: one a target, source and date."""
    seen = {
        (offer.target, offer.price_source or "", offer.price_as_of or "", offer.price_method)
        for offer in offers if offer.usd_per_hour is not None
    }
    return tuple(Price(*key) for key in sorted(seen))
