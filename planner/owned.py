"""What this machine offers: the GPUs that were found here, and a machine like most around a card that was not. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from planner import devices, electricity
from planner.records import Offer
from planner.request import Device, Machine
from planner.units import GB

if TYPE_CHECKING:
    from planner.records import Catalogue

#: The host of a GPU that is not here: a desktop with 8 cores and 32 GB, for each GPU.
ASSUMED_VCPUS, ASSUMED_RAM_BYTES = 16.0, 32 * GB
#: Memory in use from which a GPU is not all there: a desktop's own windows take less.
_BUSY = 0.08
CPU = "cpu"


def found(machine: Machine, catalogue: Catalogue) -> dict[str, int]:
    """GPUs of this machine: id -> how many of them can train together."""
    counts: dict[str, int] = {}
    for device in machine.devices:
        gpu = devices.gpu_id(device.name, device.memory_bytes, catalogue.gpus)
        if gpu is not None:
            counts[gpu] = 1 if device.part else counts.get(gpu, 0) + 1
    return counts


def is_here(offer: Offer, machine: Machine, catalogue: Catalogue) -> bool:
    """The offer is this machine, not one that is assumed."""
    if offer.gpu == CPU:
        return machine.vcpus is not None
    return offer.num_gpus <= found(machine, catalogue).get(offer.gpu, 0)


def offers(machine: Machine, catalogue: Catalogue, usd_per_kwh: Decimal | None, numbers: set[int]) -> list[Offer]:
    """One of each GPU found here, two, four … and all of them, and the `numbers` asked for."""
    made = []
    for gpu, most in found(machine, catalogue).items():
        counts = {1 << power for power in range(most.bit_length())} | {most} | {number for number in numbers if number <= most}
        made += [offer(gpu, count, machine, catalogue, usd_per_kwh) for count in sorted(counts)]
    return made


def offer(gpu: str, count: int, machine: Machine, catalogue: Catalogue, usd_per_kwh: Decimal | None) -> Offer:
    """`count` of a GPU, in this machine where it has them."""
    entry = catalogue.gpus[gpu]
    bare = Offer(
        target="local", flavor=gpu, gpu=gpu, num_gpus=count, vcpus=ASSUMED_VCPUS * count,
        ram_bytes=int(entry.memory_bytes.value) if entry.unified and gpu != CPU else ASSUMED_RAM_BYTES * count, disk_bytes=None,
        usd_per_hour=None, price_source=None, price_as_of=None, price_method="bundled", per_gpu=True,
    )  # fmt: skip
    if is_here(bare, machine, catalogue):
        vcpus, ram = machine.vcpus or bare.vcpus, machine.ram_bytes or bare.ram_bytes
        bare = bare._replace(vcpus=vcpus, ram_bytes=ram, disk_bytes=machine.disk_bytes)
    parts = () if usd_per_kwh is None else electricity.hourly(entry, count, catalogue.targets["local"], usd_per_kwh)
    if not parts:
        return bare
    total = sum((usd for _, usd in parts), Decimal(0))
    return bare._replace(usd_per_hour=total, price_source=electricity.SOURCE, price_as_of="", price_method="user", price_parts=parts)


def remarks(machine: Machine, catalogue: Catalogue) -> list[tuple[str, str]]:
    """(code, text) of what stands in the way of the GPUs that are here, or may be."""
    said = [("machine", note) for note in machine.notes]
    known: dict[Device, str | None] = {
        device: devices.gpu_id(device.name, device.memory_bytes, catalogue.gpus) for device in machine.devices
    }
    for device, gpu in known.items():
        size = f" with {device.memory_bytes / GB:.1f} GB" if device.memory_bytes else ""
        if gpu is None:
            said.append(("unknown-gpu", f"this machine's {device.name}{size} is not in the catalogue: give it an entry with "
                         f"devices: [{device.name}] in a gpus.yaml of yours (docs/catalogue.md), or plan for its like with --gpu"))
        elif device.memory_bytes and device.used_bytes > _BUSY * device.memory_bytes:
            said.append(("gpu-in-use", f"other processes hold {device.used_bytes / GB:.1f} of the {device.memory_bytes / GB:.1f} GB of "
                         f"this machine's {gpu} now; the plan counts on all of it"))
    return list(dict.fromkeys(said))
