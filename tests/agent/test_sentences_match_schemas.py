"""Every sentence that the agent was heard to say must exist on a real router of that version.

The schema files are not part of this project; $EDGEAGENT_ROUTEROS_SCHEMAS names a folder that holds them.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from edgeagent.core.facts import Lease, LinkChanged, ProbeReplied, RoundSent
from edgeagent.core.intents import MoveFlows
from edgeagent.daemon.wiring import Daemon
from edgeagent.host import clock
from hil.virtual.routeros.values import Version
from tests.agent.support import rig, run, site_at, until
from tests.agent.test_provision import provisioned
from tests.agent.test_status import asked, write_site

VARIABLE: Final = "EDGEAGENT_ROUTEROS_SCHEMAS"
CONNECTIONS: Final = "/ip/firewall/connection"
LIST: Final = "/ip/firewall/address-list"

API_ONLY: Final = {".id", ".proplist"}
# Menus of which the list for 6.49 says nothing, and fields it lacks.
V6_MENUS: Final = {
    "/interface": "the source describes interfaces by type only",
    "/ip/firewall/connection": "rows that cannot be configured are not described",
    "/system/resource": "settings that cannot be configured are not described",
}
V6_FIELDS: Final = {
    (LIST, "timeout"): "the source lists configuration; a row with a timeout is not kept",
}
V6_COMMAND_ARGUMENTS: Final = {"place-before", "numbers", "destination"}


def schema(name: str) -> dict[str, Any]:
    folder = os.environ.get(VARIABLE)
    if folder is None:
        pytest.skip(f"{VARIABLE} does not name a folder with RouterOS schema files")
    found: dict[str, Any] = json.loads((Path(folder) / name).read_text("utf-8"))["menus"]
    return found


def arguments(menu: dict[str, Any], command: str) -> set[str]:
    found = menu["commands"][command]
    if "=add" not in found:
        return set(found)
    return (set(menu["commands"]["add"]) - set(found["=add"]["minus"])) | set(found["=add"]["plus"])


async def spoken(version: Version, folder: Path) -> list[list[str]]:
    """Provision, run a daemon through a failover and back, repair what was disordered, remove."""
    async with rig(folder, version) as on:
        site = site_at(folder, on.port)
        await provisioned(site, "apply")
        daemon = Daemon(site)
        task = asyncio.create_task(daemon.run())
        try:
            await until(lambda: daemon.actuator.wanted is not None and len(on.leases()) == 1)
            number = 10**6
            for path in ("primary", "lte"):
                daemon.tell(RoundSent(path, number, clock.mono_s(), ("icmp:a",)))
                daemon.tell(ProbeReplied(path, number, "icmp:a", clock.mono_s()))
            flow = {"protocol": "udp", "src-address": "192.168.88.11:5060", "dst-address": "127.30.0.10:5060"}
            on.plane.set_connections([{**flow, "reply-dst-address": "192.0.2.2:5060", "connection-mark": "edge-wan"}])
            await until(lambda: daemon.loop.state.paths["lte"].verdict == "up")
            daemon.tell(LinkChanged("primary", False, clock.mono_s()))
            await until(lambda: any(name == "edge-lte-site" for name, _ in on.leases()))
            daemon.actuator.move((MoveFlows("lte"),))
            await until(lambda: any(words[0] == f"{CONNECTIONS}/remove" for words in on.heard()))
            daemon.actuator.renewed_s = float("-inf")
            daemon.actuator.wake.set()
            await until(lambda: any(words[0] == f"{LIST}/set" for words in on.heard()))
            daemon.actuator.wanted = frozenset({Lease("edge-alive", "127.0.0.1")})
            daemon.actuator.wake.set()
            await until(lambda: any(words[0] == f"{LIST}/remove" for words in on.heard()))
            assert (await asked(folder / "site.toml", "status", "--json")).returncode == 0
        finally:
            task.cancel()
            await asyncio.wait([task])
        mine = next(row for row in on.rows("/ip/firewall/nat") if row.get("comment") == "edgeagent:out-wan")
        await on.do("/ip/firewall/nat/move", f"=numbers={mine['.id']}")
        await on.do("/ip/firewall/nat/disable", f"=.id={mine['.id']}")
        await provisioned(site, "apply")
        await provisioned(site, "remove")
        return on.heard()


@pytest.fixture(scope="module", params=["6.49", "7.22"])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[list[str]]]:
    schema("schema-7.22.3.json")
    folder = tmp_path_factory.mktemp("heard")
    found: list[list[str]] = []

    async def test() -> None:
        write_site(folder)
        found.extend(await spoken(request.param, folder))

    run(test, 30.0)
    return request.param, found


def test_all_that_was_said_exists_on_that_version(heard: tuple[str, list[list[str]]]) -> None:
    version, found = heard
    commands = {words[0].rpartition("/")[2] for words in found}
    assert commands >= {"add", "set", "remove", "move", "print", "listen"}
    unknown: set[str] = set()
    for name in ("schema-7.22.3.json", "schema-7.12.2.json") if version == "7.22" else ("fields-6.49-ansible.json",):
        menus = schema(name)
        for words in found:
            unknown |= {f"{name}: {one}" for one in lacking(menus, words, version)}
    assert unknown == set()


def lacking(menus: dict[str, Any], words: list[str], version: str) -> list[str]:
    """What of one sentence the schema does not know."""
    menu, _, command = words[0].rpartition("/")
    named = {word[1:].partition("=")[0] for word in words[1:] if word.startswith("=")} - API_ONLY
    if version == "6.49":
        if menu not in menus or "fields" not in menus[menu]:
            return [menu] * (menu not in V6_MENUS)
        known = set(menus[menu]["fields"]) | V6_COMMAND_ARGUMENTS
        return [f"{words[0]} {name}" for name in named - known if (menu, name) not in V6_FIELDS]
    if menu not in menus:
        return [menu]
    if command == "listen":
        return [words[0]] * ("follow" not in menus[menu]["commands"]["print"])
    if command not in menus[menu]["commands"]:
        return [words[0]]
    return [f"{words[0]} {name}" for name in named - arguments(menus[menu], command)]


def test_the_check_bites() -> None:
    seven, six = schema("schema-7.22.3.json"), schema("fields-6.49-ansible.json")
    assert lacking(seven, ["/ip/route/add", "=routing-mark=x"], "7.22")
    assert lacking(seven, ["/ip/route/rule/add"], "7.22")
    assert lacking(six, ["/ip/firewall/mangle/add", "=new-routing-table=x"], "6.49")
    assert lacking(seven, ["/ip/firewall/connection/listen"], "7.22")
    assert all((*V6_MENUS.values(), *V6_FIELDS.values()))
