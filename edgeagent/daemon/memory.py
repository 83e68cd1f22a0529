"""What the store remembers of a router that was provisioned: that it was, and what adopted settings were before.

Written by ``edgeagent provision``, read by the watch for hand edits; both keep to the same names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from edgeagent.core.facts import Instant
from edgeagent.routeros import adopted
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.records import Record
from edgeagent.store.store import Store

FORMER = adopted.KEPT
FLUSH_DUE = "flush due"
PROVISIONED = "provisioned"
YES, NO = b"yes", b"no"
ANSWER_S = 2.0  # of the disk; what is not known by then is as it was


class Memory:
    """``provisioned``: True, False after a removal, None where nothing is known: never, or the store is new."""

    def __init__(self, store: Callable[[], Store | None], state_folder: str, instant: Callable[[], Instant]) -> None:
        self._store = store
        self._instant = instant
        self._turn = Exclusive(state_folder)
        self.provisioned: bool | None = None

    async def refresh(self) -> None:
        """Look at the mark; a disk that does not tell it leaves it as it was."""
        store = self._store()
        if store is None:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                mark = await store.kept(PROVISIONED)
        except (StoreUnavailable, TimeoutError):
            return
        self.provisioned = {YES: True, NO: False}.get(mark or b"")

    async def take(self) -> bool:
        """Be the only one who writes to the router's standing rows; False while another program does."""
        return await self._turn.take()

    async def release(self) -> None:
        """Let others write."""
        await self._turn.release()

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
