"""One run on Modal from its start to its end: an app of its own with one call, and a status file on the volume that outlives both."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

from planner import folders
from planner.errors import PlanError
from planner.job import ENDED, Handle, Job, Status
from planner.targets import _modal_api as api
from planner.targets import _modal_files as files
from planner.targets import modal as place

MODULE = "modal_training"  # the script's name here and in the container

_STOPPED = re.compile(r"cancel|terminat|stopp", re.IGNORECASE)


# ------------------------------------------------------------------------------------------ starting


def submit(job: Job) -> Handle:
    """Run the app of the very script that `emit` prints, and start its call. Nothing is paid for before the call is sent: an app
    without one ends by itself.
    """
    start = _Start(job)
    with _imported(_kept(job)) as module:
        try:
            asyncio.run(start.bounded(module))
        except Exception as error:
            if start.handle is None and start.sent and not api.refused(error):
                raise api.ambiguous(error, place.app_name(job)) from None
            if start.handle is None:
                raise api.explained(error, "start the run") from None
    handle: Handle | None = start.handle
    assert handle is not None
    return handle  # what fails after the call has its id changes nothing about the run


class _Start:
    """How far a submission has come: `sent` once its call may have left, `handle` once the call has its id."""

    def __init__(self, job: Job) -> None:
        self.job, self.sent = job, False
        self.handle: Handle | None = None

    async def bounded(self, module: ModuleType) -> None:
        called = asyncio.Event()
        going, waiting = asyncio.ensure_future(self._go(module, called)), asyncio.ensure_future(called.wait())
        try:
            await asyncio.wait({going, waiting}, timeout=api.BUILD_S, return_when=asyncio.FIRST_COMPLETED)
            if called.is_set():
                await asyncio.wait({going}, timeout=api.ANSWER_S)
            if not going.done() and not called.is_set():
                raise asyncio.TimeoutError
        finally:
            waiting.cancel()
            if not going.done():
                going.cancel()
        if going.done() and not going.cancelled():
            going.result()

    async def _go(self, module: ModuleType, called: asyncio.Event) -> None:
        async with module.app.run(detach=True):
            self.sent = True
            call = await asyncio.wait_for(module.train.spawn.aio(), api.START_S)
            if not call.object_id:
                raise ValueError("an answer without a call")
            self.handle = _handle(self.job, module.app.app_id, call.object_id, datetime.now(timezone.utc))
            called.set()


def find(job: Job) -> Handle | None:
    """By the app's name, which is the run's id, while the app lives; then by the status file. An app without a function has no call,
    and one without a call does not live on.
    """
    return api.ask("list its apps", lambda: _find(job))


async def _find(job: Job) -> Handle | None:
    from modal.types import AppState

    told = await files.told(*_where(job))
    ours = told if told and told.get("run") == job.labels[place.LABEL] else {}
    infos = [await app.info.aio() for app in await _live_apps(place.app_name(job))]
    living = [info for info in infos if info.lifecycle.state != AppState.STOPPING and info.functions]
    if living:
        newest = max(living, key=lambda info: info.lifecycle.created_at)
        call = ours.get("call") if ours.get("app") == newest.app_id else None
        return _handle(job, newest.app_id, call or "", newest.lifecycle.created_at)
    if ours.get("app"):
        return _handle(job, ours["app"], ours.get("call") or "", datetime.fromtimestamp(ours["began_at"], timezone.utc))
    return None


async def _live_apps(name: str) -> list[Any]:
    import modal

    every = await modal.Environment.from_context().apps.list.aio()
    return [app for app in every if app.description == name]


def _where(job: Job) -> tuple[str, str]:
    """The volume that receives the results, and their folder on it."""
    volume = next(volume.name for volume in job.volumes if volume.mount == place.OUTPUTS)
    return volume, job.output.where.removeprefix(place.OUTPUTS).strip("/")


def _handle(job: Job, app_id: str, call_id: str, since: datetime) -> Handle:
    volume, folder = _where(job)
    return {"app_id": app_id, "call_id": call_id, "app": place.app_name(job), "url": f"https://modal.com/id/{app_id}",
            "volume": volume, "folder": folder, "since": since.astimezone(timezone.utc).isoformat()}  # fmt: skip


def _kept(job: Job) -> Path:
    """The script that is launched, kept beside the ledger."""
    path = folders.state() / "modal" / place.app_name(job) / f"{MODULE}.py"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(place.emit(job), encoding="utf-8")
    return path


@contextlib.contextmanager
def _imported(path: Path) -> Iterator[ModuleType]:
    """The script as a module, under the name by which Modal's client looks it up; without a cached form beside it."""
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise api.explained(error, "take the job") from None
        yield module
    finally:
        sys.dont_write_bytecode = cached
        sys.modules.pop(MODULE, None)


# ------------------------------------------------------------------------------------------ as it is


def status(handle: Handle) -> Status:
    """What the call's result says; while there is none, and after Modal has forgotten it, the status file."""
    return api.ask("say how the run is", lambda: _status(handle))


async def _status(handle: Handle) -> Status:
    told = {} if handle["call_id"] else await told_of(handle)  # the container writes down which call it has
    call = handle["call_id"] or told.get("call")
    said = await _said(call) if call else Status("queued") if await _live_apps(handle["app"]) else None
    if said is None or not said.ended:
        told = told or await told_of(handle)
    else:
        with contextlib.suppress(Exception):  # how it ended is known; how long it took is not then
            told = told or await told_of(handle)
    if said is None and told.get("state") in ENDED:
        said = Status(told["state"], _first_line(told["message"]))
    elif said is None:
        said = (Status("unknown", "Modal does not know this call any more, or not for this token") if call
                else Status("failed", "its app has ended and had no call: it never started"))  # fmt: skip
    elif said.state == "queued" and told.get("state") in ("running", *ENDED):
        said = Status("running")  # a result that is there in a moment, too
    elif said.state == "queued" and told.get("state") == "interrupted":
        said = Status("queued", "it was interrupted and starts again")
    waited = told["began_at"] - datetime.fromisoformat(handle["since"]).timestamp() if "began_at" in told else None
    return said._replace(waiting_s=None if waited is None else max(0.0, waited), running_s=told.get("spent_s"),
                         exit_code=told.get("exit_code") if said.ended else None)  # fmt: skip


async def _said(call_id: str) -> Status | None:
    """What Modal has of a call: its end, else `queued`; None where it has forgotten the call. The order of the excepts matters."""
    import modal
    from modal import exception

    try:
        result = await modal.FunctionCall.from_id(call_id).get.aio(timeout=0)
    except (exception.OutputExpiredError, exception.NotFoundError):
        return None
    except exception.FunctionTimeoutError:
        return Status("timed_out", "its timeout is over")
    except TimeoutError:  # Python's own: there is no result yet. The function itself raises no such thing
        return Status("queued")
    except exception.ImageBuildError:
        raise
    except exception.RemoteError as error:  # ended by Modal: on somebody's wish, or without memory
        said = api.redacted(str(error))
        return Status("cancelled" if not said or _STOPPED.search(said) else "failed", said or None)
    except exception.InternalFailure as error:
        return Status("failed", f"Modal failed: {api.redacted(str(error))}")
    except RuntimeError as error:  # the function's own
        if isinstance(error, exception.Error):
            raise
        text = str(error)
        return Status("timed_out" if text.startswith("stopped after ") else "failed", _first_line(text))
    if not (isinstance(result, dict) and result.get("finished") is True):
        raise ValueError("an answer without a result")
    return Status("succeeded")


def _first_line(text: str | None) -> str | None:
    return api.redacted(text.partition("\n")[0].rstrip(":")) if text else None


async def told_of(handle: Handle) -> dict[str, Any]:
    """The status file, where it is of this app."""
    told = await files.told(handle["volume"], handle["folder"])
    return told if told and told.get("app") == handle["app_id"] else {}


def cancel(handle: Handle) -> None:
    """Cancel the call, without another attempt; of a run that was found without its call, stop the app."""
    try:
        api.ask("stop the run", lambda: _cancel(handle))
    except PlanError as why:
        try:
            ended = status(handle).ended
        except PlanError:
            ended = False
        if not ended:
            raise why from None


async def _cancel(handle: Handle) -> None:
    import modal

    call = handle["call_id"] or (await told_of(handle)).get("call")
    if call:
        await modal.FunctionCall.from_id(call).cancel.aio()
    else:
        for app in await _live_apps(handle["app"]):
            await app.stop.aio()
