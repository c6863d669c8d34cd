"""Errors as the user meets them: one line that ends in what to do, or with --json the document that says so."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

from planner.commands import terminal
from planner.errors import PlanError

UNEXPECTED = 1
USAGE = 2


def report(error: Exception, head: Sequence[str]) -> int:
    """Print `error` and return its exit code."""
    if isinstance(error, PlanError):
        code, text, exit_code = error.code, error.text, error.exit_code
    elif hasattr(error, "format_message"):  # the parser's own errors, whose module moves between Typer's versions
        code, text, exit_code = "usage", _usage(error), USAGE
    elif isinstance(error, OSError) and error.strerror:  # a full disk, a file that may not be read
        where = f" ({error.filename})" if error.filename else ""
        terminal.note(f"error: {error.strerror}{where}; check the disk and the permissions")  # stdout may be what failed
        return UNEXPECTED
    else:
        code, text, exit_code = "unexpected", _unexpected(error), UNEXPECTED
    show(code, text, head)
    return exit_code


def show(code: str, text: str, head: Sequence[str]) -> None:
    """The error line on stderr; with --json the failure document on stdout instead."""
    if "--json" in head:
        from planner.show import document

        terminal.write_json(document.failure("lerobot", code, text))
    else:
        terminal.note(f"error: {text}")


def _unexpected(error: Exception) -> str:
    if os.environ.get("PLAN_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return f"unexpected {type(error).__name__}: {error}; please report it with the output of PLAN_DEBUG=1"


def _usage(error: Any) -> str:
    """The parser's complaint in our words."""
    ctx = getattr(error, "ctx", None)
    where = ctx.command_path if ctx else "plan"
    option = getattr(error, "option_name", None)
    if option is None:
        message = error.format_message().rstrip(".")
        return f"{message[:1].lower()}{message[1:]}; see {where} --help"
    option = "--" + option.lstrip("-") if len(option.lstrip("-")) > 1 else option
    if type(error).__name__ == "NoSuchOption":
        return _no_such_option(option, ctx, where)
    if "does not take a value" in error.message:
        return f"{option} takes no value: write only {option}"
    return f"{option} needs a value; see {where} --help"


def _no_such_option(option: str, ctx: Any, where: str) -> str:
    from planner.commands.values import nearest

    if "." in option:
        return f"{option} is an argument of lerobot-train: write it after `--`, as in {where} … -- {shlex.quote(option)}=…"
    names = _options(ctx)
    if ctx and ctx.parent and option in _options(ctx.parent):
        return f"{option} belongs to `plan`, not to `{where}`; leave it out"
    return f"no such option {option}{nearest(option, names) or f'; {where} --help lists them'}"


def _options(ctx: Any) -> list[str]:
    return [name for param in ctx.command.get_params(ctx) for name in param.opts if name.startswith("--")] if ctx else []
