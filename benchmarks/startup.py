"""Cold start of `plan` as a ratio to `python -c pass`, both measured in this run, in turn.

    python benchmarks/startup.py [--runs 21]

Exit status 1 when a ratio is over its limit. The figure is processor time (user and system) of the whole process, which other
programs on the machine disturb less than the clock; wall-clock ratios are printed beside it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PLAN = str(Path(sys.executable).parent / "plan")
BASE = [sys.executable, "-c", "pass"]
CASES = {  # command -> limit, as a multiple of the base
    ("--policy", "smolvla", "--episodes", "50"): 12.0,
    ("--policy", "smolvla", "--episodes", "50", "--json"): 10.0,
    ("policies",): 12.0,
    ("--help",): 12.0,
}


def run(command: list[str]) -> tuple[float, float]:
    """(processor seconds, wall seconds) of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    worst = 0
    for arguments, limit in CASES.items():
        command = [PLAN, *arguments]
        run(command), run(BASE)
        cpu, wall = [], []
        for _ in range(runs):
            (base_cpu, base_wall), (plan_cpu, plan_wall) = run(BASE), run(command)
            cpu.append(plan_cpu / base_cpu)
            wall.append(plan_wall / base_wall)
        ratio = statistics.median(cpu)
        verdict = "ok" if ratio <= limit else "TOO SLOW"
        worst = max(worst, ratio > limit)
        print(f"{ratio:5.1f} × (wall {statistics.median(wall):5.1f} ×)  limit {limit:4.1f} ×  {verdict}  plan {' '.join(arguments)}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
