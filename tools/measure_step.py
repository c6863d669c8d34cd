#!/usr/bin/env python
"""Seconds per training step and peak memory of real LeRobot policies on this machine, as rows of data/evidence.yaml.

    python measure_step.py --policies act,smolvla --batches 1,8,32 --output rows.yaml
    python measure_step.py --policies pi05 --variants bf16+gc,bf16+gc+lora16 --cameras 2x640x480,3x640x480
    python measure_step.py --list

Runs in the environment of LeRobot 0.4.4 or 0.6.1 and needs nothing else: no weights, no dataset, no network. The policy is
LeRobot's class with random weights; the step is the release's own `lerobot_train.update_policy` under an Accelerator made as
the trainer makes it, so that precision, clipping and optimizer are that release's; the batch is random, shaped as the
preprocessor hands it over, with the loader's copy of normalized images beside it. In a row `update` is the median step after
the warm-up (LeRobot's updt_s), `vram` the highest peak of torch's allocator (its mem_gb; MPS and CPU have none), and running
out of memory is a row. What cannot be built is named and the rest goes on. Exit: 0 measured, 1 nothing measured, 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import gc
import importlib.metadata
import importlib.util
import io
import itertools
import os
import statistics
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

#: What can be built without a download, with what this takes beside the release's defaults. smolvla is as
#: `--policy.path=lerobot/smolvla_base` gives it: the language model in bfloat16, the expert trained.
POLICIES = {
    **dict.fromkeys(("act", "diffusion", "vqbet"), ("pretrained_backbone_weights=null",)),
    **dict.fromkeys(("tdmpc", "multi_task_dit", "pi0", "pi05", "pi0_fast"), ()),
    "smolvla": ("load_vlm_weights=true",), "xvla": ("action_mode=auto", "resize_imgs_with_padding=[224,224]"),
}  # fmt: skip
#: Parts of a variant, joined by +, as flags of the policy. `loraN` (PEFT of rank N with LeRobot's own targets) comes on top.
PARTS = {
    "default": (), "bf16": ("dtype=bfloat16",), "gc": ("gradient_checkpointing=true",), "amp": ("use_amp=true",),
    "expert": ("train_expert_only=true",), "all": ("train_expert_only=false", "freeze_vision_encoder=false"),
}  # fmt: skip
# Shapes of openai/clip-vit-base-patch16, the text half of HuggingFaceTB/SmolVLM2-500M-Video-Instruct, and microsoft/Florence-2-large
CLIP_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16}
SMOL_LLAMA = {
    "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
    "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49280, "pad_token_id": 2, "dtype": "bfloat16",
}  # fmt: skip
FLORENCE_VISION = {
    "model_type": "davit", "dim_embed": [256, 512, 1024, 2048], "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64],
    "projection_dim": 1024, "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": 50},
}  # fmt: skip
FLORENCE_TEXT = {"vocab_size": 51289, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "max_position_embeddings": 4096} | {
    f"{half}_{size}": value for half in ("encoder", "decoder") for size, value in (("ffn_dim", 4096), ("attention_heads", 16))}
ROOT = Path(__file__).parents[1]  # the repository: its catalogue names devices
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
NUMBERS = 6  # of a state and of an action: one SO-101 arm


class Missing(Exception):
    """This cannot be measured here; the text says why."""


def gpu_id(name: str, memory_bytes: float | None) -> str | None:
    """The catalogue's id of a device by its own name and memory, None where the catalogue has no such device."""
    sys.path.insert(0, str(ROOT))
    from planner import compiled, devices  # pure rooms: no package of planner's is needed here

    catalogue = compiled.read(ROOT / "data")
    if catalogue is None:
        say("data/catalogue.json is not current: run python -m planner.catalogue where plan is installed, or name the device with --gpu")
        return None
    return devices.gpu_id(name, memory_bytes, catalogue.gpus)


def device_name(device: str) -> tuple[str, float | None]:
    """(what the device calls itself, bytes of its memory where it has its own)."""
    import torch

    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        return card.name, card.total_memory
    return ("cpu" if device == "cpu" else subprocess.getoutput("sysctl -n machdep.cpu.brand_string")), None


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
    """(flags of the policy, LoRA rank) of a variant such as `bf16+gc+lora16`. Raises Missing where there is no such thing."""
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
        elif part not in PARTS:
            raise Missing(f"unknown variant; its parts are {', '.join(PARTS)}, loraN")
        elif part == "amp" and (hasattr(base, "dtype") or release.startswith("0.4.")):
            raise Missing("the trainer does not read use_amp for it")
        elif absent := [name for name, _ in (flag.split("=") for flag in PARTS[part]) if not hasattr(base, name)]:
            raise Missing(f"it has no {absent[0]}")
        else:
            flags += PARTS[part]
    if variant != "default" and not rank and parsed(policy, flags) == base:
        raise Missing("that is its default")
    return flags, rank


@contextlib.contextmanager
def no_downloads():
    """Sub-models that LeRobot loads by name get random weights in their published shape; tokenizers have only their ids."""
    import torch
    import transformers as hf

    smol = hf.SmolVLMConfig(text_config=SMOL_LLAMA, vision_config={**CLIP_B, "image_size": 512}, scale_factor=4, image_token_id=49190,
                            tie_word_embeddings=False, dtype="bfloat16", pad_token_id=2)  # fmt: skip
    ids = SimpleNamespace(vocab_size=257152, bos_token_id=2, eos_token_id=1, pad_token_id=0, fake_image_token_id=49189,
                          global_image_token_id=49152, encode=lambda *_, **__: [1, 2], convert_tokens_to_ids=lambda *_: 1)  # fmt: skip
    loaders = {
        hf.AutoConfig: lambda: smol,
        hf.AutoModelForImageTextToText: lambda: hf.SmolVLMForConditionalGeneration(smol).to(torch.bfloat16),
        hf.AutoProcessor: lambda: SimpleNamespace(tokenizer=ids, vocab_size=2048),
        hf.AutoTokenizer: lambda: ids,
        hf.CLIPVisionModel: lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**CLIP_B, image_size=224)),
        hf.CLIPTextModel: lambda: hf.CLIPTextModel(hf.CLIPTextConfig()),  # the defaults are this model's
    }
    with contextlib.ExitStack() as stack:
        for loader, made in loaders.items():
            stack.enter_context(mock.patch.object(loader, "from_pretrained", lambda *_, made=made, **__: made()))
        yield


class Case:
    """One policy, variant and camera set: built on the CPU, on the device from the first run on."""

    def __init__(self, policy: str, flags: list[str], rank: int, cameras: tuple[int, ...], device: str, release: str) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from lerobot.configs.default import PeftConfig
        from lerobot.configs.types import FeatureType, PolicyFeature
        from lerobot.policies.factory import get_policy_class

        count, width, height = cameras
        self.config, self.device, self.optimizer = parsed(policy, flags), device, None
        self.config.input_features = {"observation.state": PolicyFeature(FeatureType.STATE, (NUMBERS,))} | {
            f"observation.images.cam{i}": PolicyFeature(FeatureType.VISUAL, (3, height, width)) for i in range(count)}
        self.config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (NUMBERS,))}
        if policy == "xvla":
            self.config.florence_config = {"vision_config": FLORENCE_VISION, "text_config": FLORENCE_TEXT}
        with no_downloads():
            self.policy = get_policy_class(policy)(self.config)
        if policy == "vqbet":  # as in all but the first n_vqvae_training_steps steps, which train only the VQ-VAE
            self.policy.vqbet.action_head.vqvae_model.discretized = torch.tensor(True)
        if rank:
            self.config.pretrained_path = "base"  # LeRobot adapts pretrained policies only
            self.policy = self.policy.wrap_with_peft(peft_cli_overrides=dataclasses.asdict(PeftConfig(r=rank)))
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
        frozen = getattr(self.config, "freeze_vision_encoder", False)
        trained = ("lora" if rank else "expert" if getattr(self.config, "train_expert_only", False)
                   else "frozen_vlm" if frozen and getattr(self.config, "freeze_language_encoder", False)
                   else "vlm+expert" if frozen and policy == "smolvla" else "all")  # fmt: skip
        self.variant = {
            "dtype": dtypes.most_common(1)[0][0], "gradient_checkpointing": getattr(self.config, "gradient_checkpointing", False),
            "trained": trained, "lora_rank": rank, "compiled": getattr(self.config, "compile_model", False),
            "autocast": self.accelerator.mixed_precision != "no",
        }  # fmt: skip

    def batch(self, size: int) -> tuple[dict, list]:
        """(what the preprocessor hands to the policy, the loader's images where normalizing copies them)."""
        import torch

        def filled(*shape: int) -> torch.Tensor:
            return torch.rand(size, *shape, device=self.device)

        def flags(*shape: int) -> torch.Tensor:
            return torch.zeros(size, *shape, dtype=torch.bool, device=self.device)

        past, future, rewards = (getattr(self.config, f"{what}_delta_indices") for what in ("observation", "action", "reward"))
        batch, held = {"task": ["pick up the cube"] * size, "index": torch.arange(size, device=self.device)}, []
        for key, feature in self.config.input_features.items():
            if "empty_camera" in key:
                continue  # the policy makes these up itself
            shape = feature.shape if past is None else (len(past), *feature.shape)
            batch[key] = filled(*shape)
            if past is not None:
                batch[f"{key}_is_pad"] = flags(len(past))
            if feature.type.value == "VISUAL" and self.config.normalization_mapping.get("VISUAL") not in (None, "IDENTITY"):
                held.append(filled(*shape))
        batch["action"] = filled(NUMBERS) if future is None else filled(len(future), NUMBERS)
        if future is not None:
            batch["action_is_pad"] = flags(len(future))
        if rewards is not None:
            batch |= {"next.reward": filled(len(rewards)), "next.reward_is_pad": flags(len(rewards)), "next.done": flags(len(rewards))}
        for ids, mask, length in (("observation.language.tokens", "observation.language.attention_mask", "tokenizer_max_length"),
                                  ("action.tokens", "action.token_mask", "max_action_tokens")):  # fmt: skip
            if tokens := getattr(self.config, length, 0):
                batch[ids] = torch.randint(3, 30_000, (size, tokens), device=self.device)  # in every vocabulary
                batch[mask] = ~flags(tokens)
        return batch, held

    def run(self, size: int, warmup: int, steps: int) -> tuple[list[float], int]:
        """(seconds of each step after the warm-up, the highest peak of CUDA's allocator in bytes or 0)."""
        import torch
        from lerobot.scripts.lerobot_train import update_policy

        preset = self.config.get_optimizer_preset()
        if self.optimizer is None:
            self.policy.to(self.device)
            self.policy, self.optimizer = self.accelerator.prepare(self.policy, preset.build(self.policy.get_optim_params()))
        times, peak = [], 0
        for step in range(warmup + steps):
            batch, held = self.batch(size)
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


def measured(args: argparse.Namespace, policy: str, variant: str, cameras: tuple[int, ...]):
    """{name: entry of data/evidence.yaml} a batch size, up to the first that does not fit."""
    import torch

    flags, rank = flags_of(policy, variant, args.release)
    shape = "x".join(map(str, cameras))
    say(f"{policy} {variant} {shape} batch {args.batches}:", *(f"--policy.{flag}" for flag in flags + args.config))
    if args.dry_run:
        return
    gc.collect()  # the last case, which is full of cycles
    case = Case(policy, flags + args.config, rank, cameras, args.device, args.release)
    say(f"  {case.parameters / 1e6:.1f} M parameters")
    today = datetime.date.today().isoformat()
    for size in args.batches:
        notes, times, peak = ["random weights, synthetic frames"], [], 0
        try:
            times, peak = case.run(size, args.warmup, args.steps)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and not any(text in str(error) for text in OUT_OF_MEMORY):
                raise
        gc.collect()  # the failed step's tensors went with its exception
        seen = {"vram": f"{peak / 2**30:.3f} GiB"} if peak else {}
        if times:
            low, *_, high = statistics.quantiles(times, n=10, method="inclusive")
            seen = {"update": f"{statistics.median(times):.4g} s", **seen}
            notes.append(f"{args.steps} steps, P10–P90 {low:.4g}–{high:.4g} s")
        if args.config:
            notes.append(f"not the default policy: {' '.join(args.config)}")
        say(f"  batch {size}:", ", ".join(seen.values()) or "out of memory", *notes[1:])
        yield {f"{policy}-{variant}-{args.gpu}-{shape}-b{size}-{today}".replace("+", "-"): {
            "policy": policy, "variant": case.variant, "gpu": args.gpu, "num_gpus": 1, "batch_size": size, "cameras": cameras[0],
            "width": cameras[1], "height": cameras[2], **seen, "oom": not times, "lerobot": args.release, "scored": not args.config,
            "reason": "; ".join(notes), "kind": "measured", "confidence": "low" if args.device == "cpu" else "high",  # any CPU is `cpu`
            "source": f"tools/measure_step.py on {args.name}, torch {torch.__version__}", "as_of": today,
        }}  # fmt: skip
        if not times:
            break


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    def texts(text: str) -> list[str]:
        return text.split(",")

    def cameras(text: str) -> list[tuple[int, ...]]:
        return [(count, width, height) for count, width, height in (map(int, part.split("x")) for part in texts(text))]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--policies", type=texts, default=["act", "diffusion", "smolvla", "pi0", "pi05"], help="default: act,diffusion,smolvla,pi0,pi05")
    add("--variants", type=texts, default=["default"], help=f"parts joined by +: {', '.join(PARTS)}, loraN (default: default)")
    add("--batches", type=lambda text: sorted(map(int, texts(text))), default=[1, 8, 32], help="default: 1,8,32")
    add("--cameras", type=cameras, default=[(2, 640, 480)], help="COUNTxWIDTHxHEIGHT,… (default: 2x640x480)")
    add("--steps", type=int, default=30, help="measured steps, at least 2 (default: 30)")
    add("--warmup", type=int, default=5, help="steps before them (default: 5)")
    add("--config", nargs="+", action="extend", default=[], metavar="policy.FIELD=VALUE", help="trainer flags; not scored")
    add("--device", choices=("cuda", "mps", "cpu"), help="default: the first there is")
    add("--gpu", help="the device's id in data/gpus.yaml, where that does not know its name")
    add("--output", type=Path, help="a new file (default: stdout)")
    add("--list", action="store_true", help="policies and variants of this release")
    add("--dry-run", action="store_true", help="say what would be measured")
    args = parser.parse_args()
    if min(args.steps - 1, args.warmup + 1, *args.batches, *itertools.chain(*args.cameras)) < 1:
        parser.error("expected batches and cameras of at least 1, and at least 2 steps")
    if not all(flag.startswith("policy.") and "=" in flag for flag in args.config):
        parser.error("--config: expected policy.FIELD=VALUE")
    if args.output and args.output.exists():
        parser.error(f"--output: {args.output} exists")
    args.config = [flag.removeprefix("policy.") for flag in args.config]
    if args.list:
        args.policies, args.variants, args.dry_run = list(POLICIES), [*PARTS, "lora16"], True
    return args


def main() -> int:
    args = options()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")  # before anything reads them
    import torch
    import yaml

    args.release = importlib.metadata.version("lerobot")
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    args.name, memory_bytes = device_name(args.device)
    args.gpu = args.gpu or gpu_id(args.name, memory_bytes)
    if not args.release.startswith(("0.4.", "0.6.")):
        say(f"LeRobot {args.release}: this tool knows the training step of 0.4 and 0.6")
        return 2
    if not args.gpu and not args.dry_run:
        say(f"{args.name}: not in data/gpus.yaml; add it there, or name the id of its like with --gpu")
        return 2
    found = 0
    with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints
        for policy, variant, cameras in itertools.product(args.policies, args.variants, args.cameras):
            try:
                for entry in measured(args, policy, variant, cameras):
                    text = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000)
                    with args.output.open("a", encoding="utf-8") if args.output else contextlib.nullcontext(sys.__stdout__) as file:
                        print("" if found else "runs:\n", textwrap.indent(text, "  "), sep="", end="", file=file, flush=True)
                    found += 1
            except Exception as error:  # whatever one policy fails with, the others are measured
                reason = str(error) if isinstance(error, Missing) else f"{type(error).__name__}: {error}"
                say(f"{policy} {variant}: not measured: {reason.strip().splitlines()[0]}")
    return 0 if found or args.dry_run else 1


if __name__ == "__main__":
    sys.exit(main())
