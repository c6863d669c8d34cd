"""The command line: parse, call, show. No arithmetic and no provider calls here.

`main` is the console script. Nothing heavy is imported before it runs, and nothing that a command does not need.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: command -> its line in `plan --help`; the module of the same name holds it
COMMANDS = {
    "explain": "Show every term of one row of the plan, with its source.",
    "policies": "List the policies that can be planned.",
    "gpus": "List the GPUs with their memory, speed and prices.",
    "prices": "Show every price, bundled and live, and fetch today's.",
    "probe": "Run a few real steps on a flavor, and plan again with what they took.",
    "runs": "List the runs that were launched, planned and actual.",
    "status": "Show how a run is; of one that failed, why and what mends it.",
    "logs": "Print what a run printed, or follow it.",
    "cancel": "Stop a run.",
    "resume": "Continue a run from its newest checkpoint.",
    "fetch": "Copy what a run made into a folder.",
    "bill": "Show what a run cost.",
    "calibrate": "Read training logs, show the prediction beside them, and keep them for the next plans.",
    "backtest": "Show how far off the estimates are on measured runs.",
    "doctor": "Check what a launch needs, and say how to mend it; changes nothing.",
    "config": "Show each setting and where it comes from, and the files that are kept.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are one line, never a traceback."""
    if argv is None:
        import gc

        gc.disable()  # a process of a tenth of a second leaves nothing to collect
    arguments = sys.argv[1:] if argv is None else list(argv)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    # The tail belongs to the trainer. Cut before anything is parsed, it arrives byte for byte.
    head, tail = arguments[:cut], tuple(arguments[cut + 1 :])
    try:
        from planner.commands.root import run

        return run(head, tail)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the one place where errors become messages
        from planner.commands.failure import report

        return report(error, head)
