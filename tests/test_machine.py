"""What a machine says of itself: NVIDIA's real client over a driver library made here, control groups, free disk."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner import machine
from planner.units import GIB

DRIVERS = Path(__file__).parent / "drivers"
RTX3090 = f"NVIDIA GeForce RTX 3090,{24 * GIB},{GIB}"
Look = Callable[..., dict[str, Any]]

#: what is asked of a fresh process, where the system's files lie under the first argument
LOOK = """
import json, sys
from pathlib import Path
{first}
from planner import machine
found = machine.look(root=Path(sys.argv[1]))
modules = sorted({{"ctypes", "pynvml", "subprocess"}} & set(sys.modules))
print(json.dumps(found._asdict() | {{"devices": [device._asdict() for device in found.devices], "modules": modules}}))
"""
PLAN = """
import sys
from pathlib import Path
from planner import machine
look = machine.look
machine.look = lambda folder=".": look(folder, Path(sys.argv[1]))
from planner.commands import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver's library. Without a C compiler this fails: what it tests is nowhere else."""
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(DRIVERS / "nvml.c")], check=True)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system's files, with the driver loaded."""
    folder = tmp_path / "root"
    (folder / "proc/driver/nvidia").mkdir(parents=True)
    (folder / "proc/driver/nvidia/version").write_text("NVRM version", encoding="utf-8")
    return folder


def process(code: str, root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "COLUMNS": "120", "PLAN_HOME": str(root / "home")}
    line = [sys.executable, "-c", code, str(root), *arguments]
    return subprocess.run(line, env=clean | environment, cwd=root, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def look(driver: Path, root: Path) -> Look:
    def run(gpus: str = "", first: str = "", **environment: str) -> dict[str, Any]:
        done = process(LOOK.format(first=first), root, LD_LIBRARY_PATH=str(driver), FAKE_GPUS=gpus, **environment)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


# ------------------------------------------------------------------------------------------ GPUs


def test_cards_with_their_memory_and_what_others_use_of_it(look: Look) -> None:
    found = look(f"{RTX3090};{RTX3090}")
    assert found["devices"] == [{"name": "NVIDIA GeForce RTX 3090", "memory_bytes": 24 * GIB, "used_bytes": GIB, "part": False}] * 2
    assert (found["driver"], found["notes"]) == ("550.54.15", [])
    assert "pynvml" in found["modules"]


def test_a_card_that_is_cut_is_offered_in_parts(look: Look) -> None:
    part = f"^NVIDIA A100-SXM4-40GB MIG 3g.20gb,{int(19.6 * GIB)},0"
    found = look(f"NVIDIA A100-SXM4-40GB,{40 * GIB},0;{part};{part};NVIDIA A100-SXM4-40GB,{40 * GIB},0")
    assert [(device["name"], device["part"]) for device in found["devices"]] == [
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", True), ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", True), ("NVIDIA A100-SXM4-40GB", False)]


def test_memory_that_is_shared_with_the_host_is_not_known(look: Look) -> None:
    assert look("NVIDIA GB10,-1,0")["devices"][0]["memory_bytes"] is None


def test_a_card_that_is_lost_is_named_and_the_others_stay(look: Look) -> None:
    found = look(f"!,0,0;{RTX3090}")
    assert len(found["devices"]) == 1 and "GPU 0" in found["notes"][0] and "lost" in found["notes"][0]


def test_a_driver_that_does_not_answer_is_a_note(look: Look) -> None:
    found = look(RTX3090, FAKE_INIT="18")
    assert found["devices"] == [] and "version mismatch" in found["notes"][0].lower()


@pytest.mark.parametrize(("visible", "expected"), [("", []), ("-1", []), ("1", ["1"]), ("0,1", ["0", "1"]), ("GPU-1", ["1"])])
def test_cuda_visible_devices_hides_cards(look: Look, visible: str, expected: list[str]) -> None:
    found = look(f"0,{24 * GIB},0;1,{24 * GIB},0", CUDA_VISIBLE_DEVICES=visible)
    assert [device["name"] for device in found["devices"]] == expected


def test_without_the_client_nvidia_smi_is_asked(look: Look, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '0, GPU-1, NVIDIA GeForce RTX 4090, 24564, 507, 580.95.05'\n"
                       "echo '1, GPU-2, NVIDIA GB10, [N/A], [N/A], 580.95.05'\n", encoding="utf-8")  # fmt: skip
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    found = look(first="sys.modules['pynvml'] = None", PATH=f"{program.parent}:{os.environ['PATH']}")
    assert [(device["name"], device["memory_bytes"]) for device in found["devices"]] == [
        ("NVIDIA GeForce RTX 4090", 24564 * 2**20), ("NVIDIA GB10", None)]  # fmt: skip
    assert found["driver"] == "580.95.05"
    program.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    silent = look(first="sys.modules['pynvml'] = None", PATH=f"{program.parent}:{os.environ['PATH']}")
    assert silent["devices"] == [] and "training-planner[local]" in silent["notes"][0]


def test_without_a_driver_nothing_is_imported(look: Look, root: Path) -> None:
    (root / "proc/driver/nvidia/version").unlink()
    found = look(RTX3090)
    assert (found["devices"], found["notes"], found["modules"]) == ([], [], [])


def test_a_jetson_is_its_board_with_the_hosts_memory(look: Look, root: Path) -> None:
    (root / "proc/device-tree").mkdir()
    (root / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    found = look()
    assert found["devices"] == [{"name": "NVIDIA Jetson AGX Orin Developer Kit", "memory_bytes": found["ram_bytes"],
                                 "used_bytes": 0, "part": False}]  # fmt: skip


# ------------------------------------------------------------------------------------------ host


def group(root: Path, path: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n", encoding="utf-8")


def said(root: Path, text: str) -> machine.Machine:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(text, encoding="utf-8")
    return machine.look(root=root)


def test_a_containers_limits_are_the_machine(root: Path) -> None:
    """The smallest of the group's own limits and those of the groups around it."""
    group(root, "", memory_max="max")
    group(root, "jobs", cpu_max="50000 100000", memory_max=str(GIB))
    group(root, "jobs/one", cpu_max="max 100000", memory_max=str(4 * GIB))
    inside = said(root, "0::/jobs/one\n")
    assert (inside.vcpus, inside.ram_bytes) == (0.5, GIB)
    unlimited = said(root, "0::/\n")
    assert unlimited.ram_bytes is not None and unlimited.ram_bytes > GIB and unlimited.vcpus is not None and unlimited.vcpus >= 1


def test_limits_of_the_older_control_groups(root: Path) -> None:
    group(root, "cpu/docker/x", cpu_cfs_quota_us="25000", cpu_cfs_period_us="100000")
    group(root, "memory/docker/x", memory_limit_in_bytes=str(2 * GIB))
    inside = said(root, "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n")
    assert (inside.vcpus, inside.ram_bytes) == (0.25, 2 * GIB)
    group(root, "memory/docker/x", memory_limit_in_bytes="9223372036854771712")
    assert (said(root, "12:memory:/docker/x\n").ram_bytes or 0) < 2**50, "no limit is not a limit"


def test_free_disk_is_that_of_the_folder_that_will_be_made(tmp_path: Path) -> None:
    assert machine.look(tmp_path / "not" / "yet").disk_bytes is not None
    assert machine.look("~nobody-of-this-name/outputs").disk_bytes is None


# ------------------------------------------------------------------------------------------ through the front door


def plan(driver: Path, root: Path, gpus: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return process(PLAN, root, "--policy", "act", "--episodes", "5", *arguments, LD_LIBRARY_PATH=str(driver), FAKE_GPUS=gpus)


def test_what_is_found_is_offered_beside_what_is_rented(driver: Path, root: Path) -> None:
    done = plan(driver, root, f"{RTX3090};{RTX3090}", "--json")
    rows = {row["id"]: row for row in json.loads(done.stdout)["estimates"]}
    assert {"local:rtx3090", "local:rtx3090:2", "hf:l4x1", "modal:L4"} <= set(rows)
    assert rows["local:rtx3090"]["usd"] is None
    table = plan(driver, root, RTX3090).stdout
    assert " local  rtx3090 " in table and "driver 550.54.15" in table


def test_a_card_that_nobody_knows_is_one_line_that_says_what_to_do(driver: Path, root: Path) -> None:
    gpus = f"NVIDIA GeForce RTX 9090,{96 * GIB},0"
    done = plan(driver, root, gpus, "--target", "local")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "NVIDIA GeForce RTX 9090" in done.stderr and "devices: [NVIDIA GeForce RTX 9090]" in done.stderr and "--gpu" in done.stderr
    assert "RTX 9090" in plan(driver, root, gpus).stdout, "and a plan of what is rented names it too"


def test_an_entry_of_ones_own_makes_a_card_known(driver: Path, root: Path) -> None:
    own = root / "home/config/catalogue"
    own.mkdir(parents=True)
    figure = "{value: %s, source: spec_pages}"
    fields = {"memory": "96 GiB", "usable": "94 GiB", "bandwidth": "4000 GB/s", "fp32": "200 TFLOP/s"}
    entry = ["name: GeForce RTX 9090", "vendor: nvidia", "arch: Rubin"]
    entry += [f"{name}: null" for name in ("tf32", "fp16", "bf16", "watts", "interconnect")]
    entry += [f"{name}: {figure % value}" for name, value in fields.items()]
    (own / "gpus.yaml").write_text("\n  ".join(["rtx9090:", *entry]) + "\n", encoding="utf-8")
    done = plan(driver, root, f"NVIDIA GeForce RTX 9090,{96 * GIB},0", "--target", "local", "-q")
    assert (done.returncode, done.stdout.strip()) == (0, "local:rtx9090"), done.stderr
