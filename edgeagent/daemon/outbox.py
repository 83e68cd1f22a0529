"""The messages that have not left yet, as the postman sees them: those on disk, and those that no disk would take.

Every change is made in memory first and owed to the store until the store has taken it, so that a full or hanging disk
holds no mail up (clause C3) and a message that has left is never sent again by this run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgeagent.core.facts import Instant
from edgeagent.core.intents import Notify
from edgeagent.core.post import Done, Unsent
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing

if TYPE_CHECKING:
    from edgeagent.store.records import Queued, Sent
    from edgeagent.store.store import Store

log = logging.getLogger(__name__)
STORE_S = 2.0
SYNCED = "synced"
DONE_MAX = 200
OWED_MAX = 1000
Change = Callable[["Store"], Awaitable[object]]


class Outbox:
    """``store``: the store, None while there is none. ``unstored``: messages that wait in memory for a disk that does
    not take them now; ``pending``: the ids of all that it has not taken yet, the next commit's included.
    """

    def __init__(
        self,
        store: Callable[[], Store | None],
        unstored: Callable[[], Sequence[Outgoing]],
        pending: Callable[[], set[str]],
        instant: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._unstored = unstored
        self._pending = pending
        self._instant = instant
        self._stored: list[Unsent] = []
        self._merged: dict[str, Unsent] = {}  # messages made or saved here that the store has not taken yet
        self._aside: tuple[int, str] | None = None  # the damaged file that this has seen to
        self._gone: set[str] = set()  # sent, merged or dropped by this run
        self._taken: set[str] = set()  # a server may have them, though the store does not say so
        self._owed: deque[tuple[frozenset[str], Change]] = deque(maxlen=OWED_MAX)  # of which messages, and what
        self._done: deque[Done] = deque(maxlen=DONE_MAX)
        self._read_done = False

    async def queue(self) -> list[Unsent]:
        """Everything unsent, oldest first."""
        await self.settle()
        await self._read()
        found = {one.id: one for one in self._stored}
        found |= {key: one for key, one in self._merged.items() if key not in found}
        for message in self._unstored():
            found.setdefault(message.message_id, unsent_of(message))
        return [
            msgspec.structs.replace(one, maybe_taken=one.maybe_taken or one.id in self._taken)
            for one in found.values()
            if one.id not in self._gone
        ]

    def done(self) -> list[Done]:
        """The last messages that left, oldest first."""
        return list(self._done)

    def sent(self, one: Unsent, now: Instant, answer: str) -> None:
        """The server took it."""
        self._gone.add(one.id)
        # The store keeps no quality with it: a time of day that is not to be trusted is kept as none.
        noted = now if now.wall_quality == SYNCED else msgspec.structs.replace(now, wall=None)
        self._done.append(Done(one.notice.audience, one.notice.incident, noted))
        self._owe({one.id}, lambda store: store.mark_sent(one.id, noted, answer))

    async def handing_over(self, one: Unsent, now: Instant) -> None:
        """From here on the server may have it, whatever becomes of us: recorded before it is done (clause N3)."""
        if one.maybe_taken or one.id in self._taken:
            return
        self._taken.add(one.id)
        self._owe({one.id}, _noting_taken(one.id, now))
        await self.settle()

    def failed(self, one: Unsent, now: Instant, why: str, next_s: float) -> None:
        """It was tried in vain; worth a write only where that says something new."""
        self._owe({one.id}, lambda store: store.mark_try(one.id, why, now, next_s))

    def dropped(self, message_id: str, reason: str) -> None:
        """It will not be sent."""
        self._gone.add(message_id)
        self._owe({message_id}, lambda store: store.commit([], dropped={message_id: reason}))

    def merged(self, ids: Sequence[str], into: Outgoing) -> None:
        """One message stands for several from now on."""
        self._gone.update(ids)
        self._merged[into.message_id] = unsent_of(into)
        told = dict.fromkeys(ids, into.message_id)
        self._owe(ids, lambda store: store.commit([], outbox=[into], merged=told))

    def _owe(self, ids: Iterable[str], change: Change) -> None:
        self._owed.append((frozenset(ids), change))

    async def settle(self) -> None:
        """Give the store what it is owed, in order, as far as it takes it.

        What becomes of a message is told only once its row is there: changing no row succeeds, even on a full disk, and
        the row would come later as one that was never sent (clause N3).
        """
        store = self._store()
        while self._owed and store is not None and not self._owed[0][0] & self._pending():
            owed = self._owed[0]
            try:
                async with asyncio.timeout(STORE_S):
                    await owed[1](store)
            except (StoreUnavailable, TimeoutError) as error:
                log.debug("the outbox is owed %d changes: %s", len(self._owed), error)
                return
            except Exception:  # one that no store will ever take must not keep the others waiting
                log.exception("the store refused what became of %s", ", ".join(sorted(owed[0])))
            if self._owed and self._owed[0] is owed:
                self._owed.popleft()

    def _save_again(self, lost: Iterable[Unsent]) -> None:
        """What was in a file that has been set aside is known here still, and goes into the new one (clause N2)."""
        now = self._instant()
        for one in lost:
            self._merged[one.id] = one
            notice = one.notice
            again = Outgoing(one.id, notice.incident, notice.audience, notice.kind, notice, one.created)
            self._owe({one.id}, _queueing(again))
            if one.maybe_taken:
                self._owe({one.id}, _noting_taken(one.id, now))

    async def _read(self) -> None:
        store = self._store()
        if store is None:
            return
        pending = self._pending()  # before the reading: what is stored during it is in neither otherwise
        try:
            async with asyncio.timeout(STORE_S):
                former, found = self._stored, await store.outbox_queued()
                self._stored = [unsent_of_queued(one) for one in found]
                if store.aside != self._aside:
                    self._aside = store.aside
                    self._save_again([one for one in former if one.id not in self._gone])
                if not self._read_done:
                    read = [done_of(one) for one in await store.outbox_sent()]
                    own = list(self._done)  # what this run sent before the disk answered; perhaps noted there already
                    self._done = deque([*(one for one in read if one not in own), *own], DONE_MAX)
                    self._read_done = True
        except (StoreUnavailable, TimeoutError) as error:
            log.debug("the outbox cannot be read: %s", error)
            return
        known = {one.id for one in self._stored}
        self._merged = {key: one for key, one in self._merged.items() if key not in known | self._gone}
        if not self._owed:
            self._gone &= known | pending | self._pending()


def _queueing(message: Outgoing) -> Change:
    return lambda store: store.commit([], outbox=[message])


def _noting_taken(message_id: str, now: Instant) -> Change:
    return lambda store: store.mark_try(message_id, "", now, now.mono_s, maybe_taken=True)


def done_of(sent: Sent) -> Done:
    """A message that the store knows as sent; its time of day stands there only where it was to be trusted."""
    quality = "unknown" if sent.sent_at is None else SYNCED
    return Done(sent.audience, sent.incident, Instant(sent.sent_mono_s or 0.0, sent.sent_boot, sent.sent_at, quality))


def unsent_of(message: Outgoing) -> Unsent:
    """A message on its way to the store."""
    notice: Notify = message.payload
    return Unsent(message.message_id, notice, message.created)


def unsent_of_queued(queued: Queued) -> Unsent:
    """A stored message. One that a later version wrote, which this one cannot read, is told by its kind alone."""
    try:
        notice = msgspec.json.decode(queued.payload, type=Notify)
    except msgspec.MsgspecError:
        notice = Notify(queued.incident, queued.kind, queued.audience, {})
    return Unsent(queued.message_id, notice, queued.created, queued.maybe_taken)
