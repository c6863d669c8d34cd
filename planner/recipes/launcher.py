"""What starts the trainer: `lerobot-train` itself, or one process a GPU through accelerate or torchrun."""

from __future__ import annotations

from planner import pasted
from planner.workload import Training


def launcher(workload: Training, own: pasted.Pasted, gpus: int, *, here: bool) -> tuple[tuple[str, ...], str | None]:
    """(the command before the trainer's arguments, what it changed about a pasted one or None).

    A pasted launcher stays where it starts as many processes as there are GPUs and, elsewhere than `here`, names no
    file of this machine.
    """
    # `accelerate launch` and `torchrun` start a file or a module: a bare `lerobot-train` is neither
    bare = len(own.launcher) > 1 and own.launcher[-1] == pasted.TRAINER
    local_files = any("/" in token or "config_file" in token for token in own.launcher)
    if own.launcher and not bare and (own.num_processes or 1) == gpus and (here or not local_files):
        return own.launcher, None
    bf16 = workload.variant.autocast
    if gpus == 1 and not (bf16 and _precision_by_launcher(workload, own)):
        built: tuple[str, ...] = (pasted.TRAINER,)
    elif workload.lerobot == "main":  # refuses what `accelerate launch` puts into the environment
        built = ("torchrun", f"--nproc_per_node={gpus}", "-m", pasted.MODULE)
    else:
        several = ("--multi_gpu",) if gpus > 1 else ()
        precision = "bf16" if bf16 else own.mixed_precision or "no"
        built = ("accelerate", "launch", *several, f"--num_processes={gpus}", "--num_machines=1",
                 f"--mixed_precision={precision}", "--dynamo_backend=no", "-m", pasted.MODULE)
    if own.launcher in ((), built):
        return built, None
    why = "a launcher starts a file or a module" if bare else "one process for each GPU of this row"
    return built, f"`{' '.join(own.launcher)}` became `{' '.join(built)}`: {why}"


def _precision_by_launcher(workload: Training, own: pasted.Pasted) -> bool:
    """Whether bf16 autocast can only come from `accelerate launch`.

    0.4.4 has no other way; 0.6.1 takes it from the policy's dtype or use_amp and asks the launcher where neither
    is there; main has --accelerator.mixed_precision (the three releases' lerobot_train.py).
    """
    if workload.lerobot == "0.6.1":
        known = workload.policy.flags.get("0.6.1", {})
        return "dtype" not in known and known.get("use_amp") is not True and own.get("policy.use_amp") is None
    return workload.lerobot == "0.4.4"
