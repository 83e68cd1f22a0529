"""store: real files, a real full and a real read-only file system where root allows, and a disk that hangs."""

import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.core.facts import Instant
from edgeagent.store import rescue
from edgeagent.store.errors import StoreNewer, StoreUnavailable
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.schema import APPLICATION_ID, FORMAT
from edgeagent.store.store import Store
from edgeagent.store.worker import MAX_WAITING, Worker

NOW = Instant(100.0, "boot-1", 1_800_000_000.0, "synced")


def mail(name: str) -> Outgoing:
    return Outgoing(name, "i1", "customer", "failover", {"subject": name}, NOW)


def run(path: Path, test: Callable[[Store], Awaitable[None]]) -> None:
    async def go() -> None:
        store = await Store.open(path)
        try:
            await test(store)
        finally:
            assert await store.close()

    asyncio.run(go())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "edgeagent.db"


def test_one_commit_holds_records_messages_and_state_across_restarts(path: Path) -> None:
    async def write(store: Store) -> None:
        assert store.opening is not None
        assert store.opening.created
        assert await store.load_snapshot() is None
        assert await store.append([Record("start", NOW)]) == 1
        last = await store.commit(
            [Record("path", NOW, {"to": "lte"}), Record("wall", Instant(1.0, "b"))],
            outbox=[mail("a@x"), mail("b@x")],
            snapshot=b"state",
            keep={"dns": b"1.2.3.4"},
        )
        assert last == 3

    async def read(store: Store) -> None:
        assert store.opening is not None
        assert not store.opening.created
        tail = await store.journal_tail(2)
        assert [(e.seq, e.kind, e.data) for e in tail] == [(2, "path", b'{"to":"lte"}'), (3, "wall", b"null")]
        assert (tail[0].at, tail[1].at) == (NOW, Instant(1.0, "b", None, "unknown"))
        assert [e.seq for e in await store.journal_after(1, 1)] == [2]
        snapshot = await store.load_snapshot()
        assert snapshot is not None
        assert (snapshot.seq, snapshot.body) == (3, b"state")
        assert (await store.kept("dns"), await store.kept("x")) == (b"1.2.3.4", None)
        queued = await store.outbox_queued()
        assert [(m.message_id, m.payload, m.created) for m in queued] == [
            ("a@x", b'{"subject":"a@x"}', NOW),
            ("b@x", b'{"subject":"b@x"}', NOW),
        ]

    run(path, write)
    run(path, read)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_long_values_are_stored_short_and_read_back_as_they_were(path: Path) -> None:
    long = [{"path": "primary", "round": number} for number in range(500)]
    states = (b"", b"state", b"x marks a compressed one", json.dumps(long).encode(), random.Random(1).randbytes(5000))

    async def test(store: Store) -> None:
        await store.append([Record("facts", NOW, long)])
        assert json.loads((await store.journal_tail(1))[0].data) == long
        for state in states:
            await store.commit([], snapshot=state)
            snapshot = await store.load_snapshot()
            assert snapshot is not None
            assert snapshot.body == state

    run(path, test)
    with sqlite3.connect(path) as raw:
        stored = raw.execute("SELECT length(data) FROM journal").fetchone()[0]
    raw.close()
    assert stored < len(json.dumps(long)) / 4


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        ("UPDATE journal SET data = x'7801'", b"s"),
        ("UPDATE journal SET data = CAST(substr(data, 1, 12) AS BLOB)", b"s"),
        ("UPDATE journal SET kind = CAST(x'ff61' AS TEXT)", b"s"),
        (
            "PRAGMA writable_schema=1; PRAGMA schema_version=99;"
            "UPDATE sqlite_schema SET sql = replace(sql, 'kind', 'kinf') WHERE name = 'journal'",
            b"s",
        ),
        (
            "PRAGMA writable_schema=1; PRAGMA schema_version=99;"
            "UPDATE sqlite_schema SET sql = replace(sql, 'kind TEXT', CAST(x'6b696e642054ce5854' AS TEXT)) "
            "WHERE name = 'journal'",
            "all",
        ),
        ("UPDATE meta SET value = x'78' WHERE key = 'snapshot'", None),
        (
            "UPDATE meta SET value = CAST(substr(value, 1, length(value) - 1) || 'z' AS BLOB) WHERE key = 'snapshot'",
            None,
        ),
        ("UPDATE meta SET value = x'2d' WHERE key = 'snapshot_seq'", b"s"),
        ("UPDATE meta SET key = 'snapshot_seR' WHERE key = 'snapshot_seq'", b"s"),
    ],
)
def test_a_damaged_value_has_the_file_set_aside_and_what_can_be_read_goes_on_clause_n2(
    damage: str, wanted: bytes | str | None, path: Path
) -> None:
    """SQLite's pages carry no checksum: such a file opens, and was found damaged for ever, each time it was read."""

    async def test(store: Store) -> None:
        outbox = [mail("a@x"), mail("b@x")]
        await store.commit([Record("facts", NOW, "y" * 1000)], outbox=outbox, snapshot=b"s", keep={"k": b"v"})
        await store.mark_sent("a@x", NOW, "250 ok")
        with sqlite3.connect(path) as raw:
            raw.executescript(damage)
        raw.close()
        with pytest.raises(StoreUnavailable) as caught:
            await store.journal_tail(5)
            await store.load_snapshot()
        assert caught.value.reason == "corrupt"
        assert store.aside is None
        assert [entry.kind for entry in await store.journal_tail(5)] == []
        assert store.aside == (1, f"{path}.damaged-1")
        if wanted == "all":  # nothing can be read of such a file
            assert await store.kept("k") is None
        else:
            snapshot = await store.load_snapshot()
            assert (snapshot and snapshot.body) == wanted
            assert await store.kept("k") == b"v"
            assert [one.message_id for one in await store.outbox_queued()] == ["b@x"]
        assert await store.append([Record("x", NOW)]) == 1
        assert store.aside == (1, f"{path}.damaged-1")

    run(path, test)


def test_what_a_full_disk_does_not_take_over_from_a_damaged_file_is_taken_over_later_clause_n2(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    def refusing(*_: object) -> None:
        raise full

    async def test(store: Store) -> None:
        await store.commit([Record("facts", NOW, "y" * 1000)], outbox=[mail("a@x")])
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE journal SET data = x'7801'")
        raw.close()
        with pytest.raises(StoreUnavailable):
            await store.journal_tail(1)
        with monkeypatch.context() as patch:
            patch.setattr(rescue, "put_back", refusing)
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as caught:
                    await store.append([Record("x", NOW)])
                assert caught.value.reason == "full"
        assert [one.message_id for one in await store.outbox_queued()] == ["a@x"]
        assert store.aside is not None
        assert store.aside[0] == 1

    run(path, test)


def test_a_failing_commit_leaves_nothing(path: Path) -> None:
    async def test(store: Store) -> None:
        with pytest.raises(TypeError):
            await store.commit([Record("good", NOW), Record("bad", NOW, object())], outbox=[mail("a@x")])
        with pytest.raises(sqlite3.IntegrityError):
            await store.commit([Record("good", NOW)], outbox=[mail("a@x")], keep={"k": None})  # type: ignore[dict-item]
        assert await store.journal_tail(5) == []
        assert await store.outbox_count() == 0
        assert await store.append([Record("after", NOW)]) >= 1

    run(path, test)


def test_the_outbox_keeps_each_message_until_it_is_sent_clause_n2(path: Path) -> None:
    async def test(store: Store) -> None:
        await store.commit([], outbox=[mail(name) for name in ("a@x", "b@x", "c@x", "e@x")])
        await store.mark_try("a@x", "451 later", NOW, 160.0)
        await store.mark_sent("b@x", NOW, "250 ok")
        await store.commit(
            [],
            outbox=[mail("b@x"), mail("d@x")],
            dropped={"c@x": "too old", "b@x": "no"},
            merged={"e@x": "d@x", "b@x": "d@x"},
        )
        queued = await store.outbox_queued()
        assert [(m.message_id, m.state, m.tries, m.next_try_s, m.next_try_boot, m.answer) for m in queued] == [
            ("a@x", "queued", 1, 160.0, "boot-1", "451 later"),
            ("d@x", "queued", 0, 0.0, "", ""),
        ]
        assert [m.message_id for m in await store.outbox_queued(1)] == ["a@x"]
        assert await store.outbox_count() == 2

    run(path, test)
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT id, state, sent_at, answer FROM outbox ORDER BY number").fetchall()
    raw.close()
    assert rows[1:4] == [
        ("b@x", "sent", NOW.wall, "250 ok"),
        ("c@x", "dropped", None, "too old"),
        ("e@x", "merged", None, "d@x"),
    ]


def test_that_a_server_may_have_a_message_is_never_forgotten_clause_n3(path: Path) -> None:
    async def test(store: Store) -> None:
        await store.commit([], outbox=[mail("a@x"), mail("b@x")])
        await store.mark_try("a@x", "no answer", NOW, 160.0, maybe_taken=True)
        await store.mark_try("a@x", "no route", NOW, 220.0)
        await store.mark_try("b@x", "no route", NOW, 220.0)
        assert [(m.tries, m.maybe_taken) for m in await store.outbox_queued()] == [(2, True), (1, False)]

    run(path, test)


def test_the_last_sent_are_told_with_when_on_our_own_clock_clause_n5(path: Path) -> None:
    async def test(store: Store) -> None:
        names = [f"{number}@x" for number in range(5)]
        await store.commit([], outbox=[mail(name) for name in names])
        for name in names[:4]:
            await store.mark_sent(name, NOW if name != "3@x" else Instant(7.0, "boot-2"), "250 ok")
        assert [(s.message_id, s.sent_mono_s, s.sent_boot, s.sent_at) for s in await store.outbox_sent(2)] == [
            ("2@x", 100.0, "boot-1", NOW.wall),
            ("3@x", 7.0, "boot-2", None),
        ]
        assert [s.message_id for s in await store.outbox_sent()] == names[:4]

    run(path, test)


def test_pruning_goes_in_batches_by_age_and_by_number(path: Path) -> None:
    async def test(store: Store) -> None:
        old = Instant(1.0, "b", 1000.0, "synced")
        unsure = Instant(1.0, "b", 1000.0, "unknown")
        await store.append([Record("old", old)] * 600 + [Record("unsure", unsure)] + [Record("new", NOW)] * 99)
        assert await store.prune(None) == 0
        assert await store.prune(2000.0) == 500
        assert await store.prune(2000.0) == 100
        assert await store.prune(2000.0) == 0
        assert await store.prune(None, keep_rows=10) == 90
        assert [e.seq for e in await store.journal_tail(99)] == list(range(691, 701))
        assert await store.append([Record("next", NOW)]) == 701

    run(path, test)


def test_a_store_that_grew_too_large_forgets_its_oldest_bulky_lines_clause_c5(path: Path) -> None:
    """Packets go, transitions stay; the space is used again."""

    async def test(store: Store) -> None:
        rng, sizes = random.Random(5), []
        for day in range(4):
            facts = [Record("facts", NOW, rng.randbytes(1000).hex()) for _ in range(700)]
            await store.append([Record("place", NOW, {"day": day}), *facts])
            while await store.prune(None, keep_bytes=2 * 2**20):
                pass
            sizes.append(sum(file.stat().st_size for file in (path, Path(f"{path}-wal"))))
        kinds = [entry.kind for entry in await store.journal_tail(9999)]
        assert kinds.count("place") == 4
        assert 700 < kinds.count("facts") < 2000
        assert kinds[-1] == "facts"
        assert sizes[3] < 1.5 * sizes[2]

    run(path, test)


def refused(path: Path) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        run(path, None)  # type: ignore[arg-type]
    return caught.value


def test_a_newer_format_is_left_byte_for_byte(path: Path) -> None:
    async def nothing(store: Store) -> None:
        await store.append([Record("x", NOW)])

    run(path, nothing)
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version=99")
    raw.commit()
    # still only in the write-ahead log, as after a crash of the newer version
    copy = path.parent / "copy.db"
    for tail in ("", "-wal"):
        shutil.copy(f"{path}{tail}", f"{copy}{tail}")
    raw.close()
    for file in (path, copy):
        before = {f: f.read_bytes() for f in (file, Path(f"{file}-wal")) if f.exists()}
        error = refused(file)
        assert isinstance(error, StoreNewer)
        assert (error.reason, error.found) == ("newer", 99)
        assert {f: f.read_bytes() for f in before} == before
    assert len(before) == 2


def test_a_foreign_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    before = path.read_bytes()
    assert refused(path).reason == "foreign"
    assert path.read_bytes() == before


def test_damage_is_set_aside_and_begun_anew(path: Path) -> None:
    async def fill(store: Store) -> None:
        await store.append([Record("x", NOW, "y" * 500)] * 100)

    names = []
    for damage in (b"not a database at all", None, b"again"):
        run(path, fill)
        if damage is None:
            body = bytearray(path.read_bytes())
            body[4096:16384] = random.Random(1).randbytes(12288)
            path.write_bytes(body)
        else:
            path.write_bytes(damage)

        async def anew(store: Store) -> None:
            assert store.opening is not None
            assert store.opening.created
            assert store.opening.set_aside is not None
            names.append(store.opening.set_aside)
            assert await store.append([Record("x", NOW)]) == 1

        run(path, anew)
    assert Path(names[0]).read_bytes() == b"again"
    aside = {file.name.removesuffix("-wal").removesuffix("-shm") for file in path.parent.glob("*.damaged-*")}
    assert aside == {f"{path.name}.damaged-1", f"{path.name}.damaged-2"}  # capped


@pytest.mark.parametrize(("at", "old", "new"), [(None, b"kind TEXT", b"kind T\xceXT"), (18, b"\2", b"\3")])
def test_damage_of_which_sqlite_says_something_else_is_set_aside_too_clause_x3(
    at: int | None, old: bytes, new: bytes, path: Path
) -> None:
    """Tables whose description Python cannot even quote; a header by which the file claims that it cannot be written,
    which was told as a worn card.
    """

    async def fill(store: Store) -> None:
        await store.append([Record("x", NOW)])

    run(path, fill)
    body = path.read_bytes()
    at = body.index(old) if at is None else at
    assert body[at : at + len(old)] == old
    path.write_bytes(body[:at] + new + body[at + len(old) :])

    async def anew(store: Store) -> None:
        assert store.aside == (1, f"{path}.damaged-1")
        assert await store.append([Record("x", NOW)]) == 1

    run(path, anew)


def test_any_single_damaged_byte_never_escapes_our_errors(path: Path) -> None:
    """Clause C1, X3: whatever the file holds, it gives a usable store, at the second try at the latest, or one of our
    errors.
    """

    async def fill(store: Store) -> None:
        await store.commit([Record("x", NOW, "y" * 100)] * 20, outbox=[mail("a@x")], snapshot=b"s", keep={"k": b"v"})

    async def read(store: Store) -> None:
        for last in (False, True):
            try:
                await store.journal_tail(20)
                await store.load_snapshot()
                await store.outbox_queued()
                await store.outbox_sent()
                await store.kept("k")
            except StoreUnavailable as error:
                assert (error.reason, last) == ("corrupt", False)
        await fill(store)

    run(path, fill)
    good = path.read_bytes()
    rng = random.Random(3)
    opened = 0
    for _ in range(200):
        body = bytearray(good)
        body[rng.choice((rng.randrange(100), rng.randrange(len(body))))] ^= 1 << rng.randrange(8)
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_bytes(body)
        try:
            run(path, read)
            opened += 1
        except StoreUnavailable:
            pass
    assert opened > 100


def test_an_empty_or_half_made_file_is_begun(path: Path) -> None:
    async def fill(store: Store) -> None:
        assert store.opening is not None
        assert store.opening.created
        await store.append([Record("x", NOW)])

    path.parent.mkdir()
    path.touch()
    run(path, fill)
    path.unlink()
    raw = sqlite3.connect(path)  # power cut between the first pragma and the tables
    raw.execute("PRAGMA journal_mode=WAL")
    raw.close()
    run(path, fill)


def test_a_creation_cut_off_while_its_journal_was_hot_is_begun_again_clause_c1(path: Path) -> None:
    """Seen after power cuts: the file could not be read for ever, with "attempt to write a readonly database"."""
    path.parent.mkdir()
    other = path.with_name("other.db")
    raw = sqlite3.connect(other, isolation_level=None)
    raw.execute("PRAGMA cache_size=1")
    raw.execute("BEGIN")
    raw.execute("CREATE TABLE x (y)")
    raw.execute("INSERT INTO x VALUES (zeroblob(100000))")  # more than the cache: pages are in the file already
    for tail in ("", "-journal"):
        shutil.copy(f"{other}{tail}", f"{path}{tail}")
    raw.close()
    assert path.stat().st_size > 0

    async def test(store: Store) -> None:
        assert store.opening is not None
        assert store.opening.created
        assert store.opening.set_aside is None
        await store.append([Record("x", NOW)])

    run(path, test)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_a_full_disk_has_its_reason_and_heals(small_disk: Path) -> None:
    async def test(store: Store) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            for _ in range(100):
                await store.append([Record("x", NOW, "y" * 10_000)])
        assert caught.value.reason == "full"
        before = len(await store.journal_tail(100))
        with pytest.raises(StoreUnavailable):
            await store.append([Record("x", NOW, "y" * 100_000)])
        assert len(await store.journal_tail(100)) == before
        remount(small_disk, "size=4m")
        await store.append([Record("x", NOW, "y" * 100_000)])
        assert len(await store.journal_tail(100)) == before + 1

    run(small_disk / "edgeagent.db", test)


def test_a_read_only_disk_has_its_reason(small_disk: Path) -> None:
    async def nothing(store: Store) -> None:
        await store.append([Record("x", NOW)])

    run(small_disk / "edgeagent.db", nothing)
    remount(small_disk, "ro")
    assert refused(small_disk / "edgeagent.db").reason == "readonly"
    assert refused(small_disk / "new" / "edgeagent.db").reason == "readonly"


HANG_S = 60.0


def test_a_hung_disk_hangs_neither_loop_nor_exit(path: Path) -> None:
    async def test() -> None:
        release = threading.Event()
        done: list[int] = []
        worker = Worker()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(worker.call(release.wait, HANG_S), 0.05)
        late = [asyncio.ensure_future(worker.call(done.append, n)) for n in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable) as caught:
            await worker.call(done.append, -1)
        assert caught.value.reason == "hung"
        began = time.monotonic()
        assert not await worker.close(0.05)
        assert time.monotonic() - began < HANG_S / 2
        with pytest.raises(StoreUnavailable) as caught:
            await worker.call(done.append, -2)
        assert caught.value.reason == "closed"
        release.set()
        await asyncio.gather(*late)
        assert done == list(range(MAX_WAITING))  # handed over is done, in order
        assert await worker.close(HANG_S)

    asyncio.run(test())


def test_the_workers_errors_reach_the_caller_and_it_goes_on() -> None:
    async def test() -> None:
        worker = Worker()
        names = {await worker.call(lambda: threading.current_thread().name) for _ in range(3)}
        assert names == {"store"}
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda: 1 // 0)
        assert await worker.call(int, "7") == 7
        assert await worker.close(HANG_S)

    asyncio.run(test())


def test_kill_9_loses_no_acknowledged_record(path: Path) -> None:
    """Clause C1, the process half ; power cuts are another matter."""
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from edgeagent.store.store import Store; from edgeagent.store.records import Record\n"
        "from edgeagent.core.facts import Instant\n"
        "async def main():\n"
        "    store = await Store.open(Path(sys.argv[1]))\n"
        "    while True:\n"
        "        sys.stdout.write(f\"{await store.append([Record('x', Instant(1.0, 'b'))])}\\n\"); sys.stdout.flush()\n"
        "asyncio.run(main())\n"
    )
    import sys

    acknowledged = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(20):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split()
            acknowledged = int(rest[-1]) if rest else acknowledged

    async def check(store: Store) -> None:
        assert store.opening is not None
        assert not store.opening.created
        tail = await store.journal_tail(10_000)
        assert len(tail) >= acknowledged >= 60
        assert [e.seq for e in tail] == list(range(1, len(tail) + 1))

    run(path, check)


def test_the_file_says_whose_it_is(path: Path) -> None:
    async def nothing(_: Store) -> None:
        pass

    run(path, nothing)
    head = path.read_bytes()[:100]
    assert int.from_bytes(head[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(head[60:64], "big") == FORMAT
