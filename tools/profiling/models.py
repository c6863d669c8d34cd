"""In place of what a policy loads from the Hub: the model's configuration written down here, with random weights.

Layouts are those of the published config.json files; parameter counts agree with the published sizes (SmolVLA 450 M, X-VLA 0.88 B).
For real tensors and for fake ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from profiling.fake import real

#: openai/clip-vit-base-patch16 and -patch32, but for the size of a patch; the vision half of SmolVLM2 is as wide and deep.
VIT_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


@contextlib.contextmanager
def stand_ins(policy: str) -> Iterator[None]:
    """While it is open, what `policy` loads by name has random weights in its published shape; tokenizers have only their ids."""
    with contextlib.ExitStack() as stack:
        for loader, make in _LOADERS.get(policy, dict)().items():
            stack.enter_context(mock.patch.object(loader, "from_pretrained", lambda *_, make=make, **how: make(**how)))
        yield


def settle(name: str, policy: Any) -> None:
    """What a built policy needs so that every step is the usual one."""
    if name == "vqbet":
        policy.vqbet.action_head.vqvae_model.discretized = real(True)  # past the steps that train the VQ-VAE alone
    if name == "sarm":
        policy.gt_stage_ratio = 1.0  # a quarter of the steps takes the predicted stage, which costs the same


def overlook_values(policy: str) -> None:
    """Patch transformers, for the rest of this process, where `policy` would decide on values that fake tensors do not have."""
    if policy == "smolvla":
        from transformers.models.smolvlm import modeling_smolvlm

        def embed(self: Any, pixel_values: Any, patch_attention_mask: Any) -> Any:
            """The embedding of whole images, whose positions do not depend on data."""
            patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
            return patches + self.position_embedding(torch.arange(patches.shape[1]).expand(patches.shape[0], -1))

        modeling_smolvlm.SmolVLMVisionEmbeddings.forward = embed
    if policy == "evo1":
        from transformers import InternVLModel

        def placeholders(self: Any, input_ids: Any, inputs_embeds: Any, image_features: Any) -> Any:
            """Without the check that there are as many image tokens as image features."""
            return (input_ids == self.config.image_token_id).unsqueeze(-1).expand_as(inputs_embeds)

        InternVLModel.get_placeholder_mask = placeholders


def _smolvlm() -> dict[Any, Callable[..., Any]]:
    """HuggingFaceTB/SmolVLM2-500M-Video-Instruct."""
    import transformers as hf

    text = {
        "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
        "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49280, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000, "attention_bias": False, "tie_word_embeddings": False, "dtype": "bfloat16", "pad_token_id": 2,
    }  # fmt: skip

    def config() -> Any:
        return hf.SmolVLMConfig(text_config=text, vision_config={**VIT_B, "image_size": 512, "patch_size": 16}, scale_factor=4,
                                image_token_id=49190, tie_word_embeddings=False, dtype="bfloat16", pad_token_id=2)  # fmt: skip

    tokenizer = SimpleNamespace(fake_image_token_id=49189, global_image_token_id=49152)
    return {
        hf.AutoConfig: lambda **_: config(),
        hf.AutoProcessor: lambda **_: SimpleNamespace(tokenizer=tokenizer),
        hf.AutoModelForImageTextToText: lambda **_: hf.SmolVLMForConditionalGeneration(config()).to(torch.bfloat16),
    }


def _clip() -> dict[Any, Callable[..., Any]]:
    """openai/clip-vit-base-patch16."""
    import transformers as hf

    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 49408}
    return {
        hf.CLIPVisionModel: lambda **_: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT_B, image_size=224, patch_size=16)),
        hf.CLIPTextModel: lambda **_: hf.CLIPTextModel(hf.CLIPTextConfig(**text)),
    }


def clip32() -> Any:
    """openai/clip-vit-base-patch32, with which sarm's preprocessor encodes frames and instruction; CLIPConfig's defaults are it."""
    import transformers as hf

    return hf.CLIPModel(hf.CLIPConfig())


def _fast() -> dict[Any, Callable[..., Any]]:
    """The tokenizers of pi0_fast: PaliGemma's and the actions' (lerobot/fast-action-tokenizer)."""
    import transformers as hf

    words = SimpleNamespace(vocab_size=257152, bos_token_id=2, eos_token_id=1, pad_token_id=0,
                            encode=lambda *_, **__: [1, 2], convert_tokens_to_ids=lambda *_, **__: 1)  # fmt: skip
    return {hf.AutoProcessor: lambda **_: SimpleNamespace(vocab_size=2048), hf.AutoTokenizer: lambda **_: words}


def _resnet10() -> dict[Any, Callable[..., Any]]:
    """lerobot/resnet10: its stages and strides; its code, which the Hub keeps, normalizes by groups instead of batches."""
    import transformers as hf

    config = hf.ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[1, 1, 1, 1], layer_type="basic")
    return {hf.AutoModel: lambda **_: hf.ResNetModel(config)}


def _internvl() -> dict[Any, Callable[..., Any]]:
    """OpenGVLab/InternVL3-1B-hf, whose three views of 256 tokens and a short instruction make 800 tokens."""
    import transformers as hf

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": [448, 448],
              "patch_size": [14, 14], "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm"}  # fmt: skip
    text = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "vocab_size": 151674, "max_position_embeddings": 32768, "tie_word_embeddings": False}  # fmt: skip
    image_token, length = 151667, 800

    class Tokens(dict[str, torch.Tensor]):
        def to(self, device: Any) -> Tokens:
            return Tokens({name: tensor.to(device) for name, tensor in self.items()})

    class Tokenizer:
        def __call__(self, prompts: list[str], **_: Any) -> Tokens:
            """As many image tokens as the prompts have, and others to the length; the prompts are alike."""
            images = prompts[0].count("<IMG_CONTEXT>")
            shapes = ((image_token, images), (0, length - images))
            ids = torch.cat([torch.full((len(prompts), count), token, dtype=torch.long) for token, count in shapes], dim=1)
            return Tokens(input_ids=ids, attention_mask=torch.ones(len(prompts), length, dtype=torch.long))

        def convert_tokens_to_ids(self, token: str) -> int:
            return image_token

    def model(torch_dtype: torch.dtype, attn_implementation: str, **_: Any) -> Any:
        config = hf.InternVLConfig(vision_config=vision, text_config=text, image_token_id=image_token, image_seq_length=256)
        config._attn_implementation = attn_implementation
        return hf.InternVLModel(config).to(torch_dtype)

    return {hf.AutoTokenizer: lambda **_: Tokenizer(), hf.AutoModel: model}


def florence() -> dict[str, Any]:
    """microsoft/Florence-2-large, the vision-language model of lerobot/xvla-base, as its policy configuration holds it."""
    vision = {
        "model_type": "davit", "drop_path_rate": 0.1, "patch_size": [7, 3, 3, 3], "patch_stride": [4, 2, 2, 2],
        "patch_padding": [3, 1, 1, 1], "patch_prenorm": [False, True, True, True], "dim_embed": [256, 512, 1024, 2048],
        "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64], "depths": [1, 1, 9, 1], "window_size": 12, "projection_dim": 1024,
        "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": 100},
        "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": 50},
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
    }  # fmt: skip
    text = {
        "vocab_size": 51289, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096, "encoder_attention_heads": 16, "decoder_attention_heads": 16, "max_position_embeddings": 4096,
        "dropout": 0.1, "activation_function": "gelu", "scale_embedding": False,
    }  # fmt: skip
    return {"vision_config": vision, "text_config": text, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
            "image_token_id": 51288, "is_encoder_decoder": True}  # fmt: skip


_LOADERS: dict[str, Callable[[], dict[Any, Callable[..., Any]]]] = {
    "smolvla": _smolvlm, "multi_task_dit": _clip, "pi0_fast": _fast, "evo1": _internvl, "reward_classifier": _resnet10}
