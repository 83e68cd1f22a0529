"""Menus of IPv6: addresses, routes, the filter and its lists, router advertisements, settings."""

from __future__ import annotations

from typing import Final

from hil.virtual.routeros.menu import COMMON, EDIT, INTERFACE, LISTEN, SWITCH, Menu, rows, settings
from hil.virtual.routeros.menus_firewall import MATCHERS_DEFAULTS, filter_fields_v6
from hil.virtual.routeros.values import (
    FLAG,
    GATEWAYS_V6,
    INTERFACE_ADDRESS_V6,
    IPV6,
    IPV6_OR_PREFIX,
    PREFIX_V6,
    STRING,
    Kind,
    Version,
    enum,
    integer,
    reference,
    time,
)

ADDRESS: Final = "/ipv6/address"
ROUTE: Final = "/ipv6/route"
FILTER: Final = "/ipv6/firewall/filter"
LISTS: Final = "/ipv6/firewall/address-list"
ND: Final = "/ipv6/nd"
SETTINGS: Final = "/ipv6/settings"


def ipv6_menus(version: Version) -> list[Menu]:
    """All menus of this module; on 6 they come with the package "ipv6", which the boards here have."""
    address: dict[str, Kind] = {
        "address": INTERFACE_ADDRESS_V6,
        "interface": INTERFACE,
        "advertise": FLAG,
        "eui-64": FLAG,
        "no-dad": FLAG,
        "from-pool": STRING,
        **COMMON,
    }
    lists: dict[str, Kind] = {
        "address": IPV6_OR_PREFIX,
        "list": STRING,
        "timeout": time("0s", "35w3d13h13m56s"),
        **COMMON,
    }
    if version == "7.22":
        lists["dynamic"] = FLAG
    return [
        rows(
            ADDRESS,
            LISTEN | EDIT | SWITCH,
            address,
            required=("address", "interface"),
            unique=("address", "interface"),
            duplicate="failure: already have such address",
            defaults={"advertise": "true", "eui-64": "false", "no-dad": "false", "from-pool": ""},
        ),
        _route(version),
        rows(
            FILTER,
            LISTEN | EDIT | SWITCH | {"move", "unset"},
            filter_fields_v6(version),
            required=("chain",),
            defaults=MATCHERS_DEFAULTS,
            stats=True,
        ),
        rows(LISTS, LISTEN | EDIT | SWITCH, lists, required=("list", "address"), unique=("list", "address")),
        _nd(),
        _settings(version),
    ]


def _route(version: Version) -> Menu:
    fields: dict[str, Kind] = {
        "dst-address": PREFIX_V6,
        "gateway": GATEWAYS_V6,
        "distance": integer(1, 255),
        "scope": integer(0, 255),
        "target-scope": integer(0, 255),
        "check-gateway": enum("ping"),
        **COMMON,
    }
    defaults = {"dst-address": "::/0", "distance": "1", "scope": "30", "target-scope": "10"}
    if version == "6.49":
        fields["type"] = enum("unicast", "unreachable")
        return rows(ROUTE, LISTEN | EDIT | SWITCH, fields, defaults=defaults)
    fields |= {
        "check-gateway": enum("arp", "none", "ping"),
        "pref-src": IPV6,
        "routing-table": reference("/routing/table", "main"),
        "blackhole": FLAG,
    }
    return rows(ROUTE, LISTEN | EDIT | SWITCH | {"unset"}, fields, defaults={**defaults, "routing-table": "main"})


def _nd() -> Menu:
    fields: dict[str, Kind] = {
        "interface": reference("/interface", "all"),
        "ra-interval": STRING,  # "3m20s-10m"
        "ra-delay": time(),
        "ra-lifetime": time(words=("none",)),
        "ra-preference": enum("high", "low", "medium"),
        "mtu": STRING,
        "hop-limit": STRING,
        "reachable-time": STRING,
        "retransmit-interval": STRING,
        "advertise-mac-address": FLAG,
        "advertise-dns": FLAG,
        "managed-address-configuration": FLAG,
        "other-configuration": FLAG,
        **COMMON,
    }
    defaults = {
        "ra-interval": "3m20s-10m",
        "ra-delay": "3s",
        "ra-lifetime": "30m",
        "advertise-mac-address": "true",
        "advertise-dns": "true",
        "managed-address-configuration": "false",
        "other-configuration": "false",
    }
    return rows(ND, LISTEN | EDIT | SWITCH, fields, required=("interface",), unique=("interface",), defaults=defaults)


def _settings(version: Version) -> Menu:
    when = enum("no", "yes", "yes-if-forwarding-disabled")
    fields: dict[str, Kind] = {
        "disable-ipv6": FLAG,
        "forward": FLAG,
        "accept-redirects": when,
        "accept-router-advertisements": when,
        "max-neighbor-entries": integer(),
    }
    if version == "7.22":
        fields |= {"allow-fast-path": FLAG, "disable-link-local-address": FLAG}
    defaults = {
        "disable-ipv6": "false",
        "forward": "true",
        "accept-redirects": "yes-if-forwarding-disabled",
        "accept-router-advertisements": "yes-if-forwarding-disabled",
        "max-neighbor-entries": "8192",
    }
    more = {"allow-fast-path": "true", "disable-link-local-address": "false"} if version == "7.22" else {}
    return settings(SETTINGS, fields, {**defaults, **more})
