"""All rows that failover needs in the router, as data, in the order in which they are put there.

One builder serves provisioning, rendering and drift checks. A row is ours by its comment ``edgeagent:<name>``; the name
is its identity. Within a menu rows stand in the order given here, above all foreign ones where order matters.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgeagent.routeros import fallback, passage, scripts, steering
from edgeagent.routeros.rows import DHCP, Dialect, Row, Wish

# Menus in which rows act in order, so that ours must stand above foreign ones.
ORDERED = (
    "/ip/firewall/mangle",
    "/ip/firewall/filter",
    "/ip/firewall/nat",
    "/routing/rule",
    "/ip/route/rule",
    "/ipv6/firewall/filter",
)
# What goes before all else, and after all else: a job that moves phones, and what others stand on.
REMOVED_FIRST = ("/system/scheduler", "/tool/netwatch")
REMOVED_LAST = ("/interface/list/member", "/interface/list", "/interface/bridge")
# Menus in which rows of ours stand only for some sites; what is found there and no longer wanted has to go.
OCCASIONAL = (*REMOVED_LAST, *REMOVED_FIRST, "/ip/dhcp-client")
IPV6 = ("/ipv6/firewall/filter", "/ipv6/firewall/address-list")  # a router of version 6 may be without
TABLES = "/routing/table"  # goes when no route stands in it any more (7)
BACKUPS = "edge-backups"  # the interface list of their ports


def build(wish: Wish, dialect: Dialect) -> list[Row]:
    """All rows, in an order in which each prefix leaves voice with a usable route (clause P2)."""
    return [
        *ports(wish, dialect),
        *steering.lists(wish),
        *steering.routes(wish, dialect),
        *steering.connection_marks(wish),
        *steering.learning(wish),
        *steering.translation(wish),
        *passage.router_itself(wish),
        *passage.ipv6(wish),
        *steering.prerouting(wish),
        *steering.names(wish),
        *fallback.routes(wish),
        *fallback.flush(wish),
        *_throttle(wish),
    ]


def menus(rows: Iterable[Row]) -> list[str]:
    """Every menu that ours may stand in, in the order in which they are built. Taken away in the reverse one, a
    backup's address goes before what keeps the LAN from its network.
    """
    return list(dict.fromkeys([*(row.menu for row in rows), *OCCASIONAL]))


def learns(rows: Iterable[Row]) -> bool:
    """Whether these rules learn the voice devices; those are then wanted as long as they are known."""
    return any(row.name.startswith(steering.LEARN) for row in rows)


def ports(wish: Wish, dialect: Dialect) -> list[Row]:
    """The ports of the backups: an address by DHCP without a default route or name servers, and a list of them.

    Before the address, what may pass there: with it the modem's network can be reached from the LAN.
    """
    rows = [Row("/interface/list", "backups", {"name": BACKUPS}), *passage.forward(wish)]
    for uplink in wish.uplinks[1:]:
        member = {"list": BACKUPS, "interface": uplink.interface}
        rows.append(Row("/interface/list/member", f"backup-{uplink.tag}", member))
        if uplink.kind == DHCP:
            nothing = {"add-default-route": "no", "use-peer-dns": "no", "use-peer-ntp": "no"}
            client = {"interface": uplink.interface, **nothing, "script": scripts.lease(uplink.tag, dialect.rules)}
            rows.append(Row("/ip/dhcp-client", f"dhcp-{uplink.tag}", client))
    return rows


def _throttle(wish: Wish) -> list[Row]:
    """Where the provider may have a backup slowed down, after notice (demand C9). Without a limit until then."""
    return [
        Row("/queue/simple", f"throttle-{uplink.tag}", {"name": f"edge-{uplink.tag}", "target": uplink.interface})
        for uplink in wish.uplinks[1:]
    ]
