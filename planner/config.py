"""Defaults from planner.toml and the environment, each with its origin.

Weak to strong: the user's planner.toml in the configuration directory, the project's, `PLAN_…` variables; flags beat them all.
The project's file is the nearest one from the current folder up to the root of its repository; outside a repository only the
current folder is looked at, because anyone can write into /tmp. A checkout is not the user: its file may not say who pays, which
program runs here or which secrets a job gets, and limits it can only lower.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from planner import folders
from planner.errors import UsageError

FILE = "planner.toml"
PREFIX = "PLAN_"
MAX_BYTES = 1_000_000
#: variables of the tool that are no settings
OWN = ("PLAN_HOME", "PLAN_DEBUG")

#: compiled where a file is read: a plan without one should not pay for it
_SECRET_NAME = r"(?i)(^|[_.-])(\w*token|\w*key|secret|pass(word|wd|phrase)?|pwd|credentials?|auth)($|[_.-])"
_SECRET = r"hf_\w{12,}|(ak|as|wk|ws)-[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[a-z]_\w{20,}|[0-9a-f]{40}|AKIA\w{12,}"
_AT = r" \(at (?:line (\d+), column \d+|end of document)\)$"


class Key(NamedTuple):
    """One setting. `read` takes its text as a flag's reader does and raises UsageError that names the key."""

    name: str  # as in the file; `volumes.outputs` stands below [volumes]
    read: Callable[[str], Any]
    text: str  # what it is for
    number: bool = False  # a number in the file, else text
    many: bool = False  # one value or a list
    project: str = "yes"  # what a project's file may do: yes (set it), lower, no
    default: str | None = None  # what holds where nobody says anything
    unit: str = ""
    option: str = ""  # the option that it is a default of, by its name in planner.commands.options
    field: str = ""  # the field of planner.request.Search, where no option says it
    flag: str = ""

    @property
    def variable(self) -> str:
        return PREFIX + self.name.replace(".", "_").upper()


class Setting(NamedTuple):
    """A value and where it comes from."""

    value: Any
    text: str
    layer: str  # user, project, environment
    origin: str  # "planner.toml: target", "PLAN_TARGET"
    beside: tuple[str, ...] = ()  # what else was said and does not hold


class Found(NamedTuple):
    """Where settings are. False where there are none, which costs a plan three looks at the disk."""

    user: Path | None
    project: Path | None
    variables: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.user is not None or self.project is not None or bool(self.variables)


def found(environ: Mapping[str, str] | None = None) -> Found:
    """The files that are there, and the variables that look like settings."""
    environ = os.environ if environ is None else environ
    user, project = user_file(), project_file()
    if project is not None and os.path.realpath(project) == os.path.realpath(user):
        project = None
    variables = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in OWN}
    return Found(user if os.path.lexists(user) else None, project, variables)


def user_file() -> Path:
    """The user's own file, whether it is there or not."""
    return folders.config() / FILE


def project_file() -> Path | None:
    """The nearest planner.toml from the current folder up to the repository's root; without a repository, the current folder's."""
    try:
        here = os.getcwd()  # noqa: PTH109  (a plan from the cache should not pay for more paths than it needs)
    except OSError:  # the folder was deleted
        return None
    first, folder = None, here
    while True:
        if first is None and os.path.lexists(os.path.join(folder, FILE)):  # noqa: PTH118
            first = Path(folder, FILE)
        if os.path.lexists(os.path.join(folder, ".git")):  # noqa: PTH118
            return first
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return first if first is not None and str(first.parent) == here else None
        folder = above


def load(where: Found, keys: Sequence[Key]) -> dict[str, Setting]:
    """Every setting that something says, by name. UsageError names the file or variable, and the key."""
    known = {key.name: key for key in keys}
    layers = []
    for layer, path in (("user", where.user), ("project", where.project)):
        if path is not None:
            layers.append({name: _of_file(known[name], value, layer, path) for name, value in _entries(path, known)})
    layers.append(_of_environment(where.variables, known))
    settings: dict[str, Setting] = {}
    for layer_ in layers:
        for name, setting in layer_.items():
            settings[name] = _over(known[name], settings.get(name), setting)
    return {key.name: settings[key.name] for key in keys if key.name in settings}


def ignored(variables: Iterable[str], keys: Sequence[Key]) -> list[str]:
    """Variables that begin like settings and are none."""
    known = {key.variable for key in keys}
    return sorted(name for name in variables if name not in known)


def shown(path: Path) -> str:
    """A file as messages name it: from the current folder where it lies there or above, else from the home directory."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # no current folder; another drive
        relative = str(path)
    if path.name == relative or set(Path(relative).parts[:-1]) == {".."}:
        return relative
    home = str(Path.home())
    return "~" + str(path)[len(home):] if str(path).startswith(home + os.sep) else str(path)


# ------------------------------------------------------------------------------------------ layers


def _over(key: Key, below: Setting | None, above: Setting) -> Setting:
    """`above` beats `below`; a project's limit does only where it is the lower one."""
    if above.layer != "project" or key.project != "lower":
        return above if below is None else above._replace(beside=(*below.beside, f"{below.origin} = {below.text}"))
    least = key.default if below is None else below.text
    if least is None or Decimal(above.text) <= Decimal(least):
        return above if below is None else above._replace(beside=(*below.beside, f"{below.origin} = {below.text}"))
    refused = f"{above.origin} = {above.text}, which is not taken: a project's file only lowers it"
    if below is None:
        return Setting(key.read(least), least, "default", "default", (refused,))
    return below._replace(beside=(*below.beside, refused))


def _of_file(key: Key, value: Any, layer: str, path: Path) -> Setting:
    file = shown(path)
    if layer == "project" and key.project == "no":
        raise _wrong(f"{file}: {key.name} is not for a project's file, which comes with a checkout: set it in {shown(user_file())} "
                     f"or {key.variable}")
    values = value if key.many and isinstance(value, list) and value else [value]
    try:
        texts = [_text(key, one) for one in values]
        return _setting(key, texts, layer, f"{file}: {key.name}")
    except UsageError as error:
        raise UsageError(error.code, f"{file}: {error.text}") from None


def _of_environment(variables: Mapping[str, str], known: Mapping[str, Key]) -> dict[str, Setting]:
    names = {key.variable: key for key in known.values()}
    settings = {}
    for name, text in variables.items():
        key = names.get(name)
        if key is None:
            near = _near(name, names, 0.85)
            if near:
                raise _wrong(f"{name}: no such setting{near} (`plan config` lists them)")
        elif text.strip():  # an empty variable says nothing
            texts = [part.strip() for part in text.split(",")] if key.many else [text.strip()]
            try:
                _refuse_secret(key.name, texts)
                settings[key.name] = _setting(key, texts, "environment", name)
            except UsageError as error:
                raise UsageError(error.code, f"{name}: {error.text}") from None
    return settings


def _setting(key: Key, texts: list[str], layer: str, origin: str) -> Setting:
    values = [key.read(text) for text in texts]
    return Setting(tuple(values) if key.many else values[0], ", ".join(texts), layer, origin)


def _text(key: Key, value: Any) -> str:
    """A TOML value as a flag would be written. UsageError for another type."""
    if key.number:
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise _wrong(f"{key.name} takes a number: write {key.name} = {key.default or 20}, without quotes")
        try:
            return f"{value:f}" if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 50 else str(value)
        except ValueError:  # more digits than Python writes
            raise _wrong(f"{key.name}: that number is too large") from None
    if not isinstance(value, str):
        many = " or a list of them" if key.many else ""
        inner = key.name.rpartition(".")[2]
        raise _wrong(f'{key.name} takes text{many}: write {inner} = "…", in quotes')
    return value


# ------------------------------------------------------------------------------------------ one file


def _entries(path: Path, known: Mapping[str, Key]) -> list[tuple[str, Any]]:
    """(name, value) of every line, tables flattened. UsageError for what is no setting."""
    file = shown(path)
    tables = {name.partition(".")[0] for name in known if "." in name}
    entries: list[tuple[str, Any]] = []
    for name, value in _parsed(path, file).items():
        if name in tables and isinstance(value, dict):
            entries += [(f"{name}.{inner}", one) for inner, one in value.items()]
        elif name in tables:
            inside = ", ".join(key.rpartition(".")[2] for key in known if key.startswith(f"{name}."))
            raise _wrong(f"{file}: {name} is a table: write [{name}], and below it {inside}")
        else:
            entries.append((name, value))
    for name, value in entries:
        try:
            if name not in known:
                _refuse_secret(name, [], unknown=True)
            _refuse_secret(name, value if isinstance(value, list) else [value])
        except UsageError as error:
            raise UsageError(error.code, f"{file}: {error.text}") from None
        if name not in known:
            raise _wrong(f"{file}: {name}: no such key{_near(name, known, 0.6)} (`plan config` lists them)")
    return entries


def _parsed(path: Path, file: str) -> dict[str, Any]:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        if not path.is_file():
            raise _wrong(f"{file}: is not a file that can be read; remove it or put a file there")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise _wrong(f"{file}: is larger than {MAX_BYTES // 10**6} MB; a planner.toml has a few lines")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise _wrong(f"{file}: cannot be read: {error.strerror or error}; check its permissions") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _wrong(f"{file}:{line}: is not UTF-8 text; save it as UTF-8") from None
    try:
        parsed: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        at = re.search(_AT, str(error))
        last = str(len(text.splitlines()) or 1)
        place, reason = at[1] if at and at[1] else last, re.sub(_AT, "", str(error))
        raise _wrong(f"{file}:{place}: not valid TOML: {reason[:1].lower()}{reason[1:]}; write NAME = VALUE, text in quotes") from None
    except (ValueError, ArithmeticError, RecursionError):  # a number of thousands of digits, lists a thousand deep
        raise _wrong(f"{file}: not valid TOML: a number or a list in it is too large") from None
    return parsed


def _refuse_secret(name: str, values: Sequence[Any], *, unknown: bool = False) -> None:
    """A credential in a file that is copied, committed and shown. Its value is never repeated."""
    if re.search(_SECRET, name):
        what = "a key"
    elif unknown and re.search(_SECRET_NAME, name):
        what = name
    elif any(isinstance(value, str) and re.fullmatch(_SECRET, value.strip()) for value in values):
        what = f"the value of {name}"
    else:
        return
    raise UsageError("secret", f"{what} looks like a credential, which does not belong here: take it out, log in with `hf auth login` and "
                     "`modal setup`, and name the Modal secret that holds it under [secrets]")


def _near(name: str, names: Iterable[str], least: float) -> str:
    from difflib import get_close_matches

    flat = {one.lower().replace("-", "_"): one for one in names}
    near = get_close_matches(name.lower().replace("-", "_"), flat, 2, least)
    return f"; did you mean {' or '.join(flat[one] for one in near)}?" if near else ""


def _wrong(text: str) -> UsageError:
    return UsageError("config", text)
