"""The catalogue in a form that loads twenty times faster than its YAML, while its sources stay as they are.

data/catalogue.json holds the bundled one. One with a user's own files in it is kept in the cache folder, made by the first plan
that reads them; a file there that does not belong to these sources, or is not whole, counts as none.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

from planner.records import (
    Base,
    BillingRule,
    Catalogue,
    Figure,
    Gpu,
    Lot,
    Offer,
    Policy,
    Profile,
    Run,
    Source,
    StartupRange,
    TargetRules,
)  # fmt: skip

FILE = "catalogue.json"


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a catalogue folder."""
    return sorted([*folder.glob("*.yaml"), *folder.glob("offers/*.yaml")]) if folder.is_dir() else []


def own_files(user: Path) -> list[Path]:
    """A user's own files: YAML, and price feeds as CSV."""
    return [*yaml_files(user), *(sorted(user.glob("offers/*.csv")) if user.is_dir() else ())]


def sources_of(data: Path) -> list[Path]:
    """The files that the compiled form is made from."""
    return [*yaml_files(data), data / "profiles.csv"]


def checksums(data: Path) -> dict[str, str]:
    """CRC and size of every source: enough to notice an edit, and hashlib's import would cost more than all the rest of this."""
    return {path.relative_to(data).as_posix(): _checksum(path) for path in sources_of(data)}


def _checksum(path: Path) -> str:
    content = path.read_bytes()
    return f"{crc32(content):08x}-{len(content)}"


def digest(hashes: dict[str, str]) -> str:
    """One short name for all the checksums."""
    return f"{crc32(json.dumps(hashes).encode()):08x}"


def text(catalogue: Catalogue, data: Path) -> str:
    """The compiled form of the catalogue that was built from `data`."""
    return _text(catalogue, {"hashes": checksums(data)})


def _text(catalogue: Catalogue, plain: dict[str, Any]) -> str:
    for section in ("sources", "gpus", "policies", "targets"):
        plain[section] = list(getattr(catalogue, section).values())
    for section in ("offers", "profiles", "runs"):
        plain[section] = list(getattr(catalogue, section))
    plain["groups"], plain["aliases"] = catalogue.groups, catalogue.aliases
    if catalogue.feed:
        plain["feed"] = list(catalogue.feed)
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, default=str, ensure_ascii=False)}" for key, value in plain.items())
    return "{" + rows + "}\n"


def read(data: Path) -> Catalogue | None:
    """The catalogue from its compiled form; None where there is none, or a source has changed since."""
    try:
        plain = json.loads((data / FILE).read_bytes())
        if plain["hashes"] != checksums(data):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return _catalogue(plain, digest(plain["hashes"]))


def _catalogue(plain: dict[str, Any], digest: str) -> Catalogue:
    return Catalogue(
        sources={row[0]: Source(*row) for row in plain["sources"]},
        gpus={row[0]: _gpu(row) for row in plain["gpus"]},
        groups=plain["groups"],
        policies={row[0]: _policy(row) for row in plain["policies"]},
        targets={row[0]: _rules(row) for row in plain["targets"]},
        offers=tuple(_offer(row) for row in plain["offers"]),
        aliases=plain["aliases"],
        profiles=tuple(Profile(*row) for row in plain["profiles"]),
        runs=tuple(Run(*row) for row in plain["runs"]),
        digest=digest,
        feed=tuple(Lot(*row) for row in plain.get("feed", ())),
    )


# ------------------------------------------------------------------------------------------ with a user's own files

#: what decides how sources become records: a kept catalogue that other code made is made again
_CODE = ("build.py", "entries.py", "feedfile.py", "feeds.py", "fields.py", "records.py", "units.py", "yamlfile.py", "compiled.py")


def own_checksums(data: Path, user: Path) -> dict[str, str]:
    """Checksums of everything that the catalogue with this user's files in it is made from."""
    here = Path(__file__).parent
    code = {f"code/{name}": _checksum(here / name) for name in _CODE if (here / name).exists()}
    return {**checksums(data), **code, **{f"own/{path.relative_to(user).as_posix()}": _checksum(path) for path in own_files(user)}}


def read_kept(path: Path, hashes: dict[str, str]) -> Catalogue | None:
    """The catalogue that was kept for these sources; None where there is none, or the file is broken or another's."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        if json.loads(head) != [hashes, crc32(body)]:
            return None
        plain = json.loads(body)
        return _catalogue(plain, plain["digest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(path: Path, hashes: dict[str, str], catalogue: Catalogue) -> None:
    """Write it for the next plan, whole or not at all. A folder that cannot be written costs time, and is no error."""
    body = _text(catalogue, {"digest": catalogue.digest}).encode("utf-8", "surrogatepass")
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(json.dumps([hashes, crc32(body)]).encode() + b"\n" + body)
        beside.replace(path)
    except OSError:
        try:
            beside.unlink(missing_ok=True)
        except OSError:
            return




def _figure(row: Any) -> Any:
    return None if row is None else Figure(*row)


_GPU_FIGURES = ("memory_bytes", "usable_bytes", "bandwidth", "fp32", "tf32", "fp16", "bf16", "watts", "interconnect")


def _gpu(row: list[Any]) -> Gpu:
    gpu = dict(zip(Gpu._fields, row, strict=True))
    for name in _GPU_FIGURES:
        gpu[name] = _figure(gpu[name])
    if gpu["devices"] is not None:
        gpu["devices"] = tuple(gpu["devices"])
    return Gpu(**gpu)


def _offer(row: list[Any]) -> Offer:
    offer = Offer(*row[:-1])  # the parts of the price follow from the workload
    return offer if offer.usd_per_hour is None else offer._replace(usd_per_hour=Decimal(offer.usd_per_hour))


def _policy(row: list[Any]) -> Policy:
    policy = dict(zip(Policy._fields, row, strict=True))
    for name in ("releases", "required", "gated"):
        policy[name] = tuple(policy[name])
    policy["batch_size"] = Figure(*policy["batch_size"])
    if policy["base"] is not None:
        base, flag, size, cameras = policy["base"]
        policy["base"] = Base(base, flag, Figure(*size), tuple(cameras))
    policy["sizes"] = {name: Figure(*value) for name, value in policy["sizes"].items()}
    policy["trained_by"] = tuple((flags, trained) for flags, trained in policy["trained_by"])
    policy["downloads"] = tuple((name, Figure(*size)) for name, size in policy["downloads"])
    return Policy(**policy)


def _rules(row: list[Any]) -> TargetRules:
    rules = dict(zip(TargetRules._fields, row, strict=True))
    for name in ("usd_per_core_hour", "usd_per_gib_hour", "egress_usd_per_gib"):
        rules[name] = _figure(rules[name])
    for name in ("startup", "bandwidth", "draw"):
        rules[name] = {term: StartupRange(*value) for term, value in rules[name].items()}
    rules["decode_kappa"] = StartupRange(*rules["decode_kappa"])
    rules["unbounded"] = tuple(rules["unbounded"])
    rules["billing"] = tuple(BillingRule(*rule) for rule in rules["billing"])
    return TargetRules(**rules)
