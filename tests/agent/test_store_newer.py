"""A store of a newer version: refused untouched, told once, and failing over goes on (clause C3)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core.facts import LinkChanged, ProbeReplied, RoundSent
from edgeagent.host import clock
from edgeagent.store.schema import FORMAT
from edgeagent.store.store import Store
from tests.agent.support import GOOD, agent, rig, run, site_at, until
from tests.agent.test_status import write_site


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A store of a version to come."""

    async def make() -> None:
        await (await Store.open(path)).close()

    path = tmp_path / "state" / "store.db"
    asyncio.run(make())
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA user_version={FORMAT + 1}")
    return path


async def status(folder: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(folder / "control.sock"))
    found: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return found


def test_the_process_starts_holds_its_lease_and_says_so_clause_c3(newer: Path, tmp_path: Path) -> None:
    before = newer.read_bytes()

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = str(write_site(tmp_path, GOOD.replace("port = 8729", f"port = {on.port}")))
            command = (sys.executable, "-m", "edgeagent", "--site", site, "run")
            agent = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            try:
                await until(lambda: ("edge-alive", "0.0.0.0/0") in on.leases() and (tmp_path / "control.sock").exists())
                assert (await status(tmp_path))["store"] == "unavailable"
            finally:
                agent.terminate()
                said = (await agent.communicate())[1].decode()
        assert agent.returncode == 0
        assert said.count("not recorded, kept in memory") == 1
        assert f"format {FORMAT + 1}" in said
        assert "Traceback" not in said

    run(test)
    assert newer.read_bytes() == before


def test_a_daemon_without_its_store_fails_over_all_the_same_clause_c3(newer: Path, tmp_path: Path) -> None:
    before = newer.read_bytes()

    async def test() -> None:
        async with rig(tmp_path) as on, agent(site_at(tmp_path, on.port)) as daemon:
            await until(lambda: ("edge-alive", "0.0.0.0/0") in on.leases())
            for path in ("primary", "lte"):
                daemon.tell(RoundSent(path, 10**6, clock.mono_s(), ("icmp:a",)))
                daemon.tell(ProbeReplied(path, 10**6, "icmp:a", clock.mono_s()))
            await until(lambda: daemon.loop.state.paths["lte"].verdict == "up")
            daemon.tell(LinkChanged("primary", False, clock.mono_s()))
            await until(lambda: ("edge-lte-site", "0.0.0.0/0") in on.leases())
            found = await status(tmp_path)
            assert (found["path"], found["store"]) == ("lte", "unavailable")

    run(test)
    assert newer.read_bytes() == before
