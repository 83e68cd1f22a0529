"""What a day of commits writes to the block device, the file system's journal included (design: at most 15 MB).

A day is played at once. What the disk would have written meanwhile it is made to write: ext4 commits its journal within
5 s of a change, so every commit followed by a longer silence is followed by a sync; and no two of them share a tick of
the kernel's clock, for then ext4 would leave out a change of time. Against commits in real time this tells 4 % too
little where they are 40 s apart, and 40 % too much where they are 10 s apart (a block changed twice within 30 s is put
in its place once only).

A commit of a few hundred bytes costs about 45 KiB, whatever is in it: blocks of ext4's journal, the file's times, two
to four pages of the log, and 20 KiB for the log's index (the -shm file), which a store that is opened alone does
without. In the first hundred commits after a start it is twice as much, until the log has its length.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from edgeagent.core.facts import Instant
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store
from tests.powercut.disk import Disk, disk, in_private_mounts

LIMIT_BYTES = 15_000_000
EXT4_COMMIT_S = 5.0
TICK_S = 0.005  # the kernel's clock for file times moves by 4 ms where CONFIG_HZ is 250
_NOW = Instant(1.0, "boot-1", 1_800_000_000.0, "synced")


@dataclass(frozen=True)
class Commit:
    """One commit of the day, or the sending of a message; `silence_s` until the next."""

    silence_s: float
    records: Sequence[Record] = ()
    outbox: Sequence[Outgoing] = ()
    snapshot: bytes | None = None
    sent: str = ""


def device_bytes(work: Callable[[Disk], Awaitable[object]], mebibytes: int = 128) -> int:
    """Bytes that ``work`` writes to a new ext4 (noatime, commit=5), as /sys/block/*/stat counts them."""

    def go() -> int:
        with disk(mebibytes) as made:
            made.sync()
            before = made.written_bytes()
            asyncio.run(_awaited(work(made)))
            made.sync()
            return made.written_bytes() - before

    return in_private_mounts(go)


def day_bytes(day: Callable[[], Iterable[Commit]]) -> int:
    """Bytes that a day's commits write through the shipped store: the second of two such days, as the years go on."""
    counted: list[int] = []

    async def work(made: Disk) -> None:
        store = await Store.open(made.top / "store.db")
        for number in range(2):
            before = made.written_bytes()
            for commit in day():
                await _play(store, commit, number)
                await asyncio.sleep(TICK_S)
                if commit.silence_s >= EXT4_COMMIT_S:
                    made.sync()
            counted.append(made.written_bytes() - before)
        await store.close()

    device_bytes(work)
    return counted[1]


async def _play(store: Store, commit: Commit, number: int) -> None:
    """Message ids are the day's own."""
    if commit.sent:
        await store.mark_sent(f"{number}.{commit.sent}", _NOW, "250 ok")
    else:
        outbox = [replace(message, message_id=f"{number}.{message.message_id}") for message in commit.outbox]
        await store.commit(commit.records, outbox=outbox, snapshot=commit.snapshot)


async def _awaited(work: Awaitable[object]) -> None:
    await work


def hasty_hours(hours: int = 6) -> Iterator[Commit]:
    """The control: a commit for every ten seconds, a quarter of a day long."""
    values = random.Random(2)
    for _ in range(hours * 360):
        yield Commit(10.0, [Record("facts", _NOW, _rounds(200, values))])


def _rounds(size: int, values: random.Random) -> list[object]:
    """Rounds of probes with their times, as many as make about so many bytes of JSON."""
    first, began_s = values.randrange(10**6), values.uniform(1e4, 1e6)
    return [
        ["primary", first + n, round(began_s + n, 3), [round(values.uniform(8.0, 14.0), 1) for _ in range(3)]]
        for n in range(max(1, size // 45))
    ]
