"""One site on loopback: a virtual router in this process, and files that the agent reads."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tomli

from edgeagent.config.site import Site, parse
from edgeagent.daemon.survey import Board
from edgeagent.daemon.wiring import Daemon
from edgeagent.routeros.rows import Dialect
from hil.virtual.routeros.certificate import make_certificate, server_context
from hil.virtual.routeros.device_mode import DeviceMode
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.model import ModelPlane
from hil.virtual.routeros.server import Router, RouterOptions
from hil.virtual.routeros.values import Version

BEAT_S = 0.01
GUARD_S = 600.0  # no claim of any test: it ends what would hang, on a busy machine not before
USER, PASSWORD = "edgeagent", "router-secret-of-the-test"
MAIL_PASSWORD = "mail-secret-of-the-test"
WAN, LTE = "192.0.2.2", "198.51.100.2"
REGISTRAR = "127.30.0.10"

GOOD = """format = 1

[site]
id = "site-7"
name = "Bakery, Main Street"
timezone = "America/Chicago"

[agent]
address = "127.0.0.1"
alias_prefix = "127.9.9.0/29"
state_folder = "FOLDER/state"
control_socket = "FOLDER/control.sock"

[router]
address = "127.0.0.1"
port = 8729
user = "edgeagent"
password_file = "FOLDER/router.password"
certificate = "FOLDER/router.crt"
lan_interface = "bridge"
alias_address = "127.9.9.1"

[path.primary]
interface = "ether1"
gateway = "192.0.2.1"
source = "127.9.9.2"
targets = ["127.30.0.10", "127.40.0.1", "127.40.0.2"]

[path.lte]
interface = "ether5"
gateway = "198.51.100.1"
source = "127.9.9.3"
targets = ["127.40.0.3"]

[provider]
registrar = "127.30.0.10"
prefixes = ["127.30.0.0/27"]

[mail]
server = "127.0.0.1"
port = 465
security = "tls"
server_name = "mail.example"
user = "site-7"
password_file = "FOLDER/mail.password"
ca_file = "FOLDER/mail.pem"
sender = "failover@provider.example"
customer = ["owner@bakery.example"]
support = ["noc@provider.example"]

[failback]
hold_s = 5
"""


def board(dialect: Dialect) -> Board:
    """What the router of the good site is found to be."""
    addresses = {"primary": WAN, "lte": LTE}
    next_hops = {"primary": "192.0.2.1", "lte": "198.51.100.1"}
    return Board(dialect.version, scheduler=True, ipv6=True, poe=(), addresses=addresses, next_hops=next_hops)


def table() -> dict[str, Any]:
    """The good file as TOML gives it."""
    return tomli.loads(GOOD.replace("FOLDER", "/state-folder"))


def site_at(folder: Path, router_port: int = 8729, mail_port: int = 465, **router: Any) -> Site:
    """The good site with its files in ``folder``."""
    found = tomli.loads(GOOD.replace("FOLDER", str(folder)))
    found["router"] |= {"port": router_port, **router}
    found["mail"]["port"] = mail_port
    for name, secret in (("router.password", PASSWORD), ("mail.password", MAIL_PASSWORD)):
        (folder / name).write_text(secret + "\n")
    return parse(found, "site.toml")


def owners_router(version: Version) -> dict[str, Any]:
    """A router as its owner has it: uplinks, masquerade, a firewall with fasttrack, rules of his own."""
    known = "established,related"
    rules: dict[str, Any] = {
        "/interface/list": [{"name": "WAN"}, {"name": "LAN"}],
        "/interface/list/member": [{"list": "WAN", "interface": "ether1"}, {"list": "LAN", "interface": "bridge"}],
        "/ip/address": [
            {"address": "192.168.88.1/24", "interface": "bridge"},
            {"address": f"{WAN}/24", "interface": "ether1"},
            {"address": f"{LTE}/24", "interface": "ether5"},
        ],
        "/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "192.0.2.1"}],
        "/ip/firewall/filter": [
            {"chain": "input", "action": "accept", "connection-state": known},
            {"chain": "input", "action": "drop", "in-interface-list": "!LAN"},
            {"chain": "forward", "action": "fasttrack-connection", "connection-state": known},
            {"chain": "forward", "action": "accept", "connection-state": known},
        ],
        "/ip/firewall/mangle": [{"chain": "forward", "action": "accept", "comment": "the owner's"}],
        "/ip/firewall/nat": [{"chain": "srcnat", "action": "masquerade", "out-interface-list": "WAN"}],
        "/ip/firewall/address-list": [{"list": "friends", "address": "203.0.113.7", "comment": "edge-voip"}],
        "/user/group": [{"name": "edgeagent", "policy": "api,read,write,test"}],
        "/user": [{"name": USER, "group": "edgeagent", "password": PASSWORD}],
    }
    rule = {"src-address": "192.168.99.0/24", "action": "lookup", "table": "main"}
    rules["/routing/rule" if version == "7.22" else "/ip/route/rule"] = [rule]
    return rules


class Rig:
    """A router with TLS, its plane, and what it heard."""

    def __init__(self, router: Router, plane: ModelPlane, events: Path) -> None:
        self.router = router
        self.plane = plane
        self.events = events

    @property
    def port(self) -> int:
        return self.router.ports["api-ssl"]

    def heard(self) -> list[list[str]]:
        """Every sentence that came over the API, logins excepted."""
        lines = [json.loads(line) for line in self.events.read_text().splitlines()]
        return [
            line["words"]
            for line in lines
            if "words" in line and line["event"] != "local_sentence" and line["words"][0] != "/login"
        ]

    def rows(self, menu: str) -> list[dict[str, str]]:
        return self.router.store.rows(menu)

    def leases(self) -> set[tuple[str, str]]:
        rows = self.rows("/ip/firewall/address-list")
        return {(row["list"], row["address"]) for row in rows if row["dynamic"] == "true"}

    def strike(self, kind: str, command: str = "", **more: Any) -> None:
        self.router.misbehaviour.add({"kind": kind, "command": command, **more})

    async def do(self, *words: str) -> list[dict[str, str]]:
        """As the owner at the console."""
        return await self.router.store.sentence(list(words))


@asynccontextmanager
async def rig(
    folder: Path, version: Version = "7.22", initial: Initial | None = None, device_mode: DeviceMode = "advanced"
) -> AsyncIterator[Rig]:
    certificate, key = await asyncio.to_thread(_certificate, folder)
    plane, log = ModelPlane(), EventLog(folder / "events.jsonl")
    options = RouterOptions(
        version,
        initial=owners_router(version) if initial is None else initial,
        port=None,
        tls_port=0,
        tls=server_context(certificate, key),
        device_mode=device_mode,
    )
    router = Router(options, plane, log)
    await router.start()
    try:
        yield Rig(router, plane, folder / "events.jsonl")
    finally:
        await router.stop()
        log.close()
        assert router.error is None, router.error


def _certificate(folder: Path) -> tuple[Path, Path]:
    if (folder / "router.crt").exists():
        return folder / "router.crt", folder / "router.key"
    return make_certificate(folder, "127.0.0.1")


@asynccontextmanager
async def agent(site: Site) -> AsyncIterator[Daemon]:
    """The agent, in this process, until the end of the block."""
    daemon = Daemon(site)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(GUARD_S):
            await test()

    asyncio.run(limited())


class Beats:
    """A clock of the loop's own turns, of 10 ms or more each: it stands still while the machine lets nobody run.

    So it tells what took long of itself from what was kept waiting.
    """

    def __init__(self) -> None:
        self._count = 0
        self._beating = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._count += 1

    def end(self) -> float:
        """How long it was, in s."""
        self._beating.cancel()
        return self._count * BEAT_S


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not condition():  # noqa: ASYNC110  what is waited for lives in several places
            await asyncio.sleep(0.01)


async def in_thread(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A process, without blocking the router that it talks to."""
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=GUARD_S, check=False
    )
