"""The simulation of the core: every clause on every turn, over years of sites' lives.

A failure names its seed, its episode and its time; ``python -m tests.simulation.run --seed S --episodes N`` runs it
again and ``--log FILE`` keeps what happened.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter

import pytest

from tests.simulation.sites import Outcome, outcome_of

SITES, EPISODES = 21, 100
CLAUSES = {
    *("P1", "P2", "P3", "P5", "P6", "L2", "L4", "L5", "C6", "N1", "N2", "N6"),
    *("N3 duplicates", "N5 failover", "N5 restored", "N5 summary", "N5 held by the cap"),
    *("L1 all came home", "L1 callable on the way", "L1 call left alone"),
}


@pytest.mark.slow
def test_two_thousand_episodes_and_ten_site_years_keep_every_clause(capsys: pytest.CaptureFixture[str]) -> None:
    """Clauses P1-P3, P5, P6, L1, L2, L4, L5, N1-N6, C5 and C6, asserted on every turn, sentence and mail."""
    started_s = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        outcomes: list[Outcome] = pool.starmap(outcome_of, [(seed, EPISODES) for seed in range(1, SITES + 1)], 1)
    judged: Counter[str] = sum((outcome.judged for outcome in outcomes), Counter())
    episodes, years = sum(one.episodes for one in outcomes), sum(one.years for one in outcomes)
    turns, spent_s = sum(one.turns for one in outcomes), sum(one.seconds for one in outcomes)
    with capsys.disabled():
        sys.stdout.write(
            f"\nsimulation: {episodes} episodes, {years:.1f} site-years, {turns} turns, {spent_s:.0f} s of one core, "
            f"{time.perf_counter() - started_s:.0f} s; judged: "
            + ", ".join(f"{name} {count}" for name, count in sorted(judged.items()))
            + "\n"
        )
    assert episodes >= 2000
    assert years >= 10
    assert {name for name, count in judged.items() if count >= 100} >= CLAUSES
    assert judged["reminded late"] >= 30
    assert judged["P5 canaries"] >= 30
