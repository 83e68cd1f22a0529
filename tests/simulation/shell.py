"""The agent's shell: sends rounds as ordered, keeps the leases as ordered, moves flows, and may die at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edgeagent.core import turn
from edgeagent.core.facts import (
    DriftSeen,
    Fact,
    FlowsSeen,
    Lease,
    LeasesSeen,
    ProbeReplied,
    RoundSent,
    RouterLost,
    RouterReached,
    UplinkSeen,
)
from edgeagent.core.intents import MoveFlows
from edgeagent.core.settings import Settings
from edgeagent.core.turn import Turn
from tests.simulation.lines import LATE_USELESS_S, noise
from tests.simulation.router import Row

if TYPE_CHECKING:
    from tests.simulation.world import World

RENEW_S = 20.0
SLOW_DISK = 0.25  # of the starts: what was kept is read only after the start
NOTICE_LOSS_S, RECONNECT_S = 1.0, 0.4
FAR = float("inf")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing said to the router: ``add`` or ``remove`` a lease, ``print`` rows or ``flush`` those found."""

    verb: str
    lease: Lease | None = None
    move: MoveFlows | None = None
    rows: tuple[Row, ...] = ()

    def __str__(self) -> str:
        if self.lease is not None:
            return f"{self.verb} {self.lease.list} {self.lease.address}"
        if self.verb == "flush":
            return f"flush {len(self.rows)} rows"
        return f"print rows not of {self.move.path if self.move else '?'}"


class Agent:
    """One process after the other; what a crash loses is reset in `start`."""

    def __init__(self, world: World, settings: Settings, core: Callable[..., Turn]) -> None:
        self.world = world
        self.settings = settings
        self.core = core
        self.life = 0
        self.boots = 0
        self.boot = "boot0000"
        self.alive = False
        self.saved: bytes | None = None
        self.untold: turn.Kept | None = None
        self.numbers = {path.name: 0 for path in settings.paths}
        self.turns = 0

    def start(self, forget: bool) -> None:
        """A new process: with what the last one kept, as far as a reboot of the machine leaves it a meaning."""
        from edgeagent.core.turn import Kept, first_state  # looked up here: a broken core may have replaced it

        if forget:
            self.boots += 1
            self.boot = f"boot{self.boots:04d}"
        self.life += 1
        self.alive = True
        kept = None if self.saved is None else msgspec.msgpack.decode(self.saved, type=Kept)
        self.untold = kept if noise(5, int(self.world.now)) < SLOW_DISK else None
        if self.untold is not None:
            self.world.at(self.world.now + 1.0 + 60.0 * noise(6, int(self.world.now)) ** 2, self._remind, self.life)
        known = self.untold is None
        self.state = first_state(self.settings, kept if known else None, self.boot, remembers=known)
        self.last: Turn | None = None
        self.contact = False
        self.link = 0  # counts API connections; answers of a former one are not heard
        self.believed: set[Lease] = set()
        self.busy: Sentence | None = None
        self.said_under: frozenset[Lease] | None = None  # what was ordered when the sentence now out was said
        self.flush_next: Sentence | None = None
        self.moves: list[MoveFlows] = []
        self.sent = dict.fromkeys(self.numbers, float("-inf"))
        self.due = dict.fromkeys(self.numbers, self.world.now)
        self.flows_due = FAR
        self.renew_due = self.world.now + RENEW_S
        self.told_counts: object = None
        self.still_changing = True
        self.world.mail.started(self.world.instant())
        self.tell([])
        if self.world.api_up:
            self.world.at(self.world.now + RECONNECT_S, self.reached, self.life)

    def _remind(self, life: int) -> None:
        """The disk tells at last what the process before had kept; until then nothing was written over it."""
        if life != self.life or not self.alive or self.untold is None:
            return
        self.world.check.replays()
        self.state = turn.reminded(self.state, self.untold, self.settings, self.boot)
        self.untold = None
        self.saved = msgspec.msgpack.encode(turn.kept(self.state, self.boot))
        self.world.check.judged["reminded late"] += 1
        self.tell([])

    def die(self, in_flight_applies: bool) -> None:
        if in_flight_applies and self.busy is not None:
            self.world.apply(self.busy)
        self.alive = False
        self.busy = None

    # --- one turn ----------------------------------------------------------------------------------------------

    def tell(self, facts: list[Fact]) -> None:
        """One turn, and what its orders change at once."""
        world = self.world
        now = world.instant()
        before = self.state
        result = self.core(before, tuple(facts), now, self.settings)
        self.turns += 1
        self.state = result.state
        self.last = result
        if self.untold is None and (result.transitions or result.notices):  # what the daemon commits a snapshot with
            self.saved = msgspec.msgpack.encode(turn.kept(result.state, self.boot))
        for move in result.intents:
            self.moves = [kept for kept in self.moves if kept.path == move.path]
            if self.flush_next is not None and self.flush_next.move and self.flush_next.move.path != move.path:
                self.flush_next = None
            self.moves.append(move)
        world.turned(before, tuple(facts), now, result)
        world.mail.notices(result.notices, now)
        if result.state.place.path != before.place.path:
            world.mail.way_changed()
        self._replan(result)
        self.pump()

    def _replan(self, result: Turn) -> None:
        now_s = self.world.now
        for plan in result.orders.probing:
            due_s = self.sent[plan.path] + plan.interval_s
            self.due[plan.path] = due_s if due_s > now_s else now_s
        if self.contact:
            self.flows_due = min(self.flows_due, now_s + result.orders.flows_every_s)

    # --- probing -----------------------------------------------------------------------------------------------

    def send_round(self, path: str) -> None:
        """One round now; its answers come as later facts."""
        world, line = self.world, self.world.lines[path]
        assert self.last is not None
        plan = next(plan for plan in self.last.orders.probing if plan.path == path)
        self.numbers[path] += 1
        number, now_s = self.numbers[path], world.now
        targets = line.targets
        if plan.sip_every and number % plan.sip_every == 0:
            targets = (*targets, "sip:sbc")
        replies: list[Fact] = []
        after_s = 0.0
        answerable = False
        for target in targets:
            wait_s = line.answers(target, number)
            if wait_s is None:
                continue
            answerable = answerable or wait_s <= LATE_USELESS_S
            after_s = wait_s
            replies.append(ProbeReplied(path, number, target, now_s + wait_s))
        line.round_sent(answerable, now_s)
        self.sent[path] = now_s
        self.due[path] = now_s + plan.interval_s
        world.facts.append(RoundSent(path, number, now_s, targets))
        if not world.card_dead:
            world.facts.append(ProbeReplied(path, number, "control", now_s))
            if replies:
                world.emit(now_s + after_s, replies)

    # --- the router --------------------------------------------------------------------------------------------

    def reached(self, life: int) -> None:
        """The API answers again: look before acting."""
        if life != self.life or not self.alive or not self.world.api_up or self.contact:
            return
        now_s = self.world.now
        self.contact = True
        self.link += 1
        self.world.router.expire(now_s)
        self.believed = set(self.world.router.leases)
        self.flows_due = now_s
        self.renew_due = now_s + 0.01  # what is held may be about to lapse, but first the core looks at it
        self.world.facts.append(RouterReached(now_s))
        self.world.facts.extend(UplinkSeen(line.name, line.address, now_s) for line in self.world.lines.values())
        self.world.facts.append(LeasesSeen(tuple(sorted(self.believed)), now_s))
        self.world.facts.append(DriftSeen((), True, now_s))

    def lost(self, in_flight_applies: bool) -> None:
        """The API stops answering, perhaps after the last sentence took effect."""
        if not self.alive:
            return
        if in_flight_applies and self.busy is not None:
            self.world.apply(self.busy)
        self.contact = False
        self.link += 1
        self.flows_due = FAR
        if self.busy is not None and self.busy.move is not None:
            self.moves.insert(0, self.busy.move)
        self.busy = None
        self.world.at(self.world.now + NOTICE_LOSS_S, self._loss_noticed, self.life, self.link)

    def _loss_noticed(self, life: int, link: int) -> None:
        if life == self.life and self.alive:
            self.world.facts.append(RouterLost("router_unreachable", self.world.now))

    def read_flows(self) -> None:
        """Ask for the rows; the answer is as old as the API is slow."""
        world = self.world
        assert self.last is not None
        self.flows_due = world.now + self.last.orders.flows_every_s
        world.at(world.now + world.latency(7), self._flows_read, self.life, self.link, world.now)

    def _flows_read(self, life: int, link: int, asked_s: float) -> None:
        if life != self.life or link != self.link or not self.alive:
            return
        world = self.world
        world.talk()
        world.facts.append(FlowsSeen(world.router.flows(world.now), asked_s, world.now))

    def renew(self) -> None:
        """Keep what is ordered alive; an entry that is gone is found out by the trap."""
        self.renew_due = self.world.now + (RENEW_S if self.contact else 1.0)
        if not self.contact or self.last is None:
            return
        if self.last.orders.leases is None:
            self.renew_due = self.world.now + 0.5
            return
        for lease in self.last.orders.leases & self.believed:
            if not self.world.router.renew(lease, self.world.now):
                self.believed.discard(lease)
        self.pump()

    def pump(self) -> None:
        """Say the next sentence, if one is owed and none is out."""
        if self.busy is not None or not self.contact or not self.alive:
            return
        sentence = self._owed()
        if sentence is None:
            return
        self.busy = sentence
        self.said_under = self.last.orders.leases if self.last is not None else None
        wait_s = self.world.latency(len(str(sentence)))
        self.world.at(self.world.now + wait_s, self._answered, self.life, self.link, sentence)
        self.world.said()

    def _owed(self) -> Sentence | None:
        wanted = self.last.orders.leases if self.last is not None else None
        if wanted is not None:
            missing = wanted - self.believed
            if missing:
                return Sentence("add", min(missing))
            extra = self.believed - wanted
            if extra:
                return Sentence("remove", min(extra))
        if self.flush_next is not None:
            sentence, self.flush_next = self.flush_next, None
            return sentence
        return Sentence("print", move=self.moves.pop(0)) if self.moves else None

    def _answered(self, life: int, link: int, sentence: Sentence) -> None:
        if life != self.life or link != self.link or not self.alive:
            return
        self.busy = None
        self.world.apply(sentence)
        if sentence.verb == "add" and sentence.lease:
            self.believed.add(sentence.lease)
        elif sentence.verb == "remove" and sentence.lease:
            self.believed.discard(sentence.lease)
        elif sentence.verb == "print" and sentence.move is not None:
            rows = tuple(self.world.router.wrong_rows(sentence.move))
            if rows:
                self.flush_next = Sentence("flush", move=sentence.move, rows=rows)
        self.pump()
