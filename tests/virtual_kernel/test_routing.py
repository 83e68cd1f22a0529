"""Marks against rules, tables that do not resolve, recursive gateways, link events."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import threading
from collections.abc import Iterable

import pytest

from edgeagent.routeros import sentences
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import Add
from edgeagent.routeros.rows import Dialect, Uplink, Wish
from edgeagent.routeros.ruleset import build
from hil.virtual.addresses import CARRIER_GATEWAY, ISP_GATEWAY, NEUTRAL_TARGETS, ROUTER_LTE, ROUTER_WAN, SBC
from hil.virtual.routeros import kernel_router
from hil.virtual.routeros.kernel_ping import Answer, Echo
from hil.virtual.routeros.kernel_system import ip_batch
from tests.virtual_kernel.bed import ALIAS, GUARD_S, LAN, LTE, PHONE, QUICK, WAN, Phone, Site, within

pytestmark = pytest.mark.bench


def test_a_mark_beats_a_rule_as_long_as_its_table_resolves(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    site.lte_mark(dst_address=SBC)
    site.add(site.rules_menu, src_address=f"{ALIAS}/32", action="lookup-only-in-table", table="main")
    assert Phone(site, ALIAS).ask() == ROUTER_LTE
    route = next(row for row in site.rows("/ip/route") if row["gateway"] == CARRIER_GATEWAY)
    site.do("/ip/route/disable", _id=route[".id"])
    site.do("/ip/firewall/mangle/disable", _id=site.rows("/ip/firewall/mangle")[-1][".id"])
    site.do("/ip/firewall/mangle/enable", _id=site.rows("/ip/firewall/mangle")[-1][".id"])
    assert Phone(site, ALIAS, 5063).ask() == ROUTER_WAN


def test_lookup_only_in_table_reaches_nothing_else(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    lte = site.add("/ip/route", gateway=CARRIER_GATEWAY, **site.table("lte"))
    site.add(site.rules_menu, src_address=f"{ALIAS}/32", action="lookup-only-in-table", table="lte")
    assert Phone(site, ALIAS).ask() == ROUTER_LTE
    assert Phone(site, PHONE).ask() == ROUTER_WAN
    site.do("/ip/route/disable", _id=lte)
    assert Phone(site, ALIAS, 5063).silent()


def test_a_recursive_route_follows_its_canary(any_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = any_site
    canary = NEUTRAL_TARGETS[0]
    site.add("/ip/route", dst_address=f"{canary}/32", gateway=ISP_GATEWAY, scope="10")
    native = site.add("/ip/route", dst_address=SBC, gateway=canary, target_scope="11", check_gateway="ping")
    backup = site.add("/ip/route", dst_address=SBC, gateway=CARRIER_GATEWAY, distance="10")
    site.masquerade()

    def active(row_id: str) -> bool:
        return site.row("/ip/route", row_id)["active"] == "true"

    assert active(native) and not active(backup)
    assert f"{ISP_GATEWAY} dev {WAN}" in site.ip(site.router, f"route show {SBC}")
    missed = count_misses(monkeypatch)
    site.ip(site.internet, f"address del {canary}/32 dev lo")
    site.wait(lambda: active(backup) and not active(native))
    assert QUICK.misses <= len(missed) < 5 * QUICK.misses
    assert Phone(site).ask() == ROUTER_LTE
    site.ip(site.internet, f"address add {canary}/32 dev lo")
    site.wait(lambda: active(native) and not active(backup))


def count_misses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on each echo of a gateway's check that nobody answers."""
    missed: list[str] = []
    send = Echo.send

    async def counted(echo: Echo, host: str, sequence: int, timeout_s: float) -> Answer:
        answer = await send(echo, host, sequence, timeout_s)
        if answer.rtt_s is None:
            missed.append(host)
        return answer

    monkeypatch.setattr(Echo, "send", counted)
    return missed


def test_a_route_is_shown_active_only_once_packets_take_it(new_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = new_site
    site.default_via_wan()
    lte = site.add("/ip/route", gateway=CARRIER_GATEWAY, distance="5")
    site.masquerade()
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    waiting = threading.Event()

    async def slow_ip(lines: Iterable[str]) -> str:
        text = list(lines)
        if text:
            waiting.set()
            await asyncio.sleep(0.3)
        return await ip_batch(text)

    monkeypatch.setattr(kernel_router, "ip_batch", slow_ip)
    site.ip(site.internet, "link set wan0 down")
    assert waiting.wait(GUARD_S)
    assert site.row("/ip/route", lte)["active"] == "false", "decided, but the kernel does not have it yet"
    phone.send()  # a packet in between makes an entry on the dead line, which must not outlive the change
    site.wait(lambda: site.row("/ip/route", lte)["active"] == "true")
    assert phone.ask() == ROUTER_LTE


def test_two_canaries_share_so_that_one_dead_host_moves_nothing(new_site: Site) -> None:
    site = new_site
    routes = []
    for canary in NEUTRAL_TARGETS[:2]:
        site.add("/ip/route", dst_address=f"{canary}/32", gateway=ISP_GATEWAY, scope="10")
        routes.append(site.add("/ip/route", dst_address=SBC, gateway=canary, target_scope="11", check_gateway="ping"))
    site.ip(site.internet, f"address del {NEUTRAL_TARGETS[0]}/32 dev lo")
    site.wait(lambda: site.row("/ip/route", routes[0])["active"] == "false")
    assert site.row("/ip/route", routes[1])["active"] == "true"
    assert ISP_GATEWAY in site.ip(site.router, f"route show {SBC}")


def test_a_lost_carrier_is_an_event_and_moves_the_route(any_site: Site) -> None:
    site = any_site
    wan = site.default_via_wan()
    lte = site.add("/ip/route", gateway=CARRIER_GATEWAY, distance="5")
    site.masquerade()
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    ether1 = next(row[".id"] for row in site.rows("/interface") if row["name"] == WAN)
    assert site.row("/interface", ether1)["running"] == "true"
    heard: list[dict[str, str]] = []
    site.store.watch("/interface", heard.append)
    site.ip(site.internet, "link set wan0 down")
    site.wait(lambda: bool(heard))
    assert (heard[0]["name"], heard[0]["running"]) == (WAN, "false")
    site.wait(lambda: site.row("/ip/route", lte)["active"] == "true")
    assert site.row("/ip/route", wan)["active"] == "false"
    assert site.row("/interface", ether1)["link-downs"] == "1"
    # The rows of the lost interface's address are gone with it, so the phone comes back at once.
    assert phone.ask() == ROUTER_LTE
    site.ip(site.internet, "link set wan0 up")
    site.wait(lambda: site.row("/ip/route", wan)["active"] == "true")


def test_a_tap_that_loses_its_carrier_is_noticed_at_once(new_site: Site) -> None:
    site = new_site

    def open_tap() -> int:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"ether3", 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
        return tap

    heard: list[dict[str, str]] = []
    site.store.watch("/interface", heard.append)
    tap = within(site.router, open_tap)
    site.closing.callback(os.close, tap)
    site.ip(site.router, "link set ether3 up")
    site.wait(lambda: bool(heard))

    def took_s(state: int) -> float:
        heard.clear()
        fcntl.ioctl(tap, 0x400454E2, struct.pack("i", state))  # TUNSETCARRIER
        took = site.wait(lambda: bool(heard))
        assert heard[0]["running"] == ("true" if state else "false")
        return took

    # In one moment of quiet, four times in a row: who looks now and then would not be that lucky.
    site.wait(lambda: all(took_s(state) < 0.1 for state in (0, 1, 0, 1)))


def test_connected_routes_are_shown(any_site: Site) -> None:
    site = any_site
    route = next(row for row in site.rows("/ip/route") if row["dst-address"] == "192.0.2.0/24")
    assert (route["dynamic"], route["connect"], route["active"], route["gateway"]) == ("true", "true", "true", WAN)
    address = next(row for row in site.rows("/ip/address") if row["interface"] == WAN)
    site.do("/ip/address/remove", _id=address[".id"])
    assert not [row for row in site.rows("/ip/route") if row["dst-address"] == "192.0.2.0/24"]
    assert "192.0.2.0/24" not in site.ip(site.router, "route show table all")


def test_a_blackhole_ends_the_search(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    how = {"type": "blackhole"} if site.version == "6.49" else {"blackhole": "yes"}
    site.add("/ip/route", dst_address=SBC, **how)
    assert Phone(site).silent()


def test_ping(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()

    def ping(**arguments: str) -> list[dict[str, str]]:
        words = [f"={name.replace('_', '-')}={value}" for name, value in arguments.items()]
        path = "/ping" if site.version == "6.49" else "/tool/ping"
        return site.loop.call(site.store.sentence([path, *words]))

    rows = ping(address=SBC, count="2", interval="20ms", src_address=ROUTER_WAN)
    assert [row["seq"] for row in rows] == ["0", "1"]
    assert (rows[1]["received"], rows[1]["packet-loss"], rows[0]["size"], rows[0]["ttl"]) == ("2", "0", "56", "64")
    assert rows[0]["time"].endswith("ms" if site.version == "6.49" else "us")
    lost = ping(address="192.0.2.77", count="1", interface=WAN)
    assert lost[-1]["status"] in {"timeout", "host unreachable", "no route to host"}
    assert lost[-1]["packet-loss"] == "100"


def test_stop_leaves_a_plain_namespace(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    site.lte_mark(dst_address=SBC)
    site.loop.call(site.engine.stop())
    left = [line.split(":")[0] for line in site.ip(site.router, "rule").splitlines()]
    assert left == ["0", "32766", "32767"], "Linux' own rules and no others"
    assert "proto 77" not in site.ip(site.router, "route show table all")
    assert LTE in site.ip(site.router, "link")
    site.loop.call(site.engine.start())
    assert Phone(site).ask() == ROUTER_LTE


def test_a_bridge_port_joins_and_leaves_its_bridge(any_site: Site) -> None:
    site = any_site
    site.ip(site.router, "link del bridge")
    site.ip(site.router, "link add bridge type bridge")
    port = site.add("/interface/bridge/port", interface=LTE, bridge="bridge")
    assert "master bridge" in site.ip(site.router, f"link show {LTE}")
    site.do("/interface/bridge/port/remove", _id=port)
    assert "master" not in site.ip(site.router, f"link show {LTE}")
    site.do("/interface/disable", _id=LTE)
    assert "state DOWN" in site.ip(site.router, f"link show {LTE}")
    assert "192.168.88.1/24" in site.ip(site.router, "address show bridge"), "the new device got the row's address"


def test_a_bridge_that_a_user_adds_is_a_device_until_its_row_goes(any_site: Site) -> None:
    site = any_site
    bridge = site.add("/interface/bridge", name="edge-probe", protocol_mode="none")
    assert "state" in site.ip(site.router, "link show edge-probe")
    site.do("/interface/bridge/remove", _id=bridge)
    assert "edge-probe" not in site.ip(site.router, "link")
    site.add("/interface/bridge", name="edge-probe", protocol_mode="none")
    site.loop.call(site.engine.stop())
    assert "edge-probe" not in site.ip(site.router, "link")
    assert f"{LAN}@" in site.ip(site.router, "link"), "what the bench made stays"
    site.loop.call(site.engine.start())
    assert "edge-probe" in site.ip(site.router, "link")


def test_the_routers_own_pings_go_by_their_paths_whatever_the_lease_says_clause_p10(any_site: Site) -> None:
    """The rows of ``probe = "router_ping"`` as the product makes them; each line cut in turn is the control."""
    site = any_site
    site.default_via_wan()
    dialect: Dialect = DialectV6() if site.version == "6.49" else DialectV7()
    sources = {WAN: "10.88.77.2", LTE: "10.88.77.3"}
    wish = Wish(
        lan_interface=LAN,
        alias_address="",
        alias_prefix="10.88.77.0/29",
        uplinks=(
            Uplink("wan", WAN, ISP_GATEWAY, sources[WAN], metered=False, address=ROUTER_WAN),
            Uplink("lte", LTE, CARRIER_GATEWAY, sources[LTE], metered=True, address=ROUTER_LTE),
        ),
        voice=(f"{SBC}/32",),
        agent_hosts=(SBC, *NEUTRAL_TARGETS),
        agent="192.168.88.2",
        canaries=(),
        router_pings=True,
    )
    for row in build(wish, dialect):
        added = Add(row.menu, {**row.attributes, "comment": row.comment})
        site.loop.call(site.store.sentence(sentences.of_change(added)))
    command = sentences.ping_command("6.49" if site.version == "6.49" else "7.22")

    def answered(uplink: str) -> bool:
        words = sentences.ping(command, SBC, sources[uplink], 28, 1.0, 1)
        return "time" in site.loop.call(site.store.sentence(words))[-1]

    for lease in ("", "edge-lte-site", "edge-wan-site"):
        if lease:
            site.add("/ip/firewall/address-list", list=lease, address="0.0.0.0/0", timeout="1m")
        assert (answered(WAN), answered(LTE)) == (True, True)
        for cut, other in ((WAN, LTE), (LTE, WAN)):
            far_end = "wan0" if cut == WAN else "lte0"
            site.ip(site.internet, f"address flush dev {far_end}")
            assert (answered(cut), answered(other)) == (False, True)
            gateway = ISP_GATEWAY if cut == WAN else CARRIER_GATEWAY
            site.ip(site.internet, f"address add {gateway}/24 dev {far_end}")
            site.wait(lambda cut=cut: answered(cut))  # type: ignore[misc]
