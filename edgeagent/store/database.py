"""The SQLite file, used from one thread (store.worker). Every method is one transaction; store.store is its
asynchronous face.
"""

import errno
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.core.facts import Instant
from edgeagent.store import migrations, rescue
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.file import BUSY_S, damaged, forget_cached, known_format, set_aside
from edgeagent.store.packing import pack, sealed, unpack
from edgeagent.store.records import Entry, Opening, Outgoing, Queued, Record, Sent, Snapshot
from edgeagent.store.schema import CREATE, FORMAT, PRAGMAS

KEEP_ROWS = 200_000  # journal lines: 400 days of one batch every 5 minutes, and room for incidents
KEEP_BYTES = 32 * 2**20  # beyond that old bulky lines go: opening reads the whole file, and a card is slow
BULKY_BYTES = 500  # as stored; what an incident or a credit claim needs years later is shorter
KEEP_FINISHED = 2_000  # messages sent, dropped or merged
PRUNE_BATCH = 500  # rows per call: pruning must never hold up a transition

_OUTBOX_QUEUED = """
SELECT id, incident, audience, kind, payload, created_mono_s, created_boot, created_wall, created_quality,
    state, tries, next_try_s, next_try_boot, sent_at, answer, maybe_taken
FROM outbox WHERE state = 'queued' ORDER BY number LIMIT ?
"""
_OUTBOX_SENT = """
SELECT id, incident, audience, kind, sent_mono_s, sent_boot, sent_at
FROM outbox WHERE state = 'sent' ORDER BY number DESC LIMIT ?
"""
_MARK_TRY = """
UPDATE outbox SET tries = tries + 1, answer = ?, next_try_s = ?, next_try_boot = ?, maybe_taken = max(maybe_taken, ?)
WHERE id = ?
"""
_REASONS = {  # primary result codes, sqlite.org/rescode.html
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_IOERR: "io",
    sqlite3.SQLITE_CANTOPEN: "io",
    sqlite3.SQLITE_NOMEM: "io",
    sqlite3.SQLITE_PROTOCOL: "io",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_ERROR: "corrupt",  # our statements are tested: it is the tables that are not what they were
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
}
# UnicodeDecodeError: SQLite's own message, where it quotes a damaged name.
_TOLD = (sqlite3.DatabaseError, OSError, zlib.error, UnicodeDecodeError)
_OS_REASONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "readonly",
    errno.EPERM: "readonly",
}


class Database:
    """Opens on first use, and anew after a failing disk or damage: a file whose sync failed must not be trusted on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self.opening: Opening | None = None  # what the last opening found
        self.aside: tuple[int, str] | None = None  # how many damaged files were set aside, and the last one's name
        self._unreadable = False  # damage was met in a file that opens: pages carry no checksum
        self._rescued: list[rescue.Line] = []  # of the file set aside, not in the new one yet

    def open(self) -> Opening:
        """Open or create the file. Raises StoreNewer and StoreUnavailable; a damaged file is renamed and begun anew."""
        self.close()
        with self.reasons():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = None
            if self._unreadable:
                self._rescued = rescue.readable(self._path)
                aside = self._set_aside()
            try:
                found = self._open_file()
            except _TOLD as error:
                if _reason(error) != "corrupt":
                    raise
                aside = self._set_aside()
                found = self._open_file()
            self._put_back()
        older = found if 0 < found < FORMAT else None
        self.opening = Opening(created=found == 0, set_aside=aside, migrated_from=older)
        return self.opening

    def close(self) -> None:
        """Close; what was committed is on the disk already."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):  # a failing disk may refuse the last tidying up; nothing of ours is in it
                connection.close()

    def commit(
        self,
        records: Sequence[Record],
        outbox: Sequence[Outgoing],
        snapshot: bytes | None,
        keep: Mapping[str, bytes],
        dropped: Mapping[str, str],
        merged: Mapping[str, str],
    ) -> int:
        """All of it or nothing; returns the journal's last number."""
        encode = msgspec.json.encode
        lines = [
            (*_instant(r.at), r.kind, pack(r.data if isinstance(r.data, bytes) else encode(r.data))) for r in records
        ]
        messages = [
            (m.message_id, m.incident, m.audience, m.kind, encode(m.payload), *_instant(m.created)) for m in outbox
        ]
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO journal (boot_id, mono_s, wall, wall_quality, kind, data) VALUES (?, ?, ?, ?, ?, ?)", lines
            )
            connection.executemany(
                "INSERT INTO outbox (id, incident, audience, kind, payload, created_boot, created_mono_s, "
                "created_wall, created_quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO NOTHING",
                messages,
            )
            connection.executemany(
                "UPDATE outbox SET state = ?, answer = ? WHERE id = ? AND state = 'queued'",
                [
                    (state, answer, message_id)
                    for state, answers in (("dropped", dropped), ("merged", merged))
                    for message_id, answer in answers.items()
                ],
            )
            last = self._number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'")
            values = [(f"kept:{key}", value) for key, value in keep.items()]
            if snapshot is not None:
                values += [("snapshot", sealed(snapshot)), ("snapshot_seq", str(last).encode())]
            connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values)
        return last

    def load_snapshot(self) -> Snapshot | None:
        """The last one committed."""
        with self._values() as connection:
            found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('snapshot', 'snapshot_seq')"))
            if "snapshot" not in found:
                return None
            return Snapshot(seq=int(found["snapshot_seq"]), body=unpack(found["snapshot"]))

    def kept(self, key: str) -> bytes | None:
        """A value stored with `keep`."""
        with self._values() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (f"kept:{key}",)).fetchone()
        return None if row is None else row[0]

    def journal_tail(self, n: int) -> list[Entry]:
        """The last n lines, oldest first."""
        return self._journal("ORDER BY seq DESC LIMIT ?", (n,))[::-1]

    def journal_after(self, seq: int, limit: int) -> list[Entry]:
        """Lines after `seq`, oldest first, at most `limit`."""
        return self._journal("WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))

    def outbox_queued(self, limit: int) -> list[Queued]:
        """Queued messages, oldest first."""
        with self._values() as connection:
            rows = connection.execute(_OUTBOX_QUEUED, (limit,)).fetchall()
        return [_queued(row) for row in rows]

    def outbox_sent(self, limit: int) -> list[Sent]:
        """The messages sent last, newest last."""
        with self._values() as connection:
            rows = connection.execute(_OUTBOX_SENT, (limit,)).fetchall()
        return [Sent(*row) for row in reversed(rows)]

    def outbox_count(self) -> int:
        """How many messages are queued, due or not."""
        with self._reading():
            return self._number("SELECT count(*) FROM outbox WHERE state = 'queued'")

    def mark_sent(self, message_id: str, now: Instant, answer: str) -> None:
        """The server took it."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox SET state = 'sent', tries = tries + 1, sent_at = ?, sent_mono_s = ?, sent_boot = ?, "
                "answer = ? WHERE id = ?",
                (now.wall, now.mono_s, now.boot_id, answer, message_id),
            )

    def mark_try(self, message_id: str, error: str, now: Instant, next_try_s: float, maybe_taken: bool) -> None:
        """It was tried in vain; `next_try_s` is on the clock of `now`."""
        with self._transaction() as connection:
            connection.execute(_MARK_TRY, (error, next_try_s, now.boot_id, maybe_taken, message_id))

    def prune(self, older_than_wall: float | None, keep_rows: int, keep_bytes: int) -> int:
        """Forget at most PRUNE_BATCH old lines; returns how many went (call again later while it is not 0).

        By age only lines whose own clock was trusted, and only from the journal's beginning. Of a file that has grown
        too large, the oldest bulky lines.
        """
        with self._transaction() as connection:
            gone = connection.execute(
                "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal ORDER BY seq LIMIT ?) AND ("
                "seq <= (SELECT max(seq) FROM journal) - ? OR (wall_quality = 'synced' AND wall < ?))",
                (PRUNE_BATCH, keep_rows, float("-inf") if older_than_wall is None else older_than_wall),
            ).rowcount
            if not gone and self._used_bytes() > keep_bytes:
                gone = connection.execute(
                    "DELETE FROM journal WHERE seq IN "
                    "(SELECT seq FROM journal WHERE length(data) > ? ORDER BY seq LIMIT ?)",
                    (BULKY_BYTES, PRUNE_BATCH),
                ).rowcount
            connection.execute(
                "DELETE FROM outbox WHERE state <> 'queued' AND number <= (SELECT max(number) FROM outbox) - ?",
                (KEEP_FINISHED,),
            )
        return gone

    def _used_bytes(self) -> int:
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    # -- below: opening, transactions, reasons --

    def _journal(self, rest: str, values: tuple[int, ...]) -> list[Entry]:
        with self._values() as connection:
            rows = connection.execute(
                f"SELECT seq, kind, mono_s, boot_id, wall, wall_quality, data FROM journal {rest}",  # noqa: S608
                values,
            ).fetchall()
            return [
                Entry(seq, kind, Instant(mono, boot, wall, quality), unpack(data))
                for seq, kind, mono, boot, wall, quality, data in rows
            ]

    def _number(self, question: str) -> int:
        assert self._connection is not None  # noqa: S101  (private; every caller has opened it)
        number: int = self._connection.execute(question).fetchone()[0]
        return number

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            self.open()
        assert self._connection is not None  # noqa: S101  (open() raises otherwise)
        with self.reasons():
            yield self._connection

    @contextmanager
    def _values(self) -> Iterator[sqlite3.Connection]:
        """Reading what was written as text, number or compressed: what is none of it now is damage."""
        with self._reading() as connection:
            try:
                yield connection
            except (ValueError, KeyError) as error:
                raise damaged(str(error)) from error
            except sqlite3.OperationalError as error:
                if hasattr(error, "sqlite_errorcode"):
                    raise
                raise damaged(str(error)) from error  # of Python's own making: text that is no UTF-8

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reasons(self) -> Iterator[None]:
        """Turn SQLite's and the system's errors into reasons; anything else is our bug and passes."""
        try:
            yield
        except StoreUnavailable:
            raise
        except _TOLD as error:
            reason = _reason(error)
            if reason is None:
                raise
            if reason == "io":
                reason = self._closer_look()
            self._unreadable = self._unreadable or reason == "corrupt"
            if reason not in ("full", "busy"):  # held open, a file keeps its disk from being mounted anew
                self.close()
            raise StoreUnavailable(reason, str(self._path), str(error)) from error

    def _closer_look(self) -> str:
        """SQLite tells a full or read-only disk at some places only as a failed call; try it. statvfs(3) would not do:
        ext4 after an error of its own (errors=remount-ro) refuses every write, and calls itself writable (Linux 6.18).
        """
        attempt = self._path.with_name(f"{self._path.name}.try")
        try:
            attempt.write_bytes(bytes(4096))
            attempt.unlink()
        except OSError as error:
            with suppress(OSError):
                attempt.unlink(missing_ok=True)
            return _OS_REASONS.get(error.errno or 0, "io")
        return "io"

    def _set_aside(self) -> str:
        name = set_aside(self._path)
        self._unreadable = False
        self.aside = (self.aside[0] + 1 if self.aside else 1, name)
        return name

    def _put_back(self) -> None:
        """What was rescued, into the new file; where it does not take it, the next opening tries again."""
        assert self._connection is not None  # noqa: S101  (private; called once it is open)
        if not self._rescued:
            return
        try:
            rescue.put_back(self._connection, self._rescued)
        except BaseException:
            self.close()
            raise
        self._rescued = []

    def _open_file(self) -> int:
        """Connect and make sure of the tables; returns the format found, 0 for a file without tables."""
        forget_cached(self._path)
        found = known_format(self._path)
        if 0 < found < FORMAT and migrations.room_is_missing(self._path):  # told before anything of it is touched
            raise StoreUnavailable("full", str(self._path), f"format {found} needs room to become {FORMAT}")
        connection = self._connect()
        try:
            if found == 0:
                connection.executescript(CREATE)
            elif found < FORMAT:
                _migrate(connection, self._path)
        except BaseException:
            connection.close()  # never go on with tables that are not ours
            raise
        self._connection = connection
        return found

    def _connect(self) -> sqlite3.Connection:
        os.close(
            os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # SQLite's other files take this mode
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            _check(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    try:
        migrations.migrate(connection, path, FORMAT)
    except sqlite3.DatabaseError as error:
        if _reason(error) is None:  # such as a row that the new table does not take
            raise damaged(str(error)) from error
        raise


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise damaged(str(verdict))


def _reason(error: BaseException) -> str | None:
    if isinstance(error, (zlib.error, UnicodeDecodeError)):
        return "corrupt"
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _REASONS.get(code & 0xFF)
    if isinstance(error, OSError):
        return _OS_REASONS.get(error.errno or 0, "io")
    return None


def _queued(row: tuple[Any, ...]) -> Queued:
    """A row of _OUTBOX_QUEUED."""
    message_id, incident, audience, kind, payload, mono_s, boot_id, wall, wall_quality = row[:9]
    state, tries, next_try_s, next_try_boot, sent_at, answer, maybe_taken = row[9:]
    created = Instant(mono_s, boot_id, wall, wall_quality)
    tried = (state, tries, next_try_s, next_try_boot, sent_at, answer, bool(maybe_taken))
    return Queued(message_id, incident, audience, kind, payload, created, *tried)


def _instant(at: Instant) -> tuple[str, float, float | None, str]:
    return at.boot_id, at.mono_s, at.wall, at.wall_quality
