"""`plan calibrate LOG…`: what training logs measured, beside the prediction, kept for the plans to come."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.commands import terminal
from planner.commands.options import JSON, LOG, Request, takes
from planner.errors import UsageError

if TYPE_CHECKING:
    from planner.calibrate import Result
    from planner.estimate import Estimator
    from planner.metadata import Dataset
    from planner.records import Catalogue
    from planner.trainlog import Log, Steady

STDIN = "-"
MAX_BYTES = 256 * 2**20  # a log of a week with its progress bar is a tenth of this


@takes(LOG, JSON)
def run(
    request: Request,
    logs: list[str] = typer.Argument(  # noqa: B008  (how typer declares it)
        None, metavar="LOG…", help="Training logs of LeRobot, TRL or SkyRL, gzip or not; - reads stdin.", show_default=False
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show it; keep nothing.", show_default=False),
) -> int:
    if not logs:
        raise UsageError("usage", "which log? plan calibrate train.log (- reads stdin)")
    from planner import catalogue, ownruns
    from planner.show import calibration

    user = catalogue.user_dir()
    known = catalogue.load()
    results = _results(request, logs, known)
    added = frozenset(() if dry_run else ownruns.add({one.id: one.row for one in results}, user))
    path = None if dry_run else user / ownruns.FILE
    if request.json:
        terminal.write_json(calibration.document_of(results, added, path))
    else:
        terminal.write(calibration.calibration(results, added, path, **terminal.style()))
    return 0


def _results(request: Request, names: list[str], known: Catalogue) -> list[Result]:
    """Every log once, in the order given. UsageError names the first that cannot be read, and nothing is kept."""
    from hashlib import sha256

    from planner import calibrate

    said = calibrate.Said(
        request.workload.policy, request.workload.batch_size, request.workload.cameras, request.gpu, request.search.num_gpus
    )
    read: dict[str, tuple[str, str, Log, Steady]] = {}
    results = []
    name = ""
    try:
        for name in names:
            content = _content(name)
            log, steady = _read(content, request.pattern)
            digest = sha256(content).hexdigest()
            read.setdefault(calibrate.row_id(log, digest), (name, digest, log, steady))
        estimator = _unaware(known, frozenset(read))
        for name, digest, log, steady in read.values():
            file = "stdin" if name == STDIN else Path(name).name.encode("utf-8", "replace").decode()
            results.append(calibrate.result(file, digest, log, steady, said, estimator, _dataset(log)))
    except UsageError as error:
        raise error if error.code == "pattern" else UsageError(error.code, f"{_shown(name)}: {error.text}") from None
    return results


def _shown(name: str) -> str:
    return "stdin" if name == STDIN else name


def _read(content: bytes, pattern: str | None) -> tuple[Log, Steady]:
    from planner import trainlog

    log = trainlog.read(content.decode("utf-8", "replace"), pattern)
    return log, trainlog.steady(log)


def _content(name: str) -> bytes:
    """The log's bytes, unpacked where they are gzip; what an interrupted gzip file still holds is taken."""
    try:
        if name == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1) if sys.stdin is not None else b""
        else:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UsageError("log", "is a folder; name the log in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = getattr(error, "strerror", None) or "no such file"
        raise UsageError("log", f"cannot be read: {reason[:1].lower()}{reason[1:]}") from None
    out = b""
    while raw.startswith(b"\x1f\x8b"):  # gzip files may follow one another
        unpacked = zlib.decompressobj(wbits=31)
        try:
            out += unpacked.decompress(raw, MAX_BYTES + 1 - len(out))
        except zlib.error:
            raise UsageError("log", "is a damaged gzip file: unpack it by hand as far as it goes") from None
        raw = b"" if len(out) > MAX_BYTES else unpacked.unused_data
    if len(out or raw) > MAX_BYTES:
        raise UsageError("log", f"is larger than {MAX_BYTES // 2**20} MiB: give its last part, with the configuration in front")
    return out or raw


def _unaware(known: Catalogue, ids: frozenset[str]) -> Estimator:
    """The estimator of someone who has not seen these runs."""
    from planner.catalogue import data_dir
    from planner.estimate import Estimator
    from planner.evidence import load_calibration

    if any(run.id in ids for run in known.runs):
        known = known._replace(runs=tuple(run for run in known.runs if run.id not in ids), digest="")
    return Estimator(known, load_calibration(known, data_dir()))


def _dataset(log: Log) -> Dataset | None:
    """The run's dataset, where it lies on this machine: in the folder that the log names, or in LeRobot's cache."""
    from planner import datasets

    root, name = log.setting("dataset", "root"), log.setting("dataset", "repo_id")
    home = os.environ.get("HF_LEROBOT_HOME") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface", "lerobot")
    for folder in (root, str(Path(home, name)) if isinstance(name, str) and ".." not in name else None):
        if isinstance(folder, str) and datasets.exists(str(Path(folder, "meta", "info.json"))):
            try:
                return datasets.read_local(folder)
            except UsageError:  # the log is what counts; without the dataset it takes a flag more
                continue
    return None
