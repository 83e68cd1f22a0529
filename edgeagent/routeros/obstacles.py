"""What in a router's configuration stands in the way of ours, and what of the owner's will work differently. Pure.

An obstacle is nothing that we may put right: it is the owner's and not in the closed list of adopted settings.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from edgeagent.routeros.rows import DHCP, TAG, Wish

Seen = Mapping[str, Sequence[Mapping[str, str]]]
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


class Obstacle(Struct, frozen=True):
    """One, by code (the sentence is texts/), and what was found."""

    code: str
    found: dict[str, str]


def blocking(wish: Wish, seen: Seen) -> list[Obstacle]:
    """What has to be put right by the owner before anything is changed."""
    return [*_reverse_path(seen), *_overlaps(wish, seen), *_backup_ports(wish, seen)]


def worth_knowing(seen: Seen) -> list[Obstacle]:
    """What of the owner's does less than before: our rows stand above it and end the search for voice."""
    marks = [
        row
        for row in _owners(seen, "/ip/firewall/mangle")
        if row.get("chain") == "prerouting" and row.get("action") in MARKS
    ]
    return [Obstacle("owner marks", {"count": str(len(marks))})] if marks else []


def _owners(seen: Seen, menu: str) -> Iterator[Mapping[str, str]]:
    """The owner's enabled rows."""
    for row in seen.get(menu, ()):
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
    own = ipaddress.IPv4Network(wish.alias_prefix)
    for row in _owners(seen, "/ip/address"):
        try:
            network = ipaddress.IPv4Interface(row.get("address", "")).network
        except ValueError:
            continue
        if network.overlaps(own):
            yield Obstacle(
                "subnet overlaps", {"address": row["address"], "port": row.get("interface", ""), "own": str(own)}
            )


def _backup_ports(wish: Wish, seen: Seen) -> Iterator[Obstacle]:
    """Nothing of the owner's may lead the LAN through a backup."""
    for uplink in wish.uplinks[1:]:
        port = {"port": uplink.interface}
        for row in _owners(seen, "/interface/list/member"):
            if row.get("interface") == uplink.interface and row.get("list") == "WAN":
                yield Obstacle("backup in WAN", port)
        for row in _owners(seen, "/ip/dhcp-client"):
            if row.get("interface") != uplink.interface:
                continue
            if uplink.kind == DHCP:
                yield Obstacle("backup has a client", port)
            elif row.get("add-default-route") not in ("no", "false"):
                yield Obstacle("backup has a default", port)
        near = [
            row.get("address", "") for row in _owners(seen, "/ip/address") if row.get("interface") == uplink.interface
        ]
        for row in _owners(seen, "/ip/route"):
            gateways = row.get("gateway", "")
            leads = leads_out(gateways, uplink.interface, uplink.gateway, near)
            if row.get("dst-address") == "0.0.0.0/0" and leads:
                yield Obstacle("backup has a default", port)


def leads_out(hops: str, port: str, gateway: str, near: Sequence[str]) -> bool:
    """Whether one of a route's next hops (``192.0.2.1``, ``ether5``, ``192.0.2.1%ether5``) is reached by ``port``."""
    for hop in re.split("[;,]", hops):
        address, _, interface = hop.partition("%")
        if port in (address, interface) or address == gateway:
            return True
        try:
            if any(ipaddress.IPv4Address(address) in ipaddress.IPv4Interface(each).network for each in near):
                return True
        except ValueError:
            continue
    return False
