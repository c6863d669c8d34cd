"""What is profiled: policies, variants and camera sets, the most useful first; and what is not, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

_TOKENS = "lays out its tokens from their values and from image sizes, which fake tensors do not have"
_VAE = "trains on what frozen models read from the Hub (the Wan VAE and a text encoder) make of the frames"
_INFERENCE = "a reward model that LeRobot does not train"
#: What else LeRobot 0.6.1 knows, and why it is not profiled.
NOT_PROFILED = {
    "vqbet with autocast": "LeRobot stops: the running mean of the code book takes no bfloat16",
    "groot": f"Qwen3-VL {_TOKENS}",
    "eo1": "its time does not follow its FLOPs, because each window of an image is attended to by itself",
    "wall_x": f"the widths of its experts are read from the checkpoint on the Hub, and Qwen2.5-VL {_TOKENS}",
    "molmoact2": "its configuration is read from the checkpoint on the Hub",
    "vla_jepa": f"Qwen3-VL {_TOKENS}",
    "fastwam": _VAE,
    "lingbot_va": _VAE,
    "robometer": _INFERENCE,
    "topreward": _INFERENCE,
    "gaussian_actor": "trained beside a robot by lerobot.rl.learner, not by lerobot-train",
}

#: Frame sizes for policies whose cost depends on pixels: PushT, ImageNet, LIBERO, QVGA and 720p beside VGA.
SIZES = ((96, 96), (224, 224), (256, 256), (320, 240), (1280, 720))
#: LoRA ranks beside the default, 16.
RANKS = (8, 32, 64)


class Case(NamedTuple):
    """One row of data/profiles.csv. `trained` is what policies.yaml calls it: all, expert, vlm+expert, frozen_vlm, lora."""

    policy: str
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    trained: str = "all"
    lora_rank: int = 0
    autocast: bool = False
    cameras: int = 2
    width: int = 640
    height: int = 480
    chunk: int = 1  # actions of a sample: the policy's chunk_size or horizon; 1 where it has none

    @property
    def label(self) -> str:
        usual = DEFAULTS[self.policy].chunk
        words = [self.policy, self.dtype, "autocast" if self.autocast else "",
                 "gradient checkpointing" if self.gradient_checkpointing else "",
                 f"lora {self.lora_rank}" if self.lora_rank else f"{self.trained} trained",
                 f"{self.cameras}x{self.width}x{self.height}", f"chunk {self.chunk}" if self.chunk != usual else ""]  # fmt: skip
        return " ".join(word for word in words if word)


#: The default variant of every policy, in the order of the catalogue.
DEFAULTS = {
    "act": Case("act", chunk=100),
    "vqbet": Case("vqbet", cameras=1, chunk=5),
    "tdmpc": Case("tdmpc", cameras=1, width=96, height=96, chunk=5),
    "diffusion": Case("diffusion", chunk=64),
    "multi_task_dit": Case("multi_task_dit", chunk=32),
    "smolvla": Case("smolvla", dtype="bfloat16", trained="expert", chunk=50),
    "evo1": Case("evo1", dtype="bfloat16", trained="expert", autocast=True, chunk=50),
    "pi0": Case("pi0", chunk=50),
    "pi05": Case("pi05", chunk=50),
    "pi0_fast": Case("pi0_fast", chunk=50),
    "xvla": Case("xvla", chunk=32),
    "reward_classifier": Case("reward_classifier", width=128, height=128),
    "sarm": Case("sarm"),
}
#: What a policy calls its chunk, where that is not chunk_size.
CHUNK_FIELDS = {"vqbet": "action_chunk_size", "diffusion": "horizon", "multi_task_dit": "horizon", "tdmpc": "horizon"}
#: Chunk lengths beside the default: those of guides, published configurations and earlier releases (0.4.4 trains diffusion on 16).
CHUNKS = {"act": (20, 50, 200), "diffusion": (16, 32, 128), "multi_task_dit": (16, 64), "smolvla": (10, 100), "evo1": (16, 100),
          "pi0": (10, 100), "pi05": (10, 100), "pi0_fast": (10, 100), "xvla": (16, 64)}  # fmt: skip
#: How many cameras a policy takes at most, where that is fewer than are profiled.
MOST_CAMERAS = {"vqbet": 1, "tdmpc": 1, "evo1": 3}
#: Policies whose images are neither resized nor cropped.
BY_PIXELS = ("act", "diffusion")


def grid() -> list[Case]:
    """Every case once, in the order in which a run works through them."""
    variants = [case for policy in DEFAULTS for case in _variants(policy)]
    whole = [DEFAULTS[policy]._replace(trained="all") for policy in ("smolvla", "evo1")]  # the same chunk is a smaller share of these
    mixed = [DEFAULTS[policy]._replace(autocast=True) for policy in BY_PIXELS]
    return list(dict.fromkeys([
        *(made for cameras in (2, 1, 3, 4) for case in DEFAULTS.values() for made in _at(case, cameras)),
        *(case._replace(width=width, height=height) for cameras in (1, 2, 3, 4) for policy in BY_PIXELS
          for case in _at(DEFAULTS[policy], cameras) for width, height in SIZES),
        *(DEFAULTS["tdmpc"]._replace(width=side, height=side) for side in (64, 84, 128, 224, 256)),
        *(case._replace(chunk=chunk) for case in (*DEFAULTS.values(), *whole) for chunk in CHUNKS.get(case.policy, ())),
        *variants,
        *(made._replace(width=width, height=height) for cameras in (1, 2) for case in mixed
          for made in _at(case, cameras) for width, height in SIZES),
        *(made for cameras in (1, 3, 4) for case in variants for made in _at(case, cameras)),
        *(case._replace(lora_rank=rank) for case in variants if case.trained == "lora" and case.dtype == "bfloat16" for rank in RANKS),
    ]))  # fmt: skip


def _at(case: Case, cameras: int) -> list[Case]:
    return [case._replace(cameras=cameras)] if cameras <= MOST_CAMERAS.get(case.policy, cameras) else []


def _variants(policy: str) -> Iterator[Case]:
    """All settings of `policy` that change its cost, at its default camera set, those that are used most first."""
    default = DEFAULTS[policy]
    large = ("pi0", "pi05", "pi0_fast", "xvla")
    dtypes = ("float32", "bfloat16") if policy in large else ("bfloat16", "float32") if policy == "smolvla" else (default.dtype,)
    checkpointing = (False, True) if policy in ("diffusion", "pi0", "pi05", "pi0_fast") else (False,)
    trained = {"smolvla": ("expert", "all", "lora", "vlm+expert"), "evo1": ("expert", "all"), "pi0": ("all", "expert", "lora"),
               "pi05": ("all", "expert", "lora"), "xvla": ("all", "frozen_vlm")}  # fmt: skip
    mixed = (False,) if policy == "vqbet" else (True, False)
    for parts, dtype, recompute, autocast in product(trained.get(policy, ("all",)), dtypes, checkpointing, mixed):
        yield default._replace(dtype=dtype, gradient_checkpointing=recompute, trained=parts,
                               lora_rank=16 if parts == "lora" else 0, autocast=autocast)  # fmt: skip
