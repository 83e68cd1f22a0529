"""Which address the router has on an uplink. Pure.

A port may carry several: a static block, or one in the modem's own subnet to reach its page. The one that flows leave
with is the one beside the gateway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from edgeagent.routeros.rows import TAG
from edgeagent.routeros.values import is_ipv4

FIELDS = ("address", "interface", "disabled", "comment")
CLIENT_FIELDS = ("interface", "gateway", "status", "disabled")


def address_beside(rows: Sequence[Mapping[str, str]], interface: str, gateway: str) -> str | None:
    """The enabled address of ``interface`` in the gateway's subnet, else its first, else None; rows of /ip/address.

    One that we have put there ourselves leads to the modem's page only.

    ``gateway`` may be empty or the name of an interface, where the next hop has no address that is known.
    """
    theirs = (row for row in rows if row.get("interface") == interface and not row.get("comment", "").startswith(TAG))
    found = [one for row in theirs if (one := _enabled(row)) is not None]
    beside = [one for one in found if is_ipv4(gateway) and ipaddress.IPv4Address(gateway) in one.network]
    chosen = next(iter(beside or found), None)
    return None if chosen is None else str(chosen.ip)


def told_gateway(clients: Sequence[Mapping[str, str]], interface: str) -> str | None:
    """The next hop that the DHCP client of ``interface`` was told, while its lease holds; rows of /ip/dhcp-client."""
    for row in clients:
        gateway = row.get("gateway", "")
        if row.get("interface") == interface and row.get("status") == "bound" and is_ipv4(gateway):
            return gateway
    return None


def _enabled(row: Mapping[str, str]) -> ipaddress.IPv4Interface | None:
    if row.get("disabled") in ("true", "yes"):
        return None
    try:
        return ipaddress.IPv4Interface(row.get("address", ""))
    except ValueError:
        return None
