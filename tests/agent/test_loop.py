"""The loop, the control socket and the process around them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from edgeagent.core.facts import Fact, Instant, LeasesSeen, LinkChanged, ProbeReplied, RoundSent
from edgeagent.core.failover import Place
from edgeagent.core.intents import Notify
from edgeagent.core.turn import Kept
from edgeagent.daemon import loop as module
from edgeagent.daemon import postman
from edgeagent.daemon.control import StatusSocket
from edgeagent.daemon.loop import FACTS_MAX, UNSAVED_BYTES, UNSAVED_MAX, Loop
from edgeagent.host import clock
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Entry, Record, Snapshot
from edgeagent.store.store import Store
from tests.agent.support import Beats, run, site_at, until


class Recorder:
    """Stands for actuator, router poller and path pollers: notes what it is told, and when."""

    def __init__(self, log: list[tuple[float, str]]) -> None:
        self.log = log

    def order(self, what: Any, **_more: Any) -> None:
        if isinstance(what, frozenset) and any(lease.list == "edge-lte-site" for lease in what):
            self.log.append((clock.mono_s(), "act"))

    def move(self, _moves: Any) -> None:
        pass

    def address_seen(self, _path: str, _address: str | None) -> None:
        pass


class SlowStore:
    """Commits when told to."""

    def __init__(self, log: list[tuple[float, str]]) -> None:
        self.log = log
        self.free = asyncio.Event()
        self.free.set()
        self.broken = False
        self.records: list[str] = []
        self.taken: list[Any] = []
        self.messages: list[str] = []
        self.snapshots: list[bytes] = []
        self.aside: tuple[int, str] | None = None
        self.reason = "full"
        self.kept: Kept | None = None
        self.reading = asyncio.Event()
        self.reading.set()

    async def load_snapshot(self) -> Snapshot | None:
        await self.reading.wait()
        if self.broken:
            raise StoreUnavailable(self.reason, "here")
        return None if self.kept is None else Snapshot(0, msgspec.msgpack.encode(self.kept))

    async def journal_tail(self, _n: int) -> list[Entry]:
        return [] if self.kept is None else [Entry(1, "facts", instant(), b"")]

    async def commit(self, records: Any, *, outbox: Any = (), snapshot: bytes | None = None) -> int:
        await self.free.wait()
        if self.broken:
            raise StoreUnavailable(self.reason, "here")
        self.log.append((clock.mono_s(), "commit"))
        self.records += [record.kind for record in records]
        self.taken += records
        self.snapshots += [snapshot] if snapshot is not None else []
        self.messages += [message.message_id for message in outbox]
        return 1


def instant() -> Instant:
    return Instant(clock.mono_s(), "boot-1", 1_785_500_000.0, "synced")


def made(folder: Path, store: Any, log: list[tuple[float, str]]) -> Loop:
    site = site_at(folder)
    one: Any = Recorder(log)

    def outgoing(notice: Notify, now: Instant) -> Any:
        return postman.outgoing(site, notice, now)

    return Loop(site.settings(), store, one, one, {"primary": one, "lte": one}, outgoing, instant)


def alive() -> list[Fact]:
    now_s = clock.mono_s()
    sent = [RoundSent(path, 1, now_s, ("icmp:a",)) for path in ("primary", "lte")]
    return [*sent, *(ProbeReplied(path, 1, "icmp:a", now_s) for path in ("primary", "lte"))]


async def failed_over(it: Loop) -> float:
    """Tell a failover; when it was told."""
    for fact in alive():
        it.tell(fact)
    await until(lambda: it.state.paths["lte"].verdict == "up")
    it.tell(LinkChanged("primary", False, clock.mono_s()))
    return clock.mono_s()


def looping(
    folder: Path, test: Callable[[Loop, SlowStore, list[tuple[float, str]]], Any], broken: bool = False
) -> None:
    async def go() -> None:
        log: list[tuple[float, str]] = []
        store = SlowStore(log)
        store.broken = broken
        it = made(folder, store, log)
        task = asyncio.create_task(it.run())
        try:
            await test(it, store, log)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])

    run(go)


def test_what_was_decided_is_recorded_before_it_is_done_clause_c1(tmp_path: Path) -> None:
    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        await failed_over(it)
        await until(lambda: any(what == "act" for _, what in log))
        first = [what for _, what in log].index("act")
        assert log[first - 1][1] == "commit"
        assert "place" in store.records
        assert len(store.messages) == 2

    looping(tmp_path, test)


def test_a_hanging_disk_delays_a_switch_by_a_fifth_of_a_second_clause_l6(tmp_path: Path) -> None:
    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        for fact in alive():
            it.tell(fact)
        await until(lambda: bool(store.records))
        store.free.clear()
        await failed_over(it)
        beats = Beats()
        await until(lambda: any(what == "act" for _, what in log))
        assert beats.end() < 0.35
        assert store.messages == []
        assert it.document()["store"] == "unavailable"
        store.free.set()
        await until(lambda: len(store.messages) == 2)
        it.tell(LinkChanged("primary", False, clock.mono_s()))
        await until(lambda: it.document()["store"] == "good")
        assert sorted(store.messages) == sorted(set(store.messages))

    looping(tmp_path, test)


def test_a_switch_waits_for_the_commit_under_way_and_is_recorded_first_clause_c1(tmp_path: Path) -> None:
    """A fifth of a second for both; what is being written when the switch comes are facts of the minutes before."""

    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        for fact in alive():
            it.tell(fact)
        await until(lambda: it.state.paths["lte"].verdict == "up" and not it.saving)
        log.clear()
        store.free.clear()
        it.unsaved.append(Record("facts", instant(), b"of the minutes before"))
        it.wake.set()
        await until(lambda: bool(it.saving))
        asyncio.get_running_loop().call_later(0.05, store.free.set)
        it.tell(LinkChanged("primary", False, clock.mono_s()))
        await until(lambda: any(what == "act" for _, what in log))
        assert "place" in store.records
        assert [what for _, what in log][:3] == ["commit", "commit", "act"]
        assert not it.late

    looping(tmp_path, test)


def test_an_end_during_a_commit_writes_nothing_twice_clause_c6(tmp_path: Path) -> None:
    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        store.free.clear()
        await failed_over(it)
        await until(lambda: any(what == "act" for _, what in log))
        asyncio.get_running_loop().call_later(0.2, store.free.set)
        await it.close()
        assert "place" in store.records
        assert len({id(record) for record in store.taken}) == len(store.taken)
        assert store.records[-1] == "stopped"
        assert len(store.messages) == 2

    looping(tmp_path, test)


def test_a_full_disk_is_told_once_and_nothing_is_lost_clause_c3(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.2)

    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        store.broken = True
        await failed_over(it)
        await until(lambda: any(what == "act" for _, what in log))
        for _ in range(20):
            it.tell(LinkChanged("primary", False, clock.mono_s()))
            await asyncio.sleep(0.01)
        assert sum("kept in memory" in record.message for record in caplog.records) == 1
        assert "store_full" in it.state.faults.raised
        store.broken = False
        it.tell(LinkChanged("primary", False, clock.mono_s()))
        await until(lambda: len(store.messages) == 2)
        assert "place" in store.records

    looping(tmp_path, test)


def test_what_a_slow_disk_tells_late_is_not_written_over_and_its_incident_ends_clause_n1(tmp_path: Path) -> None:
    async def go() -> None:
        log: list[tuple[float, str]] = []
        store = SlowStore(log)
        store.kept = Kept("boot-0", Place(phase="away", path="lte", since_s=1.0, incident="i-1"))
        it = made(tmp_path, None, log)
        task = asyncio.create_task(it.run())
        it.tell(LeasesSeen((), clock.mono_s()))
        for fact in alive():
            it.tell(fact)
        await until(lambda: it.state.paths["lte"].verdict == "up")
        store.reading.clear()
        it.use(cast(Store, store))
        await failed_over(it)
        beats = Beats()
        await until(lambda: any(what == "act" for _, what in log))
        assert beats.end() < 0.35
        assert not store.records, "the first commit would write over it"
        store.reading.set()
        await until(lambda: "place" in store.records)
        kinds = [kind for kind in store.records if kind in ("gap", "state", "place")]
        assert kinds == ["state", "place", "gap", "state"], "a replay goes on from the second state"
        left = msgspec.msgpack.decode(store.snapshots[0], type=Kept)
        assert left.place.incident not in ("", "i-1")
        assert left.former is not None
        assert left.former.incident == "i-1"
        task.cancel()
        await asyncio.wait([task])

    run(go)


def test_a_read_that_fails_is_tried_again_before_anything_is_written_clause_c1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.2)

    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        await until(lambda: "store_full" in it.state.faults.raised)
        await failed_over(it)
        await until(lambda: any(what == "act" for _, what in log))
        assert not store.records
        store.broken = False
        await until(lambda: "place" in store.records)
        await until(lambda: not it.state.faults.raised)

    looping(tmp_path, test, broken=True)


@pytest.mark.parametrize("answer_s", [0.0, 0.5])
def test_a_disk_that_opens_but_cannot_be_read_is_one_steady_fault_clause_c3(
    answer_s: float, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as hung and as failed by turns, every ten seconds, and neither for long enough to be mailed. A dying
    card may also take longer to refuse than a disk may that is not hung.
    """
    for name, value in (("HUNG_S", 0.2), ("IDLE_S", 0.02), ("READ_AGAIN_S", 0.1), ("READ_AGAIN_MOST_S", 0.4)):
        monkeypatch.setattr(module, name, value)

    async def go() -> None:
        store = SlowStore([])
        store.broken, store.reason = True, "io"
        tries: list[float] = []

        async def refusing() -> Snapshot | None:
            tries.append(clock.mono_s())
            await asyncio.sleep(answer_s)
            return await SlowStore.load_snapshot(store)

        monkeypatch.setattr(store, "load_snapshot", refusing)
        it = made(tmp_path, store, [])
        task = asyncio.create_task(it.run())
        await until(lambda: it.trouble == "store_failed")
        lines = len(caplog.records)
        while "store_failed" not in it.state.faults.raised or len(tries) < 6:
            assert it.trouble == "store_failed"
            it.tell(LinkChanged("primary", True, clock.mono_s()))
            await asyncio.sleep(0.02)
        assert not [record for record in caplog.records[lines:] if "kept in memory" in record.message]
        gaps = [after - before - answer_s for before, after in itertools.pairwise(tries)]
        assert gaps == sorted(gaps, key=lambda gap: round(gap, 1)), "more and more rarely"
        assert 0.35 < gaps[-1] < 0.6
        store.broken = False
        await until(lambda: not it.state.faults.raised)
        task.cancel()
        await asyncio.wait([task])

    caplog.set_level(logging.WARNING)
    run(go)


@pytest.mark.parametrize("damaged", ["journal SET data = x'7801'", "meta SET value = x'78' WHERE key = 'snapshot'"])
def test_a_history_that_opens_but_cannot_be_read_is_begun_anew_within_seconds_clause_c3(
    damaged: str, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    place = Place(phase="away", path="lte", since_s=1.0, incident="i-1")

    async def go() -> None:
        store = await Store.open(path)
        body = msgspec.msgpack.encode(Kept("boot-1", place))
        await store.commit([Record("facts", instant(), b"f" * 400)], snapshot=body)
        await store.close()
        with contextlib.closing(sqlite3.connect(path)) as raw:
            raw.execute(f"UPDATE {damaged}")
            raw.commit()
        store = await Store.open(path)
        it = made(tmp_path, store, [])
        task = asyncio.create_task(it.run())
        await until(lambda: "store_set_aside" in it.state.faults.raised)
        # The state has a fault before the disk has it.
        while "fault raised" not in [one.kind for one in await store.journal_tail(9)]:  # noqa: ASYNC110  nobody says when
            await asyncio.sleep(0.01)
        assert path.with_name("store.db.damaged-1").exists()
        assert it.state.faults.raised == {"store_set_aside"}
        assert ("i-1" in it.state.place.incident) is ("journal" in damaged), "a state that can be read is not forgotten"
        task.cancel()
        await asyncio.wait([task])
        await it.close()
        assert (await store.journal_tail(1))[0].kind == "stopped"
        await store.close()

    run(go)


def test_a_disk_that_hangs_while_it_is_read_is_told_as_hung_clause_c3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_S", 0.2)
    monkeypatch.setattr(module, "IDLE_S", 0.02)

    async def test(it: Loop, store: SlowStore, log: list[tuple[float, str]]) -> None:
        again = SlowStore([])
        again.reading.clear()
        it.use(cast(Store, again))
        await until(lambda: it.trouble == "store_hung")
        again.reading.set()
        await until(lambda: it.trouble is None)

    looping(tmp_path, test)


def test_what_a_dead_disk_makes_us_keep_is_capped_and_told_clause_c5(tmp_path: Path) -> None:
    async def go() -> None:
        it = made(tmp_path, None, [])
        now = instant()
        for number in range(100):
            it.unsaved += [Record("facts", now, bytes(100_000)), Record("place", now, {"number": number})]
            it._within_caps(now)
        assert sum(len(one.data) for one in it.unsaved if one.kind == "facts") <= UNSAVED_BYTES
        assert [one.data["number"] for one in it.unsaved if one.kind == "place"] == list(range(100))
        gaps = [one.data["records"] for one in it.unsaved if one.kind == "gap"]
        assert sum(gaps) + sum(one.kind == "facts" for one in it.unsaved) == 100
        it.unsaved = [Record("place", now, {"number": number}) for number in range(1000)]
        for _ in range(3):
            it._within_caps(now)
        assert len(it.unsaved) <= UNSAVED_MAX + 1
        assert it.unsaved[0].data == {"records": 1000 - UNSAVED_MAX}

    run(go)


def test_a_flood_of_facts_is_capped_and_the_newest_are_kept_clause_c5(tmp_path: Path) -> None:
    async def go() -> None:
        it = made(tmp_path, None, [])
        for number in range(FACTS_MAX + 2000):
            it.tell(LinkChanged("primary", True, float(number)))
        assert len(it.facts) == FACTS_MAX
        assert it.facts[-1] == LinkChanged("primary", True, float(FACTS_MAX + 1999))

    run(go)


@pytest.mark.parametrize("boot", ["boot-1", "boot-0"])
def test_the_place_is_resumed_and_the_times_of_this_boot_only_clause_c2(tmp_path: Path, boot: str) -> None:
    async def go() -> None:
        store = await Store.open(tmp_path / "store.db")
        place = Place(phase="away", path="lte", since_s=1.0, incident="i-1", left_s=(1.0,))
        await store.commit([], snapshot=msgspec.msgpack.encode(Kept(boot, place)))
        it = made(tmp_path, store, [])
        await it._resume()
        assert it.state.place.incident == "i-1", "told, and not over (clause N1)"
        assert (it.state.place == place) is (boot == "boot-1")
        assert it.state.place.left_s == ((1.0,) if boot == "boot-1" else ())
        assert it.state.leases_known is False, "where voice goes now is for the router to say"
        await store.commit([], snapshot=b"\xffjunk")
        again = made(tmp_path, store, [])
        await again._resume()
        assert again.state.place.phase == "home"
        await store.close()

    run(go)


def test_the_control_socket_gives_the_status_and_ignores_what_it_is_told_clause_x5(tmp_path: Path) -> None:
    async def go() -> None:
        it = made(tmp_path, None, [])
        path = tmp_path / "control.sock"
        path.write_text("left by a crashed one")
        socket = StatusSocket(path, it.document)
        await socket.open()
        assert path.stat().st_mode & 0o777 == 0o660
        for said in (b"", b"{]\x00" * 1000):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(said)
            document = json.loads(await reader.readline())
            assert (document["format"], document["site"], document["path"]) == (1, "site-7", "primary")
            writer.transport.abort()
        await socket.close()
        assert not path.exists()

    run(go)


def test_a_core_that_raises_ends_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(module, "turn", broken)

    async def go() -> None:
        with pytest.raises(RuntimeError):
            await made(tmp_path, None, []).run()

    run(go)


@pytest.mark.parametrize("defect", [True, False])
def test_a_core_that_failed_writes_nothing_over_what_it_was_left_clause_n1(
    defect: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = msgspec.msgpack.encode(Kept("boot-1", Place(phase="away", path="lte", since_s=1.0, incident="i-1")))

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    async def go() -> None:
        store = await Store.open(tmp_path / "store.db")
        await store.commit([Record("facts", instant())], snapshot=left)
        it = made(tmp_path, store, [])
        if defect:
            monkeypatch.setattr(module, "turn", broken)
            with pytest.raises(RuntimeError):
                await it.run()
        else:
            await it._resume()
        await it.close()
        snapshot = await store.load_snapshot()
        assert snapshot is not None
        assert (snapshot.seq == 1) is defect
        assert not defect or snapshot.body == left
        assert ((await store.journal_tail(1))[0].kind == "stopped") is not defect
        await store.close()

    run(go)


def test_a_socket_that_another_agent_has_put_in_its_place_is_left_to_it(tmp_path: Path) -> None:
    async def go() -> None:
        it = made(tmp_path, None, [])
        path = tmp_path / "control.sock"
        first, second = StatusSocket(path, it.document), StatusSocket(path, it.document)
        await first.open()
        await second.open()
        await first.close()
        reader, writer = await asyncio.open_unix_connection(str(path))
        assert json.loads(await reader.readline())["site"] == "site-7"
        writer.close()
        await second.close()
        assert not path.exists()

    run(go)


def test_the_daemon_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys, edgeagent.daemon.wiring; "
        "print([m for m in ('paramiko','pysnmp','aiosmtplib','email') if m in sys.modules]); "
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    loaded, rss_kib = done.stdout.splitlines()
    assert loaded == "[]"
    assert int(rss_kib) < 40 * 1024
