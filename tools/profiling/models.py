"""In place of what a policy loads from the Hub: the model's configuration written down here, with random weights.

Layouts are those of the published config.json files; parameter counts agree with the published sizes (SmolVLA 450 M, X-VLA 0.88 B).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from profiling.fake import real


class Never:
    """A probability that a random number, which has no value among fake tensors, is never below."""

    def __gt__(self, other: object) -> bool:
        return False


def prepare(policy: str) -> None:
    """Put the stand-ins of `policy` where its code looks for the Hub, once per process."""
    {"smolvla": _smolvlm, "multi_task_dit": _clip, "pi0_fast": _fast, "evo1": _internvl}.get(policy, lambda: None)()


def settle(name: str, policy: Any) -> None:
    """What a built policy needs where its code would decide on a value."""
    if name == "vqbet":
        policy.vqbet.action_head.vqvae_model.discretized = real(True)  # past the steps that train the VQ-VAE alone
    if name == "xvla":
        policy.model.vlm.language_model.encoder.layerdrop = Never()


def _from_pretrained(make: Any) -> Any:
    return SimpleNamespace(from_pretrained=lambda *_, **__: make())


def _smolvlm() -> None:
    """HuggingFaceTB/SmolVLM2-500M-Video-Instruct."""
    import lerobot.policies.smolvla.smolvlm_with_expert as module
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
    from transformers.models.smolvlm import modeling_smolvlm

    text = {
        "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
        "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49280, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100000, "attention_bias": False, "tie_word_embeddings": False, "dtype": "bfloat16", "pad_token_id": 2,
    }  # fmt: skip
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512,
              "patch_size": 16}  # fmt: skip

    def config() -> Any:
        return SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=4, image_token_id=49190, tie_word_embeddings=False,
                             dtype="bfloat16", pad_token_id=2)  # fmt: skip

    def embed(self: Any, pixel_values: Any, patch_attention_mask: Any) -> Any:
        """The embedding of whole images, whose positions do not depend on data."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        return patches + self.position_embedding(torch.arange(patches.shape[1]).expand(patches.shape[0], -1))

    tokenizer = SimpleNamespace(fake_image_token_id=49189, global_image_token_id=49152)
    modeling_smolvlm.SmolVLMVisionEmbeddings.forward = embed
    module.AutoConfig = _from_pretrained(config)
    module.AutoProcessor = _from_pretrained(lambda: SimpleNamespace(tokenizer=tokenizer))
    module.AutoModelForImageTextToText = _from_pretrained(lambda: SmolVLMForConditionalGeneration(config()).to(torch.bfloat16))


def _clip() -> None:
    """openai/clip-vit-base-patch16."""
    import lerobot.policies.multi_task_dit.modeling_multi_task_dit as module
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
              "patch_size": 16}  # fmt: skip
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 49408}
    module.CLIPVisionModel = _from_pretrained(lambda: CLIPVisionModel(CLIPVisionConfig(**vision)))
    module.CLIPTextModel = _from_pretrained(lambda: CLIPTextModel(CLIPTextConfig(**text)))


def _fast() -> None:
    """The tokenizers of pi0_fast: PaliGemma's and the actions' (lerobot/fast-action-tokenizer)."""
    import lerobot.policies.pi0_fast.modeling_pi0_fast as module

    words = SimpleNamespace(vocab_size=257152, bos_token_id=2, eos_token_id=1, pad_token_id=0,
                            encode=lambda *_, **__: [1, 2], convert_tokens_to_ids=lambda *_, **__: 1)  # fmt: skip
    module.AutoProcessor = _from_pretrained(lambda: SimpleNamespace(vocab_size=2048))
    module.AutoTokenizer = _from_pretrained(lambda: words)


def _internvl() -> None:
    """OpenGVLab/InternVL3-1B-hf, whose three views of 256 tokens and a short instruction make 800 tokens."""
    import lerobot.policies.evo1.internvl3_embedder as module
    from transformers import InternVLConfig, InternVLModel

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": [448, 448],
              "patch_size": [14, 14], "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm"}  # fmt: skip
    text = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "vocab_size": 151674, "max_position_embeddings": 32768, "tie_word_embeddings": False}  # fmt: skip

    class Tokens(dict[str, torch.Tensor]):
        def to(self, device: Any) -> Tokens:
            return self

    class Tokenizer:
        def __call__(self, prompts: list[str], **_: Any) -> Tokens:
            shape = (len(prompts), 800)
            return Tokens(input_ids=torch.zeros(shape, dtype=torch.long), attention_mask=torch.ones(shape, dtype=torch.long))

        def convert_tokens_to_ids(self, token: str) -> int:
            return 151667

    def model(dtype: torch.dtype, attn_implementation: str) -> Any:
        config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=151667, image_seq_length=256)
        config._attn_implementation = attn_implementation
        return InternVLModel(config).to(dtype)

    def placeholders(self: Any, input_ids: Any, inputs_embeds: Any, image_features: Any) -> Any:
        """Without the check that there are as many image tokens as image features: fake tokens have no value."""
        return (input_ids == self.config.image_token_id).unsqueeze(-1).expand_as(inputs_embeds)

    InternVLModel.get_placeholder_mask = placeholders
    module.AutoTokenizer = _from_pretrained(Tokenizer)
    module.AutoModel = SimpleNamespace(
        from_pretrained=lambda *_, torch_dtype, attn_implementation, **__: model(torch_dtype, attn_implementation))


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
