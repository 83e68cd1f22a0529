"""Of one site, one agent runs: two would move voice, write one journal and mail twice, as the same installation
(clauses N1, P7).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.daemon import wiring
from edgeagent.host import clock
from edgeagent.store import exclusive
from edgeagent.store.exclusive import AGENT, Exclusive
from tests.agent.support import GOOD, Rig, rig, run, site_at, until
from tests.agent.test_provision import provisioned
from tests.agent.test_status import write_site

Agent = asyncio.subprocess.Process


@asynccontextmanager
async def agent(folder: Path, on: Rig) -> AsyncIterator[Agent]:
    site = str(write_site(folder, GOOD.replace("port = 8729", f"port = {on.port}")))
    command = (sys.executable, "-m", "edgeagent", "--site", site, "run")
    found = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield found
    finally:
        if found.returncode is None:
            found.terminate()
        await found.communicate()


async def pid(folder: Path) -> int:
    """Who answers at the control socket."""
    reader, writer = await asyncio.open_unix_connection(str(folder / "control.sock"))
    assert json.loads(await reader.readline())["site"] == "site-7"
    number = writer.get_extra_info("socket").getsockopt(1, 17, 12)  # SOL_SOCKET, SO_PEERCRED (unix(7))
    writer.close()
    return int.from_bytes(number[:4], sys.byteorder)


async def working(folder: Path, one: Agent) -> None:
    async with asyncio.timeout(20.0):
        while True:
            with contextlib.suppress(OSError):
                if await pid(folder) == one.pid:
                    return
            await asyncio.sleep(0.05)


def test_a_second_agent_is_refused_before_it_touches_anything_and_starts_once_the_first_has_ended(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            async with agent(tmp_path, on) as first:
                await working(tmp_path, first)
                await until(lambda: ("edge-alive", "0.0.0.0/0") in on.leases())
                before = {path: path.stat().st_ino for path in (*(tmp_path / "state").iterdir(), tmp_path)}
                logins = on.events.read_text().count('"/login"')
                async with agent(tmp_path, on) as second:
                    said = (await second.communicate())[1].decode()
                assert second.returncode == 1  # not 2, after which systemd would leave the site without any agent
                assert "runs here already" in said
                assert str(tmp_path / "state" / AGENT) in said
                assert "Traceback" not in said
                assert on.events.read_text().count('"/login"') == logins
                assert {path: path.stat().st_ino for path in before} == before
                assert await pid(tmp_path) == first.pid, "its socket is left to it"
                assert "0 changes made" not in await provisioned(site_at(tmp_path, on.port), "apply")
                assert "removed" in await provisioned(site_at(tmp_path, on.port), "remove")
            assert first.returncode == 0
            assert not (tmp_path / "control.sock").exists()
            async with agent(tmp_path, on) as second:
                await working(tmp_path, second)
                second.kill()
                await second.wait()
            async with agent(tmp_path, on) as third:  # nothing that kill -9 leaves behind locks it out (clause C1)
                await working(tmp_path, third)

    run(test)


async def starts(folder: Path) -> bool:
    """Whether an agent would run, without running one."""
    ran: list[bool] = []
    locks: list[Exclusive] = []

    def lock(*arguments: Any, **named: Any) -> Exclusive:
        locks.append(Exclusive(*arguments, **named))
        return locks[-1]

    class Daemon:
        def __init__(self, *_: Any) -> None:
            pass

        async def run(self) -> int:
            ran.append(True)
            return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "Daemon", Daemon)
        patch.setattr(wiring, "Exclusive", lock)
        with contextlib.suppress(wiring.AlreadyRuns):
            await wiring._alone(site_at(folder), lambda _address: None)
    for one in locks:
        await one.close()
    return bool(ran)


def test_a_disk_that_gives_no_lock_keeps_no_agent_from_working_clause_c3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full, read-only, failing, hanging; a lock that is somebody else's file, or a link."""
    (tmp_path / "state").mkdir()
    lock = tmp_path / "state" / AGENT

    async def test() -> None:
        assert await starts(tmp_path)
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert not await starts(tmp_path), "the control"
        real = os.open
        for error in (OSError(28, "full"), OSError(30, "read-only"), OSError(5, "failed"), PermissionError(13, "no")):

            def refused(*_: Any, error: OSError = error) -> int:
                raise error

            monkeypatch.setattr(os, "open", refused)
            assert await starts(tmp_path), error
        monkeypatch.setattr(os, "open", real)
        lock.unlink()
        lock.symlink_to("elsewhere")
        with (tmp_path / "state" / "elsewhere").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert await starts(tmp_path)
        monkeypatch.setattr(exclusive, "_opened", lambda _path: clock_stands_still())
        monkeypatch.setattr(exclusive, "ANSWER_S", 0.2)
        began_s = clock.mono_s()
        assert await starts(tmp_path)
        assert clock.mono_s() - began_s < 2.0

    run(test)


def clock_stands_still() -> int:
    """What a call to a hung disk does; the thread that makes it ends with the process."""
    import threading

    threading.Event().wait(30.0)
    return -1


def test_the_lock_of_the_router_is_another_one(tmp_path: Path) -> None:
    async def test() -> None:
        running, writing = Exclusive(str(tmp_path), AGENT, barred=True), Exclusive(str(tmp_path))
        assert await running.take()
        assert await writing.take()
        assert not await Exclusive(str(tmp_path), AGENT, barred=True).take()
        assert not await Exclusive(str(tmp_path)).take()
        await running.close()
        await writing.close()

    run(test)
