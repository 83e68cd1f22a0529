"""Run one seed of the simulation again: ``python -m tests.simulation.run --seed S --episodes N [--log FILE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation.episodes import FIRST_S
from tests.simulation.sites import MEAN_GAP_S, SETTINGS, THREE_PATHS, YEAR_S, core_turn, site_plan
from tests.simulation.violation import ClauseViolation
from tests.simulation.world import World


def main() -> int:
    """One seed, one log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--gap", type=float, default=MEAN_GAP_S, help="mean seconds between episodes")
    parser.add_argument("--only", default="", help="one kind of episode")
    parser.add_argument("--three", action="store_true", help="a site with a third path")
    parser.add_argument("--unleapt", action="store_true", help="every round, quiet or not")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    settings = THREE_PATHS if options.three else SETTINGS
    plan = site_plan(options.seed, options.episodes, settings, options.gap, options.only)
    world = World(plan, settings, core_turn(), leaping=not options.unleapt)
    failed = ""
    try:
        world.run()
    except ClauseViolation as violation:
        number = world.episode.number if world.episode else -1
        failed = f"episode {number}, {world.now:.3f} s: {violation}\n"
    if options.log:
        options.log.write_text("\n".join(world.log) + "\n", encoding="utf-8")
    if failed:
        sys.stdout.write("\n".join(world.log[-30:]) + "\n" + failed)
        return 1
    years = (world.now - FIRST_S) / YEAR_S
    sys.stdout.write(
        f"{len(plan.episodes)} episodes, {years:.2f} site-years, {world.agent.turns} turns, no violation\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
