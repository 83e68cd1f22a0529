"""Makes the voice devices that the router has learnt outlast its reboots.

What the router learns it keeps in RAM. A phone that signals over TCP would be unknown on a backup after a reboot, where
only known devices may pass, until the primary has come back: after a power failure, with the agent dead, that may be
long. So each device is written down once, as a row of ours, and taken out when nobody has answered it for a week.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager

from edgeagent.core.facts import Flow
from edgeagent.routeros import flows, sentences
from edgeagent.routeros.errors import RouterTrap
from edgeagent.routeros.rows import device_comment
from edgeagent.routeros.session import Session
from edgeagent.routeros.values import is_ipv4, row_id

DEVICES_MAX = 256  # rows written down; what is beyond is learnt all the same, until the next reboot
FORGOTTEN_S = 7 * 86400.0
TABLE_S = 15.0  # reading a large table takes a small router seconds


class Devices:
    """When each device was last known to be answered, by address, on the clock ``now``, s; a restart starts anew.

    ``names``: the names that devices ask for are redirected on a backup. ``alone``: whether something may be written
    within, because no person is at it and nobody has taken our rules away.
    """

    def __init__(
        self, now: Callable[[], float], alone: Callable[[], AbstractAsyncContextManager[bool]], *, names: bool
    ) -> None:
        self.now = now
        self.alone = alone
        self.names = names
        self.answered_s: dict[str, float] = {}

    def seen(self, seen: Iterable[Flow]) -> None:
        """Voice rows as read: who has been answered."""
        for flow in seen:
            if flow.source in self.answered_s and flow.repl_bytes > 0:
                self.answered_s[flow.source] = self.now()

    async def refresh(self, session: Session) -> None:
        """Write down what was learnt, take out what is forgotten."""
        learnt: dict[str, str] = {}
        written: dict[str, str] = {}
        for row in await session.send(sentences.devices_print()):
            address, number = row.get("address", ""), row_id(row)
            if not is_ipv4(address) or number is None:
                continue
            if row.get("dynamic") == "true":
                learnt[address] = number
            elif row.get("comment") == device_comment(address):
                written[address] = number
        fresh = [address for address in learnt if address not in written][: max(0, DEVICES_MAX - len(written))]
        self._age(learnt, [*written, *fresh])
        old = [number for address, number in written.items() if self.now() - self.answered_s[address] > FORGOTTEN_S]
        if not (fresh or old):
            return
        async with self.alone() as may_write:
            if may_write:
                await self._write(session, {address: learnt[address] for address in fresh}, old)

    async def _write(self, session: Session, fresh: dict[str, str], old: list[str]) -> None:
        for address, number in fresh.items():
            await self._write_down(session, address, number)
        if fresh and self.names:
            await self._forget_questions(session, fresh)
        for number in old:
            await session.send(sentences.device_remove(number))

    def _age(self, learnt: Iterable[str], written: Iterable[str]) -> None:
        now_s = self.now()
        self.answered_s = {address: self.answered_s.get(address, now_s) for address in written}
        self.answered_s |= dict.fromkeys(self.answered_s.keys() & set(learnt), now_s)

    @staticmethod
    async def _forget_questions(session: Session, devices: Collection[str]) -> None:
        """A device asks before it is known, and may go on asking in that row for ever, past the redirection."""
        rows = await session.send(sentences.questions_print(), deadline_s=TABLE_S)
        for number in flows.questions(rows, devices):
            with contextlib.suppress(RouterTrap):  # it has ended by itself
                await session.send(sentences.flows_remove([number]))

    @staticmethod
    async def _write_down(session: Session, address: str, number: str) -> None:
        """A list takes an address once only: the learnt one goes first. One answer later it would be learnt again."""
        try:
            await session.send(sentences.device_remove(number))
            await session.send(sentences.device_add(address))
        except RouterTrap:  # it has lapsed, or was learnt again in between: the next look finds it
            return
