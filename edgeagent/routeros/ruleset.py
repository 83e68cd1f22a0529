"""The rows that failover needs in the router, as data.

One builder serves provisioning, rendering and drift checks. A row is ours by its comment ``edgeagent:<name>``; the name
is its identity. Within a menu rows stand in the order given here, above all foreign ones where order matters.

How it works: a voice packet is looked up in a path's own table only while its source stands in one of the leased
lists; else it goes as the owner's routing says. Probes never follow a lease (clause P10): prerouting lets them out
first and their source steers them. Media born on a backup stays there until it ends, whatever happens to leases: on
kernels that drop a masqueraded row when the output interface changes, a hole of 10 ms would silence a call for good.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol

from msgspec import Struct

TAG = "edgeagent:"
VOICE = "edge-voip"
PROBES = "edge-probe"
AGENT_HOSTS = "edge-agent"
SIP_PORTS = "5060,5061"

Attributes = dict[str, str]


class Uplink(Struct, frozen=True):
    """One path as the router sees it. ``address`` is the router's own there, where it is known and fixed."""

    tag: str
    interface: str
    gateway: str
    source: str
    metered: bool
    address: str | None = None


class Wish(Struct, frozen=True):
    """What the site wants of its router. ``uplinks[0]`` is the primary."""

    lan_interface: str
    alias_address: str
    alias_prefix: str
    uplinks: tuple[Uplink, ...]
    voice: tuple[str, ...]
    agent_hosts: tuple[str, ...]


class Row(Struct, frozen=True):
    """One row of ours: the menu, the name that identifies it, its attributes as RouterOS names them."""

    menu: str
    name: str
    attributes: Attributes

    @property
    def comment(self) -> str:
        """The tag by which the row is known again."""
        return TAG + self.name


class Dialect(Protocol):
    """Where the supported versions differ."""

    version: str

    def table(self, name: str) -> list[Row]:
        """A routing table, where tables are made explicitly."""

    def default_route(self, table: str, gateway: str) -> Row:
        """The one default of a table of ours."""

    def blackhole(self) -> Row:
        """A last default in main: a table of ours is only looked at while main resolves too."""

    def source_rule(self, name: str, source: str, table: str, *, only: bool) -> Row:
        """Packets from ``source`` go by ``table``; with ``only`` they fail rather than go elsewhere."""


# Menus in which rows act in order, so that ours must stand above foreign ones.
ORDERED = ("/ip/firewall/mangle", "/ip/firewall/filter", "/ip/firewall/nat", "/routing/rule", "/ip/route/rule")


def table_of(uplink: Uplink) -> str:
    """The routing table, routing mark and connection mark of an uplink."""
    return f"edge-{uplink.tag}"


def build(wish: Wish, dialect: Dialect) -> list[Row]:
    """All rows, in an order in which each prefix leaves voice with a usable route (clause P2)."""
    return [
        *_lists(wish),
        *_routes(wish, dialect),
        *_connection_marks(wish),
        *_nat(wish),
        *_forward(wish),
        *_input(wish),
        *_prerouting(wish),
    ]


def _lists(wish: Wish) -> list[Row]:
    entries = [(VOICE, prefix) for prefix in wish.voice]
    entries += [(PROBES, uplink.source) for uplink in wish.uplinks]
    entries += [(AGENT_HOSTS, host) for host in wish.agent_hosts]
    return [
        Row("/ip/firewall/address-list", f"{name}/{address}", {"list": name, "address": address})
        for name, address in entries
    ]


def _routes(wish: Wish, dialect: Dialect) -> list[Row]:
    length = ipaddress.IPv4Network(wish.alias_prefix).prefixlen
    address = {"address": f"{wish.alias_address}/{length}", "interface": wish.lan_interface}
    rows = [Row("/ip/address", "alias", address), dialect.blackhole()]
    for uplink in wish.uplinks:
        table = table_of(uplink)
        rows += [*dialect.table(table), dialect.default_route(table, uplink.gateway)]
    for uplink in wish.uplinks:
        rows.append(dialect.source_rule(f"probe-{uplink.tag}", uplink.source, table_of(uplink), only=True))
        if uplink.address:
            rows.append(dialect.source_rule(f"own-{uplink.tag}", uplink.address, table_of(uplink), only=False))
    return rows


def _prerouting(wish: Wish) -> list[Row]:
    """Probes first, then pinned media, then phone leases, then site leases; each ends the search."""
    rows = [_mangle("probes", chain="prerouting", action="accept", **{"src-address-list": PROBES})]
    rows += [_steer(uplink, "pin", **{"connection-mark": media_mark(uplink)}) for uplink in wish.uplinks[1:]]
    rows += [
        _steer(uplink, kind, **{"src-address-list": f"edge-{uplink.tag}-{kind}"})
        for kind in ("phone", "site")
        for uplink in (*wish.uplinks[1:], wish.uplinks[0])
    ]
    return rows


def media_mark(uplink: Uplink) -> str:
    """The connection mark of media born on a backup."""
    return f"edge-{uplink.tag}-media"


def _steer(uplink: Uplink, kind: str, **match: str) -> Row:
    return _mangle(
        f"{kind}-{uplink.tag}",
        chain="prerouting",
        action="mark-routing",
        passthrough="no",
        **{"dst-address-list": VOICE, "new-routing-mark": table_of(uplink), **match},
    )


def _connection_marks(wish: Wish) -> list[Row]:
    """Each voice row carries the uplink it was born on, so that the API can ask for voice rows alone."""
    rows = []
    for uplink in wish.uplinks:
        born = {
            "chain": "forward",
            "action": "mark-connection",
            "passthrough": "no",
            "out-interface": uplink.interface,
            "dst-address-list": VOICE,
            "src-address-list": f"!{PROBES}",
            "connection-state": "new",  # whatever mark the owner's rules have set already
        }
        if uplink.metered:
            media = {"protocol": "udp", "dst-port": f"!{SIP_PORTS}", "new-connection-mark": media_mark(uplink)}
            rows.append(Row("/ip/firewall/mangle", f"media-{uplink.tag}", {**born, **media}))
        rows.append(Row("/ip/firewall/mangle", f"born-{uplink.tag}", {**born, "new-connection-mark": table_of(uplink)}))
    return rows


def _nat(wish: Wish) -> list[Row]:
    return [
        Row(
            "/ip/firewall/nat",
            f"out-{uplink.tag}",
            {"chain": "srcnat", "action": "masquerade", "out-interface": uplink.interface},
        )
        for uplink in wish.uplinks
    ]


def _forward(wish: Wish) -> list[Row]:
    """What may cross a backup, voice never fasttracked, and a quick end for TCP that lost its row."""
    known = {"connection-state": "established,related"}
    rows = [
        _filter(
            "tcp-anew",
            chain="forward",
            action="reject",
            protocol="tcp",
            **{
                "reject-with": "tcp-reset",
                "dst-address-list": VOICE,
                "connection-state": "new",
                "tcp-flags": "!syn",
            },
        )
    ]
    for uplink in wish.uplinks[1:]:
        table = table_of(uplink)
        out, back = {"out-interface": uplink.interface}, {"in-interface": uplink.interface}
        rows += [
            _filter(f"out-{uplink.tag}-voice", chain=f"{table}-out", action="accept", **{"dst-address-list": VOICE}),
            _filter(
                f"out-{uplink.tag}-agent",
                chain=f"{table}-out",
                action="accept",
                **{"src-address-list": PROBES, "dst-address-list": AGENT_HOSTS},
            ),
            _filter(f"out-{uplink.tag}-rest", chain=f"{table}-out", action="drop"),
            _filter(f"in-{uplink.tag}-known", chain=f"{table}-in", action="accept", **known),
            _filter(f"in-{uplink.tag}-rest", chain=f"{table}-in", action="drop"),
            _filter(f"jump-out-{uplink.tag}", chain="forward", action="jump", **out, **{"jump-target": f"{table}-out"}),
            _filter(f"jump-in-{uplink.tag}", chain="forward", action="jump", **back, **{"jump-target": f"{table}-in"}),
        ]
    return [
        *rows,
        _filter("voice-out", chain="forward", action="accept", **known, **{"dst-address-list": VOICE}),
        _filter("voice-in", chain="forward", action="accept", **known, **{"src-address-list": VOICE}),
    ]


def _input(wish: Wish) -> list[Row]:
    """Provider packets to a port whose row was just removed must leave no row behind."""
    rows = [
        _filter(
            f"unasked-{uplink.tag}",
            chain="input",
            action="drop",
            protocol="udp",
            **{"in-interface": uplink.interface, "src-address-list": VOICE, "connection-state": "new"},
        )
        for uplink in wish.uplinks
    ]
    for uplink in wish.uplinks[1:]:
        arriving = {"in-interface": uplink.interface}
        rows += [
            _filter(
                f"input-{uplink.tag}-known",
                chain="input",
                action="accept",
                **arriving,
                **{"connection-state": "established,related"},
            ),
            _filter(
                f"input-{uplink.tag}-ping",
                chain="input",
                action="accept",
                protocol="icmp",
                **arriving,
                limit="5,5:packet",
            ),
            _filter(f"input-{uplink.tag}-rest", chain="input", action="drop", **arriving),
        ]
    return rows


def _mangle(name: str, **attributes: str) -> Row:
    return Row("/ip/firewall/mangle", name, attributes)


def _filter(name: str, **attributes: str) -> Row:
    return Row("/ip/firewall/filter", name, attributes)
