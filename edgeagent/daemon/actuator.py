"""Acting: makes the router's timed entries what the orders say, then moves the flows that stand in the way.

One connection, nothing else on it, so that a switch never waits behind a reading. Everything here is idempotent: after
any failure the connection is opened anew, what the router holds is read, and the difference is worked off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

from edgeagent.config.site import PathConfig
from edgeagent.core.facts import (
    Fact,
    Lease,
    LeasesSeen,
    LedBy,
    PartFailed,
    PartWorks,
    RouterLost,
    RouterReached,
    UplinkSeen,
)
from edgeagent.core.intents import MoveFlows
from edgeagent.daemon import survey
from edgeagent.routeros import leases, sentences, uplinks, values, versions
from edgeagent.routeros.diff import lease_changes
from edgeagent.routeros.errors import RouterError, RouterTrap
from edgeagent.routeros.flows import in_the_way
from edgeagent.routeros.sentences import lease_timeout_s
from edgeagent.routeros.session import Session

log = logging.getLogger(__name__)
RENEW_S = {timeout_s: timeout_s / 3 for timeout_s in (sentences.SHORT_LEASE_S, sentences.LEASE_S)}
LIVELY_S = 10.0
AGAIN_S = 5.0  # a router that refuses our leases is asked again so often
MOVES_MAX = 64
FOREIGN_TOLD = 8
TOGETHER_MAX = 1000  # rows removed or renewed by one sentence, which has its limit


class Actuator:
    """Holds leases and moves flows. ``turned`` must be called at each turn: a core that hangs loses its leases."""

    def __init__(
        self,
        open_session: Callable[[], Awaitable[Session]],
        paths: tuple[PathConfig, ...],
        lists: tuple[str, ...],
        marks: tuple[str, ...],
        media_marks: frozenset[str],
        owner: str,
        tell: Callable[[Fact], None],
        now: Callable[[], float],
    ) -> None:
        self.open_session = open_session
        self.paths = paths
        self.lists = lists
        self.marks = marks
        self.media_marks = media_marks
        self.owner = owner
        self.tell = tell
        self.now = now
        self.wanted: frozenset[Lease] | None = None
        self.held: dict[Lease, str] = {}
        self.foreign: frozenset[Lease] = frozenset()
        self.leader = ""  # another agent, which leads: then everything here is only looked at (clause P7)
        self.addresses: dict[str, str] = {}
        self.moves: deque[MoveFlows] = deque(maxlen=MOVES_MAX)
        self.wake = asyncio.Event()
        self.watching = False  # a router of an unknown version is watched only
        self.troubles: dict[str, str] = {}
        self.renewed_s = dict.fromkeys(RENEW_S, float("-inf"))  # by the timeout that is renewed
        self.turned_s = float("-inf")
        self.beat_s = float("-inf")  # when it last got on, were it only with finding no router
        self.attempted = asyncio.Event()  # the first reconciling, whether or not it succeeded

    def order(self, wanted: frozenset[Lease] | None) -> None:
        """Hold exactly these from now on."""
        self.turned_s = self.now()
        if self.leader:
            return  # decided before the core knew of the other
        if wanted is not None and wanted != self.wanted:
            self.wanted = wanted
            self.wake.set()

    def move(self, moves: tuple[MoveFlows, ...]) -> None:
        """Move these flows once the leases stand."""
        for one in () if self.leader else moves:
            if one.sources is None:
                self.moves.clear()  # all flows belong elsewhere now: what could not be done yet must not be done later
            self.moves.append(one)
            self.wake.set()

    def address_seen(self, path: str, address: str | None) -> None:
        """The router's present address on a path's uplink."""
        if address is not None:
            self.addresses[path] = address

    async def run(self) -> None:
        """Work until the connection fails; raises RouterError."""
        self.beat_s = self.now()
        try:
            await self._work()
        finally:
            self.attempted.set()

    async def _work(self) -> None:
        try:
            session = await self.open_session()
        except RouterError as error:
            self.tell(RouterLost(error.fault, self.now()))
            raise
        try:
            await self._greet(session)
            while True:
                await self._reconcile(session)
                self.attempted.set()
                self.beat_s = self.now()
                await self._wait()
        except RouterError as error:
            self.tell(RouterLost(error.fault, self.now()))
            raise
        finally:
            await session.close()

    async def _greet(self, session: Session) -> None:
        """Learn what the router is and holds before wanting anything of it."""
        resource = await session.print("/system/resource", ("version",))
        standing = versions.standing(resource[0].get("version", "") if resource else "")
        self.watching = standing == versions.UNLISTED
        self._part("version", {versions.KNOWN: None}.get(standing, f"router_version_{standing}"))
        rows = await session.print("/ip/address", uplinks.FIELDS)
        hops = await survey.next_hops(session, self.paths)
        for path in self.paths:
            address = uplinks.address_beside(rows, path.interface, hops[path.name])
            self.address_seen(path.name, address)
            self.tell(UplinkSeen(path.name, address, self.now()))
        await self._read_held(session)
        self.tell(RouterReached(self.now()))
        if not self.leader:
            self.tell(LeasesSeen(tuple(sorted(self.held)), self.now()))

    async def _read_held(self, session: Session) -> None:
        rows = await session.send(sentences.leases_print(self.lists))
        self.held, self.foreign = leases.held(rows, self.lists)
        self._led_by(leases.other_leader(rows, self.owner))
        if self.foreign:
            some = ", ".join(f"{lease.list} {lease.address}" for lease in sorted(self.foreign)[:FOREIGN_TOLD])
            count = len(self.foreign)
            log.warning("entries without a time stand in our lists, %d: %s; remove them by hand", count, some)

    def _led_by(self, other: str) -> None:
        """Another agent leads, or no longer does: then what it has left is adopted, as at a start."""
        if other == self.leader:
            return
        gone, self.leader = not other, other
        self.wanted = None
        self.moves.clear()
        self.tell(LedBy(other, self.now()))
        if gone:
            self.tell(LeasesSeen(tuple(sorted(self.held)), self.now()))

    async def _wait(self) -> None:
        due_s = AGAIN_S if self.leader or "leases" in self.troubles else self._renewal_s() - self.now()
        try:
            async with asyncio.timeout(max(0.05, due_s)):  # wait_for may swallow the cancellation that ends us
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()

    def _renewal_s(self) -> float:
        """When the next renewal is due, of whichever kind."""
        return min(at_s + RENEW_S[timeout_s] for timeout_s, at_s in self.renewed_s.items())

    async def _reconcile(self, session: Session) -> None:
        """Leases first, then one move after the other; a change of what is wanted goes before the next move."""
        self.beat_s = self.now()
        if self.watching:
            await self._watch(session)
        elif self.leader:
            await self._read_held(session)
        while (wanted := self.wanted) is not None and not self.watching:
            self.beat_s = self.now()
            if not await self._held(session, wanted):
                return
            if self.wanted != wanted:
                continue  # moves that came with the new order come after its leases
            if not self.moves:
                return
            move = self.moves[0]
            done = await self._move(session, move)
            if done and self.moves and self.moves[0] is move:  # not before: the connection may fail meanwhile
                self.moves.popleft()

    async def _watch(self, session: Session) -> None:
        """Nothing is wanted of this router; a connection on which nothing is said would be lost unnoticed."""
        if self.now() >= self._renewal_s():
            await self._read_held(session)
            self.renewed_s = dict.fromkeys(RENEW_S, self.now())

    async def _held(self, session: Session, wanted: frozenset[Lease]) -> bool:
        """Whether the leases stand. One that lapsed meanwhile makes the router trap: then they are read anew, once.

        A router that refuses all the same would refuse again at once: it is told, and tried again at the next renewal.
        """
        for again in (False, True):
            try:
                await self._hold(session, wanted)
            except RouterTrap as trap:
                if again:
                    self._part("leases", trap.fault)
                    return False
                log.warning("leases: %s; reading them anew", trap)
                await self._read_held(session)
                if self.leader:
                    return False  # that is why; it is told, and nothing of theirs is touched
            else:
                self._part("leases", None)
                break
        return True

    def _part(self, part: str, code: str | None) -> None:
        """Tell of a part of ours, once for each change."""
        if code == self.troubles.get(part):
            return
        if code is None:
            del self.troubles[part]
            self.tell(PartWorks(part, self.now()))
        else:
            self.troubles[part] = code
            self.tell(PartFailed(part, code, self.now()))

    async def _hold(self, session: Session, wanted: frozenset[Lease]) -> None:
        """Add before remove, and renew by set alone: at no moment is a lease missing that shall stand (clause P2)."""
        changes = lease_changes(wanted - self.foreign, self.held)
        unnamed = False
        for lease in changes.add:
            rows = await session.send(sentences.lease_add(lease, self.owner))
            number = values.row_id(rows[-1], "ret") if rows else None
            if number is None:
                unnamed = True
            else:
                self.held[lease] = number
        for some in _together(changes.remove):
            await session.send(sentences.leases_remove(some))
            gone = set(some)
            self.held = {lease: row_id for lease, row_id in self.held.items() if row_id not in gone}
        if self.now() - self.turned_s < LIVELY_S:
            await self._renew(session, new=frozenset(changes.add))
        if unnamed:  # a router that does not say what it has made is asked
            await self._read_held(session)

    async def _renew(self, session: Session, new: frozenset[Lease]) -> None:
        """Each kind by its own time; what was just taken is fresh."""
        for timeout_s, every_s in RENEW_S.items():
            if self.now() - self.renewed_s[timeout_s] < every_s:
                continue
            old = [lease for lease in sorted(self.held.keys() - new) if lease_timeout_s(lease.list) == timeout_s]
            for some in _together([self.held[lease] for lease in old]):
                await session.send(sentences.leases_renew(some, timeout_s))
            self.renewed_s[timeout_s] = self.now()

    async def _move(self, session: Session, move: MoveFlows) -> bool:
        """Remove the rows in the way; whether it is done. One that ends meanwhile traps: the rest goes one by one."""
        address = self.addresses.get(move.path)
        if address is None:
            log.warning("flows cannot be moved to %s: the router has no address there", move.path)
            return True
        wanted = self.wanted
        rows = await session.send(sentences.flows_print(self.marks))
        if self.wanted != wanted:
            return False  # voice has turned round meanwhile: its lease goes first
        try:
            for some in _together(in_the_way(rows, move, address, self.media_marks)):
                if self.wanted != wanted:
                    return False
                self.beat_s = self.now()
                await session.send(sentences.flows_remove(some))
        except RouterTrap:
            return await self._remove_singly(session, move, address)
        return True

    async def _remove_singly(self, session: Session, move: MoveFlows, address: str) -> bool:
        """A change of what is wanted comes first; the move then stays in the queue."""
        rows = await session.send(sentences.flows_print(self.marks))
        wanted = self.wanted
        for row_id in in_the_way(rows, move, address, self.media_marks):
            if self.wanted != wanted:
                return False
            self.beat_s = self.now()
            try:
                await session.send(sentences.flows_remove([row_id]))
            except RouterTrap as trap:
                log.debug("a flow ended by itself: %s", trap)
        return True


def _together(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + TOGETHER_MAX] for at in range(0, len(ids), TOGETHER_MAX))
