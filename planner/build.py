"""data/*.yaml and data/profiles.csv, with a user's own files → one frozen, checked Catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from planner import entries, feedfile, feeds, fields, yamlfile
from planner.compiled import checksums, digest, own_files, yaml_files
from planner.errors import UsageError
from planner.records import Catalogue, Offer, Profile, Run

#: what data/offers/<target>.yaml holds beside its name and its offers
RULES = ("title", "rules", "startup", "bandwidth", "cpu_kappa", "draw")
#: files of a user that change what is estimated, but nothing that the calibration is fitted to
_UNCALIBRATED = re.compile(r"sources\.yaml|offers/.*")
_PLACE = re.compile(r"[a-z][a-z0-9-]{0,30}")


def build(data: Path, user: Path | None) -> Catalogue:
    """The catalogue from its sources. Raises UsageError on the first mistake: file, entry, field, what was expected."""

    if user is not None:
        names = [path.relative_to(data).as_posix() for path in yaml_files(data)]
        for path in yaml_files(user):
            name = path.relative_to(user).as_posix()
            if name in names or (path.parent.name == "offers" and "like" in yamlfile.read(path)):
                continue
            hint = _near(name, names) or f"; the files are {', '.join(names)}"
            if path.parent.name == "offers":
                hint = f"; a place of your own says which one its rules are like: title: {path.stem}, like: hf"
            raise UsageError("catalogue", f"{path}: there is no {name} to lay it over{hint}")

    class Layer:
        """One file and the user's file of the same name over it."""

        def __init__(self, name: str) -> None:
            path = data / name
            self.file = str(path)
            self.bundled: dict[str, Any] = yamlfile.read(path) if path.exists() else {}
            own = user / name if user else None
            self.own_file = str(own)
            self.own: dict[str, Any] = yamlfile.read(own) if own and own.exists() else {}
            if self.own and not path.exists():
                self._like()

        def _like(self) -> None:
            """A place of the user's own takes over the rules of a bundled one, but not what is said of that one alone."""
            place, like = Path(self.own_file).stem, self.own.pop("like", None)
            likes = sorted({path.stem for path in (data / "offers").glob("*.yaml")} - {"local"})  # nobody rents that one
            if like not in likes:
                raise UsageError("catalogue", f"{self.own_file}: like: expected one of {', '.join(likes)}, got {like!r}")
            if not _PLACE.fullmatch(place):
                raise UsageError("catalogue", f"{self.own_file}: the name of a place is lower-case letters, digits and -")
            if "title" not in self.own:
                raise UsageError("catalogue", f"{self.own_file}: title: is missing")
            rules = yamlfile.read(data / "offers" / f"{like}.yaml")
            self.file, self.bundled = self.own_file, {"target": place, **{key: rules[key] for key in RULES if key in rules}}
            said = f"How {self.own['title']} bills and starts is not known: it is taken to do as {rules['title']} does."
            self.bundled["rules"] = {**rules["rules"], "unbounded": [said], "notes": said, "price_list": None, "other": {}}

        def section(self, key: str | None) -> Iterator[tuple[str, str, Any, bool]]:
            """(file, name, data, is the user's) of every entry; a user's entry is laid over its namesake."""
            bundled = self.bundled if key is None else self._part(self.bundled, key, self.file)
            own = self.own if key is None else self._part(self.own, key, self.own_file)
            for name in [*bundled, *(name for name in own if name not in bundled)]:
                mine = name in own
                value = _overlay(bundled.get(name), own[name]) if mine else bundled[name]
                yield (self.own_file if mine else self.file), str(name), value, mine

        def _part(self, layer: dict[str, Any], key: str, file: str) -> dict[str, Any]:
            part = layer.get(key) or {} if layer else {}
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
    theirs = own_files(user) if user else []
    folded: list[Offer] = []
    for name in sorted({path.name for path in (*(data / "offers").glob("*.yaml"), *theirs) if path.parent.name == "offers"}):
        path = data / "offers" / name
        if path.suffix == ".csv":
            continue
        layer = Layer(f"offers/{name}")
        for content, file in ((layer.bundled, layer.file), (layer.own, layer.own_file)):
            _only(content, ("target", *RULES, "offers"), file)
        merged = {key: _overlay(layer.bundled.get(key), layer.own[key]) if key in layer.own else layer.bundled[key]
                  for key in {**layer.bundled, **layer.own} if key != "offers"}
        target = merged.pop("target", None)
        if target != path.stem:
            raise UsageError("catalogue", f"{layer.file}: target: expected {path.stem!r}, the file's name, got {target!r}")
        own_rates = {"cpu_price", "memory_price"} & set(layer.own.get("rules") or {})
        targets[target] = entries.rules(layer.own_file if set(layer.own) & set(RULES) else layer.file, target, merged, sources,
                                        "user" if own_rates else "bundled")
        for file, name, value, mine in layer.section("offers"):
            made = entries.offers(file, target, name, value, sources, "user" if mine else "bundled")
            for offer in made:
                if offer.gpu not in gpus:
                    raise UsageError("catalogue", f"{file}: {name}: gpu: {offer.gpu!r} does not exist{_near(offer.gpu, gpus)}")
            offers += made
            if isinstance(value, dict) and value.get("alias_of"):
                aliases[name] = str(value["alias_of"])
        feed = user / "offers" / f"{target}.csv" if user else None
        if feed in theirs and feed is not None:
            if targets[target].draw:
                raise UsageError("catalogue", f"{feed}: nobody rents what {target}.yaml plans for; a feed is of a place that does")
            folded += feedfile.read(feed, target, gpus, sources, {*aliases, *(offer.flavor for offer in offers if offer.target == target)})
    for path in theirs:
        if path.suffix == ".csv" and path.stem not in targets:
            raise UsageError("catalogue", f"{path}: there is no offers/{path.stem}.yaml with the rules of this place; "
                             f"write one with title: {path.stem} and like: hf")
    many = [offer for offer in offers if feeds.folds(offer) and gpus[offer.gpu].vendor != "cpu" and not targets[offer.target].draw]
    if len(many) >= feeds.FOLDED_FROM:
        folded += many
        alone = {id(offer) for offer in offers} - {id(offer) for offer in many}
        offers = [offer for offer in offers if id(offer) in alone]
    runs_layer = Layer("evidence.yaml")
    _only(runs_layer.own, ("runs",), runs_layer.own_file)
    runs = tuple(run for file, name, value, _ in runs_layer.section("runs") if (run := entries.run(file, name, value)).scored)
    bundled = all(user is not None and _UNCALIBRATED.fullmatch(path.relative_to(user).as_posix()) for path in theirs)
    catalogue = Catalogue(sources, gpus, groups, policies, targets, tuple(offers), aliases, _profiles(data / "profiles.csv"), runs,
                          digest(checksums(data)) if bundled else "", feed=feeds.fold(folded))
    _check(catalogue, data)
    return catalogue


def runs_of(path: Path) -> tuple[Run, ...]:
    """The runs of one evidence file, also those that are not scored."""
    layer = yamlfile.read(path)
    _only(layer, ("runs",), str(path))
    runs = layer.get("runs") or {}
    if not isinstance(runs, dict):
        raise UsageError("catalogue", f"{path}: runs: expected a mapping of entries")
    return tuple(entries.run(str(path), str(name), value) for name, value in runs.items())


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
                    cameras=int(row["cameras"]), width=int(row["width"]), height=int(row["height"]), chunk=int(row["chunk"]),
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
        own = [profile.chunk for profile in catalogue.profiles if profile.policy == policy.id]
        if not own and not policy.analogy:
            raise UsageError("catalogue", f"{data / 'policies.yaml'}: {policy.id}: analogy: is missing, and no profile exists")
        if own and policy.chunk not in own:
            raise UsageError("catalogue", f"{data / 'policies.yaml'}: {policy.id}: chunk: no profile has {policy.chunk}; "
                             f"profiled are {', '.join(map(str, sorted(set(own))))}")
    for profile in catalogue.profiles:
        known("profiles.csv", profile.policy, "policy", profile.policy, catalogue.policies)
    if not catalogue.gpus or not catalogue.policies:
        raise UsageError("catalogue", f"{data}: the catalogue is empty; reinstall the package")
