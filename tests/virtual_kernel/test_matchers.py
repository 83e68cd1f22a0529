"""Matchers and custom chains that standing rules need, and address lists that rules fill: on real packets."""

from __future__ import annotations

import time

import pytest

from hil.virtual.addresses import ROUTER_LTE, ROUTER_WAN, SBC
from hil.virtual.routeros.values import parse_time_s
from tests.virtual_kernel.bed import LAN, OTHER_PHONE, PHONE, WAN, Phone, Site, udp

pytestmark = pytest.mark.bench
FILTER, MANGLE, NAT = "/ip/firewall/filter", "/ip/firewall/mangle", "/ip/firewall/nat"
LISTS = "/ip/firewall/address-list"


def _ready(site: Site) -> None:
    site.default_via_wan()
    site.masquerade()


def _packets(site: Site, menu: str, *row_ids: str) -> list[int]:
    rows = {row[".id"]: row for row in site.rows(menu)}
    return [int(rows[row_id]["packets"]) for row_id in row_ids]


def test_a_connection_is_known_by_how_it_is_translated(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    seen = {
        state: site.add(FILTER, chain="forward", action="passthrough", protocol="udp", connection_nat_state=state)
        for state in ("srcnat", "!srcnat", "dstnat", "!dstnat")
    }
    phone = Phone(site)
    phone.send()  # goes out untranslated, and gets no answer
    assert _packets(site, FILTER, *seen.values()) == [0, 1, 0, 1]
    site.masquerade()
    site.add(NAT, chain="dstnat", action="dst-nat", protocol="udp", dst_port="6000", to_addresses=SBC, to_ports="5060")
    assert Phone(site, port=5064).ask(port=6000) == ROUTER_WAN
    # Its first packet is not translated at the source yet when it is forwarded; its answer belongs to one that is.
    assert _packets(site, FILTER, *seen.values()) == [1, 2, 2, 1]


def test_a_connection_is_known_by_its_bytes(any_site: Site) -> None:
    site = any_site
    _ready(site)
    heavy = site.add(MANGLE, chain="prerouting", action="passthrough", connection_bytes="2048-0", in_interface=LAN)
    light = site.add(MANGLE, chain="prerouting", action="passthrough", connection_bytes="0-2047", in_interface=LAN)
    phone = Phone(site)
    for _packet in range(3):
        assert phone.ask("x" * 1000) is not None
    # 1028 bytes each way: the second question makes it 3084, so it and the third are of a heavy connection.
    assert _packets(site, MANGLE, heavy, light) == [2, 1]


def test_rows_of_nat_and_mangle_jump_and_return_and_know_lists_and_marks(any_site: Site) -> None:
    site = any_site
    _ready(site)
    site.lte_mark(src_address_list="moved", dst_address=SBC)
    site.add(LISTS, list="moved", address=OTHER_PHONE)
    jump = site.add(NAT, chain="dstnat", action="jump", jump_target="guests", src_address_list="moved")
    site.add(NAT, chain="guests", action="return", protocol="udp", dst_port="5060")
    site.add(NAT, chain="guests", action="dst-nat", protocol="udp", routing_mark="lte", to_addresses=SBC,
             to_ports="5060")  # fmt: skip
    into = site.add(MANGLE, chain="forward", action="jump", jump_target="own", in_interface=LAN)
    back = site.add(MANGLE, chain="own", action="return", src_address=PHONE)
    rest = site.add(MANGLE, chain="own", action="passthrough")
    assert Phone(site, OTHER_PHONE).ask(port=6000) == ROUTER_LTE
    assert Phone(site, OTHER_PHONE, 5066).ask() == ROUTER_LTE
    assert Phone(site, port=5068).silent(port=6000), "a source that is not in the list is not sent on"
    assert _packets(site, NAT, jump) == [2]
    assert _packets(site, MANGLE, into, back, rest) == [3, 1, 2]


def test_the_routers_own_packets_pass_output_and_a_limit_counts_in_every_chain(any_site: Site) -> None:
    site = any_site
    _ready(site)
    rows = {
        "filter": site.add(FILTER, chain="output", action="passthrough", protocol="icmp", icmp_options="8:0-255"),
        "mangle": site.add(MANGLE, chain="output", action="passthrough", protocol="icmp", icmp_options="8:0-255"),
    }
    few = site.add(FILTER, chain="output", action="accept", protocol="icmp", limit="1/1h,2:packet")
    rest = site.add(FILTER, chain="output", action="drop", protocol="icmp")
    site.do("/ping", address=SBC, count="4", interval="50ms")
    assert _packets(site, FILTER, rows["filter"]) == _packets(site, MANGLE, rows["mangle"]) == [4]
    passed, dropped = _packets(site, FILTER, few, rest)
    assert (passed, dropped) in {(2, 2), (3, 1)} and dropped > 0


def test_redirect_leads_to_the_router_itself(any_site: Site) -> None:
    site = any_site
    _ready(site)
    site.add(NAT, chain="dstnat", action="redirect", protocol="udp", dst_port="53", to_ports="5353", in_interface=LAN)
    own = udp(site.router, "0.0.0.0", 5353)
    site.closing.callback(own.close)
    Phone(site).send("a question", port=53)
    assert own.recv(100) == b"a question"


def test_a_learned_address_is_matched_by_the_next_packet_and_shown_at_once(any_site: Site) -> None:
    site = any_site
    _ready(site)
    site.add(MANGLE, chain="prerouting", action="add-src-to-address-list", address_list="edge-seen", in_interface=LAN,
             address_list_timeout="1m")  # fmt: skip
    known = site.add(FILTER, chain="forward", action="passthrough", src_address_list="edge-seen")
    unknown = site.add(FILTER, chain="forward", action="passthrough", src_address_list="!edge-seen", in_interface=LAN)
    assert Phone(site).ask() == ROUTER_WAN
    row = next(row for row in site.rows(LISTS) if row["list"] == "edge-seen")
    assert (row["address"], row["dynamic"]) == (PHONE, "true") and 0 < parse_time_s(row["timeout"]) <= 60
    assert _packets(site, FILTER, known, unknown) == [1, 0]
    # Who takes the row away takes the address away; the next packet brings it back.
    site.do(f"{LISTS}/remove", _id=row[".id"])
    assert [row for row in site.rows(LISTS) if row["list"] == "edge-seen"] == []
    assert Phone(site, port=5070).ask() == ROUTER_WAN
    assert [row["address"] for row in site.rows(LISTS)] == [PHONE]


def test_a_learned_address_is_renewed_by_each_packet_and_lapses_after_the_last(any_site: Site) -> None:
    site = any_site
    _ready(site)
    site.add(FILTER, chain="forward", action="add-dst-to-address-list", address_list="called", in_interface=LAN,
             address_list_timeout="8s")  # fmt: skip
    seen = site.add(FILTER, chain="forward", action="passthrough", src_address_list="called")
    phone = Phone(site)

    def left_s() -> float:
        (row,) = site.rows(LISTS)
        assert row["address"] == SBC
        return parse_time_s(row["timeout"])

    assert phone.ask() == ROUTER_WAN
    site.wait(lambda: left_s() <= 5)
    asked_s = time.monotonic()
    assert phone.ask() == ROUTER_WAN
    assert left_s() > 5
    before = _packets(site, FILTER, seen)[0]
    assert before == 2
    site.wait(lambda: site.rows(LISTS) == [])
    assert time.monotonic() - asked_s > 7
    site.do(f"{FILTER}/disable", _id=next(row[".id"] for row in site.rows(FILTER) if "address-list" in row))
    assert phone.ask() == ROUTER_WAN and _packets(site, FILTER, seen) == [before], "what lapsed is matched no more"


@pytest.mark.parametrize(("timeout", "dynamic"), [("none-dynamic", "true"), ("none-static", "false")])
def test_what_is_learned_for_good_is_kept_as_the_rule_says(new_site: Site, timeout: str, dynamic: str) -> None:
    site = new_site
    _ready(site)
    site.add(FILTER, chain="forward", action="add-src-to-address-list", address_list="kept", in_interface=LAN,
             address_list_timeout=timeout)  # fmt: skip
    assert Phone(site).ask() == ROUTER_WAN
    (row,) = site.rows(LISTS)
    assert (row["address"], row["dynamic"], "timeout" in row) == (PHONE, dynamic, False)


def test_a_port_that_is_switched_off_in_the_bridge_is_out_of_it_and_back(any_site: Site) -> None:
    site = any_site
    site.do("/interface/bridge/add", name="br2")
    port = site.add("/interface/bridge/port", interface=WAN, bridge="br2")

    def master() -> bool:
        return "master br2" in site.ip(site.router, f"-o link show {WAN}")

    assert master()
    site.do("/interface/bridge/port/disable", _id=port)
    assert not master()
    site.do("/interface/bridge/port/enable", _id=port)
    assert master()
