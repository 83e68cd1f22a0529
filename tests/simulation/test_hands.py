"""Clause P7, seeded: hands that edit rows whenever they like, and another agent that comes and goes.

The router is a set of things, each right or not; the watch looks at all of it every ``ROUND_S`` and writes what the
core says. Judged throughout: whoever edits a thing twice within ten minutes is not written over any more; a thing
edited once is right, or named, a minute later; while another agent leads nothing is written.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from edgeagent.core import guard
from edgeagent.core.facts import DriftSeen, Finding, Instant, LeasesSeen, LedBy
from edgeagent.core.turn import Turn, first_state, turn
from tests.simulation.sites import SETTINGS
from tests.simulation.violation import ClauseViolation

ROUND_S, NAMED_S, DAYS = 44.0, 60.0, 10
THINGS = tuple(f"/ip/route {number}" for number in range(6))
NAMES = {"router_rows_fought_over", "router_rows_differ", "router_held_by_other"}


class World:
    """One router, one agent, some hands."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 1000.0
        self.state = first_state(SETTINGS)
        self.wrong: dict[str, float] = {}  # by thing, when it was last edited
        self.found_s: dict[str, list[float]] = {}  # when a look found a thing changed
        self.other_s: float | None = None
        self.judged: Counter[str] = Counter()
        self.tell(LeasesSeen((), self.now_s))

    def tell(self, *facts: Any) -> Turn:
        result = turn(self.state, facts, Instant(self.now_s, "boot0000"), SETTINGS)
        self.state = result.state
        return result

    def run(self) -> None:
        """Looks at every round; between them hands, mostly idle, sometimes stubborn."""
        for _ in range(int(DAYS * 86400.0 / ROUND_S)):
            self._hands()
            self.now_s += ROUND_S
            self._other()
            self._look(())
            self._judge()

    def _hands(self) -> None:
        stubborn = self.random.random() < 0.05
        for thing in THINGS:
            if self.random.random() < (0.5 if stubborn else 0.004):
                self.wrong[thing] = self.now_s + self.random.uniform(0.0, ROUND_S)
        for thing in [*self.wrong]:
            if self.random.random() < 0.002:
                del self.wrong[thing]  # put right by hand

    def _other(self) -> None:
        if self.other_s is None and self.random.random() < 0.002:
            self.other_s = self.now_s
            self.tell(LedBy("site-8", self.now_s))
        elif self.other_s is not None and self.random.random() < 0.02:
            self.other_s = None
            self.tell(LedBy("", self.now_s), LeasesSeen((), self.now_s))

    def _look(self, tried: tuple[str, ...]) -> None:
        known = set(self.state.guard.open)
        for thing in self.wrong:
            if thing not in known or thing in tried:
                self.found_s.setdefault(thing, []).append(self.now_s)
        findings = tuple(Finding(thing, "changed") for thing in sorted(self.wrong))
        written = self.tell(DriftSeen(findings, True, self.now_s, tried)).mend
        if not written:
            return
        for thing in written:
            self.judged["written"] += 1
            if self.other_s is not None:
                raise ClauseViolation("P7", f"{thing} was written while another agent leads")
            recent = [at_s for at_s in self.found_s[thing] if self.now_s - at_s < guard.FIGHT_S]
            if len(recent) >= guard.CHANGES_MAX:
                raise ClauseViolation("P7", f"{thing} was written although changed {len(recent)} times in ten minutes")
            if self.random.random() < 0.98:  # else the router takes no notice
                self.wrong.pop(thing, None)
        self.now_s += 1.0
        self._look(written)

    def _judge(self) -> None:
        shown = self.state.faults.raised
        for thing, at_s in self.wrong.items():
            if self.now_s - at_s < NAMED_S:
                continue
            self.judged["named"] += 1
            if not shown & NAMES:
                raise ClauseViolation("P7", f"{thing} differs for {self.now_s - at_s:.0f} s and is not named")
        if self.state.guard.left:
            self.judged["left"] += 1
        if self.other_s is not None:
            self.judged["watched"] += 1


@pytest.mark.parametrize("seed", range(6))
def test_nobody_is_fought_and_nothing_stays_unnamed_clause_p7(seed: int) -> None:
    world = World(seed)
    world.run()
    assert min(world.judged[name] for name in ("written", "named", "left", "watched")) >= 50, world.judged
    assert len(world.state.guard.changed_s) <= len(THINGS)


def broken_guards() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    right = guard.to_mend, guard.seen
    yield "never gives way", "seen", lambda *args: replace(right[1](*args), left=frozenset())
    yield "writes whoever leads", "to_mend", lambda state, **_: right[0](replace(state, other=""), lead=True)
    yield (
        "never puts right and says nothing",
        "seen",
        lambda state, fact, now_s: right[1](state, replace(fact, findings=()), now_s),
    )


@pytest.mark.parametrize(("name", "wrong"), [pytest.param(name, wrong, id=how) for how, name, wrong in broken_guards()])
def test_a_broken_guard_is_caught_clause_p7(name: str, wrong: Callable[..., Any]) -> None:
    with mock.patch.object(guard, name, wrong), pytest.raises(ClauseViolation, match="P7"):
        World(1).run()
