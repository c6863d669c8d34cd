"""What stands after `--`: arguments for `lerobot-train`, or a whole training command. Pure, no I/O.

Flags follow draccus, LeRobot's parser: `--a.b=value` or `--a.b value`, a value never begins with `--`, the
last one wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from planner.errors import UsageError

TRAINER = "lerobot-train"
MODULE = "lerobot.scripts.lerobot_train"

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PROGRAM = re.compile(r"(.*/)?(lerobot-train|lerobot_train\.py)|.*lerobot/scripts/train\.py|lerobot(\.\w+)+")
_PYTHON = re.compile(r"(.*/)?python[0-9.]*")
_ACCEPTED = "expected arguments that begin with `--`, or a command that begins with " \
    "lerobot-train, accelerate launch, torchrun, python -m lerobot… or VAR=value"

#: options of `accelerate launch` and `torchrun` that take no value; all others take one (accelerate 1.15, torch 2.13)
_SWITCHES = frozenset((
    "m", "module", "no_python", "q", "quiet", "cpu", "multi_gpu", "tpu", "debug", "enable_cpu_affinity", "use_deepspeed",
    "dynamo_use_fullgraph", "dynamo_use_dynamic", "dynamo_use_regional_compilation", "use_fsdp", "use_megatron_lm",
    "use_parallelism_config", "same_network", "downcast_bf16", "standalone", "run_path", "virtual_local_rank",
))
_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))  # YAML 1.1, as LeRobot reads them
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))


def error(text: str) -> UsageError:
    """The UsageError of everything that is wrong behind `--`."""
    return UsageError("trainer-args", text)


def flag_name(token: str) -> str | None:
    """`--a.b` and `--a.b=value` -> `a.b`; None for anything else."""
    return token[2:].split("=", 1)[0] if token.startswith("--") and len(token) > 2 else None


def spans(args: tuple[str, ...]) -> Iterable[tuple[str | None, tuple[str, ...]]]:
    """The arguments in order, each flag together with its value: (name or None, its one or two tokens)."""
    position = 0
    while position < len(args):
        name = flag_name(args[position])
        width = 1
        if name is not None and "=" not in args[position]:
            width += position + 1 < len(args) and not args[position + 1].startswith("--")
        yield name, args[position : position + width]
        position += width


def value_of(args: tuple[str, ...], name: str) -> str | None:
    """The flag's value, None where the flag is absent. Raises UsageError where it stands without a value."""
    found = None
    for flag, tokens in spans(args):
        if flag == name:
            if "=" not in tokens[0] and len(tokens) == 1:
                raise error(f"--{name} needs a value; LeRobot refuses the flag alone: write --{name}=VALUE "
                            "(true or false for a switch)")
            found = tokens[1] if len(tokens) == 2 else tokens[0].split("=", 1)[1]
    return found


def without(args: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    """The arguments without these flags and their values; a name that ends in `.` stands for all below it."""
    names = tuple(names)

    def dropped(flag: str | None) -> bool:
        return flag is not None and any(flag == name or name.endswith(".") and flag.startswith(name) for name in names)

    return tuple(token for flag, tokens in spans(args) if not dropped(flag) for token in tokens)


def integer(name: str, text: str, least: int = 0) -> int:
    """A whole number as LeRobot reads it: `100_000` is one, `1e5` is not."""
    if not re.fullmatch(r"[-+]?[0-9]+(_[0-9]+)*", text):
        raise error(f"--{name}={text}: expected a whole number such as 100000 or 100_000")
    if len(text) > 18 or int(text) < least:
        raise error(f"--{name}={text}: expected a whole number of at least {least}")
    return int(text)


def boolean(name: str, text: str) -> bool:
    """true/false, yes/no, on/off. LeRobot refuses 1 and 0, and so does this."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise error(f"--{name}={text}: expected true or false")


def integers(name: str, text: str) -> tuple[int, ...]:
    """A list of different whole numbers, `[0,1,2]`, as --dataset.episodes takes it."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(type(item) is int and item >= 0 for item in items):
        raise error(f"--{name}={text}: expected a list of whole numbers such as [0,1,2]")
    if len(set(items)) != len(items) or not items:
        raise error(f"--{name}={text}: expected at least one number, each once")
    return tuple(items)


class Pasted(NamedTuple):
    """A tail, taken apart. `args` are the trainer's own arguments, byte for byte."""

    args: tuple[str, ...] = ()
    whole: bool = False  # a command with its program, not arguments alone
    environment: tuple[tuple[str, str], ...] = ()
    launcher: tuple[str, ...] = ()  # everything between the environment and args, the program included
    num_processes: int | None = None  # what the launcher says; None where it says nothing
    mixed_precision: str | None = None  # of `accelerate launch`

    def get(self, name: str) -> str | None:
        """Value of `--name`, the last one; None where it is absent."""
        return value_of(self.args, name)

    def integer(self, name: str, least: int = 0) -> int | None:
        text = self.get(name)
        return None if text is None else integer(name, text, least)

    def boolean(self, name: str) -> bool | None:
        text = self.get(name)
        return None if text is None else boolean(name, text)

    def integers(self, name: str) -> tuple[int, ...] | None:
        text = self.get(name)
        return None if text in (None, "null", "None") else integers(name, text)


def read(tail: tuple[str, ...]) -> Pasted:
    """The tail taken apart. Raises UsageError, in one line, where it is neither arguments nor a training command."""
    found = _read(tail)
    if found.get("policy.type") is not None and found.get("policy.path") is not None:
        raise error("--policy.type and --policy.path stand together, which LeRobot refuses: "
                    "the configuration behind --policy.path names the type, so leave --policy.type out")
    return found


def _read(tail: tuple[str, ...]) -> Pasted:
    if not tail or tail[0].startswith("--"):
        return Pasted(args=tail)
    if len(tail) == 1 and len(tail[0].split()) > 1:
        raise error("what stands after -- is one quoted text: remove the quotes around it, as in -- "
                    f"{tail[0].split()[0]} …")
    environment = []
    rest = tail
    while rest and (match := _VARIABLE.fullmatch(rest[0])):
        environment.append((match[1], match[2]))
        rest = rest[1:]
    if not rest:
        raise error(f"the command after -- has no program: {_ACCEPTED}")
    head, options = _program(rest)
    launcher, args = rest[:head], rest[head:]
    processes = options.get("num_processes") or options.get("nproc_per_node")
    return Pasted(
        args=args,
        whole=True,
        environment=tuple(environment),
        launcher=launcher,
        num_processes=None if processes is None or not processes.isdigit() else integer("num_processes", processes, 1),
        mixed_precision=options.get("mixed_precision"),
    )


def _program(tokens: tuple[str, ...]) -> tuple[int, dict[str, str]]:
    """How many tokens come before the trainer's own arguments, and the launcher's options."""
    options: dict[str, str] = {}
    position = 0
    if tokens[:2] == ("accelerate", "launch") or tokens[0].endswith("/accelerate") and tokens[1:2] == ("launch",):
        position = 2
    elif tokens[0].rsplit("/", 1)[-1] == "torchrun":
        position = 1
    elif _PYTHON.fullmatch(tokens[0]) and tokens[1:2] == ("-m",):
        position = 2
    elif _PYTHON.fullmatch(tokens[0]):
        position = 1
    elif tokens[0].startswith("lerobot."):  # a module is no command
        raise error(f"{tokens[0]!r} after --: {_ACCEPTED}")
    while position and position < len(tokens) and tokens[position].startswith("-"):
        name, equals, value = tokens[position].lstrip("-").partition("=")
        name = name.replace("-", "_")
        position += 1
        if not equals and name not in _SWITCHES and position < len(tokens):
            value = tokens[position]
            position += 1
        options[name] = value
    if position >= len(tokens) or not _PROGRAM.fullmatch(tokens[position]):
        at = tokens[position] if position < len(tokens) else tokens[-1]
        raise error(f"{at!r} after -- is not LeRobot's trainer: {_ACCEPTED}")
    return position + 1, options
