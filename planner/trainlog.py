"""A training log → what it says of the run: seconds per step, peak memory, and the settings that are printed in it. Pure.

Formats, each found by itself in whatever stands around it (progress bars, other ranks, a container's timestamps):

- LeRobot 0.4.4, 0.6.1 and main: `step:1K smpl:10K ep:11 epch:0.21 loss:… updt_s:0.084 data_s:0.010 … mem_gb:3.70`, one record
  for every `log_freq` steps with the means of these steps. 0.6.1 adds smp/s and mem_gb (GiB), main adds prep_s and step_s.
  The whole configuration is printed first, as Python's pprint does.
- TRL: the dictionaries that transformers' Trainer prints, with GRPO's and RLOO's `step_time` (seconds); where there is none,
  the progress bar's clock between them.
- SkyRL: `Finished: 'step', time cost: 83.20s` of its Timer, or `'timing/step': '83.2000'` of its console tracker.
- anything else: a regular expression with groups update_s, data_s, vram_gb and step.
"""

from __future__ import annotations

import ast
import re
import warnings
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple, TypeGuard

from planner.errors import UsageError
from planner.units import GB, GIB

#: Fewer windows than this say nothing of a steady state.
LEAST_WINDOWS = 3
#: The first windows hold compilation, cuDNN's search, cold caches: one in ten, at least one, is left out.
WARM_UP = 0.1
GROUPS = ("update_s", "data_s", "vram_gb", "step")
_MOST = 1e12  # nothing that is counted or timed here is more
_MAX_CONFIG = 300_000  # characters; LeRobot's is about 5,000

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RECORD = re.compile(r"\bstep:\S+ smpl:\S+ ep:\S+ epch:\S+((?: [^\s:]+:[-+\w.]+(?=\s))+)")
_CONFIG = re.compile(r"\b\d\d:\d\d:\d\d \S+:\d+ (?=\{'(?:accelerator|batch_size)')")
_EFFECTIVE = re.compile(r"Effective batch size: (\d+) x (\d+)")
_PREFIX = re.compile(r"^(?:\[(?:rank|default)?\d+\]:|\([^()\n]*pid=\d+[^()\n]*\) ?|20\d\d-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) )", re.M)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MOMENT = re.compile(r"(?<!\d)(20\d\d-[01]\d-[0-3]\d)[ T]([0-2]\d:[0-5]\d:[0-5]\d)")
_DEVICE = re.compile(r"\b(?:NVIDIA|Tesla|GeForce|Quadro)[ -][A-Za-z0-9][\w .-]{1,50}")
_PRINTED = re.compile(r"\{'[^{}\n]*\}")
_BAR = re.compile(r"(?<!\d)(\d{1,9})/\d+ \[((?:\d+:)?\d+:\d\d)<|(\{'loss'[^{}\n]*\})")
_BAR_LEAST_S = 10.0  # a clock of whole seconds is read over at least this
_SKYRL = re.compile(r"Finished: 'step', time cost: (\d+\.\d+)s|'timing/step': '?(\d+\.\d+)")


class Window(NamedTuple):
    """The mean of a few steps, or one step."""

    update_s: float  # forward, backward and optimizer; the whole step where `Log.whole_step`
    data_s: float | None = None  # waiting for the batch, preprocessing included
    vram_bytes: int | None = None  # peak of torch's allocator
    step: str | None = None


class Log(NamedTuple):
    """What a log says. None is what it does not say."""

    system: str  # lerobot, trl, skyrl, own
    windows: tuple[Window, ...]
    whole_step: bool = False
    release: str | None = None  # of LeRobot: 0.4.4, 0.6.1, main
    config: dict[str, Any] = {}  # LeRobot's
    num_gpus: int | None = None
    batch_size: int | None = None  # per GPU
    steps: int | None = None  # that the run did, or was to do where it does not say how far it came
    frames: int | None = None
    params: int | None = None  # of the whole policy
    date: str | None = None  # ISO, of the last record
    wall_clock_s: float | None = None  # from the first record to the end of training; None where it was interrupted
    devices: tuple[str, ...] = ()  # cards as the log names them

    def setting(self, *path: str) -> Any:
        """A value of LeRobot's configuration, None where it is absent."""
        value: Any = self.config
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value


class Steady(NamedTuple):
    """The run after its warm-up: medians over windows, which neither a checkpoint nor an evaluation moves."""

    update_s: float
    data_s: float | None
    vram_bytes: int | None  # the largest of all windows
    used: int
    dropped: int

    @property
    def step_s(self) -> float:
        return self.update_s + (self.data_s or 0.0)


def read(text: str, pattern: str | None = None) -> Log:
    """The log in `text`. UsageError, in one line, where it holds nothing that is known here."""
    text = (_COLOUR.sub("", text) if "\x1b" in text else text).replace("\r", "\n")
    moments = _moments(text)
    plain = _PREFIX.sub("", text)
    devices = tuple(dict.fromkeys(match.strip() for match in _DEVICE.findall(plain)))
    if not plain.strip():
        raise UsageError("log", "is empty")
    log = _lerobot(plain) if pattern is None else _own(plain, pattern)
    log = log or _skyrl(plain) or _trl(plain)
    if log is None:
        raise UsageError("log", "holds no step times of LeRobot, TRL or SkyRL; --pattern REGEX reads other logs")
    return log._replace(date=moments[-1].date().isoformat() if moments else None, devices=devices)


def steady(log: Log) -> Steady:
    """Median step after the warm-up, and the peak. UsageError where too few windows are left."""
    if len(log.windows) < LEAST_WINDOWS:
        held = f"{len(log.windows)} step time{'s' if len(log.windows) > 1 else ''}"
        raise UsageError("log", f"holds {held}, and a steady state needs at least {LEAST_WINDOWS}: train longer, or log more often")
    dropped = max(1, int(len(log.windows) * WARM_UP))
    used = log.windows[dropped:]
    waits = [window.data_s for window in used if window.data_s is not None]
    peaks = [window.vram_bytes for window in log.windows if window.vram_bytes]
    return Steady(median(window.update_s for window in used), median(waits) if waits else None, max(peaks, default=None),
                  len(used), dropped)


# ------------------------------------------------------------------------------------------ LeRobot


def _lerobot(text: str) -> Log | None:
    """The last run in the log that has records: a resumed run may be appended to the one before it."""
    starts = [match.end() for match in _CONFIG.finditer(text)]
    for start, end in reversed(list(zip([0, *starts], [*starts, len(text)], strict=True))):
        part = text[start:end]
        fields = [_fields(match[1]) for match in _RECORD.finditer(part)]
        windows = tuple(_window(one) for one in fields if _positive(one.get("updt_s")))
        if windows:
            return _run(part, windows, {name for one in fields for name in one}, _config(part) if start else {})
    return None


def _run(part: str, windows: tuple[Window, ...], names: set[str], config: dict[str, Any]) -> Log:
    batch = _EFFECTIVE.search(part)
    size, steps, every = config.get("batch_size"), config.get("steps"), config.get("log_freq")
    finished = "End of training" in part
    if not finished and isinstance(every, int):
        steps = len(windows) * every
    moments = _moments(part[: part.index("End of training")] if finished else "")
    return Log(
        system="lerobot",
        windows=windows,
        release="main" if "prep_s" in names or "accelerator" in config else "0.6.1" if "smp/s" in names or "job" in config else "0.4.4",
        config=config,
        num_gpus=int(batch[2]) if batch else 1,  # only the main rank writes, and it says how many there are
        batch_size=int(batch[1]) if batch else size if isinstance(size, int) else None,
        steps=steps if isinstance(steps, int) else None,
        frames=_count(part, r"dataset\.num_frames=(\d+)"),
        params=_count(part, r"num_total_params=(\d+)"),
        wall_clock_s=(moments[-1] - moments[0]).total_seconds() or None if len(moments) > 1 else None,
    )


def _fields(text: str) -> dict[str, float]:
    found = {}
    for item in text.split():
        name, _, value = item.rpartition(":")
        if (number := _number(value)) is not None:
            found[name] = number
    return found


def _window(fields: dict[str, float]) -> Window:
    # main measures preprocessing by itself; before it was a part of data_s
    data = max(0.0, fields["data_s"] + fields.get("prep_s", 0.0)) if "data_s" in fields else None
    return Window(fields["updt_s"], data, max(0, round(fields.get("mem_gb", 0.0) * GIB)) or None)


def _config(text: str) -> dict[str, Any]:
    """The configuration that `text` begins with; empty where it is torn or interleaved with other lines."""
    depth, end, quote = 0, 0, ""
    for end, character in enumerate(text[:_MAX_CONFIG], start=1):
        if quote:
            quote = "" if character == quote and text[end - 2] != "\\" else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "{[(") - (character in "}])")
            if depth == 0:
                break
    # objects that pprint shows by their repr: <FeatureType.VISUAL: 'VISUAL'>, PosixPath('outputs/train')
    literal = re.sub(r"<[\w.]+: ('[^'\n]*')>", r"\1", text[:end])
    literal = re.sub(r"\b\w*Path\(('[^'\n]*')\)", r"\1", literal)
    return _dictionary(literal)


# ------------------------------------------------------------------------------------------ TRL, SkyRL, others


def _trl(text: str) -> Log | None:
    records = [record for match in _PRINTED.finditer(text) if (record := _printed(match[0]))]
    windows = tuple(Window(record["step_time"]) for record in records if _positive(record.get("step_time")))
    windows = windows or _by_progress_bar(text)
    if not windows:
        if _BAR.search(text) and any("loss" in record for record in records):
            raise UsageError("log", "is of a Trainer that prints no step_time, and its progress bar covers too little time to read "
                             "step times from it: train longer")
        return None
    each = _count(text, r"Instantaneous batch size per device = ([\d,]+)")
    every = _count(text, r"Total train batch size [^=\n]*= ([\d,]+)")
    accumulated = _count(text, r"Gradient Accumulation steps = ([\d,]+)")
    samples = each * accumulated if each and accumulated else None  # of one GPU in one optimizer step
    gpus = every // samples if every and samples else None
    wall = next((record["train_runtime"] for record in records if _positive(record.get("train_runtime"))), None)
    return Log("trl", windows, whole_step=True, num_gpus=gpus or None, batch_size=samples, wall_clock_s=wall,
               steps=_count(text, r"Total optimization steps = ([\d,]+)") if wall else None)


def _by_progress_bar(text: str) -> tuple[Window, ...]:
    """Seconds per step from `120/2000 [03:20<…` in front of each record."""
    windows, now, before = [], None, None
    for done, clock, record in _BAR.findall(text):
        if not record:
            now = (int(done), sum(int(part) * 60**power for power, part in enumerate(reversed(clock.split(":")))))
        elif now is not None and before is None:
            before = now
        elif now is not None and before is not None and now[0] > before[0] and now[1] - before[1] >= _BAR_LEAST_S:
            windows.append(Window((now[1] - before[1]) / (now[0] - before[0])))
            before = now
    return tuple(windows)


def _printed(text: str) -> dict[str, float]:
    """The numbers of a printed dictionary; transformers 5 prints them as text."""
    numbers = {str(name): _number(str(value)) for name, value in _dictionary(text).items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _skyrl(text: str) -> Log | None:
    """Steps as its Timer says them; its console tracker repeats them, so only one of the two counts."""
    found = _SKYRL.findall(text)
    times = [timer for timer, _ in found if timer] or [tracker for _, tracker in found]
    windows = tuple(Window(seconds) for seconds in map(float, times) if _positive(seconds))
    return Log("skyrl", windows, whole_step=True, steps=len(windows)) if windows else None


def _own(text: str, pattern: str) -> Log:
    try:
        wanted = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError("pattern", f"--pattern is no regular expression: {error}") from None
    unknown = sorted(set(wanted.groupindex) - set(GROUPS))
    if unknown or "update_s" not in wanted.groupindex:
        what = f"has a group {unknown[0]!r}" if unknown else "has no group update_s"
        raise UsageError("pattern", f"--pattern {what}: the groups are {', '.join(GROUPS)}, as in (?P<update_s>[0-9.]+)")
    windows = []
    for match in (match for line in text.split("\n") if (match := wanted.search(line))):
        said = {name: value for name, value in match.groupdict().items() if value is not None}
        numbers = {name: _number(value) for name, value in said.items() if name != "step"}
        wrong = next((name for name, number in numbers.items() if number is None or number < 0), None)
        if wrong is not None:
            raise UsageError("pattern", f"--pattern: group {wrong} matched {said[wrong][:40]!r}, which is no number of at least 0")
        update, data, vram = (numbers.get(name) for name in ("update_s", "data_s", "vram_gb"))
        if update:
            windows.append(Window(update, data, round((vram or 0.0) * GB) or None, said.get("step")))
    if not windows:
        raise UsageError("log", "has no line that --pattern matches with an update_s above 0")
    whole = "data_s" not in wanted.groupindex
    starts = [match.end() for match in _CONFIG.finditer(text)]
    if starts:  # a fork of LeRobot, which prints the configuration all the same
        part = text[starts[-1] :]
        return _run(part, tuple(windows), set(), _config(part))._replace(system="own", whole_step=whole)
    last = windows[-1].step or ""
    return Log("own", tuple(windows), whole_step=whole, steps=int(last) if last.isdecimal() else None)


def _moments(text: str) -> list[datetime]:
    """The first and the last point in time that the text gives."""
    found = []
    matches = _MOMENT.findall(text)
    for day, clock in (*matches[:1], *matches[-1:]):
        try:
            found.append(datetime.fromisoformat(f"{day} {clock}"))
        except ValueError:  # 2026-02-31
            continue
    return found


def _count(text: str, pattern: str) -> int | None:
    match = re.search(pattern, text)
    return int(match[1].replace(",", "")) if match and len(match[1]) < 16 else None


def _number(text: str) -> float | None:
    """A number of a plausible size; None for anything else."""
    value = float(text) if len(text) < 40 and re.fullmatch(_NUMBER, text) else None
    return value if value is not None and abs(value) < _MOST else None


def _positive(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 < value < _MOST


def _dictionary(text: str) -> dict[Any, Any]:
    """A dictionary as Python prints it; empty where it is torn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a torn literal such as 0x or 1and
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return {}
    return value if isinstance(value, dict) else {}
