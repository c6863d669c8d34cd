"""A policy of LeRobot without a download, and the batch that its preprocessor hands to it. For real tensors and for fake ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from profiling import models

#: Numbers of a state and of an action: one SO-101 arm.
JOINTS = 6
REWARD_MODELS = ("reward_classifier", "sarm")
_TOKENS = (("observation.language.tokens", "observation.language.attention_mask", "tokenizer_max_length"),
           ("action.tokens", "action.token_mask", "max_action_tokens"))  # fmt: skip


def features(cameras: int, width: int, height: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(input features, output features) of a policy with these cameras."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))}
    for camera in range(cameras):
        inputs[f"observation.images.camera{camera}"] = PolicyFeature(FeatureType.VISUAL, (3, height, width))
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))}


def built(config: Any, rank: int = 0) -> Any:
    """The policy or reward model of `config` with random weights, under LoRA of `rank` where that is not 0."""
    with models.stand_ins(config.type):
        policy = _class(config.type)(config)
    models.settle(config.type, policy)
    if rank:
        from lerobot.configs.default import PeftConfig

        config.pretrained_path = config.pretrained_path or "base"  # LeRobot adapts pretrained policies only
        policy = policy.wrap_with_peft(peft_cli_overrides=dataclasses.asdict(PeftConfig(r=rank)))
    return policy


def _class(name: str) -> Any:
    if name in REWARD_MODELS:
        from lerobot.rewards.factory import get_reward_model_class

        return get_reward_model_class(name)
    from lerobot.policies.factory import get_policy_class

    return get_policy_class(name)


def batch(config: Any, size: int, device: str = "cpu") -> tuple[dict[str, Any], list[torch.Tensor]]:
    """(what the preprocessor hands to the policy, the loader's images where normalizing copies them); values are random."""

    def filled(*shape: int) -> torch.Tensor:
        return torch.rand(size, *shape, device=device)

    def flags(*shape: int) -> torch.Tensor:
        return torch.zeros(size, *shape, dtype=torch.bool, device=device)

    past, future, rewards = (getattr(config, f"{what}_delta_indices") for what in ("observation", "action", "reward"))
    made: dict[str, Any] = {"task": ["pick up the cube"] * size, "index": torch.arange(size, device=device)}
    held = []
    for key, feature in config.input_features.items():
        if "empty_camera" in key:
            continue  # the policy makes these up itself
        shape = feature.shape if past is None else (len(past), *feature.shape)
        made[key] = filled(*shape)
        if past is not None:
            made[f"{key}_is_pad"] = flags(len(past))
        if feature.type.value == "VISUAL" and getattr(config.normalization_mapping.get("VISUAL"), "value", "IDENTITY") != "IDENTITY":
            held.append(filled(*shape))
    made["action"] = filled(JOINTS) if future is None else filled(len(future), JOINTS)
    if future is not None:
        made["action_is_pad"] = flags(len(future))
    if rewards is not None:
        made |= {"next.reward": filled(len(rewards)), "next.reward_is_pad": flags(len(rewards)), "next.done": flags(len(rewards))}
    elif config.type == "reward_classifier":
        made["next.reward"] = filled()
    for ids, mask, length in _TOKENS:
        if tokens := getattr(config, length, 0):
            made[ids] = torch.randint(3, 30_000, (size, tokens), device=device)  # in every vocabulary
            made[mask] = ~flags(tokens)
    return made, held


def encoded(config: Any, clip: Any, made: dict[str, Any]) -> dict[str, Any]:
    """What sarm's preprocessor adds to a batch: its frames and its instruction as CLIP sees them, in CLIP's batches."""
    size, frames = len(made["task"]), config.num_frames
    pixels = clip.config.vision_config.image_size
    with torch.no_grad():
        seen = [clip.vision_model(torch.rand(min(config.clip_batch_size, size * frames - start), 3, pixels, pixels)).pooler_output
                for start in range(0, size * frames, config.clip_batch_size)]  # fmt: skip
        video = clip.visual_projection(torch.cat(seen)).reshape(size, frames, -1)
        words = clip.text_model(input_ids=torch.ones(1, 8, dtype=torch.long)).last_hidden_state[:, -1]
        text = clip.text_projection(words).expand(size, -1)
    return {**made, "video_features": video, "text_features": text, "state_features": torch.rand(size, frames, JOINTS),
            "lengths": torch.full((size,), frames, dtype=torch.int32), "sparse_targets": torch.rand(size, frames)}  # fmt: skip
