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

from profiling import build, models
from profiling.fake import LiveBytes, Never, autocast, flop_counter, imitate_cuda
from profiling.grid import CHUNK_FIELDS, DEFAULTS, Case

BATCHES = (1, 2, 8, 32)
_RISES = 1.02  # of the optimizer's step at the smallest batch

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
        config, policy, clip = _build(case)
        optimizer = _optimizer(case, config, policy)
        parameters = list(policy.parameters())
        weights = [*parameters, *(clip.parameters() if clip else ())]
        with flop_counter() as counter:
            _loss(policy, _batch(config, clip, 2)[0], case.autocast).backward()
        flops = counter.get_total_flops() / 2
        received = sum(parameter.numel() for parameter in parameters if parameter.grad is not None)
        optimizer.step()  # the first step makes the state that every later one has
        optimizer.zero_grad()
        peaks = [_train(case, config, policy, clip, optimizer, batch) for batch in batches]
        if len(_above(peaks)) < 2:  # the line matters beyond the largest batch alone, and may be steeper there
            peaks.append(_train(case, config, policy, clip, optimizer, 2 * batches[-1]))
        floor, a, b, error = fit(peaks)
        small, large = peaks[-2:]
        row = {
            "params": sum(parameter.numel() for parameter in parameters),
            "grad_params": received,
            "flops_per_sample": round(flops),
            "weight_bytes": sum(weight.numel() * weight.element_size() for weight in weights),
            "activation_bytes": round((large.saved - small.saved) / (large.batch - small.batch)),
            "floor_bytes": round(floor), "a_bytes": round(a), "b_bytes": round(b), "fit_error": f"{error:.3f}",
            "note": _note(case, peaks),
        }  # fmt: skip
    del policy, clip, optimizer, parameters, weights
    gc.collect()
    return row


def fit(peaks: list[Peaks]) -> tuple[float, float, float, float]:
    """(floor, a, b, error): least squares in relative terms through the batches above the floor, or the two largest.

    The line is that of forward and backward; where a batch is so large itself that the optimizer's step rises with it, of both.
    """
    floor = float(peaks[0].step)
    points = [(peak.batch, peak.passes if peak.step < _RISES * floor else peak.peak)
              for peak in (_above(peaks) if len(_above(peaks)) > 1 else peaks[-2:])]  # fmt: skip
    weights = [1 / height**2 for _, height in points]
    total = sum(weights)
    x = sum(weight * batch for weight, (batch, _) in zip(weights, points, strict=True)) / total
    y = sum(weight * height for weight, (_, height) in zip(weights, points, strict=True)) / total
    over = sum(weight * (batch - x) * (height - y) for weight, (batch, height) in zip(weights, points, strict=True))
    b = over / sum(weight * (batch - x) ** 2 for weight, (batch, _) in zip(weights, points, strict=True))
    a = y - b * x
    return floor, a, b, max(abs(max(floor, a + b * peak.batch) / peak.peak - 1) for peak in peaks)


def _above(peaks: list[Peaks]) -> list[Peaks]:
    """Those where forward and backward need more than the optimizer's step at the smallest batch."""
    return [peak for peak in peaks if peak.passes > peaks[0].step]


@cache
def _once(policy: str) -> None:
    """Patches of this process, made once: torch's at the first policy, the policy's own at each."""
    if policy:
        _once("")
        models.overlook_values(policy)
    else:
        imitate_cuda()


def _settings(case: Case) -> dict[str, Any]:
    """Fields of the policy's configuration that make the case."""
    settings: dict[str, Any] = {}
    if case.chunk != DEFAULTS[case.policy].chunk:  # how many of a chunk's actions are executed does not matter to training
        settings |= {CHUNK_FIELDS.get(case.policy, "chunk_size"): case.chunk, "n_action_steps": 1}
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
    if case.policy == "reward_classifier":
        settings["num_cameras"] = case.cameras
    if case.policy == "sarm":
        settings["image_key"] = "observation.images.camera0"
    return settings


def _build(case: Case) -> tuple[Any, Any, Any]:
    """(configuration, policy, what its preprocessor keeps beside it: sarm's CLIP, else None)."""
    import lerobot.policies  # noqa: F401  registers every policy type
    from lerobot.policies.factory import make_policy_config
    from lerobot.rewards.factory import make_reward_model_config

    inputs, outputs = build.features(case.cameras, case.width, case.height)
    make = make_reward_model_config if case.policy in build.REWARD_MODELS else make_policy_config
    config = make(case.policy, input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False, **_settings(case))
    if case.policy == "sarm":  # it writes down its own; the other cameras' frames are loaded and kept all the same
        config.input_features = inputs
    own = getattr(config, CHUNK_FIELDS.get(case.policy, "chunk_size"), case.chunk)
    if own != case.chunk:
        raise ValueError(f"the grid's chunk is {case.chunk}, LeRobot's {own}")
    clip = models.clip32() if case.policy == "sarm" else None
    policy = build.built(config, case.lora_rank)
    if case.policy == "xvla":
        policy.model.vlm.language_model.encoder.layerdrop = Never()
    return config, policy.train(), clip


def _batch(config: Any, clip: Any, size: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    batch, held = build.batch(config, size)
    return (build.encoded(config, clip, batch) if clip else batch), held


def _loss(policy: Any, batch: dict[str, Any], mixed: bool) -> torch.Tensor:
    with autocast(mixed):
        out = policy(batch)
    return out[0] if isinstance(out, tuple) else out


def _train(case: Case, config: Any, policy: Any, clip: Any, optimizer: Any, size: int) -> Peaks:
    """Peaks of one step of an optimizer that has its state."""
    parameters = list(policy.parameters())
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, torch.Tensor)]
    with LiveBytes([*parameters, *policy.buffers(), *(clip.parameters() if clip else ()), *state]) as live:
        batch, held = _batch(config, clip, size)
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
    if case.policy == "reward_classifier":
        notes.append("images of 128x128, which its pooling fits; the encoder is a ResNet-10 of transformers")
    if case.policy == "sarm":
        notes.append("with the CLIP ViT-B/32 of its preprocessor, which runs in the same process, and the frames of all cameras")
    if case.policy == "evo1":
        notes.append("eager attention, as where flash-attn is not installed; three views whatever the cameras")
    if case.policy == "evo1" and case.trained == "all":
        notes.append("recomputes the vision-language model, as it does by default where that is trained")
    if case.policy == "xvla":
        notes.append("Florence-2-large, images resized to 224x224")
    if len(_above(peaks)) < 2:
        notes.append(f"the line is fitted below the floor, on batches {peaks[-2].batch} and {peaks[-1].batch}")
    return "; ".join(notes)
