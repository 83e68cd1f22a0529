"""What the daemon commits, in a fixed order, and what a store holds after the first m of it."""

from __future__ import annotations

import asyncio
import functools
import random
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.core.facts import Instant
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store

CYCLE = 12
SPLIT_S = 0.002
_NOW = Instant(1.0, "boot-1", 1_800_000_000.0, "synced")


@dataclass(frozen=True)
class Step:
    """One call of the store: a commit, or what the postman says of a message."""

    records: tuple[tuple[str, Any], ...] = ()
    outbox: tuple[str, ...] = ()
    merged: dict[str, str] = field(default_factory=dict)
    snapshot: bytes | None = None
    kept: bytes | None = None
    sent: str = ""
    tried: str = ""


@functools.lru_cache(maxsize=4 * CYCLE)
def step(n: int) -> Step:
    """The n-th: a failover with two mails, one tried in vain, one merged, five-minute batches, lone transitions."""
    kind = n % CYCLE
    pad = random.Random(n).randbytes(10_000).hex()
    state = msgspec.json.encode({"n": n, "pad": pad[: 6000 if kind == 2 else 300]})
    if kind == 0:
        records = tuple((name, {"n": n, "pad": pad[:400]}) for name in ("facts", "path", "place"))
        return Step(records=records, outbox=(f"{n}.a", f"{n}.b"), snapshot=state)
    if kind == 1:
        return Step(tried=f"{n - 1}.a")
    if kind == 2:
        return Step(records=(("facts", {"n": n, "pad": pad}),), snapshot=state)
    if kind == 3:
        return Step(sent=f"{n - 3}.a")
    if kind == 5:
        records = (("facts", {"n": n, "pad": pad[:4000]}), ("place", {"n": n}))
        return Step(records=records, outbox=(f"{n}.c",), merged={f"{n - 5}.b": f"{n}.c"}, snapshot=state)
    if kind == 6:
        return Step(sent=f"{n - 1}.c")
    if kind == 7:
        return Step(kept=str(n).encode())
    return Step(records=(("path", {"n": n, "pad": pad[:200]}),), snapshot=state if kind % 2 else None)


async def play(store: Store, n: int, *, split: bool = False) -> None:
    """Carry the step out. ``split`` is a broken daemon: records first, in a transaction of their own."""
    it = step(n)
    if it.sent:
        return await store.mark_sent(it.sent, _NOW, "250 ok")
    if it.tried:
        return await store.mark_try(it.tried, "no answer", _NOW, 60.0, maybe_taken=True)
    records = [Record(kind, _NOW, data) for kind, data in it.records]
    if split:
        await store.append(records)
        await asyncio.sleep(SPLIT_S)
        records = []
    messages = [Outgoing(name, "i-1", "customer", "failover", {"name": name}, _NOW) for name in it.outbox]
    keep = {} if it.kept is None else {"adopted": it.kept}
    await store.commit(records, outbox=messages, snapshot=it.snapshot, keep=keep, merged=it.merged)
    return None


@dataclass
class Contents:
    """All that a store holds. Lines as (kind, checksum of the data), messages as (state, tries, maybe taken)."""

    lines: list[tuple[str, int]] = field(default_factory=list)
    outbox: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    snapshot: tuple[int, bytes] | None = None
    kept: bytes | None = None

    def add(self, n: int) -> None:
        """The step's effect, all of it."""
        it = step(n)
        self.lines += [(kind, zlib.crc32(msgspec.json.encode(data))) for kind, data in it.records]
        for name in it.outbox:
            self.outbox.setdefault(name, ("queued", 0, 0))
        for name in it.merged:
            if self.outbox[name][0] == "queued":
                self.outbox[name] = ("merged", *self.outbox[name][1:])
        for name, state, maybe in ((it.sent, "sent", 0), (it.tried, "queued", 1)):
            if name:
                self.outbox[name] = (state, self.outbox[name][1] + 1, self.outbox[name][2] | maybe)
        if it.snapshot is not None:
            self.snapshot = (len(self.lines), it.snapshot)
        self.kept = self.kept if it.kept is None else it.kept


def copied(base: Contents) -> Contents:
    """To be added to."""
    return Contents([*base.lines], {**base.outbox}, base.snapshot, base.kept)


async def read(store: Store, path: Path) -> Contents:
    """Through the shipped store; what it does not tell (merged and dropped messages) by SQL."""
    found, last = Contents(), 0
    while page := await store.journal_after(last):
        found.lines += [(entry.kind, zlib.crc32(entry.data)) for entry in page]
        assert [entry.seq for entry in page] == list(range(last + 1, last + 1 + len(page)))
        last = page[-1].seq
    snapshot = await store.load_snapshot()
    found.snapshot = None if snapshot is None else (snapshot.seq, snapshot.body)
    found.kept = await store.kept("adopted")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        rows = raw.execute("SELECT id, state, tries, maybe_taken FROM outbox").fetchall()
    found.outbox = {name: (state, tries, maybe) for name, state, tries, maybe in rows}
    queued = {message.message_id for message in await store.outbox_queued(limit=len(rows) + 1)}
    sent = {message.message_id for message in await store.outbox_sent(limit=len(rows) + 1)}
    assert queued == {name for name, row in found.outbox.items() if row[0] == "queued"}
    assert sent == {name for name, row in found.outbox.items() if row[0] == "sent"}
    return found


def steps_in(found: Contents, base: Contents, most: int) -> int | None:
    """How many whole steps after ``base`` give exactly ``found``; None: no number does."""
    expected = copied(base)
    for n in range(most + 1):
        alike = len(expected.lines) == len(found.lines) and expected.snapshot == found.snapshot
        if alike and expected == found:
            return n
        expected.add(n)
    return None
