"""data/*.yaml and data/profiles.csv → one frozen, checked Catalogue.

YAML is the source. data/catalogue.json is its compiled form, written by `python -m planner.catalogue`: it is
used only while the hashes of all sources in it still hold, so an edited YAML file is read afresh at once. A
user's own YAML files, in the same layout under the configuration directory, add or override entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from planner.errors import UsageError
from planner.records import Base, Figure, Gpu, Offer, Policy, Profile, Run, Source, StartupRange, TargetRules

COMPILED = "catalogue.json"


class Catalogue(NamedTuple):
    """Everything the estimates are made from."""

    sources: dict[str, Source]
    gpus: dict[str, Gpu]
    groups: dict[str, str]  # id -> title
    policies: dict[str, Policy]
    targets: dict[str, TargetRules]
    offers: tuple[Offer, ...]
    aliases: dict[str, str]  # a provider's other names for a flavor -> the flavor
    profiles: tuple[Profile, ...]
    runs: tuple[Run, ...]  # those that are scored; read_runs() has all
    digest: str = ""  # of the bundled files it was made from; empty where a user's entries are in it

    def source(self, name: str | None) -> Source | None:
        return self.sources.get(name or "")


def data_dir() -> Path:
    """The bundled data: inside an installed package, beside the package in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "data"
    return inside if inside.is_dir() else here.parent / "data"


def user_dir() -> Path:
    """Where a user's own catalogue files are looked for."""
    from platformdirs import user_config_path

    return user_config_path("planner") / "catalogue"


def load(data: Path | None = None, user: Path | None = None) -> Catalogue:
    """The bundled catalogue with the user's entries laid over it. Raises UsageError on the first mistake."""
    data = data or data_dir()
    own = _yaml_files(user or user_dir())
    if not own:
        compiled = _compiled(data)
        if compiled is not None:
            return compiled
    return _build(data, user or user_dir() if own else None)


def _yaml_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.yaml"), *folder.glob("offers/*.yaml")]) if folder.is_dir() else []


# ------------------------------------------------------------------------------------------ from YAML


#: what data/offers/<target>.yaml holds beside its name and its offers
RULES = ("title", "rules", "startup", "bandwidth", "cpu_kappa")


def _build(data: Path, user: Path | None) -> Catalogue:
    from planner import entries, fields, yamlfile

    if user is not None:
        names = [path.relative_to(data).as_posix() for path in _yaml_files(data)]
        for path in _yaml_files(user):
            name = path.relative_to(user).as_posix()
            if name not in names:
                raise UsageError("catalogue", f"{path}: there is no {name} to lay it over{_near(name, names)}"
                                 f"{'' if _near(name, names) else '; the files are ' + ', '.join(names)}")

    class Layer:
        """One file and the user's file of the same name over it."""

        def __init__(self, name: str) -> None:
            path = data / name
            self.file = str(path)
            self.bundled: dict[str, Any] = yamlfile.read(path) if path.exists() else {}
            own = user / name if user else None
            self.own_file = str(own)
            self.own: dict[str, Any] = yamlfile.read(own) if own and own.exists() else {}

        def section(self, key: str | None) -> Iterator[tuple[str, str, Any, bool]]:
            """(file, name, data, is the user's) of every entry; a user's entry is laid over its namesake."""
            bundled = self.bundled if key is None else self._part(self.bundled, key, self.file)
            own = self.own if key is None else self._part(self.own, key, self.own_file)
            for name in [*bundled, *(name for name in own if name not in bundled)]:
                mine = name in own
                value = _overlay(bundled.get(name), own[name]) if mine else bundled[name]
                yield (self.own_file if mine else self.file), str(name), value, mine

        def _part(self, layer: dict[str, Any], key: str, file: str) -> dict[str, Any]:
            part = layer.get(key, {}) if layer else {}
            if not isinstance(part, dict):
                raise UsageError("catalogue", f"{file}: {key}: expected a mapping of entries")
            return part

    sources = {name: entries.source(file, name, value) for file, name, value, _ in Layer("sources.yaml").section(None)}
    gpus = {name: entries.gpu(file, name, value, sources) for file, name, value, _ in Layer("gpus.yaml").section(None)}
    layer = Layer("policies.yaml")
    _only(layer.bundled, ("groups", "policies"), layer.file)
    _only(layer.own, ("groups", "policies"), layer.own_file)
    groups = {}
    for file, name, value, _ in layer.section("groups"):
        entry = fields.Entry(file, name, value)
        groups[name] = entry.text("title")
        entry.done()
    policies = {name: entries.policy(file, name, value, sources) for file, name, value, _ in layer.section("policies")}
    targets, offers, aliases = {}, [], {}
    for path in sorted((data / "offers").glob("*.yaml")):
        layer = Layer(f"offers/{path.name}")
        for content, file in ((layer.bundled, layer.file), (layer.own, layer.own_file)):
            _only(content, ("target", *RULES, "offers"), file)
        merged = {key: _overlay(layer.bundled.get(key), layer.own[key]) if key in layer.own else layer.bundled[key]
                  for key in {**layer.bundled, **layer.own} if key != "offers"}
        target = merged.pop("target", None)
        if target != path.stem:
            raise UsageError("catalogue", f"{layer.file}: target: expected {path.stem!r}, the file's name, got {target!r}")
        targets[target] = entries.rules(layer.own_file if set(layer.own) & set(RULES) else layer.file, target, merged, sources)
        for file, name, value, mine in layer.section("offers"):
            made = entries.offers(file, target, name, value, sources, "user" if mine else "bundled")
            for offer in made:
                if offer.gpu not in gpus:
                    raise UsageError("catalogue", f"{file}: {name}: gpu: {offer.gpu!r} does not exist{_near(offer.gpu, gpus)}")
            offers += made
            if isinstance(value, dict) and value.get("alias_of"):
                aliases[name] = str(value["alias_of"])
    runs_layer = Layer("evidence.yaml")
    _only(runs_layer.own, ("runs",), runs_layer.own_file)
    runs = tuple(run for file, name, value, _ in runs_layer.section("runs") if (run := entries.run(file, name, value)).scored)
    catalogue = Catalogue(sources, gpus, groups, policies, targets, tuple(offers), aliases, _profiles(data / "profiles.csv"), runs,
                          "" if user else _digest(_hashes(data)))
    _check(catalogue, data)
    return catalogue


def read_runs(data: Path) -> tuple[Run, ...]:
    """Every run of the bundled evidence, also those that cannot be scored."""
    from planner import entries, yamlfile

    path = data / "evidence.yaml"
    return tuple(entries.run(str(path), name, value) for name, value in yamlfile.read(path)["runs"].items())


def _overlay(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict) and "value" not in above:  # a figure is replaced whole, date and all
        return {**below, **{key: _overlay(below.get(key), value) for key, value in above.items()}}
    return above


def _only(layer: dict[str, Any], keys: Iterable[str], file: str) -> None:
    for key in layer:
        if key not in keys:
            hint = _near(str(key), keys) or f"; expected one of: {', '.join(keys)}"
            raise UsageError("catalogue", f"{file}: {key}: unknown field{hint}")


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _profiles(path: Path) -> tuple[Profile, ...]:
    import csv

    profiles = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                profiles.append(Profile(
                    policy=row["policy"], dtype=row["dtype"],
                    gradient_checkpointing=row["gradient_checkpointing"].lower() == "true",
                    trained=row["trained"], lora_rank=int(row["lora_rank"]), autocast=row["autocast"].lower() == "true",
                    cameras=int(row["cameras"]), width=int(row["width"]), height=int(row["height"]),
                    params=int(float(row["params"])), grad_params=int(float(row["grad_params"])),
                    flops_per_sample=float(row["flops_per_sample"]), weight_bytes=int(row["weight_bytes"]),
                    activation_bytes=int(row["activation_bytes"]), floor_bytes=int(row["floor_bytes"]),
                    a_bytes=int(row["a_bytes"]), b_bytes=int(row["b_bytes"]),
                    source=f"{row['method']}, LeRobot {row['lerobot']}, torch {row['torch']}", as_of=row["as_of"],
                ))
            except (KeyError, ValueError, TypeError) as error:
                raise UsageError("catalogue", f"{path}: line {number}: {error}") from None
    return tuple(profiles)


def _check(catalogue: Catalogue, data: Path) -> None:
    """What no single entry can know: that the names it uses exist."""

    def known(file: str, entry: str, field: str, name: str, names: Iterable[str]) -> None:
        if name not in names:
            raise UsageError("catalogue", f"{data / file}: {entry}: {field}: {name!r} does not exist")

    for policy in catalogue.policies.values():
        known("policies.yaml", policy.id, "group", policy.group, catalogue.groups)
        if policy.analogy:
            known("policies.yaml", policy.id, "analogy: sibling", str(policy.analogy["sibling"]), catalogue.policies)
        elif not any(profile.policy == policy.id for profile in catalogue.profiles):
            raise UsageError("catalogue", f"{data / 'policies.yaml'}: {policy.id}: analogy: is missing, and no profile exists")
    for profile in catalogue.profiles:
        known("profiles.csv", profile.policy, "policy", profile.policy, catalogue.policies)
    if not catalogue.gpus or not catalogue.policies:
        raise UsageError("catalogue", f"{data}: the catalogue is empty; reinstall the package")


# ------------------------------------------------------------------------------------------ compiled form


def sources_of(data: Path) -> list[Path]:
    """The files that the compiled form is made from."""
    return [*_yaml_files(data), data / "profiles.csv"]


def _hashes(data: Path) -> dict[str, str]:
    """CRC and size of every source: enough to notice an edit, and hashlib's import would cost more than all the rest of this."""
    contents = {path.relative_to(data).as_posix(): path.read_bytes() for path in sources_of(data)}
    return {name: f"{crc32(content):08x}-{len(content)}" for name, content in contents.items()}


def _digest(hashes: dict[str, str]) -> str:
    return f"{crc32(json.dumps(hashes).encode()):08x}"


def compile_text(data: Path) -> str:
    """The compiled form of the bundled catalogue, as text."""
    catalogue = _build(data, None)
    plain: dict[str, Any] = {"hashes": _hashes(data)}
    for section in ("sources", "gpus", "policies", "targets"):
        plain[section] = list(getattr(catalogue, section).values())
    for section in ("offers", "profiles", "runs"):
        plain[section] = list(getattr(catalogue, section))
    plain["groups"], plain["aliases"] = catalogue.groups, catalogue.aliases
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, default=str, ensure_ascii=False)}" for key, value in plain.items())
    return "{" + rows + "}\n"


def _compiled(data: Path) -> Catalogue | None:
    try:
        plain = json.loads((data / COMPILED).read_bytes())
        if plain["hashes"] != _hashes(data):
            return None
    except (OSError, ValueError, KeyError):
        return None
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
        digest=_digest(plain["hashes"]),
    )


def _figure(row: Any) -> Any:
    return None if row is None else Figure(*row)


_GPU_FIGURES = ("memory_bytes", "usable_bytes", "bandwidth", "fp32", "tf32", "fp16", "bf16", "watts", "interconnect")


def _gpu(row: list[Any]) -> Gpu:
    gpu = dict(zip(Gpu._fields, row, strict=True))
    for name in _GPU_FIGURES:
        gpu[name] = _figure(gpu[name])
    return Gpu(**gpu)


def _offer(row: list[Any]) -> Offer:
    offer = Offer(*row[:-1])  # the parts of the price follow from the workload
    return offer if offer.usd_per_hour is None else offer._replace(usd_per_hour=Decimal(offer.usd_per_hour))


def _policy(row: list[Any]) -> Policy:
    policy = dict(zip(Policy._fields, row, strict=True))
    policy["releases"], policy["required"] = tuple(policy["releases"]), tuple(policy["required"])
    policy["batch_size"] = Figure(*policy["batch_size"])
    if policy["base"] is not None:
        name, flag, size, cameras = policy["base"]
        policy["base"] = Base(name, flag, Figure(*size), tuple(cameras))
    policy["sizes"] = {name: Figure(*value) for name, value in policy["sizes"].items()}
    policy["trained_by"] = tuple((flags, trained) for flags, trained in policy["trained_by"])
    policy["downloads"] = tuple((name, Figure(*size)) for name, size in policy["downloads"])
    return Policy(**policy)


def _rules(row: list[Any]) -> TargetRules:
    rules = dict(zip(TargetRules._fields, row, strict=True))
    for name in ("usd_per_core_hour", "usd_per_gib_hour", "egress_usd_per_gib"):
        rules[name] = _figure(rules[name])
    for name in ("startup", "bandwidth"):
        rules[name] = {term: StartupRange(*value) for term, value in rules[name].items()}
    rules["decode_kappa"] = StartupRange(*rules["decode_kappa"])
    rules["unbounded"] = tuple(rules["unbounded"])
    return TargetRules(**rules)


def _main() -> None:
    """`python -m planner.catalogue` rewrites the compiled form; `--check` says whether it is current."""
    import sys

    path = data_dir() / COMPILED
    text = compile_text(data_dir())
    if "--check" in sys.argv:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not current: run python -m planner.catalogue")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main()
