"""The options that commands share, each declared once: what is trained, where to look, what to print."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import typer

from planner import config, pasted, resolve
from planner.commands import complete, values
from planner.commands.values import Reader
from planner.errors import PlanError, UsageError
from planner.request import Default, Search, Workload

if TYPE_CHECKING:
    from planner.config import Setting

Group = dict[str, inspect.Parameter]


class Request:
    """Everything that one command line said.

    `argv` is the whole command line without the program's name; `said` holds the options of the other groups by name, each of
    which can be read as an attribute.
    """

    def __init__(self, workload: Workload, search: Search, argv: tuple[str, ...] = (), said: dict[str, Any] | None = None) -> None:
        self.workload, self.search, self.argv, self.said = workload, search, argv, said or {}

    @property
    def settings(self) -> dict[str, Setting]:
        """What planner.toml and the environment say, by key; empty where they say nothing."""
        found: dict[str, Setting] = self.said.get("settings", {})
        return found

    def __getattr__(self, name: str) -> Any:
        try:
            return self.said[name]
        except KeyError:
            raise AttributeError(name) from None


def _option(
    panel: str, name: str, flag: str, metavar: str, read: Reader, text: str, *,
    many: bool = False, names: Callable[[str], list[str]] | None = None,
) -> tuple[str, inspect.Parameter]:  # fmt: skip
    info = typer.Option(
        None, flag, metavar=metavar, parser=read, help=text, autocompletion=names, rich_help_panel=panel, show_default=False
    )
    return name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=list[str] if many else str)


def _switch(panel: str, name: str, *flags: str, text: str) -> tuple[str, inspect.Parameter]:
    info = typer.Option(False, *flags, help=text, rich_help_panel=panel, show_default=False)
    return name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=bool)


_W, _S, _A, _R, _L, _O = "What is trained", "Where and how", "The command", "Running it", "What the log does not say", "Output"

WORKLOAD: Group = dict([
    _option(_W, "policy", "--policy", "NAME", values.text("--policy"), "Policy type of LeRobot; `plan policies` lists them.",
            names=complete.policies),
    _option(_W, "dataset", "--dataset", "DIR|ID", values.text("--dataset"),
            "LeRobotDataset whose frames and cameras are read: a folder, or owner/name[@revision] on the Hub."),
    _option(_W, "episodes", "--episodes", "N", values.count("--episodes", resolve.MAX_EPISODES),
            "Number of episodes; beside --dataset, only its first N."),
    _option(_W, "episode_seconds", "--episode-seconds", "S", values.number("--episode-seconds", 86_400, "seconds"),
            "Length of an episode [30]."),
    _option(_W, "fps", "--fps", "N", values.number("--fps", 1000, "frames per second"), "Frames per second [30]."),
    _option(_W, "frames", "--frames", "N", values.count("--frames", resolve.MAX_FRAMES),
            "Number of frames, instead of episodes × seconds × fps."),
    _option(_W, "cameras", "--cameras", "NxWxH", values.text("--cameras"),
            "Cameras, as in 2x640x480; repeat it for mixed ones.", many=True),
    _option(_W, "epochs", "--epochs", "N", values.number("--epochs", 100_000, "epochs"), "Passes over the frames [5]."),
    _option(_W, "steps", "--steps", "N", values.count("--steps", resolve.MAX_STEPS), "Training steps, instead of epochs."),
    _option(_W, "batch_size", "--batch-size", "N", values.count("--batch-size", resolve.MAX_BATCH),
            "Samples per step and GPU [the policy's own default]."),
    _option(_W, "lerobot_version", "--lerobot-version", "V", values.text("--lerobot-version"),
            "LeRobot to plan for: 0.6.1, 0.4.4 or main [the newest release].", names=complete.releases),
])  # fmt: skip

SEARCH: Group = dict([
    _option(_S, "targets", "--target", "PLACE", values.text("--target"),
            "hf, modal or local; repeatable [hf, modal, and the GPUs found here].", many=True, names=complete.targets),
    _option(_S, "gpus", "--gpu", "NAME", values.text("--gpu"),
            "Only this GPU; repeatable. Also names a card that nobody rents. `plan gpus` lists them.",
            many=True, names=complete.gpus),
    _option(_S, "num_gpus", "--num-gpus", "N", values.count("--num-gpus", 1024), "Only machines with this many GPUs."),
    _option(_S, "max_cost", "--max-cost", "USD", values.dollars("--max-cost", 10**9), "Budget for the whole run."),
    _option(_S, "usd_per_kwh", "--electricity", "USD", values.dollars("--electricity", 100),
            "Price of a kWh, for what runs on this machine [not priced]."),
    _option(_S, "max_hours", "--max-hours", "H", values.number("--max-hours", 100_000, "hours"), "Deadline for the whole run."),
    _option(_S, "optimize", "--optimize", "AIM", values.choice("--optimize", ("cost", "time", "balanced")),
            "What to recommend by: cost, time or balanced [cost]."),
    _option(_S, "timeout_s", "--timeout", "TIME", values.duration("--timeout"),
            "Stop the run after this: 4h, 90m, 2d or seconds [from the slow end of the estimate]."),
    _option(_S, "attempts", "--attempts", "N", values.count("--attempts", 100), "How often the place may start the run [1]."),
    _switch(_S, "offline", "--offline", text="Use no network."),
    _switch(_S, "live", "--live", text="Fetch prices and the facts of a Hub dataset first."),
    _option(_S, "max_price_age", "--max-price-age", "DAYS", values.number("--max-price-age", 36_500, "days"),
            "How old prices may be for a launch [90]."),
])  # fmt: skip

COMMAND: Group = dict([
    _option(_A, "emit", "--emit", "PLACE", values.choice("--emit", ("hf", "modal", "lerobot", "local")),
            "Print only the command that runs the best row of this place: hf (hf jobs run), modal (a script for "
            "modal run), lerobot (lerobot-train --job.target) or local.", names=complete.emissions),
    _option(_A, "repo_id", "--repo-id", "ID", values.repository("--repo-id"),
            "Hub repository that receives the model."),
    _option(_A, "output", "--output", "PATH", values.text("--output"),
            "On modal or local: folder that receives the model."),
    _option(_A, "namespace", "--namespace", "NAME", values.text("--namespace"),
            "On hf: organisation that pays for the job."),
])  # fmt: skip

ACT: Group = dict([
    _switch(_R, "launch", "--launch", text="Show the plan, ask, start the best row, and follow it."),
    _switch(_R, "yes", "-y", "--yes", text="Do not ask. Without a terminal, --max-cost is needed too."),
    _switch(_R, "detach", "-d", "--detach", text="Start it and come back at once."),
    _switch(_R, "dry_run", "--dry-run", text="Show the exact request, secrets masked; send nothing."),
    _switch(_R, "push_dataset", "--push-dataset", text="Upload a local dataset to a private repository of yours first."),
    _switch(_R, "again", "--again", text="Start it although the same training is running."),
    _switch(_R, "no_learn", "--no-learn", text="Do not keep the run's measurement for the next plans."),
])  # fmt: skip

LOG: Group = dict([
    _option(_L, "gpu", "--gpu", "NAME", values.text("--gpu"), "GPU that the run was on; `plan gpus` lists them.", names=complete.gpus),
    _option(_L, "num_gpus", "--num-gpus", "N", values.count("--num-gpus", 1024), "How many of them [as the log says, else 1]."),
    _option(_L, "policy", "--policy", "NAME", values.text("--policy"), "Policy type of LeRobot, or the model that was trained.",
            names=complete.policies),
    _option(_L, "batch_size", "--batch-size", "N", values.count("--batch-size", resolve.MAX_BATCH), "Samples per step and GPU."),
    _option(_L, "cameras", "--cameras", "NxWxH", values.text("--cameras"), "Cameras, as in 2x640x480; repeat it for mixed ones.",
            many=True),
    _option(_L, "pattern", "--pattern", "REGEX", values.text("--pattern"),
            "How a line of another trainer gives a step: groups update_s (seconds), data_s, vram_gb and step, as in "
            "'iter (?P<step>[0-9]+) .* (?P<update_s>[0-9.]+)s'."),
])  # fmt: skip

JSON: Group = dict([_switch(_O, "json", "--json", text="Print one JSON document.")])

OUTPUT: Group = JSON | dict([
    _switch(_O, "all", "--all", text="Show every row, also what does not fit."),
    _switch(_O, "quiet", "-q", "--quiet", text="Print only the id of the recommended row."),
])  # fmt: skip


#: arguments of lerobot-train that share their name with an option of ours
TRAINERS_TOO = ("steps", "batch_size")


def takes(*groups: Group) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of `groups`: its function receives them as its first argument, one Request."""
    shared: Group = {name: parameter for group in groups for name, parameter in group.items()}

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(function).parameters.values())[1:]

        @wraps(function)
        def command(ctx: typer.Context, **said: Any) -> int:
            if ctx.invoked_subcommand is not None:
                return 0  # the command that follows does the work
            if ctx.obj["tail"] and not shared.keys() >= WORKLOAD.keys():
                raise UsageError("usage", f"`{ctx.command_path}` plans no training: leave out `--` and what follows it")
            rest = {parameter.name: said.pop(parameter.name) for parameter in own}
            said = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
            request = _request(said, ctx.obj["head"], ctx.obj["tail"])
            try:
                return function(request, **rest)
            except PlanError as error:
                _name_origins(error, request)
                raise

        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own, *shared.values()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _request(said: dict[str, Any], head: tuple[str, ...], tail: tuple[str, ...]) -> Request:
    """Values by name -> the records they are fields of; what was not said keeps the record's default."""
    _refuse_misplaced(tail)
    more: dict[str, Any] = {}
    defaults: tuple[Default, ...] = ()
    found = config.found() if said.keys() & SEARCH.keys() else None
    if found:
        from planner.commands import settings

        configured = settings.load(found)
        said, defaults = settings.fill(said, configured)
        more, others = settings.fields(configured, Search._fields)
        said["settings"], defaults = configured, (*defaults, *others)
    workload = {name: said.pop(name) for name in WORKLOAD if name in said}
    search = {name: said.pop(name) for name in SEARCH if name in said}
    if search.get("live") and search.get("offline"):
        raise UsageError("usage", "--live and --offline contradict each other: leave one out")
    argv = (*head, "--", *tail) if tail else head
    return Request(Workload(**_given(workload), tail=tail), Search(**_given(search), **more, defaults=defaults), argv, said)


def _name_origins(error: PlanError, request: Request) -> None:
    """An error about a flag that nobody wrote says where its value stands."""
    for default in request.search.defaults:
        if default.flag and re.search(rf"{default.flag}(?![\w-])", error.text):
            error.text += f" ({default.flag} stands in {default.origin})"


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _refuse_misplaced(tail: tuple[str, ...]) -> None:
    """An option of ours behind the `--` would reach the trainer, which does not know it. UsageError names it."""
    ours = {flag for group in (WORKLOAD, SEARCH, COMMAND, ACT, OUTPUT) for option in group.values() for flag in option.default.param_decls}
    for name, tokens in pasted.spans(pasted.read(tail).args):
        option = f"--{name.replace('_', '-')}" if name else tokens[0]
        if option in ours and name not in TRAINERS_TOO:
            raise UsageError("usage", f"{tokens[0].split('=', 1)[0]} stands after `--` and would go to the trainer: "
                             f"write {option} before it")
