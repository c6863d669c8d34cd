"""Published runs as a table: CSV rows in the columns that measured runs are collected in → evidence records. Pure.

What a source says in words (`policy_detail`, `image_desc`, `loader_notes`) is read for the few things that decide the
cost; what it does not say stays None. Nothing is taken over that is not written there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable

from planner.errors import UsageError
from planner.records import Catalogue, Policy, Run
from planner.units import GIB

COLUMNS = (
    "id", "system", "policy", "policy_detail", "gpu", "num_gpus", "batch_size_per_gpu", "image_desc", "steps", "wall_clock_s",
    "update_s", "data_s", "samples_per_s", "peak_vram_gb", "oom", "loader_notes", "date", "source_kind", "source", "confidence",
)
#: names that sources use for what the catalogue knows by another one
_POLICIES = {"lingbot-va": "lingbot_va", "gr00t": "groot", "pi0fast": "pi0_fast", "pi0.5": "pi05", "multitask_dit": "multi_task_dit"}
_GPUS = {"a100": "a100-40", "rtx5060ti": "rtx5060ti-16", "a10": "a10g"}

_SIZED = re.compile(r"(?:(\d+)\s*[x×]\s*)?(\d{2,4})\s*[x×]\s*(\d{2,4})")
_COUNTED = re.compile(r"\b(\d+|one|two|three|four)\s+(?:\w+\s+){0,3}?cameras?\b")
_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4}
_RANK = re.compile(r"\b(?:r|rank)[ =]?(\d{1,3})\b")


def read(lines: Iterable[str], catalogue: Catalogue) -> list[Run]:
    """The rows of a CSV. Raises UsageError where a column is missing or a number is none."""
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError("csv", f"the table lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    try:
        return [_run(row, catalogue) for row in reader]
    except csv.Error as error:
        raise UsageError("csv", f"line {reader.line_num}: {error}") from None


def _run(row: dict[str, str], catalogue: Catalogue) -> Run:
    def number(name: str) -> float | None:
        text = (row[name] or "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise UsageError("csv", f"{row['id']}: {name}: expected a number, got {text!r}") from None
        if not 0 <= value < 1e12:
            raise UsageError("csv", f"{row['id']}: {name}: expected a number of at least 0, got {text!r}")
        return value

    def whole(name: str) -> int | None:
        value = number(name)
        return None if value is None else int(value)

    name = row["policy"].strip().lower()
    policy = catalogue.policies.get(_POLICIES.get(name, name))
    detail = f"{row['policy_detail']} {row['loader_notes']}".lower()
    cameras, width, height = images(row["image_desc"].lower())
    gpus, batch, update = whole("num_gpus"), whole("batch_size_per_gpu"), number("update_s")
    rate = number("samples_per_s")
    whole_step = bool(re.search(r"whole step|whole iteration|1/step|1/\(|steps per s", detail))
    if update is None and rate and batch:
        update, whole_step = batch * max(1, gpus or 1) / rate, True
    vram = number("peak_vram_gb")
    oom = row["oom"].strip().lower()
    other_tool = "nvidia-smi" in detail and "mem_gb" not in detail  # counts the context and what the allocator keeps
    gpu = row["gpu"].strip().lower()
    return Run(
        id=row["id"], system=row["system"].strip().lower(), policy=policy.id if policy else name,
        dtype=_dtype(detail), gradient_checkpointing=_checkpointing(detail), trained=None if policy is None else _trained(policy, detail),
        lora_rank=_rank(detail), compiled=_compiled(detail), autocast=True if re.search(r"\bamp\b|autocast", detail) else None,
        chunk=_chunk(detail),
        optimizer=_optimizer(detail), gpu=_GPUS.get(gpu, gpu) or None, num_gpus=gpus, batch_size=batch or None,
        cameras=cameras, width=width, height=height, steps=whole("steps"), wall_clock_s=number("wall_clock_s"), update_s=update,
        data_s=number("data_s"), whole_step=whole_step,
        vram_bytes=None if vram is None or oom in ("yes", "true") or other_tool else int(vram * GIB),
        oom={"yes": True, "no": False, "true": True, "false": False}.get(oom), loader=row["loader_notes"], lerobot=None, scored=True,
        reason="", kind=row["source_kind"], confidence=row["confidence"] if row["confidence"] in ("high", "medium", "low") else "low",
        source=row["source"], as_of=row["date"],
    )


def images(text: str) -> tuple[int | None, int | None, int | None]:
    """(cameras, width, height) from words such as `2x640x480`, `3 cameras`, `1x96x96 (pusht)`."""
    sized, counted = _SIZED.search(text), _COUNTED.search(text)
    count = None
    if counted:
        count = _WORDS.get(counted[1]) or int(counted[1])
    if sized is None:
        return count, None, None
    if sized[1] is not None:
        count = int(sized[1])
    wide, high = int(sized[2]), int(sized[3])
    if "480x640" in text.replace("×", "x"):  # height first, as arrays have it
        wide, high = high, wide
    return count, wide, high


def _dtype(text: str) -> str | None:
    if re.search(r"bf16|bfloat16", text):
        return "bfloat16"
    return "float32" if re.search(r"fp32|float32", text) else None


def _checkpointing(text: str) -> bool | None:
    if re.search(r"(no|without) gradient[_ ]checkpointing|gradient_checkpointing=false", text):
        return False
    return True if re.search(r"gradient[_ ]checkpointing", text) else None


def _compiled(text: str) -> bool | None:
    if re.search(r"uncompiled|compile_model=false|\beager\b|no compile", text):
        return False
    return True if "compile" in text else None


def _rank(text: str) -> int | None:
    match = _RANK.search(text)
    return int(match[1]) if match and "lora" in text else None


def _chunk(text: str) -> int | None:
    match = re.search(r"\b(?:chunk|horizon)(?:[_ ]size)?[ =]([1-9][0-9]{0,3})\b", text)
    return int(match[1]) if match else None


def _optimizer(text: str) -> str | None:
    if re.search(r"8-?bit adam", text):
        return "adamw8bit"
    return "sgd" if re.search(r"\bsgd\b", text) else None


def _trained(policy: Policy, text: str) -> str | None:
    """What is trained; the policy's default where a source says nothing against it."""
    if "lora" in text and not re.search(r"no lora|without lora", text):
        return "lora"
    if "vlm frozen" in text or "frozen vlm" in text:
        return "frozen_vlm"
    if re.search(r"expert[- ]only|train_expert_only=true|frozen backbone|frozen vision, expert", text):
        return "expert"
    if re.search(r"full fine-?tune|everything trained|train_expert_only=false|all trained", text) and policy.trained != "all":
        return "all" if "freeze_vision_encoder=true" not in text else "vlm+expert"
    return policy.trained
