"""One case: the policy as LeRobot builds it, a training step at each batch size as lerobot-train makes it, one fitted line.

Peak bytes at a batch size are max(floor, a + b·batch). The floor is the optimizer's step, which a smaller batch does not
lower; a + b·batch is the highest point of forward and backward.
"""

from __future__ import annotations

import gc
from functools import cache
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from profiling import models
from profiling.fake import LiveBytes, autocast, flop_counter, imitate_cuda
from profiling.grid import Case

BATCHES = (1, 2, 8, 32)
#: Joints of the arm: state and action.
JOINTS = 6
#: Tokens that the language instruction is padded to.
TOKENS = {"smolvla": 48, "pi0": 48, "pi05": 200, "pi0_fast": 200, "xvla": 64, "multi_task_dit": 77}


class Peaks(NamedTuple):
    """Bytes of one steady training step at one batch size."""

    batch: int
    passes: int  # highest point of forward and backward
    step: int  # highest point of clipping and the optimizer's step
    saved: int  # activations kept for backward

    @property
    def peak(self) -> int:
        return max(self.passes, self.step)


def measure(case: Case, batches: tuple[int, ...] = BATCHES) -> dict[str, Any]:
    """The measured columns of the case's row: parameters, FLOPs a sample, bytes of the line, its largest relative error.

    Raises whatever LeRobot or torch raise where the policy does not build or run.
    """
    _once(case.policy)
    with FakeTensorMode(allow_non_fake_inputs=True):
        config, policy = _build(case)
        optimizer = _optimizer(case, config, policy)
        parameters = list(policy.parameters())
        with flop_counter() as counter:
            _loss(policy, _batch(case, config, 2)[0], case.autocast).backward()
        flops = counter.get_total_flops() / 2
        received = sum(parameter.numel() for parameter in parameters if parameter.grad is not None)
        optimizer.step()  # the first step makes the state that every later one has
        optimizer.zero_grad()
        peaks = [_train(case, config, policy, optimizer, batch) for batch in batches]
        if len(_above(peaks)) < 2:  # the line matters beyond the largest batch alone, and may be steeper there
            peaks.append(_train(case, config, policy, optimizer, 2 * batches[-1]))
        floor, a, b, error = fit(peaks)
        small, large = peaks[-2:]
        row = {
            "params": sum(parameter.numel() for parameter in parameters),
            "grad_params": received,
            "flops_per_sample": round(flops),
            "weight_bytes": sum(parameter.numel() * parameter.element_size() for parameter in parameters),
            "activation_bytes": round((large.saved - small.saved) / (large.batch - small.batch)),
            "floor_bytes": round(floor), "a_bytes": round(a), "b_bytes": round(b), "fit_error": f"{error:.3f}",
            "note": _note(case, peaks),
        }  # fmt: skip
    del policy, optimizer, parameters
    gc.collect()
    return row


def fit(peaks: list[Peaks]) -> tuple[float, float, float, float]:
    """(floor, a, b, error): least squares in relative terms through the batches above the floor, or the two largest."""
    floor = float(peaks[0].step)
    points = _above(peaks) if len(_above(peaks)) > 1 else peaks[-2:]
    weights = [1 / peak.passes**2 for peak in points]
    total = sum(weights)
    x = sum(weight * peak.batch for weight, peak in zip(weights, points, strict=True)) / total
    y = sum(weight * peak.passes for weight, peak in zip(weights, points, strict=True)) / total
    over = sum(weight * (peak.batch - x) * (peak.passes - y) for weight, peak in zip(weights, points, strict=True))
    b = over / sum(weight * (peak.batch - x) ** 2 for weight, peak in zip(weights, points, strict=True))
    a = y - b * x
    return floor, a, b, max(abs(max(floor, a + b * peak.batch) / peak.peak - 1) for peak in peaks)


def _above(peaks: list[Peaks]) -> list[Peaks]:
    """Those where forward and backward need more than the optimizer's step at the smallest batch."""
    return [peak for peak in peaks if peak.passes > peaks[0].step]


@cache
def _once(policy: str) -> None:
    """Patches of this process, made once: torch's at the first policy, the Hub's at each."""
    if policy:
        _once("")
        models.prepare(policy)
    else:
        imitate_cuda()


def _settings(case: Case) -> dict[str, Any]:
    """Fields of the policy's configuration that make the case."""
    settings: dict[str, Any] = {}
    if case.gradient_checkpointing:
        settings["gradient_checkpointing"] = True
    if case.policy in ("act", "diffusion", "vqbet"):
        settings["pretrained_backbone_weights"] = None
    if case.policy == "smolvla":  # in bfloat16 where the base's weights are loaded, in float32 where they are not
        settings |= {"load_vlm_weights": case.dtype == "bfloat16", "train_expert_only": case.trained in ("expert", "lora"),
                     "freeze_vision_encoder": case.trained != "all"}  # fmt: skip
    if case.policy in ("pi0", "pi05", "pi0_fast", "xvla"):
        settings["dtype"] = case.dtype
    if case.policy in ("pi0", "pi05"):
        settings["train_expert_only"] = case.trained == "expert"
    if case.policy == "evo1":
        settings |= {"training_stage": "stage2" if case.trained == "all" else "stage1"}
    if case.policy == "xvla":
        frozen = case.trained == "frozen_vlm"
        settings |= {"florence_config": models.florence(), "action_mode": "auto", "resize_imgs_with_padding": (224, 224),
                     "freeze_vision_encoder": frozen, "freeze_language_encoder": frozen}  # fmt: skip
    return settings


def _build(case: Case) -> tuple[Any, Any]:
    import lerobot.policies  # noqa: F401  registers every policy type
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config

    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))}
    for camera in range(case.cameras):
        inputs[f"observation.images.camera{camera}"] = PolicyFeature(FeatureType.VISUAL, (3, case.height, case.width))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))}
    config = make_policy_config(case.policy, input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False,
                                **_settings(case))  # fmt: skip
    policy = get_policy_class(case.policy)(config)
    models.settle(case.policy, policy)
    if case.trained == "lora":
        config.pretrained_path = config.pretrained_path or "base"  # LeRobot adapts pretrained policies only
        policy = policy.wrap_with_peft(peft_cli_overrides={
            "method_type": "LORA", "r": case.lora_rank, "target_modules": None, "full_training_modules": None, "init_type": None,
            "lora_alpha": None})  # fmt: skip
    return config, policy.train()


def _batch(case: Case, config: Any, size: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """What the preprocessor hands to the policy, and the raw images that the loader's batch still holds beside it."""
    observed, acted, rewarded = config.observation_delta_indices, config.action_delta_indices, config.reward_delta_indices
    normalized = getattr(config.normalization_mapping.get("VISUAL"), "value", "IDENTITY") != "IDENTITY"
    batch: dict[str, Any] = {"index": torch.zeros(size, dtype=torch.long), "task": ["pick up the cube"] * size}
    held = []
    for key, feature in config.input_features.items():
        shape = (size, *feature.shape) if observed is None else (size, len(observed), *feature.shape)
        batch[key] = torch.rand(shape)
        if observed is not None:
            batch[f"{key}_is_pad"] = torch.zeros(size, len(observed), dtype=torch.bool)
        if normalized and feature.type.value == "VISUAL":
            held.append(torch.rand(shape))
    batch["action"] = torch.rand(size, *([] if acted is None else [len(acted)]), JOINTS)
    if acted is not None:
        batch["action_is_pad"] = torch.zeros(size, len(acted), dtype=torch.bool)
    if rewarded is not None:
        batch["next.reward"] = torch.rand(size, len(rewarded))
        for name in ("next.reward_is_pad", "next.done"):
            batch[name] = torch.zeros(size, len(rewarded), dtype=torch.bool)
    if tokens := TOKENS.get(case.policy):
        batch["observation.language.tokens"] = torch.zeros(size, tokens, dtype=torch.long)
        batch["observation.language.attention_mask"] = torch.ones(size, tokens, dtype=torch.bool)
    if case.policy == "pi0_fast":
        batch["action.tokens"] = torch.zeros(size, config.max_action_tokens, dtype=torch.long)
        batch["action.token_mask"] = torch.ones(size, config.max_action_tokens, dtype=torch.bool)
    return batch, held


def _loss(policy: Any, batch: dict[str, Any], mixed: bool) -> torch.Tensor:
    with autocast(mixed):
        out = policy(batch)
    return out[0] if isinstance(out, tuple) else out


def _train(case: Case, config: Any, policy: Any, optimizer: Any, size: int) -> Peaks:
    """Peaks of one step of an optimizer that has its state."""
    parameters = list(policy.parameters())
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, torch.Tensor)]
    with LiveBytes([*parameters, *policy.buffers(), *state]) as live:
        batch, held = _batch(case, config, size)
        before = live.current
        loss = _loss(policy, batch, case.autocast)
        saved = live.current - before
        loss.backward()
        passes = live.peak
        live.restart()
        if (clip := config.get_optimizer_preset().grad_clip_norm) > 0:
            torch.nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        optimizer.step()
        step = live.peak
        optimizer.zero_grad()
        del loss, batch, held
    return Peaks(size, passes, step, saved)


def _optimizer(case: Case, config: Any, policy: Any) -> Any:
    """The policy's own, as LeRobot makes it, with torch's choice on CUDA: many tensors at once."""
    lora = case.trained == "lora"
    groups = [parameter for parameter in policy.parameters() if parameter.requires_grad] if lora else policy.get_optim_params()
    optimizer = config.get_optimizer_preset().build(groups)
    for group in optimizer.param_groups:
        group["foreach"] = True
    return optimizer


def _note(case: Case, peaks: list[Peaks]) -> str:
    """What a reader of the row has to know."""
    notes = []
    if case.policy == "vqbet":
        notes.append("GPT and heads, after the first 20000 steps; those train the VQ-VAE alone, which costs less")
        notes.append("images are cropped to 84x84")
    if case.policy == "tdmpc":
        notes.append("square images only, at most one camera")
    if case.policy == "smolvla" and case.dtype == "float32":
        notes.append("vision-language model in float32 (no pretrained weights loaded), expert in bfloat16")
    if case.policy == "evo1":
        notes.append("eager attention, as where flash-attn is not installed; three views whatever the cameras")
    if case.policy == "evo1" and case.trained == "all":
        notes.append("recomputes the vision-language model, as it does by default where that is trained")
    if case.policy == "xvla":
        notes.append("Florence-2-large, images resized to 224x224")
    if len(_above(peaks)) < 2:
        notes.append(f"the line is fitted below the floor, on batches {peaks[-2].batch} and {peaks[-1].batch}")
    return "; ".join(notes)
