"""Forward steps from each released format to the next.

A step is frozen once released: it says what the tables of its format were, whatever schema.py says today. All steps
run in one transaction, after a copy of the file was put beside it. So a crash at any moment leaves the old format
whole or the new one whole, and the copy is what an older version of edgeagent would be given back.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from edgeagent.store.file import reading

# By the format that a step starts from.
STEPS: dict[int, tuple[str, ...]] = {
    # To 2. The outbox knows when a message was sent by our own clock, whether a server may have it already, and the
    # state 'merged'. SQLite cannot change a CHECK, so the table is made anew (sqlite.org/lang_altertable.html); its
    # sequence is carried over, for a number is never given twice.
    1: (
        "ALTER TABLE outbox RENAME TO outbox_1",
        """CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    incident TEXT NOT NULL,
    audience TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_boot TEXT NOT NULL,
    created_mono_s REAL NOT NULL,
    created_wall REAL,
    created_quality TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'dropped', 'merged')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_s REAL NOT NULL DEFAULT 0,
    next_try_boot TEXT NOT NULL DEFAULT '',
    maybe_taken INTEGER NOT NULL DEFAULT 0,
    sent_at REAL,
    sent_mono_s REAL,
    sent_boot TEXT NOT NULL DEFAULT '',
    answer TEXT NOT NULL DEFAULT ''
) STRICT""",
        """INSERT INTO outbox (number, id, incident, audience, kind, payload, created_boot, created_mono_s,
    created_wall, created_quality, state, tries, next_try_s, next_try_boot, sent_at, answer)
SELECT number, id, incident, audience, kind, payload, created_boot, created_mono_s,
    created_wall, created_quality, state, tries, next_try_s, next_try_boot, sent_at, answer
FROM outbox_1 ORDER BY number""",
        "DELETE FROM sqlite_sequence WHERE name = 'outbox'",
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'outbox', seq FROM sqlite_sequence WHERE name = 'outbox_1'",
        "DROP TABLE outbox_1",  # its index and its line in sqlite_sequence go with it
        "CREATE INDEX outbox_by_state ON outbox (state, number)",
    ),
}

ROOM_BYTES = 256 * 1024  # beside the copy and the log of the steps: SQLite's other files


def room_is_missing(path: Path) -> bool:
    """Whether the disk could not take the copy and, in the log, as much again: then nothing is begun."""
    size = sum(_size(Path(f"{path}{tail}")) for tail in ("", "-wal"))
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize < 2 * size + ROOM_BYTES


def migrate(connection: sqlite3.Connection, path: Path, wanted: int) -> None:
    """Bring the open file to format `wanted`. Raises sqlite3.Error and OSError; then it is as it was."""
    connection.execute("BEGIN IMMEDIATE")  # first: nobody else may write between the copy and the steps
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found < wanted:  # else another process has just done it
            _copy_aside(path, found)
        for number in range(found, wanted):
            for statement in STEPS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number + 1}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def copy(source: Path, target: Path) -> None:
    """One consistent state of a store, log included, as a new file of mode 0600, on the disk when this returns.

    The source may be in use (SQLite's backup interface), and is not changed.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with reading(source) as original, closing(sqlite3.connect(target, isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode=OFF")  # nothing reads the file before it is whole
        made.execute("PRAGMA synchronous=OFF")
        original.backup(made)
    _sync(target)


def _copy_aside(path: Path, found: int) -> None:
    """store.db.format-1 and so on; only the newest is kept."""
    kept = path.with_name(f"{path.name}.format-{found}")
    part = kept.with_name(f"{kept.name}.part")
    part.unlink(missing_ok=True)  # of a run that was cut off
    try:
        copy(path, part)
        part.rename(kept)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for other in path.parent.iterdir():
        if other.name.startswith(f"{path.name}.format-") and other != kept:
            other.unlink()
    _sync(path.parent)


def _sync(path: Path) -> None:
    """On the disk, and for a folder: the names in it (fsync(2))."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
