"""Acting: makes the router's timed entries what the orders say, then moves the flows that stand in the way.

One connection, nothing else on it, so that a switch never waits behind a reading. Everything here is idempotent: after
any failure the connection is opened anew, what the router holds is read, and the difference is worked off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from edgeagent.config.site import PathConfig
from edgeagent.core.facts import Fact, Lease, LeasesSeen, RouterLost, RouterReached, UplinkSeen
from edgeagent.core.intents import MoveFlows
from edgeagent.routeros import sentences, uplinks
from edgeagent.routeros.diff import lease_changes
from edgeagent.routeros.errors import RouterError, RouterTrap
from edgeagent.routeros.flows import in_the_way
from edgeagent.routeros.session import Session

log = logging.getLogger(__name__)
RENEW_S = 20.0
LIVELY_S = 10.0
MOVES_MAX = 64


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
        self.addresses: dict[str, str] = {}
        self.moves: deque[MoveFlows] = deque(maxlen=MOVES_MAX)
        self.wake = asyncio.Event()
        self.renewed_s = float("-inf")
        self.turned_s = float("-inf")

    def order(self, leases: frozenset[Lease] | None) -> None:
        """Hold exactly these from now on."""
        self.turned_s = self.now()
        if leases is not None and leases != self.wanted:
            self.wanted = leases
            self.wake.set()

    def move(self, moves: tuple[MoveFlows, ...]) -> None:
        """Move these flows once the leases stand."""
        for one in moves:
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
        try:
            session = await self.open_session()
        except RouterError as error:
            self.tell(RouterLost(type(error).__name__, self.now()))
            raise
        try:
            await self._greet(session)
            while True:
                await self._reconcile(session)
                await self._wait()
        except RouterError as error:
            self.tell(RouterLost(type(error).__name__, self.now()))
            raise
        finally:
            await session.close()

    async def _greet(self, session: Session) -> None:
        """Learn what the router holds before wanting anything of it."""
        rows = await session.print("/ip/address", uplinks.FIELDS)
        for path in self.paths:
            address = uplinks.address_beside(rows, path.interface, path.gateway)
            self.address_seen(path.name, address)
            self.tell(UplinkSeen(path.name, address, self.now()))
        await self._read_held(session)
        self.tell(RouterReached(self.now()))
        self.tell(LeasesSeen(tuple(sorted(self.held)), self.now()))

    async def _read_held(self, session: Session) -> None:
        rows = await session.send(sentences.leases_print(self.lists))
        found = {Lease(row["list"], row["address"].removesuffix("/32")): row for row in rows}
        self.held = {lease: row[".id"] for lease, row in found.items() if _timed(row)}
        self.foreign = frozenset(lease for lease, row in found.items() if not _timed(row))
        if self.foreign:
            log.warning("entries without a time stand in our lists: %s; remove them by hand", sorted(self.foreign))

    async def _wait(self) -> None:
        due_s = self.renewed_s + RENEW_S - self.now()
        try:
            async with asyncio.timeout(max(0.05, due_s)):  # wait_for may swallow the cancellation that ends us
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()

    async def _reconcile(self, session: Session) -> None:
        """Leases first, then one move after the other; a change of what is wanted goes before the next move."""
        while self.wanted is not None:
            try:
                await self._hold(session, self.wanted)
            except RouterTrap as trap:
                log.warning("leases: %s; reading them anew", trap)
                await self._read_held(session)
                await self._hold(session, self.wanted)
            if not self.moves:
                return
            move = self.moves[0]
            done = await self._move(session, move)
            if done and self.moves and self.moves[0] is move:  # not before: the connection may fail meanwhile
                self.moves.popleft()

    async def _hold(self, session: Session, wanted: frozenset[Lease]) -> None:
        """Add before remove, and renew by set alone: at no moment is a lease missing that shall stand (clause P2)."""
        due = self.now() - self.renewed_s >= RENEW_S and self.now() - self.turned_s < LIVELY_S
        changes = lease_changes(wanted - self.foreign, self.held, renew=due)
        for lease in changes.add:
            rows = await session.send(sentences.lease_add(lease, self.owner))
            self.held[lease] = rows[-1].get("ret", "") if rows else ""
        if changes.remove:
            await session.send(sentences.leases_remove(changes.remove))
            self.held = {lease: row_id for lease, row_id in self.held.items() if row_id not in changes.remove}
        if changes.renew:
            await session.send(sentences.leases_renew(changes.renew))
        if due:
            self.renewed_s = self.now()

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
        ids = in_the_way(rows, move, address, self.media_marks)
        try:
            if ids:
                await session.send(sentences.flows_remove(ids))
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
            try:
                await session.send(sentences.flows_remove([row_id]))
            except RouterTrap as trap:
                log.debug("a flow ended by itself: %s", trap)
        return True


def _timed(row: dict[str, str]) -> bool:
    """Whether an entry lapses by itself, as ours do."""
    return row.get("dynamic") in ("true", "yes")
