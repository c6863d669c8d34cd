"""The keys of planner.toml and of the environment: what each is a default of, and how its value is read.

A key that is the default of an option is one line: its limits and messages are the option's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner import config
from planner.commands import values
from planner.commands.options import COMMAND, SEARCH, WORKLOAD, Group
from planner.config import Key, Setting
from planner.errors import UsageError
from planner.request import DEADLINE_S, Default


def _of(group: Group, option: str, text: str, **more: Any) -> Key:
    """The default of an option: the same reader, the flag's name with underscores."""
    info = group[option].default
    flag = next(name for name in info.param_decls if name.startswith("--"))
    name = flag[2:].replace("-", "_")
    many = group[option].annotation == list[str]
    return Key(name, _named(name, flag, info.parser), text, many=many, option=option, flag=flag, **more)


def _named(name: str, flag: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    def reader(text: str) -> Any:
        try:
            return read(text)
        except UsageError as error:
            raise UsageError("config", error.text.replace(flag, name)) from None

    return reader


KEYS = (
    _of(SEARCH, "targets", "Places to plan for."),
    _of(SEARCH, "gpus", "GPUs to plan for."),
    _of(SEARCH, "optimize", "What to recommend by: cost, time or balanced.", default="cost"),
    _of(SEARCH, "max_cost", "Budget for a whole run.", number=True, project="lower", unit="USD"),
    Key("max_cost_per_day", values.dollars("max_cost_per_day", 10**9),
        "Budget for all launches of 24 hours together, each with its bill or its worst case.", number=True, project="lower", unit="USD"),
    _of(SEARCH, "attempts", "How often the place may start a run.", number=True, project="lower", default="1"),
    _of(WORKLOAD, "lerobot_version", "LeRobot to plan for."),
    _of(COMMAND, "namespace", "Organisation on Hugging Face that pays for jobs.", project="no"),
    Key("trainer", values.text("trainer"), "The lerobot-train of this machine, with its path.",
        project="no"),
    _of(SEARCH, "max_price_age", "How old prices may be for a launch.", number=True, project="lower", default="90", unit="days"),
    Key("deadline", values.number("deadline", 3600, "seconds"), "How long a plan may spend on the network in all.",
        number=True, default=f"{DEADLINE_S:g}", unit="s", field="deadline_s"),
    _of(SEARCH, "usd_per_kwh", "Price of electricity for GPUs of your own.", number=True, unit="USD/kWh"),
    Key("secrets.hf", values.name("secrets.hf"), "Name of the Modal secret that holds HF_TOKEN.", project="no",
        default="huggingface-secret"),
    Key("secrets.wandb", values.name("secrets.wandb"), "Name of the Modal secret that holds WANDB_API_KEY.", project="no",
        default="wandb-secret"),
    Key("volumes.outputs", values.name("volumes.outputs"), "Modal volume that receives what is trained.", default="lerobot-outputs"),
    Key("volumes.datasets", values.name("volumes.datasets"), "Modal volume that local datasets are uploaded to.",
        default="lerobot-datasets"),
    Key("volumes.cache", values.name("volumes.cache"), "Modal volume that keeps downloads.", default="huggingface-cache"),
)  # fmt: skip

def load(found: config.Found | None = None) -> dict[str, Setting]:
    """Every setting that a file or variable says."""
    found = config.found() if found is None else found
    return config.load(found, KEYS) if found else {}


def fill(said: dict[str, Any], settings: Mapping[str, Setting]) -> tuple[dict[str, Any], tuple[Default, ...]]:
    """(`said` with the settings of options that were not said, what was filled in).

    What is said otherwise on the same line wins without a word: `--emit` names a place, and only jobs have a namespace that pays.
    """
    filled, used = dict(said), []
    for key in KEYS:
        setting = settings.get(key.name)
        if setting is None or said.get(key.option, 0) not in (None, ()):
            continue  # nothing configured, no such option here, or said on the line
        pays = said.get("emit") == "hf" or said.get("launch")
        if key.option == "targets" and said.get("emit") or key.option == "namespace" and not pays:
            continue
        if setting.layer != "default":
            filled[key.option] = setting.value
        used.append(Default(key.option, key.name, _with_unit(key, setting), key.flag, _origin(setting)))
    return filled, tuple(used)


def fields(settings: Mapping[str, Setting], known: tuple[str, ...]) -> tuple[dict[str, Any], tuple[Default, ...]]:
    """The same for fields of a search that no option says: ({field: value}, those that change what is planned)."""
    filled, used = {}, []
    for key in KEYS:
        setting = settings.get(key.name)
        if setting is not None and key.field in known:
            filled[key.field] = setting.value
            if key.name != "deadline":  # how long to wait changes no number
                used.append(Default(key.field, key.name, _with_unit(key, setting), "", _origin(setting)))
    return filled, tuple(used)


def _with_unit(key: Key, setting: Setting) -> str:
    return f"{setting.text} {key.unit}".rstrip()


def _origin(setting: Setting) -> str:
    return "; ".join((setting.origin, *(text for text in setting.beside if "not taken" in text)))
