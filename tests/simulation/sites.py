"""The sites that the simulation runs: settings, seeds, and one run of one of them."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

import edgeagent.core.turn as turn_module
from edgeagent.core.settings import BACKUP_PROBING, PRIMARY_PROBING, PathSettings, Settings
from edgeagent.core.turn import Turn
from tests.simulation.episodes import FIRST_S, Plan, make_plan
from tests.simulation.violation import ClauseViolation
from tests.simulation.world import Wall, World, true_wall

YEAR_S = 365.25 * 86400.0
MEAN_GAP_S = 48 * 3600.0

SETTINGS = Settings(
    site="site-000123",
    agent="192.168.88.2",
    paths=(
        PathSettings("primary", "wan", PRIMARY_PROBING, frozenset({"icmp:b", "icmp:c"}), "icmp:a"),
        PathSettings("lte", "lte", BACKUP_PROBING),
    ),
)
THREE_PATHS = replace(
    SETTINGS, paths=(*SETTINGS.paths, PathSettings("satellite", "sat", replace(BACKUP_PROBING, interval_s=30.0)))
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    seed: int
    episodes: int
    years: float
    turns: int
    seconds: float
    judged: Counter[str]


class EpisodeFailed(AssertionError):
    """A clause did not hold; the message is enough to run the same again."""

    def __init__(self, message: str, clause: str, episode: int) -> None:
        super().__init__(message)
        self.clause = clause
        self.episode = episode

    def __reduce__(self) -> tuple[object, ...]:
        return EpisodeFailed, (str(self), self.clause, self.episode)


def failure(world: World, violation: ClauseViolation) -> EpisodeFailed:
    """What went wrong, when, how to see it again, and the end of the log."""
    episode = world.episode
    number, kind = (episode.number, episode.kind) if episode else (-1, "before the first")
    message = (
        f"{violation}\n  seed {world.plan.seed}, episode {number} ({kind}), at {world.now:.3f} s\n"
        f"  again: python -m tests.simulation.run {world.plan.again}\n" + "\n".join(world.log[-30:])
    )
    return EpisodeFailed(message, violation.clause, number)


def core_turn() -> Callable[..., Turn]:
    """The core as it stands at this moment: a broken one while a test has broken it."""
    return turn_module.turn


def site_plan(
    seed: int, episodes: int, settings: Settings = SETTINGS, gap_s: float = MEAN_GAP_S, only: str = ""
) -> Plan:
    """The life of one site."""
    plan = make_plan(seed, episodes, tuple(path.name for path in settings.paths), gap_s, only=only)
    more = f" --only '{only}'" if only else ""
    more += " --three" if settings is THREE_PATHS else ""
    return dataclasses.replace(plan, again=f"--seed {seed} --episodes {episodes} --gap {gap_s:g}{more}")


def run_site(plan: Plan, settings: Settings = SETTINGS, leaping: bool = True, wall: Wall = true_wall) -> World:
    """Run one site to its end, every clause asserted on the way."""
    world = World(plan, settings, core_turn(), leaping, wall)
    try:
        world.run()
    except ClauseViolation as violation:
        raise failure(world, violation) from violation
    return world


def outcome_of(seed: int, episodes: int) -> Outcome:
    """One seed, run and measured."""
    started_s = time.perf_counter()
    world = run_site(site_plan(seed, episodes))
    spent_s = time.perf_counter() - started_s
    years = (world.now - FIRST_S) / YEAR_S
    return Outcome(seed, episodes, years, world.agent.turns, spent_s, world.check.judged)
