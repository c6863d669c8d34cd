"""Seconds per step of a workload on an offer, with its limiter named. Pure.

GPU time is a sum: launching the kernels, the optimizer's pass over memory, and per sample the FLOPs and the
traffic of the activations,

    device_s = (2 W + 14 T) / (0.8 · bandwidth) + batch · (FLOPs / (0.73 · peak) + 14.4 · A / bandwidth) · k
    update_s = √(launch² + device_s²)

with the addends of planner.work and k, the calibration by measured runs (planner.evidence). The data loader works
beside the GPU: a step takes the longer of the two.
"""

from __future__ import annotations

from functools import lru_cache

from planner.evidence import Calibration, Kin
from planner.plans import Step, Term
from planner.profiles import Cost
from planner.records import Gpu, StartupRange
from planner.units import Interval, point
from planner.work import peak_flops, together, work
from planner.workload import Camera, Training

#: Python between two steps: logging, the sampler, moving the batch.
ITERATION_S = 0.003
#: Bytes per second between two GPUs of a host where the catalogue has none: PCIe 3.0 in practice.
PCIE = 12e9
#: Part of the gradients' all-reduce that does not hide behind the backward pass, and the wait for the slowest rank.
EXPOSED, STRAGGLER = 0.5, 0.03


def estimate(
    training: Training, gpu: Gpu, num_gpus: int, vcpus: float | None, cost: Cost, calibration: Calibration,
    kappa: StartupRange, kin: Kin | None = None,
) -> Step:
    """Seconds per step on `num_gpus` of this GPU in a host with `vcpus` hardware threads (None: unknown).

    `kin` is calibration.kin(training), where it is at hand.
    """
    policy, variant = training.policy, training.variant
    parts = work(gpu, variant, cost, training.batch_size, calibration.launch(policy, gpu))
    factor = calibration.factor(policy, gpu)
    peak, precision = peak_flops(gpu, variant)
    bandwidth = f"{gpu.bandwidth.value / 1e9:,.0f} GB/s"
    raw = parts.flops + parts.traffic
    device = parts.optimizer + raw * factor
    update = together(parts.launch, device)
    terms = [
        Term("kernel launches", point(update - device),
             f"{parts.launch:.3f} s, calibrated for {policy.launch_family} policies, as far as they do not hide behind the work"),
        Term("optimizer step", point(parts.optimizer), gpu.bandwidth.source,
             f"(2·weights + 14·gradient bytes) ÷ 0.8 of {bandwidth}"),
        Term("arithmetic", point(parts.flops), peak.source,
             f"{cost.flops / 1e9:.0f} GFLOP/sample ÷ 0.73 of {peak.value / 1e12:.0f} TFLOP/s {precision}"),
        Term("activation traffic", point(parts.traffic), gpu.bandwidth.source, f"14.4 × activation bytes ÷ {bandwidth}"),
        Term("calibration", point(raw * (factor - 1)), f"× {factor:.2f} on the work, from measured runs"),
    ]
    network = 0.0
    if num_gpus > 1:
        link = gpu.interconnect.value if gpu.interconnect else PCIE
        network = EXPOSED * 2 * (num_gpus - 1) / num_gpus * cost.gradient_bytes / link + STRAGGLER * update
        terms.append(Term("gradient exchange", point(network), gpu.interconnect.source if gpu.interconnect else "pcie_practical",
                          f"all-reduce over {link / 1e9:.0f} GB/s, half hidden, and 3 % for the slowest rank"))
    gpu_s = update + network
    grade, source = calibration.grade(training, gpu, num_gpus, kin)
    spread = calibration.spreads[grade]
    compute = Interval(gpu_s / spread, gpu_s, gpu_s * spread)
    loader = loader_seconds(training, num_gpus, vcpus, kappa)
    wait = max(0.0, loader.p50 - gpu_s) if training.num_workers else loader.p50
    terms.append(Term("waiting for the loader", point(wait), "decode cost per camera ÷ workers that the cores can feed"))
    terms.append(Term("between steps", point(ITERATION_S), "logging, sampler, moving the batch"))
    both = zip(compute, loader, strict=True)
    seconds = Interval(*((max(one, other) if training.num_workers else one + other) + ITERATION_S for one, other in both))
    shares = {"compute": device, "launch": parts.launch, "network": network, "loader": wait}
    limiter = "loader" if wait > 0 and training.num_workers else max(shares, key=lambda name: shares[name])
    return Step(seconds, limiter, grade, tuple(terms), source, loader)


# ------------------------------------------------------------------------------------------ data loader

#: Milliseconds on one reference core to decode one frame: fixed + per megapixel (measured with LeRobot's own
#: readers on AV1 and H.264 as LeRobot writes them, GOP 2; 640×480 AV1 with torchcodec 1.89 ms).
_DECODE = {
    ("torchcodec", "av1"): (0.3, 4.6), ("torchcodec", "h264"): (0.2, 6.2), ("torchcodec", "hevc"): (0.2, 6.2),
    ("pyav", "av1"): (0.7, 8.5), ("pyav", "h264"): (0.7, 13.0), ("pyav", "hevc"): (0.7, 13.0),
}
_DECODE_FLOAT32 = (0.3, 7.5)  # LeRobot 0.4.4 hands float32 frames over
_DECODE_IMAGE = {"png": (0.2, 20.0), "jpeg": (0.1, 6.0)}
_PYAV_MS_PER_CPU = 0.1  # its decoder opens one thread per CPU on every access
_ADJACENT = {"av1": 0.65, "h264": 0.45}  # cost of a further adjacent frame, relative to the first
_TRANSPORT_MS_PER_MB = 0.9
_ROW_MS, _ROW_MS_SHORT = 5.0, 3.0  # parquet row and collation; the smaller one for chunks up to 16
_CORES_PER_VCPU = 0.62  # a vCPU is a hyperthread on most clouds
_MAIN_PROCESS_CORES = 0.7
UNKNOWN_HOST_VCPUS = 16.0  # for each GPU


def sample_ms(training: Training, vcpus: float) -> float:
    """Milliseconds on the reference core for one sample: query the row, decode every camera, hand it over."""
    short = (training.variant.chunk or training.policy.chunk) <= 16
    backend = training.video_backend
    threads = vcpus if backend == "pyav" else 0.0  # only there they count
    return _sample_ms(training.cameras, training.policy.observation_steps, training.lerobot == "0.4.4", short, backend, threads)


@lru_cache(maxsize=256)
def _sample_ms(cameras: tuple[Camera, ...], frames: int, old: bool, short: bool, backend: str, vcpus: float) -> float:
    """The same for every host of a plan, but with pyav."""
    cost = _ROW_MS_SHORT if short else _ROW_MS
    for camera in cameras:
        cost += _decode_ms(camera, backend, frames, old, vcpus)
        cost += _TRANSPORT_MS_PER_MB * frames * 3 * camera.megapixels * (4 if old else 1)
    return cost


def _decode_ms(camera: Camera, backend: str, frames: int, old: bool, vcpus: float) -> float:
    codec = camera.codec or "av1"
    if codec in _DECODE_IMAGE:
        fixed, per_mpx = _DECODE_IMAGE[codec]
        return frames * (fixed + per_mpx * camera.megapixels)
    fixed, per_mpx = _DECODE.get((backend, codec), _DECODE[("pyav" if backend == "pyav" else "torchcodec", "h264")])
    if old and backend != "pyav":
        fixed, per_mpx = _DECODE_FLOAT32
    further = 0.6 if old else _ADJACENT.get(codec, 0.45)
    opened = _PYAV_MS_PER_CPU * vcpus if backend == "pyav" else 0.0
    return (fixed + per_mpx * camera.megapixels) * (1 + further * (frames - 1)) + opened


def loader_seconds(training: Training, num_gpus: int, vcpus: float | None, kappa: StartupRange) -> Interval:
    """Seconds that the loader alone needs for one batch on every GPU. Cores are shared by all GPUs' workers."""
    processes = max(1, num_gpus)
    threads = vcpus if vcpus is not None else UNKNOWN_HOST_VCPUS * processes
    cost_s = sample_ms(training, threads) / 1000 * training.batch_size * (1.5 if num_gpus > 1 else 1.0)
    if training.num_workers == 0:
        workers = 1.0
    else:
        cores = _CORES_PER_VCPU * threads
        free = max(0.5, cores - _MAIN_PROCESS_CORES * processes)
        workers = min(float(training.num_workers * processes), free) / processes
    return Interval(*(cost_s * k / workers for k in (kappa.p10, kappa.p50, kappa.p90)))


