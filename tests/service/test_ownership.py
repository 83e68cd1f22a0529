"""What a command of root's makes in the agent's folder is the agent's afterwards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from edgeagent.host.ownership import hand_over
from edgeagent.store.exclusive import NAME, Exclusive

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files change hands")


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


def test_a_lock_that_root_has_taken_locks_the_agent_out(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    tmp_path.chmod(0o755)

    async def test() -> None:
        mine = Exclusive(str(folder))
        assert await mine.take()
        assert (folder / NAME).stat().st_uid == NOBODY
        assert not await Exclusive(str(folder)).take()
        await mine.close()

    asyncio.run(test())
