"""How much a core grows in 30 simulated days (clause C5): ``python -m tests.simulation.growth [--leak BYTES]``.

Prints the resident memory of the process at the end of each day from the fifth on, in KiB. What the simulation itself
keeps (its log) is bounded first. ``--leak`` makes the core keep so many bytes of each turn: the control.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.simulation.episodes import FIRST_S
from tests.simulation.sites import SETTINGS, core_turn, site_plan
from tests.simulation.world import World

DAYS, WARM_DAYS, DAY_S = 30, 5, 86400.0
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Bounded(World):
    """A world that keeps no more than the end of its story, and looks at its size once a day."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.log = deque(maxlen=200)  # type: ignore[assignment]
        self.decided = deque(maxlen=200)  # type: ignore[assignment]
        self.incidents = {}
        self.sizes: list[int] = []

    def _step(self) -> None:
        super()._step()
        if len(self.sizes) < (self.now - FIRST_S) // DAY_S - WARM_DAYS + 1:
            gc.collect()
            self.sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB)
            self.incidents.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leak", type=int, default=0)
    leak_bytes = parser.parse_args().leak
    right, kept = core_turn(), []

    def leaking(*arguments: Any) -> Any:
        kept.append(bytes(leak_bytes))
        return right(*arguments)

    plan = replace(site_plan(77, 300, gap_s=3 * 3600.0), end_s=FIRST_S + DAYS * DAY_S + 60.0)
    world = Bounded(plan, SETTINGS, leaking if leak_bytes else right)
    world.run()
    sys.stdout.write(" ".join(map(str, world.sizes)))


if __name__ == "__main__":
    main()
