"""``python -m tests.powercut --cuts N``: no acknowledged record is lost by a power cut, none unreadable (clause C1).

Exit codes: 0 so it is, 1 it is not, 2 not tried (needs root and loop devices), 3 a control did not bite.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import msgspec

from tests.powercut.cuts import Cutter, Tally
from tests.powercut.disk import disk, leave_mounts, why_not


def line(found: Tally, took_s: float) -> str:
    """The figures."""
    controls = ", ".join(f"{how} {found.bites[how]} of {tries}" for how, tries in found.tries.items())
    return (
        f"powercut: {found.cuts} cuts, {found.migrations} of them of a migration ({found.midway} midway); "
        f"{found.acknowledged} acknowledged; {found.lost} cuts lost some, {found.unreadable} left a store unreadable, "
        f"{found.broken} left half a transaction; controls that bit: {controls}; {took_s:.0f} s"
    )


def code(found: Tally) -> int:
    """The exit code."""
    if found.lost or found.unreadable or found.broken:
        return 1
    idle = found.acknowledged < found.cuts or (found.migrations >= 10 and not found.midway)
    return 3 if idle or not all(found.bites.values()) else 0


def main() -> int:
    """Cut, print one line, say more of what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if why := why_not():
        sys.stderr.write(f"{why}\n")
        return 2
    leave_mounts()
    began_s = time.monotonic()
    with disk(64) as made:
        found = Cutter(made, options.seed).run(options.cuts)
    took_s = time.monotonic() - began_s
    ended = code(found)
    sys.stdout.write("".join(f"{note}\n" for note in found.notes) + line(found, took_s) + "\n")
    if ended == 3:
        sys.stdout.write("ERROR: a control did not bite, so the zeros above say nothing\n")
    if options.json:
        options.json.write_bytes(
            msgspec.json.encode({"format": 1, "seed": options.seed, "exit": ended, **asdict(found)})
        )
    return ended


if __name__ == "__main__":
    sys.exit(main())
