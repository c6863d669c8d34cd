"""Every price side by side: as bundled, as live, and which of the two a plan uses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from planner import overlay, prices
from planner.errors import PlanError
from planner.overlay import RATES, Change
from planner.plans import Price
from planner.records import BillingRule, Catalogue, PriceList


class Entry(NamedTuple):
    """A price as one side states it: dollars per hour, None where it states none."""

    usd_per_hour: Decimal | None
    source: str | None
    as_of: str | None
    method: str  # bundled, live, user


class Line(NamedTuple):
    """One flavor, or one of overlay.RATES: of one GPU, core or GiB where those are sold singly."""

    target: str
    what: str
    gpu: str | None  # id in the catalogue, or the place's words
    num_gpus: int | None
    vram_bytes: int | None  # of all GPUs together, as the place states it
    bundled: Entry | None  # the catalogue's, which may be the user's own
    live: Entry | None
    used: Entry | None  # what a plan counts with; None: it cannot be planned
    note: str  # why not, or why the live price is not used
    gone: bool = False  # not offered any more

    @property
    def share(self) -> Decimal | None:
        """The difference as a part of the bundled price."""
        if self.difference is None or self.bundled is None or not self.bundled.usd_per_hour:
            return None
        return self.difference / self.bundled.usd_per_hour

    @property
    def difference(self) -> Decimal | None:
        """Live less bundled."""
        if self.bundled is None or self.live is None or self.bundled.usd_per_hour is None or self.live.usd_per_hour is None:
            return None
        return self.live.usd_per_hour - self.bundled.usd_per_hour


class PriceBook(NamedTuple):
    """All prices of some places."""

    targets: tuple[tuple[str, str], ...]  # id, title
    lines: tuple[Line, ...]
    rules: tuple[tuple[str, BillingRule], ...]  # (target, rule) beside the rates
    changes: tuple[Change, ...]  # by the refresh that was asked for
    refreshed: tuple[str, ...]  # the places that answered it
    warnings: tuple[tuple[str, str], ...]
    errors: tuple[tuple[str, PlanError], ...]  # the places that did not, and why


def book(
    catalogue: Catalogue, targets: tuple[str, ...], before: Mapping[str, PriceList], after: Mapping[str, PriceList],
    errors: tuple[tuple[str, PlanError], ...], now: datetime,
) -> PriceBook:
    """`before` and `after` are the answers that were cached and those that count now; they differ where one was just fetched."""
    laid = overlay.laid_over(catalogue, after)
    lines = [line for target in targets for line in _lines(catalogue, laid, target, after.get(target))]
    used = {Price(line.target, line.used.source or "", line.used.as_of or "", line.used.method)
            for line in lines if line.used is not None and line.used.usd_per_hour is not None}
    aged = prices.age_warning(sorted(used), now)
    remarks = [("price-unit", remark) for target in targets if target in after for remark in after[target].remarks]
    return PriceBook(
        targets=tuple((target, catalogue.targets[target].title) for target in targets),
        lines=tuple(lines),
        rules=tuple((target, rule) for target in targets for rule in catalogue.targets[target].billing
                    if rule.name not in ("cpu price", "memory price")),
        changes=overlay.changes(overlay.laid_over(catalogue, before), laid, targets),
        refreshed=tuple(target for target in targets if target in after and after[target] is not before.get(target)),
        warnings=(*remarks, *([aged] if aged else [])),
        errors=errors,
    )


def _lines(catalogue: Catalogue, laid: Catalogue, target: str, answer: PriceList | None) -> list[Line]:
    quotes = {quote.flavor: quote for quote in answer.quotes} if answer else {}
    old = {offer.flavor: offer for offer in reversed(catalogue.offers) if offer.target == target}  # of several counts the first
    new = {offer.flavor: offer for offer in reversed(laid.offers) if offer.target == target}
    out = {one.quote.flavor: one for one in laid.unplanned if one.target == target}
    found = []
    for flavor in [*reversed(old), *(flavor for flavor in quotes if flavor not in old and flavor not in catalogue.aliases)]:
        offer, quote = old.get(flavor), quotes.get(flavor)
        bundled = offer and Entry(offer.usd_per_hour, offer.price_source, offer.price_as_of, offer.price_method)
        live = Entry(quote.usd_per_hour, answer.source, answer.as_of[:10], "live") if quote and answer else None
        now = new.get(flavor)
        used = now and Entry(now.usd_per_hour, now.price_source, now.price_as_of, now.price_method)
        machine = now or offer
        found.append(Line(
            target, flavor, machine.gpu if machine else quote.gpu if quote else None,
            machine.num_gpus if machine else quote.num_gpus if quote else None, quote.vram_bytes if quote else None, bundled, live, used,
            out[flavor].why if flavor in out else _note(bundled, live, used, quote.odd_unit if quote else None),
            flavor in out and out[flavor].gone,
        ))
    return [*found, *_rates(catalogue, laid, target, answer)]


def _note(bundled: Entry | None, live: Entry | None, used: Entry | None, odd_unit: str | None) -> str:
    if odd_unit is not None:
        return f"sold by the {odd_unit!r}, an unknown unit"
    if used is None or used.usd_per_hour is None:
        return "cannot price"
    if bundled is None:
        return "new"
    if used.method == "user":
        return "your price"
    return "live is older than bundled" if live is not None and used.method != "live" else ""


def _rates(catalogue: Catalogue, laid: Catalogue, target: str, answer: PriceList | None) -> list[Line]:
    old, new = catalogue.targets[target], laid.targets[target]
    found = []
    figures = ((old.usd_per_core_hour, new.usd_per_core_hour, answer and answer.usd_per_core_hour),
               (old.usd_per_gib_hour, new.usd_per_gib_hour, answer and answer.usd_per_gib_hour))
    for what, (before, now, stated) in zip(RATES, figures, strict=True):
        if before is None or now is None:
            continue
        live = Entry(stated, answer.source, answer.as_of[:10], "live") if answer and stated is not None else None
        method = new.rates_method if now.source == new.price_list else old.rates_method
        bundled, used = (
            Entry(Decimal(repr(figure.value)), figure.source, figure.as_of, how)
            for figure, how in ((before, old.rates_method), (now, method))
        )
        found.append(Line(target, what, None, None, None, bundled, live, used, _note(bundled, live, used, None)))
    return found
