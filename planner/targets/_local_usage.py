"""What processes of this machine use now: memory from /proc, their GPU from nvidia-smi, which is there wherever the driver is."""

from __future__ import annotations

import contextlib
import csv
import re
import subprocess
from pathlib import Path

from planner.job import Usage

ASK_S = 10.0
MIB = 2**20  # nvidia-smi's unit


def usage(pids: list[int]) -> Usage | None:
    """The use of these processes together; None where neither memory nor GPU can be read."""
    ram, gpu = _ram_bytes(pids), _fullest(set(pids))
    if gpu is None:
        return None if ram is None else Usage(ram_bytes=ram)
    return gpu._replace(ram_bytes=ram)


def _ram_bytes(pids: list[int]) -> int | None:
    """Resident memory; pages that several processes share are counted once (Pss of proc_pid_smaps(5))."""
    total = None
    for pid in pids:
        with contextlib.suppress(OSError):  # ended, or a machine without /proc
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
            total = (total or 0) + (int(found[1]) * 1024 if found else 0)
    return total


def _fullest(pids: set[int]) -> Usage | None:
    """The GPU that holds most of these processes. In a container whose pids differ from the driver's, none is found."""
    used: dict[str, int] = {}
    for uuid, pid, mebibytes in _ask("compute-apps", "gpu_uuid,pid,used_gpu_memory"):
        if pid.isdigit() and int(pid) in pids and mebibytes.isdigit():
            used[uuid] = used.get(uuid, 0) + int(mebibytes) * MIB
    if not used:
        return None
    fullest = max(used, key=lambda one: used[one])
    for uuid, share, total in _ask("gpu", "uuid,utilization.gpu,memory.total"):
        if uuid == fullest:
            return Usage(gpu_share=int(share) / 100 if share.isdigit() else None, vram_bytes=used[fullest],
                         vram_total_bytes=int(total) * MIB if total.isdigit() else None)  # fmt: skip
    return Usage(vram_bytes=used[fullest])


def _ask(what: str, fields: str) -> list[list[str]]:
    """Rows of one nvidia-smi query; none where it is missing or fails."""
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [row for row in csv.reader(said.splitlines(), skipinitialspace=True) if len(row) == fields.count(",") + 1]
