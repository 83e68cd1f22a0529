"""Drives the core by hand: a world of two lines with nothing random in it, one round at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgeagent.core.facts import Fact, Flow, FlowsSeen, Instant, LeasesSeen, ProbeReplied, RoundSent, UplinkSeen
from edgeagent.core.intents import MoveFlows, Notify
from edgeagent.core.settings import BACKUP_PROBING, PRIMARY_PROBING, PathSettings, Settings
from edgeagent.core.turn import State, Turn, first_state, turn

SETTINGS = Settings(
    site="site-000123",
    agent="192.168.88.2",
    paths=(
        PathSettings("primary", "wan", PRIMARY_PROBING, frozenset({"icmp:b", "icmp:c"}), "icmp:a"),
        PathSettings("lte", "lte", BACKUP_PROBING),
    ),
)
WAN, LTE = "192.0.2.2", "198.51.100.2"
ADDRESSES = {"primary": WAN, "lte": LTE}
TARGETS = {"primary": ("icmp:a", "icmp:b", "icmp:c"), "lte": ("icmp:a",)}
RTT_S = 0.03


class Site:
    """One site under the core. ``alive(path, at_s)``, ``sip(path, at_s)`` and ``control(at_s)`` say what answers."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.now_s = 1000.0
        self.alive: Callable[[str, float], bool] = lambda _path, _at: True
        self.icmp: Callable[[str, float], bool] = lambda _path, _at: True
        self.sip: Callable[[str, float], bool] = lambda _path, _at: True
        self.control: Callable[[float], bool] = lambda _at: True
        self.dead_targets: frozenset[str] = frozenset()
        self.flows: Callable[[float], tuple[Flow, ...]] = lambda _at: ()
        self.numbers = dict.fromkeys(TARGETS, 0)
        self.due = dict.fromkeys(TARGETS, self.now_s)
        self.flows_due = self.now_s
        self.replies: list[tuple[float, ProbeReplied]] = []
        self.turns: list[tuple[float, Turn]] = []
        self.moves: list[tuple[float, MoveFlows]] = []
        self.told: list[tuple[float, Notify]] = []
        self.state: State = first_state(settings)
        self.tell(LeasesSeen((), self.now_s), *(UplinkSeen(p, a, self.now_s) for p, a in ADDRESSES.items()))

    def tell(self, *facts: Fact) -> Turn:
        result = turn(self.state, facts, Instant(self.now_s, "boot0000", 1.7e9 + self.now_s, "synced"), self.settings)
        self.state = result.state
        self.turns.append((self.now_s, result))
        self.moves.extend((self.now_s, move) for move in result.intents)
        self.told.extend((self.now_s, notice) for notice in result.notices)
        return result

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass, round by round, turning at each fact and at each deadline."""
        end_s = self.now_s + seconds
        while True:
            orders = self.turns[-1][1].orders
            plans = {plan.path: plan for plan in orders.probing}
            for path, plan in plans.items():
                sent_s = self.due[path]
                self.due[path] = min(sent_s, max(self.now_s, self.last_sent(path) + plan.interval_s))
            self.flows_due = min(self.flows_due, self.now_s + orders.flows_every_s)
            replies_s = min((at_s for at_s, _ in self.replies), default=end_s)
            next_s = min(*self.due.values(), self.flows_due, replies_s, self.turns[-1][1].next_deadline, end_s)
            if next_s >= end_s:
                self.now_s = end_s
                return
            self.now_s = max(next_s, self.now_s)
            facts = self._facts(plans)
            if self.flows_due <= self.now_s:
                facts.append(FlowsSeen(self.flows(self.now_s), self.now_s - 0.02, self.now_s))
                self.flows_due = self.now_s + orders.flows_every_s
            self.tell(*facts)

    def last_sent(self, path: str) -> float:
        rounds = self.state.paths[path].window.rounds
        return rounds[-1].sent_s if rounds else self.now_s - 1e6

    @property
    def place(self) -> tuple[str, str]:
        return self.state.place.phase, self.state.place.path

    def lists(self) -> set[str]:
        return {lease.list for lease in self.turns[-1][1].orders.leases or ()}

    def _facts(self, plans: Iterable[str]) -> list[Fact]:
        facts: list[Fact] = [reply for at_s, reply in self.replies if at_s <= self.now_s]
        self.replies = [entry for entry in self.replies if entry[0] > self.now_s]
        facts += [self._round(path) for path in plans if self.due[path] <= self.now_s]
        return facts

    def _round(self, path: str) -> RoundSent:
        plan = next(plan for plan in self.turns[-1][1].orders.probing if plan.path == path)
        self.numbers[path] += 1
        number, at_s = self.numbers[path], self.now_s
        targets = TARGETS[path]
        if plan.sip_every and number % plan.sip_every == 0:
            targets = (*targets, "sip:sbc")
        for target in targets:
            kind = self.sip if target.startswith("sip:") else self.icmp
            if self.alive(path, at_s) and kind(path, at_s) and target not in self.dead_targets:
                self.replies.append((at_s + RTT_S, ProbeReplied(path, number, target, at_s + RTT_S)))
        if self.control(at_s):
            self.replies.append((at_s + 0.001, ProbeReplied(path, number, "control", at_s + 0.001)))
        self.due[path] = at_s + plan.interval_s
        return RoundSent(path, number, at_s, targets)
