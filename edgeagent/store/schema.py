"""The tables as they are now. A change means a higher FORMAT and a forward step (migrations.py); readers refuse a
higher FORMAT than they know.
"""

FORMAT = 2  # PRAGMA user_version
APPLICATION_ID = 0x65646761  # "edga": tells our file from any other SQLite file

# Device writes stay small: WAL, one transaction per decision, pages of 1 KiB (a fifth less than with 4 KiB, measured by
# tests/powercut/budget.py; only a new file takes the size), the log folded back every 1000 pages.
# FULL: what was acknowledged survives a power cut, which the SQLite manual promises for FULL alone
# ("PRAGMA synchronous").
PRAGMAS = (
    "PRAGMA page_size=1024",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=1000",
    "PRAGMA journal_size_limit=4194304",
    "PRAGMA cache_size=-512",
    "PRAGMA temp_store=MEMORY",
)

CREATE = f"""
BEGIN IMMEDIATE;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    boot_id TEXT NOT NULL,
    mono_s REAL NOT NULL,
    wall REAL,
    wall_quality TEXT NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE outbox (
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
) STRICT;
CREATE INDEX outbox_by_state ON outbox (state, number);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={FORMAT};
COMMIT;
"""
