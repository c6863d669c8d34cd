"""Which variant a release's defaults and the user's trainer arguments make of a policy. Pure."""

from __future__ import annotations

from typing import Any

from planner import pasted
from planner.errors import UsageError
from planner.pasted import Pasted
from planner.records import Policy
from planner.workload import DEFAULT_LORA_RANK, Variant

_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "auto": "bfloat16"}


def variant_of(policy: Policy, release: str, tail: Pasted) -> Variant:
    """What the release's defaults and the user's trainer arguments make of the policy."""
    known = policy.flags.get(release, {})

    def setting(names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if name in known:
                said = tail.get(f"policy.{name}")
                if said is None:
                    return name, known[name]
                return name, pasted.boolean(f"policy.{name}", said) if isinstance(known[name], bool) else said
        return names[0], None

    name, dtype = setting(("dtype", "torch_dtype", "vlm_dtype"))
    if dtype is not None and tail.get(f"policy.{name}") is not None and dtype not in _DTYPES:
        raise UsageError("trainer-args", f"--policy.{name}={dtype}: LeRobot takes float32 or bfloat16")
    scratch = tail.get("policy.type") is not None and tail.get("policy.pretrained_path") is None
    default = policy.scratch_dtype if scratch and policy.scratch_dtype else policy.dtype
    bulk = default if dtype is None or tail.get(f"policy.{name}") is None else _DTYPES[dtype]
    checkpointing = bool(setting(("gradient_checkpointing", "use_gradient_checkpointing", "enable_gradient_checkpointing"))[1])
    lora = 0
    if any(flag is not None and flag.startswith("peft.") for flag, _ in pasted.spans(tail.args)):
        lora = tail.integer("peft.r", 1) or DEFAULT_LORA_RANK
    return Variant(
        dtype=bulk,
        gradient_checkpointing=checkpointing,
        trained="lora" if lora else _trained(policy, known, tail),
        lora_rank=lora,
        autocast=_autocast(policy, release, known, bulk, tail),
        compiled=setting(("compile_model",))[1] is True,
        chunk=_chunk(policy, release, known, tail),
    )


#: How the releases call the actions of a sample.
_CHUNK = ("chunk_size", "horizon", "action_chunk_size", "action_horizon")


def usual_chunk(policy: Policy, release: str) -> int:
    """Actions of a sample where nobody says otherwise."""
    known = policy.flags.get(release, {})
    return next((int(str(known[name])) for name in _CHUNK if name in known), policy.chunk)


def _chunk(policy: Policy, release: str, known: dict[str, object], tail: Pasted) -> int:
    """Actions of a sample where they are not `policy.chunk`, else 0. Raises UsageError where LeRobot would refuse them."""
    name = next((name for name in _CHUNK if name in known), None)
    said = None if name is None else tail.integer(f"policy.{name}", 1)
    chunk = usual_chunk(policy, release) if said is None else said
    if said is not None and name in ("chunk_size", "action_horizon"):
        executed = tail.integer("policy.n_action_steps", 1)
        if executed is None and not _from_checkpoint(policy, tail):  # a checkpoint's own setting is not known here
            executed = int(str(known.get("n_action_steps", 1)))
        if executed is not None and executed > chunk:
            raise UsageError("trainer-args", f"--policy.{name}={chunk}: LeRobot {release} refuses to execute {executed} actions of a chunk "
                             f"of {chunk}: add --policy.n_action_steps={chunk}, or fewer")
    return 0 if chunk == policy.chunk else chunk


def _from_checkpoint(policy: Policy, tail: Pasted) -> bool:
    """Settings that the user does not state come from a checkpoint's configuration."""
    if tail.get("policy.path") is not None or tail.get("config_path") is not None:
        return True
    return policy.base is not None and policy.base.flag == "--policy.path" and tail.get("policy.type") is None


def _trained(policy: Policy, known: dict[str, object], tail: Pasted) -> str:
    for flags, trained in policy.trained_by:
        if all(_value(known.get(name), tail.get(f"policy.{name}"), name) == value for name, value in flags.items()):
            return trained
    return policy.trained


def _value(default: object, said: str | None, name: str) -> object:
    if said is None:
        return default
    return pasted.boolean(f"policy.{name}", said) if isinstance(default, bool) else said


def _autocast(policy: Policy, release: str, known: dict[str, object], dtype: str, tail: Pasted) -> bool:
    """Where mixed precision comes from differs: accelerate (0.4.4), the policy's dtype (0.6), the trainer (main)."""
    if release == "0.4.4":
        return tail.mixed_precision in ("bf16", "fp16")
    if release == "main":
        return tail.get("accelerator.mixed_precision") in ("bf16", "fp16")
    if "dtype" in known:
        return dtype == "bfloat16" and (tail.get("policy.dtype") is not None or known["dtype"] == "bfloat16")
    if "use_amp" in known and _value(known["use_amp"], tail.get("policy.use_amp"), "use_amp"):
        return True
    return tail.mixed_precision in ("bf16", "fp16")


def accumulation_of(tail: Pasted, release: str) -> int:
    steps = tail.integer("accelerator.gradient_accumulation.steps", 1)
    if steps is not None and release != "main":
        raise UsageError("trainer-args", f"LeRobot {release} has no --accelerator.gradient_accumulation.steps; only main has it")
    return steps or 1
