"""A router as the factory leaves it, with SSH, API and the site that firmware-scripts/ are made for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edgeagent.config.site import Site, parse
from edgeagent.daemon import survey
from edgeagent.routeros import adopted, diff
from edgeagent.routeros.session import Session
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.certificate import server_context
from hil.virtual.routeros.defconf import defconf
from hil.virtual.routeros.device_mode import DeviceMode
from hil.virtual.routeros.dhcp_leases import CLIENTS
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.model import ModelPlane
from hil.virtual.routeros.server import Router, RouterOptions
from hil.virtual.routeros.values import Version
from tests.agent.support import MAIL_PASSWORD, PASSWORD, _certificate, owners_router
from tests.rendered import FOLDER, table
from tests.virtual_routeros.client import PASSWORD as ADMIN
from tests.virtual_routeros.client import Bench, Shell, host_key

LIMIT_S = 300.0
MODELS: tuple[Profile, ...] = ("rb2011", "hap-ac2")
VERSIONS: tuple[Version, ...] = ("6.49", "7.22")
TOLD = {"ether1": ("192.0.2.1", "192.0.2.2/24"), "lte": ("198.51.100.1", "198.51.100.2/24")}
GOOD = "Script file loaded and executed successfully"


class Told(ModelPlane):
    """Whose modem tells each new DHCP client an address and a next hop."""

    async def changed(self, menus: frozenset[str]) -> None:
        await super().changed(menus)
        if CLIENTS in menus and self._store is not None:
            for row in self._store.rows(CLIENTS):
                gateway, address = TOLD["ether1" if row["interface"] == "ether1" else "lte"]
                self.control("lease", {"interface": row["interface"], "address": address, "gateway": gateway})


def factory(version: Version, model: Profile) -> dict[str, Any]:
    """As it is sold, with a script of the owner's and the agent's access; and on one model rows of his own."""
    found = defconf(version, model)
    found["/ip/dhcp-client"][0]["script"] = ":log info told"
    found |= {menu: rows for menu, rows in owners_router(version).items() if menu.startswith("/user")}
    if model == "rb2011":
        found["/ip/firewall/mangle"] = [{"chain": "forward", "action": "accept", "comment": "the owner's"}]
    return found


class Rig(Bench):
    """A router with SSH and api-ssl, and the example site on it."""

    def __init__(self, router: Router, plane: ModelPlane, site: Site) -> None:
        super().__init__(router, plane)
        self.site = site

    def menus(self) -> dict[str, Any]:
        """All that is configured, in order, but for what each run has of its own."""
        store = self.router.store
        moving = ("/file", "/log", "/system/history", "/user/active", "/system/resource", "/system/clock")
        odd = {".id", "creation-time", "next-run", "owner", "run-count", "last-started"}
        found: dict[str, Any] = {}
        for path, menu in store.menus.items():
            if path not in moving:
                rows = [store.single(path)] if menu.single else store.rows(path)
                own = odd | ({"port"} if path == "/ip/service" else set())  # the bench chose it
                rows = [row for row in rows if "remote" not in row]  # who is connected, among the services
                found[path] = [{key: of for key, of in row.items() if key not in own} for row in rows]
        return found


@asynccontextmanager
async def rig(
    folder: Path, version: Version, model: Profile, device_mode: DeviceMode = "advanced"
) -> AsyncIterator[Rig]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    certificate, key = await asyncio.to_thread(_certificate, folder)
    plane, log = Told(), EventLog(folder / "events.jsonl")
    options = RouterOptions(
        version,
        profile=model,
        initial=factory(version, model),
        port=None,
        tls_port=0,
        tls=server_context(certificate, key),
        ssh_port=0,
        ssh_host_key=host_key(),
        device_mode=device_mode,
        password=ADMIN,
    )
    router = Router(options, plane, log)
    await router.start()
    await plane.set_lease("ether1", TOLD["ether1"][1], TOLD["ether1"][0])
    on = Rig(router, plane, at_home(folder, model, router.ports["api-ssl"]))
    try:
        yield on
    finally:
        await on.close()
        log.close()


def at_home(folder: Path, model: Profile, port: int) -> Site:
    """The site of the rendered files, with agent and router on this machine."""
    found = table(model)
    found["agent"] |= {"address": "127.0.0.1", "state_folder": str(folder / "state")}
    found["router"] |= {"address": "127.0.0.1", "port": port, "certificate": str(folder / "router.crt")}
    for where, secret in (("router", PASSWORD), ("mail", MAIL_PASSWORD)):
        path = folder / f"{where}.password"
        path.write_text(f"{secret}\n")
        found[where]["password_file"] = str(path)
    return parse(found, "site.toml")


async def imported(on: Rig, text: str, arguments: str = "") -> str:
    async with on.ssh() as shell:
        return await import_as(shell, text, arguments)


async def import_as(shell: Shell, text: str, arguments: str, name: str = "test.rsc") -> str:
    """An import takes longer than other commands."""
    await shell.put(name, text)
    done = await shell.connection.run(f"/import file-name={name} {arguments}", timeout=LIMIT_S)
    return str(done.stdout).replace("\r\n", "\n").rstrip("\n")


async def exported(on: Rig) -> str:
    async with on.ssh() as shell:
        return re.sub(r"^#.*$", "", await shell("/export"), flags=re.MULTILINE)


async def still_wrong(on: Rig) -> list[diff.Change]:
    """What ``provision --apply`` would change."""
    site = on.site
    pinned = Path(site.router.certificate).read_text()  # noqa: ASYNC240  a test's own small file
    address, port, user = site.router.address, site.router.port, site.router.user
    session = await Session.open(address, port, user, PASSWORD, pinned, 10.0, source=site.agent_address)
    try:
        dialect = survey.dialect_of(await survey.version_of(session))
        assert dialect is not None
        found = await survey.survey(session, site, dialect, await survey.board(session, site, dialect))
    finally:
        await session.close()
    settings = adopted.adopting(found.settings)[0]
    return [*settings.before, *diff.ruleset_changes(found.wanted, found.seen), *settings.after]


def heard(folder: Path) -> list[list[str]]:
    """Every sentence that the router was given by its own console."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line["words"] for line in lines if line["event"] == "local_sentence"]


def script(model: Profile, version: Version) -> str:
    return (FOLDER / "rendered" / f"{model}-{version}.rsc").read_text()
