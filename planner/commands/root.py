"""`plan …` itself: plan a LeRobot training, print it or the command that runs it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from planner.commands import COMMANDS, terminal
from planner.commands.options import ACT, COMMAND, OUTPUT, SEARCH, WORKLOAD, Request, takes
from planner.errors import UsageError

if TYPE_CHECKING:
    from planner.plans import Plan
    from planner.request import Machine


_OTHER = "Other"
_EXAMPLES = (
    "plan --policy smolvla --episodes 50",
    "plan --policy act --dataset lerobot/pusht --max-cost 5",
    "plan --policy pi05 --dataset me/pick --emit modal > train.py",
    "plan -- lerobot-train --policy.type=act --dataset.repo_id=me/pick --steps=50000",
)


class _Sections:
    """Help in sections of related options, as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):  # type: ignore[attr-defined]
            record = param.get_help_record(ctx)
            if record is not None:
                other = "Arguments" if param.param_type_name == "argument" else _OTHER
                sections.setdefault(getattr(param, "rich_help_panel", None) or other, []).append(record)
        if _OTHER in sections:
            sections[_OTHER] = sections.pop(_OTHER)  # last
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Command(_Sections, TyperCommand):
    """A command whose help is grouped."""


class Root(_Sections, TyperGroup):
    """`plan`: commands are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, cls=Command, help=COMMANDS[name])(import_module(f"planner.commands.{name}").run)
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing:
            raise UsageError("usage", f"no such command {terminal.one_line(name)}{self._meant(name)}")
        before = ctx.obj["head"][: len(ctx.obj["head"]) - len(args)] if ctx.obj else ()
        if before and not ctx.resilient_parsing:
            order = shlex.join(["plan", name, *before, *args[1:]])
            raise UsageError("usage", f"options stand after the command: {order}")
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage("plan", "[OPTIONS] [-- TRAINER ARGUMENTS]")
        formatter.write_usage("plan", "COMMAND [OPTIONS] [ARGS] [-- TRAINER ARGUMENTS]", prefix="       ")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Examples"):
            formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in _EXAMPLES))
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        super().format_options(ctx, formatter)

    @staticmethod
    def _meant(name: str) -> str:
        from planner.commands.complete import policies
        from planner.commands.values import nearest

        if name in policies(""):
            return f"; did you mean --policy {name}?"
        return nearest(name, list(COMMANDS)) or f"; the commands are {', '.join(COMMANDS)}; trainer arguments stand after `--`"


def run(head: Sequence[str], tail: tuple[str, ...]) -> int:
    """Parse and run one command line; errors are raised. Nothing asked is a wish for help."""
    if sys.stdout is None:  # closed by the caller (`>&-`)
        terminal.note("error: stdout is closed, and the result goes there: leave out `>&-`, or send it to a file")
        return 1
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    app = typer.Typer(cls=Root, rich_markup_mode=None, context_settings=settings)
    app.callback(invoke_without_command=True)(root)
    arguments = list(head) if head or tail else ["--help"]
    return typer.main.get_command(app).main(
        arguments, prog_name="plan", standalone_mode=False, obj={"head": tuple(arguments), "tail": tail}
    ) or 0


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.write(f"plan {version('training-planner')}")
        except PackageNotFoundError:
            terminal.write("plan, from a checkout that is not installed")
        raise typer.Exit


@takes(WORKLOAD, SEARCH, COMMAND, ACT, OUTPUT)
def root(
    request: Request,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> int:
    """What a robot-learning training run needs, takes and costs, before you start it.

    After `--` stand arguments for lerobot-train, or a whole command to plan as it is.
    """
    _check(request)
    if request.emit:
        return _emit(request)
    if request.launch:
        return _launch(request)
    from planner import api

    return show(api.plan(request.workload, request.search), request)


def _launch(request: Request) -> int:
    from planner import api
    from planner.commands import launching

    if request.push_dataset:
        request = launching.pushed(request)
    plan = api.plan(request.workload, launching.search_of(request))
    if plan.recommended is None:
        return show(plan, request)
    if not (request.json or request.quiet or request.dry_run):
        show(plan, request)
    return launching.launch(plan, request)


def show(plan: Plan, request: Request) -> int:
    """The plan as the output options want it; its exit code."""
    if request.json:
        terminal.write_json(plan)
    elif request.quiet:
        if plan.recommended:
            terminal.write(plan.recommended.id)
        _complain(plan)
    else:
        from planner.show import table

        command = shlex.join(["plan", *_planned(request.argv)])
        terminal.write(table.table(plan, **terminal.style(), show_all=request.all, command=command))
        if terminal.plain():  # who reads a file later still learns of it now
            _complain(plan)
    return plan.exit_code


def _planned(argv: Sequence[str]) -> list[str]:
    """The command line without what only says what to show of the plan or to do with it."""
    cut = argv.index("--") if "--" in argv else len(argv)
    once = {flag for option in ACT.values() for flag in option.default.param_decls} | {"--all"}
    return [*(word for word in argv[:cut] if word not in once), *argv[cut:]]


def _emit(request: Request) -> int:
    from planner.commands import emission

    search = emission.search_for(request)
    from planner import api

    plan = api.plan(request.workload, search, machine=_machine(request))
    if plan.recommended is None:
        _complain(plan)
        return plan.exit_code
    emitted = emission.command(plan, request)
    warnings = (*(text for _, text in plan.warnings), *emitted.warnings)
    for kind, lines in (("assumed", emitted.assumed), ("warning", warnings), ("note", emitted.notes), ("needs", emitted.needs)):
        for line in lines:
            terminal.note(f"{kind}: {line}")
    terminal.write_command(emitted.text)
    return 0


def _machine(request: Request) -> Machine | None:
    """This machine with the disk that the outputs go to, where that was said."""
    if request.emit != "local" or not request.output:
        return None
    from planner import machine

    return machine.look(request.output)


def _complain(plan: Plan) -> None:
    if plan.error:
        terminal.note(f"error: {plan.error[1]}")


def _check(request: Request) -> None:
    """Options that cannot be meant together. Nothing is dropped in silence."""
    decides = [f"--{name}" for name in ("json", "quiet", "emit") if getattr(request, name)]
    if len(decides) > 1:
        raise UsageError("usage", f"{' and '.join(decides)} both decide what stdout holds; leave one out")
    if request.emit and request.launch:
        raise UsageError("usage", "--emit prints the command and --launch runs it; leave one out")
    for name, places in _ONLY_FOR.items():
        if getattr(request, name) is not None and request.emit not in places and not request.launch:
            raise UsageError("usage", f"--{name.replace('_', '-')} needs --launch or --emit {'|'.join(places)}; add that or leave it out")
    if request.launch or any(getattr(request, name) for name in ACT):
        from planner.commands import launching

        launching.refuse_contradictions(request)


#: options of a command -> the places that have a use for them
_ONLY_FOR = {"repo_id": ("hf", "modal", "lerobot", "local"), "output": ("modal", "local"), "namespace": ("hf",)}
