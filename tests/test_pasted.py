"""Reading what stands after `--`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import pasted
from planner.errors import UsageError
from planner.pasted import Pasted, read, without

ACT = ("--policy.type=act", "--dataset.repo_id", "me/pick", "--steps=100_000")


def test_arguments_alone() -> None:
    tail = read(ACT)
    assert (tail.whole, tail.launcher, tail.args) == (False, (), ACT)
    assert tail.get("policy.type") == "act"
    assert tail.get("dataset.repo_id") == "me/pick"
    assert tail.integer("steps", least=1) == 100_000
    assert tail.get("batch_size") is None
    assert read(()) == Pasted()


@pytest.mark.parametrize(("command", "launcher", "processes"), [
    ("lerobot-train", 1, None),
    ("/opt/venv/bin/lerobot-train", 1, None),
    ("python -m lerobot.scripts.lerobot_train", 3, None),
    ("python3.12 -m lerobot.scripts.train", 3, None),
    ("accelerate launch --multi_gpu --num_processes=4 -m lerobot.scripts.lerobot_train", 6, 4),
    ("accelerate launch --num-processes 2 --mixed_precision bf16 /opt/venv/bin/lerobot-train", 7, 2),
    ("accelerate launch --config_file a.yaml /opt/venv/bin/lerobot-train", 5, None),
    ("torchrun --standalone --nproc-per-node 8 -m lerobot.scripts.lerobot_train", 6, 8),
    ("torchrun --nproc_per_node=gpu src/lerobot/scripts/lerobot_train.py", 3, None),
])
def test_whole_command(command: str, launcher: int, processes: int | None) -> None:
    tail = read(("CUDA_VISIBLE_DEVICES=0", "EMPTY=", *command.split(), *ACT))
    assert tail.whole
    assert tail.environment == (("CUDA_VISIBLE_DEVICES", "0"), ("EMPTY", ""))
    assert tail.launcher == tuple(command.split()[:launcher])
    assert tail.args == ACT
    assert tail.num_processes == processes
    assert tail.mixed_precision == ("bf16" if "bf16" in command else None)


@pytest.mark.parametrize("command", [
    "echo hello", "python train.py", "python -m torch", "accelerate launch", "accelerate config", "torchrun other.py",
    "lerobot-eval --x=1", "act", "-x", "A=1", "python", "lerobot.scripts.lerobot_train", "accelerate launch --num_processes",
])
def test_other_commands_are_refused_in_one_line(command: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tuple(command.split()))
    assert "lerobot-train" in caught.value.text
    assert "\n" not in caught.value.text


@pytest.mark.parametrize("text", ["lerobot-train --policy.type=act", "A=1 lerobot-train --policy.type=act", "python -m lerobot\ttrain"])
def test_a_command_in_quotes(text: str) -> None:
    with pytest.raises(UsageError, match="remove the quotes"):
        read((text,))
    assert read(("--job_name=two words",)).get("job_name") == "two words"


@pytest.mark.parametrize("program", [(), ("lerobot-train",)])
def test_type_and_path_exclude_each_other(program: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="leave --policy.type out"):
        read((*program, "--policy.type=smolvla", "--policy.path", "lerobot/smolvla_base"))
    read((*program, "--policy.type=pi05", "--policy.pretrained_path=lerobot/pi05_base"))


def test_the_last_one_wins() -> None:
    assert read(("--steps=1", "--steps", "2")).get("steps") == "2"
    assert read(("--job_name", "", "--job_name==")).get("job_name") == "="


def test_a_value_is_no_flag() -> None:
    tail = read(("--wandb.enable", "--steps=5"))
    with pytest.raises(UsageError, match="wandb.enable needs a value"):
        tail.get("wandb.enable")
    assert tail.get("steps") == "5"
    assert read(("--policy.delta", "-3")).get("policy.delta") == "-3"


@pytest.mark.parametrize("text", ["1e5", "8.0", "", "-1", "0", "ten", "1__0", "0x10", "9" * 30])
def test_bad_counts(text: str) -> None:
    with pytest.raises(UsageError, match="--steps="):
        read((f"--steps={text}",)).integer("steps", least=1)


def test_counts_from_zero() -> None:
    assert read(("--num_workers=0",)).integer("num_workers") == 0
    with pytest.raises(UsageError, match="at least 0"):
        read(("--num_workers=-1",)).integer("num_workers")


def test_booleans_as_lerobot_reads_them() -> None:
    for text, value in (("true", True), ("True", True), ("YES", True), ("false", False), ("No", False)):
        assert pasted.boolean("wandb.enable", text) is value
    for text in ("1", "0", "maybe", "", "tRuE"):
        with pytest.raises(UsageError, match="expected true or false"):
            pasted.boolean("wandb.enable", text)


def test_episode_lists() -> None:
    assert read(("--dataset.episodes=[0, 2,5]",)).integers("dataset.episodes") == (0, 2, 5)
    assert read(("--dataset.episodes=null",)).integers("dataset.episodes") is None
    for text in ("0,1,2", "[]", "[-1]", "[1,1]", "[1.5]", "[true]", "{}", "[" * 100_000):
        with pytest.raises(UsageError, match="dataset.episodes"):
            pasted.integers("dataset.episodes", text)


def test_without_takes_both_forms_and_prefixes() -> None:
    args = ("--job.target", "l4x1", "--job_name=x", "--job.detach=true", "--steps=1", "stray")
    assert without(args, ["job."]) == ("--job_name=x", "--steps=1", "stray")
    assert without(args, ["job_name", "steps"]) == ("--job.target", "l4x1", "--job.detach=true", "stray")
    assert without(args, ["job"]) == args


@given(st.lists(st.text(max_size=12)))
def test_nothing_is_lost_or_changed(tokens: list[str]) -> None:
    args = tuple(tokens)
    assert without(args, ["\0"]) == args
    assert tuple(token for _, pair in pasted.spans(args) for token in pair) == args
    assert read(("lerobot-train", *args)).args == args
