"""What a training log says, whatever stands around it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import trainlog
from planner.calibrate import gpu_named
from planner.catalogue import data_dir, load
from planner.errors import UsageError
from planner.units import GB, GIB

LOGS = Path(__file__).parent / "logs"
GPUS = load(user=data_dir() / "none").gpus
SPRAWL = "INFO 2026-11-20 10:00:00 ot_train.py:638 step:200 smpl:2K ep:2 epch:0.04 loss:2.346 grdn:12.345 lr:1.0e-05 "


def text(name: str) -> str:
    return (LOGS / name).read_bytes().decode("utf-8")  # with the carriage returns of the progress bar


def records(updates: list[float], rest: str = "data_s:0.010 smp/s:82 mem_gb:3.70") -> str:
    return "".join(f"{SPRAWL}updt_s:{seconds:.3f} {rest}\n" for seconds in updates)


class TestLeRobot:
    """Logs of real trainings on a CPU; lerobot-main.log is written by hand after the unreleased branch."""

    def test_a_log_of_044(self) -> None:
        log = trainlog.read(text("lerobot-0.4.4.log"))
        assert (log.system, log.release, log.num_gpus, log.batch_size, log.steps, log.frames) == ("lerobot", "0.4.4", 1, 2, 36, 48)
        assert (log.params, log.date, log.wall_clock_s) == (51_588_994, "2026-11-20", 280.0)
        assert (log.setting("policy", "type"), log.setting("policy", "chunk_size")) == ("act", 100)
        assert [window.update_s for window in log.windows[:3]] == [9.617, 7.938, 12.927]
        assert log.windows[0].data_s == 0.094 and log.windows[0].vram_bytes is None

    def test_a_log_of_061(self) -> None:
        log = trainlog.read(text("lerobot-0.6.1.log"))
        assert (log.release, log.batch_size, log.steps, log.params, len(log.windows)) == ("0.6.1", 2, 60, 11_451_010, 12)
        assert log.setting("dataset", "video_backend") == "pyav"

    def test_a_log_of_main_on_four_gpus(self) -> None:
        log = trainlog.read(text("lerobot-main.log"))
        assert (log.release, log.num_gpus, log.batch_size, log.steps, log.frames) == ("main", 4, 16, 2000, 45_000)
        first = log.windows[1]
        assert (first.update_s, first.data_s) == (0.402, pytest.approx(0.012 + 0.004))  # waiting and preprocessing, as in 0.6.1
        assert first.vram_bytes == round(4.31 * GIB)
        assert log.setting("output_dir") == "outputs/train/smolvla"
        assert log.setting("policy", "input_features", "observation.state", "type") == "STATE"

    def test_a_log_of_main_as_it_really_is(self) -> None:
        log = trainlog.read(text("lerobot-main-cpu.log"))  # commit 7427f3180
        assert (log.release, log.num_gpus, log.batch_size, log.steps, log.frames, log.params) == ("main", 1, 2, 40, 48, 11_451_010)
        assert (len(log.windows), log.setting("policy", "chunk_size"), log.setting("accelerator", "mixed_precision")) == (8, 4, "no")
        last = log.windows[-1]
        assert (last.update_s, last.data_s, last.vram_bytes) == (0.085, 0.004, None)

    def test_an_interrupted_run_has_done_as_many_steps_as_it_wrote_down(self) -> None:
        log = trainlog.read(text("lerobot-0.6.1-interrupted.log"))
        assert (log.steps, len(log.windows), log.wall_clock_s, log.setting("steps")) == (15, 5, None, 36)

    @pytest.mark.parametrize("cut", range(1, 60, 7))
    def test_a_record_that_was_cut_off_does_not_count(self, cut: int) -> None:
        whole = records([0.5] * 4)
        log = trainlog.read(whole[: len(whole) - len("updt_s:0.500 data_s:0.010 smp/s:82 mem_gb:3.70\n") + cut])
        assert {window.update_s for window in log.windows} == {0.5}

    def test_mixed_with_other_ranks_colours_and_time_stamps(self) -> None:
        plain = text("lerobot-main.log")
        noisy = "".join(f"[rank0]:{line}\n" if n % 2 else f"\x1b[33m{line}\x1b[0m\n" for n, line in enumerate(plain.splitlines()))
        stamped = "".join(f"2026-10-02T09:14:01.123Z {line}\n" for line in plain.splitlines())
        wanted = trainlog.read(plain)
        for other in (noisy, stamped):
            log = trainlog.read(other)
            assert (log.windows, log.config, log.num_gpus) == (wanted.windows, wanted.config, wanted.num_gpus)

    def test_a_resumed_run_behind_another_is_the_one_that_counts(self) -> None:
        both = text("lerobot-0.6.1.log") + text("lerobot-main.log")
        assert trainlog.read(both) == trainlog.read(text("lerobot-main.log"))

    def test_a_torn_configuration_costs_the_settings_not_the_times(self) -> None:
        torn = text("lerobot-0.6.1.log").replace("'log_freq': 5,", "'log_freq': 5, Traceback (most recent call last)")
        log = trainlog.read(torn)
        assert (log.config, log.batch_size, len(log.windows)) == ({}, 2, 12)

    def test_names_the_cards_it_names(self) -> None:
        table = "|   0  NVIDIA A100-SXM4-80GB          On  |   00000000:00:04.0 Off |\n"
        assert [gpu_named(name, GPUS) for name in trainlog.read(table + records([1, 1, 1])).devices] == ["a100-80"]


@given(st.sampled_from(sorted(path.name for path in LOGS.iterdir())), st.data())
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_is_one_line_or_a_plausible_log(name: str, data: st.DataObject) -> None:
    content = text(name)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        piece = data.draw(st.sampled_from(["", "None", "-1", "1e309", "'", "{", "}", "[1]", "\n", "\r", ":", " ", "<A.B: 0>", "1,"]))
        content = content[:at] + piece + content[at + data.draw(st.sampled_from([0, 1, 7])) :]
    try:
        steady = trainlog.steady(trainlog.read(content))
    except UsageError as error:
        assert "\n" not in error.text
    else:
        assert 0 < steady.update_s < 1e12 and (steady.data_s or 0) >= 0 and (steady.vram_bytes or 1) > 0


class TestSteady:
    def test_the_first_tenth_and_at_least_one_is_left_out(self) -> None:
        result = trainlog.steady(trainlog.read(records([9.0, 0.5, 0.5, 0.5])))
        assert (result.update_s, result.data_s, result.step_s, result.used, result.dropped) == (0.5, 0.01, 0.51, 3, 1)
        assert trainlog.steady(trainlog.read(records([9.0] * 4 + [0.5] * 36))).dropped == 4

    def test_neither_a_checkpoint_nor_an_evaluation_moves_it(self) -> None:
        assert trainlog.steady(trainlog.read(records([1.0, 0.5, 0.5, 30.0, 0.5, 0.5, 12.0, 0.5]))).update_s == 0.5

    def test_memory_is_the_peak_of_all(self) -> None:
        log = trainlog.read(records([1, 1], "data_s:0 mem_gb:4.00") + records([1, 1], "data_s:0 mem_gb:3.50"))
        assert trainlog.steady(log).vram_bytes == 4 * GIB

    @pytest.mark.parametrize("windows", [1, 2])
    def test_too_few_windows(self, windows: int) -> None:
        with pytest.raises(UsageError, match="at least 3: train longer"):
            trainlog.steady(trainlog.read(records([0.5] * windows)))


class TestOthers:
    def test_trl_with_step_times(self) -> None:
        log = trainlog.read(text("trl-grpo.log"))
        assert (log.system, log.whole_step, log.num_gpus, log.batch_size, log.steps) == ("trl", True, 2, 16, 250)
        assert (log.wall_clock_s, trainlog.steady(log).step_s) == (1251.8, 12.4)

    def test_trl_without_them_by_the_clock_of_the_progress_bar(self) -> None:
        log = trainlog.read(text("trl-sft.log"))  # transformers 5 prints numbers as text
        assert log.system == "trl" and {window.update_s for window in log.windows} == {15 / 20}

    def test_what_trl_1_16_really_prints(self) -> None:
        """Trainings of a tiny model on a CPU, with transformers 5.23: 12 steps of GRPO, 400 of SFT with a record for every 10."""
        grpo = trainlog.read(text("trl-1.16-grpo.log"))
        assert (grpo.system, grpo.whole_step, len(grpo.windows), grpo.wall_clock_s) == ("trl", True, 12, 11.22)
        assert [window.update_s for window in grpo.windows[-2:]] == [0.186, 0.08418]
        sft = trainlog.read(text("trl-1.16-sft.log"))
        assert (sft.system, sft.wall_clock_s) == ("trl", 227)
        assert 0.1 < min(window.update_s for window in sft.windows) < 227 / 400 < trainlog.steady(sft).step_s

    def test_a_trainer_that_ran_too_short_for_its_clock(self) -> None:
        short = text("trl-1.16-sft.log").split("{'loss'")[:2]
        with pytest.raises(UsageError, match="too little time"):
            trainlog.read("{'loss'".join(short) + " {'train_runtime': '5.316'}")

    def test_skyrl_counts_a_step_once_though_two_loggers_say_it(self) -> None:
        log = trainlog.read(text("skyrl.log"))
        assert (log.system, len(log.windows), log.date, trainlog.steady(log).step_s) == ("skyrl", 7, "2026-09-03", 87.64)
        tracker = re.sub(r"Finished: 'step'.*", "", text("skyrl.log"))
        assert trainlog.read(tracker).windows == log.windows

    def test_a_pattern_of_ones_own(self) -> None:
        lines = "".join(f"iter {n} | 0.25 s | wait 0.05 s | 7.5 GB\n" for n in range(1, 6))
        pattern = r"iter (?P<step>\d+) \| (?P<update_s>\S+) s \| wait (?P<data_s>\S+) s \| (?P<vram_gb>\S+) GB"
        log = trainlog.read(lines, pattern)
        assert (log.system, log.steps, log.whole_step) == ("own", 5, False)
        assert log.windows[0] == trainlog.Window(0.25, 0.05, 7.5 * GB, "1")

    def test_a_pattern_over_a_fork_of_lerobot_keeps_its_configuration(self) -> None:
        fork = text("lerobot-main.log").replace("step_s:", "took ")
        log = trainlog.read(fork, r"took (?P<update_s>[\d.]+)")
        assert (log.whole_step, log.num_gpus, log.windows[1].update_s) == (True, 4, 0.418)
        assert log.setting("policy", "type") == "smolvla"

    @pytest.mark.parametrize(
        ("pattern", "said"),
        [
            ("(", "no regular expression"), ("x", "no group update_s"), ("(?P<loss>x)(?P<update_s>.)", "has a group 'loss'"),
            ("(?P<update_s>step)", "matched 'step', which is no number of at least 0"),
        ],
    )
    def test_a_pattern_that_cannot_work(self, pattern: str, said: str) -> None:
        with pytest.raises(UsageError, match=re.escape(said)):
            trainlog.read(text("lerobot-main.log"), pattern)

    @pytest.mark.parametrize(
        "content", ["Hello.\nNothing to see.\n", "\x00\x01\ufffd" * 500, "{'a': " * 3000, "1" * 200_000, "step:1 smpl:2\n"]
    )
    def test_what_is_no_log_says_so(self, content: str) -> None:
        with pytest.raises(UsageError, match="no step times of LeRobot, TRL or SkyRL; --pattern"):
            trainlog.read(content)

    @pytest.mark.parametrize("content", ["", "\n \r\n"])
    def test_nothing(self, content: str) -> None:
        with pytest.raises(UsageError, match="is empty"):
            trainlog.read(content)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("Tesla T4", "t4"), ("NVIDIA L40S", "l40s"), ("NVIDIA L4                      On  ", "l4"), ("NVIDIA A10G", "a10g"),
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA A100-SXM4-40GB", "a100-40"), ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090 D", "rtx4090d"), ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx4070ti-super"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "rtx3060-laptop"), ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("rtx5060ti-16", "rtx5060ti-16"), ("a100-80", "a100-80"),
        ("NVIDIA GeForce RTX 4080 SUPER", "rtx4080-super"), ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-ws"),
        ("NVIDIA H100 PCIe", None), ("NVIDIA GeForce RTX 3090 SUPER", None), ("NVIDIA GeForce RTX 5060 Ti", None),
        ("NVIDIA-SMI 550.54.15", None), ("RTX", None),
    ],
)  # fmt: skip
def test_a_card_is_only_taken_for_itself(name: str, gpu: str | None) -> None:
    assert gpu_named(name, GPUS) == gpu
