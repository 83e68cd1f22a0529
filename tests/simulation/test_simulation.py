"""The simulation itself, and that it catches what it is for: each clause has a core that breaks it.

A failure names its seed, its episode and its time; ``python -m tests.simulation.run --seed S --episodes N`` runs it
again and ``--log FILE`` keeps what happened.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeagent.core.settings import Settings
from tests.simulation.broken import BROKEN, Broken, wall_is_watched
from tests.simulation.episodes import make_plan
from tests.simulation.sites import (
    SETTINGS,
    THREE_PATHS,
    EpisodeFailed,
    core_turn,
    run_site,
    site_plan,
)
from tests.simulation.world import Wall, World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [501, 502])
def test_a_clock_that_is_behind_after_a_reboot_holds_no_mail_back_and_the_cap_of_the_boot_holds_clauses_n4_n5(
    seed: int,
) -> None:
    """At one mail an hour: each boot sends one at once, and what more it has waits."""
    few = replace(SETTINGS, mail=replace(SETTINGS.mail, per_hour_max=1))
    world = run_site(site_plan(seed, 12, few, gap_s=1500.0, only="unset clock"), few)
    assert world.check.judged["N4 while the clock was unset"] >= 12
    assert world.check.judged["N5 held by the cap"] >= 100


@functools.cache
def unbroken_passes(seed: int, episodes: int, only: str, gap_s: float, settings: Settings) -> bool:
    run_site(site_plan(seed, episodes, gap_s=gap_s, only=only), settings)
    return True


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_core_is_caught_by_the_clause_it_breaks(broken: Broken) -> None:
    episodes = 8 if broken.only == "flappy" else 40
    for seed in (1, 2, 3):
        plan = site_plan(seed, episodes, gap_s=broken.gap_s, only=broken.only)
        settings = broken.settings if broken.patches else SETTINGS
        assert unbroken_passes(seed, episodes, broken.only, broken.gap_s, settings)
        with broken.applied():
            try:
                run_site(plan, broken.settings)
            except EpisodeFailed as failed:
                assert failed.clause == broken.clause, str(failed)
                return
    pytest.fail(f"{3 * episodes} episodes and nobody noticed")


@pytest.mark.parametrize("seed", range(100, 108))
def test_leapt_and_unleapt_runs_decide_alike(seed: int) -> None:
    """What is told, moved and raised is the same, at the same time to within one round of the primary."""
    plan = site_plan(seed, 8, gap_s=1500.0)
    leapt, unleapt = run_site(plan), run_site(plan, leaping=False)
    assert leapt.agent.turns * 2 < unleapt.agent.turns
    assert [text for _, text in leapt.decided] == [text for _, text in unleapt.decided]
    for (leapt_s, text), (unleapt_s, _) in zip(leapt.decided, unleapt.decided, strict=True):
        assert leapt_s == pytest.approx(unleapt_s, abs=SETTINGS.primary.probing.interval_s), text


def no_wall(_now_s: float) -> tuple[float | None, str]:
    return None, "unknown"


def jumping_wall(now_s: float) -> tuple[float | None, str]:
    """Back to 1970, a year ahead, unknown, synced: another idea each 97 seconds."""
    return ((0.0, "unknown"), (1.7e9 + now_s + 3e7, "unknown"), (None, "unknown"), (1.7e9 - now_s, "synced"))[
        int(now_s // 97) % 4
    ]


def decided(seed: int, wall: Wall, settings: Settings = SETTINGS, broken: bool = False) -> list[tuple[float, str]]:
    plan = site_plan(seed, 12, settings, gap_s=3000.0)
    world = World(plan, settings, wall_is_watched if broken else core_turn(), wall=wall)
    world.run()
    return world.decided


@pytest.mark.parametrize("seed", range(300, 304))
def test_no_decision_depends_on_wall_time_clause_c4(seed: int) -> None:
    known = decided(seed, lambda now_s: (1.7e9 + now_s, "synced"))
    assert known
    assert decided(seed, no_wall) == known
    assert decided(seed, jumping_wall) == known


def test_a_core_that_watches_the_wall_is_caught_clause_c4() -> None:
    assert decided(301, no_wall, broken=True) != decided(301, jumping_wall, broken=True)


@pytest.mark.parametrize("seed", range(200, 203))
def test_paths_are_data_a_third_one_is_used(seed: int) -> None:
    """Where the first backup dies too, voice goes on to the second."""
    world = run_site(site_plan(seed, 30, THREE_PATHS, only="double"), THREE_PATHS)
    places = [text for _, text in world.decided if text.startswith("place phase=away")]
    assert any("path=satellite" in text for text in places)
    assert any("path=lte" in text for text in places)
    run_site(site_plan(seed, 30, THREE_PATHS), THREE_PATHS)


@pytest.mark.parametrize("seed", [401, 402])
def test_a_phone_that_registers_once_an_hour_comes_home_too_clause_l1(seed: int) -> None:
    plan = make_plan(seed, 3, ("primary", "lte"), 6 * 3600.0, slow=True, only="outage")
    world = run_site(plan)
    assert world.check.judged["L1 all came home"]


@pytest.mark.parametrize(("leak_bytes", "most_kib"), [(0, 1024), (400, None)])
def test_thirty_days_make_the_core_no_larger_clause_c5(leak_bytes: int, most_kib: int | None) -> None:
    """With its control: a core that keeps 400 bytes of every turn grows beyond the bound."""
    command = [sys.executable, "-m", "tests.simulation.growth", "--leak", str(leak_bytes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = [int(size) for size in done.stdout.split()]
    assert len(sizes) >= 25
    grown_kib = sizes[-1] - sizes[0]
    assert grown_kib <= most_kib if most_kib is not None else grown_kib > 1024


def test_one_seed_gives_one_log(tmp_path: Path) -> None:
    """Twice in this process, once in another whose hashes differ: the same bytes."""
    first, second = (run_site(site_plan(7, 20)).log for _ in range(2))
    assert first == second
    kept = tmp_path / "log"
    arguments = ["--seed", "7", "--episodes", "20", "--log", str(kept)]
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-m", "tests.simulation.run", *arguments], cwd=ROOT, env=environment, check=True)
    assert kept.read_text(encoding="utf-8") == "\n".join(first) + "\n"
