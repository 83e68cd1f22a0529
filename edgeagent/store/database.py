"""The SQLite file, used from one thread (store.worker). Every method is one transaction; store.store is its
asynchronous face.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edgeagent.core.facts import Instant
from edgeagent.store.errors import StoreNewer, StoreUnavailable
from edgeagent.store.records import Entry, Opening, Outgoing, Queued, Record, Snapshot
from edgeagent.store.schema import APPLICATION_ID, CREATE, FORMAT, PRAGMAS

KEEP_ROWS = 200_000  # journal lines: 400 days of one batch every 5 minutes, and room for incidents
KEEP_FINISHED = 2_000  # messages sent or dropped
PRUNE_BATCH = 500  # rows per call: pruning must never hold up a transition
SET_ASIDE = 2  # damaged files kept for a person to look at

_MAGIC = b"SQLite format 3\0"
_BUSY_S = 5.0
_OUTBOX_DUE = """
SELECT id, incident, audience, kind, payload, created_mono_s, created_boot, created_wall, created_quality,
    state, tries, next_try_s, next_try_boot, sent_at, answer
FROM outbox WHERE state = 'queued' AND (next_try_boot <> ? OR next_try_s <= ?) ORDER BY number LIMIT ?
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
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
}
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

    def open(self) -> Opening:
        """Open or create the file. Raises StoreNewer and StoreUnavailable; a damaged file is renamed and begun anew."""
        self.close()
        with self._reasons():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            set_aside = None
            try:
                self._refuse_unknown()
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if _reason(error) != "corrupt":
                    raise
                set_aside = self._set_aside()
                self._connection = self._connect()
            created = self._number("PRAGMA user_version") == 0
            if created:
                self._connection.executescript(CREATE)
        self.opening = Opening(created=created, set_aside=set_aside)
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
    ) -> int:
        """All of it or nothing; returns the journal's last number."""
        encode = msgspec.json.encode
        lines = [(*_instant(r.at), r.kind, encode(r.data)) for r in records]
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
                "UPDATE outbox SET state = 'dropped', answer = ? WHERE id = ? AND state = 'queued'",
                [(reason, message_id) for message_id, reason in dropped.items()],
            )
            last = self._number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal'")
            values = [(f"kept:{key}", value) for key, value in keep.items()]
            if snapshot is not None:
                values += [("snapshot", snapshot), ("snapshot_seq", str(last).encode())]
            connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values)
        return last

    def load_snapshot(self) -> Snapshot | None:
        """The last one committed."""
        with self._reading() as connection:
            found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('snapshot', 'snapshot_seq')"))
        if "snapshot" not in found:
            return None
        return Snapshot(seq=int(found["snapshot_seq"]), body=found["snapshot"])

    def kept(self, key: str) -> bytes | None:
        """A value stored with `keep`."""
        with self._reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (f"kept:{key}",)).fetchone()
        return None if row is None else row[0]

    def journal_tail(self, n: int) -> list[Entry]:
        """The last n lines, oldest first."""
        return self._journal("ORDER BY seq DESC LIMIT ?", (n,))[::-1]

    def journal_after(self, seq: int, limit: int) -> list[Entry]:
        """Lines after `seq`, oldest first, at most `limit`."""
        return self._journal("WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))

    def outbox_due(self, now: Instant, limit: int) -> list[Queued]:
        """Queued messages whose next try has come, oldest first. A time set in an earlier boot has come."""
        with self._reading() as connection:
            rows = connection.execute(_OUTBOX_DUE, (now.boot_id, now.mono_s, limit)).fetchall()
        return [_queued(*row) for row in rows]

    def outbox_count(self) -> int:
        """How many messages are queued, due or not."""
        with self._reading():
            return self._number("SELECT count(*) FROM outbox WHERE state = 'queued'")

    def mark_sent(self, message_id: str, now: Instant, answer: str) -> None:
        """The server took it."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox SET state = 'sent', tries = tries + 1, sent_at = ?, answer = ? WHERE id = ?",
                (now.wall, answer, message_id),
            )

    def mark_try(self, message_id: str, error: str, now: Instant, next_try_s: float) -> None:
        """It was tried in vain; `next_try_s` is on the clock of `now`."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox SET tries = tries + 1, answer = ?, next_try_s = ?, next_try_boot = ? WHERE id = ?",
                (error, next_try_s, now.boot_id, message_id),
            )

    def prune(self, older_than_wall: float | None, keep_rows: int) -> int:
        """Forget at most PRUNE_BATCH old lines; returns how many went (call again later while it is PRUNE_BATCH).

        By age only lines whose own clock was trusted, and only from the journal's beginning.
        """
        with self._transaction() as connection:
            gone = connection.execute(
                "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal ORDER BY seq LIMIT ?) AND ("
                "seq <= (SELECT max(seq) FROM journal) - ? OR (wall_quality = 'synced' AND wall < ?))",
                (PRUNE_BATCH, keep_rows, float("-inf") if older_than_wall is None else older_than_wall),
            ).rowcount
            connection.execute(
                "DELETE FROM outbox WHERE state <> 'queued' AND number <= (SELECT max(number) FROM outbox) - ?",
                (KEEP_FINISHED,),
            )
        return gone

    # -- below: opening, transactions, reasons --

    def _journal(self, rest: str, values: tuple[int, ...]) -> list[Entry]:
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT seq, kind, mono_s, boot_id, wall, wall_quality, data FROM journal {rest}",  # noqa: S608
                values,
            ).fetchall()
        return [
            Entry(seq, kind, Instant(mono, boot, wall, quality), data)
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
        with self._reasons():
            yield self._connection

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
    def _reasons(self) -> Iterator[None]:
        """Turn SQLite's and the system's errors into reasons; anything else is our bug and passes."""
        try:
            yield
        except StoreUnavailable:
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            reason = _reason(error)
            if reason is None:
                raise
            if reason == "io":
                reason = self._closer_look()
            if reason in ("io", "corrupt"):
                self.close()
            raise StoreUnavailable(reason, str(self._path), str(error)) from error

    def _closer_look(self) -> str:
        """SQLite tells a full or read-only disk at some places only as a failed call; ask the file system."""
        with suppress(OSError):
            found = os.statvfs(self._path.parent)
            if found.f_flag & os.ST_RDONLY or not os.access(self._path.parent, os.W_OK):
                return "readonly"
            if found.f_bavail == 0:
                return "full"
        return "io"

    def _refuse_unknown(self) -> None:
        """Raise for a newer or foreign file without changing a byte of it, write-ahead log included.

        The header's numbers (offsets 60 and 68, sqlite.org/fileformat.html) may be older than the log's, so they are
        asked for through a read-only connection, which can neither recover nor fold back the log.
        """
        try:
            head = self._path.read_bytes() if self._path.stat().st_size < 100 else _head(self._path)
        except FileNotFoundError:
            return
        if not head:
            return
        if not head.startswith(_MAGIC):
            raise _damaged("no SQLite header")
        found_format, found_owner = _big_endian(head[60:64]), _big_endian(head[68:72])
        if found_owner in (0, APPLICATION_ID) and found_format <= FORMAT:
            address = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as looking:
                found_format = looking.execute("PRAGMA user_version").fetchone()[0]
                found_owner = looking.execute("PRAGMA application_id").fetchone()[0]
                tables = looking.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if found_owner == 0 and tables == 0:  # our own creation, cut off before its commit
                found_owner = APPLICATION_ID
        if found_owner != APPLICATION_ID:
            raise StoreUnavailable("foreign", str(self._path))
        if found_format > FORMAT:
            raise StoreNewer(str(self._path), found_format, FORMAT)

    def _connect(self) -> sqlite3.Connection:
        os.close(
            os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # SQLite's other files take this mode
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            _check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> str:
        """Rename the damaged file and its log; the oldest set aside makes room."""
        for number in range(SET_ASIDE, 0, -1):
            newer = self._path if number == 1 else _aside(self._path, number - 1)
            for tail in ("", "-wal", "-shm"):
                source, target = Path(f"{newer}{tail}"), Path(f"{_aside(self._path, number)}{tail}")
                if source.exists():
                    shutil.move(source, target)
                else:
                    target.unlink(missing_ok=True)
        return str(_aside(self._path, 1))


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _big_endian(four: bytes) -> int:
    return int.from_bytes(four, "big")


def _check(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _damaged(str(verdict))


def _damaged(what: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _reason(error: BaseException) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _REASONS.get(code & 0xFF)
    if isinstance(error, OSError):
        return _OS_REASONS.get(error.errno or 0, "io")
    return None


def _queued(
    message_id: str,
    incident: str,
    audience: str,
    kind: str,
    payload: bytes,
    mono_s: float,
    boot_id: str,
    wall: float | None,
    wall_quality: str,
    *rest: Any,
) -> Queued:
    """A row of _OUTBOX_DUE; `rest` is Queued's tail, in its order."""
    created = Instant(mono_s, boot_id, wall, wall_quality)
    state, tries, next_try_s, next_try_boot, sent_at, answer = rest
    return Queued(
        message_id, incident, audience, kind, payload, created, state, tries, next_try_s, next_try_boot, sent_at, answer
    )


def _instant(at: Instant) -> tuple[str, float, float | None, str]:
    return at.boot_id, at.mono_s, at.wall, at.wall_quality
