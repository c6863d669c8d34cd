"""The machine that this runs on: its GPUs, hardware threads, memory and free disk, as far as it says.

On the path of every plan: nothing is imported unless a driver is there. A GPU that does not answer is a note, never an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planner.request import Device, Machine

#: what the driver leaves, by where it runs; under WSL the library lies with Windows' own
_LINUX = ("proc/driver/nvidia/version", "dev/nvidiactl", "usr/lib/wsl/lib/libnvidia-ml.so.1")
_WINDOWS = "System32/nvml.dll"
_SMI_S = 5.0  # longest that nvidia-smi may take; a driver that starts up takes one or two
_MIB = 2**20

Gpus = tuple[tuple[Device, ...], "str | None", tuple[str, ...]]
NOTHING: Gpus = ((), None, ())


def look(folder: str | Path = ".", root: Path = Path("/")) -> Machine:
    """This machine; `folder` is where outputs go, `root` where the system's own files lie."""
    ram = _ram_bytes(root)
    found, driver, notes = _gpus(root, ram)
    return Machine(found, _vcpus(root), ram, _free_bytes(Path(folder)), driver, notes)


# ------------------------------------------------------------------------------------------ GPUs


def _gpus(root: Path, ram: int | None) -> Gpus:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):  # as CUDA takes it: none
        return NOTHING
    if sys.platform == "darwin":
        return _apple()
    if sys.platform == "win32":
        there = Path(os.environ.get("SYSTEMROOT", "C:/Windows"), _WINDOWS).exists()
    else:
        board = _text(root / "proc/device-tree/model").strip("\0 \n")
        if "Jetson" in board:  # its driver names no memory: it is the board's
            return (Device(board, ram),), None, ()
        there = any((root / path).exists() for path in _LINUX)
    return _nvidia(visible) if there else NOTHING


def _nvidia(visible: str | None) -> Gpus:
    """NVML's devices, or nvidia-smi's where its Python client is not installed."""
    try:
        import pynvml
    except ImportError:
        return _smi(visible)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), None, (f"the NVIDIA driver does not answer ({error}): no GPU of this machine is offered",)
    found: list[Device] = []
    notes = []
    try:
        driver = _of(pynvml.nvmlSystemGetDriverVersion())
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                if _is_visible(index, _of(pynvml.nvmlDeviceGetUUID(handle)), visible):
                    found += _devices(pynvml, handle)
            except pynvml.NVMLError as error:
                notes.append(f"GPU {index} of this machine does not answer ({error}): it is not offered")
    except pynvml.NVMLError as error:
        return (), None, (f"the NVIDIA driver does not answer ({error}): no GPU of this machine is offered",)
    finally:
        pynvml.nvmlShutdown()
    return tuple(found), driver, tuple(notes)


def _devices(pynvml: Any, handle: Any) -> list[Device]:
    """A card, or the parts that it is cut into."""
    try:
        cut = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError:  # most cards cannot be cut
        cut = False
    if not cut:
        return [_device(pynvml, handle, part=False)]
    parts = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            parts.append(_device(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number), part=True))
        except pynvml.NVMLError_NotFound:  # not all of it is handed out
            continue
    return parts


def _device(pynvml: Any, handle: Any, part: bool) -> Device:
    name = _of(pynvml.nvmlDeviceGetName(handle))
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:  # shared with the host
        return Device(name, part=part)
    return Device(name, int(memory.total), int(memory.used), part)


def _of(text: Any) -> str:
    """Older clients return bytes."""
    return text.decode() if isinstance(text, bytes) else str(text)


def _smi(visible: str | None) -> Gpus:
    import subprocess

    fields = ("index", "uuid", "name", "memory.total", "memory.used", "driver_version")
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"], capture_output=True,
                              text=True, encoding="utf-8", errors="replace", timeout=_SMI_S, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        done = None
    rows = [line.split(", ") for line in done.stdout.splitlines()] if done is not None and done.returncode == 0 else []
    rows = [row for row in rows if len(row) == len(fields)]
    if not rows:
        return (), None, ("an NVIDIA driver is here, and nothing that asks it: pip install 'training-planner[local]' offers its GPUs",)
    found = [Device(name, _mebibytes(total), _mebibytes(used) or 0)
             for index, uuid, name, total, used, _ in rows if _is_visible(int(index), uuid, visible)]  # fmt: skip
    return tuple(found), rows[0][-1], ()


def _mebibytes(text: str) -> int | None:
    """`24564` -> bytes; None for `[N/A]`."""
    return int(text) * _MIB if text.isdecimal() else None


def _is_visible(index: int, uuid: str, visible: str | None) -> bool:
    """CUDA_VISIBLE_DEVICES names it, by number or by the beginning of its UUID. Numbers are taken in the order of the bus."""
    if visible is None:
        return True
    names = [name.strip() for name in visible.split(",")]
    return str(index) in names or any(name.startswith("GPU-") and uuid.startswith(name) for name in names) or "MIG-" in visible


def _apple() -> Gpus:
    """The chip, whose GPU shares the machine's memory; none on Intel."""
    if os.uname().machine != "arm64":
        return NOTHING
    name = _sysctl("machdep.cpu.brand_string").rstrip(b"\0").decode("utf-8", "replace")
    return ((Device(name, _apple_memory()),), None, ()) if name else NOTHING


def _apple_memory() -> int | None:
    return int.from_bytes(_sysctl("hw.memsize"), sys.byteorder) or None


def _sysctl(name: str) -> bytes:
    """A value of macOS's kernel; empty where there is none."""
    import ctypes

    library, size = ctypes.CDLL(None), ctypes.c_size_t(0)
    if library.sysctlbyname(name.encode(), None, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return b""
    value = ctypes.create_string_buffer(size.value)
    library.sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0))
    return value.raw[: size.value]


# ------------------------------------------------------------------------------------------ host


def _vcpus(root: Path) -> float | None:
    """Hardware threads that this process may use: its affinity, and the quotas of its control groups."""
    threads = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    if threads is None:
        return None
    quotas = []
    for group in _groups(root, "cpu"):
        quota, _, period = (_text(group / "cpu.max") or _text(group / "cpu.cfs_quota_us")).partition(" ")
        period = period or _text(group / "cpu.cfs_period_us")
        if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):  # not "max", not -1
            quotas.append(int(quota) / int(period))
    return min([float(threads), *quotas])


def _ram_bytes(root: Path) -> int | None:
    """Memory of the machine, or what the control groups of this process leave of it."""
    limits = [int(text) for group in _groups(root, "memory")
              if (text := (_text(group / "memory.max") or _text(group / "memory.limit_in_bytes")).strip()).isdecimal()]  # fmt: skip
    if sys.platform == "win32":
        whole = _windows_memory()
    elif sys.platform == "darwin":
        whole = _apple_memory()
    else:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([*([whole] if whole else []), *limits], default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, the inner ones first (cgroups 2, or the controller's own of 1)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if names else "")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])


def _windows_memory() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), *((f"n{n}", ctypes.c_ulonglong) for n in range(7))]

    status = Status(length=ctypes.sizeof(Status))
    answered = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.n0) if answered else None


def _free_bytes(folder: Path) -> int | None:
    """Free disk where `folder` is, or would be made."""
    try:
        folder = folder.expanduser().absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if sys.platform != "win32":
            disk = os.statvfs(folder)
            return disk.f_bavail * disk.f_frsize
        import shutil

        return shutil.disk_usage(folder).free
    except (OSError, RuntimeError):  # RuntimeError: nobody's home folder
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
