"""What is trained: policy and variant, frames, cameras, batch size, steps. Pure."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from planner.records import Policy

#: LeRobot releases whose command lines are known, newest release first; `main` is the unreleased branch.
RELEASES = ("0.6.1", "0.4.4", "main")

DEFAULT_EPISODE_SECONDS = 30.0
DEFAULT_FPS = 30.0
DEFAULT_EPOCHS = 5.0
DEFAULT_NUM_WORKERS = 4  # lerobot-train's own default
DEFAULT_LORA_RANK = 16  # --peft.r's own default


class Camera(NamedTuple):
    """One image stream. `codec` is as LeRobot writes it (av1, h264, hevc, png) and `key` is the dataset's name for it, as
    in observation.images.front; None is unknown."""

    width: int
    height: int
    codec: str | None = None
    key: str | None = None

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


class Variant(NamedTuple):
    """Settings of a policy that change its cost."""

    dtype: str  # float32, bfloat16
    gradient_checkpointing: bool = False
    trained: str = "all"  # all, expert, vlm+expert, frozen_vlm, lora
    lora_rank: int = 0
    autocast: bool = False
    compiled: bool = False
    chunk: int = 0  # actions of a sample (chunk_size, horizon); 0: the policy's own

    @property
    def label(self) -> str:
        """Short name, as in `bf16 · gradient checkpointing · LoRA 16`."""
        parts = [{"float32": "fp32", "bfloat16": "bf16"}.get(self.dtype, self.dtype)]
        if self.autocast and self.dtype == "float32":
            parts = ["fp32 with bf16 autocast"]
        if self.trained == "lora":
            parts.append(f"LoRA {self.lora_rank}")
        elif self.trained != "all":
            parts.append(f"{self.trained} trained")
        if self.gradient_checkpointing:
            parts.append("gradient checkpointing")
        if self.compiled:
            parts.append("compiled")
        if self.chunk:
            parts.append(f"chunk {self.chunk}")
        return " · ".join(parts)


class Assumption(NamedTuple):
    """A value that the command line did not give, with the flag that changes it. `origin` is the file or variable that did."""

    name: str
    value: str
    flag: str
    origin: str | None = None


class Training(NamedTuple):
    """One training, before it is put on an offer.

    frames, episodes, fps are None where nobody gave them and they are not needed (a pasted command with
    --steps). Exactly one of epochs and steps decides the length; `given_steps` is None when epochs do.
    """

    policy: Policy
    variant: Variant
    cameras: tuple[Camera, ...]
    batch_size: int  # per GPU
    num_workers: int  # data loader processes per GPU
    lerobot: str  # release planned for
    frames: int | None = None
    episodes: int | None = None
    fps: float | None = None
    epochs: float | None = None
    given_steps: int | None = None
    gradient_accumulation: int = 1
    dataset: str | None = None  # repository id, as --dataset.repo_id takes it
    dataset_revision: str | None = None  # commit that was read on the Hub, else the revision as it was said
    dataset_root: str | None = None  # local folder
    dataset_episodes: tuple[int, ...] | None = None  # those that are trained; None: all
    dataset_bytes: int | None = None
    save_freq: int | None = None  # None: chosen from the length of the run
    video_backend: str = "torchcodec"
    trainer_args: tuple[str, ...] = ()  # what the user wrote after `--`, byte for byte
    pasted: bool = False  # trainer_args are a whole command, to be kept as it was
    launcher_gpus: int | None = None  # processes that a pasted launcher asked for
    environment: tuple[tuple[str, str], ...] = ()  # VAR=x in front of a pasted command
    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()  # (code, text)

    def steps(self, num_gpus: int) -> int:
        """What `--steps` receives: micro-batches, epochs × ceil(frames ÷ (GPUs × batch))."""
        if self.given_steps is not None:
            return self.given_steps
        assert self.frames is not None and self.epochs is not None
        return max(1, ceil(self.epochs * ceil(self.frames / (num_gpus * self.batch_size))))

    def updates(self, num_gpus: int) -> int:
        """Optimizer updates: steps ÷ gradient accumulation."""
        return max(1, self.steps(num_gpus) // self.gradient_accumulation)

    def with_batch(self, batch_size: int, gradient_accumulation: int = 1) -> Training:
        return self._replace(batch_size=batch_size, gradient_accumulation=gradient_accumulation)
