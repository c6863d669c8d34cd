"""The log of a run on Modal, and what Modal billed for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from planner.errors import PlanError
from planner.job import ENDED, Handle
from planner.targets import _modal_api as api
from planner.targets import _modal_run as run
from planner.targets import modal as place

POLL_S, TRIES, LONGEST_PAUSE_S = 5.0, 12, 60.0
_LATE = timedelta(seconds=60)  # so much later than it was printed a line may become readable
_SKEW = timedelta(hours=1)  # between this machine's clock and Modal's; the call's log holds nothing older
_KEPT = timedelta(days=34)  # the client asks for at most 35 days


def lines(handle: Handle, *, follow: bool) -> Iterator[str]:
    """Modal hands out pieces with their time, not lines. Each look asks again for the last minute and takes what is new in it."""
    read, failures = _Reader(handle), 0
    while True:
        try:
            ended = not follow or _over(handle)  # asked first: what was printed before the end is in the look that follows
            yield from read.new()
            if ended:
                yield from read.rest()
                return
            failures = 0
            pause = POLL_S
        except PlanError as why:
            failures += 1
            if not follow or why.code not in api.TRANSIENT or failures > TRIES:
                raise
            pause = min(LONGEST_PAUSE_S, 2.0 ** (failures - 1))
        api.sleep(pause)


def _over(handle: Handle) -> bool:
    state = run.status(handle).state
    return state in ENDED or state == "unknown"


class _Reader:
    """The pieces so far: counted, because the same text may be printed twice at one time."""

    def __init__(self, handle: Handle) -> None:
        self._handle, self._since = handle, datetime.fromisoformat(handle["since"]) - _SKEW
        self._seen: Counter[tuple[datetime, str, str]] = Counter()
        self._open: dict[str, str] = {}  # stream -> the beginning of a line

    def new(self) -> Iterator[str]:
        now = datetime.now(timezone.utc)
        since = max(self._since, now - _KEPT)
        pieces = api.ask("send the log", lambda: self._pieces(since))
        again: Counter[tuple[datetime, str, str]] = Counter()
        for piece in pieces:
            again[piece] += 1
            if again[piece] > self._seen[piece]:
                yield from self._lines(piece[1], piece[2])
        if pieces:
            self._since = max(self._since, pieces[-1][0] - _LATE)
            self._seen = Counter({piece: count for piece, count in (self._seen | again).items() if piece[0] >= self._since})

    def rest(self) -> Iterator[str]:
        yield from filter(None, self._open.values())
        self._open = {}

    def _lines(self, stream: str, text: str) -> Iterator[str]:
        *whole, self._open[stream] = (self._open.get(stream, "") + text).split("\n")
        yield from whole

    async def _pieces(self, since: datetime) -> list[tuple[datetime, str, str]]:
        import modal

        call = self._handle["call_id"] or (await run.told_of(self._handle)).get("call")
        if not call:
            return []
        logs = modal.FunctionCall.from_id(call).logs
        return [(one.timestamp, str(one.source), one.message) async for one in logs.fetch.aio(since=since)]


def bill(handle: Handle) -> Decimal | None:
    """The app's rows of the billing report, which has whole hours: None before the hour of the run's end is over, and where the
    workspace or the token has no report.
    """
    from modal import exception

    async def report() -> list[Any] | None:
        import modal

        ended = await run.told_of(handle)
        if ended.get("state") not in ENDED:
            return None
        since = datetime.fromisoformat(handle["since"]).replace(minute=0, second=0, microsecond=0)
        until = datetime.fromtimestamp(ended["seen_at"], timezone.utc).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        if datetime.now(timezone.utc) < until:
            return None
        billing = modal.Workspace.from_context().billing
        try:
            return list(await billing.report.aio(start=since, end=until, resolution="h", tag_names=[place.LABEL]))
        except (exception.PermissionDeniedError, exception.UnimplementedError, exception.NotFoundError):
            return None

    rows = [row for row in api.ask("show the bill", report) or [] if row.object_id == handle["app_id"]
            or row.tags.get(place.LABEL) == handle["app"]]  # fmt: skip
    return sum((Decimal(str(row.cost)) for row in rows), Decimal(0)) if rows else None
