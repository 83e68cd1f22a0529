"""Rows to nftables text and routes to kernel routes, without a kernel."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

import pytest

from hil.virtual.routeros.kernel_nft import (
    Installed,
    Ruleset,
    World,
    after,
    compile_firewall,
    list_members,
    transaction,
)
from hil.virtual.routeros.kernel_routes import decide, rules
from hil.virtual.routeros.kernel_values import Numbers, Tables, duration_s, duration_text, rtt_text
from hil.virtual.routeros.plane import Row, Trap

LISTS = {"WAN": frozenset({"ether1", "ether2"}), "empty": frozenset[str]()}
WAN_NET = IPv4Network("192.0.2.0/24")


def _world(version: str = "7.22") -> World:
    addresses = {"ether1": [("192.0.2.2", WAN_NET), ("10.9.9.2", IPv4Network("10.9.9.0/24"))]}
    return World(version, LISTS, addresses, Numbers())


def _compiled(menu: str, row: Row, version: str = "7.22") -> Ruleset:
    return compile_firewall({menu: [{".id": "*1", "chain": "forward", **row}]}, [], _world(version))


def _text(menu: str, row: Row, version: str = "7.22") -> list[str]:
    own = [text for _chain, text in _compiled(menu, row, version).rules if f'"c.{menu}.1"' in text]
    return [re.sub(rf' ?counter name "c\.{menu}\.1" ?', " # ", text).strip() for text in own]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"src-address": "!10.0.0.0/8"}, "ip saddr != 10.0.0.0/8 # accept"),
        ({"dst-address": "10.0.0.1-10.0.0.9"}, "ip daddr 10.0.0.1-10.0.0.9 # accept"),
        ({"dst-address-list": "!voice x"}, "ip daddr != @L.voice_20_x # accept"),
        ({"dst-port": "5060-5061,80", "protocol": "udp"}, "meta l4proto 17 th dport { 5060-5061,80 } # accept"),
        ({"protocol": "!tcp"}, "meta l4proto != 6 # accept"),
        ({"in-interface-list": "!WAN"}, 'iifname != { "ether1", "ether2" } # accept'),
        ({"in-interface-list": "!empty"}, "# accept"),
        ({"out-interface": "!ether1"}, 'oifname != "ether1" # accept'),
        ({"connection-state": "established,related"}, "ct state & 0x6 != 0 # accept"),
        ({"connection-state": "!invalid"}, "ct state & 0x1 == 0 # accept"),
        ({"connection-nat-state": "!srcnat"}, "ct status & 0x10 == 0 # accept"),
        ({"connection-mark": "no-mark"}, "ct mark & 0xffff == 0x0 # accept"),
        ({"connection-mark": "!a"}, "ct mark & 0xffff != 0x1 # accept"),
        ({"packet-mark": "p"}, "meta mark & 0xffff0000 == 0x10000 # accept"),
        ({"tcp-flags": "syn,!ack", "protocol": "tcp"}, "meta l4proto 6 tcp flags & (syn|ack) == (syn) # accept"),
        ({"tcp-flags": "!syn", "protocol": "tcp"}, "meta l4proto 6 tcp flags & (syn) == 0x0 # accept"),
        ({"icmp-options": "8:0-255", "protocol": "icmp"}, "meta l4proto 1 icmp type 8 icmp code 0-255 # accept"),
        ({"limit": "10/1m,5:packet"}, "limit rate 10/minute burst 5 packets # accept"),
        ({"packet-size": "!0-100"}, "ip length != 0-100 # accept"),
        ({"dst-address-type": "!local"}, "fib daddr type != { local } # accept"),
        ({"ipsec-policy": "in,none"}, "# accept"),
        ({"action": "reject", "reject-with": "tcp-reset", "protocol": "tcp"}, "meta l4proto 6 # reject with tcp reset"),
        ({"action": "jump", "jump-target": "edge-lte-out"}, "# jump filter.edge-lte-out"),
    ],
)  # fmt: skip
def test_one_row_as_text(row: Row, expected: str) -> None:
    assert _text("filter", row) == [expected]


def test_rows_that_match_nothing_have_no_rule() -> None:
    assert _text("filter", {"in-interface-list": "empty"}) == []
    assert _text("filter", {"ipsec-policy": "in,ipsec"}) == []
    assert _text("filter", {"disabled": "true"}) == []


def test_port_means_either_and_counts_once() -> None:
    assert _text("filter", {"protocol": "udp", "port": "53"}) == [
        "meta l4proto 17 th sport { 53 } # accept",
        "meta l4proto 17 th sport != { 53 } th dport { 53 } # accept",
    ]


def test_marks_share_their_fields() -> None:
    assert _text("mangle", {"action": "mark-routing", "new-routing-mark": "x", "passthrough": "false"}) == [
        "# meta mark set meta mark & 0xffff0000 | 0x1 accept"
    ]
    assert _text("mangle", {"action": "mark-connection", "new-connection-mark": "x"}) == [
        "# ct mark set ct mark & 0xffff0000 | 0x1"
    ]


def test_masquerade_is_source_nat_by_address_on_6() -> None:
    row = {"chain": "srcnat", "action": "masquerade", "out-interface": "ether1"}
    assert _text("nat", row) == ['oifname "ether1" # masquerade']
    assert [text.replace('oifname "ether1" ', "") for text in _text("nat", row, "6.49")] == [
        "ip daddr 10.9.9.0/24 # snat to 10.9.9.2",
        "# snat to 192.0.2.2",
    ]


def test_an_unknown_matcher_or_action_is_refused() -> None:
    for row in ({"layer7-protocol": "x"}, {"time": "1h-2h"}, {"action": "set-priority"}):
        with pytest.raises(Trap, match="is not given an effect"):
            _text("filter", row)


def test_a_transaction_keeps_counters_and_removes_what_went() -> None:
    first = _compiled("filter", {"action": "jump", "jump-target": "x", "src-address-list": "l"})
    second = _compiled("filter", {})
    text = transaction(second, after(first))
    assert "delete chain ip ros filter.x" in text
    assert "delete set ip ros L.l" in text
    assert "counter ip ros c.filter.1" not in text
    assert "add counter ip ros c.filter.1" in transaction(first, Installed())


def test_lists_are_unions() -> None:
    rows = [{"list": "a", "address": text} for text in ("10.0.0.1", "0.0.0.0/0", "10.0.0.1-10.0.0.4")]
    assert list_members(rows) == {"a": (IPv4Network("0.0.0.0/0"),)}


def _route(number: int, **properties: str) -> Row:
    return {".id": f"*{number}", **{name.replace("_", "-"): value for name, value in properties.items()}}


CONNECTED = [
    _route(1, dst_address="192.0.2.0/24", gateway="ether1", connect="true", distance="0", scope="10"),
    _route(2, dst_address="198.51.100.0/24", gateway="ether2", connect="true", distance="0", scope="10"),
]


def _kernel(rows: list[Row], version: str = "7.22", down: str = "", lost: str = "") -> dict[tuple[int, str], str]:
    table = decide(rows, version, Tables(), lambda name: name != down, lambda subject: subject[0] != lost)
    return {key: words for key, words in table.kernel.items() if key[1] not in {"192.0.2.0/24", "198.51.100.0/24"}}


def test_distance_carrier_and_checks_choose() -> None:
    rows = [
        *CONNECTED,
        _route(3, gateway="192.0.2.1", check_gateway="ping"),
        _route(4, gateway="198.51.100.1", distance="9"),
    ]
    key = (254, "0.0.0.0/0")
    assert _kernel(rows)[key] == "0.0.0.0/0 via 192.0.2.1 dev ether1 onlink table 254 proto 77"
    assert "ether2" in _kernel(rows, down="ether1")[key]
    assert "ether2" in _kernel(rows, lost="192.0.2.1")[key]


def test_a_gateway_needs_a_route_within_its_target_scope() -> None:
    canary = _route(3, dst_address="203.0.113.129/32", gateway="192.0.2.1", scope="30")
    rows = [*CONNECTED, canary, _route(4, gateway="203.0.113.129", target_scope="11")]
    assert (254, "0.0.0.0/0") not in _kernel(rows)
    canary["scope"] = "10"
    assert "via 192.0.2.1 dev ether1" in _kernel(rows)[(254, "0.0.0.0/0")]


def test_equal_distances_share_on_7_and_comma_lists_on_6() -> None:
    equal = [*CONNECTED, _route(3, gateway="192.0.2.1"), _route(4, gateway="198.51.100.1")]
    listed = [*CONNECTED, _route(3, gateway="192.0.2.1,198.51.100.1")]
    assert _kernel(equal)[(254, "0.0.0.0/0")].count("nexthop") == 2
    assert "nexthop" not in _kernel(equal, "6.49")[(254, "0.0.0.0/0")]
    assert _kernel(listed, "6.49")[(254, "0.0.0.0/0")].count("nexthop") == 2
    assert "nexthop" not in _kernel(listed, "6.49", down="ether2")[(254, "0.0.0.0/0")]


def test_rules_in_order() -> None:
    user = [
        {".id": "*1", "src-address": "10.88.77.3/32", "action": "lookup-only-in-table", "table": "lte"},
        {".id": "*2", "interface": "bridge", "action": "drop"},
        {".id": "*3", "action": "lookup", "table": "main", "min-prefix": "0"},
    ]
    assert rules(user, {"lte": 1}) == [
        "pref 100 fwmark 0x1/0xffff lookup 1001",
        "pref 1000 lookup 255",
        "pref 2000 from 10.88.77.3/32 lookup 1001",
        "pref 2001 from 10.88.77.3/32 unreachable",
        "pref 2002 from all iif bridge blackhole",
        "pref 2003 from all lookup 254 suppress_prefixlength 0",
    ]


def test_durations() -> None:
    assert [duration_s(text) for text in ("1m30s", "200ms", "1d02:03:04", "00:00:10", "7")] == [90, 0.2, 93784, 10, 7]
    assert duration_text(179) == "2m59s" and duration_text(0) == "0s" and duration_text(90000) == "1d1h"
    assert rtt_text(0.012345, "7.22") == "12ms345us" and rtt_text(0.012345, "6.49") == "12ms"
    with pytest.raises(Trap):
        duration_s("soon")
