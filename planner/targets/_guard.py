"""The first thing that runs in a rented container: are the GPUs that are paid for there?

Without it a trainer that finds no CUDA trains on the CPU, at the GPU's price, until the timeout.
"""

from __future__ import annotations

NO_GPU = 86  # exit code; nothing that trains uses it

# The trainer's own Python and torch are asked. Where they cannot be imported the command itself will say so.
_CODE = f"""\
import os, sys
asked, argv = int(sys.argv[1]), sys.argv[2:]
try:
    import torch
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
except Exception:
    found = asked
if found < asked:
    print(f"plan guard: GPUs asked for: {{asked}}, visible to CUDA: {{found}}; stopped before training", file=sys.stderr, flush=True)
    sys.exit({NO_GPU})
os.execvp(argv[0], argv)
"""


def guarded(argv: tuple[str, ...], num_gpus: int) -> list[str]:
    """`argv` behind a look at the GPUs: the process exits with NO_GPU where CUDA sees fewer than `num_gpus`, else becomes `argv`."""
    return ["python", "-c", _CODE, str(num_gpus), *argv] if num_gpus else list(argv)
