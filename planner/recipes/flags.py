"""Trainer flags that make a policy train the variant that was planned, as each LeRobot release spells them."""

from __future__ import annotations

import json

from planner.errors import UsageError
from planner.pasted import Pasted
from planner.records import Policy
from planner.workload import Training

Flag = tuple[str, object]

_DTYPE = ("dtype", "torch_dtype", "vlm_dtype")
_CHECKPOINTING = ("gradient_checkpointing", "use_gradient_checkpointing", "enable_gradient_checkpointing")


def text(value: object) -> str:
    """A flag's value so that LeRobot, which reads values as YAML, gets exactly this.

    Quotes appear only where YAML would change the text: `a # b` loses its end, `a: b` becomes a mapping, `[a` an error, a
    line break a blank.
    """
    import yaml  # LeRobot reads with the pure-Python loader, which is stricter than the C one (tabs)

    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    try:
        plain = str(yaml.load(value, yaml.SafeLoader)) == value
    except (yaml.YAMLError, ValueError):
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)


def variant_flags(workload: Training, own: Pasted) -> list[Flag]:
    """(flag, value) pairs; those that the user states are the user's.

    A policy that starts from --policy.path inherits the base's own settings, so dtype and checkpointing are said
    there; elsewhere only what differs from the release's default. Raises UsageError for a variant without a flag.
    """
    policy, variant, release = workload.policy, workload.variant, workload.lerobot
    known = policy.flags.get(release, {})
    based = policy.base is not None and policy.base.flag == "--policy.path" and own.get("policy.type") is None
    inherits = based or own.get("policy.path") is not None
    found: list[Flag] = []

    def setting(names: tuple[str, ...], value: object, default: object, what: str, inherits: bool = inherits) -> None:
        name = next((name for name in names if name in known), None)
        if name is None and value != default:
            raise UsageError("variant", f"{policy.id} of LeRobot {release} has no flag for {what}")
        if name is not None and (value != default or inherits):
            found.append((f"policy.{name}", value))

    def default_of(names: tuple[str, ...]) -> object:
        return next((known[name] for name in names if name in known), False)

    setting(_DTYPE, variant.dtype, policy.dtype, f"dtype {variant.dtype}")
    setting(_CHECKPOINTING, variant.gradient_checkpointing, default_of(_CHECKPOINTING), "gradient checkpointing")
    setting(("compile_model",), variant.compiled, default_of(("compile_model",)), "compilation", False)
    if variant.trained == "lora":
        found += [("peft.method_type", "LORA"), ("peft.r", variant.lora_rank)]
    elif not any(own.get(f"policy.{name}") is not None for flags, _ in policy.trained_by for name in flags):
        found += [(f"policy.{name}", value) for name, value in _trained(policy, known, variant.trained).items()]
    if variant.autocast and release == "main":
        found.append(("accelerator.mixed_precision", "bf16"))
    return found


def _trained(policy: Policy, known: dict[str, object], wanted: str) -> dict[str, object]:
    """Flag values under which the policy's `trained_by` rules, first match first, say `wanted`."""

    def says(flags: dict[str, object]) -> tuple[dict[str, object], str]:
        for rule, trained in policy.trained_by:
            if all(flags.get(name) == value for name, value in rule.items()):
                return rule, trained
        return {}, policy.trained

    if says(known)[1] == wanted:
        return {}
    for goal, trained in policy.trained_by:
        if trained != wanted or not all(name in known for name in goal):
            continue
        chosen = dict(known) | goal
        for _ in policy.trained_by:  # each turn switches off one rule that stands before the goal
            rule, now = says(chosen)
            if now == wanted:
                return {name: value for name, value in chosen.items() if value != known[name]}
            for name in rule:
                if name not in goal and isinstance(chosen.get(name), bool):
                    chosen[name] = not chosen[name]
                    break
    raise UsageError("variant", f"{policy.id} has no flags to train {wanted!r}")


def schedule_flags(workload: Training, steps: int) -> list[Flag]:
    """The learning-rate schedule over this run, where the release has the flags.

    LeRobot shortens warm-up and decay together, but only while steps are fewer than the decay it is given: a decay
    that equals the steps would keep the whole warm-up, so the warm-up is shortened here. It never grows.
    """
    known = workload.policy.flags.get(workload.lerobot, {})
    decay, warmup = known.get("scheduler_decay_steps"), known.get("scheduler_warmup_steps")
    if not isinstance(decay, int) or decay == steps:
        return []
    flags: list[Flag] = [("policy.scheduler_decay_steps", steps)]
    if isinstance(warmup, int) and steps < decay:
        flags.append(("policy.scheduler_warmup_steps", max(1, warmup * steps // decay)))
    return flags
