"""``python -m tests.fuzz [TARGET…] [--seconds N] [--keep]``: fuzz for as long as you like."""

from __future__ import annotations

import argparse
import random

from tests.fuzz.engine import fuzz
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz each target for its share of the time, with a new seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", help=f"all unless named: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="add new behavior to the corpus")
    asked = parser.parse_args()
    for name in asked.targets or TARGETS:
        print(f"{name}: seed {asked.seed}", flush=True)
        runs, behaviors = fuzz(TARGETS[name], asked.seconds, asked.seed, keep=asked.keep)
        print(f"{name}: {runs} inputs, {behaviors} behaviors", flush=True)


if __name__ == "__main__":
    main()
