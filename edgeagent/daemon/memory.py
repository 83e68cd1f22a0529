"""What the store remembers of a router: whether and how it was provisioned, and what adopted settings were before.

Written by ``edgeagent provision``, read by the watch for hand edits; both keep to the same names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from edgeagent.core.facts import Instant
from edgeagent.routeros import adopted, approval
from edgeagent.routeros.approval import Approval
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.records import Record
from edgeagent.store.store import Store

FORMER = adopted.KEPT
FLUSH_DUE = "flush due"
PROVISIONED = "provisioned"
YES, NO = b"yes", b"no"
ANSWER_S = 2.0  # of the disk; what is not known by then is as it was


def provisioned(approved: Approval) -> dict[str, bytes]:
    """For ``Store.commit``: the router holds these rules, by a person's command."""
    return {PROVISIONED: YES + b" " + approval.packed(approved)}


class Memory:
    """``provisioned``: True, False after a removal, None where nothing is kept: never, or the store is new.

    ``approved``: what was approved then, None where that is not kept. ``told``: whether the store has said so at all;
    until it has, nobody knows what a person wants of the router.
    """

    def __init__(self, store: Callable[[], Store | None], state_folder: str, instant: Callable[[], Instant]) -> None:
        self._store = store
        self._instant = instant
        self._turn = Exclusive(state_folder)
        self._taken = 0
        self.mark: bytes | None = None
        self.told = False
        self.provisioned: bool | None = None
        self.approved: Approval | None = None

    async def refresh(self) -> None:
        """Look at the mark; a disk that does not tell it leaves it as it was."""
        store = self._store()
        if store is None:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                mark = await store.kept(PROVISIONED) or b""
        except (StoreUnavailable, TimeoutError):
            return
        if mark != self.mark:
            word, _, approved = mark.partition(b" ")
            self.mark, self.told = mark, True
            self.provisioned = {YES: True, NO: False}.get(word)
            self.approved = approval.unpacked(approved)

    async def take(self) -> bool:
        """Be the only program that writes to the router's standing rows; False while another does.

        To be released as often as it was taken.
        """
        if not await self._turn.take():
            return False
        self._taken += 1
        return True

    async def release(self) -> None:
        """Let others write."""
        self._taken -= 1
        if not self._taken:
            await self._turn.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether what is ours may be written within: no other program writes, and no command took it away."""
        if not await self.take():
            yield False
            return
        try:
            await self.refresh()
            yield self.provisioned is not False
        finally:
            await self.release()

    async def save_former(self, values: Mapping[str, str]) -> bool:
        """Keep what adopted settings were, where nothing is kept yet (clause P4). False: they may not be changed."""
        store = self._store()
        if store is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                former = json.loads(await store.kept(FORMER) or b"{}")
                new = {key: value for key, value in values.items() if key not in former}
                if new:
                    record = Record("settings adopted", self._instant(), new)
                    await store.commit([record], keep={FORMER: json.dumps({**former, **new}).encode()})
        except (StoreUnavailable, TimeoutError, ValueError):
            return False
        return True
