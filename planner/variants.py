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
    )


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
