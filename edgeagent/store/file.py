"""The store's file before it is opened: whose it is, which format it has, what damage does with it."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from edgeagent.store.errors import StoreNewer, StoreUnavailable
from edgeagent.store.schema import APPLICATION_ID, FORMAT

BUSY_S = 5.0
SET_ASIDE = 2  # damaged files kept for a person to look at

_MAGIC = b"SQLite format 3\0"
_WAL = 2  # versions of writing and reading, at offset 18; what is higher SQLite calls a read-only disk


def known_format(path: Path) -> int:
    """The file's format, 0 where there is none yet. Raises for a newer or foreign file without changing a byte of
    it, write-ahead log included.

    The header's numbers (offsets 60 and 68, sqlite.org/fileformat.html) may be older than the log's, so they are
    asked for through a read-only connection.
    """
    try:
        head = path.read_bytes() if path.stat().st_size < 100 else _head(path)
    except FileNotFoundError:
        return 0
    if not head:
        return 0
    if head.startswith(_MAGIC):
        found_format, found_owner = _big_endian(head[60:64]), _big_endian(head[68:72])
    elif Path(f"{path}-journal").exists():  # a creation that was cut off; told when it is rolled back
        found_format = found_owner = 0
    else:
        raise damaged("no SQLite header")
    if found_owner == APPLICATION_ID and found_format <= FORMAT and max(head[18:20]) > _WAL:
        raise damaged("a version of SQLite's that there is not")
    if found_owner in (0, APPLICATION_ID) and found_format <= FORMAT:
        with reading(path) as looking:
            found_format = looking.execute("PRAGMA user_version").fetchone()[0]
            found_owner = looking.execute("PRAGMA application_id").fetchone()[0]
            tables = looking.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if found_owner == 0 and tables == 0:  # our own creation, cut off before its commit
            found_owner = APPLICATION_ID
    if found_owner != APPLICATION_ID:
        raise StoreUnavailable("foreign", str(path))
    if found_format > FORMAT:
        raise StoreNewer(str(path), found_format, FORMAT)
    return found_format


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing in the file, neither by recovery nor by folding back its log. Without a log
    nobody has it open, and none is left behind.

    With one exception: a rollback journal is left by a power cut in the moment of creation, before the file has a
    write-ahead log. Such a file cannot be read before a writer has rolled it back (sqlite.org/lockingv3.html).
    """
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    if Path(f"{path}-journal").exists():
        how = "mode=rw"
    address = f"file:{quote(str(path.absolute()))}?{how}"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_S)) as connection:
        yield connection


def forget_cached(path: Path) -> None:
    """Have the files read from the disk. Where a write failed, Linux keeps what was to be written in its cache and
    calls it clean (fsync(2), NOTES; "fsyncgate"): a log read from there holds commits that the disk has not, and
    all that is acknowledged after them would be lost with the next power cut.
    """
    for tail in ("", "-wal"):
        with suppress(FileNotFoundError):
            file = os.open(f"{path}{tail}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def set_aside(path: Path) -> str:
    """Rename the damaged file and its log; the oldest set aside makes room."""
    for number in range(SET_ASIDE, 0, -1):
        newer = path if number == 1 else _aside(path, number - 1)
        for tail in ("", "-wal", "-shm", "-journal"):
            source, target = Path(f"{newer}{tail}"), Path(f"{_aside(path, number)}{tail}")
            if source.exists():
                shutil.move(source, target)
            else:
                target.unlink(missing_ok=True)
    return str(_aside(path, 1))


def damaged(what: str) -> sqlite3.DatabaseError:
    """The error that SQLite would raise."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _big_endian(four: bytes) -> int:
    return int.from_bytes(four, "big")
