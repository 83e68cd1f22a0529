"""DHCP clients of the virtual router against a real server."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgeagent.routeros import scripts
from hil.virtual.addresses import ISP_DNS, ISP_GATEWAY, ROUTER_WAN
from hil.virtual.lease_server import LeaseServer
from tests.virtual_kernel.bed import WAN, Phone, Site

CLIENTS = "/ip/dhcp-client"
OTHER_GATEWAY = "192.0.2.254"
TELLS = ':log info "told $bound $interface"; :log info ("by " . $"gateway-address" . " for " . $"lease-address")'


class Isp:
    """A server that the tests, which have no event loop, may start and stop."""

    def __init__(self, site: Site, folder: Path) -> None:
        def spawn(_role: str, argv: Sequence[str], _log: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(["ip", "netns", "exec", site.internet, *argv])

        self.server = LeaseServer("isp", "wan0", ROUTER_WAN, ISP_GATEWAY, spawn, folder)

    def start(self) -> None:
        asyncio.run(self.server.start())

    def stop(self) -> None:
        asyncio.run(self.server.stop())


@pytest.fixture
def isp(any_site: Site, tmp_path: Path) -> Iterator[Isp]:
    """An ISP that hands out the router's address; the router has none on its port yet."""
    made = Isp(any_site, tmp_path)
    (own,) = [row for row in any_site.rows("/ip/address") if row["interface"] == WAN]
    any_site.do("/ip/address/remove", _id=own[".id"])
    made.start()
    yield made
    made.stop()


def client(site: Site, **properties: str) -> str:
    row_id = site.add(CLIENTS, interface=WAN, **properties)
    site.wait(lambda: site.row(CLIENTS, row_id)["status"] == "bound")
    return row_id


def said(site: Site) -> list[str]:
    """What the script has said."""
    return [row["message"] for row in site.rows("/log") if row["topics"] == "script,info"]


def routes(site: Site) -> list[tuple[str, str]]:
    found = [row for row in site.rows("/ip/route") if row["dst-address"] == "0.0.0.0/0"]
    return [(row["gateway"], row["distance"]) for row in found if row["active"] == "true"]


def test_a_client_gets_address_route_names_and_runs_its_script(any_site: Site, isp: Isp) -> None:
    site = any_site
    site.masquerade()
    row_id = client(site, script=TELLS, default_route_distance="5")
    row = site.row(CLIENTS, row_id)
    assert (row["address"], row["gateway"], row["dhcp-server"]) == (f"{ROUTER_WAN}/24", ISP_GATEWAY, ISP_GATEWAY)
    assert row["primary-dns"] == ISP_DNS
    (address,) = [row for row in site.rows("/ip/address") if row["interface"] == WAN]
    assert (address["address"], address["dynamic"]) == (f"{ROUTER_WAN}/24", "true")
    assert routes(site) == [(ISP_GATEWAY, "5")]
    assert site.rows("/ip/dns")[0]["dynamic-servers"] == ISP_DNS
    site.wait(lambda: len(said(site)) == 2)
    assert said(site) == [f"told 1 {WAN}", f"by {ISP_GATEWAY} for {ROUTER_WAN}"]
    assert Phone(site).ask() == ROUTER_WAN


def test_its_options_are_honoured_when_they_change_and_the_lease_stays(any_site: Site, isp: Isp) -> None:
    site = any_site
    row_id = client(site)
    site.do(f"{CLIENTS}/set", _id=row_id, add_default_route="no", use_peer_dns="no", script=TELLS)
    site.wait(lambda: routes(site) == [])
    assert site.rows("/ip/dns")[0]["dynamic-servers"] == ""
    assert site.row(CLIENTS, row_id)["status"] == "bound"
    assert said(site) == []


def test_another_gateway_arrives_with_a_renewal(any_site: Site, isp: Isp) -> None:
    site = any_site
    row_id = client(site, script=TELLS)
    site.wait(lambda: len(said(site)) == 2)
    site.do(f"{CLIENTS}/renew", _id=row_id)
    isp.stop()
    site.ip(site.internet, f"address add {OTHER_GATEWAY}/24 dev wan0")
    isp.server.gateway = OTHER_GATEWAY
    isp.start()
    assert len(said(site)) == 2  # nothing was new
    site.do(f"{CLIENTS}/renew", _id=row_id)
    site.wait(lambda: len(said(site)) == 4)
    assert said(site)[3] == f"by {OTHER_GATEWAY} for {ROUTER_WAN}"
    assert routes(site) == [(OTHER_GATEWAY, "1")]
    site.masquerade()
    assert Phone(site).ask() == ROUTER_WAN


def test_what_is_released_or_disabled_is_gone_and_the_script_told(any_site: Site, isp: Isp) -> None:
    site = any_site
    row_id = client(site, script=TELLS)
    site.do(f"{CLIENTS}/disable", _id=row_id)
    site.wait(lambda: f"told 0 {WAN}" in said(site))
    assert (site.row(CLIENTS, row_id)["status"], routes(site)) == ("stopped", [])
    assert [row for row in site.rows("/ip/address") if row["interface"] == WAN] == []
    site.do(f"{CLIENTS}/enable", _id=row_id)
    site.wait(lambda: said(site).count(f"told 1 {WAN}") == 2)
    isp.stop()
    site.do(f"{CLIENTS}/release", _id=row_id)
    site.wait(lambda: site.row(CLIENTS, row_id)["status"] == "searching...")
    site.wait(lambda: said(site).count(f"told 0 {WAN}") == 2)


def test_without_a_carrier_or_on_a_port_of_a_bridge_there_is_no_lease(any_site: Site, isp: Isp) -> None:
    site = any_site
    row_id = client(site)
    site.ip(site.internet, "link set wan0 down")
    site.wait(lambda: site.row(CLIENTS, row_id)["status"] == "stopped" and not routes(site))
    site.ip(site.internet, "link set wan0 up")
    site.wait(lambda: site.row(CLIENTS, row_id)["status"] == "bound")
    bridge = site.add("/interface/bridge", name="other")
    port = site.add("/interface/bridge/port", bridge="other", interface=WAN)
    assert bridge
    site.wait(lambda: site.row(CLIENTS, row_id)["invalid"] == "true")
    assert "master other" in site.ip(site.router, f"link show {WAN}")
    site.wait(lambda: not routes(site))
    site.do("/interface/bridge/port/disable", _id=port)
    assert "master" not in site.ip(site.router, f"link show {WAN}")
    site.wait(lambda: site.row(CLIENTS, row_id)["status"] == "bound")
    site.do("/interface/bridge/port/enable", _id=port)
    assert "master other" in site.ip(site.router, f"link show {WAN}")


def test_the_agents_script_moves_what_goes_by_the_next_hop(any_site: Site, isp: Isp) -> None:
    site = any_site
    first = {"gateway": ISP_GATEWAY, "comment": "edgeagent:default-edge-wan", **site.table("edge-wan")}
    route = site.add("/ip/route", dst_address="0.0.0.0/0", **first)
    canary = site.add(
        "/ip/route", dst_address="203.0.113.129/32", gateway=ISP_GATEWAY, comment="edgeagent:canary-203.0.113.129"
    )
    others = site.add("/ip/route", dst_address="203.0.113.130/32", gateway=ISP_GATEWAY, comment="the owner's")
    row_id = client(site, script=scripts.lease("wan", site.rules_menu))
    isp.stop()
    site.ip(site.internet, f"address add {OTHER_GATEWAY}/24 dev wan0")
    isp.server.gateway = OTHER_GATEWAY
    isp.start()
    site.do(f"{CLIENTS}/renew", _id=row_id)
    site.wait(lambda: site.row("/ip/route", canary)["gateway"] == OTHER_GATEWAY)
    assert site.row("/ip/route", route)["gateway"] == OTHER_GATEWAY
    assert site.row("/ip/route", others)["gateway"] == ISP_GATEWAY
    assert [row["message"] for row in site.rows("/log") if "error" in row["topics"]] == []


def test_a_backups_script_keeps_the_rule_of_the_routers_own_address_there(any_site: Site, isp: Isp) -> None:
    site = any_site
    table, named = site.table("edge-lte"), {"comment": "edgeagent:default-edge-lte"}
    route = site.add("/ip/route", dst_address="0.0.0.0/0", gateway=OTHER_GATEWAY, **table, **named)
    rules = [
        site.add(site.rules_menu, src_address=f"192.0.2.{host}/32", table="edge-lte", comment=comment)
        for host, comment in ((77, "edgeagent:own-lte"), (78, "the owner's"))
    ]
    client(site, script=scripts.lease("lte", site.rules_menu))
    site.wait(lambda: site.row(site.rules_menu, rules[0])["src-address"] == f"{ROUTER_WAN}/32")
    assert site.row("/ip/route", route)["gateway"] == ISP_GATEWAY
    assert site.row(site.rules_menu, rules[1])["src-address"] == "192.0.2.78/32"
    assert [row["message"] for row in site.rows("/log") if "error" in row["topics"]] == []
