"""What in a router's configuration stands in the way of ours, and what of the owner's will work differently. Pure.

An obstacle is nothing that we may put right: it is the owner's and not in the closed list of adopted settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from msgspec import Struct

from edgeagent.routeros.rows import DHCP, TAG, Wish

Rows = Sequence[Mapping[str, str]]
Seen = Mapping[str, Rows]
# The menus that are read for it, with the attributes that are looked at.
READ = {
    "/ip/settings": ("rp-filter",),
    "/ip/address": (".id", "address", "interface", "comment", "disabled"),
    "/ip/route": (".id", "dst-address", "gateway", "comment", "disabled", "dynamic"),
    "/ip/dhcp-client": (".id", "interface", "add-default-route", "comment", "disabled"),
    "/interface/list/member": (".id", "list", "interface", "comment", "disabled"),
    "/ip/firewall/mangle": (".id", "chain", "action", "comment", "disabled"),
}
MARKS = ("mark-routing", "mark-connection", "mark-packet")
# A default may be cut into halves, quarters and so on. Down to this length a route is no way to one network: the
# largest private one is 10.0.0.0/8, and nobody has that behind a modem.
WIDE_BITS = 8


class Obstacle(Struct, frozen=True):
    """One, by code (the sentence is texts/), and what was found."""

    code: str
    found: dict[str, str]


class Overlap(Struct, frozen=True):
    """Two ports with addresses of one network: the router would look for its hosts at both."""

    address: str
    port: str
    other: str
    other_port: str


def blocking(wish: Wish, seen: Seen) -> list[Obstacle]:
    """What has to be put right by the owner before anything is changed."""
    return [*_reverse_path(seen), *_overlaps(wish, seen), *doubled(wish, seen), *_backup_ports(wish, seen)]


def worth_knowing(seen: Seen) -> list[Obstacle]:
    """What of the owner's does less than before: our rows stand above it and end the search for voice."""
    marks = [
        row
        for row in _owners(seen.get("/ip/firewall/mangle", ()))
        if row.get("chain") == "prerouting" and row.get("action") in MARKS
    ]
    return [Obstacle("owner marks", {"count": str(len(marks))})] if marks else []


def doubled(wish: Wish, seen: Seen) -> list[Obstacle]:
    """Networks that would be both at a backup's port and at another one: the modem's is often the same as the LAN's."""
    addresses = seen.get("/ip/address", ())
    return [
        Obstacle(
            "networks doubled",
            {"address": one.address, "port": one.port, "other": one.other, "other_port": one.other_port},
        )
        for uplink in wish.uplinks[1:]
        for one in overlaps(addresses, uplink.interface, uplink.modem_page)
    ]


def overlaps(addresses: Rows, port: str, page: str) -> Iterator[Overlap]:
    """What a backup's port has or will have in common with another port. ``addresses``: rows of /ip/address, dynamic
    ones included; ``page``: our address in the modem's own network, with its length, or empty.
    """
    held = _held(addresses)
    for address in (*([page] if page else []), *(address for address, where in held if where == port)):
        for other, where in held:
            if where != port and _network(other).overlaps(_network(address)):
                yield Overlap(address, port, other, where)


class Exits:
    """Which routes of the owner's lead out by a port, over however many steps (recursive next hops)."""

    def __init__(self, routes: Rows, addresses: Rows, port: str, gateway: str) -> None:
        """``routes``: rows of /ip/route, of every table; ``addresses``: of /ip/address; ``gateway``: the next hop that
        is known of the port, empty where none is.
        """
        self.port = port
        self.gateway = gateway
        self.near = [(_network(address), where) for address, where in _held(addresses)]
        self.routes = [(_network(row.get("dst-address", "")), row) for row in _owners(routes)]

    def wide(self) -> Iterator[Mapping[str, str]]:
        """The rows that stand for a default or for a large part of one."""
        for number, (network, row) in enumerate(self.routes):
            wide = network.prefixlen <= WIDE_BITS and (network, self.port) not in self.near  # not a connected one
            if wide and self._leads(number):
                yield row

    def _leads(self, number: int) -> bool:
        """Whether a route does, by itself or by those that its next hops are found by; each is followed once."""
        waiting, followed = [number], set[int]()
        while waiting:
            number = waiting.pop()
            if number in followed:
                continue
            followed.add(number)
            for hop in re.split("[;,]", self.routes[number][1].get("gateway", "")):
                here, further = self._step(hop)
                if here:
                    return True
                waiting += further
        return False

    def _step(self, hop: str) -> tuple[bool, list[int]]:
        """Whether a next hop is at the port, and else the routes by which it is reached. It is ``192.0.2.1``,
        ``ether5``, ``192.0.2.1%ether5``, each with ``@table`` on 7; empty where packets go nowhere (blackhole).
        """
        address, _, interface = hop.strip().partition("@")[0].partition("%")
        if not address or interface:
            return interface == self.port, []
        if address in (self.port, self.gateway):
            return True, []
        try:
            host = IPv4Address(address)
        except ValueError:  # another port
            return False, []
        port = max(((network.prefixlen, at == self.port) for network, at in self.near if host in network), default=None)
        ways = [(network.prefixlen, number) for number, (network, _) in enumerate(self.routes) if host in network]
        narrowest = max((bits for bits, _ in ways), default=-1)
        if port is not None and port[0] >= narrowest:
            return port[1], []
        return False, [number for bits, number in ways if bits == narrowest]


NOWHERE = IPv4Network("255.255.255.255/32")  # stands for what is no network


def _held(addresses: Rows) -> list[tuple[str, str]]:
    """Address and port of each of the owner's rows that has an address."""
    rows = [(row.get("address", ""), row.get("interface", "")) for row in _owners(addresses)]
    return [(address, port) for address, port in rows if _network(address) != NOWHERE]


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Interface(text).network
    except ValueError:
        return NOWHERE


def _owners(rows: Rows) -> Iterator[Mapping[str, str]]:
    """The owner's enabled rows."""
    for row in rows:
        if not row.get("comment", "").startswith(TAG) and row.get("disabled") not in ("true", "yes"):
            yield row


def _reverse_path(seen: Seen) -> Iterator[Obstacle]:
    """A strict check drops what comes back by a backup while the owner's default is by the primary."""
    for row in seen.get("/ip/settings", ()):
        if row.get("rp-filter") == "strict":
            yield Obstacle("rp-filter strict", {})


def _overlaps(wish: Wish, seen: Seen) -> Iterator[Obstacle]:
    if not wish.alias_address:
        return
    own = IPv4Network(wish.alias_prefix)
    for address, port in _held(seen.get("/ip/address", ())):
        if _network(address).overlaps(own):
            yield Obstacle("subnet overlaps", {"address": address, "port": port, "own": str(own)})


def _backup_ports(wish: Wish, seen: Seen) -> Iterator[Obstacle]:
    """Nothing of the owner's may lead the LAN through a backup."""
    for uplink in wish.uplinks[1:]:
        port = {"port": uplink.interface}
        for row in _owners(seen.get("/interface/list/member", ())):
            if row.get("interface") == uplink.interface and row.get("list") == "WAN":
                yield Obstacle("backup in WAN", port)
        for row in _owners(seen.get("/ip/dhcp-client", ())):
            if row.get("interface") != uplink.interface:
                continue
            if uplink.kind == DHCP:
                yield Obstacle("backup has a client", port)
            elif row.get("add-default-route") not in ("no", "false"):
                yield Obstacle("backup has a default by dhcp", port)
        exits = Exits(seen.get("/ip/route", ()), seen.get("/ip/address", ()), uplink.interface, uplink.gateway)
        for row in exits.wide():
            way = {"destination": row["dst-address"], "gateway": row.get("gateway", "")}
            yield Obstacle("backup has a default", {**port, **way})
