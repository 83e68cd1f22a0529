"""``check-store``: what this version would do with a store, found out on a copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgeagent.cli.main import main
from edgeagent.core.facts import Instant
from edgeagent.store.database import Database
from edgeagent.store.records import Record
from edgeagent.store.schema import FORMAT
from tests.agent.support import GOOD

RECORD = Record("test", Instant(1.0, "boot", None, "unknown"), {})


class Place:
    def __init__(self, folder: Path) -> None:
        self.site = folder / "site.toml"
        self.site.write_text(GOOD.replace("FOLDER", str(folder)))
        self.store = folder / "state" / "store.db"

    def check(self) -> int:
        return main(["--site", str(self.site), "check-store"])

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.store.parent.glob("store.db*")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)


def test_no_store_is_good(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.check() == 0
    assert "not there yet" in capsys.readouterr().out
    assert not place.store.exists()


def test_a_store_in_use_is_good_and_left_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(place.store)
    database.commit([RECORD], [], None, {}, {}, {})
    held = place.bytes()
    assert len(held["store.db-wal"]) > 0, "the record stands in the log, as in a running agent"
    assert place.check() == 0
    assert "good" in capsys.readouterr().out
    after = place.bytes()
    assert (after["store.db"], after["store.db-wal"]) == (held["store.db"], held["store.db-wal"])
    assert database.journal_tail(1)[0].kind == "test"
    database.close()
    assert place.check() == 0


def test_a_newer_store_is_refused_and_left_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(place.store)
    database.open()
    database.close()
    with closing(sqlite3.connect(place.store)) as newer:
        newer.execute(f"PRAGMA user_version={FORMAT + 1}")
    held = place.bytes()
    assert place.check() == 2
    assert f"format {FORMAT + 1}, this version knows {FORMAT}" in capsys.readouterr().err
    assert place.bytes() == held


def test_a_damaged_store_is_told_and_left_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.store.parent.mkdir()
    place.store.write_bytes(b"no database at all" * 500)
    assert place.check() == 1
    assert "damaged" in capsys.readouterr().err
    assert place.bytes() == {"store.db": b"no database at all" * 500}


def test_the_copy_is_gone_afterwards(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(place.store)
    database.open()
    database.close()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    assert place.check() == 0
    assert set(tmp_path.iterdir()) == before
