"""The door from a checkout: `python cli.py --policy smolvla --episodes 50` is `plan --policy smolvla --episodes 50`."""

import sys

from planner.commands import main

if __name__ == "__main__":
    sys.exit(main())
