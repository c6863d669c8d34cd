#!/usr/bin/env python
"""What training each LeRobot policy costs: writes data/profiles.csv, on a CPU, without weights and without a network.

    python tools/profile_policies.py                                  the whole grid, where it stopped last time
    python tools/profile_policies.py --policies act pi05 --jobs 2
    python tools/profile_policies.py --list

Run by the Python of a LeRobot environment, with tests/lerobot/shims on PYTHONPATH where tests/lerobot/make_env.sh made it.
The policies of that LeRobot are built on tensors without storage, so that 4 B parameters take less than 1 GB. A row stands for
its release: what is there for this one is not made again, and rows of another release are replaced one by one.
"""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

import argparse  # noqa: E402
import contextlib  # noqa: E402
import csv  # noqa: E402
import datetime  # noqa: E402
import io  # noqa: E402
import logging  # noqa: E402
import multiprocessing  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed  # noqa: E402
from importlib.metadata import PackageNotFoundError, version  # noqa: E402
from pathlib import Path  # noqa: E402

from profiling.grid import DEFAULTS, NOT_PROFILED, Case, grid  # noqa: E402

COLUMNS = (*Case._fields, "params", "grad_params", "flops_per_sample", "weight_bytes", "activation_bytes", "floor_bytes", "a_bytes",
           "b_bytes", "fit_error", "lerobot", "torch", "as_of", "method", "note")  # fmt: skip
Row = dict[str, str]


def row_of(case: Case) -> Row:
    """The case's row of data/profiles.csv, all columns."""
    from profiling.measure import measure

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):  # LeRobot says what it loads
        measured = measure(case)
    made = {"lerobot": version("lerobot"), "torch": version("torch").split("+")[0], "as_of": datetime.date.today().isoformat(),
            "method": "fake tensors"}  # fmt: skip
    return {**dict(zip(Case._fields, key_of(case), strict=True)), **{name: str(value) for name, value in (measured | made).items()}}


def key_of(case: Case) -> tuple[str, ...]:
    """What may stand in the file once, as the file writes it."""
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in case)


def key(row: Row) -> tuple[str, ...]:
    return tuple(row[field] for field in Case._fields)


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    """All rows, policies and cases in the grid's order, those that the grid does not know last of their policy."""
    places = {key_of(case): at for at, case in enumerate(grid())}
    policies = list(DEFAULTS)
    rows = sorted(rows, key=lambda row: (policies.index(row["policy"]), places.get(key(row), len(places))))
    new = path.with_suffix(".new")
    with new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", choices=DEFAULTS, metavar="POLICY", default=list(DEFAULTS), help=", ".join(DEFAULTS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; 1 GB of memory each")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data" / "profiles.csv")
    parser.add_argument("--list", action="store_true", help="say what is profiled and what is not, and why; run nothing")
    options = parser.parse_args()
    cases = [case for case in grid() if case.policy in options.policies]
    if options.list:
        for case in cases:
            print(case.label)
        for name, reason in NOT_PROFILED.items():
            print(f"not profiled: {name}: {reason}")
        return 0

    try:
        release = version("lerobot")
    except PackageNotFoundError:
        parser.error("run it by the Python of a LeRobot environment")
    rows = {key(row): row for row in read(options.output)}
    todo = [case for case in cases if rows.get(key_of(case), {}).get("lerobot") != release]
    print(f"LeRobot {release}: {len(cases)} cases, {len(cases) - len(todo)} done", flush=True)
    failed, started = 0, time.monotonic()
    pool = ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn"))
    running = {pool.submit(row_of, case): case for case in todo}
    try:
        for number, future in enumerate(as_completed(running), start=1):
            case = running[future]
            try:
                rows[key_of(case)] = future.result()
            except BrokenExecutor:
                sys.exit("a process died; run it again to go on where it stopped")
            except Exception as error:
                failed += 1
                print(f"{case.label}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
                continue
            write(options.output, list(rows.values()))
            print(f"{number}/{len(todo)} {time.monotonic() - started:.0f} s {case.label}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
