"""check-store: whether a version can use a store is tried on a copy; the store itself is not touched."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edgeagent.cli.main import main
from edgeagent.core.facts import Instant
from edgeagent.store.records import Record
from edgeagent.store.schema import FORMAT
from edgeagent.store.store import Store
from tests.adapters.test_store import remount, small_disk
from tests.adapters.test_store_formats import FORMATS, STORES, stored
from tests.agent.test_status import write_site

__all__ = ["small_disk"]


def asked(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The command's answer; it leaves the file, its log and the folder as they were."""
    kept = {file: file.read_bytes() for file in (path, Path(f"{path}-wal")) if file.is_file()}
    code = main(["check-store", str(path)])
    assert {file: file.read_bytes() for file in kept} == kept
    assert not path.with_name(f"{path.name}.check").exists()
    assert not list(path.parent.glob(f"{path.name}.format-*"))
    assert kept or not path.exists()
    assert (Path(f"{path}-wal") in kept) == Path(f"{path}-wal").exists()
    said = capsys.readouterr()
    assert bool(said.err) == (code > 0)
    return code, said.out + said.err


@pytest.mark.parametrize("number", FORMATS)
def test_every_released_format_is_good(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored(number, tmp_path / "store.db")
    path.with_name("store.db.check").mkdir()  # of a check that was cut off
    (path.with_name("store.db.check") / "store.db").write_text("half")
    code, said = asked(path, capsys)
    assert code == 0
    assert f"format {number}" in said
    assert (f"becomes {FORMAT}" in said) == (number < FORMAT)
    assert f"{3 if number == 1 else 4} journal lines, 2 messages" in said


def test_a_store_in_use_is_read_as_it_is_log_included(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        store = await Store.open(tmp_path / "store.db")
        await store.append([Record("x", Instant(1.0, "b"))] * 2500)
        assert asked(tmp_path / "store.db", capsys) == (
            (0, f"{tmp_path}/store.db: good, format {FORMAT}. 2500 journal lines, 0 messages waiting.\n")
        )
        await store.append([Record("x", Instant(1.0, "b"))])
        await store.close()

    asyncio.run(go())
    Path(tmp_path / "empty.db").touch()
    assert asked(tmp_path / "empty.db", capsys)[0] == 0


def test_without_a_name_it_is_the_store_of_the_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = str(write_site(tmp_path))
    for said in ("not there yet", "2 messages waiting"):
        assert main(["--site", site, "check-store"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{tmp_path}/state/store.db: ")
        assert said in out
        stored(FORMAT, tmp_path / "state" / "store.db")


def damaged(path: Path, statement: str) -> Path:
    shutil.copy(STORES / f"format-{FORMAT}.db", path)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(statement)
        raw.commit()
    return path


@pytest.mark.parametrize(
    ("statement", "said", "wanted"),
    [
        (f"PRAGMA user_version={FORMAT + 1}", "newer edgeagent", 2),
        ("PRAGMA application_id=7", "another program", 2),
        ("UPDATE journal SET data = x'7b' WHERE seq = 2", "damaged", 1),
        ("UPDATE journal SET data = x'78ff' WHERE seq = 4", "damaged", 1),
        ("UPDATE outbox SET payload = x'ff' WHERE state = 'queued'", "damaged", 1),
    ],
)
def test_one_that_cannot_be_used_is_named(
    statement: str, said: str, wanted: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = asked(damaged(tmp_path / "store.db", statement), capsys)
    assert code == wanted
    assert said in told
    assert f"{tmp_path}/store.db:" in told


def test_garbage_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = bytearray((STORES / "format-1.db").read_bytes())
    body[4096:12288] = bytes(8192)
    for garbage in (b"no database", bytes(body), bytes(body[:5000])):
        (tmp_path / "store.db").write_bytes(garbage)
        code, told = asked(tmp_path / "store.db", capsys)
        assert code == 1
        assert "damaged" in told


def test_what_cannot_be_tried_is_told_apart(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored(1, small_disk / "store.db")
    path.with_name("filler").write_bytes(bytes(150 * 1024))
    code, told = asked(path, capsys)
    assert (code, "no space" in told) == (3, True)
    remount(small_disk, "ro")
    code, told = asked(path, capsys)
    assert (code, "cannot be written" in told) == (3, True)
