"""Cuts the power of a process that writes, and judges what its store holds when the power is back.

Processes are forked, not started: a cut takes a quarter of a second then. The one that writes shows its
acknowledgements, each with its time, in memory shared with the one that cuts: only what was acknowledged before the
cut was asked for must be there.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import shutil
import signal
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from edgeagent.store import database
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.schema import FORMAT, PRAGMAS
from edgeagent.store.store import Store
from tests.powercut.disk import Disk, die_with
from tests.powercut.mix import Contents, copied, play, read, steps_in

How = Literal["shipped", "unsynced", "split", "torn"]
Verdict = Literal["whole", "lost", "unreadable", "broken"]
# What shows that a verdict can be given: a writer that does not sync, one that splits its transactions, and a file
# whose first page is overwritten after the cut.
CONTROLS: dict[How, Verdict] = {"unsynced": "lost", "split": "broken", "torn": "unreadable"}
FRESH_EVERY = 20  # cuts; then the store begins anew, so that reading it stays short
MIGRATE_EVERY = 5
FOLD_EVERY = 4  # judging ends with a fold of the log so often; else the log grows over several cuts, up to a checkpoint
SPAN_S = 0.2
CREATION_S = 0.03  # a store that begins anew is cut early
JUDGE_S = 60.0
ACKNOWLEDGEMENTS = 100_000
_BEGUN, _OPENED, _FIRST = 0, 1, 2  # places in the shared memory; 0 ns: not yet
_NS = struct.Struct("q")
_OLD = Path(__file__).parents[1] / "adapters" / "stores" / "format-1.db"


@dataclass
class Tally:
    """What a run found. ``migrations`` are the cuts of a process that opened a file of format 1, ``midway`` those of
    them that fell before it was open.
    """

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    unreadable: int = 0
    broken: int = 0
    migrations: int = 0
    midway: int = 0
    bites: dict[str, int] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Judged(NamedTuple):
    """`steps`: how many the store holds, -1 where that cannot be told."""

    verdict: Verdict
    steps: int
    note: str = ""


class Cutter:
    """One disk, one store on it, cut again and again."""

    def __init__(self, disk: Disk, seed: int) -> None:
        self.disk = disk
        self.seed = seed
        self.path = disk.top / "state" / "store.db"
        self.shown = mmap.mmap(-1, _NS.size * ACKNOWLEDGEMENTS)
        self.base = Contents()
        self.steps = 0
        self.tally = Tally()
        self.old, self.old_holds, self.migration_s = _old_store(disk)

    def run(self, cuts: int) -> Tally:
        """So many cuts of the shipped store, then each control until it bites, 20 times at most."""
        for number in range(cuts):
            migrating = number % MIGRATE_EVERY == MIGRATE_EVERY - 1
            if migrating:
                self._begin(self.old)
            elif number % FRESH_EVERY == 0:
                self._begin(None)
            span_s = self.migration_s * 1.2 if migrating else SPAN_S if number % FRESH_EVERY else CREATION_S
            self._count(self._cut(number, "shipped", span_s, migrating))
        for how, verdict in CONTROLS.items():
            self.tally.bites[how] = 0
            for number in range(20):
                self._begin(None)
                judged = self._cut(number, how, SPAN_S)
                self.tally.bites[how] += judged.verdict == verdict
                self.tally.tries[how] = number + 1
                if judged.verdict == verdict:
                    break
        return self.tally

    def _begin(self, store: bytes | None) -> None:
        """A new store, or a file of format 1, safely on the disk."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        self.path.parent.mkdir()
        self.base, self.steps = Contents(), 0
        if store is not None:
            self.path.write_bytes(store)
            self.base = copied(self.old_holds)
        self.disk.sync()

    def _count(self, judged: Judged) -> None:
        self.tally.cuts += 1
        if judged.verdict != "whole":
            setattr(self.tally, judged.verdict, getattr(self.tally, judged.verdict) + 1)
            self.tally.notes.append(f"cut {self.tally.cuts - 1}: {judged.verdict}: {judged.note}")
            self._begin(None)
        else:
            self.steps = judged.steps

    def _cut(self, number: int, how: How, span_s: float, migrating: bool = False) -> Judged:
        moment = random.Random(f"{self.seed}/{how}/{number}")
        self.shown[:] = bytes(len(self.shown))
        writer = _forked(lambda: _write(self.path, self.steps, self.shown, how))
        while not self._times(1) and not _ended(writer):
            time.sleep(0.0005)
        time.sleep(moment.uniform(0.0, span_s))
        ended = _ended(writer)
        at_ns = self.disk.cut()
        if not ended:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
        self.disk.unmount()
        self.disk.mount()
        shown = self._times(ACKNOWLEDGEMENTS)
        times = shown[_FIRST:]
        if ended:
            raise RuntimeError(f"the writer ended before its cut ({how}, cut {number})")
        if migrating:
            self.tally.migrations += 1
            self.tally.midway += len(shown) == _OPENED or shown[_OPENED] >= at_ns
        if how == "torn":
            _tear(self.path)
        sure = sum(at < at_ns for at in times)
        self.tally.acknowledged += sure if how == "shipped" else 0
        fold = moment.randrange(FOLD_EVERY) == 0
        return self._judged(self.steps + sure, self.steps + len(times) + 1, fold)

    def _times(self, most: int) -> list[int]:
        found = []
        for place in range(most):
            (at_ns,) = _NS.unpack_from(self.shown, place * _NS.size)
            if not at_ns:
                break
            found.append(at_ns)
        return found

    def _judged(self, sure: int, most: int, fold: bool) -> Judged:
        """By a process of its own: ended without closing, it leaves the log as it was."""
        reading, writing = os.pipe()

        def judge() -> None:
            try:
                found = asyncio.run(_judge(self.path, self.base, sure, most, fold))
            except (StoreUnavailable, sqlite3.DatabaseError, AssertionError) as error:
                found = Judged("unreadable", -1, f"{type(error).__name__} {error}")
            os.write(writing, "\0".join(map(str, found)).encode()[:4000])

        judging = _forked(judge)
        os.close(writing)
        with open(reading, "rb") as pipe:  # noqa: PTH123  (a descriptor)
            said = pipe.read().decode()
        os.waitpid(judging, 0)
        if not said:
            return Judged("unreadable", -1, "reading it failed in an unforeseen way")
        verdict, steps, note = said.split("\0", 2)
        return Judged(verdict, int(steps), note)  # type: ignore[arg-type]


async def _judge(path: Path, base: Contents, sure: int, most: int, fold: bool) -> Judged:
    store = await Store.open(path)
    if store.opening is not None and store.opening.set_aside:
        return Judged("unreadable", -1, "set aside as damaged")
    found = await read(store, path)
    if fold:
        await store.close()
    steps = steps_in(found, base, most)
    if steps is None:
        said = f"{len(found.lines)} lines, {len(found.outbox)} messages: no number of whole steps gives this"
        return Judged("broken", -1, said)
    if steps < sure:
        return Judged("lost", steps, f"{sure} acknowledged, {steps} there")
    return Judged("whole", steps)


def _write(path: Path, first: int, shown: mmap.mmap, how: How) -> None:
    if how == "unsynced":
        without = tuple(pragma.replace("synchronous=FULL", "synchronous=OFF") for pragma in PRAGMAS)
        setattr(database, "PRAGMAS", without)  # noqa: B010  (a patch, in a process that is soon gone)

    def show(place: int) -> None:
        _NS.pack_into(shown, place * _NS.size, time.monotonic_ns())

    async def go() -> None:
        show(_BEGUN)
        store = await Store.open(path)
        show(_OPENED)
        for done in range(ACKNOWLEDGEMENTS - _FIRST):
            await play(store, first + done, split=how == "split")
            show(_FIRST + done)

    try:
        asyncio.run(go())
    except StoreUnavailable:
        signal.pause()  # the power is off: be killed


def _forked(work: Callable[[], None]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_with(parent)
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def _ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] != 0


def _format(path: Path) -> int:
    """Without changing anything."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        found: int = raw.execute("PRAGMA user_version").fetchone()[0]
    return found


def _tear(path: Path) -> None:
    with path.open("r+b") as body:
        body.write(b"\xff" * 4096)


def _old_store(disk: Disk) -> tuple[bytes, Contents, float]:
    """The stored file of format 1 grown to about a megabyte, what it holds, and how long its migration takes here."""
    path = disk.top / "old.db"
    shutil.copy(_OLD, path)
    with closing(sqlite3.connect(path)) as raw:
        line = "INSERT INTO journal (boot_id, mono_s, wall_quality, kind, data) VALUES ('b', 1, 'unknown', 'facts', ?)"
        raw.executemany(line, [(f'"{"x" * 2000}{n}"'.encode(),) for n in range(300)])
        message = (
            "INSERT INTO outbox (id, incident, audience, kind, payload, created_boot, created_mono_s, created_quality, "
            "state) VALUES (?, 'i', 'customer', 'failover', ?, 'b', 1, 'unknown', ?)"
        )
        states = ("queued", "sent", "dropped")
        raw.executemany(message, [(f"old-{n}", b'"' + b"y" * 300 + b'"', states[n % 3]) for n in range(600)])
        raw.commit()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    body = path.read_bytes()

    async def migrated() -> tuple[Contents, float]:
        began_s = time.monotonic()
        store = await Store.open(path)
        took_s = time.monotonic() - began_s
        found = await read(store, path)
        await store.close()
        return found, took_s

    before = _rows(path)
    found, took_s = asyncio.run(migrated())
    if _format(path) != FORMAT or _rows(path) != before:
        raise RuntimeError("the migration changed what it should keep")
    path.unlink()
    return body, found, took_s


def _rows(path: Path) -> list[list[tuple[object, ...]]]:
    questions = ("SELECT * FROM journal", "SELECT id, state, tries, answer FROM outbox", "SELECT * FROM meta")
    with closing(sqlite3.connect(path)) as raw:
        return [raw.execute(question).fetchall() for question in questions]
