"""One policy, variant and camera set of the LeRobot that is installed: real training steps on a device, timed.

The policy is built and fed as the profiler does it (profiling.build); the step is the release's own
`lerobot_train.update_policy` under an Accelerator made as the trainer makes it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections import Counter
from types import SimpleNamespace
from typing import Any

#: What can be built without a download, with what this takes beside the release's defaults. smolvla is as
#: `--policy.path=lerobot/smolvla_base` gives it: the language model in bfloat16, the expert trained.
POLICIES = {
    **dict.fromkeys(("act", "diffusion", "vqbet"), ("pretrained_backbone_weights=null",)),
    **dict.fromkeys(("tdmpc", "multi_task_dit", "evo1", "pi0", "pi05", "pi0_fast"), ()),
    "smolvla": ("load_vlm_weights=true",), "xvla": ("action_mode=auto", "resize_imgs_with_padding=[224,224]"),
}  # fmt: skip
#: Parts of a variant, joined by +, as flags of the policy. On top come `loraN` (PEFT of rank N with LeRobot's own targets) and
#: `chunkN` (a chunk or horizon of N actions).
PARTS = {
    "default": (), "bf16": ("dtype=bfloat16",), "gc": ("gradient_checkpointing=true",), "amp": ("use_amp=true",),
    "expert": ("train_expert_only=true",), "all": ("train_expert_only=false", "freeze_vision_encoder=false"),
    "stage2": ("training_stage=stage2",),
}  # fmt: skip
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
#: A policy's names of its chunk.
CHUNKS = ("chunk_size", "horizon", "action_chunk_size")


class Missing(Exception):
    """This cannot be measured here; the text says why."""


def parsed(policy: str, flags: list[str]):
    """The policy's configuration, read as LeRobot's command line reads it."""
    import draccus
    import lerobot.policies.factory  # noqa: F401  registers every policy type
    from lerobot.configs.policies import PreTrainedConfig

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return draccus.parse(PreTrainedConfig.get_choice_class(policy), args=["--device=cpu", *(f"--{flag}" for flag in flags)])
    except KeyError:
        raise Missing("this release has no such policy") from None
    except SystemExit:
        raise Missing(said.getvalue().strip().splitlines()[-1]) from None


def flags_of(policy: str, variant: str, release: str) -> tuple[list[str], int]:
    """(flags of the policy, LoRA rank) of a variant such as `bf16+gc+lora16+chunk100`. Raises Missing where there is no such thing."""
    from lerobot.policies.factory import get_policy_class
    from lerobot.policies.pretrained import PreTrainedPolicy

    if policy not in POLICIES:
        raise Missing(f"this tool cannot build it without a download; it builds {', '.join(POLICIES)}")
    flags, rank = list(POLICIES[policy]), 0
    base = parsed(policy, flags)
    for part in variant.split("+"):
        if part.startswith("lora") and part[4:].isdecimal():
            rank = int(part[4:])
            if get_policy_class(policy)._get_default_peft_targets is PreTrainedPolicy._get_default_peft_targets:
                raise Missing("LeRobot has no LoRA targets for it")
            if importlib.util.find_spec("peft") is None:
                raise Missing("peft is not installed")
        elif part.startswith("chunk") and part[5:].isdecimal():
            flags.append(f"{next(name for name in CHUNKS if hasattr(base, name))}={int(part[5:])}")
            if getattr(base, "n_action_steps", 0) > int(part[5:]):  # how many are executed does not matter to training
                flags.append(f"n_action_steps={int(part[5:])}")
        elif part not in PARTS:
            raise Missing(f"unknown variant; its parts are {', '.join(PARTS)}, loraN, chunkN")
        elif part == "amp" and (hasattr(base, "dtype") or release.startswith("0.4.")):
            raise Missing("the trainer does not read use_amp for it")
        elif absent := [name for name, _ in (flag.split("=") for flag in PARTS[part]) if not hasattr(base, name)]:
            raise Missing(f"it has no {absent[0]}")
        else:
            flags += PARTS[part]
    if variant != "default" and not rank and parsed(policy, flags) == base:
        raise Missing("that is its default")
    return flags, rank


class Case:
    """One policy, variant and camera set: built on the CPU, on the device from the first run on."""

    def __init__(self, policy: str, flags: list[str], rank: int, cameras: tuple[int, ...], device: str, release: str) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        from profiling import build, models

        self.config, self.device, self.optimizer = parsed(policy, flags), device, None
        self.config.input_features, self.config.output_features = build.features(*cameras)
        if policy == "xvla":
            self.config.florence_config = models.florence()
        self.policy = build.built(self.config, rank)
        self.config.device = device

        precision = None  # 0.4 leaves it to accelerate, 0.6 follows the policy's dtype, or use_amp where it has none
        if not release.startswith("0.4."):
            own = getattr(self.config, "dtype", str(torch.get_autocast_dtype(device))[6:] if self.config.use_amp else None)
            precision = {"bfloat16": "bf16", "float16": "fp16", "float32": "no"}.get(own)
        torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as the trainer sets them
        AcceleratorState._reset_state(True)  # one process, several precisions
        self.accelerator = Accelerator(step_scheduler_with_optimizer=False, mixed_precision=precision, cpu=device == "cpu")

        dtypes: Counter[str] = Counter()
        for weight in self.policy.parameters():
            dtypes[str(weight.dtype)[6:]] += weight.numel()
        self.parameters = dtypes.total()
        self.variant = {
            "dtype": dtypes.most_common(1)[0][0], "gradient_checkpointing": getattr(self.config, "gradient_checkpointing", False),
            "trained": trained(policy, self.config, rank), "lora_rank": rank, "compiled": getattr(self.config, "compile_model", False),
            "autocast": self.accelerator.mixed_precision != "no", "chunk": chunk(self.config),
        }  # fmt: skip

    def run(self, size: int, warmup: int, steps: int) -> tuple[list[float], int]:
        """(seconds of each step after the warm-up, the highest peak of CUDA's allocator in bytes or 0)."""
        import torch
        from lerobot.scripts.lerobot_train import update_policy

        from profiling import build

        preset = self.config.get_optimizer_preset()
        if self.optimizer is None:
            self.policy.to(self.device)
            self.policy, self.optimizer = self.accelerator.prepare(self.policy, preset.build(self.policy.get_optim_params()))
        times, peak = [], 0
        for step in range(warmup + steps):
            batch, held = build.batch(self.config, size, self.device)
            if self.device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            metrics = SimpleNamespace(update_metrics=lambda _: None)  # update_s is what LeRobot logs, read after loss.item()
            update_policy(metrics, self.policy, batch, self.optimizer, preset.grad_clip_norm, accelerator=self.accelerator)
            if step >= warmup:
                times.append(metrics.update_s)
                peak = max(peak, torch.cuda.max_memory_allocated() if self.device == "cuda" else 0)
            del batch, held
        return times, peak


def trained(policy: str, config: Any, rank: int) -> str:
    """What data/policies.yaml calls the parts that are trained."""
    if rank:
        return "lora"
    frozen = getattr(config, "freeze_vision_encoder", False)
    if getattr(config, "train_expert_only", False) or getattr(config, "training_stage", None) == "stage1":
        return "expert"
    if frozen and getattr(config, "freeze_language_encoder", False):
        return "frozen_vlm"
    return "vlm+expert" if frozen and policy == "smolvla" else "all"


def chunk(config: Any) -> int:
    """Actions of a sample."""
    return next(getattr(config, name) for name in CHUNKS if hasattr(config, name))
