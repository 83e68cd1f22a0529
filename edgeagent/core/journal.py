"""The facts behind every decision, kept small, and the decisions made from them again (clause C6).

Each turn that may matter is kept as it was: its moment and its facts. A quiet stretch, in which every round was
answered in full and nothing was decided, is kept as one fact per path (RoundsAnswered), a reading of the voice rows as
what differs from the one before (FlowsChanged). Kept facts, the configuration and a state to start from give the same
decisions again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.detector import UP
from edgeagent.core.facts import (
    Fact,
    Flow,
    FlowKey,
    FlowsSeen,
    Instant,
    LeasesSeen,
    ProbeReplied,
    RoundsAnswered,
    RoundSent,
)
from edgeagent.core.settings import Settings
from edgeagent.core.turn import State, Turn, turn
from edgeagent.core.window import CONTROL, SIP

TURNS_MAX = 4000  # of one batch; at ten rounds a second on a suspect line this is over a minute
ROWS_MAX = 5000  # of the router in a batch's facts: 3 MiB. Forty phones in calls all the time make fewer in ten minutes


class FlowsChanged(Struct, frozen=True, tag=True):
    """A reading of the voice rows: those of the last one less ``gone``, with ``changed`` in their place or behind.

    Of a row whose counters stand still the idle time is not kept: it decides nothing.
    """

    changed: tuple[Flow, ...]
    gone: tuple[FlowKey, ...]
    asked_s: float
    at_s: float


class Turned(Struct, frozen=True, array_like=True):
    """One turn as the journal keeps it. ``mono_s`` is of the batch's boot."""

    mono_s: float
    wall: float | None
    wall_quality: str
    facts: tuple[Fact | FlowsChanged, ...]


class Batch(Struct, frozen=True):
    """Turns of one boot, in order. ``lost``: how many older ones had to be let go because no disk took them."""

    boot_id: str
    turns: tuple[Turned, ...]
    lost: int = 0


class Recorder:
    """Takes each turn in; ``take`` hands out what is to be kept since the last time."""

    def __init__(self) -> None:
        self._boot_id = ""
        self._flows: tuple[Flow, ...] | None = None  # the last reading of this batch
        self._turns: list[Turned] = []
        self._open: dict[tuple[str, int], tuple[RoundSent, set[str]]] = {}  # rounds of the quiet stretch, by number
        self._heard: list[tuple[Instant, tuple[Fact, ...]]] = []  # the stretch as it was, until it proves to be quiet
        self._lost = 0
        self._rows = 0  # in the kept turns' facts

    def add(self, before: State, facts: tuple[Fact, ...], now: Instant, result: Turn) -> None:
        """Note one turn."""
        self._boot_id = now.boot_id
        if _calm(before, facts, result):
            if facts:
                self._listen(now, facts)
            return
        self._settle()
        self._keep(now, facts)

    def take(self, lost: int = 0) -> Batch | None:
        """Everything since the last time; None where there was nothing. ``lost``: turns that no disk took before."""
        self._settle()
        turns, self._turns = tuple(self._turns), []
        lost, self._lost = lost + self._lost, 0
        self._flows, self._rows = None, 0
        return Batch(self._boot_id, turns, lost) if turns or lost else None

    @property
    def size(self) -> int:
        """How many turns wait to be taken."""
        return len(self._turns) + len(self._heard)

    @property
    def full(self) -> bool:
        """Whether it should be taken now, whatever the time: a router may flood us (clauses C5, X3)."""
        return self.size >= TURNS_MAX // 2 or self._rows >= ROWS_MAX

    def _keep(self, now: Instant, facts: tuple[Fact, ...]) -> None:
        if len(self._turns) >= TURNS_MAX:
            del self._turns[0]
            self._lost += 1
        short = tuple(self._short(fact) for fact in facts)
        self._rows += sum(map(_row_count, short))
        self._turns.append(Turned(now.mono_s, now.wall, now.wall_quality, short))

    def _short(self, fact: Fact) -> Fact | FlowsChanged:
        if not isinstance(fact, FlowsSeen):
            return fact
        before, self._flows = self._flows, fact.flows
        if before is None:
            return fact
        short = _changes(before, fact)
        # Rows that stand in another order, or twice, are kept as they were read.
        return short if _counters(_flows_after(before, short)) == _counters(fact.flows) else fact

    def _listen(self, now: Instant, facts: tuple[Fact, ...]) -> None:
        self._heard.append((now, facts))
        for fact in facts:
            if isinstance(fact, RoundSent):
                self._open[fact.path, fact.number] = (fact, set())
            elif isinstance(fact, ProbeReplied) and (fact.path, fact.number) in self._open:
                self._open[fact.path, fact.number][1].add(fact.target)
        if len(self._heard) >= TURNS_MAX:
            self._settle()

    def _settle(self) -> None:
        """End the stretch: as far as every round was answered in full, it was quiet."""
        heard, self._heard = self._heard, []
        rounds, self._open = self._open, {}
        whole = {key for key, (sent, heard_of) in rounds.items() if _answered(sent, heard_of)}
        index = 0
        while index < len(heard):
            quiet = _quiet_length(heard[index:], whole)
            if quiet:
                self._keep(heard[index + quiet - 1][0], _stretch(heard[index : index + quiet]))
                index += quiet
            else:  # kept as it was; the answers to what was sent here are then kept as well
                now, facts = heard[index]
                self._keep(now, facts)
                whole -= {(fact.path, fact.number) for fact in facts if isinstance(fact, RoundSent)}
                index += 1


def replayed(state: State, batches: Iterable[Batch], settings: Settings) -> Iterator[Turn]:
    """Every kept turn again, from ``state`` on; the batches in order and of the state's own boot."""
    for batch in batches:
        flows: tuple[Flow, ...] = ()
        for one in batch.turns:
            facts: list[Fact] = []
            for fact in one.facts:
                if isinstance(fact, FlowsChanged):
                    fact = FlowsSeen(_flows_after(flows, fact), fact.asked_s, fact.at_s)  # noqa: PLW2901
                if isinstance(fact, FlowsSeen):
                    flows = fact.flows
                facts.append(fact)
            now = Instant(one.mono_s, batch.boot_id, one.wall, one.wall_quality)
            result = turn(state, tuple(facts), now, settings)
            state = result.state
            yield result


def packed(value: Batch | State) -> bytes:
    """As bytes. MessagePack, because JSON has neither infinity nor keys that are no text."""
    return msgspec.msgpack.encode(value)


def unpacked_batch(data: bytes) -> Batch:
    """Raises msgspec.MsgspecError for bytes that are none."""
    return msgspec.msgpack.decode(data, type=Batch)


def unpacked_state(data: bytes) -> State:
    """Raises msgspec.MsgspecError for bytes that are none."""
    return msgspec.msgpack.decode(data, type=State)


def _row_count(fact: Fact | FlowsChanged) -> int:
    match fact:
        case FlowsSeen():
            return len(fact.flows)
        case FlowsChanged():
            return len(fact.changed) + len(fact.gone)
        case LeasesSeen():
            return len(fact.leases)
    return 0


def _counters(flows: Iterable[Flow]) -> list[Flow]:
    return [replace(flow, idle_s=None) for flow in flows]


def _changes(before: tuple[Flow, ...], fact: FlowsSeen) -> FlowsChanged:
    old = {flow.key: replace(flow, idle_s=None) for flow in before}
    changed = tuple(flow for flow in fact.flows if old.get(flow.key) != replace(flow, idle_s=None))
    gone = old.keys() - {flow.key for flow in fact.flows}
    return FlowsChanged(changed, tuple(sorted(gone)), fact.asked_s, fact.at_s)


def _flows_after(before: tuple[Flow, ...], change: FlowsChanged) -> tuple[Flow, ...]:
    found = {flow.key: flow for flow in before}
    for key in change.gone:
        del found[key]
    found |= {flow.key: flow for flow in change.changed}
    return tuple(found.values())


def _calm(before: State, facts: tuple[Fact, ...], result: Turn) -> bool:
    """Whether the turn decided nothing and heard of nothing but rounds, with no round lost before or after it."""
    if result.transitions or result.notices or result.intents or not _steady(before, result.state):
        return False
    return all(isinstance(fact, RoundSent | ProbeReplied) for fact in facts)


def _steady(before: State, after: State) -> bool:
    """Whether only the windows changed, and every path is up and has been answered without a gap."""
    if before.place != after.place or before.faults != after.faults or after.again:
        return False
    return all(
        path.verdict == before.paths[name].verdict == UP
        and path.lost == before.paths[name].lost == 0
        and path.good_since_s == before.paths[name].good_since_s is not None
        for name, path in after.paths.items()
    )


def _answered(sent: RoundSent, heard_of: set[str]) -> bool:
    return bool(sent.targets) and {*sent.targets, CONTROL} <= heard_of


def _stretch(heard: list[tuple[Instant, tuple[Fact, ...]]]) -> tuple[RoundsAnswered, ...]:
    last: dict[tuple[str, bool], RoundSent] = {}
    for _, facts in heard:
        for fact in facts:
            if isinstance(fact, RoundSent):
                last[fact.path, _with_sip(fact)] = fact
    ends = sorted(last.values(), key=lambda sent: sent.at_s)
    return tuple(RoundsAnswered(sent.path, sent.number, sent.at_s, sent.targets) for sent in ends)


def _with_sip(sent: RoundSent) -> bool:
    """A stretch has two ends: the last round of all and the last that asked SIP, which has a say of its own."""
    return any(target.startswith(SIP) for target in sent.targets)


def _quiet_length(heard: list[tuple[Instant, tuple[Fact, ...]]], whole: set[tuple[str, int]]) -> int:
    """How many turns from the beginning hold only rounds that were answered in full, with all their answers."""
    waiting: dict[tuple[str, int], int] = {}
    quiet = 0
    for index, (_, facts) in enumerate(heard, 1):
        for fact in facts:
            assert isinstance(fact, RoundSent | ProbeReplied)  # noqa: S101  (see _calm)
            key = fact.path, fact.number
            if key not in whole:
                return quiet
            if isinstance(fact, RoundSent):
                waiting[key] = len(fact.targets) + 1
            else:
                waiting[key] = waiting.get(key, 0) - 1
        if not any(waiting.values()):
            quiet = index
    return quiet
