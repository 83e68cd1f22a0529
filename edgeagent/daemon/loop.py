"""The loop: facts in, a turn, record, act. The only place where the core meets the world."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edgeagent import texts
from edgeagent.core import journal, status
from edgeagent.core.facts import Fact, Instant, PartFailed, PartWorks, UplinkSeen
from edgeagent.core.failover import HOME
from edgeagent.core.intents import Transition
from edgeagent.core.settings import Settings
from edgeagent.core.turn import Kept, Turn, first_state, kept, reminded, turn
from edgeagent.daemon.actuator import Actuator
from edgeagent.daemon.pollers import Rounds, RouterPoller
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store

log = logging.getLogger(__name__)
RECORD_S = 0.2  # what the record may cost a switch; after that we act and record late
IDLE_S = 5.0
FACTS_MAX = 5000
UNSAVED_MAX = 200
UNSAVED_BYTES = 4 * 2**20  # of facts; a batch of an incident may have 200 KiB
UNQUEUED_MAX = 1000
# How long facts may wait for the disk. A commit writes about 45 KiB, whatever is in it: one every ten minutes is 6.5 MB
# a day, which leaves room for incidents in the 15 MB that a card is to bear (python -m tests.powercut.day).
BATCH_S = 600.0
BATCH_AWAY_S = 60.0
STATE_S = 3600.0  # how often the journal gets a state to start a replay from
AGAIN_S = 10.0  # how often a disk that refused is tried again
READ_AGAIN_S, READ_AGAIN_MOST_S = 1.0, 60.0  # after the first refusal, and after many
HUNG_S = 5.0
RESUME_S, CLOSE_S = 2.0, 2.0
FORGOTTEN_S = 60.0  # then the first mail of an outage must not wait any longer (clause N4)
STOPPED = "stopped"
EVENTS_MAX = 50
PRUNE_S = 86400.0
KEEP_S = 400 * 86400.0  # credits are asked for up to 45 days later; a year and a bit shows the season before


class Event(msgspec.Struct, frozen=True):
    """A transition or a notice of this run; ``number`` counts them from 1, so that a reader knows what is new."""

    number: int
    kind: str
    data: dict[str, Any]
    at_s: float


class Former(msgspec.Struct, frozen=True):
    """What the store held of the last run: its state, and where its journal ends (None: in order)."""

    kept: Kept | None
    broken_off: dict[str, Any] | None


class Loop:
    """Runs turns. ``outgoing`` turns a notice into an outbox entry, ``posted`` is called when some were queued."""

    def __init__(
        self,
        settings: Settings,
        store: Store | None,
        actuator: Actuator,
        router: RouterPoller,
        paths: Mapping[str, Rounds],
        outgoing: Callable[[Any, Instant], Outgoing],
        instant: Callable[[], Instant],
    ) -> None:
        self.settings = settings
        self.store: Store | None = None
        self.actuator = actuator
        self.router = router
        self.paths = paths
        self.outgoing = outgoing
        self.instant = instant
        self.posted: Callable[[], None] = lambda: None
        self.moved: Callable[[], None] = lambda: None
        self.watch: Callable[[bool], None] = lambda _allowed: None
        self.mend: Callable[[tuple[str, ...]], None] = lambda _things: None
        self.state = first_state(settings)
        self.facts: list[Fact] = []
        self.wake = asyncio.Event()
        self.turns = 0
        self.recorder = journal.Recorder()
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self.late = False
        self.trouble: str | None = None  # the fault of the store that was told
        self.unsaved: list[Record] = []
        self.unqueued: list[Outgoing] = []
        self.batched_s = self.tried_s = instant().mono_s
        self.state_kept_s = float("-inf")
        self.saving: set[asyncio.Task[None]] = set()
        self.pruning: set[asyncio.Task[None]] = set()
        self.pruned_s = instant().mono_s
        self.asked_s: float | None = None  # since when the disk owes an answer
        self.failed = False  # the core, which ends the run
        self.loading: asyncio.Task[Former | None] | None = None
        self.forgotten_s = float("inf")
        self.aside: tuple[int, str] | None = None  # the damaged file that was told of
        if store is not None:
            self.use(store)

    def use(self, store: Store) -> None:
        """From now on this is the store. What the last run left is read before anything is written over it."""
        self.store = store
        self.store_works()
        self._look_aside()
        self.tried_s = self.instant().mono_s
        self.loading = asyncio.get_running_loop().create_task(self._former(store))
        self.loading.add_done_callback(lambda _task: self.wake.set())

    def tell(self, fact: Fact) -> None:
        """Hand a fact to the next turn. A flood is cut off at the cap: the oldest fact goes first."""
        if len(self.facts) >= FACTS_MAX:
            del self.facts[0]
        self.facts.append(fact)
        if isinstance(fact, UplinkSeen):
            self.actuator.address_seen(fact.path, fact.address)
        self.wake.set()

    async def run(self) -> None:
        """Turn until cancelled."""
        try:
            await self._resume()
            await self._turn_on()
        except Exception:
            self.failed = True
            raise

    async def _turn_on(self) -> None:
        deadline_s = self.instant().mono_s
        while True:
            wait_s = min(max(0.0, deadline_s - self.instant().mono_s), IDLE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # wait_for may swallow the cancellation that ends us
                    await self.wake.wait()
            self.wake.clear()
            self._remember()
            facts, self.facts = tuple(self.facts), []
            now = self.instant()
            before = self.state
            result = turn(before, facts, now, self.settings)
            self.state = result.state
            self.turns += 1
            self.recorder.add(before, facts, now, result)
            self._note(result, now)
            await self._record(result, now)
            self._prune(now)
            self._act(result)
            if result.state.place.path != before.place.path:
                self.moved()
            deadline_s = result.next_deadline

    def document(self) -> dict[str, Any]:
        """The status as of now."""
        found = status.document(self.state, self.instant(), self.settings)
        found["store"] = "unavailable" if self.trouble or self.late or self.store is None else "good"
        found["plan"] = None  # nothing is metered by this version
        now_s = self.instant().mono_s
        found["events"] = [
            {"number": event.number, "kind": event.kind, "data": event.data, "ago_s": round(now_s - event.at_s, 1)}
            for event in self.events
        ]
        return found

    def _note(self, result: Turn, now: Instant) -> None:
        """Keep the last of what happened for whoever watches."""
        happened = [(transition.kind, transition.data) for transition in result.transitions]
        happened += [
            ("notice", {"kind": notice.kind, "audience": notice.audience, "incident": notice.incident})
            for notice in result.notices
        ]
        for kind, data in happened:
            number = self.events[-1].number + 1 if self.events else 1
            self.events.append(Event(number, kind, data, now.mono_s))

    async def _resume(self) -> None:
        """Begin with what the last run left, where the disk tells it in time."""
        if self.loading is not None:
            await asyncio.wait({self.loading}, timeout=RESUME_S)
        known = self.loading is not None and self.loading.done()
        kept = self._read_former() if known else None
        self.state = first_state(self.settings, kept, self.instant().boot_id, remembers=known)
        self.forgotten_s = self.instant().mono_s + FORGOTTEN_S

    def _remember(self) -> None:
        """What the last run left, where the disk was slow to tell it; a disk that tells nothing is not waited for."""
        now = self.instant()
        late = self.loading is not None and self.loading.done()
        if not late and (self.state.remembers or now.mono_s < self.forgotten_s):
            return
        self._take(now)
        left = self._read_former() if late else None
        self.state = reminded(self.state, left, self.settings, now.boot_id)
        self._keep_state(now)  # a replay goes on from here

    async def _former(self, store: Store) -> Former | None:
        """Read until the disk gives it: the first commit writes over it."""
        again_s = READ_AGAIN_S
        while True:
            self.asked_s = self.instant().mono_s
            try:
                found = await store.load_snapshot()
                tail = await store.journal_tail(1)
                last = None if found is None else msgspec.msgpack.decode(found.body, type=Kept)
            except StoreUnavailable as error:
                self.store_failed(error)
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, READ_AGAIN_MOST_S)
            except msgspec.MsgspecError as error:
                log.warning("no former state: %s", error)
                return None
            else:
                self.store_works()
                self._look_aside()
                ended = not tail or tail[0].kind == STOPPED
                return Former(last, None if ended else {"after": tail[0].seq, "boot_id": tail[0].at.boot_id})

    def _read_former(self) -> Kept | None:
        assert self.loading is not None  # noqa: S101
        task, self.loading = self.loading, None
        former = None if task.cancelled() else task.result()
        if former is None:
            return None
        if former.broken_off is not None:
            # What the last run had not written yet went with it (clause C6).
            self.unsaved.append(Record("gap", self.instant(), former.broken_off))
        return former.kept

    def unstored(self) -> list[Outgoing]:
        """Messages that wait for a disk that does not take them now; they must not wait for it to leave."""
        return self.unqueued if self.trouble or self.late or self.store is None else []

    def pending(self) -> set[str]:
        """The ids of messages that are not on the disk yet."""
        return {message.message_id for message in self.unqueued}

    async def close(self) -> None:
        """An orderly end: what waits is written, as far as the disk takes it in time.

        Nothing before it is known what the last run left, nor after a failure of the core: what the core believes then
        would be written over a state that is better.
        """
        if self.store is None or self.loading is not None or self.failed:
            return
        if self.saving:  # what is being written would be written twice
            _, hung = await asyncio.wait(self.saving, timeout=CLOSE_S)
            if hung:
                return
        now = self.instant()
        self._take(now)
        self.unsaved.append(Record(STOPPED, now))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._save(msgspec.msgpack.encode(kept(self.state, now.boot_id)))

    async def _record(self, result: Turn, now: Instant) -> None:
        """Commit before acting, but never let a slow disk hold a switch up for longer than ``RECORD_S``."""
        for transition in result.transitions:
            _say(transition)
        urgent = bool(result.transitions or result.notices)
        if urgent or self._batch_due(now):
            self._gather(result, now)
        until_s = now.mono_s + RECORD_S
        if urgent:  # a commit of earlier facts may be under way
            await self._saved(until_s)
        if self.store is None or not self._save_due(now, urgent):
            return
        self.tried_s = self.asked_s = now.mono_s
        save = asyncio.create_task(self._save(msgspec.msgpack.encode(kept(self.state, now.boot_id))))
        self.saving.add(save)
        save.add_done_callback(self.saving.discard)
        if urgent:
            await self._saved(until_s)

    async def _saved(self, until_s: float) -> None:
        """Wait for the commit under way, not for longer than a switch may; a disk that is late already gets no more."""
        if not self.saving or self.late:
            return
        await asyncio.wait(self.saving, timeout=max(0.0, until_s - self.instant().mono_s))
        if self.saving:
            log.warning("the disk does not answer; acting now, recording when it does")
            self.late = True

    def _save_due(self, now: Instant, urgent: bool) -> bool:
        if self.saving or self.loading is not None:
            silent = self.asked_s is not None and now.mono_s - self.asked_s >= HUNG_S
            if silent and self.trouble is None:  # a reason that the disk has told itself says more
                self.store_failed(StoreUnavailable("hung", "of this agent"))
            return False
        if self.trouble and not urgent and now.mono_s - self.tried_s < AGAIN_S:
            return False
        return bool(self.unsaved or self.unqueued)

    def _batch_due(self, now: Instant) -> bool:
        """Whether facts have waited long enough."""
        every_s = BATCH_S if self.state.place.phase == HOME else BATCH_AWAY_S
        return now.mono_s - self.batched_s >= every_s or self.recorder.full

    def _gather(self, result: Turn, now: Instant) -> None:
        """Everything that the disk does not have yet: the facts first, then what was decided from them."""
        self.batched_s = now.mono_s
        self._take(now)
        self.unsaved += [Record(transition.kind, now, transition.data) for transition in result.transitions]
        self.unqueued += [self.outgoing(notice, now) for notice in result.notices]
        if now.mono_s - self.state_kept_s >= STATE_S:
            self._keep_state(now)
        self._within_caps(now)

    def _keep_state(self, now: Instant) -> None:
        self.state_kept_s = now.mono_s
        self.unsaved.append(Record("state", now, journal.packed(self.state)))

    def _within_caps(self, now: Instant) -> None:
        """What a dead disk may make us keep (clause C5). Facts go first: they are large. What goes is told as a gap."""
        lost, size = 0, sum(map(_bulk, self.unsaved))
        while size > UNSAVED_BYTES or len(self.unsaved) > UNSAVED_MAX:
            victim = next((one for one in self.unsaved if _bulk(one)), self.unsaved[0])
            self.unsaved.remove(victim)
            lost, size = lost + _told_lost(victim), size - _bulk(victim)
        if lost:
            self.unsaved = [Record("gap", now, {"records": lost}), *self.unsaved]
        if len(self.unqueued) > UNQUEUED_MAX:
            log.error("%d mails are let go: no disk takes them", len(self.unqueued) - UNQUEUED_MAX)
            self.unqueued = self.unqueued[-UNQUEUED_MAX:]

    def _prune(self, now: Instant) -> None:
        """Once a day, beside everything else: a history must not fill the disk (clause C5)."""
        if self.store is None or now.mono_s - self.pruned_s < PRUNE_S:
            return
        self.pruned_s = now.mono_s
        older = None if now.wall is None or now.wall_quality != "synced" else now.wall - KEEP_S
        task = asyncio.create_task(_pruned(self.store, older))
        self.pruning.add(task)
        task.add_done_callback(self.pruning.discard)

    def _take(self, now: Instant) -> None:
        batch = self.recorder.take()
        if batch is not None:
            self.unsaved.append(Record("facts", now, journal.packed(batch)))

    async def _save(self, snapshot: bytes) -> None:
        assert self.store is not None  # noqa: S101
        records, messages = list(self.unsaved), list(self.unqueued)
        written = {id(one) for one in (*records, *messages)}
        try:
            await self.store.commit(records, outbox=messages, snapshot=snapshot)
        except StoreUnavailable as error:
            self.late = error.reason == "hung"  # any other reason is an answer
            self.store_failed(error)
            return
        self.store_works()
        self._look_aside()
        self.unsaved = [record for record in self.unsaved if id(record) not in written]
        self.unqueued = [message for message in self.unqueued if id(message) not in written]
        if messages:
            self.posted()

    def _look_aside(self) -> None:
        """A file that proved to be damaged is renamed, at the opening or at any time later, and begun anew."""
        aside = None if self.store is None else self.store.aside
        if aside is not None and aside != self.aside:
            self.aside = aside
            log.warning("the history was damaged; it is set aside as %s", aside[1])
            self.tell(PartFailed("former store", "store_set_aside", self.instant().mono_s))

    def store_failed(self, error: StoreUnavailable) -> None:
        """Nothing could be stored: said once for each reason, kept in memory, tried again with the next batch."""
        if error.fault != self.trouble:
            log.warning("not recorded, kept in memory: %s", error)
            self.trouble = error.fault
            self.tell(PartFailed("store", error.fault, self.instant().mono_s))

    def store_works(self) -> None:
        """The disk takes what it is given."""
        self.late = False
        if self.trouble is not None:
            self.trouble = None
            self.tell(PartWorks("store", self.instant().mono_s))

    def _act(self, result: Turn) -> None:
        self.actuator.order(result.orders.leases)
        self.actuator.move(result.intents)
        self.router.order(result.orders.flows_every_s, keep_devices=result.orders.keep_devices)
        self.watch(result.orders.watch_rows)
        if result.mend:
            self.mend(result.mend)
        for plan in result.orders.probing:
            self.paths[plan.path].order(plan)


def _told_lost(record: Record) -> int:
    """How many records go with this one: a gap stands for several."""
    return int(record.data.get("records", 1)) if record.kind == "gap" else 1


def _bulk(record: Record) -> int:
    return len(record.data) if isinstance(record.data, bytes) else 0


def _say(transition: Transition) -> None:
    """One line of the log; a fault with its words, for whoever reads the log has nothing else."""
    code = transition.data.get("code")
    if transition.kind == "fault raised":
        what, meaning, todo, who = texts.fault(str(code))
        log.warning("FAULT %s: %s %s To do (%s): %s", code, what, meaning, who, todo)
    else:
        log.info("%s %s", transition.kind, transition.data)


async def _pruned(store: Store, older_than_wall: float | None) -> None:
    try:
        while await store.prune(older_than_wall):
            pass
    except StoreUnavailable as error:
        log.warning("history not pruned: %s", error)
