"""Full, read-only, frozen and failing disks: what was acknowledged is kept, each has its reason, all heal unaided.

On a real ext4 (clauses C1, C3, L6). tests/adapters/test_store.py has the plainer cases on a tmpfs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.core.facts import Instant
from edgeagent.store.database import Database
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import AGENT, Exclusive
from edgeagent.store.records import Record
from edgeagent.store.store import Store
from tests.powercut.disk import Disk, disk, in_private_mounts, medium, why_not

NOW = Instant(1.0, "boot-1")
FROZEN_S, RESCUE_S = 2.0, 60.0
FRAME = 1024 + 24  # bytes of the log for a page
# So many frames and the header end with a block of the disk. A loop device calls a write good that its medium took only
# the first part of (Linux 6.18): what is written next must lie in refused blocks wholly.
ALIGNED = 340


@pytest.fixture(scope="module", autouse=True)
def _can() -> None:
    if why := why_not():
        pytest.skip(why)


def on_disk(test: Callable[[Disk, Store, list[int]], Awaitable[None]], mebibytes: int = 16) -> None:
    """Run it with an open store; then cut the power, and judge: all that was acknowledged is there, nothing else is."""

    def go() -> None:
        with disk(mebibytes) as made:
            acknowledged: list[int] = []
            asyncio.run(_one(made, test, acknowledged))
            made.cut()
            made.unmount()
            made.mount()
            assert asyncio.run(_stored(made.top / "store.db")) == acknowledged

    in_private_mounts(go)


async def _one(made: Disk, test: Callable[[Disk, Store, list[int]], Awaitable[None]], acknowledged: list[int]) -> None:
    store = await Store.open(made.top / "store.db")
    try:
        await test(made, store, acknowledged)
    finally:
        await store.close()


async def _stored(path: Path) -> list[int]:
    store = await Store.open(path)
    assert store.opening is not None
    assert store.opening.set_aside is None
    found = [int(entry.kind) for entry in await store.journal_tail(100_000)]
    await store.close()
    return found


async def add(store: Store, acknowledged: list[int], size: int = 200) -> None:
    number = acknowledged[-1] + 1 if acknowledged else 0
    await store.append([Record(str(number), NOW, random.Random(number).randbytes(size).hex())])  # stored: as many bytes
    acknowledged.append(number)


async def until_refused(store: Store, acknowledged: list[int], size: int = 200) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        for _ in range(5000):
            await add(store, acknowledged, size)
    return caught.value.reason


def test_a_disk_that_fills_in_the_middle_of_a_commit_clause_c3() -> None:
    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        await add(store, acknowledged)
        filler = made.fill(leave_bytes=100_000)
        assert await until_refused(store, acknowledged, 30_000) == "full"
        made.fill()
        assert await until_refused(store, acknowledged, 30_000) == "full"
        assert [int(entry.kind) for entry in await store.journal_tail(9999)] == acknowledged  # reading goes on
        filler.unlink()
        for _ in range(50):
            await add(store, acknowledged, 30_000)

    on_disk(test)


def test_a_disk_that_is_full_when_the_log_is_folded_back_clause_c3() -> None:
    """The log's own blocks are there; the store's file cannot grow. Commits go on for as long as the log has room."""

    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        for _ in range(300):  # folded once: the log is as long as it gets, and begins again at its start
            await add(store, acknowledged, 20_000)
        filler, before = made.fill(), len(acknowledged)
        size = (made.top / "store.db").stat().st_size
        assert await until_refused(store, acknowledged, 20_000) == "full"
        assert len(acknowledged) - before > 10
        assert (made.top / "store.db").stat().st_size == size
        filler.unlink()
        for _ in range(300):
            await add(store, acknowledged, 20_000)
        assert (made.top / "store.db").stat().st_size > size

    on_disk(test, 48)


def test_a_disk_that_turns_read_only_under_an_open_store_clause_c3() -> None:
    """As a worn card does: an error of the file system, and it takes no more writes (errors=remount-ro)."""

    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        await add(store, acknowledged)
        made.fail()
        assert await until_refused(store, acknowledged) == "readonly"
        assert await until_refused(store, acknowledged) == "readonly"
        made.unmount()
        made.mount()
        await add(store, acknowledged)

    on_disk(test)


def test_a_disk_that_is_read_only_from_the_start_clause_c3() -> None:
    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        await add(store, acknowledged)
        await store.close()
        made.remount(read_only=True)
        again = Store(made.top / "store.db")
        assert await until_refused(again, acknowledged) == "readonly"
        made.remount(read_only=False)
        await add(again, acknowledged)
        await again.close()

    on_disk(test)


def test_a_disk_that_fails_clause_c3() -> None:
    """Every write fails from now on; the store lets go of the file and opens it anew when the disk is back."""

    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        await add(store, acknowledged)
        made.cut()
        assert await until_refused(store, acknowledged) == "io"
        assert await until_refused(store, acknowledged) == "io"
        made.unmount()
        made.mount()
        await add(store, acknowledged)

    on_disk(test)


async def _lag_s(work: Awaitable[object]) -> float:
    """How long the loop stood still at most while this went on."""
    loop, worst_s, over = asyncio.get_running_loop(), 0.0, False

    async def beat() -> None:
        nonlocal worst_s
        last_s = loop.time()
        while not over:
            await asyncio.sleep(0.01)
            worst_s, last_s = max(worst_s, loop.time() - last_s), loop.time()

    beating = asyncio.ensure_future(beat())
    await asyncio.sleep(0.05)
    await work
    await asyncio.sleep(0.05)
    over = True
    await beating
    return worst_s


def test_a_frozen_disk_stops_no_loop_and_loses_nothing_clause_l6() -> None:
    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        await add(store, acknowledged)
        made.freeze()
        rescue = threading.Timer(RESCUE_S, made.thaw)  # of a loop that the disk stops: it could not do it itself
        rescue.start()
        handed_over = range(1, 41)
        waits = [asyncio.ensure_future(store.append([Record(str(number), NOW)])) for number in handed_over]
        try:
            # The loop comes back from here while the disk is frozen, and only if the disk does not stop it.
            done, _ = await asyncio.wait(waits, timeout=FROZEN_S / 2)
            assert rescue.is_alive(), "the loop stood still"
            assert not done
            assert store.waiting == len(handed_over) - 1
        finally:
            rescue.cancel()
            rescue.join()
            with contextlib.suppress(OSError):  # thawed already
                made.thaw()
        await asyncio.gather(*waits)
        acknowledged += handed_over

    on_disk(test)


def test_the_same_on_the_loops_own_thread_would_stop_it() -> None:
    """The control of the one above."""

    async def test(made: Disk, store: Store, acknowledged: list[int]) -> None:
        blocking = Database(made.top / "store.db")
        blocking.open()
        made.freeze()
        thaw = threading.Timer(FROZEN_S, made.thaw)

        async def call() -> None:
            thaw.start()
            blocking.commit([Record("0", NOW)], [], None, {}, {}, {})

        assert await _lag_s(call()) > FROZEN_S * 0.8
        thaw.join()
        blocking.close()
        acknowledged.append(0)

    on_disk(test)


def test_what_a_bad_block_refused_is_not_taken_for_written_clause_c1() -> None:
    """A medium refuses some writes, and heals: Linux keeps what was refused in its cache. A store that read its log
    from there would go on after commits that the disk has not, and lose all that follows with the next power cut.
    """

    def go() -> None:
        with medium(48) as (made, turn):
            acknowledged: list[int] = []
            asyncio.run(_bad_for_a_while(made, turn, acknowledged))
            made.unmount()
            made.mount()
            assert asyncio.run(_stored(made.top / "store.db")) == acknowledged

    in_private_mounts(go)


async def _bad_for_a_while(made: Disk, turn: Callable[[bool], None], acknowledged: list[int]) -> None:
    path = made.top / "store.db"
    store = await Store.open(path)
    while (frames := (_size(Path(f"{path}-wal")) - 32) // FRAME) < ALIGNED:
        if ALIGNED - frames >= 2:
            await add(store, acknowledged)
        else:
            await store.commit([], keep={"x": b""})
    made.sync()
    turn(True)
    before = len(acknowledged)
    assert [await until_refused(store, acknowledged) for _ in range(3)] == ["io"] * 3
    assert len(acknowledged) == before
    turn(False)
    for _ in range(50):
        await add(store, acknowledged)
    made.cut()
    await store.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# Holds the agent's lock, and then hangs in a disk: a thread of the store's does.
HOLDER = """
import asyncio, os, sys, threading
from edgeagent.store.exclusive import AGENT, Exclusive

async def main():
    assert await Exclusive(sys.argv[1], AGENT).take()
    print("held", flush=True)
    threading.Thread(target=open, args=(sys.argv[2], "w")).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_an_agent_that_was_killed_and_hangs_in_its_disk_locks_no_other_out_clause_c3(tmp_path: Path) -> None:
    """It keeps its lock until the disk answers, which may be never: the phones would have no agent."""

    def taken() -> bool:
        async def go() -> bool:
            lock = Exclusive(str(tmp_path), AGENT)
            found = await lock.take()
            await lock.close()
            return found

        return asyncio.run(go())

    def go() -> None:
        with disk(16) as made:
            made.freeze()
            command = [sys.executable, "-c", HOLDER, str(tmp_path), str(made.top / "file")]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
                try:
                    assert holder.stdout is not None
                    assert holder.stdout.readline() == b"held\n"
                    threads = Path(f"/proc/{holder.pid}/task")
                    _wait(lambda: any(" D " in (one / "stat").read_text() for one in threads.iterdir()))
                    assert not taken(), "it lives: only its disk hangs"
                    holder.kill()
                    _wait(taken)
                    assert holder.poll() is None, "the control: it is not gone"
                finally:
                    made.thaw()
                    holder.kill()
            assert taken()

    in_private_mounts(go)


def _wait(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)
