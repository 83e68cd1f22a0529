"""What stands in the way of provisioning is named with what to do, before anything is changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edgeagent.daemon.survey import wish
from edgeagent.routeros import meaning, obstacles
from edgeagent.routeros.diff import Add
from edgeagent.routeros.obstacles import Obstacle
from edgeagent.routeros.ruleset import build
from edgeagent.texts import en
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import board, owners_router, rig, run, site_at
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
        ({"/ip/dhcp-client": [{"add-default-route": "yes", **MODEM}]}, "backup has a default"),
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
