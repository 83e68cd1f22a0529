"""What stands in the way of provisioning is named with what to do, before anything is changed."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeagent import texts
from edgeagent.daemon.memory import NO, PROVISIONED
from edgeagent.daemon.survey import wish
from edgeagent.routeros import meaning, obstacles
from edgeagent.routeros.diff import Add
from edgeagent.routeros.obstacles import Obstacle
from edgeagent.routeros.ruleset import build
from edgeagent.store.store import Store
from edgeagent.texts import en
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import Rig, board, owners_router, rig, run, site_at, until
from tests.agent.test_provision import everything, provisioned
from tests.agent.test_ruleset import DIALECTS, site

DHCP_BACKUP = {"path.lte.kind": "dhcp", "path.lte.gateway": None}
MODEM = {"interface": "ether5"}


def found(seen: dict[str, list[dict[str, str]]], changed: dict[str, Any] | None = None) -> list[str]:
    return [one.code for one in obstacles.blocking(wish(site(changed), board(DIALECTS["7.22"])), seen)]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ({"/ip/settings": [{"rp-filter": "strict"}]}, "rp-filter strict"),
        ({"/ip/address": [{"address": "127.9.9.6/30", "interface": "vlan7"}]}, "subnet overlaps"),
        ({"/ip/address": [{"address": "127.9.0.1/16", "interface": "vlan7"}]}, "subnet overlaps"),
        ({"/interface/list/member": [{"list": "WAN", **MODEM}]}, "backup in WAN"),
        ({"/ip/dhcp-client": [{"add-default-route": "yes", **MODEM}]}, "backup has a default by dhcp"),
        ({"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "198.51.100.1"}]}, "backup has a default"),
        ({"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "ether5"}]}, "backup has a default"),
        ({"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "198.51.100.9%ether5"}]}, "backup has a default"),
        ({"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "192.0.2.1,198.51.100.1"}]}, "backup has a default"),
        ({"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "ether5", "dynamic": "true"}]}, "backup has a default"),
    ],
)
def test_each_is_found(seen: dict[str, list[dict[str, str]]], code: str) -> None:
    assert found(seen) == [code]
    for rows in seen.values():  # what is switched off or ours is none
        rows[0] |= {"disabled": "true"}
    assert found(seen) == ([code] if code == "rp-filter strict" else [])
    for rows in seen.values():
        rows[0] |= {"disabled": "false", "comment": "edgeagent:x"}
    assert found(seen) == ([code] if code == "rp-filter strict" else [])


@pytest.mark.parametrize(
    "seen",
    [
        {"/ip/settings": [{"rp-filter": "loose"}]},
        {"/ip/address": [{"address": "127.9.10.1/24", "interface": "vlan7"}, {"address": "none", "interface": "x"}]},
        {"/interface/list/member": [{"list": "WAN", "interface": "ether1"}, {"list": "LAN", **MODEM}]},
        {
            "/ip/dhcp-client": [
                {"add-default-route": "yes", "interface": "ether1"},
                {"add-default-route": "no", **MODEM},
            ]
        },
        {"/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": "192.0.2.1"}]},
    ],
)
def test_what_is_usual_is_none(seen: dict[str, list[dict[str, str]]]) -> None:
    assert found(seen) == []


def by(destination: str, gateway: str) -> dict[str, str]:
    return {"dst-address": destination, "gateway": gateway}


@pytest.mark.parametrize(
    "routes",
    [
        [by("0.0.0.0/0", "198.51.100.1@main")],
        [by("0.0.0.0/0", "ether5@main")],
        [by("0.0.0.0/0", "198.51.100.9%ether5@main")],
        [by("0.0.0.0/0", "192.0.2.1@main,ether5@main")],
        [by("0.0.0.0/1", "198.51.100.1"), by("10.20.0.0/16", "198.51.100.1")],
        [by("128.0.0.0/2", "ether5")],
        [by("100.0.0.0/8", "198.51.100.200")],
        [by("0.0.0.0/0", "203.0.113.200"), by("203.0.113.200/32", "198.51.100.1")],
        [by("0.0.0.0/0", "203.0.113.200@main"), by("203.0.113.200/32", "ether5@main")],
        [by("0.0.0.0/0", "203.0.113.200"), by("203.0.113.0/24", "10.9.9.9"), by("10.9.9.9/32", "198.51.100.1")],
        [by("0.0.0.0/0", "203.0.113.200"), by("203.0.113.200/32", "192.0.2.1"), by("203.0.113.200/32", "ether5")],
    ],
)
def test_every_way_to_lead_everything_out_by_the_backup_is_known(routes: list[dict[str, str]]) -> None:
    """Recursive next hops, parts of a default, tables and ports in a next hop. The control is the test below."""
    addresses = [
        {"address": "198.51.100.2/24", "interface": "ether5"},
        {"address": "192.0.2.2/24", "interface": "ether1"},
    ]
    assert found({"/ip/route": routes, "/ip/address": addresses}) == ["backup has a default"]
    if "203.0.113.200" in routes[0]["gateway"]:
        assert found({"/ip/route": routes[:1], "/ip/address": addresses}) == []  # nothing leads on


@pytest.mark.parametrize(
    "routes",
    [
        [by("0.0.0.0/0", "192.0.2.1@main"), by("0.0.0.0/1", "ether1"), by("128.0.0.0/1", "192.0.2.1%ether1")],
        [by("10.20.0.0/16", "198.51.100.1"), by("203.0.113.200/32", "ether5")],  # to one network
        [by("0.0.0.0/0", "203.0.113.200"), by("203.0.113.200/32", "192.0.2.1"), by("203.0.113.0/24", "ether5")],
        [by("0.0.0.0/0", "203.0.113.200"), by("203.0.113.200/32", "203.0.113.200")],  # round in a circle
        [by("0.0.0.0/0", f"203.0.113.{host}") for host in range(100, 140)],  # each by all the others
        [by("0.0.0.0/0", ""), {"dst-address": "0.0.0.0/0", "type": "blackhole"}],  # to nowhere
        [{**by("10.0.0.0/8", "ether5"), "dynamic": "true"}],  # the network of the port itself
        [by("", "198.51.100.1"), by("::/0", "198.51.100.1"), by("0.0.0.0/0", ",;")],
    ],
)
@pytest.mark.parametrize("changed", [None, DHCP_BACKUP])
def test_what_does_not_lead_everything_there_is_none(
    routes: list[dict[str, str]], changed: dict[str, Any] | None
) -> None:
    addresses = [{"address": "10.3.3.3/8", "interface": "ether5"}, {"address": "192.0.2.2/24", "interface": "ether1"}]
    seen = {"/ip/route": routes, "/ip/address": addresses}
    known = replace(board(DIALECTS["7.22"]), next_hops={"primary": "192.0.2.1", "lte": "" if changed else "10.3.0.1"})
    wanted = wish(site(changed or {"path.lte.gateway": "10.3.0.1"}), known)
    assert [one.code for one in obstacles.blocking(wanted, seen)] == []


LAN = {"address": "192.168.88.1/24", "interface": "bridge"}


@pytest.mark.parametrize(
    ("addresses", "page"),
    [
        ([LAN, {"address": "192.168.88.20/24", "dynamic": "true", **MODEM}], None),
        ([LAN, {"address": "192.168.0.2/16", **MODEM}], None),
        ([LAN], "192.168.88.250/24"),
        ([LAN, {"address": "192.168.5.2/24", **MODEM}], "192.168.88.250/28"),
    ],
)
def test_a_network_is_at_one_port_only(addresses: list[dict[str, str]], page: str | None) -> None:
    changed = {"router.address": "127.0.0.1", **({"path.lte.modem_page": page} if page else {})}
    seen = {"/ip/address": addresses}
    (one,) = obstacles.blocking(wish(site(changed), board(DIALECTS["7.22"])), seen)
    assert (one.code, one.found["port"], one.found["other_port"]) == ("networks doubled", "ether5", "bridge")
    assert "192.168.88.1/24 on bridge" in texts.obstacle(one.code, one.found)
    for elsewhere in ({**LAN, "disabled": "true"}, {**LAN, "address": "10.1.2.1/24"}):
        assert found({"/ip/address": [elsewhere, *addresses[1:]]}, changed) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_modem_that_hands_out_the_lans_network_is_left_alone_at_once(version: Version, tmp_path: Path) -> None:
    """Else the router would look for the LAN, and for the agent, at the modem's port too."""

    async def test() -> None:
        initial = owners_router(version)
        initial["/ip/address"] = [row for row in initial["/ip/address"] if row["interface"] != "ether5"]
        async with rig(tmp_path, version, initial) as on:
            good = site_at(tmp_path, on.port)
            lte = replace(good.paths[1], kind="dhcp", gateway="")
            site = replace(good, paths=(good.paths[0], lte))

            async def hand_out(address: str, gateway: str) -> None:
                await until(lambda: any(row["interface"] == "ether5" for row in clients(on)))
                await on.plane.set_lease("ether5", address, gateway)

            modem = asyncio.create_task(hand_out("192.168.88.77/24", "192.168.88.254"))
            told = await provisioned(site, "apply", code=2)
            await modem
            assert "192.168.88.77/24 on the backup's port ether5" in told
            assert "our DHCP client on that port is off again" in told
            assert [row["disabled"] for row in clients(on)] == ["true"]
            assert [row for row in on.rows("/ip/address") if row["interface"] == "ether5"] == []
            assert not [row for row in on.rows("/ip/route") if row.get("comment", "").startswith("edgeagent:")]
            store = await Store.open(Path(site.state_folder) / "store.db")
            assert await store.kept(PROVISIONED) == NO  # an agent that runs does not turn it on again
            await store.close()
            # The control, and what to do about it: the modem gets another network.
            enabled = asyncio.create_task(re_enabled(on))
            await asyncio.gather(provisioned(site, "apply"), enabled)
            assert [row["disabled"] for row in clients(on)] == ["false"]
            await provisioned(site, "remove")
            assert clients(on) == []

    async def re_enabled(on: Rig) -> None:
        await until(lambda: any(row["disabled"] == "false" for row in clients(on)))
        await on.plane.set_lease("ether5", "192.168.77.77/24", "192.168.77.254")

    run(test)


def clients(on: Rig) -> list[dict[str, str]]:
    return on.rows("/ip/dhcp-client")


def test_a_port_has_one_dhcp_client() -> None:
    seen = {"/ip/dhcp-client": [{"add-default-route": "no", **MODEM}]}
    assert found(seen, DHCP_BACKUP) == ["backup has a client"]


def test_the_owners_marks_are_told() -> None:
    marks = [{"chain": "prerouting", "action": "mark-routing"}, {"chain": "prerouting", "action": "mark-packet"}]
    others = [{"chain": "forward", "action": "mark-packet"}, {"chain": "prerouting", "action": "accept"}]
    ours = [{"chain": "prerouting", "action": "mark-routing", "comment": "edgeagent:site-lte"}]
    assert obstacles.worth_knowing({"/ip/firewall/mangle": [*marks, *others, *ours]}) == [
        Obstacle("owner marks", {"count": "2"})
    ]
    assert obstacles.worth_knowing({"/ip/firewall/mangle": [*others, *ours]}) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_changed_while_something_stands_in_the_way(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        initial = owners_router(version)
        initial["/ip/settings"] = {"rp-filter": "strict"}
        initial["/interface/list/member"].append({"list": "WAN", "interface": "ether5"})
        initial["/ip/firewall/mangle"].append({"chain": "prerouting", "action": "mark-packet", "new-packet-mark": "q"})
        async with rig(tmp_path, version, initial) as on:
            site = site_at(tmp_path, on.port)
            before = everything(on)
            for verb in ("plan", "apply"):
                told = await provisioned(site, verb, code=2)
                assert "rp-filter=loose" in told
                assert "remove [find list=WAN interface=ether5]" in told
                assert "1 prerouting marks" in told
            assert everything(on) == before
            await on.do("/ip/settings/set", "=rp-filter=loose")
            for row in on.rows("/interface/list/member"):
                if row["interface"] == "ether5":
                    await on.do("/interface/list/member/remove", f"=.id={row['.id']}")
            assert "1 prerouting marks" in await provisioned(site, "apply")

    run(test)


@pytest.mark.parametrize("version", list(DIALECTS))
def test_every_row_and_group_has_a_meaning(version: str) -> None:
    changed = {"voice.resolvers": ["203.0.113.53"], "provider.ipv6_prefixes": ["2001:db8::/48"], **DHCP_BACKUP}
    codes = set()
    for row in build(wish(site(changed), board(DIALECTS[version])), DIALECTS[version]):
        said = meaning.of(Add(row.menu, {**row.attributes, "comment": row.comment}), {})
        assert "\n" not in said.line
        codes.add(said.code)
    assert codes | {meaning.SETTINGS, meaning.REMOVALS} == set(meaning.CODES) == en.MEANINGS.keys()


def test_every_obstacle_has_a_text_and_every_text_an_obstacle() -> None:
    named = re.findall(r'Obstacle\(\s*"([^"]+)"', Path(obstacles.__file__).read_text())
    assert set(named) == en.OBSTACLES.keys()
