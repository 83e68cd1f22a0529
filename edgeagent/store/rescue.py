"""What outlasts a store that is set aside for one damaged value: mails that wait, what is kept by name, the last state.

Such a file opens and is in order otherwise. Its journal stays behind, for a person to look at.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgeagent.store.file import reading
from edgeagent.store.packing import unpack

Line = tuple[str, tuple[Any, ...]]  # a statement and its values

_KEEP = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
_COLUMNS = (
    "id, incident, audience, kind, payload, created_boot, created_mono_s, created_wall, created_quality, "
    "state, tries, next_try_s, next_try_boot, maybe_taken, sent_at, sent_mono_s, sent_boot, answer"
)  # of the outbox, but the number, which the new table gives
_QUEUE = f"INSERT OR IGNORE INTO outbox ({_COLUMNS}) VALUES ({', '.join('?' for _ in _COLUMNS.split())})"  # noqa: S608
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)  # of a page; of the tables' own description


def readable(path: Path) -> list[Line]:
    """What can be read, of a file of the present format. Raises sqlite3.Error and OSError where it is the disk."""
    found: list[Line] = []
    with reading(path) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        for table in (_kept, _waiting):
            try:
                found += table(connection)
            except UnicodeDecodeError:  # SQLite's own message, where it quotes a damaged name
                continue
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _DAMAGE:
                    raise
    return found


def put_back(connection: sqlite3.Connection, lines: Iterable[Line]) -> None:
    """All of it in one transaction; a line that the tables do not take is damaged, and left out."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in lines:
            with suppress(sqlite3.IntegrityError):
                connection.execute(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def _kept(connection: sqlite3.Connection) -> Iterator[Line]:
    for key, value in connection.execute("SELECT key, value FROM meta"):
        if key.startswith("kept:"):
            yield _KEEP, (key, value)
        elif key == "snapshot" and _whole(value):
            yield _KEEP, (key, value)
            yield _KEEP, ("snapshot_seq", b"0")  # the new journal has no line yet


def _waiting(connection: sqlite3.Connection) -> Iterator[Line]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM outbox WHERE state = 'queued' ORDER BY number")  # noqa: S608
    for row in rows:
        yield _QUEUE, row


def _whole(snapshot: bytes) -> bool:
    try:
        unpack(snapshot)
    except zlib.error:
        return False
    return True
