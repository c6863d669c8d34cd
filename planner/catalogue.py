"""The one door to the catalogue: data/ with the user's own entries laid over it.

YAML is the source. data/catalogue.json is its compiled form, written by `python -m planner.catalogue`: it is
used only while the checksums of all sources in it still hold, so an edited YAML file is read afresh at once. A
user's own YAML files, in the same layout under the configuration directory, add or override entries; what they and
the bundled files make is kept in the cache folder by the same rule.
"""

from __future__ import annotations

from pathlib import Path

from planner import compiled, folders
from planner.records import Catalogue, Run


def data_dir() -> Path:
    """The bundled data: inside an installed package, beside the package in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "data"
    return inside if inside.is_dir() else here.parent / "data"


def user_dir() -> Path:
    """Where a user's own catalogue files are looked for."""
    return folders.config() / "catalogue"


def load(data: Path | None = None, user: Path | None = None, cache: Path | None = None) -> Catalogue:
    """The bundled catalogue with the user's entries laid over it. Raises UsageError on the first mistake.

    `cache` is the folder that keeps the compiled form of both together; none where the user's folder is named and it is not.
    """
    if cache is None and user is None:
        cache = folders.cache()
    data, user = data or data_dir(), user or user_dir()
    own = compiled.own_files(user)
    if own in ([], [user / "evidence.yaml"]):  # runs alone, as `plan calibrate` adds them, need no other file read again
        current = compiled.read(data)
        if current is not None:
            current = _with_runs(current, own[0]) if own else current
        if current is not None:
            return current
    if not own or cache is None:
        return _built(data, user if own else None)
    path, hashes = cache / compiled.FILE, compiled.own_checksums(data, user)
    kept = compiled.read_kept(path, hashes)
    if kept is None:
        kept = _built(data, user)
        compiled.keep(path, hashes, kept)
    return kept


def _built(data: Path, user: Path | None) -> Catalogue:
    from planner.build import build

    return build(data, user)


def _with_runs(catalogue: Catalogue, path: Path) -> Catalogue | None:
    """The catalogue with a user's own runs, to be calibrated anew; None where they change runs that it has."""
    from planner import build
    from planner.errors import UsageError

    try:
        own = build.runs_of(path)
    except UsageError:
        return None  # an overlay of a bundled run gives only some of its fields; or a mistake, which the long way finds again
    if {run.id for run in own} & {run.id for run in catalogue.runs}:
        return None
    return catalogue._replace(runs=(*catalogue.runs, *(run for run in own if run.scored)), digest="")


def read_runs(data: Path) -> tuple[Run, ...]:
    """Every run of the bundled evidence, also those that cannot be scored."""
    from planner import build

    return build.runs_of(data / "evidence.yaml")


def _main() -> None:
    """`python -m planner.catalogue` rewrites the compiled form; `--check` says whether it is current."""
    import sys

    from planner.build import build

    path = data_dir() / compiled.FILE
    text = compiled.text(build(data_dir(), None), data_dir())
    if "--check" in sys.argv:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not current: run python -m planner.catalogue")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main()
