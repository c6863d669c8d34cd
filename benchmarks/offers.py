"""A plan over a feed of 1,000, 10,000 and 100,000 offers, from cold, as a ratio to `python -c pass` measured in the same run.

    python benchmarks/offers.py [--runs 7] [--sizes 1000,10000,100000]

The feeds are made here, the same on every run: four clouds that sell fixed machines in many regions, and a marketplace where every
host is another one. The first plan of each feed compiles it and is timed apart; what is measured is every plan after it. Exit
status 1 when the largest feed is over its limit, or when the time grows faster than the number of offers.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from startup import BASE, PLAN, run

LIMIT = 40.0  # of the largest feed, as a multiple of the base
#: From one size to the next the ratio's share that is due to the feed may grow this much faster than the feed; the feed's own
#: share of a small one is too small to measure, so the least is that of a tenth of a plan.
TOLERANCE, LEAST_SHARE = 1.5, 1.0
CASES = {
    "plan": ("--policy", "smolvla", "--episodes", "50"),
    "--json": ("--policy", "smolvla", "--episodes", "50", "--json"),
    "--optimize time": ("--policy", "smolvla", "--episodes", "50", "--optimize", "time"),
    "--max-cost 3": ("--policy", "smolvla", "--episodes", "50", "--max-cost", "3"),
}
#: GPU -> dollars an hour of one, and how many a machine has
GPUS = {
    "t4": (0.35, (1, 2, 4)), "l4": (0.7, (1, 2, 4, 8)), "a10g": (1.0, (1, 4, 8)), "l40s": (1.6, (1, 2, 4, 8)), "rtx3090": (0.25, (1, 2, 4)),
    "rtx4090": (0.45, (1, 2, 4, 8)), "a100-40": (1.3, (1, 2, 4, 8)), "a100-80": (1.8, (1, 2, 4, 8)), "h100": (2.9, (1, 2, 4, 8)),
    "h200": (3.8, (1, 2, 8)), "b200": (5.5, (1, 8)), "rtx-pro-6000": (1.9, (1, 2, 4)),
}
CLOUDS = {"amber": 1.25, "birch": 1.1, "cedar": 1.0, "delta": 0.85}
REGIONS = [f"{area}-{side}-{n}" for area in ("us", "eu", "ap", "sa", "me") for side in ("east", "west", "north") for n in range(1, 9)]
MARKET = "market"


def write_feed(folder: Path, offers: int) -> None:
    """`offers` offers as CSV beside the rules of their places, in the layout of a user's own catalogue."""
    chance = random.Random(offers)
    lines: dict[str, list[str]] = {place: [] for place in (*CLOUDS, MARKET)}
    machines = [(gpu, count) for gpu, (_, counts) in GPUS.items() for count in counts]
    shapes = {machine: [(cores * machine[1], ram * machine[1]) for cores, ram in ((4, 15), (8, 30), (8, 60), (12, 110), (24, 220))]
              for machine in machines}
    for number in range(offers):
        gpu, count = chance.choice(machines)
        usd = GPUS[gpu][0] * count * chance.uniform(0.8, 1.6)
        if number % 2:
            place, (vcpus, ram), disk = chance.choice(list(CLOUDS)), chance.choice(shapes[gpu, count]), chance.choice((200, 500, 1000))
            flavor = f"{chance.choice(REGIONS)}/{gpu}x{count}-{vcpus}c-{number}"
            usd = usd * CLOUDS[place] + 0.01 * vcpus
        else:
            place, vcpus, ram, disk = MARKET, chance.randint(2, 64) * count, chance.randint(12, 512), chance.randint(40, 4000)
            flavor = f"host-{number}"
        lines[place].append(f"{flavor},{gpu},{count},{vcpus},{ram},{disk},{usd:.4f},feed,2026-11-01")
    (folder / "offers").mkdir(parents=True)
    (folder / "sources.yaml").write_text('feed: {title: a made feed, ref: none, as_of: "2026-11-01", kind: made}\n', encoding="utf-8")
    for place, rows in lines.items():
        (folder / "offers" / f"{place}.yaml").write_text(f"title: {place}\nlike: hf\n", encoding="utf-8")
        head = "flavor,gpu,num_gpus,vcpus,ram_gb,disk_gb,usd_per_hour,source,as_of"
        (folder / "offers" / f"{place}.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")


def measure(command: list[str], runs: int) -> float:
    """Median ratio of processor time to the base, in turn."""
    ratios = []
    for _ in range(runs):
        (base, _), (cpu, _) = run(BASE), run(command)
        ratios.append(cpu / base)
    return statistics.median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--sizes", default="1000,10000,100000", metavar="N,N,…")
    arguments = parser.parse_args()
    sizes = [0, *sorted(int(size) for size in arguments.sizes.split(","))]
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    for size in sizes:
        with tempfile.TemporaryDirectory() as home:
            os.environ["PLAN_HOME"] = home
            if size:
                write_feed(Path(home) / "config" / "catalogue", size)
            cpu, wall = run([PLAN, *CASES["plan"]])
            print(f"{size:7,} offers  first plan {cpu:5.2f} s (wall {wall:5.2f} s)", end="", flush=True)
            for name, words in CASES.items():
                ratios[name].append(measure([PLAN, *words], arguments.runs))
                print(f"   {name} {ratios[name][-1]:5.1f} ×", end="", flush=True)
            print()
    worst = 0
    for name, found in ratios.items():
        slow = found[-1] > LIMIT
        shares = [max(LEAST_SHARE, ratio - found[0]) for ratio in found[1:]]
        steps = zip(shares, shares[1:], sizes[1:], sizes[2:], strict=False)
        steep = any(after / before > TOLERANCE * more / fewer for before, after, fewer, more in steps)
        verdict = "TOO SLOW" if slow else "FASTER THAN LINEAR" if steep else "ok"
        print(f"{name}: {found[-1]:.1f} × at {sizes[-1]:,}, limit {LIMIT:.0f} ×  {verdict}")
        worst |= slow or steep
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
