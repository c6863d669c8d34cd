"""What one sample of a policy costs: memory line, FLOPs and activation bytes for a variant and a camera set. Pure.

The profiles are lines fitted to the policy's own code (docs/accuracy.md). Between profiled camera sets the cost
is interpolated; a variant that was not profiled is taken from the nearest one by the ratio that the same change
makes in a sibling policy, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from planner.records import Catalogue, Policy, Profile
from planner.workload import DEFAULT_LORA_RANK, Camera, Variant

#: share of the per-sample cost that images make up where only one camera set was profiled. From the policies
#: profiled with several: act 0.98, smolvla 0.75, pi05 0.76, diffusion 0.95 of the slope belongs to the images.
IMAGE_SHARE = 0.85

#: What torch.compile leaves of the activations: fused operators save less. SmolVLA at batch 8 0.69 of the eager
#: activations (lerobot runs r043, r044), pi05 0.50-0.78 over batches 32-168 (r200-r203); the cautious end.
COMPILED_ACTIVATIONS = 0.75

_EXACT, _NEAR, _ANALOGY = "profile", "near", "analogy"


class Cost(NamedTuple):
    """Cost of a variant on a camera set. Peak bytes at a batch: max(floor, a + b·batch)."""

    floor_bytes: float
    a_bytes: float
    b_bytes: float
    weight_bytes: float
    flops: float  # per sample, forward and backward
    activation_bytes: float  # per sample, saved for backward
    params: int
    basis: str  # profile: this variant was profiled; near: derived from a neighbour; analogy: from a sibling policy
    source: str

    @property
    def gradient_bytes(self) -> float:
        """T: bytes of the parameters that receive gradients (floor = W + 4 T under AdamW)."""
        return max(0.0, (self.floor_bytes - self.weight_bytes) / 4)

    @property
    def checkpoint_bytes(self) -> float:
        """Weights and the optimizer's two moments."""
        return self.weight_bytes + 2 * self.gradient_bytes

    def peak_bytes(self, batch: int) -> float:
        return max(self.floor_bytes, self.a_bytes + self.b_bytes * batch)


def cost_of(catalogue: Catalogue, policy: Policy, variant: Variant, cameras: tuple[Camera, ...]) -> Cost:
    """The cost of `policy` as `variant` with `cameras`."""
    cost = _eager(catalogue, policy, variant, cameras)
    if not variant.compiled:
        return cost
    return cost._replace(b_bytes=cost.b_bytes * COMPILED_ACTIVATIONS, basis=_NEAR if cost.basis == _EXACT else cost.basis,
                   source=f"{cost.source}; activations × {COMPILED_ACTIVATIONS} for torch.compile")


def _eager(catalogue: Catalogue, policy: Policy, variant: Variant, cameras: tuple[Camera, ...]) -> Cost:
    cost = _usual(catalogue, policy, variant, cameras)
    for field, usual, wanted in (("chunk", policy.chunk, variant.chunk or policy.chunk),
                                 ("lora_rank", DEFAULT_LORA_RANK, variant.lora_rank or DEFAULT_LORA_RANK)):
        if wanted != usual and cost.basis != _ANALOGY:
            cost = _with(catalogue, policy, variant, cost, field, usual, wanted)
    return cost


def _usual(catalogue: Catalogue, policy: Policy, variant: Variant, cameras: tuple[Camera, ...]) -> Cost:
    """The cost with the policy's usual chunk, and LoRA of the usual rank."""
    if policy.analogy is not None and not any(profile.policy == policy.id for profile in catalogue.profiles):
        return _by_analogy(catalogue, policy, variant, cameras)
    own = [profile for profile in catalogue.profiles if profile.policy == policy.id and profile.chunk == policy.chunk
           and profile.lora_rank in (0, DEFAULT_LORA_RANK)]
    wanted = _key(variant)
    have = min((_key_of(profile) for profile in own), key=lambda key: _distance(key, wanted))
    cost = _at_cameras(policy, own, have, cameras)
    if have == wanted:
        return cost
    return _by_donor(catalogue, policy, cost, have, wanted)


# ------------------------------------------------------------------------------------------ variants

Key = tuple[str, bool, str, bool]  # dtype, gradient checkpointing, trained, autocast


def _key(variant: Variant) -> Key:
    return variant.dtype, variant.gradient_checkpointing, variant.trained, variant.autocast


def _key_of(profile: Profile) -> Key:
    return profile.dtype, profile.gradient_checkpointing, profile.trained, profile.autocast


def _distance(have: Key, wanted: Key) -> int:
    """How unlike two variants are; what is trained changes the cost most, autocast least."""
    weights = (3, 2, 8, 1)
    return sum(weight for weight, one, other in zip(weights, have, wanted, strict=True) if one != other)


def _by_donor(catalogue: Catalogue, policy: Policy, cost: Cost, have: Key, wanted: Key) -> Cost:
    """Scale by what the change from `have` to `wanted` does to a sibling policy that was profiled as both."""

    def profile_of(name: str, key: Key) -> Profile | None:
        return next((p for p in catalogue.profiles if p.policy == name and _key_of(p) == key and p.cameras == 2), None)

    names = sorted({p.policy for p in catalogue.profiles},
                   key=lambda name: (catalogue.policies[name].group != policy.group, name != "pi05", name))
    note = f"derived from {_label(have)}"
    current = have
    for position in (2, 0, 1, 3):  # one change at a time: what is trained, dtype, checkpointing, autocast
        if current[position] == wanted[position]:
            continue
        changed: Key = tuple(wanted[i] if i == position else value for i, value in enumerate(current))  # type: ignore[assignment]
        for name in names:
            pair = next(
                ((before, after) for base in _bases(current, changed, position)
                 if (before := profile_of(name, base[0])) and (after := profile_of(name, base[1]))), None)
            if pair:
                cost = _scale(cost, *pair)
                note += f", {_label(changed)} as in {name}"
                break
        current = changed
    return cost._replace(basis=_NEAR, source=f"{cost.source}; {note}")


def _bases(current: Key, changed: Key, position: int) -> list[tuple[Key, Key]]:
    """The pair itself, then the same single change made from other starting points."""
    options = [(current, changed)]
    if position == 3:
        return options  # autocast saves little beside bf16 weights: without the pair itself, keep the larger figure
    for dtype in ("bfloat16", "float32"):
        for checkpointing in (False, True):
            for trained in ("all", "expert"):
                start: list[object] = [dtype, checkpointing, trained, False]
                start[position] = current[position]
                end = list(start)
                end[position] = changed[position]
                options.append((tuple(start), tuple(end)))  # type: ignore[arg-type]
    return options


def _label(key: Key) -> str:
    dtype, checkpointing, trained, autocast = key
    words = [dtype, "gradient checkpointing" if checkpointing else "", f"{trained} trained", "autocast" if autocast else ""]
    return " ".join(word for word in words if word)


def _scale(cost: Cost, before: Profile, after: Profile) -> Cost:
    def ratio(read: Callable[[Profile], float]) -> float:
        return read(after) / read(before) if read(before) else 1.0

    return cost._replace(
        floor_bytes=cost.floor_bytes * ratio(lambda p: p.floor_bytes),
        a_bytes=cost.a_bytes * ratio(lambda p: p.a_bytes),
        b_bytes=cost.b_bytes * ratio(lambda p: p.b_bytes),
        weight_bytes=cost.weight_bytes * ratio(lambda p: p.weight_bytes),
        flops=cost.flops * ratio(lambda p: p.flops_per_sample),
        activation_bytes=cost.activation_bytes * ratio(lambda p: p.activation_bytes),
    )


def _by_analogy(catalogue: Catalogue, policy: Policy, variant: Variant, cameras: tuple[Camera, ...]) -> Cost:
    """A policy nobody profiled: its sibling's cost times the ratios that data/policies.yaml gives with their reason."""
    analogy = policy.analogy
    assert analogy is not None
    sibling = catalogue.policies[str(analogy["sibling"])]
    memory, work = float(analogy["memory_ratio"]), float(analogy["cost_ratio"])  # type: ignore[arg-type]
    default = Variant(policy.dtype, trained=policy.trained)
    like = Variant(
        str(analogy["dtype"]), bool(analogy["gradient_checkpointing"]), str(analogy["trained"]), int(str(analogy["lora_rank"])))
    if variant != default:  # a change from the policy's own default is the same change from the sibling's
        like = like._replace(
            dtype=variant.dtype if variant.dtype != default.dtype else like.dtype,
            gradient_checkpointing=variant.gradient_checkpointing or like.gradient_checkpointing,
            trained=variant.trained if variant.trained != default.trained else like.trained,
            lora_rank=variant.lora_rank or like.lora_rank,
            chunk=max(1, sibling.chunk + variant.chunk - policy.chunk) if variant.chunk else 0,  # as many more, or fewer
        )
    cost = _eager(catalogue, sibling, like, cameras)
    return cost._replace(
        floor_bytes=cost.floor_bytes * memory, a_bytes=cost.a_bytes * memory, b_bytes=cost.b_bytes * memory,
        weight_bytes=cost.weight_bytes * memory, flops=cost.flops * work, activation_bytes=cost.activation_bytes * memory,
        params=int(policy.sizes["params"].value) if "params" in policy.sizes else int(cost.params * memory),
        basis=_ANALOGY, source=f"analogy to {sibling.id}, memory × {memory:g}, work × {work:g}: {analogy['why']}",
    )


# ------------------------------------------------------------------------------------------ chunk length, LoRA rank

_LEAST_SHARE = 0.1  # of the usual cost: what a short chunk leaves at the least
def _with(catalogue: Catalogue, policy: Policy, variant: Variant, cost: Cost, field: str, usual: int, wanted: int) -> Cost:
    """`cost`, which is that of the `usual` setting, with `wanted` in its place; `field` names the setting in the profiles.

    Rows that differ in this setting alone say by which share of the usual row the cost changes, piecewise linear. What an
    action costs hardly depends on the images, so it is a share of the cost at these rows' cameras, not at the user's: ACT with
    200 actions for 100 needs 43 MB a sample more with two cameras of 640×480, 46 with four, 38 with one of 96×96. A larger
    setting never costs less.
    """
    others = [p for p in catalogue.profiles if p.policy == policy.id and getattr(p, field) not in (usual, 0)]
    label = f"{field.replace('_', ' ')} {wanted}"
    near = cost._replace(basis=_NEAR, source=f"{cost.source}; {label} was not profiled and costs what {usual} does")
    if field == "lora_rank":
        others = [p for p in others if p.trained == "lora"]
    if not others:
        return near
    first = min(others, key=lambda p: _distance(_key_of(p), _key(variant)))
    place = (first.cameras, first.width, first.height)
    line = sorted((p for p in catalogue.profiles if p.policy == policy.id and _key_of(p) == _key_of(first)
                   and (p.cameras, p.width, p.height) == place), key=lambda p: int(getattr(p, field)))
    settings = [int(getattr(p, field)) for p in line]
    if usual not in settings:
        return near
    there = _usual(catalogue, policy, variant, (Camera(first.width, first.height),) * first.cameras)

    def changed(read: Callable[[Profile], float], mine: float, reference: float) -> float:
        rising = accumulate((read(p) for p in line), max)
        points = [(float(setting), value) for setting, value in zip(settings, rising, strict=True)]
        share = _along(points, wanted) / _along(points, usual) - 1
        return max(_LEAST_SHARE * mine, mine + share * reference)

    exact = wanted in settings and _key_of(first) == _key(variant)
    return Cost(
        floor_bytes=changed(lambda p: p.floor_bytes, cost.floor_bytes, there.floor_bytes),
        a_bytes=changed(lambda p: p.a_bytes, cost.a_bytes, there.a_bytes),
        b_bytes=changed(lambda p: p.b_bytes, cost.b_bytes, there.b_bytes),
        weight_bytes=changed(lambda p: p.weight_bytes, cost.weight_bytes, there.weight_bytes),
        flops=changed(lambda p: p.flops_per_sample, cost.flops, there.flops),
        activation_bytes=changed(lambda p: p.activation_bytes, cost.activation_bytes, there.activation_bytes),
        params=round(changed(lambda p: p.params, cost.params, there.params)),
        basis=cost.basis if exact else _NEAR,
        source=f"{cost.source}; {label}" + ("" if exact else f" by those profiled: {', '.join(map(str, settings))}"),
    )


# ------------------------------------------------------------------------------------------ cameras


def image_units(policy: Policy, cameras: tuple[Camera, ...]) -> float:
    """What the image part of a sample grows with: megapixels, or images where they are resized first."""
    if policy.image_cost == "pixels":
        return sum(camera.megapixels for camera in cameras)
    return float(len(cameras))


def _at_cameras(policy: Policy, own: list[Profile], key: Key, cameras: tuple[Camera, ...]) -> Cost:
    def units(profile: Profile) -> float:
        return image_units(policy, (Camera(profile.width, profile.height),) * profile.cameras)

    here = sorted((p for p in own if _key_of(p) == key), key=units)
    wanted = image_units(policy, cameras)
    if policy.image_cost == "none":
        wanted = units(here[0])
    by_count: dict[Key, list[Profile]] = {}
    for profile in own:
        by_count.setdefault(_key_of(profile), []).append(profile)
    most = max(len(group) for group in by_count.values())
    richest = sorted(next(group for group in by_count.values() if len(group) == most), key=units)

    def at(read: Callable[[Profile], float]) -> float:
        points = [(units(p), read(p)) for p in here]
        if len(points) > 1:
            return _along(points, wanted)
        at_units, value = points[0]
        if len(richest) > 1:  # the same shape over cameras as the policy's best-profiled variant
            line = [(units(p), read(p)) for p in richest]
            reference = _along(line, at_units)
            return value * _along(line, wanted) / reference if reference else value
        return value * (1 - IMAGE_SHARE + IMAGE_SHARE * wanted / at_units) if at_units else value

    # every camera may bring an encoder of its own: the resident state is that of a row with as many
    nearest = min(here, key=lambda p: (abs(p.cameras - len(cameras)), abs(units(p) - wanted)))
    return Cost(
        floor_bytes=nearest.floor_bytes,
        a_bytes=nearest.a_bytes,
        b_bytes=at(lambda p: p.b_bytes),
        weight_bytes=nearest.weight_bytes,
        flops=at(lambda p: p.flops_per_sample),
        activation_bytes=at(lambda p: p.activation_bytes),
        params=nearest.params,
        basis=_EXACT,
        source=f"{nearest.source}, {nearest.as_of}",
    )


def _along(points: list[tuple[float, float]], x: float) -> float:
    """Piecewise linear through the points (sorted by x), extended by its outer pieces, never below 2 % of the first."""
    if x <= points[1][0]:
        (x0, y0), (x1, y1) = points[0], points[1]
    elif x >= points[-2][0]:
        (x0, y0), (x1, y1) = points[-2], points[-1]
    else:
        index = next(i for i, (at, _) in enumerate(points) if at >= x)
        (x0, y0), (x1, y1) = points[index - 1], points[index]
    if x1 == x0:
        return y0
    return max(y0 + (y1 - y0) * (x - x0) / (x1 - x0), 0.02 * points[0][1])
