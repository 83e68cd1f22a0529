"""What a command of root's makes in the agent's folder is the agent's afterwards, and a link that was planted there
leads it nowhere: whoever has become the agent must not become root by it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from edgeagent.cli import access
from edgeagent.cli.bootstrap import BACKUPS, _Bootstrap
from edgeagent.cli.main import main
from edgeagent.core.facts import Instant
from edgeagent.host.ownership import as_owner, hand_over
from edgeagent.store import check
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import AGENT, ROUTER, Exclusive
from edgeagent.store.records import Record
from edgeagent.store.store import Store
from tests.agent.support import rig, run, site_at
from tests.agent.test_provision import provisioned

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files change hands")


@pytest.fixture
def folder() -> Iterator[Path]:
    """The agent's, in a place that it can come to; beside it, ``root`` holds a file and is nobody else's."""
    base = Path(tempfile.mkdtemp(prefix="edgeagent-"))
    base.chmod(0o755)
    for name in ("state", "root"):
        (base / name).mkdir(mode=0o700)
    (base / "root" / "secret").write_text("root's")
    (base / "root" / "secret").chmod(0o600)
    os.chown(base / "state", NOBODY, NOBODY)
    try:
        yield base / "state"
        assert [path.name for path in (base / "root").iterdir()] == ["secret"]
        assert (base / "root" / "secret").read_text() == "root's"
        assert {path.stat().st_uid for path in (base / "root", base / "root" / "secret")} == {0}
    finally:
        shutil.rmtree(base)


def plant(place: Path, name: str) -> None:
    """What somebody does who has become the agent."""
    place.symlink_to(place.parents[1] / "root" / name)
    os.chown(place, NOBODY, NOBODY, follow_symlinks=False)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}


def test_root_s_files_are_handed_over_and_nobody_else_s(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    (folder / "router-backups").mkdir(parents=True)
    for name in ("store.db", "router-backups/one.backup", "theirs"):
        (folder / name).write_text("x")
    os.chown(folder / "theirs", 1234, 1234)
    hand_over(folder)
    assert (folder / "store.db").stat().st_uid == 0, "the folder is root's own: nothing to hand over"
    os.chown(folder, NOBODY, NOBODY)
    hand_over(folder)
    assert {path.stat().st_uid for path in folder.rglob("*") if path.name != "theirs"} == {NOBODY}
    assert (folder / "theirs").stat().st_uid == 1234


def test_what_only_has_a_name_in_the_folder_is_not_handed_over(folder: Path) -> None:
    secret = folder.parent / "root" / "secret"
    (folder / "hard").hardlink_to(secret)
    plant(folder / "link", "secret")
    plant(folder / "router-backups", "")
    (folder / "made").write_text("by root")
    hand_over(folder)
    assert (folder / "made").stat().st_uid == NOBODY, "the control"


def test_a_lock_that_root_has_taken_locks_the_agent_out(folder: Path) -> None:
    async def test() -> None:
        mine = Exclusive(str(folder))
        assert await mine.take()
        assert (folder / ROUTER).stat().st_uid == NOBODY
        assert not await Exclusive(str(folder)).take()
        await mine.close()

    asyncio.run(test())


@pytest.mark.parametrize("name", [ROUTER, AGENT])
def test_a_lock_that_is_a_link_or_another_s_file_gives_nothing_away(name: str, folder: Path) -> None:
    async def test() -> None:
        for kind in (plant, lambda place, target: place.hardlink_to(folder.parent / "root" / target)):
            kind(folder / name, "secret")
            lock = Exclusive(str(folder), name)
            assert await lock.take()
            await lock.close()
            (folder / name).unlink()

    asyncio.run(test())


def test_a_store_that_root_opens_is_the_agent_s_all_along(folder: Path) -> None:
    async def test() -> None:
        with as_owner(folder):
            store = await Store.open(folder / "store.db")
        await store.commit([Record("x", Instant(1.0, "b"))])
        assert (folder / "store.db-wal").exists()
        assert owners(folder) == {NOBODY}
        await store.close()
        assert (folder.parent / "root" / "secret").read_text() == "root's", "root has its own rights again"
        (folder / "store.db").unlink()
        plant(folder / "store.db", "made")
        with as_owner(folder), pytest.raises(StoreUnavailable):
            await Store.open(folder / "store.db")

    asyncio.run(test())


def test_provisioning_follows_no_link(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = replace(site_at(tmp_path, on.port), state_folder=str(folder))
            await provisioned(site, "plan")
            await provisioned(site, "apply")
            assert owners(folder) == {NOBODY}
            (folder / "store.db").unlink()
            plant(folder / "store.db", "made")
            await provisioned(site, "plan", code=2)
            with pytest.raises(StoreUnavailable):
                await access._with_store(site, argparse.Namespace(), _nothing)

    run(test)


async def _nothing(*_: Any) -> int:
    return 0


def test_backups_go_where_the_agent_may_write(folder: Path) -> None:
    it: Any = SimpleNamespace(site=SimpleNamespace(state_folder=str(folder)))
    _Bootstrap.keep(it, "one.backup", b"x")
    assert owners(folder) == {NOBODY}
    shutil.rmtree(folder / BACKUPS)
    plant(folder / BACKUPS, "")
    with pytest.raises(PermissionError):
        _Bootstrap.keep(it, "one.backup", b"x")


def test_the_identity_and_a_check_are_the_agent_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def read(copy: Any, found: int, _read: Any = check._read) -> Any:
        seen.update(owners(folder))
        return _read(copy, found)

    monkeypatch.setattr(check, "_read", read)
    assert main(["identity", "--create", "--folder", str(folder)]) == 0

    async def opened() -> None:
        with as_owner(folder):
            await (await Store.open(folder / "store.db")).close()

    asyncio.run(opened())
    assert owners(folder) == {NOBODY}
    plant(folder / "store.db.check", "")
    assert main(["check-store", str(folder / "store.db")]) == 3
    (folder / "store.db.check").unlink()
    assert main(["check-store", str(folder / "store.db")]) == 0
    assert seen == {NOBODY}, "in its folder nobody can have root write elsewhere"
