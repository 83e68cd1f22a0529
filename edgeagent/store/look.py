"""A look into a store from outside: nothing is changed, recovered or set aside, and any format is borne.

For a support bundle: it must come about also when the file is damaged, of a newer version, or in use by the agent.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edgeagent.store.packing import unpack
from edgeagent.store.schema import APPLICATION_ID, FORMAT

WAIT_S = 2.0
PACKED_KINDS = ("facts", "state")  # the shell hands them over as bytes
UNPACKED_MAX_BYTES = 4 << 20  # a batch of the longest incident is a tenth of it
OUTBOX_KEYS = (
    "number",
    "incident",
    "audience",
    "kind",
    "state",
    "tries",
    "maybe_taken",
    "created_boot",
    "created_mono_s",
    "created_wall",
    "created_quality",
    "sent_at",
)


def health(path: Path) -> dict[str, Any]:
    """Format, sizes and counts. Raises OSError or sqlite3.Error where the file cannot be read or is damaged."""
    beside = [one for one in sorted(path.parent.glob(f"{path.name}*")) if one.is_file()]
    files = [{"name": one.name, "size_bytes": one.stat().st_size} for one in beside]
    found: dict[str, Any] = {"format_known": FORMAT, "files": files}
    if not path.exists():
        return {**found, "opening": "missing"}
    try:
        with _opened(path) as connection:
            found["format"] = _one(connection, "PRAGMA user_version")
            found["ours"] = _one(connection, "PRAGMA application_id") == APPLICATION_ID
            found["check"] = _one(connection, "PRAGMA quick_check(1)")
            found["journal_rows"] = _one(connection, "SELECT count(*) FROM journal")
            found["opening"] = "newer" if found["format"] > FORMAT else "good"
    except sqlite3.Error as error:
        found |= {"opening": "failed", "why": f"{type(error).__name__}: {error}"}
    return found


def journal(path: Path, kinds: tuple[str, ...], most: int, *, but: bool = False) -> list[dict[str, Any]]:
    """The last ``most`` lines of ``kinds`` (``but``: of all other kinds), oldest first; data as values.

    Raises OSError or sqlite3.Error.
    """
    marks = ", ".join("?" for _ in kinds)
    question = (
        f"SELECT seq, kind, boot_id, mono_s, wall, wall_quality, data FROM journal "  # noqa: S608  (marks only)
        f"WHERE kind {'NOT ' if but else ''}IN ({marks}) ORDER BY seq DESC LIMIT ?"
    )
    with _opened(path) as connection:
        rows = [dict(row) for row in connection.execute(question, (*kinds, most))]
    return [{**row, "data": _decoded(row["kind"], row["data"])} for row in reversed(rows)]


def outbox(path: Path, most: int) -> dict[str, Any]:
    """How many messages there are in each state, and the last ``most`` without what they say and to whom.

    Raises OSError or sqlite3.Error.
    """
    with _opened(path) as connection:
        counts = dict(connection.execute("SELECT state, count(*) FROM outbox GROUP BY state ORDER BY state").fetchall())
        rows = connection.execute("SELECT * FROM outbox ORDER BY number DESC LIMIT ?", (most,)).fetchall()
    messages = [{key: row[key] for key in OUTBOX_KEYS if key in row.keys()} for row in reversed(rows)]  # noqa: SIM118
    return {"states": counts, "messages": messages}


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Read-only, and without a file of SQLite's own left behind.

    Without a log beside it nobody has the file open, so it is read as one that cannot change. So it is on a disk that
    cannot be written, where the log cannot be shared.
    """
    if not path.exists():
        raise FileNotFoundError(2, "there is none", str(path))
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    alone = f"{address}&immutable=1"
    try:
        connection = _connected(address if Path(f"{path}-wal").exists() else alone)
    except sqlite3.OperationalError:
        connection = _connected(alone)
    with closing(connection):
        connection.row_factory = sqlite3.Row
        yield connection


def _connected(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, timeout=WAIT_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _one(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]


def _decoded(kind: str, data: Any) -> Any:
    """Values; facts and states are MessagePack, everything else is JSON, and long ones are compressed."""
    try:
        plain = unpack(data, UNPACKED_MAX_BYTES)
        return msgspec.msgpack.decode(plain) if kind in PACKED_KINDS else msgspec.json.decode(plain)
    except (msgspec.MsgspecError, zlib.error, ValueError, TypeError, AttributeError):
        return None
