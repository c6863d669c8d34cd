"""Cold start of `plan` as a ratio to `python -c pass`, both measured in this run, in turn.

    python benchmarks/startup.py [--runs 21]

Exit status 1 when a ratio is over its limit. The figure is processor time (user and system) of the whole process, which other
programs on the machine disturb less than the clock; wall-clock ratios are printed beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAN = str(Path(sys.executable).parent / "plan")
BASE = [sys.executable, "-c", "pass"]
TERMINAL, CACHED = "terminal", "cached live prices"
CASES = {  # (how, command) -> limit, as a multiple of the base
    ("", "--policy", "smolvla", "--episodes", "50"): 12.0,
    (TERMINAL, "--policy", "smolvla", "--episodes", "50"): 12.0,
    ("", "--policy", "smolvla", "--episodes", "50", "--json"): 10.0,
    (CACHED, "--policy", "smolvla", "--episodes", "50"): 12.0,
    (CACHED, "--policy", "smolvla", "--episodes", "50", "--json"): 10.0,
    ("", "--policy", "act", "--dataset", "lerobot/pusht"): 12.0,  # whose facts are kept
    ("", "policies"): 12.0,
    ("", "--help"): 12.0,
}


def keep_prices() -> None:
    """Answers of today as a refresh keeps them: every flavor with its machine, a new price on each."""
    from datetime import datetime, timezone
    from decimal import Decimal

    from planner import catalogue, pricefeed
    from planner.records import PriceList, Quote

    known = catalogue.load()
    for target, source in pricefeed.sources(known).items():
        quotes = tuple(Quote(offer.flavor, offer.usd_per_hour and offer.usd_per_hour * 2, None, offer.num_gpus, None, offer.vcpus,
                             offer.ram_bytes, offer.disk_bytes, offer.per_gpu)
                       for offer in known.offers if offer.target == target and (offer.num_gpus < 2 or not offer.per_gpu))
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        pricefeed.keep(PriceList(target, source, quotes, Decimal("0.05"), Decimal("0.01"), as_of=now))


def keep_facts(home: str) -> None:
    """What the Hub says about lerobot/pusht, as a plan of before would have kept it below `home`, which all of ours then use."""
    from datetime import datetime, timezone

    from planner import facts

    os.environ["PLAN_HOME"] = home
    os.environ.pop("HF_ENDPOINT", None)
    camera = {"dtype": "video", "shape": [96, 96, 3], "names": ["height", "width", "channel"], "info": {"video.codec": "av1"}}
    info = {"codebase_version": "v3.0", "total_episodes": 206, "total_frames": 25_650, "total_tasks": 1, "fps": 10,
            "features": {"observation.image": camera}}
    known = facts.Facts("0123456789abcdef" * 2 + "01234567", datetime.now(timezone.utc), info, 8_000_000)
    facts.save("https://huggingface.co", "lerobot/pusht", None, known)


def run(command: list[str], terminal: bool = False) -> tuple[float, float]:
    """(processor seconds, wall seconds) of one process, its output thrown away."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if terminal:
        master, slave = os.openpty()
        process = subprocess.Popen(command, stdout=slave, stdin=slave)
        os.close(slave)
        with contextlib.suppress(OSError):  # the other end closes when the process ends
            while os.read(master, 65536):
                pass
        os.close(master)
        assert process.wait() == 0
    else:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as home:
        keep_facts(home)
        return measure(runs)


def measure(runs: int) -> int:
    """Each case beside the base; 1 where one is over its limit."""
    worst = 0
    home = Path(os.environ["PLAN_HOME"])
    for (how, *arguments), limit in CASES.items():
        command, terminal = [PLAN, *arguments], how == TERMINAL
        os.environ["PLAN_HOME"] = str(home / CACHED if how == CACHED else home)
        if how == CACHED:
            keep_prices()
            shown = subprocess.run([PLAN, *arguments, "--json"], capture_output=True, text=True, check=True).stdout
            assert '"method": "live"' in shown and '"method": "bundled"' not in shown, "the cached prices are not used"
        run(command, terminal), run(BASE)
        cpu, wall = [], []
        for _ in range(runs):
            (base_cpu, base_wall), (plan_cpu, plan_wall) = run(BASE), run(command, terminal)
            cpu.append(plan_cpu / base_cpu)
            wall.append(plan_wall / base_wall)
        ratio = statistics.median(cpu)
        verdict = "ok" if ratio <= limit else "TOO SLOW"
        worst = max(worst, ratio > limit)
        where = f" ({how})" if how else ""
        print(f"{ratio:5.1f} × (wall {statistics.median(wall):5.1f} ×)  limit {limit:4.1f} ×  {verdict}  plan {' '.join(arguments)}{where}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
