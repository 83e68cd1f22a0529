"""Arguments of the four firewall tables: what packets to match, what to do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hil.virtual.routeros.values import (
    FLAG,
    IP,
    IP_OR_PREFIX,
    IPV6_OR_PREFIX,
    MAC,
    PORTS,
    PROTOCOL,
    STRING,
    Kind,
    Version,
    enum,
    integer,
    listing,
    negatable,
    reference,
    time,
)

MATCHERS_DEFAULTS: Final[Mapping[str, str]] = {"action": "accept", "log": "false", "log-prefix": ""}

_INTERFACE: Final = negatable(reference("/interface", "all-ethernet", "all-ppp", "all-vlan", "all-wireless"))
_INTERFACE_LIST: Final = negatable(reference("/interface/list"))
_ADDRESS: Final = negatable(IP_OR_PREFIX)
_ADDRESS_TYPE: Final = negatable(listing(enum("blackhole", "broadcast", "local", "multicast", "unicast")))
_PORTS: Final = negatable(PORTS)
_TEXT: Final = negatable(STRING)
_HELPERS: Final = negatable(listing(enum("ftp", "h323", "irc", "pptp", "quake3", "sip", "tftp")))
_STATES: Final = negatable(listing(enum("established", "invalid", "new", "related", "untracked")))

# Matchers and properties that all four tables have.
_EVERYWHERE: Final[Mapping[str, Kind]] = {
    "comment": STRING,
    "disabled": FLAG,
    "log": FLAG,
    "log-prefix": STRING,
    "protocol": negatable(PROTOCOL),
    "src-address": _ADDRESS,
    "dst-address": _ADDRESS,
    "src-address-list": _TEXT,
    "dst-address-list": _TEXT,
    "src-address-type": _ADDRESS_TYPE,
    "dst-address-type": _ADDRESS_TYPE,
    "src-mac-address": negatable(MAC),
    "src-port": _PORTS,
    "dst-port": _PORTS,
    "port": _PORTS,
    "in-interface": _INTERFACE,
    "out-interface": _INTERFACE,
    "in-interface-list": _INTERFACE_LIST,
    "out-interface-list": _INTERFACE_LIST,
    "packet-mark": _TEXT,
    "packet-size": _TEXT,
    "per-connection-classifier": _TEXT,
    "nth": STRING,
    "random": integer(1, 99),
    "limit": _TEXT,
    "dst-limit": _TEXT,
    "dscp": negatable(integer(0, 63)),
    "ttl": _TEXT,
    "fragment": _TEXT,
    "icmp-options": _TEXT,
    "ipsec-policy": STRING,
    "content": _TEXT,
    "time": STRING,
    "jump-target": STRING,
    "address-list": STRING,
    "address-list-timeout": time("0s", "35w3d13h13m56s", words=("none-dynamic", "none-static")),
}

_BOTH_LISTS: Final = ("add-dst-to-address-list", "add-src-to-address-list")
_FLOW: Final = ("accept", "jump", "log", "passthrough", "return", *_BOTH_LISTS)
_ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "filter": (*_FLOW, "drop", "fasttrack-connection", "reject", "tarpit"),
    "nat": (*_FLOW, "dst-nat", "masquerade", "netmap", "redirect", "same", "src-nat"),
    "mangle": (
        *_FLOW,
        "change-dscp",
        "change-mss",
        "change-ttl",
        "clear-df",
        "fasttrack-connection",
        "mark-connection",
        "mark-packet",
        "mark-routing",
        "route",
        "set-priority",
    ),
    "raw": (*_FLOW, "drop", "notrack"),
}
_REJECT_WITH: Final = (
    "icmp-admin-prohibited",
    "icmp-host-prohibited",
    "icmp-host-unreachable",
    "icmp-net-prohibited",
    "icmp-network-unreachable",
    "icmp-port-unreachable",
    "icmp-protocol-unreachable",
    "tcp-reset",
)
_OF_ONE_TABLE: Final[Mapping[str, Mapping[str, Kind]]] = {
    "filter": {"reject-with": enum(*_REJECT_WITH), "tcp-flags": STRING},
    "nat": {"to-addresses": IP_OR_PREFIX, "to-ports": PORTS, "randomise-ports": FLAG},
    "mangle": {
        "new-connection-mark": STRING,
        "new-packet-mark": STRING,
        "new-dscp": integer(0, 63),
        "new-mss": integer(0, 65535, words=("clamp-to-pmtu",)),
        "new-priority": STRING,
        "new-ttl": STRING,
        "passthrough": FLAG,
        "route-dst": IP,
        "tcp-flags": STRING,
    },
    "raw": {"tcp-flags": STRING},
}


def firewall_fields(version: Version, table: str) -> dict[str, Kind]:
    """The arguments of one of ``filter``, ``nat``, ``mangle``, ``raw``."""
    fields: dict[str, Kind] = {
        "chain": STRING,
        "action": enum(*_ACTIONS[table]),
        **_EVERYWHERE,
        **_OF_ONE_TABLE[table],
    }
    # On 7 a routing mark is the name of a table that exists; on 6 the first rule that names it creates it.
    mark = reference("/routing/table", "main") if version == "7.22" else STRING
    if table != "raw":  # raw sees packets before they belong to a connection or a route
        fields |= {
            "connection-mark": _TEXT,
            "connection-type": _HELPERS,
            "connection-bytes": STRING,
            "connection-rate": _TEXT,
            "connection-limit": _TEXT,
            "routing-mark": negatable(mark),
        }
    if table in ("filter", "mangle"):
        fields["connection-state"] = _STATES
        fields["connection-nat-state"] = negatable(listing(enum("dstnat", "srcnat")))
    if table == "mangle":
        fields["new-routing-mark"] = mark
    if table == "filter" and version == "7.22":
        fields["hw-offload"] = FLAG  # of fasttrack; the kernel here has no switch to give it to
    return fields


_REJECT_WITH_V6: Final = (
    "icmp-address-unreachable",
    "icmp-admin-prohibited",
    "icmp-no-route",
    "icmp-not-neighbour",
    "icmp-port-unreachable",
    "tcp-reset",
)
# What only IPv4 has, or is not understood here.
_NOT_V6: Final = frozenset({"fragment", "ttl", "src-address-type", "dst-address-type"})


def filter_fields_v6(version: Version) -> dict[str, Kind]:
    """The arguments of /ipv6/firewall/filter."""
    address = negatable(IPV6_OR_PREFIX)
    kinds = negatable(listing(enum("anycast", "local", "multicast", "unicast", "unreachable")))
    actions = [each for each in _ACTIONS["filter"] if each != "tarpit"]
    if version == "6.49":  # fasttrack for IPv6 came with 7
        actions.remove("fasttrack-connection")
    return {
        "chain": STRING,
        "action": enum(*actions),
        **{name: kind for name, kind in _EVERYWHERE.items() if name not in _NOT_V6},
        "src-address": address,
        "dst-address": address,
        "src-address-type": kinds,
        "dst-address-type": kinds,
        "connection-state": _STATES,
        "connection-mark": _TEXT,
        "connection-bytes": STRING,
        "hop-limit": STRING,
        "tcp-flags": STRING,
        "reject-with": enum(*_REJECT_WITH_V6),
    }
