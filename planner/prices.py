"""What an hour costs: the catalogue's prices, with CPU and memory added where a target sells them apart; and how old they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from math import ceil

from planner import feeds
from planner.errors import PricesTooOld
from planner.plans import Plan, Price
from planner.records import Catalogue, Lot, Offer
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
    dated = None if rules.rates_method == "user" else min(rules.usd_per_core_hour.as_of, rules.usd_per_gib_hour.as_of)
    placed = offer._replace(vcpus=2.0 * cores, ram_bytes=ram, rates_as_of=dated)
    if offer.usd_per_hour is None:
        return placed
    return placed._replace(usd_per_hour=offer.usd_per_hour + sum(usd for _, usd in extra), price_parts=((gpu, offer.usd_per_hour), *extra))


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def used(offers: list[Offer], catalogue: Catalogue, feed: Iterable[Lot] = ()) -> tuple[Price, ...]:
    """The price lists behind these offers: one a target, source and date; the rates of CPU and memory count where they are sold apart."""
    seen = {
        (offer.target, offer.price_source or "", offer.price_as_of or "", offer.price_method)
        for offer in offers if offer.usd_per_hour is not None
    }
    seen |= {(lot.target, *origin, "user") for lot in feed if lot.prices for origin in feeds.origins(lot)}
    for target in {key[0] for key in seen}:
        rules = catalogue.targets[target]
        seen |= {(target, rate.source, rate.as_of, _method(rate.source, rules.price_list, rules.rates_method))
                 for rate in (rules.usd_per_core_hour, rules.usd_per_gib_hour) if rate is not None}
    return tuple(Price(*key) for key in sorted(seen))


def _method(source: str, price_list: str | None, rates_method: str) -> str:
    """How one of the two rates got here: where only one of them is live the other is still bundled."""
    return rates_method if rates_method != "live" or source == price_list else "bundled"


# ------------------------------------------------------------------------------------------ age

#: Days after which a price is mentioned, and after which nothing is launched at it.
WARN_DAYS, LAUNCH_DAYS = 30.0, 90.0


def age_days(as_of: str, now: datetime) -> int | None:
    """Whole days from an ISO date to `now` (UTC), 0 for one to come; a year counts from its first day. None: undated."""
    text = as_of[:10]
    for padded in (text, text[:7] + "-01", text[:4] + "-01-01"):
        try:
            return max(0, (now.date() - date.fromisoformat(padded)).days)
        except ValueError:
            continue
    return None


def age_warning(prices: Iterable[Price], now: datetime, max_age_days: float | None = None) -> tuple[str, str] | None:
    """(code, text) of one line about all price lists that are old; the user's own prices are the user's to look after."""
    limit = LAUNCH_DAYS if max_age_days is None else max_age_days
    oldest: dict[str, float] = {}
    for price in prices:
        if price.method != "user":
            days = age_days(price.as_of, now)
            oldest[price.target] = max(oldest.get(price.target, 0), float("inf") if days is None else days)
    words: list[str] = []
    for target, age in oldest.items():
        if age > min(WARN_DAYS, limit):
            told = "undated" if age == float("inf") else f"{age:.0f}" if words else f"{age:.0f} days old"
            words.append(f"{target} {told}{f' (over {limit:g}: no launch)' if age > limit else ''}")
    return ("price-age", f"prices: {', '.join(words)}: plan prices --refresh") if words else None


def too_old(plan: Plan, now: datetime, max_age_days: float | None = None) -> PricesTooOld | None:
    """Why the recommended row of this plan must not be launched at its price; None where it may be.

    Its price has to be known, with a date at most `max_age_days` [90] before `now` (UTC). A price that the user gave has no
    age, and a machine of one's own no price.
    """
    if plan.recommended is None or plan.recommended.target == "local":
        return None
    row, limit = plan.recommended.id, LAUNCH_DAYS if max_age_days is None else max_age_days
    offer = plan.estimate(row).offer
    if offer.usd_per_hour is None:
        return PricesTooOld("price-unknown", f"{row} has no price, so nothing says what it may cost: "
                            "plan prices --refresh, or take another row")
    parts = [offer.price_as_of or ""] if offer.price_method != "user" else []
    for as_of in [*parts, *([offer.rates_as_of] if offer.rates_as_of else [])]:
        days = age_days(as_of, now)
        if days is None:
            return PricesTooOld("price-age", f"{row}: its price has no date, and a launch needs one: plan prices --refresh")
        if days > limit:
            return PricesTooOld("price-age", f"{row}: its price is {days} days old ({as_of}), and a launch takes at most {limit:g}: "
                                f"plan prices --refresh, or --max-price-age {days}")
    return None
