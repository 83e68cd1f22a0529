"""Attributes that rows of ours leave as RouterOS makes them, and that would change what the row does.

A matcher that a person adds to one of our rows makes it act on less than it should, and is seen only if it is asked
for: RouterOS prints what it is asked for, and of that only what is set. By menu and attribute, the values that mean
"not set"; the empty one is an attribute that is absent. Names that a version does not know are passed over by it.

What only tells (``log``), only counts, or is the provider's to set (the limits of a queue) is not in it, nor are
``scope`` and ``target-scope`` of a route, whose defaults depend on the kind of gateway; where they matter we set them.
Source: the arguments of ``add`` in 7.22 and 6.49; tests/agent/test_plain.py compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeagent.routeros.rows import Row
from edgeagent.routeros.values import same

ABSENT = ("",)
_MATCHERS = tuple(
    """address-list address-list-timeout connection-bytes connection-limit connection-mark connection-nat-state
    connection-rate connection-state connection-type content dscp dst-address dst-address-list dst-address-type
    dst-limit dst-port fragment headers hop-limit hotspot icmp-options in-bridge-port in-bridge-port-list in-interface
    in-interface-list ingress-priority ipsec-policy ipv4-options jump-target layer7-protocol limit
    nth out-bridge-port out-bridge-port-list out-interface out-interface-list p2p packet-mark packet-size
    per-connection-classifier port priority protocol psd random realm routing-mark src-address
    src-address-list src-address-type src-mac-address src-port tcp-flags tcp-mss time tls-host tos ttl""".split()  # noqa: SIM905
)
_MANGLE = ("new-connection-mark", "new-routing-mark", "route-dst")
_TARGETS = ("to-addresses", "to-ports", "randomise-ports", "same-not-by-dst")
_ABOUT_RULES = ("dst-address", "interface", "routing-mark", "min-prefix", "realm", "vrf", "src-address")
_Values = tuple[str, ...]

DEFAULTS: Mapping[str, Mapping[str, _Values]] = {
    "/ip/firewall/filter": dict.fromkeys(_MATCHERS, ABSENT),
    "/ip/firewall/mangle": dict.fromkeys((*_MATCHERS, *_MANGLE), ABSENT),
    "/ip/firewall/nat": dict.fromkeys((*_MATCHERS, *_TARGETS), ABSENT) | {"randomise-ports": ("", "false")},
    "/ipv6/firewall/filter": dict.fromkeys(_MATCHERS, ABSENT),
    "/ip/route": {
        "distance": ("1",),
        "check-gateway": ("", "none"),
        "pref-src": ABSENT,
        "blackhole": ("", "false"),
        "routing-table": ("", "main"),
        "routing-mark": ABSENT,
        "type": ("", "unicast"),
        "vrf-interface": ABSENT,
    },
    "/routing/rule": dict.fromkeys(_ABOUT_RULES, ABSENT),
    "/ip/route/rule": dict.fromkeys(_ABOUT_RULES, ABSENT),
    "/interface/list": {"include": ABSENT, "exclude": ABSENT},
}
SET_EMPTY = frozenset({"/interface/list"})  # menus without ``unset``: nothing is put in place of what was set


def asked(menu: str) -> tuple[str, ...]:
    """The attributes of this menu that are looked at although no row of ours sets them."""
    return tuple(DEFAULTS.get(menu, ()))


def added(row: Row, found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The attributes that somebody has given to a row of ours, each with the value it has to have; empty: none."""
    for name, values in DEFAULTS.get(row.menu, {}).items():
        if name in row.attributes or name not in found:
            continue
        if not any(same(value, found[name]) if value else found[name] == "" for value in values):
            yield name, values[0]
