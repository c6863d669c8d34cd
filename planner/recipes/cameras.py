"""Camera names: weights that come through --policy.path bring their own, and LeRobot compares them with the dataset's.

It stops with "Feature mismatch" unless one side's names are all among the other's, or --rename_map says which camera is
which (validate_visual_features_consistency in policies/utils.py of 0.4.4 and 0.6.1).
"""

from __future__ import annotations

import json

FLAG = "--rename_map"


def rename_map(base: tuple[str, ...], keys: tuple[str | None, ...]) -> tuple[dict[str, str], str | None]:
    """({dataset's key: base's key}, warning or None) for a base with these camera keys and a dataset with those.

    A name that both sides know stays; the others meet in their order, which is a guess that the warning names. The
    mapping is empty where none is needed, and where the dataset's names are not known (None among `keys`).
    """
    if not base or not keys:
        return {}, None
    if None in keys:
        example = json.dumps({"observation.images.front": base[0]})
        return {}, (f"the base knows its cameras as {', '.join(base)}; where the dataset's are named otherwise, "
                    f"LeRobot stops with a feature mismatch: add -- {FLAG}='{example}'")
    own = tuple(key for key in keys if key is not None)
    if set(own) <= set(base) or set(base) <= set(own):
        return {}, None
    free, rest = [key for key in base if key not in own], [key for key in own if key not in base]
    renamed = dict(zip(rest, free, strict=False))
    pairs = ", ".join(f"{_short(ours)} as {_short(theirs)}" for ours, theirs in renamed.items())
    unused = ", ".join(map(_short, rest[len(free):]))
    left_out = f"; the base has no place for {unused}, which it will not see" if unused else ""
    return renamed, f"the base gets the dataset's cameras in their order: {pairs}{left_out}; to choose, add -- {FLAG}='{{…}}'"


def _short(key: str) -> str:
    return key.removeprefix("observation.images.")
