"""Every sentence that the agent was heard to say must exist on a real router of that version.

The schema files are not part of this project; $EDGEAGENT_ROUTEROS_SCHEMAS names a folder that holds them.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from edgeagent.core.facts import Lease, LinkChanged, ProbeReplied, RoundSent
from edgeagent.core.intents import MoveFlows
from edgeagent.daemon.survey import wish
from edgeagent.host import clock
from edgeagent.routeros import sentences
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import Add
from edgeagent.routeros.rows import Dialect
from edgeagent.routeros.ruleset import build
from hil.virtual.routeros.values import Version
from tests.agent.support import agent, board, rig, run, site_at, until
from tests.agent.test_provision import provisioned
from tests.agent.test_router_ping import router_site
from tests.agent.test_status import asked, write_site

VARIABLE: Final = "EDGEAGENT_ROUTEROS_SCHEMAS"
CONNECTIONS: Final = "/ip/firewall/connection"
LIST: Final = "/ip/firewall/address-list"

API_ONLY: Final = {".id", ".proplist"}
# Menus of which the list for 6.49 says nothing, and fields it lacks.
V6_MENUS: Final = {
    "/interface": "the source describes interfaces by type only",
    "/ip/firewall/connection": "rows that cannot be configured are not described",
    "/system/package": "what is installed is not configured",
    "/system/resource": "settings that cannot be configured are not described",
    "/tool/netwatch": "the source names it without its fields",
    "": "the source lists no commands; scripts of 2018-2023 say /ping",
}
V6_FIELDS: Final = {
    (LIST, "timeout"): "the source lists configuration; a row with a timeout is not kept",
}
V6_COMMAND_ARGUMENTS: Final = {"place-before", "numbers", "destination"}


@functools.cache
def schema(name: str) -> dict[str, Any]:
    return {
        **whole(name)["menus"],
        **{command: {"words": words} for command, words in whole(name).get("commands", {}).items()},
    }


@functools.cache
def whole(name: str) -> dict[str, Any]:
    folder = os.environ.get(VARIABLE)
    if folder is None:
        pytest.skip(f"{VARIABLE} does not name a folder with RouterOS schema files")
    found: dict[str, Any] = json.loads((Path(folder) / name).read_text("utf-8"))
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
        async with agent(site) as daemon:
            await until(lambda: ("edge-alive", "0.0.0.0/0") in on.leases())
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
            daemon.actuator.renewed_s = dict.fromkeys(daemon.actuator.renewed_s, float("-inf"))
            daemon.actuator.wake.set()
            await until(lambda: any(words[0] == f"{LIST}/set" for words in on.heard()))
            daemon.actuator.wanted = frozenset({Lease("edge-alive", "0.0.0.0/0")})
            daemon.actuator.wake.set()
            await until(lambda: any(words[0] == f"{LIST}/remove" for words in on.heard()))
            # 1: this machine may forbid pings, which is a fault, and none of what is looked for here
            assert (await asked(folder / "site.toml", "status", "--json")).returncode in (0, 1)
        mine = next(row for row in on.rows("/ip/firewall/nat") if row.get("comment") == "edgeagent:voice-out-wan")
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

    run(test)
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
    if words[0] in menus and "words" in menus[words[0]]:  # a command that stands alone, such as /tool/ping
        return [f"{words[0]} {name}" for name in named - menus[words[0]]["words"].keys()]
    if menu not in menus:
        return [menu]
    if command == "listen":
        return [words[0]] * ("follow" not in menus[menu]["commands"]["print"])
    if command not in menus[menu]["commands"]:
        return [words[0]]
    return [f"{words[0]} {name}" for name in named - arguments(menus[menu], command)]


@pytest.mark.parametrize("name", ["schema-7.22.3.json", "schema-7.12.2.json", "fields-6.49-ansible.json"])
def test_what_the_routers_own_ping_needs_exists_on_that_version(name: str, tmp_path: Path) -> None:
    version = "6.49" if name.startswith("fields") else "7.22"
    dialect: Dialect = DialectV6() if version == "6.49" else DialectV7()
    menus = schema(name)
    for row in build(wish(router_site(tmp_path, 1), board(dialect)), dialect):
        said = sentences.of_change(Add(row.menu, {**row.attributes, "comment": row.comment}))
        assert lacking(menus, said, version) == []
    command, *words = sentences.ping(sentences.ping_command(version), "192.0.2.9", "10.0.0.1", 28, 1.0, 1)
    if version == "6.49":  # the source lists no commands; scripts of 2018-2023 ping like this
        assert command == "/ping"
        return
    known = whole(name)["commands"]
    assert {word[1:].partition("=")[0] for word in words} <= known[command].keys()
    assert "routing-table" not in known[command]  # the control


def test_the_check_bites() -> None:
    seven, six = schema("schema-7.22.3.json"), schema("fields-6.49-ansible.json")
    assert lacking(seven, ["/ip/route/add", "=routing-mark=x"], "7.22")
    assert lacking(seven, ["/ip/route/rule/add"], "7.22")
    assert lacking(six, ["/ip/firewall/mangle/add", "=new-routing-table=x"], "6.49")
    assert lacking(seven, ["/ip/firewall/connection/listen"], "7.22")
    assert all((*V6_MENUS.values(), *V6_FIELDS.values()))
