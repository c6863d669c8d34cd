"""What is looked at before a run on this machine: asked of a real Python with a small torch, and of a small nvidia-smi."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner import trainer
from planner.errors import UsageError
from planner.job import Check, Job
from planner.targets import local
from tests.targets.local_runs import Bench, wait_released

GB = 10**9


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An environment with LeRobot 0.6.1 and two cards."""
    monkeypatch.setenv("PLAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("PLAN_TRAINER", "HF_TOKEN", "HF_LEROBOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    bench = Bench(tmp_path / "bench")
    packages = bench.folder / "packages"
    (packages / "torch").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    has(bench, "0.6.1", ["NVIDIA GeForce RTX 4090"] * 2)
    yield bench


def has(bench: Bench, release: str | None, cards: list[str] | None, mps: bool = False) -> None:
    """Install this LeRobot, and a torch that sees these cards, or one that does not load."""
    packages = bench.folder / "packages"
    for old in packages.glob("lerobot-*"):
        shutil.rmtree(old)
    if release:
        (packages / f"lerobot-{release}.dist-info").mkdir()
        (packages / f"lerobot-{release}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lerobot\nVersion: {release}\n")
    text = "raise ImportError('libcudart.so.12: cannot open')" if cards is None else f"""
print("torch says hello on stdout")
class cuda:
    device_count = staticmethod(lambda: {len(cards)})
    get_device_name = staticmethod({cards!r}.__getitem__)
class backends:
    class mps:
        is_available = staticmethod(lambda: {mps})
"""
    (packages / "torch" / "__init__.py").write_text(text)


def check(job: Job, name: str) -> Check:
    [found] = [one for one in local.preflight(job) if one.name == name]
    assert (found.ok is False) == bool(found.fix) or found.ok is None, found
    return found


def test_all_is_there(bench: Bench) -> None:
    assert {one.name: one.ok for one in local.preflight(bench.job("act-1", num_gpus=2))} == {
        "trainer": True, "lerobot": True, "gpu": True, "attempts": True, "output": True, "disk": True, "dataset": None, "others": True,
    }  # fmt: skip
    assert not (bench.folder / "out").exists() and not (Path(bench.folder.parent) / "home" / "state" / "runs").exists(), "only looked"


@pytest.mark.parametrize(("release", "planned", "ok", "fix"), [
    ("0.6.1", "0.6.1", True, ""), ("0.6.2", "0.6.1", None, ""), ("0.4.4", "0.6.1", False, "--lerobot-version 0.4.4"),
    ("0.6.1", "0.4.4", False, "--lerobot-version 0.6.1"), ("0.7.0", "0.6.1", False, "--lerobot-version main"),
    ("0.7.0", "main", None, ""), (None, "0.6.1", False, "pip install lerobot==0.6.1"),
])
def test_the_release_that_is_there(bench: Bench, release: str | None, planned: str, ok: bool | None, fix: str) -> None:
    has(bench, release, ["NVIDIA L4"])
    found = check(bench.job("act-1", lerobot=planned), "lerobot")
    assert found.ok is ok and fix in found.fix
    assert release is None or release in found.text


@pytest.mark.parametrize(("cards", "mps", "gpu", "device", "count", "ok", "text"), [
    (["NVIDIA L4"], False, "l4", None, 1, True, "NVIDIA L4"),
    (["NVIDIA L4"], False, "l4", "cuda:0", 1, True, "NVIDIA L4"),
    ([], False, "rtx4090", None, 1, False, "1 × rtx4090 asked for and torch sees none"),
    (["NVIDIA L4"], False, "l4", None, 2, False, "torch sees 1: NVIDIA L4"),
    ([], False, "rtx4090", "cpu", 1, True, "CPU"),
    ([], True, "m1-max", None, 1, True, "Apple"),
    ([], False, "m1-max", None, 1, False, "no Apple GPU"),
    (None, False, "l4", None, 1, False, "libcudart"),
    ([], False, "cpu", None, 1, True, "CPU"),
])  # fmt: skip
def test_a_gpu_that_was_asked_for_is_seen(bench: Bench, cards: list[str] | None, mps: bool, gpu: str, device: str | None, count: int,
                                          ok: bool, text: str) -> None:
    has(bench, "0.6.1", cards, mps)
    said = (f"--policy.device={device}",) if device else ()
    found = check(bench.job("act-1", *said, gpu=gpu, num_gpus=count), "gpu")
    assert found.ok is ok and text in found.text


def test_output_dataset_attempts_and_secrets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--attempts" in check(bench.job("act-1", attempts=3), "attempts").fix
    (bench.folder / "out").mkdir()
    found = check(bench.job("act-1"), "output")
    assert found.ok is False and "exists" in found.text and "plan resume" in found.fix
    resume = ("--resume=true", "--config_path=out/train_config.json")
    assert check(bench.job("act-1", *resume), "output").ok is False
    (bench.folder / "out" / "train_config.json").write_text("{}")
    assert check(bench.job("act-1", *resume), "output").ok is True
    assert check(bench.job("act-1", "--dataset.root=none"), "dataset").ok is False
    meta = bench.folder / "data" / "meta"
    meta.mkdir(parents=True)
    info = {"codebase_version": "v3.0", "total_frames": 480, "total_episodes": 4, "fps": 10, "features": {}}
    (meta / "info.json").write_text(json.dumps(info))
    assert "480 frames" in check(bench.job("act-1", "--dataset.root=data"), "dataset").text
    (meta / "info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    assert check(bench.job("act-1", "--dataset.root=data"), "dataset").fix.startswith("convert it in place: python -m")
    missing = check(bench.job("act-1", secrets=("MY_KEY",)), "secret")
    assert (missing.ok, missing.exit_code) == (False, 6) and "MY_KEY" in missing.fix
    monkeypatch.setenv("MY_KEY", "canary")
    assert "canary" not in str(local.preflight(bench.job("act-1", secrets=("MY_KEY",))))
    assert check(bench.job("act-1", secrets=("HF_TOKEN",)), "secret").ok is False
    monkeypatch.setenv("HF_TOKEN", "canary")
    assert check(bench.job("act-1", secrets=("HF_TOKEN",)), "secret").ok is True
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100 * GB, 99 * GB, GB))
    assert check(bench.job("act-1"), "disk").ok is False


def test_another_run_on_this_machine_is_named(bench: Bench) -> None:
    handle = local.submit(bench.job("act-1"))
    bench.wait_ready()
    found = check(bench.job("act-2"), "others")
    assert found.ok is None and found.text.startswith("act-1 is running") and "plan cancel act-1" in found.fix
    local.cancel(handle)
    wait_released(handle)
    assert check(bench.job("act-2"), "others").ok is True


def test_what_it_uses_is_read_from_nvidia_smi(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, one of them with most of the run and a stranger."""
    monkeypatch.setenv("PATH", f"{bench.bin}:/usr/bin:/bin")
    handle = local.submit(bench.job("act-1", "--worker"))
    bench.wait_ready()
    trainer_pid, worker = bench.pids()
    bench.program("nvidia-smi", f"""#!/bin/sh
case "$1" in
--query-compute-apps=gpu_uuid,pid,used_gpu_memory) echo "GPU-a, {trainer_pid}, 1000
GPU-b, {worker}, 3000
GPU-b, 1, 70000
GPU-b, {trainer_pid}, [N/A]" ;;
--query-gpu=uuid,utilization.gpu,memory.total) echo "GPU-a, 10, 81559
GPU-b, 97, 143771" ;;
*) exit 6 ;;
esac
""")
    used = local.usage(handle)
    assert used is not None
    assert (used.gpu_share, used.vram_bytes, used.vram_total_bytes) == (0.97, 3000 * 2**20, 143771 * 2**20)
    if sys.platform == "linux":
        assert used.ram_bytes is not None and used.ram_bytes > 1_000_000
    bench.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
    without = local.usage(handle)
    assert without is None or (without.gpu_share, without.vram_bytes) == (None, None)
    local.cancel(handle)
    wait_released(handle)
    assert local.usage(handle) is None


def test_the_trainer_is_found_where_it_is_named(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = trainer.Trainer(bench.bin, bench.bin / "python")
    for said in (bench.folder / "env", bench.bin, bench.bin / "python", bench.bin / "lerobot-train"):
        assert trainer.find(str(said)) == wanted
    (tmp_path / "shims").mkdir()
    (tmp_path / "shims" / "lerobot-train").symlink_to(bench.bin / "lerobot-train")  # as pipx and uv do
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    assert trainer.find() == wanted
    monkeypatch.setenv("PLAN_TRAINER", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="PLAN_TRAINER .*gone: no such file"):
        trainer.find()
    assert trainer.find(str(bench.bin)) == wanted, "what is said wins over the environment"


def test_a_python_that_hangs_or_dies_is_no_trainer(bench: Bench) -> None:
    (bench.bin / "python").unlink()
    for text, trouble in (("#!/bin/sh\nexec sleep 100\n", "did not answer within 0.2 s"),
                          ("#!/bin/sh\necho broken >&2; exit 3\n", "broken"), ("#!/nowhere\n", "No such file")):  # fmt: skip
        bench.program("python", text)
        facts = trainer.ask(trainer.find(str(bench.bin)), {}, timeout_s=0.2 if "sleep" in text else 30)
        assert facts.lerobot is None and facts.cards is None and trouble in str(facts.trouble)
        assert "sleep" in text or check(bench.job("act-1"), "gpu").ok is False


def test_a_request_is_shown_as_it_would_be_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    asked = local.request(bench.job("act-1", secrets=("HF_TOKEN",), env={"A": "b"}))
    assert asked["argv"][0] == str(bench.bin / "lerobot-train") and asked["programs"] == str(bench.bin)
    assert (asked["env"]["A"], asked["secrets"], asked["timeout_s"]) == ("b", {"HF_TOKEN": "***"}, 3600)
    assert asked["folder"] == str(bench.folder) and asked["run"].endswith("/runs/act-1") and "canary" not in json.dumps(asked)
    assert local.request(bench.job("act-1", trainer_at="/nowhere"))["argv"][0] == "lerobot-train"
    assert not Path(asked["run"]).exists()
    with pytest.raises(UsageError, match="no name for a run"):
        local.request(bench.job("../act-1"))
