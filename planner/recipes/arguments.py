"""The trainer's arguments while they are put together: the user's own, what is added to them, and every replacement told."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner import pasted
from planner.recipes.flags import text


@dataclass(kw_only=True)
class Arguments:
    """`own` are the user's and win, `added` are ours; `warnings` say what of the user's was changed, and why."""

    own: pasted.Pasted
    added: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stated(self, name: str) -> str | None:
        """The user's value of a flag."""
        return self.own.get(name)

    def say(self, name: str, value: object) -> None:
        """Add a flag, unless the user states it."""
        if self.stated(name) is None:
            self.added.append(f"--{name}={text(value)}")

    def force(self, name: str, value: object, why: str) -> None:
        """Add a flag, or replace the user's where it says something else."""
        said = self.stated(name)
        if said is None:
            self.added.append(f"--{name}={text(value)}")
        elif said not in (str(value), text(value)) and said.replace("_", "") != str(value):
            self.remove(name)
            self.added.append(f"--{name}={text(value)}")
            self.warnings.append(f"--{name}={said} became --{name}={text(value)}: {why}")

    def remove(self, name: str) -> None:
        """Take a flag of the user's away."""
        self.own = self.own._replace(args=pasted.without(self.own.args, [name]))
