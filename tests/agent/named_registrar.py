"""The agent's process with a registrar by name, in a network of its own: ``python -m tests.agent.named_registrar STORY
FOLDER``. A real name server, a router; prints as JSON what the agent did. Every address of the loopback net answers
pings here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeagent.config.site import parse
from edgeagent.daemon import registrar
from edgeagent.store.store import Store
from tests.agent.named_faults import status
from tests.agent.support import GOOD, REGISTRAR, Rig, rig
from tests.agent.test_registrar import NAME, OTHER, RESOLVERS, named
from tests.agent.test_status import write_site
from tests.names import name_server

LIMIT_S = 300.0
WATCHED_S = 4.0  # several times what is waited for, with the limits below
# The agent with shorter limits (not with other logic): an hour would make the test as long.
AGENT = """
import sys
from edgeagent.cli.main import main
from edgeagent.config.site import parse
from edgeagent.daemon import registrar
from edgeagent.probes import dns

registrar.FLOOR_S, registrar.GONE_S, registrar.QUIET_S, registrar.AGAIN_S, dns.ASK_S = 0.4, 1.0, 0.1, 0.5, 0.3
sys.exit(main(["--site", sys.argv[1], "run"]))
"""
TEXT = f"""
[voice]
resolvers = ["{RESOLVERS[0]}"]
"""


@dataclass
class Agent:
    """One process; ``notes``: what it told the service manager."""

    folder: Path
    process: asyncio.subprocess.Process
    manager: socket.socket
    notes: list[str] = field(default_factory=list)

    async def up(self) -> dict[str, Any]:
        """The status once the primary is up."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                with contextlib.suppress(OSError, ValueError):
                    found = await status(self.folder)
                    if found["paths"]["primary"]["verdict"] == "up":
                        return found
                await asyncio.sleep(0.05)

    async def fault(self, code: str) -> bool:
        async with asyncio.timeout(LIMIT_S):
            while code not in (await status(self.folder))["faults"]:  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.05)
        return True

    async def ended(self, limit_s: float) -> int | None:
        """The exit code, None if it still runs."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.process.wait(), limit_s)
        return None

    def noted(self) -> list[str]:
        """Everything told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notes.append(self.manager.recv(4096).decode())
        return self.notes


class Bed:
    """A router, the agent's files, and what the agent remembers."""

    def __init__(self, on: Rig, folder: Path) -> None:
        self.folder = folder
        self.site = write_site(folder, GOOD.replace("port = 8729", f"port = {on.port}").replace(REGISTRAR, NAME) + TEXT)

    async def remember(self, address: str) -> None:
        store = await Store.open(self.folder / "state" / "store.db")
        await store.commit([], keep=registrar.kept(parse(named(), "site.toml"), address))
        await store.close()

    async def remembered(self) -> str:
        store = await Store.open(self.folder / "state" / "store.db")
        value = await store.kept(registrar.KEPT)
        await store.close()
        return str(json.loads(value or b"{}").get("address", ""))

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        address = self.folder / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            manager.bind(str(address))
            with (self.folder / "log").open("a") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", AGENT, str(self.site), stderr=log, env={"NOTIFY_SOCKET": str(address)}
                )
            try:
                yield Agent(self.folder, process, manager)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


def names(address: str) -> contextlib.AbstractContextManager[None]:
    records = [f"--srv-host=_sip._udp.{NAME},sip1.{NAME},5060", f"--host-record=sip1.{NAME},{address}"]
    return name_server(RESOLVERS[0], 53, records)


async def first_start(bed: Bed) -> dict[str, Any]:
    """Nothing is remembered, and the resolver answers."""
    with names(REGISTRAR):
        async with bed.agent() as agent:
            found = await agent.up()
            await agent.ended(1.0)
        return {"faults": found["faults"], "code": agent.process.returncode, "kept": await bed.remembered()}


async def dead_resolver(bed: Bed) -> dict[str, Any]:
    """The address is remembered, and nobody answers."""
    await bed.remember(REGISTRAR)
    async with bed.agent() as agent:
        found = await agent.up()
        code = await agent.ended(WATCHED_S)
        return {"faults": found["faults"], "code": code, "kept": ""}


async def nothing_known(bed: Bed) -> dict[str, Any]:
    """Nothing is remembered, and nobody answers until later."""
    async with bed.agent() as agent:
        code = await agent.ended(WATCHED_S)
        waiting = agent.noted().copy()
        with names(REGISTRAR):
            found = await agent.up()
        return {"faults": found["faults"], "code": code, "waiting": waiting}


async def stopped_while_waiting(bed: Bed) -> dict[str, Any]:
    """Nothing is known, and the service manager ends the wait."""
    async with bed.agent() as agent:
        async with asyncio.timeout(LIMIT_S):
            while not agent.noted():  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.05)
        agent.process.terminate()
        return {"code": await agent.ended(LIMIT_S)}


async def no_disk(bed: Bed) -> dict[str, Any]:
    """The state folder cannot be had at all, and the resolver answers."""
    (bed.folder / "state").write_text("a file where a folder should be")
    with names(REGISTRAR):
        async with bed.agent() as agent:
            found = await agent.up()
            await agent.fault("store_failed")
            return {"path": found["path"], "code": await agent.ended(WATCHED_S)}


async def _lives(bed: Bed, first: str) -> dict[str, Any]:
    """Started again whenever it ends, as systemd does, until it stays."""
    await bed.remember(first)
    codes: list[int | None] = []
    with names(REGISTRAR):
        while codes[-1:] != [None] and len(codes) < 5:
            async with bed.agent() as agent:
                await agent.up()
                codes.append(await agent.ended(WATCHED_S))
    return {"codes": codes, "kept": await bed.remembered()}


async def moved(bed: Bed) -> dict[str, Any]:
    """What is remembered is not the address any more."""
    return await _lives(bed, OTHER)


async def stayed(bed: Bed) -> dict[str, Any]:
    """The control: it is."""
    return await _lives(bed, REGISTRAR)


async def outside(bed: Bed) -> dict[str, Any]:
    """The name means an address that is not in the prefixes."""
    await bed.remember(REGISTRAR)
    with names("203.0.113.9"):
        async with bed.agent() as agent:
            await agent.up()
            await agent.fault("registrar_outside_prefixes")
            code = await agent.ended(WATCHED_S)
            found = await status(bed.folder)
    return {"faults": found["faults"], "code": code, "kept": await bed.remembered(), "path": found["path"]}


STORIES: dict[str, Callable[[Bed], Awaitable[dict[str, Any]]]] = {
    story.__name__: story
    for story in (
        first_start,
        dead_resolver,
        nothing_known,
        stopped_while_waiting,
        no_disk,
        moved,
        stayed,
        outside,
    )
}


async def main(story: str, folder: Path) -> dict[str, Any]:
    async with rig(folder) as on:
        found = await STORIES[story](Bed(on, folder))
        return {**found, "log": (folder / "log").read_text()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
