"""store: files of every released format, and migrations that are cut off."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edgeagent.core.facts import Instant
from edgeagent.store import migrations
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Opening, Record
from edgeagent.store.schema import FORMAT
from edgeagent.store.store import Store
from tests.adapters.stores.make import LATER, LONG, NOW
from tests.adapters.test_store import mail, refused, remount, run, small_disk

__all__ = ["small_disk"]
STORES = Path(__file__).parent / "stores"
FORMATS = range(1, FORMAT + 1)
OLDER = range(1, FORMAT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


def stored(number: int, path: Path) -> Path:
    """A copy of the stored file, at `path`."""
    path.parent.mkdir(exist_ok=True)
    shutil.copy(STORES / f"format-{number}.db", path)
    return path


def table(path: Path, columns: str, name: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(f"SELECT {columns} FROM {name} ORDER BY 1").fetchall()  # noqa: S608


OLD_COLUMNS = {
    "journal": "seq, boot_id, mono_s, wall, wall_quality, kind, data",
    "outbox": "number, id, incident, audience, kind, payload, created_boot, created_mono_s, created_wall, "
    "created_quality, state, tries, next_try_s, next_try_boot, sent_at, answer",
    "meta": "key, value",
    "sqlite_sequence": "name, seq",
}


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that a file of format 1 could hold."""
    return {name: table(path, columns, name) for name, columns in OLD_COLUMNS.items()}


def format_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        found: int = raw.execute("PRAGMA user_version").fetchone()[0]
    return found


def test_every_released_format_has_a_stored_file() -> None:
    """Fails when FORMAT is raised without one: see stores/make.py."""
    assert sorted(file.name for file in STORES.glob("*.db")) == [f"format-{number}.db" for number in FORMATS]
    for number in FORMATS:
        assert int.from_bytes((STORES / f"format-{number}.db").read_bytes()[60:64], "big") == number
    assert sorted(migrations.STEPS) == list(OLDER)


@pytest.mark.parametrize("number", FORMATS)
def test_a_stored_file_is_read_back_whole_and_written_on_clause_c1(number: int, path: Path) -> None:
    async def test(store: Store) -> None:
        assert store.opening == Opening(created=False, migrated_from=number if number < FORMAT else None)
        assert [(e.seq, e.kind, e.at, json.loads(e.data)) for e in await store.journal_tail(9)] == [
            (1, "start", Instant(1.25, "boot-0"), None),
            (2, "samples", NOW, {"rounds": [1, None, 2.5]}),
            (3, "place", NOW, {"to": "lte", "cause": "Leitung tot: \u00fc"}),
            *([(4, "facts", LATER, LONG)] if number >= 2 else []),
        ]
        snapshot = await store.load_snapshot()
        assert snapshot is not None
        assert (snapshot.seq, snapshot.body) == (3, b'{"boot_id":"boot-1"}')
        assert (await store.kept("adopted"), await store.kept("flush")) == (b'{"sip":"no"}', b"")
        tried, fresh = await store.outbox_queued()
        assert (tried.message_id, tried.tries, tried.next_try_s, tried.next_try_boot, tried.answer) == (
            ("tried@x", 1, 310.0, "boot-1", "451 later")
        )
        assert (fresh.message_id, fresh.tries, fresh.created, fresh.maybe_taken) == ("fresh@x", 0, NOW, False)
        assert json.loads(fresh.payload) == {"incident": "i-1", "data": {"calls": 2}}
        assert tried.maybe_taken == (number >= 2)
        (sent,) = await store.outbox_sent()
        assert (sent.message_id, sent.sent_at) == ("sent@x", LATER.wall)
        assert (sent.sent_mono_s, sent.sent_boot) == ((LATER.mono_s, "boot-1") if number >= 2 else (None, ""))
        await store.commit([Record("after", NOW)], outbox=[mail("after@x")], merged={"fresh@x": "after@x"})
        await store.mark_sent("after@x", LATER, "250 ok")
        assert [e.seq for e in await store.journal_tail(1)] == [4 if number == 1 else 5]

    run(stored(number, path), test)
    answers = {row[1]: row[2] for row in table(path, "number, id, answer", "outbox")}
    assert answers["dropped@x"] == "too old"
    assert answers["fresh@x"] == "after@x"
    after = [row[0] for row in table(path, "number, id", "outbox") if row[1] == "after@x"]
    assert after == [6 if number == 1 else 7]  # numbers of forgotten messages are not given again
    assert [file.name for file in path.parent.glob("store.db.*")] == [
        f"store.db.format-{n}" for n in OLDER[number - 1 :]
    ]


@pytest.mark.parametrize("number", OLDER)
def test_a_migrated_file_has_the_tables_of_a_new_one(number: int, path: Path, tmp_path: Path) -> None:
    run(stored(number, path), _nothing)
    run(tmp_path / "new.db", _nothing)
    schemas = [table(file, "name, sql", "sqlite_schema") for file in (path, tmp_path / "new.db")]
    assert schemas[0] == schemas[1]


async def _nothing(_: Store) -> None:
    pass


@pytest.fixture
def unfolded(path: Path) -> Path:
    """A file of format 1 as a crash left it: its last lines stand in the write-ahead log only."""
    stored(1, path)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("INSERT INTO journal VALUES (NULL, 'boot-1', 3, NULL, 'unknown', 'last', x'6e')")
        raw.commit()
        for tail in ("", "-wal"):
            shutil.copy(f"{path}{tail}", f"{path}.crashed{tail}")
    for tail in ("", "-wal"):
        Path(f"{path}.crashed{tail}").rename(f"{path}{tail}")
    assert Path(f"{path}-wal").stat().st_size > 0
    return path


def test_the_copy_holds_the_log_too_and_only_the_newest_is_kept(unfolded: Path) -> None:
    for name in ("store.db.format-0", "store.db.format-1", "store.db.format-1.part"):
        (unfolded.parent / name).write_text("of an earlier migration")
    run(unfolded, _nothing)
    assert format_of(unfolded) == FORMAT
    kept = unfolded.parent / "store.db.format-1"
    assert list(unfolded.parent.glob("*.format-*")) == [kept]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert format_of(kept) == 1
    assert contents(kept) == contents(unfolded)
    assert contents(kept)["journal"][-1][5] == "last"


# Kills itself with SIGKILL before the statement of that number; says what it would have run.
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from edgeagent.store.database import Database
left, real = int(sys.argv[2]), sqlite3.connect
def begins(statement):
    global left
    left -= 1
    print(' '.join(statement.split()), flush=True)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def connect(*arguments, **options):
    found = real(*arguments, **options)
    found.set_trace_callback(begins)
    return found
sqlite3.connect = connect
Database(Path(sys.argv[1])).open()
"""


def killed(path: Path, before: int) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", KILLED, str(path), str(before)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout.splitlines()


def crashed(source: Path, target: Path) -> Path:
    """A copy with the log, to be looked at: looking folds the log back."""
    target.parent.mkdir(exist_ok=True)
    for tail in ("", "-wal"):
        if Path(f"{source}{tail}").exists():
            shutil.copy(f"{source}{tail}", f"{target}{tail}")
    return target


def test_kill_9_before_any_statement_leaves_the_old_format_whole_clause_c1(unfolded: Path, tmp_path: Path) -> None:
    """After the last, COMMIT, the new one is whole: that is what every other test here sees."""
    whole = contents(crashed(unfolded, tmp_path / "seen" / "whole.db"))
    code, statements = killed(crashed(unfolded, tmp_path / "once" / "store.db"), 0)
    assert (code, statements[-1]) == (0, "COMMIT")
    for number in range(1, len(statements) + 1):
        path = crashed(unfolded, tmp_path / str(number) / "store.db")
        code, said = killed(path, number)
        assert code == -9, said
        assert said == statements[:number]
        seen = crashed(path, tmp_path / "seen" / f"{number}.db")
        assert (format_of(seen), contents(seen)) == (1, whole), said[-1]
        run(path, _nothing)
        assert (format_of(path), contents(path)) == (FORMAT, whole), said[-1]
        assert not list(path.parent.glob("*.part"))


def test_a_step_that_fails_leaves_the_old_format_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(stored(1, path))
    steps = migrations.STEPS[1]
    fills = ("PRAGMA max_page_count=1", "CREATE TABLE filler AS SELECT zeroblob(1000000)")  # SQLITE_FULL, truly
    for cut in range(len(steps) + 1):
        monkeypatch.setitem(migrations.STEPS, 1, (*steps[:cut], *fills))
        assert refused(path).reason == "full"
        assert format_of(path) == 1
        assert contents(path) == before
    monkeypatch.undo()
    run(path, _nothing)
    assert format_of(path) == FORMAT


def test_without_room_for_the_copy_the_old_file_is_not_touched_clause_c3(small_disk: Path) -> None:
    path = stored(1, small_disk / "state" / "store.db")
    path.with_name("filler").write_bytes(bytes(150 * 1024))
    before = path.read_bytes()
    assert refused(path).reason == "full"
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.format-*"))
    remount(small_disk, "size=4m")
    run(path, _nothing)
    assert format_of(path) == FORMAT


def test_a_disk_that_fills_during_the_copy_leaves_the_old_file(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(1, small_disk / "state" / "store.db")
    before = contents(path)
    path.with_name("filler").write_bytes(bytes(180 * 1024))
    monkeypatch.setattr(migrations, "room_is_missing", lambda _: False)
    assert refused(path).reason == "full"
    path.with_name("filler").unlink()
    assert format_of(path) == 1
    assert contents(path) == before
    assert not list(path.parent.glob("*.format-*"))


@pytest.mark.parametrize(
    "damage",
    [
        "DROP INDEX outbox_by_state; DROP TABLE outbox",
        "ALTER TABLE outbox DROP COLUMN answer",
        "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'DEFAULT ''queued'' CHECK', 'CHECK') "
        "WHERE name = 'outbox'; UPDATE sqlite_schema SET sql = replace(sql, '''dropped''', '''dropped'', ''odd''') "
        "WHERE name = 'outbox'",
    ],
)
def test_an_older_file_that_is_not_as_its_number_says_is_set_aside(damage: str, path: Path) -> None:
    stored(1, path)
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(damage)
    if "odd" in damage:
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("UPDATE outbox SET state = 'odd' WHERE number = 1")
            raw.commit()

    async def test(store: Store) -> None:
        assert store.opening is not None
        assert store.opening.set_aside is not None
        assert store.opening.created
        await store.append([Record("x", NOW)])

    run(path, test)


def test_two_that_open_at_once_migrate_once(path: Path) -> None:
    """The daemon and `edgeagent provision`, after an upgrade."""
    script = "import sys; from pathlib import Path; from edgeagent.store.database import Database\n"
    script += "print(Database(Path(sys.argv[1])).open())"
    for _ in range(5):
        whole = contents(stored(1, path))
        both = [
            subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        assert all("created=False, set_aside=None" in process.communicate(timeout=30)[0] for process in both)
        assert contents(path) == whole
        assert format_of(path) == FORMAT


def test_what_is_in_the_way_of_the_copy_is_told_clause_c1(path: Path) -> None:
    """What stands at the name of the copy and cannot go away is told, not raised raw."""
    stored(1, path)
    (path.parent / "store.db.format-1").mkdir()
    (path.parent / "store.db.format-1" / "x").touch()
    error = refused(path)
    assert isinstance(error, StoreUnavailable)
    assert format_of(path) == 1
