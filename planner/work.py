"""The GPU's part of a step before calibration: launches, optimizer, arithmetic, activation traffic. Pure.

W weight bytes, T bytes of the parameters that receive gradients, A activation bytes per sample, `peak` the dense
FLOP/s at the precision really used. The form and its constants (0.8 and 0.73 of bandwidth and peak, 14 T for AdamW's
passes, 14.4 A for what forward and backward read and write) fitted 31 timed LeRobot runs better than a roofline maximum.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

from planner.profiles import Cost
from planner.records import Figure, Gpu
from planner.workload import Variant

#: torch.compile: what it leaves of the launch overhead and of the work. SmolVLA on an H100 at batch 8: 0.179 →
#: 0.069 s (lerobot runs r043, r044); MolmoAct2 on a GB200 at batch 32: 2.07 → 1.21 s (r046, r047).
COMPILED_LAUNCH, COMPILED_WORK = 0.35, 0.8


def peak_flops(gpu: Gpu, variant: Variant) -> tuple[Figure, str]:
    """Dense FLOP/s at the precision really used, and its name.

    float32 policies run TF32 matmuls and convolutions where the GPU has them (lerobot-train sets it). A GPU
    without bf16 units emulates bf16 at its fp32 rate at best.
    """
    if variant.dtype == "bfloat16" or variant.autocast:
        if gpu.bf16 is not None:
            return gpu.bf16, "bf16"
        return gpu.fp32, "bf16 emulated at fp32 rate"
    if gpu.tf32 is not None:
        return gpu.tf32, "TF32"
    return gpu.fp32, "fp32"


def together(launch_s: float, device_s: float) -> float:
    """Seconds of a step whose kernels take `launch_s` to launch and `device_s` to run.

    Launching runs ahead of the GPU and hides behind it, or the GPU waits: the root of the sum of squares lies between
    the longer of the two and their sum. Leaving one source out it errs by 14 % in the median, the plain sum by 18 %.
    """
    return hypot(launch_s, device_s)


class Work(NamedTuple):
    """The uncalibrated parts of a step in seconds."""

    launch: float
    optimizer: float
    flops: float
    traffic: float


def work(gpu: Gpu, variant: Variant, cost: Cost, batch: int, launch_s: float) -> Work:
    """The sum of the module's docstring, before calibration."""
    peak, _ = peak_flops(gpu, variant)
    bandwidth = gpu.bandwidth.value
    compiled_launch, compiled_work = (COMPILED_LAUNCH, COMPILED_WORK) if variant.compiled else (1.0, 1.0)
    return Work(
        launch=launch_s * compiled_launch,
        optimizer=(2 * cost.weight_bytes + 14 * cost.gradient_bytes) / (0.8 * bandwidth),
        flops=compiled_work * batch * cost.flops / (0.73 * peak.value),
        traffic=compiled_work * batch * 14.4 * cost.activation_bytes / bandwidth,
    )
