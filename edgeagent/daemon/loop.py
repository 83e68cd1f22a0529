"""The loop: facts in, a turn, record, act. The only place where the core meets the world."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from edgeagent.core import status
from edgeagent.core.facts import Fact, Instant, UplinkSeen
from edgeagent.core.failover import Place
from edgeagent.core.settings import Settings
from edgeagent.core.turn import Turn, first_state, turn
from edgeagent.daemon.actuator import Actuator
from edgeagent.daemon.pollers import PathPoller, RouterPoller
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store

log = logging.getLogger(__name__)
RECORD_S = 0.2  # what the record may cost a switch; after that we act and record late
IDLE_S = 5.0
FACTS_MAX = 5000
UNSAVED_MAX = 500
PRUNE_S = 86400.0
KEEP_S = 400 * 86400.0  # credits are asked for up to 45 days later; a year and a bit shows the season before


class Snapshot(msgspec.Struct, frozen=True):
    """What a later run of the same boot starts from."""

    boot_id: str
    place: Place


class Loop:
    """Runs turns. ``outgoing`` turns a notice into an outbox entry, ``posted`` is called when some were queued."""

    def __init__(
        self,
        settings: Settings,
        store: Store | None,
        actuator: Actuator,
        router: RouterPoller,
        paths: dict[str, PathPoller],
        outgoing: Callable[[Any, Instant], Outgoing],
        instant: Callable[[], Instant],
    ) -> None:
        self.settings = settings
        self.store = store
        self.actuator = actuator
        self.router = router
        self.paths = paths
        self.outgoing = outgoing
        self.instant = instant
        self.posted: Callable[[], None] = lambda: None
        self.state = first_state(settings)
        self.facts: list[Fact] = []
        self.wake = asyncio.Event()
        self.turns = 0
        self.late = False
        self.failing = False
        self.unsaved: list[tuple[list[Record], list[Outgoing]]] = []
        self.saving: set[asyncio.Task[None]] = set()
        self.pruning: set[asyncio.Task[None]] = set()
        self.pruned_s = instant().mono_s

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
        await self._resume()
        deadline_s = self.instant().mono_s
        while True:
            wait_s = min(max(0.0, deadline_s - self.instant().mono_s), IDLE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):  # wait_for may swallow the cancellation that ends us
                    await self.wake.wait()
            self.wake.clear()
            facts, self.facts = tuple(self.facts), []
            now = self.instant()
            result = turn(self.state, facts, now, self.settings)
            self.state = result.state
            self.turns += 1
            await self._record(result, now)
            self._prune(now)
            self._act(result)
            deadline_s = result.next_deadline

    def document(self) -> dict[str, Any]:
        """The status as of now."""
        found = status.document(self.state, self.instant(), self.settings)
        found["store"] = "unavailable" if self.unsaved or self.store is None else "good"
        return found

    async def _resume(self) -> None:
        if self.store is None:
            return
        try:
            kept = await asyncio.wait_for(self.store.load_snapshot(), 2.0)
            if kept is None:
                return
            snapshot = msgspec.json.decode(kept.body, type=Snapshot)
        except (StoreUnavailable, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("no former state: %s", error)
            return
        if snapshot.boot_id == self.instant().boot_id and snapshot.place.path in self.state.paths:
            self.state = first_state(self.settings, snapshot.place)

    async def _record(self, result: Turn, now: Instant) -> None:
        """Commit before acting, but never let a slow disk hold a switch up for longer than ``RECORD_S``."""
        if not result.transitions and not result.notices and not self.unsaved:
            return
        for transition in result.transitions:
            log.info("%s %s", transition.kind, transition.data)
        records = [Record(transition.kind, now, transition.data) for transition in result.transitions]
        messages = [self.outgoing(notice, now) for notice in result.notices]
        self.unsaved = [*self.unsaved[-UNSAVED_MAX:], (records, messages)] if records or messages else self.unsaved
        if self.store is None or self.saving:
            return
        task = asyncio.create_task(self._save(Snapshot(now.boot_id, result.state.place)))
        self.saving.add(task)
        task.add_done_callback(self.saving.discard)
        done, _ = await asyncio.wait({task}, timeout=RECORD_S)
        if not done and not self.late:
            log.warning("the disk is slow: acting first, recording late")
        self.late = not done

    def _prune(self, now: Instant) -> None:
        """Once a day, beside everything else: a history must not fill the disk (clause C5)."""
        if self.store is None or now.mono_s - self.pruned_s < PRUNE_S:
            return
        self.pruned_s = now.mono_s
        older = None if now.wall is None or now.wall_quality != "synced" else now.wall - KEEP_S
        task = asyncio.create_task(_pruned(self.store, older))
        self.pruning.add(task)
        task.add_done_callback(self.pruning.discard)

    async def _save(self, snapshot: Snapshot) -> None:
        assert self.store is not None  # noqa: S101
        batch = self.unsaved
        records = [record for part, _ in batch for record in part]
        messages = [message for _, part in batch for message in part]
        try:
            await self.store.commit(records, outbox=messages, snapshot=msgspec.json.encode(snapshot))
        except StoreUnavailable as error:
            if not self.failing:
                log.warning("not recorded, kept in memory: %s", error)
            self.failing = True
            return
        self.failing = False
        self.unsaved = [part for part in self.unsaved if part not in batch]
        if messages:
            self.posted()

    def _act(self, result: Turn) -> None:
        self.actuator.order(result.orders.leases)
        self.actuator.move(result.intents)
        self.router.order(result.orders.flows_every_s)
        for plan in result.orders.probing:
            self.paths[plan.path].order(plan)


async def _pruned(store: Store, older_than_wall: float | None) -> None:
    try:
        while await store.prune(older_than_wall):
            pass
    except StoreUnavailable as error:
        log.warning("history not pruned: %s", error)
