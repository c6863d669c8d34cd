"""What a launch needs, asked side by side within one limit: each answer is a status, a line, and how to mend it. Read-only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from planner.deadline import Deadline, Late
from planner.errors import NotAuthorised, PlanError, Unreachable, UsageError

if TYPE_CHECKING:
    from planner.request import Machine

#: good, worth knowing, stops a launch, nobody could say
OK, WARN, FAIL, UNKNOWN = STATUSES = ("ok", "warn", "fail", "unknown")

SKEW_S = 60.0  # dates and signatures are off from here on; signed requests are refused after minutes
LEAST_FREE_BYTES = 10**10  # a checkpoint with its optimizer, twice
PACKAGES = ("huggingface_hub", "modal")
PROJECT = "training-planner"


class Check(NamedTuple):
    """One answer. `exit_code` is what a failure of this kind ends with."""

    place: str  # here, hf, modal
    name: str
    status: str
    text: str
    fix: str = ""
    exit_code: int = UsageError.exit_code


class Ask(NamedTuple):
    """A question that may take its time: `call` answers it with at least one check."""

    place: str
    name: str
    call: Callable[[], Sequence[Check]]


def failed(place: str, name: str, text: str, fix: str, kind: type[PlanError] = UsageError) -> Check:
    """What stops a launch; `kind` says which exit code it has: NotAuthorised, Unreachable, or UsageError for the rest."""
    return Check(place, name, FAIL, text, fix, kind.exit_code)


def examine(asks: Iterable[Ask], deadline: Deadline) -> tuple[Check, ...]:
    """The answers to all, in order. Who does not answer in time is unreachable; nothing is raised."""
    started = [(ask, deadline.start(ask.call)) for ask in asks]
    checks: list[Check] = []
    for ask, wait in started:
        try:
            checks += wait()
        except Late as error:
            checks.append(failed(ask.place, ask.name, str(error), "try again later, or with a longer --deadline", Unreachable))
        except Exception as error:  # a checker's own fault must not hide the other answers
            text = f"could not be checked: {type(error).__name__}"
            checks.append(Check(ask.place, ask.name, UNKNOWN, text, "please report it"))
    return tuple(checks)


def exit_code(checks: Iterable[Check]) -> int:
    """6 where a credential is missing or refused, else 7 where a service is down, else 2 for another failure, else 0."""
    codes = {check.exit_code for check in checks if check.status == FAIL}
    return next((code for code in (NotAuthorised.exit_code, Unreachable.exit_code, UsageError.exit_code) if code in codes), 0)


# ------------------------------------------------------------------------------------------ this machine


def packages() -> list[Check]:
    """The clients' versions against what this package asks for."""
    from importlib.metadata import PackageNotFoundError, requires, version

    try:
        wanted = {_name(line): line for line in requires(PROJECT) or ()}
    except PackageNotFoundError:
        return [Check("here", "packages", UNKNOWN, "running from a checkout that is not installed", "pip install -e .")]
    checks: list[Check] = []
    for name in PACKAGES:
        line = wanted.get(name, name)
        spec = line[len(name):].partition(";")[0].strip(" ()")
        try:
            found = version(name)
        except PackageNotFoundError:
            checks.append(failed("here", name, "is not installed", f"pip install '{name}{spec}'"))
            continue
        if within(found, spec):
            checks.append(Check("here", name, OK, found))
        else:
            checks.append(failed("here", name, f"{found} is installed, {spec} is needed", f"pip install '{name}{spec}'"))
    return checks


def _name(requirement: str) -> str:
    end = next((n for n, char in enumerate(requirement) if not (char.isalnum() or char in "_-.")), len(requirement))
    return requirement[:end].replace("-", "_")


def within(version: str, spec: str) -> bool:
    """Whether a release is within `>=2.4,<3`; other operators are not looked at, and a pre-release counts as its release."""

    def parts(text: str) -> tuple[int, ...]:
        numbers = []
        for part in text.split("."):
            digits = part[: next((n for n, char in enumerate(part) if not char.isdigit()), len(part))]
            if not digits:
                break
            numbers.append(int(digits))
        while numbers and numbers[-1] == 0:
            numbers.pop()
        return tuple(numbers)

    has = parts(version)
    for clause in spec.split(","):
        clause = clause.strip()
        if clause.startswith(">=") and has < parts(clause[2:]) or clause.startswith("<") and has >= parts(clause[1:]):
            return False
    return True


def trainer(program: str | None, origin: str, release: str, *, needed: bool, timeout_s: float) -> list[Check]:
    """Where lerobot-train is, and which LeRobot its environment holds: asked of that environment's own Python.

    `program` is what was configured, at `origin`; None looks on the PATH. `needed`: this machine is to train.
    """
    import subprocess

    path = _program(program)
    if path is None:
        text = f"{program} is not there ({origin})" if program else "no lerobot-train on the PATH"
        fix = f"pip install lerobot=={release} in an environment of its own, and name its lerobot-train: trainer in planner.toml"
        if needed or program is not None:
            return [failed("here", "trainer", text, fix)]
        return [Check("here", "trainer", WARN, f"{text}; only a training here needs it", fix)]
    python = next((one for one in map(path.with_name, ("python", "python3", "python.exe")) if one.exists()), None)
    if python is None:
        return [Check("here", "trainer", UNKNOWN, f"{path}: no Python beside it to ask for its LeRobot", "name the one of an environment")]
    # -I: nothing of the current folder, which may be anybody's checkout, is imported
    code = "import importlib.metadata as m; print(m.version('lerobot'))"
    try:
        done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [failed("here", "trainer", f"{python} does not run: {type(error).__name__}", "make its environment anew")]
    found = done.stdout.strip()
    if done.returncode or not found:
        return [failed("here", "trainer", f"{python} has no LeRobot", f"{python} -m pip install lerobot=={release}")]
    if release not in ("main", found):
        fix = f"plan with --lerobot-version {found}, or {python} -m pip install lerobot=={release}"
        return [Check("here", "trainer", WARN, f"LeRobot {found} ({path}); the plan is for {release}", fix)]
    return [Check("here", "trainer", OK, f"LeRobot {found} ({path})")]


def _program(program: str | None) -> Path | None:
    """The trainer's path. One that the PATH names may be a link into the environment that holds it."""
    import shutil

    found = shutil.which(os.path.expanduser(program or "lerobot-train"))  # noqa: PTH111  (which takes a bare name, too)
    if found is None:
        return None
    real = Path(found).resolve()  # pipx and uv link programs from elsewhere
    return real if real.with_name("python").exists() else Path(found).absolute()


def gpus(machine: Machine, remarks: Sequence[str], *, needed: bool) -> list[Check]:
    """The GPUs that are here; `remarks` say what stands in their way. `needed`: this machine is to train."""
    if not machine.devices:
        text = "; ".join(remarks) or "no GPU was found"
        if needed:
            return [failed("here", "gpu", text, "see that nvidia-smi lists it, or train on hf or modal")]
        return [Check("here", "gpu", WARN, f"{text}; only a training here needs one", "see that nvidia-smi lists it")]
    names = ", ".join(device.name for device in machine.devices)
    if remarks:
        return [Check("here", "gpu", WARN, f"{names}: {'; '.join(remarks)}", "see `plan gpus` for those that are known")]
    return [Check("here", "gpu", OK, names)]


def disk(folder: Path, needed_bytes: float) -> list[Check]:
    """Free space where downloads and checkpoints go; `needed_bytes` are downloaded first."""
    import shutil

    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [Check("here", "disk", UNKNOWN, f"{folder}: {error.strerror}", "check its permissions")]
    text = f"{free / 1e9:.0f} GB free at {folder}"
    if free < needed_bytes:
        return [failed("here", "disk", f"{text}, and {needed_bytes / 1e9:.1f} GB have to be downloaded", "free some, or set HF_HOME")]
    if free < needed_bytes + LEAST_FREE_BYTES:
        return [Check("here", "disk", WARN, f"{text}: little for checkpoints", "free some, or set HF_HOME to another disk")]
    return [Check("here", "disk", OK, text)]


def clock(date: str | None, now_s: float) -> Check:
    """This machine's clock against the Date of an answer that just came."""
    from email.utils import parsedate_to_datetime

    try:
        skew = now_s - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return Check("here", "clock", UNKNOWN, "the answer has no date to compare with")
    if abs(skew) < SKEW_S:
        return Check("here", "clock", OK, f"within {SKEW_S:.0f} s of Hugging Face's")
    side = "ahead of" if skew > 0 else "behind"
    return failed("here", "clock", f"{abs(skew) / 60:,.0f} min {side} Hugging Face's: prices seem older or newer than they are, and signed "
                  "requests are refused", "set it, for example with `timedatectl set-ntp true`")
