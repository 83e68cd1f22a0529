"""NAT of two kernels, fasttrack, counters, lists, connections: what the firewall rows do to real packets."""

from __future__ import annotations

import itertools
import time

import pytest

from hil.virtual.addresses import ROUTER_LTE, ROUTER_WAN, SBC
from hil.virtual.routeros.kernel_system import nft
from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.values import parse_time_s
from tests.virtual_kernel.bed import LAN, OTHER_PHONE, PHONE, SILENCE_S, Phone, Site

pytestmark = pytest.mark.bench
FILTER, MANGLE = "/ip/firewall/filter", "/ip/firewall/mangle"
LISTS, CONNECTION = "/ip/firewall/address-list", "/ip/firewall/connection"


def _flow(site: Site, source: str, destination_port: int = 5060) -> Row:
    return next(
        row
        for row in site.rows(CONNECTION)
        if row["src-address"].startswith(f"{source}:") and row["dst-address"] == f"{SBC}:{destination_port}"
    )


def _packets(site: Site, menu: str, row_id: str) -> int:
    return int(site.row(menu, row_id)["packets"])


def _lease(site: Site) -> None:
    """The product's idea in small: sources in a list go by LTE."""
    site.default_via_wan()
    site.masquerade()
    site.lte_mark(dst_address=SBC, src_address_list="edge-lte-site")


def test_on_6_a_flow_keeps_its_old_address_until_its_row_goes(old_site: Site) -> None:
    site = old_site
    _lease(site)
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    site.add(LISTS, list="edge-lte-site", address="0.0.0.0/0", timeout="60s")
    # It leaves by LTE with the address of the WAN; the answer takes whatever way that address has.
    assert phone.ask() == ROUTER_WAN
    row = _flow(site, PHONE)
    assert row["reply-dst-address"].split(":")[0] == ROUTER_WAN and row["srcnat"] == "true"
    assert 60 < parse_time_s(row["timeout"]) <= 180
    site.do(f"{CONNECTION}/remove", _id=row[".id"])
    assert phone.ask() == ROUTER_LTE


def test_on_7_masquerade_renews_a_flow_that_changes_its_uplink(new_site: Site) -> None:
    site = new_site
    _lease(site)
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    site.add(LISTS, list="edge-lte-site", address="0.0.0.0/0", timeout="60s")
    assert phone.silent()  # this packet is lost with the row it belonged to
    assert phone.ask() == ROUTER_LTE


def test_on_7_the_udp_timers_follow_the_settings(new_site: Site) -> None:
    site = new_site
    site.default_via_wan()
    site.masquerade()
    Phone(site, port=5062).ask()
    assert parse_time_s(_flow(site, PHONE)["timeout"]) <= 10
    site.do("/ip/firewall/connection/tracking/set", udp_timeout="3m")
    Phone(site, OTHER_PHONE).ask()
    assert 60 < parse_time_s(_flow(site, OTHER_PHONE)["timeout"]) <= 180


def test_a_lease_that_lapses_takes_the_phones_back(new_site: Site) -> None:
    site = new_site
    _lease(site)
    site.add(LISTS, list="edge-lte-site", address="0.0.0.0/0", timeout="5s")
    assert Phone(site).ask() == ROUTER_LTE
    ports = itertools.count(5070)  # a flow that goes by LTE stays there
    site.wait(lambda: Phone(site, port=next(ports)).ask(within_s=SILENCE_S) == ROUTER_WAN)
    assert site.rows(LISTS) == []


def test_fasttracked_packets_meet_neither_mangle_nor_filter(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    seen = site.add(MANGLE, chain="forward", action="passthrough", protocol="udp")
    fast = site.add(FILTER, chain="forward", action="fasttrack-connection", connection_state="established,related")
    passed = site.add(FILTER, chain="forward", action="accept", connection_state="established,related")
    phone = Phone(site)
    for _packet in range(6):
        assert phone.ask() == ROUTER_WAN
    # The first question and its answer are seen; the answer is what fasttracks.
    assert _packets(site, MANGLE, seen) == 2
    assert _packets(site, FILTER, fast) == 1 and _packets(site, FILTER, passed) == 1
    assert _flow(site, PHONE)["fasttrack"] == "true"
    dummy = next(row for row in site.rows(FILTER) if row["dynamic"] == "true")
    assert int(dummy["packets"]) == 10
    dropped = site.add(FILTER, chain="forward", action="drop", protocol="udp")
    site.do(f"{FILTER}/move", numbers=dropped, destination=fast)
    assert phone.ask() == ROUTER_WAN, "a drop rule cannot stop a fasttracked flow"
    # The control: without fasttrack the same rules stop the same flow.
    site.do(f"{FILTER}/disable", _id=fast)
    site.do(f"{CONNECTION}/remove", _id=_flow(site, PHONE)[".id"])
    assert phone.silent()
    assert _packets(site, FILTER, dropped) == 1


def test_jumps_return_and_counters_run_on_over_recompiles(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    jump = site.add(FILTER, chain="forward", action="jump", jump_target="edge-lte-out", dst_address=SBC)
    first = site.add(FILTER, chain="edge-lte-out", action="return", protocol="udp", dst_port="5060")
    rest = site.add(FILTER, chain="edge-lte-out", action="drop")
    assert Phone(site).ask() == ROUTER_WAN
    assert Phone(site, port=5064).silent("hello", port=30000)
    before = site.row(FILTER, jump)
    assert (before["packets"], _packets(site, FILTER, first), _packets(site, FILTER, rest)) == ("2", 1, 1)
    site.add(FILTER, chain="forward", action="accept", in_interface=LAN, tcp_flags="syn,!ack", protocol="tcp")
    site.do(f"{FILTER}/remove", _id=rest)
    assert site.row(FILTER, jump)["bytes"] == before["bytes"]
    assert Phone(site, port=5066).ask() == ROUTER_WAN
    assert _packets(site, FILTER, jump) == 3


def test_a_list_may_hold_everything_beside_one_host(any_site: Site) -> None:
    site = any_site
    _lease(site)
    host = site.add(LISTS, list="edge-lte-site", address=PHONE)
    everything = site.add(LISTS, list="edge-lte-site", address="0.0.0.0/0", timeout="60s")
    assert Phone(site, OTHER_PHONE).ask() == ROUTER_LTE
    site.do(f"{LISTS}/remove", _id=everything)
    assert Phone(site, OTHER_PHONE, 5070).ask() == ROUTER_WAN
    assert Phone(site, PHONE).ask() == ROUTER_LTE
    site.do(f"{LISTS}/remove", _id=host)
    assert Phone(site, PHONE, 5070).ask() == ROUTER_WAN


def test_removing_a_connection_removes_that_one(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    mark = site.add(MANGLE, chain="forward", action="mark-connection", new_connection_mark="edge-wan", dst_port="5060",
                    protocol="udp", connection_mark="no-mark")  # fmt: skip
    flows = [Phone(site, port=5100 + number) for number in range(5)]
    assert all(flow.ask() == ROUTER_WAN for flow in flows)
    rows = [row for row in site.rows(CONNECTION) if row["protocol"] == "udp"]
    assert len(rows) == 5 and {row["connection-mark"] for row in rows} == {"edge-wan"}
    assert _packets(site, MANGLE, mark) == 5
    victim = next(row for row in rows if row["src-address"] == f"{PHONE}:5102")
    assert (victim["seen-reply"], victim["orig-packets"], victim["repl-packets"]) == ("true", "1", "1")
    site.do(f"{CONNECTION}/remove", _id=victim[".id"])
    left = [row for row in site.rows(CONNECTION) if row["protocol"] == "udp"]
    assert {row[".id"] for row in left} == {row[".id"] for row in rows} - {victim[".id"]}
    with pytest.raises(Trap, match="no such item"):
        site.do(f"{CONNECTION}/remove", _id=victim[".id"])
    site.do(f"{MANGLE}/disable", _id=mark)
    assert flows[2].ask() == ROUTER_WAN
    assert "connection-mark" not in _flow_from(site, 5102)


def _flow_from(site: Site, port: int) -> Row:
    return next(row for row in site.rows(CONNECTION) if row["src-address"] == f"{PHONE}:{port}")


def test_marks_replace_each_other_and_leave_their_neighbours_alone(new_site: Site) -> None:
    site = new_site
    site.default_via_wan()
    site.masquerade()
    for name in ("one", "two", "three", "four"):
        site.table(name)
        site.add(MANGLE, chain="prerouting", action="mark-routing", new_routing_mark=name, in_interface=LAN)
        site.add(MANGLE, chain="prerouting", action="mark-connection", new_connection_mark=name, in_interface=LAN)
        site.add(MANGLE, chain="prerouting", action="mark-packet", new_packet_mark=name, in_interface=LAN)
    match = {"routing_mark": "four", "connection_mark": "four", "packet_mark": "four"}
    seen = site.add(MANGLE, chain="forward", action="passthrough", **match)
    other = site.add(MANGLE, chain="forward", action="passthrough", routing_mark="three")
    assert Phone(site).ask() == ROUTER_WAN
    assert (_packets(site, MANGLE, seen), _packets(site, MANGLE, other)) == (1, 0)
    assert _flow(site, PHONE)["connection-mark"] == "four"


def test_an_unknown_matcher_is_refused_and_changes_nothing(any_site: Site) -> None:
    site = any_site
    with pytest.raises(Trap, match="matcher content is not given an effect"):
        site.add(FILTER, chain="forward", action="drop", content="secret")
    assert site.rows(FILTER) == []


def test_a_rule_learns_addresses_into_a_list(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    site.add(FILTER, chain="forward", action="add-src-to-address-list", address_list="phones", dst_address=SBC,
             address_list_timeout="1m")  # fmt: skip
    assert Phone(site).ask() == ROUTER_WAN
    site.wait(lambda: any(row["address"] == PHONE for row in site.rows(LISTS)))


def test_redirect_and_dst_nat(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    site.add("/ip/firewall/nat", chain="dstnat", action="dst-nat", protocol="udp", dst_port="6000", to_addresses=SBC,
             to_ports="5060")  # fmt: skip
    assert Phone(site).ask("hello", port=6000) == ROUTER_WAN
    row = next(row for row in site.rows(CONNECTION) if row["dst-address"].endswith(":6000"))
    assert row["dstnat"] == "true" and row["reply-src-address"] == f"{SBC}:5060"


def test_speed_of_the_hot_paths(any_site: Site) -> None:
    site = any_site
    _lease(site)
    for number in range(60):
        site.add(FILTER, chain="forward", action="passthrough", protocol="udp", dst_port=str(20000 + number))
    for number in range(50):
        Phone(site, port=7000 + number).ask()

    def timed(command: str, **properties: str) -> float:
        started = time.perf_counter()
        site.do(command, **properties)
        return 1000 * (time.perf_counter() - started)

    def empty_ms() -> float:
        """The control: how long nft takes on this machine now to do nothing at all."""
        started = time.perf_counter()
        site.loop.call(nft(""))
        return 1000 * (time.perf_counter() - started)

    # The best of several: whatever else this machine does makes one slower, never faster.
    empty, lease_ms, reading_ms = [empty_ms()], [], []
    for number in range(10):
        lease_ms.append(timed(f"{LISTS}/add", list="edge-lte-site", address=f"10.0.{number}.1", timeout="60s"))
        started = time.perf_counter()
        rows = [row for row in site.rows(CONNECTION) if row["protocol"] == "udp"]
        reading_ms.append(1000 * (time.perf_counter() - started))
        empty.append(empty_ms())
    site_ms = timed(f"{LISTS}/add", list="edge-lte-site", address="0.0.0.0/0", timeout="60s")
    assert len(rows) == 50
    remove_ms = [timed(f"{CONNECTION}/remove", _id=row[".id"]) for row in rows]
    assert not [row for row in site.rows(CONNECTION) if row["protocol"] == "udp"]
    started = time.perf_counter()
    site.rows(FILTER)
    counters_ms = 1000 * (time.perf_counter() - started)
    recompile_ms = timed(f"{FILTER}/add", chain="forward", action="passthrough")
    print(  # noqa: T201 - shown with pytest -s
        f"{site.version}: lease best {min(lease_ms):.1f} max {max(lease_ms):.1f} ms, "
        f"0.0.0.0/0 {site_ms:.1f} ms, "
        f"print of 50 best {min(reading_ms):.1f} ms, nothing best {min(empty):.1f} ms, "
        f"removal best {min(remove_ms):.2f} ms, "
        f"counters {counters_ms:.1f} ms, recompile {recompile_ms:.1f} ms"
    )
    # The bench promises 20, 10 and 5 ms; the limits leave room for a slower machine, and for one that is busy now.
    assert min(lease_ms) < max(40, 5 * min(empty))
    assert min(reading_ms) < max(40, 5 * min(empty))
    assert min(remove_ms) < max(10, min(empty))
