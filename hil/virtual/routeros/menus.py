"""The menus, commands and arguments this router knows, for each version. Whatever is not here is refused.

Written by hand from MikroTik's manual; tests/virtual_routeros/test_menus_match_schemas.py compares it with what real
routers list. It holds what the agent, its installer and the bench may want to touch, not the whole of RouterOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hil.virtual.routeros.menu import (
    ARP,
    COMMON,
    EDIT,
    INTERFACE,
    LISTEN,
    READ,
    SET,
    SWITCH,
    Command,
    Fields,
    Menu,
    rows,
    settings,
)
from hil.virtual.routeros.menus_firewall import MATCHERS_DEFAULTS, firewall_fields
from hil.virtual.routeros.menus_ipv6 import ipv6_menus
from hil.virtual.routeros.menus_network import network_menus
from hil.virtual.routeros.values import (
    FLAG,
    GATEWAYS,
    INTERFACE_ADDRESS,
    IP,
    IP_OR_PREFIX,
    MAC,
    PORTS,
    PREFIX,
    STRING,
    VERSIONS,
    Kind,
    Version,
    enum,
    hexadecimal,
    integer,
    listing,
    reference,
    time,
)

# Every policy a group may hold, in the order in which they are printed (MikroTik manual, "User", "Group").
_POLICIES_SHARED: Final = (
    *("local", "telnet", "ssh", "ftp", "reboot", "read", "write", "policy", "test", "winbox", "password", "web"),
    *("sniff", "sensitive", "api", "romon"),
)
POLICIES: Final[Mapping[Version, tuple[str, ...]]] = {
    "6.49": (*_POLICIES_SHARED, "dude", "tikapp"),
    "7.22": (*_POLICIES_SHARED, "rest-api"),
}

# Flags that RouterOS 7 takes bare only: ``add fib name=x``, never ``fib=yes`` (so do its exports have them).
BARE_FLAGS: Final[Mapping[str, frozenset[str]]] = {
    "/ip/route": frozenset({"blackhole"}),
    "/routing/table": frozenset({"fib"}),
}
DEVICE_MODE: Final = "/system/device-mode"


def _ethernet_fields() -> Fields:
    flow = enum("auto", "off", "on")
    return {
        "name": STRING,
        "mtu": integer(68, 9500),
        "l2mtu": integer(0, 65535),
        "mac-address": MAC,
        "arp": ARP,
        "auto-negotiation": FLAG,
        "advertise": STRING,
        "speed": STRING,
        "rx-flow-control": flow,
        "tx-flow-control": flow,
        "poe-out": enum("auto-on", "forced-on", "off"),
        **COMMON,
    }


def _bridge_fields() -> Fields:
    return {
        "name": STRING,
        "mtu": integer(68, 65535, words=("auto",)),
        "arp": ARP,
        "auto-mac": FLAG,
        "admin-mac": MAC,
        "protocol-mode": enum("mstp", "none", "rstp", "stp"),
        "priority": hexadecimal(0xFFFF),
        "fast-forward": FLAG,
        "igmp-snooping": FLAG,
        "vlan-filtering": FLAG,
        "pvid": integer(1, 4094),
        "ageing-time": time("10s", "1w4d13h46m40s"),
        "forward-delay": time("4s", "30s"),
        **COMMON,
    }


def _port_fields() -> Fields:
    return {
        "interface": INTERFACE,
        "bridge": reference("/interface/bridge"),
        "pvid": integer(1, 4094),
        "hw": FLAG,
        "horizon": integer(words=("none",)),
        "learn": enum("auto", "no", "yes"),
        "edge": enum("auto", "no", "no-discover", "yes", "yes-discover"),
        "priority": hexadecimal(0xFF),
        "path-cost": integer(1, 200_000_000),
        "trusted": FLAG,
        **COMMON,
    }


def _interfaces(_version: Version) -> list[Menu]:
    member = {"interface": INTERFACE, "list": reference("/interface/list"), **COMMON}
    lists = listing(reference("/interface/list"))
    return [
        rows(
            "/interface",
            LISTEN | SET | SWITCH,
            {"name": STRING, "mtu": integer(68, 9500), "l2mtu": integer(0, 65535), **COMMON},
            stats=True,
        ),
        rows(
            "/interface/ethernet",
            LISTEN | SET | SWITCH | {"unset"},
            _ethernet_fields(),
            shows_dynamic=False,
            stats=True,
        ),
        rows(
            "/interface/bridge",
            LISTEN | EDIT | SWITCH,
            _bridge_fields(),
            auto_name="bridge",
            unique=("name",),
            duplicate="failure: already have interface with such name",
            defaults={"mtu": "auto", "arp": "enabled", "protocol-mode": "rstp", "fast-forward": "true"},
        ),
        rows(
            "/interface/bridge/port",
            LISTEN | EDIT | SWITCH | {"move", "unset"},
            _port_fields(),
            required=("interface", "bridge"),
            unique=("interface",),
            duplicate="failure: device already added as bridge port",
            defaults={"pvid": "1", "hw": "true", "edge": "auto", "learn": "auto", "horizon": "none"},
        ),
        rows(
            "/interface/list",
            LISTEN | EDIT,
            {"name": STRING, "comment": STRING, "include": lists, "exclude": lists},
            required=("name",),
            unique=("name",),
            defaults={"include": "", "exclude": ""},
        ),
        rows(
            "/interface/list/member",
            LISTEN | EDIT | SWITCH,
            member,
            required=("list", "interface"),
            unique=("list", "interface"),
        ),
    ]


def _routes(version: Version) -> list[Menu]:
    distance = integer(1, 255) if version == "7.22" else integer(0, 255)
    route: dict[str, Kind] = {
        "dst-address": PREFIX,
        "gateway": GATEWAYS,
        "distance": distance,
        "scope": integer(0, 255),
        "target-scope": integer(0, 255),
        "pref-src": IP,
        **COMMON,
    }
    defaults = {"dst-address": "0.0.0.0/0", "distance": "1", "scope": "30", "target-scope": "10"}
    commands = LISTEN | EDIT | SWITCH | {"unset"}
    actions = ("drop", "lookup", "lookup-only-in-table", "unreachable")
    rule: dict[str, Kind] = {"src-address": PREFIX, "dst-address": PREFIX, "interface": INTERFACE, **COMMON}
    ordered = LISTEN | EDIT | SWITCH | {"move", "unset"}
    if version == "6.49":
        # Tables exist by being named; any name will do.
        route |= {
            "check-gateway": enum("arp", "ping"),
            "routing-mark": STRING,
            "type": enum("blackhole", "prohibit", "unicast", "unreachable"),
        }
        rule |= {"action": enum(*actions), "table": STRING, "routing-mark": STRING}
        return [
            rows("/ip/route", commands, route, defaults=defaults),
            rows("/ip/route/rule", ordered, rule, defaults={"action": "lookup", "table": "main"}, shows_dynamic=False),
        ]
    table = reference("/routing/table", "main")
    route |= {
        "check-gateway": enum("arp", "none", "ping", "bfd"),
        "routing-table": table,
        "blackhole": FLAG,
        "vrf-interface": INTERFACE,
    }
    rule |= {
        "action": enum(*actions),
        "table": table,
        "routing-mark": table,
        "min-prefix": integer(0, 32),
        "chain": enum("user", "local", "main", "mangle", "vrf-lookup", "vrf-unreach"),
    }
    return [
        rows("/ip/route", commands, route, defaults={**defaults, "routing-table": "main"}),
        rows("/routing/rule", ordered, rule, defaults={"action": "lookup"}, shows_dynamic=False),
        rows(
            "/routing/table",
            LISTEN | EDIT | SWITCH | {"unset"},
            {"name": STRING, "fib": FLAG, **COMMON},
            required=("name",),
            unique=("name",),
            duplicate="failure: already have such table",
        ),
        _routing_settings(),
    ]


def _routing_settings() -> Menu:
    """How often gateways are checked; fixed on 6 and before 7.21."""
    return settings(
        "/routing/settings",
        {
            "single-process": FLAG,
            "check-gateway-ping-interval": time("100ms", "10m"),
            "check-gateway-ping-timeout": time("1ms", "1s"),
            "check-gateway-ping-count": integer(1, 100),
        },
        {
            "single-process": "false",
            "check-gateway-ping-interval": "10s",
            "check-gateway-ping-timeout": "1s",
            "check-gateway-ping-count": "2",
        },
    )


def _ip(version: Version) -> list[Menu]:
    seven = version == "7.22"
    own_settings: dict[str, Kind] = {
        "ip-forward": FLAG,
        "rp-filter": enum("loose", "no", "strict"),
        "allow-fast-path": FLAG,
        "accept-redirects": FLAG,
        "send-redirects": FLAG,
        "secure-redirects": FLAG,
        "accept-source-route": FLAG,
        "tcp-syncookies": FLAG,
        "arp-timeout": time(),
        "max-neighbor-entries": integer(),
        "icmp-rate-limit": integer(),
    }
    if not seven:
        own_settings["route-cache"] = FLAG
    settings_defaults = {name: "false" for name, kind in own_settings.items() if kind is FLAG}
    settings_defaults |= {"ip-forward": "true", "allow-fast-path": "true", "rp-filter": "no", "arp-timeout": "30s"}
    return [
        rows(
            "/ip/address",
            LISTEN | EDIT | SWITCH,
            {"address": INTERFACE_ADDRESS, "interface": INTERFACE, "network": IP, **COMMON},
            required=("address", "interface"),
            unique=("address", "interface"),
            duplicate="failure: already have such address",
        ),
        settings("/ip/settings", own_settings, settings_defaults),
        rows(
            "/ip/arp",
            LISTEN | EDIT | SWITCH,
            {"address": IP, "interface": INTERFACE, "mac-address": MAC, "published": FLAG, **COMMON},
            required=("interface",),
        ),
        _service(seven),
        rows("/ip/neighbor", LISTEN, shows_dynamic=False),
    ]


def _service(seven: bool) -> Menu:
    service: dict[str, Kind] = {
        "port": integer(1, 65535),
        "address": listing(PREFIX),
        "certificate": STRING,
        "tls-version": enum("any", "only-1.2"),
        "disabled": FLAG,
    }
    if seven:
        service["max-sessions"] = integer(1, 1000)
    return rows("/ip/service", LISTEN | SET | SWITCH, service, shows_dynamic=seven)


def _firewall(version: Version) -> list[Menu]:
    address_list: dict[str, Kind] = {
        # A name is refused, although a real router would resolve it: nothing here resolves names.
        "address": IP_OR_PREFIX,
        "list": STRING,
        "timeout": time("0s", "35w3d13h13m56s"),
        **COMMON,
    }
    if version == "7.22":
        address_list["dynamic"] = FLAG
    chains = LISTEN | EDIT | SWITCH | {"move", "unset"}
    menus = [
        rows(
            f"/ip/firewall/{table}",
            chains,
            firewall_fields(version, table),
            required=("chain",),
            defaults=MATCHERS_DEFAULTS,
            stats=True,
        )
        for table in ("filter", "nat", "mangle", "raw")
    ]
    service_port: dict[str, Kind] = {
        "ports": PORTS,
        "sip-direct-media": FLAG,
        "sip-timeout": time(),
        "disabled": FLAG,
    }
    return [
        *menus,
        rows(
            "/ip/firewall/address-list",
            LISTEN | EDIT | SWITCH,
            address_list,
            required=("list", "address"),
            unique=("list", "address"),
        ),
        # Listening to connections is not offered on 7.22, and no source says that it works on 6.49.
        rows("/ip/firewall/connection", READ | {"remove"}, shows_dynamic=False),
        settings("/ip/firewall/connection/tracking", *_tracking()),
        rows("/ip/firewall/service-port", LISTEN | SET | SWITCH, service_port, shows_dynamic=False),
    ]


def _tracking() -> tuple[Fields, Mapping[str, str]]:
    """Connection tracking and its factory timeouts (MikroTik manual, "Connection tracking")."""
    timeouts = {
        "generic-timeout": "10m",
        "icmp-timeout": "10s",
        "tcp-close-timeout": "10s",
        "tcp-close-wait-timeout": "10s",
        "tcp-established-timeout": "1d",
        "tcp-fin-wait-timeout": "10s",
        "tcp-last-ack-timeout": "10s",
        "tcp-max-retrans-timeout": "5m",
        "tcp-syn-received-timeout": "5s",
        "tcp-syn-sent-timeout": "5s",
        "tcp-time-wait-timeout": "10s",
        "tcp-unacked-timeout": "5m",
        "udp-stream-timeout": "3m",
        "udp-timeout": "10s",
    }
    fields = {"enabled": enum("auto", "no", "yes"), "loose-tcp-tracking": FLAG, **dict.fromkeys(timeouts, time())}
    return fields, {"enabled": "auto", "loose-tcp-tracking": "true", **timeouts}


def _policies(version: Version, signed: bool) -> Kind:
    names = POLICIES[version]
    return listing(enum(*names, *(f"!{name}" for name in names)) if signed else enum(*names))


def _system(version: Version) -> list[Menu]:
    policy = _policies(version, signed=False)
    scheduler: dict[str, Kind] = {
        "name": STRING,
        "interval": time(),
        "on-event": STRING,
        "policy": policy,
        "start-date": STRING,
        "start-time": STRING,
        **COMMON,
    }
    script: dict[str, Kind] = {
        "name": STRING,
        "source": STRING,
        "policy": policy,
        "dont-require-permissions": FLAG,
        "comment": STRING,
    }
    editable = LISTEN | EDIT
    return [
        settings("/system/identity", {"name": STRING}, {"name": "MikroTik"}),
        settings("/system/resource"),
        settings(
            "/system/clock",
            {"time-zone-name": STRING, "time-zone-autodetect": FLAG},
            {"time-zone-name": "UTC", "time-zone-autodetect": "true"},
        ),
        settings("/system/routerboard"),
        *([] if version == "6.49" else [settings(DEVICE_MODE)]),
        rows(
            "/system/scheduler",
            editable | SWITCH,
            scheduler,
            auto_name="schedule",
            unique=("name",),
            duplicate="failure: item with such name already exists",
            defaults={"interval": "0s", "on-event": ""},
            shows_dynamic=False,
        ),
        rows(
            "/system/script",
            editable,
            script,
            auto_name="script",
            unique=("name",),
            duplicate="failure: item with such name already exists",
            defaults={"source": "", "dont-require-permissions": "false"},
            shows_dynamic=False,
        ),
        rows("/system/package", LISTEN, shows_dynamic=False),
        rows("/system/history", LISTEN, shows_dynamic=False),
        rows("/log", LISTEN, shows_dynamic=False),
    ]


def _tools(version: Version) -> list[Menu]:
    netwatch: dict[str, Kind] = {
        "host": IP,
        "interval": time("1s"),
        "timeout": time("10ms", "4w"),
        "up-script": STRING,
        "down-script": STRING,
        **COMMON,
    }
    defaults = {"interval": "1m", "timeout": "1s"} if version == "6.49" else {"interval": "10s", "timeout": "3s"}
    if version == "7.22":
        netwatch |= {
            "name": STRING,
            "type": enum("dns", "http-get", "https-get", "icmp", "simple", "tcp-conn"),
            "src-address": IP,
            "packet-count": integer(1),
            "packet-interval": time("20ms"),
            "packet-size": integer(),
            "port": integer(1, 65535),
            "startup-delay": time("0s", "1h"),
            "test-script": STRING,
            "thr-avg": time(),
            "thr-max": time(),
            "thr-jitter": time(),
            "thr-stdev": time(),
            "thr-loss-count": integer(),
            "thr-loss-percent": STRING,
        }
        defaults |= {"type": "simple", "startup-delay": "5m"}
    queue: dict[str, Kind] = {
        **dict.fromkeys(("name", "target", "dst", "parent", "packet-marks", "queue", "priority"), STRING),
        **dict.fromkeys(("max-limit", "limit-at", "burst-limit", "burst-threshold", "burst-time"), STRING),
        **COMMON,
    }
    return [
        rows(
            "/tool/netwatch",
            LISTEN | EDIT | SWITCH | ({"unset"} if version == "7.22" else frozenset()),
            netwatch,
            required=("host",),
            defaults=defaults,
            shows_dynamic=False,
        ),
        rows(
            "/queue/simple",
            LISTEN | EDIT | SWITCH | {"move", "unset"},
            queue,
            required=("target",),
            auto_name="queue",
            unique=("name",),
            duplicate="failure: already have such name",
            defaults={"parent": "none", "max-limit": "0/0", "limit-at": "0/0", "priority": "8/8"},
            stats=True,
        ),
    ]


def _users(version: Version) -> list[Menu]:
    user: dict[str, Kind] = {
        "name": STRING,
        "group": reference("/user/group"),
        "password": STRING,
        "address": listing(PREFIX),
        **COMMON,
    }
    return [
        rows(
            "/user",
            LISTEN | EDIT | SWITCH,
            user,
            required=("name", "group"),
            unique=("name",),
            duplicate="failure: user with the same name already exists",
            secret=frozenset({"password"}),
            defaults={"address": ""},
            shows_dynamic=False,
            write_policy="policy",
        ),
        rows(
            "/user/group",
            LISTEN | EDIT,
            {"name": STRING, "policy": _policies(version, signed=True), "comment": STRING},
            required=("name",),
            unique=("name",),
            duplicate="failure: group with the same name already exists",
            defaults={"policy": ""},
            shows_dynamic=False,
            write_policy="policy",
        ),
        rows("/user/active", LISTEN, shows_dynamic=False),
        rows("/user/ssh-keys", LISTEN | {"remove"}, shows_dynamic=False, write_policy="policy"),
    ]


def _files(version: Version) -> list[Menu]:
    """Files, certificates, and the one menu here that holds secrets of the owner."""
    seven = version == "7.22"
    certificate: dict[str, Kind] = {"name": STRING, "trusted": FLAG}
    secret: dict[str, Kind] = {
        **dict.fromkeys(("name", "password", "profile", "caller-id"), STRING),
        "service": enum("any", "async", "l2tp", "ovpn", "pppoe", "pptp", "sstp"),
        "local-address": IP,
        "remote-address": IP,
        **COMMON,
    }
    return [
        rows(
            "/file",
            LISTEN | ({"add"} if seven else frozenset()) | {"set", "remove"},
            {"name": STRING, "contents": STRING},
            required=("name",),
            unique=("name",),
            duplicate="failure: file with the same name already exists",
            shows_dynamic=False,
            write_policy="ftp",
        ),
        rows(
            "/certificate",
            LISTEN | {"set", "remove"},
            certificate,
            unique=("name",),
            duplicate="failure: certificate with the same name already exists",
            secret=frozenset({"pem", "key-pem"}),
            shows_dynamic=False,
            write_policy="policy",
        ),
        rows(
            "/ppp/secret",
            LISTEN | EDIT | SWITCH,
            secret,
            required=("name",),
            unique=("name",),
            duplicate="failure: secret with the same name already exists",
            sensitive=frozenset({"password"}),
            defaults={"service": "any", "profile": "default", "password": ""},
            shows_dynamic=False,
        ),
    ]


def _commands(version: Version) -> list[Command]:
    """What stands outside the menus. The policies of backup and files as users of librouteros and MikroDash found."""
    export = {**dict.fromkeys(("compact", "hide-sensitive", "terse", "verbose"), FLAG), "file": STRING}
    certificate: dict[str, Kind] = {"file-name": STRING, "passphrase": STRING, "name": STRING}
    wished = {
        "name": STRING,
        "common-name": STRING,
        "days-valid": integer(1),
        "key-size": enum("1024", "2048", "4096", "prime256v1"),
        "key-usage": STRING,
    }
    script: dict[str, Kind] = {"file-name": STRING, "from-line": integer(1), "verbose": enum("no", "progress", "yes")}
    if version == "7.22":
        export["show-sensitive"] = FLAG
        certificate["trusted"] = FLAG
        script["dry-run"] = FLAG
    backup = {"name": STRING, "password": STRING}
    saved = {**backup, "dont-encrypt": FLAG, "encryption": enum("aes-sha256", "rc4")}
    return [
        Command("/system/reboot", ("reboot",)),
        Command("/export", ("read",), export),
        Command("/import", ("read",), script, ("file-name",)),
        Command("/system/backup/save", ("ftp", "policy", "read", "write"), saved),
        Command("/system/backup/load", ("ftp", "policy", "read", "reboot", "write"), backup, ("name",)),
        Command("/certificate/import", ("policy", "read", "write"), certificate, ("file-name",)),
        Command("/certificate/add", ("policy", "read", "write"), wished, ("common-name",)),
        Command("/certificate/sign", ("policy", "read", "write"), {"number": STRING}, ("number",)),
        Command("/certificate/export-certificate", ("policy", "read", "write"), {"numbers": STRING}, ("numbers",)),
        Command(
            "/user/ssh-keys/import",
            ("policy", "read", "write"),
            {"public-key-file": STRING, "user": STRING},
            ("public-key-file",),
        ),
        Command("/system/script/run", ("read",), {"number": STRING, ".id": STRING}),
        *_ping_commands(version),
    ]


def _ping_commands(version: Version) -> list[Command]:
    ping: dict[str, Kind] = {
        "address": STRING,
        "count": integer(0),
        "interval": time("10ms", "5s"),
        "size": integer(28, 65535),
        "src-address": IP,
        "interface": INTERFACE,
        "ttl": integer(1, 255),
        "dscp": integer(0, 63),
        "do-not-fragment": FLAG,
        "arp-ping": FLAG,
    }
    if version == "6.49":
        # Only 6 can ping out of a named table, and only there (scripts of 2018-2023 rely on it).
        return [Command("/ping", ("test",), {**ping, "routing-table": STRING}, ("address",))]
    ping["vrf"] = STRING
    return [Command(path, ("test",), ping, ("address",)) for path in ("/ping", "/tool/ping")]


def _all_menus(version: Version) -> dict[str, Menu]:
    parts = (_interfaces, _routes, _ip, _firewall, _system, _tools, _users, _files, network_menus, ipv6_menus)
    return {menu.path: menu for part in parts for menu in part(version)}


MENUS: Final[Mapping[Version, Mapping[str, Menu]]] = {version: _all_menus(version) for version in VERSIONS}
COMMANDS: Final[Mapping[Version, Mapping[str, Command]]] = {
    version: {command.path: command for command in _commands(version)} for version in VERSIONS
}
