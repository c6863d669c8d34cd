"""What Modal says today of its rates, asked with the user's own token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from planner.deadline import Deadline
from planner.errors import NotAuthorised, Unreachable
from planner.records import PriceList, Quote
from planner.targets.base import PER_HOUR, odd_units, usd

name = "modal"

_GPU_KEY, _OTHER_KEY = re.compile(r"gpu_([a-z]+)_cost_(\w+)"), re.compile(r"(gpu|cpu|mem)_.*cost.*")
#: keys of the bill whose GPU has another name in gpu=…; the rest are that name in lower case
_NAMES = {"a10g": "A10", "rtx6000": "RTX-PRO-6000"}
_GPUS = {"rtx6000": "RTX PRO 6000"}
#: keys of what a training does not use: sandboxes and notebooks cost three times as much
_OTHERS = ("cpu_hour_cost_sandbox", "mem_gib_hour_cost_sandbox")


#: part of what is left of the deadline that a call may take: one that is given up in time leaves nothing to be cleared away
_IN_TIME = 0.85


def prices(deadline: Deadline) -> PriceList:
    """What Modal says today of its rates, asked with the user's own token. NotAuthorised, Unreachable, TimeoutError."""
    import asyncio

    from modal import Workspace
    from modal.exception import AuthError, Error, PermissionDeniedError

    async def ask() -> Mapping[str, Decimal]:
        return await asyncio.wait_for(Workspace.from_context().billing.rates.aio(), _IN_TIME * deadline.remaining())

    try:
        rates = dict(asyncio.run(ask()))
    except AuthError as error:
        missing = "Token missing" in str(error) or "was not found" in str(error)
        what = "no Modal token is set" if missing else "Modal refused the token"
        raise NotAuthorised("prices", f"modal: {what}: run modal setup, or leave Modal out with --target hf") from None
    except PermissionDeniedError:
        raise NotAuthorised("prices", "modal: the token may not read the workspace's rates: use one of a member of the workspace") from None
    except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
        raise TimeoutError from None
    except Exception as error:  # gRPC's own errors are not modal.exception.Error, and rates that are no numbers are neither
        kind = type(error).__name__ if isinstance(error, Error) else f"{type(error).__name__}, not an answer of Modal's"
        raise Unreachable("prices", f"modal: Modal gave no rates ({kind}): try again later") from None
    return _price_list(rates)


def _price_list(rates: Mapping[str, Decimal]) -> PriceList:
    """Rates are dollars per hour of one GPU, one physical core, one GiB; what has another unit is left out and said."""
    quotes, remarks = [], []
    for key, value in sorted(rates.items()):
        gpu = _GPU_KEY.fullmatch(key)
        if gpu:
            unit, name_ = gpu.groups()
            flavor, times = _NAMES.get(name_, name_.upper().replace("_", "-")), PER_HOUR.get(unit)
            odd = unit if times is None and usd(value) is not None else None
            quotes.append(Quote(flavor, usd(value, times) if times else None, gpu=_GPUS.get(name_, name_), num_gpus=1, per_gpu=True,
                                odd_unit=odd))
        elif key in ("cpu_hour_cost", "mem_gib_hour_cost"):
            if usd(value) is None:
                remarks.append(f"modal {key}: {value} is no price: the rate of the catalogue is used")
        elif _OTHER_KEY.fullmatch(key) and key not in _OTHERS:
            remarks.append(f"modal {key}: a unit that is not known: it is not used")
    if not quotes:
        raise Unreachable("prices", "modal: Modal listed no GPU rates: try again later")
    remarks += odd_units(name, quotes)
    return PriceList(name, "", tuple(quotes), usd(rates.get("cpu_hour_cost")), usd(rates.get("mem_gib_hour_cost")), tuple(remarks))
