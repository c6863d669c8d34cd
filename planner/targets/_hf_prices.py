"""What Hugging Face says today of its hardware for jobs and of its prices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from planner.deadline import Deadline
from planner.errors import NotAuthorised, PlanError, Unreachable
from planner.records import PriceList, Quote
from planner.targets.base import PER_HOUR, odd_units, usd
from planner.units import parse_quantity

if TYPE_CHECKING:
    from huggingface_hub import JobHardwareInfo

name = "hf"


def prices(deadline: Deadline) -> PriceList:
    """What Hugging Face says today of its hardware for jobs; no token is needed, so none is sent.

    The client has no timeout of its own: who calls leaves it behind at the deadline. NotAuthorised, Unreachable.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        listed = _hardware()
    except HfHubHTTPError as error:
        raise _failed(error.response.status_code) from None
    except Exception as error:  # whatever else the client raises, there is no answer that can be used
        raise Unreachable("prices", f"hf: Hugging Face gave no price list ({type(error).__name__}): try again later") from None
    if not listed:
        raise Unreachable("prices", "hf: Hugging Face listed no hardware: try again later")
    quotes = tuple(_quote(one) for one in listed)
    return PriceList(name, "", quotes, remarks=odd_units(name, quotes))


def _hardware() -> list[JobHardwareInfo]:
    from huggingface_hub import HfApi, JobHardwareInfo, get_session, hf_raise_for_status

    api = HfApi(token=False)
    try:
        return api.list_jobs_hardware()
    except KeyError:  # one entry lacks a field, and the client then gives up all of them
        response = get_session().get(f"{api.endpoint}/api/jobs/hardware")
        hf_raise_for_status(response)
        blank = dict.fromkeys(("prettyName", "cpu", "ram", "unitCostMicroUSD", "unitCostUSD", "unitLabel"))
        return [JobHardwareInfo(**blank | entry) for entry in response.json()]


def _failed(status: int) -> PlanError:
    if status in (401, 403):
        return NotAuthorised("prices", f"hf: Hugging Face refused its price list, which needs no login (HTTP {status}): try again later")
    return Unreachable("prices", f"hf: Hugging Face answered HTTP {status}: try again later")


def _quote(one: JobHardwareInfo) -> Quote:
    """VRAM is that of all GPUs together; RAM and disk are decimal, as printed."""
    unit, times = one.unit_label, PER_HOUR.get(one.unit_label or "")
    cost = one.unit_cost_usd
    if cost is None and isinstance(one.unit_cost_micro_usd, int):
        cost = one.unit_cost_micro_usd / 10**6
    price = usd(cost, times or 1)
    gpu = one.accelerator
    return Quote(
        flavor=str(one.name), usd_per_hour=price if times else None,
        gpu=str(gpu.model) if gpu else None, num_gpus=_number(gpu.quantity) if gpu else 0, vram_bytes=_bytes(gpu.vram) if gpu else None,
        vcpus=_number(one.cpu), ram_bytes=_bytes(one.ram), disk_bytes=_bytes(one.ephemeral_storage),
        odd_unit=None if times or price is None else str(unit),
    )


def _number(text: object) -> int | None:
    """`2 vCPU` -> 2; None where no whole number above 0 stands first."""
    match = re.match(r"[1-9]\d{0,4}(?![\d.])", str(text))
    return int(match[0]) if match else None


def _bytes(text: object) -> int | None:
    try:
        return int(parse_quantity(text, "bytes")) or None
    except ValueError:
        return None
