"""Which entry of the catalogue a device is, by what it calls itself and how much memory it has. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from planner.records import Gpu

#: words that makers put around a product's name
_AROUND = {
    "nvidia", "geforce", "tesla", "amd", "instinct", "apple",
    "gpu", "generation", "engineering", "reference", "developer", "kit", "with", "design",
}  # fmt: skip
#: What a device reports of the memory on its box: drivers and ECC take a tenth, a label may count in either gigabyte.
_LEAST, _MOST = 0.85, 1.05


def plain(name: str) -> str:
    """`NVIDIA GeForce RTX 4070 Ti SUPER` and `rtx4070ti-super` → rtx4070tisuper."""
    words = [word for word in name.lower().replace("-", " ").split() if word not in _AROUND]
    return "".join(character for word in words for character in word if character.isalnum())


def named(name: str, gpus: Mapping[str, Gpu]) -> list[Gpu]:
    """The entries that a device of this name may be: none, one, or several that share the name."""
    wanted = plain(name)
    return [gpu for gpu in gpus.values() if wanted in map(plain, (gpu.id,) if gpu.devices is None else gpu.devices)]


def gpu_id(name: str, memory_bytes: float | None, gpus: Mapping[str, Gpu]) -> str | None:
    """The id of a device by the name that torch, NVML or the system gives it; None where there is none, or several.

    Cards that share a name are told apart by their memory, and one with much more or less than its box says is another
    card. Memory that is shared with the host is only looked at to tell names apart; None is memory that nobody knows.
    """
    found = named(name, gpus)
    if len(found) == 1 and found[0].unified:
        return found[0].id
    if memory_bytes is not None:
        found = [gpu for gpu in found if _LEAST < memory_bytes / gpu.memory_bytes.value < _MOST]
    return found[0].id if len(found) == 1 else None
