"""The menus, commands and arguments this router knows, for each version. Whatever is not here is refused.

Written by hand from MikroTik's manual; tests/virtual_routeros/test_menus_match_schemas.py compares it with what real
routers list. It holds what the agent, its installer and the bench may want to touch, not the whole of RouterOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hil.virtual.routeros.menus_firewall import MATCHERS_DEFAULTS, firewall_fields
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

Fields = Mapping[str, Kind]

READ: Final = frozenset({"print", "getall"})
LISTEN: Final = READ | {"listen"}
SET: Final = frozenset({"set"})
SWITCH: Final = frozenset({"enable", "disable"})
EDIT: Final = frozenset({"add", "set", "remove"})

# Every policy a group may hold, in the order in which they are printed (MikroTik manual, "User", "Group").
_POLICIES_SHARED: Final = (
    *("local", "telnet", "ssh", "ftp", "reboot", "read", "write", "policy", "test", "winbox", "password", "web"),
    *("sniff", "sensitive", "api", "romon"),
)
POLICIES: Final[Mapping[Version, tuple[str, ...]]] = {
    "6.49": (*_POLICIES_SHARED, "dude", "tikapp"),
    "7.22": (*_POLICIES_SHARED, "rest-api"),
}

INTERFACE: Final = reference("/interface")
COMMON: Final[Fields] = {"comment": STRING, "disabled": FLAG}


@dataclass(frozen=True)
class Menu:
    """One menu: its settable fields and what may be done with its rows."""

    path: str
    commands: frozenset[str]
    fields: Fields = field(default_factory=dict)
    single: bool = False
    """One record of settings instead of rows."""
    required: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    unique: tuple[str, ...] = ()
    duplicate: str = "failure: already have such entry"
    auto_name: str = ""
    """Name given, with a number, to a row added without one."""
    secret: frozenset[str] = frozenset()
    """Fields that can be set and are never printed."""
    shows_dynamic: bool = True
    write_policy: str = "write"
    print_arguments: frozenset[str] = frozenset()

    @property
    def ordered(self) -> bool:
        """Whether the place of a row matters: ``move`` and ``place-before`` exist."""
        return "move" in self.commands

    def arguments(self, command: str) -> Fields:
        """The arguments of one command, without those of the API itself (``.id``, ``.proplist``)."""
        if command == "add":
            return {**self.fields, "place-before": STRING} if self.ordered else self.fields
        if command == "set":
            return self.fields if self.single else {**self.fields, "numbers": STRING}
        if command in ("print", "getall", "listen"):
            return dict.fromkeys(self.print_arguments, FLAG)
        if command == "move":
            return {"numbers": STRING, "destination": STRING}
        if command == "unset":
            return {"numbers": STRING, "value-name": STRING}
        return {"numbers": STRING}


@dataclass(frozen=True)
class Command:
    """A command outside the menus of rows."""

    path: str
    policy: str
    arguments: Fields = field(default_factory=dict)
    required: tuple[str, ...] = ()


def _rows(path: str, commands: frozenset[str], fields: Fields | None = None, **more: object) -> Menu:
    """A menu of rows that supports ``count-only``, and ``follow`` where it can be listened to."""
    extra: frozenset[str] = frozenset({"count-only"})
    if "listen" in commands:
        extra |= {"follow", "follow-only"}
    if more.pop("stats", False):
        extra |= {"stats"}
    return Menu(path, commands, fields or {}, print_arguments=extra, **more)  # type: ignore[arg-type]


def _settings(path: str, fields: Fields | None = None, defaults: Mapping[str, str] | None = None) -> Menu:
    return Menu(path, READ | SET if fields else READ, fields or {}, single=True, defaults=defaults or {})


_ARP: Final = enum("disabled", "enabled", "local-proxy-arp", "proxy-arp", "reply-only")


def _ethernet_fields() -> Fields:
    flow = enum("auto", "off", "on")
    return {
        "name": STRING,
        "mtu": integer(68, 9500),
        "l2mtu": integer(0, 65535),
        "mac-address": MAC,
        "arp": _ARP,
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
        "arp": _ARP,
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
        _rows(
            "/interface",
            LISTEN | SET | SWITCH,
            {"name": STRING, "mtu": integer(68, 9500), "l2mtu": integer(0, 65535), **COMMON},
            stats=True,
        ),
        _rows(
            "/interface/ethernet",
            LISTEN | SET | SWITCH | {"unset"},
            _ethernet_fields(),
            shows_dynamic=False,
            stats=True,
        ),
        _rows(
            "/interface/bridge",
            LISTEN | EDIT | SWITCH,
            _bridge_fields(),
            auto_name="bridge",
            unique=("name",),
            duplicate="failure: already have interface with such name",
            defaults={"mtu": "auto", "arp": "enabled", "protocol-mode": "rstp", "fast-forward": "true"},
        ),
        _rows(
            "/interface/bridge/port",
            LISTEN | EDIT | SWITCH | {"move", "unset"},
            _port_fields(),
            required=("interface", "bridge"),
            unique=("interface",),
            duplicate="failure: device already added as bridge port",
            defaults={"pvid": "1", "hw": "true", "edge": "auto", "learn": "auto", "horizon": "none"},
        ),
        _rows(
            "/interface/list",
            LISTEN | EDIT,
            {"name": STRING, "comment": STRING, "include": lists, "exclude": lists},
            required=("name",),
            unique=("name",),
            defaults={"include": "", "exclude": ""},
        ),
        _rows(
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
            _rows("/ip/route", commands, route, defaults=defaults),
            _rows("/ip/route/rule", ordered, rule, defaults={"action": "lookup", "table": "main"}, shows_dynamic=False),
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
        _rows("/ip/route", commands, route, defaults={**defaults, "routing-table": "main"}),
        _rows("/routing/rule", ordered, rule, defaults={"action": "lookup"}, shows_dynamic=False),
        _rows(
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
    return _settings(
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
    settings: dict[str, Kind] = {
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
        settings["route-cache"] = FLAG
    settings_defaults = {name: "false" for name, kind in settings.items() if kind is FLAG}
    settings_defaults |= {"ip-forward": "true", "allow-fast-path": "true", "rp-filter": "no", "arp-timeout": "30s"}
    dns: dict[str, Kind] = {
        "servers": listing(IP),
        "allow-remote-requests": FLAG,
        "cache-size": STRING,
        "cache-max-ttl": time(),
        "max-udp-packet-size": integer(50, 65507),
        "query-server-timeout": time(),
        "query-total-timeout": time(),
    }
    return [
        _rows(
            "/ip/address",
            LISTEN | EDIT | SWITCH,
            {"address": INTERFACE_ADDRESS, "interface": INTERFACE, "network": IP, **COMMON},
            required=("address", "interface"),
            unique=("address", "interface"),
            duplicate="failure: already have such address",
        ),
        _settings("/ip/settings", settings, settings_defaults),
        _settings("/ip/dns", dns, {"servers": "", "allow-remote-requests": "false", "cache-max-ttl": "1w"}),
        _dhcp_client(seven),
        _rows(
            "/ip/arp",
            LISTEN | EDIT | SWITCH,
            {"address": IP, "interface": INTERFACE, "mac-address": MAC, "published": FLAG, **COMMON},
            required=("interface",),
        ),
        _service(seven),
        _rows("/ip/neighbor", LISTEN, shows_dynamic=False),
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
    return _rows("/ip/service", LISTEN | SET | SWITCH, service, shows_dynamic=seven)


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
    return _rows(
        "/ip/dhcp-client",
        LISTEN | EDIT | SWITCH | {"renew", "release", "unset"},
        fields,
        required=("interface",),
        unique=("interface",),
        duplicate="failure: dhcp-client on that interface already exists",
        defaults={**defaults, "use-peer-ntp": "true", "dhcp-options": "hostname,clientid"},
    )


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
        _rows(
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
        _rows(
            "/ip/firewall/address-list",
            LISTEN | EDIT | SWITCH,
            address_list,
            required=("list", "address"),
            unique=("list", "address"),
        ),
        # Listening to connections is not offered on 7.22, and no source says that it works on 6.49.
        _rows("/ip/firewall/connection", READ | {"remove"}, shows_dynamic=False),
        _settings("/ip/firewall/connection/tracking", *_tracking()),
        _rows("/ip/firewall/service-port", LISTEN | SET | SWITCH, service_port, shows_dynamic=False),
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
        _settings("/system/identity", {"name": STRING}, {"name": "MikroTik"}),
        _settings("/system/resource"),
        _settings(
            "/system/clock",
            {"time-zone-name": STRING, "time-zone-autodetect": FLAG},
            {"time-zone-name": "UTC", "time-zone-autodetect": "true"},
        ),
        _settings("/system/routerboard"),
        _rows(
            "/system/scheduler",
            editable | SWITCH,
            scheduler,
            auto_name="schedule",
            unique=("name",),
            duplicate="failure: item with such name already exists",
            defaults={"interval": "0s", "on-event": ""},
            shows_dynamic=False,
        ),
        _rows(
            "/system/script",
            editable,
            script,
            auto_name="script",
            unique=("name",),
            duplicate="failure: item with such name already exists",
            defaults={"source": "", "dont-require-permissions": "false"},
            shows_dynamic=False,
        ),
        _rows("/system/package", LISTEN, shows_dynamic=False),
        _rows("/system/history", LISTEN, shows_dynamic=False),
        _rows("/log", LISTEN, shows_dynamic=False),
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
        _rows(
            "/tool/netwatch",
            LISTEN | EDIT | SWITCH | ({"unset"} if version == "7.22" else frozenset()),
            netwatch,
            required=("host",),
            defaults=defaults,
            shows_dynamic=False,
        ),
        _rows(
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
        _rows(
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
        _rows(
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
        _rows("/user/active", LISTEN, shows_dynamic=False),
    ]


def _commands(version: Version) -> list[Command]:
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
    commands = [Command("/system/reboot", "reboot")]
    if version == "6.49":
        # Only 6 can ping out of a named table, and only there (scripts of 2018-2023 rely on it).
        return [*commands, Command("/ping", "test", {**ping, "routing-table": STRING}, ("address",))]
    ping["vrf"] = STRING
    return [*commands, *(Command(path, "test", ping, ("address",)) for path in ("/ping", "/tool/ping"))]


def _all_menus(version: Version) -> dict[str, Menu]:
    parts = (_interfaces, _routes, _ip, _firewall, _system, _tools, _users)
    return {menu.path: menu for part in parts for menu in part(version)}


MENUS: Final[Mapping[Version, Mapping[str, Menu]]] = {version: _all_menus(version) for version in VERSIONS}
COMMANDS: Final[Mapping[Version, Mapping[str, Command]]] = {
    version: {command.path: command for command in _commands(version)} for version in VERSIONS
}
