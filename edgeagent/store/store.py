"""The agent's store as the daemon sees it: every call is awaited, and none runs on the loop's thread.

A disk may hang for ever. Callers that cannot wait use asyncio.wait_for: what was handed over is still written, in
order, when the disk comes back ("act, record late").
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

from edgeagent.core.facts import Instant
from edgeagent.store.database import KEEP_BYTES, KEEP_ROWS, Database
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Entry, Opening, Outgoing, Queued, Record, Sent, Snapshot
from edgeagent.store.worker import Worker

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_VALUES: Mapping[str, bytes] = MappingProxyType({})


class Store:
    """Every method raises StoreUnavailable when it could not be done; later calls try again by themselves."""

    def __init__(self, path: Path) -> None:
        self._worker = Worker()
        self._database = Database(path)

    @classmethod
    async def open(cls, path: Path | str) -> Self:
        """Create folders (0700) and file (0600) as needed. Raises StoreNewer and StoreUnavailable: then the thread is
        gone as well.
        """
        store = cls(Path(path))
        try:
            await store._worker.call(store._database.open)
        except BaseException:
            await store._worker.close(0.0)
            raise
        return store

    @property
    def opening(self) -> Opening | None:
        """What the last opening found; changes when a failing disk or damage made the file be opened anew."""
        return self._database.opening

    @property
    def aside(self) -> tuple[int, str] | None:
        """How many damaged files were set aside since the first opening, and the last one's name; None for none."""
        return self._database.aside

    @property
    def waiting(self) -> int:
        """Calls that the disk has not got round to."""
        return self._worker.waiting

    async def append(self, records: Sequence[Record]) -> int:
        """Journal lines in one transaction; returns the journal's last number."""
        return await self.commit(records)

    async def commit(
        self,
        records: Sequence[Record],
        *,
        outbox: Sequence[Outgoing] = (),
        snapshot: bytes | None = None,
        keep: Mapping[str, bytes] = _NO_VALUES,
        dropped: Mapping[str, str] = _NOTHING,
        merged: Mapping[str, str] = _NOTHING,
    ) -> int:
        """One transaction, on the disk when this returns; returns the journal's last number.

        `outbox` queues messages (an id already known is kept as it is), `dropped` maps ids of queued messages to the
        reason why they will not be sent, `merged` to the id of the message that now tells it, `snapshot` is the state
        after these records, `keep` stores small values by name. A message that is not queued any more stays as it is.
        """
        return await self._worker.call(self._database.commit, records, outbox, snapshot, keep, dropped, merged)

    async def load_snapshot(self) -> Snapshot | None:
        """The last state committed, None on a fresh store."""
        return await self._worker.call(self._database.load_snapshot)

    async def kept(self, key: str) -> bytes | None:
        """A value stored by commit(keep=...)."""
        return await self._worker.call(self._database.kept, key)

    async def journal_tail(self, n: int) -> list[Entry]:
        """The last n lines, oldest first."""
        return await self._worker.call(self._database.journal_tail, n)

    async def journal_after(self, seq: int, limit: int = 1000) -> list[Entry]:
        """At most `limit` lines after number `seq`, oldest first."""
        return await self._worker.call(self._database.journal_after, seq, limit)

    async def outbox_queued(self, limit: int = 500) -> list[Queued]:
        """Every queued message, oldest first, due or not."""
        return await self._worker.call(self._database.outbox_queued, limit)

    async def outbox_sent(self, limit: int = 200) -> list[Sent]:
        """The messages sent last, newest last (in the order in which they were queued)."""
        return await self._worker.call(self._database.outbox_sent, limit)

    async def outbox_count(self) -> int:
        """How many messages are queued."""
        return await self._worker.call(self._database.outbox_count)

    async def mark_sent(self, message_id: str, now: Instant, answer: str) -> None:
        """The server took the message; `answer` is what it said."""
        await self._worker.call(self._database.mark_sent, message_id, now, answer)

    async def mark_try(
        self, message_id: str, error: str, now: Instant, next_try_s: float, maybe_taken: bool = False
    ) -> None:
        """The message could not be sent; try again at `next_try_s` (monotonic, the boot of `now`). `maybe_taken`: the
        server may have it, for its answer was lost; once told, this stays.
        """
        await self._worker.call(self._database.mark_try, message_id, error, now, next_try_s, maybe_taken)

    async def prune(
        self, older_than_wall: float | None, keep_rows: int = KEEP_ROWS, keep_bytes: int = KEEP_BYTES
    ) -> int:
        """Forget a batch of journal lines (older than that wall time, or beyond `keep_rows`; bulky ones where the store
        is larger than `keep_bytes`); returns how many.
        """
        return await self._worker.call(self._database.prune, older_than_wall, keep_rows, keep_bytes)

    async def close(self, deadline_s: float = 5.0) -> bool:
        """Finish what was handed over and close; False if the disk did not answer in time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        with suppress(StoreUnavailable, TimeoutError):  # closed already, or hung: told by the answer
            await asyncio.wait_for(self._worker.call(self._database.close), deadline_s)
        return await self._worker.close(max(end_s - loop.time(), 0.1))
