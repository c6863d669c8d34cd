"""The real `hf` command line, asked what it understands."""

from __future__ import annotations

import shlex
from typing import Any


def parsed(line: str) -> dict[str, Any]:
    """What the CLI makes of the line, without submitting: its own parser, from the app down to `jobs run`."""
    from huggingface_hub.cli import hf as cli

    words = shlex.split(line)
    assert words.pop(0) == "hf"
    command: Any = cli.app
    if not hasattr(command, "get_command"):  # a Typer app
        import typer.main

        command = typer.main.get_command(command)
    context = command.make_context("hf", [], resilient_parsing=True)
    while words and hasattr(command, "get_command"):
        command = command.get_command(context, words.pop(0))
    params: dict[str, Any] = command.make_context("run", words).params
    return params
