"""Menus of the services around routing: VLANs, DHCP and DNS, time, names, discovery, the vendor's cloud, PPPoE."""

from __future__ import annotations

from typing import Final

from hil.virtual.routeros.menu import ARP, COMMON, EDIT, INTERFACE, LISTEN, READ, SWITCH, Menu, rows, settings
from hil.virtual.routeros.values import (
    FLAG,
    IP,
    MAC,
    PREFIX,
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

NEIGHBOURS: Final = "/ip/neighbor/discovery-settings"
_LISTS: Final = negatable(reference("/interface/list"))
_RANGES: Final = STRING  # "192.168.88.10-192.168.88.254,..."


def network_menus(version: Version) -> list[Menu]:
    """All menus of this module."""
    return [
        _vlan(),
        _pppoe(),
        *_dhcp_server(version),
        _dhcp_client(version == "7.22"),
        _dns(version == "7.22"),
        _dns_static(),
        *_ntp(version),
        _cloud(),
        _discovery(version == "7.22"),
        settings("/tool/mac-server", {"allowed-interface-list": _LISTS}, {"allowed-interface-list": "all"}),
        settings("/tool/mac-server/mac-winbox", {"allowed-interface-list": _LISTS}, {"allowed-interface-list": "all"}),
        settings("/tool/mac-server/ping", {"enabled": FLAG}, {"enabled": "true"}),
    ]


def _vlan() -> Menu:
    fields: dict[str, Kind] = {
        "name": STRING,
        "vlan-id": integer(1, 4095),
        "interface": INTERFACE,
        "mtu": integer(68, 65535),
        "arp": ARP,
        "use-service-tag": FLAG,
        **COMMON,
    }
    return rows(
        "/interface/vlan",
        LISTEN | EDIT | SWITCH,
        fields,
        required=("interface", "vlan-id"),
        auto_name="vlan",
        unique=("name",),
        duplicate="failure: already have interface with such name",
        defaults={"mtu": "1500", "arp": "enabled", "use-service-tag": "false"},
    )


def _pppoe() -> Menu:
    fields: dict[str, Kind] = {
        **dict.fromkeys(("name", "user", "password", "profile", "service-name", "ac-name"), STRING),
        "interface": INTERFACE,
        "add-default-route": FLAG,
        "default-route-distance": integer(0, 255),
        "dial-on-demand": FLAG,
        "use-peer-dns": FLAG,
        "keepalive-timeout": integer(1, 65535, words=("disabled",)),
        "max-mtu": STRING,
        "max-mru": STRING,
        "mrru": STRING,
        "allow": listing(enum("chap", "mschap1", "mschap2", "pap")),
        **COMMON,
    }
    defaults = {
        "user": "",
        "password": "",
        "profile": "default",
        "service-name": "",
        "ac-name": "",
        "add-default-route": "false",
        "default-route-distance": "1",
        "dial-on-demand": "false",
        "use-peer-dns": "false",
        "keepalive-timeout": "10",
        "max-mtu": "auto",
        "max-mru": "auto",
        "mrru": "disabled",
        "allow": "pap,chap,mschap1,mschap2",
        "disabled": "true",  # unlike other rows (MikroTik manual, "PPPoE")
    }
    return rows(
        "/interface/pppoe-client",
        LISTEN | EDIT | SWITCH | {"unset"},
        fields,
        required=("interface",),
        auto_name="pppoe-out",
        unique=("name",),
        duplicate="failure: already have interface with such name",
        defaults=defaults,
        sensitive=frozenset({"password"}),
    )


def _dhcp_server(version: Version) -> list[Menu]:
    server: dict[str, Kind] = {
        "name": STRING,
        "interface": INTERFACE,
        "address-pool": reference("/ip/pool", "static-only"),
        "lease-time": time(),
        "authoritative": enum("after-10sec-delay", "after-2sec-delay", "no", "yes"),
        "lease-script": STRING,
        "always-broadcast": FLAG,
        **COMMON,
    }
    network: dict[str, Kind] = {
        "address": PREFIX,
        "gateway": listing(IP),
        "netmask": integer(0, 32),
        "dns-server": listing(IP),
        "domain": STRING,
        "ntp-server": listing(IP),
        "dhcp-option": STRING,
        "comment": STRING,
    }
    lease: dict[str, Kind] = {
        "address": IP,
        "mac-address": MAC,
        "client-id": STRING,
        "server": reference("/ip/dhcp-server", "all"),
        **COMMON,
    }
    return [
        rows(
            "/ip/pool",
            LISTEN | EDIT,
            {"name": STRING, "ranges": _RANGES, "next-pool": reference("/ip/pool", "none"), "comment": STRING},
            required=("ranges",),
            auto_name="pool",
            unique=("name",),
            duplicate="failure: pool with such name exists",
            shows_dynamic=False,
        ),
        rows(
            "/ip/dhcp-server",
            LISTEN | EDIT | SWITCH,
            server,
            required=("interface",),
            auto_name="dhcp",
            unique=("name",),
            defaults={
                "address-pool": "static-only",
                "lease-time": "10m" if version == "6.49" else "30m",
                "authoritative": "yes",
            },
        ),
        rows(
            "/ip/dhcp-server/network",
            LISTEN | EDIT,
            network,
            required=("address",),
            unique=("address",),
            defaults={"gateway": "", "dns-server": "", "domain": ""},
        ),
        rows("/ip/dhcp-server/lease", LISTEN | EDIT | SWITCH, lease, defaults={"server": "all"}),
    ]


def _dhcp_client(seven: bool) -> Menu:
    fields: dict[str, Kind] = {
        "interface": INTERFACE,
        "add-default-route": enum("no", "special-classless", "yes"),
        "default-route-distance": integer(1, 255),
        "dhcp-options": STRING,
        "script": STRING,
        "use-peer-dns": FLAG,
        "use-peer-ntp": FLAG,
        **COMMON,
    }
    defaults = {"add-default-route": "yes", "default-route-distance": "1", "use-peer-dns": "true"}
    if seven:
        fields |= {
            "name": STRING,
            "check-gateway": enum("arp", "bfd", "none", "ping"),
            "default-route-tables": STRING,
            "allow-reconfigure": FLAG,
        }
    return rows(
        "/ip/dhcp-client",
        LISTEN | EDIT | SWITCH | {"renew", "release", "unset"},
        fields,
        required=("interface",),
        unique=("interface",),
        duplicate="failure: dhcp-client on that interface already exists",
        defaults={**defaults, "use-peer-ntp": "true", "dhcp-options": "hostname,clientid"},
    )


def _dns(seven: bool) -> Menu:
    fields: dict[str, Kind] = {
        "servers": listing(IP),
        "allow-remote-requests": FLAG,
        "cache-size": STRING,
        "cache-max-ttl": time(),
        "max-udp-packet-size": integer(50, 65507),
        "query-server-timeout": time(),
        "query-total-timeout": time(),
        "max-concurrent-queries": integer(),
        "max-concurrent-tcp-sessions": integer(),
        "use-doh-server": STRING,
        "verify-doh-cert": FLAG,
    }
    defaults = {"servers": "", "allow-remote-requests": "false", "cache-max-ttl": "1w", "cache-size": "2048KiB"}
    defaults |= {"max-udp-packet-size": "4096", "query-server-timeout": "2s", "query-total-timeout": "10s"}
    defaults |= {"max-concurrent-queries": "100", "max-concurrent-tcp-sessions": "20"}
    defaults |= {"use-doh-server": "", "verify-doh-cert": "false", "dynamic-servers": ""}
    if seven:
        fields["vrf"] = STRING
    return settings("/ip/dns", fields, defaults)


def _dns_static() -> Menu:
    fields: dict[str, Kind] = {"name": STRING, "address": STRING, "regexp": STRING, "ttl": time(), **COMMON}
    return rows("/ip/dns/static", LISTEN | EDIT | SWITCH, fields, defaults={"ttl": "1d"})


def _ntp(version: Version) -> list[Menu]:
    mode = enum("broadcast", "manycast", "multicast", "unicast")
    if version == "6.49":
        old: dict[str, Kind] = {
            "enabled": FLAG,
            "mode": mode,
            "primary-ntp": IP,
            "secondary-ntp": IP,
            "server-dns-names": STRING,
        }
        defaults = {"primary-ntp": "0.0.0.0", "secondary-ntp": "0.0.0.0", "server-dns-names": ""}
        return [settings("/system/ntp/client", old, {"enabled": "false", "mode": "unicast", **defaults})]
    fields: dict[str, Kind] = {"enabled": FLAG, "mode": mode, "servers": STRING, "vrf": STRING}
    defaults = {"enabled": "false", "mode": "unicast", "servers": "", "vrf": "main"}
    server: dict[str, Kind] = {"address": STRING, "iburst": FLAG, **COMMON}
    return [
        settings("/system/ntp/client", fields, defaults),
        rows(
            "/system/ntp/client/servers",
            READ | EDIT | SWITCH,
            server,
            required=("address",),
            defaults={"iburst": "true"},
        ),
    ]


def _cloud() -> Menu:
    fields: dict[str, Kind] = {
        "ddns-enabled": STRING,  # yes or no, and "auto" where 7 asks back to home
        "ddns-update-interval": time(words=("none",)),
        "update-time": FLAG,
    }
    return settings(
        "/ip/cloud", fields, {"ddns-enabled": "false", "ddns-update-interval": "none", "update-time": "true"}
    )


def _discovery(seven: bool) -> Menu:
    fields: dict[str, Kind] = {
        "discover-interface-list": _LISTS,
        "protocol": listing(enum("cdp", "lldp", "mndp")),
        "lldp-med-net-policy-vlan": integer(0, 4094, words=("disabled",)),
    }
    defaults = {"discover-interface-list": "static", "protocol": "cdp,lldp,mndp"}
    if seven:
        fields |= {"mode": enum("rx-only", "tx-and-rx", "tx-only"), "discover-interval": time()}
        defaults |= {"mode": "tx-and-rx", "discover-interval": "30s"}
    return settings(NEIGHBOURS, fields, {**defaults, "lldp-med-net-policy-vlan": "disabled"})
