#!/usr/bin/env python
"""Seconds per training step and peak memory of real LeRobot policies on this machine, as rows of data/evidence.yaml.

    python measure_step.py --policies act,smolvla --batches 1,8,32 --output rows.yaml
    python measure_step.py --policies pi05 --variants bf16+gc,bf16+gc+lora16 --cameras 2x640x480,3x640x480
    python measure_step.py --list

Runs in the environment of LeRobot 0.4.4 or 0.6.1 and needs nothing else: no weights, no dataset, no network. The policy is
LeRobot's class with random weights; the step is the release's own `lerobot_train.update_policy` under an Accelerator made as
the trainer makes it, so that precision, clipping and optimizer are that release's; the batch is random, shaped as the
preprocessor hands it over, with the loader's copy of normalized images beside it. In a row `update` is the median step after
the warm-up (LeRobot's updt_s), `vram` the highest peak of torch's allocator (its mem_gb; MPS and CPU have none), and running
out of memory is a row. What cannot be built is named and the rest goes on. Exit: 0 measured, 1 nothing measured, 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import importlib.metadata
import itertools
import os
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]  # the repository: its catalogue names devices


def gpu_id(name: str, memory_bytes: float | None) -> str | None:
    """The catalogue's id of a device by its own name and memory, None where the catalogue has no such device."""
    sys.path.insert(0, str(ROOT))
    from planner import compiled, devices  # pure rooms: no package of planner's is needed here

    catalogue = compiled.read(ROOT / "data")
    if catalogue is None:
        say("data/catalogue.json is not current: run python -m planner.catalogue where plan is installed, or name the device with --gpu")
        return None
    return devices.gpu_id(name, memory_bytes, catalogue.gpus)


def device_name(device: str) -> tuple[str, float | None]:
    """(what the device calls itself, bytes of its memory where it has its own)."""
    import torch

    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        return card.name, card.total_memory
    return ("cpu" if device == "cpu" else subprocess.getoutput("sysctl -n machdep.cpu.brand_string")), None


def measured(args: argparse.Namespace, policy: str, variant: str, cameras: tuple[int, ...]):
    """{name: entry of data/evidence.yaml} a batch size, up to the first that does not fit."""
    import torch
    from profiling.steps import OUT_OF_MEMORY, Case, flags_of

    flags, rank = flags_of(policy, variant, args.release)
    shape = "x".join(map(str, cameras))
    say(f"{policy} {variant} {shape} batch {args.batches}:", *(f"--policy.{flag}" for flag in flags + args.config))
    if args.dry_run:
        return
    gc.collect()  # the last case, which is full of cycles
    case = Case(policy, flags + args.config, rank, cameras, args.device, args.release)
    say(f"  {case.parameters / 1e6:.1f} M parameters")
    today = datetime.date.today().isoformat()
    for size in args.batches:
        notes, times, peak = ["random weights, synthetic frames"], [], 0
        try:
            times, peak = case.run(size, args.warmup, args.steps)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and not any(text in str(error) for text in OUT_OF_MEMORY):
                raise
        gc.collect()  # the failed step's tensors went with its exception
        seen = {"vram": f"{peak / 2**30:.3f} GiB"} if peak else {}
        if times:
            low, *_, high = statistics.quantiles(times, n=10, method="inclusive")
            seen = {"update": f"{statistics.median(times):.4g} s", **seen}
            notes.append(f"{args.steps} steps, P10–P90 {low:.4g}–{high:.4g} s")
        if args.config:
            notes.append(f"not the default policy: {' '.join(args.config)}")
        say(f"  batch {size}:", ", ".join(seen.values()) or "out of memory", *notes[1:])
        yield {f"{policy}-{variant}-{args.gpu}-{shape}-b{size}-{today}".replace("+", "-"): {
            "policy": policy, "variant": case.variant, "gpu": args.gpu, "num_gpus": 1, "batch_size": size, "cameras": cameras[0],
            "width": cameras[1], "height": cameras[2], **seen, "oom": not times, "lerobot": args.release, "scored": not args.config,
            "reason": "; ".join(notes), "kind": "measured", "confidence": "low" if args.device == "cpu" else "high",  # any CPU is `cpu`
            "source": f"tools/measure_step.py on {args.name}, torch {torch.__version__}", "as_of": today,
        }}  # fmt: skip
        if not times:
            break


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    from profiling.steps import PARTS, POLICIES

    def texts(text: str) -> list[str]:
        return text.split(",")

    def cameras(text: str) -> list[tuple[int, ...]]:
        return [(count, width, height) for count, width, height in (map(int, part.split("x")) for part in texts(text))]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--policies", type=texts, default=["act", "diffusion", "smolvla", "pi0", "pi05"], help="default: act,diffusion,smolvla,pi0,pi05")
    add("--variants", type=texts, default=["default"], help=f"parts joined by +: {', '.join(PARTS)}, loraN, chunkN (default: default)")
    add("--batches", type=lambda text: sorted(map(int, texts(text))), default=[1, 8, 32], help="default: 1,8,32")
    add("--cameras", type=cameras, default=[(2, 640, 480)], help="COUNTxWIDTHxHEIGHT,… (default: 2x640x480)")
    add("--steps", type=int, default=30, help="measured steps, at least 2 (default: 30)")
    add("--warmup", type=int, default=5, help="steps before them (default: 5)")
    add("--config", nargs="+", action="extend", default=[], metavar="policy.FIELD=VALUE", help="trainer flags; not scored")
    add("--device", choices=("cuda", "mps", "cpu"), help="default: the first there is")
    add("--gpu", help="the device's id in data/gpus.yaml, where that does not know its name")
    add("--output", type=Path, help="a new file (default: stdout)")
    add("--list", action="store_true", help="policies and variants of this release")
    add("--dry-run", action="store_true", help="say what would be measured")
    args = parser.parse_args()
    if min(args.steps - 1, args.warmup + 1, *args.batches, *itertools.chain(*args.cameras)) < 1:
        parser.error("expected batches and cameras of at least 1, and at least 2 steps")
    if not all(flag.startswith("policy.") and "=" in flag for flag in args.config):
        parser.error("--config: expected policy.FIELD=VALUE")
    if args.output and args.output.exists():
        parser.error(f"--output: {args.output} exists")
    args.config = [flag.removeprefix("policy.") for flag in args.config]
    if args.list:
        args.policies, args.variants, args.dry_run = list(POLICIES), [*PARTS, "lora16"], True
    return args


def main() -> int:
    args = options()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")  # before anything reads them
    import torch
    import yaml
    from profiling.steps import Missing

    args.release = importlib.metadata.version("lerobot")
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    args.name, memory_bytes = device_name(args.device)
    args.gpu = args.gpu or gpu_id(args.name, memory_bytes)
    if not args.release.startswith(("0.4.", "0.6.")):
        say(f"LeRobot {args.release}: this tool knows the training step of 0.4 and 0.6")
        return 2
    if not args.gpu and not args.dry_run:
        say(f"{args.name}: not in data/gpus.yaml; add it there, or name the id of its like with --gpu")
        return 2
    found = 0
    with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints
        for policy, variant, cameras in itertools.product(args.policies, args.variants, args.cameras):
            try:
                for entry in measured(args, policy, variant, cameras):
                    text = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000)
                    with args.output.open("a", encoding="utf-8") if args.output else contextlib.nullcontext(sys.__stdout__) as file:
                        print("" if found else "runs:\n", textwrap.indent(text, "  "), sep="", end="", file=file, flush=True)
                    found += 1
            except Exception as error:  # whatever one policy fails with, the others are measured
                reason = str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"
                say(f"{policy} {variant}: not measured: {reason.strip().splitlines()[0]}")
    return 0 if found or args.dry_run else 1


if __name__ == "__main__":
    sys.exit(main())
