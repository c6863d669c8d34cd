"""The errors a user can meet: a stable code, one line of text, the exit code of the contract.

Everything that the command line reports as an error is a PlanError; anything else that escapes is a bug
and exits 1. The text ends with the next thing to do.
"""

from __future__ import annotations


class PlanError(Exception):
    """One line for the user. `code` is stable and machine-readable, `exit_code` follows docs/json.md."""

    exit_code = 1

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class UsageError(PlanError):
    """Bad flags, a bad catalogue file, a dataset that is missing or malformed."""

    exit_code = 2


class NothingOffered(UsageError):
    """No place has what --target, --gpu and --num-gpus ask for together."""


class NothingFits(PlanError):
    """No offer has enough memory for the workload."""

    exit_code = 3


class OverBudget(PlanError):
    """Offers fit, but none within --max-cost or --max-hours."""

    exit_code = 4


class PricesTooOld(PlanError):
    """Prices are too old, or unknown, for a launch."""

    exit_code = 5


class NotAuthorised(PlanError):
    """A credential is missing or refused, or a licence is not accepted."""

    exit_code = 6


class Unreachable(PlanError):
    """A provider or the Hub refused, failed or did not answer."""

    exit_code = 7


class Declined(PlanError):
    """A person, or the rules a person set, said no before anything was spent."""

    exit_code = 8


class Ambiguous(PlanError):
    """The provider may have the job: the request went out and no reply came back. The text says how to find out."""

    exit_code = 9


class RunFailed(PlanError):
    """The run that was followed failed or timed out."""

    exit_code = 10
