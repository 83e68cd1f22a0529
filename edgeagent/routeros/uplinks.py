"""Which address the router has on an uplink. Pure.

A port may carry several: a static block, or one in the modem's own subnet to reach its page. The one that flows leave
with is the one beside the gateway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

FIELDS = ("address", "interface", "disabled")


def address_beside(rows: Sequence[Mapping[str, str]], interface: str, gateway: str) -> str | None:
    """The enabled address of ``interface`` in the gateway's subnet, else its first, else None; rows of /ip/address."""
    found = [row["address"] for row in rows if row.get("interface") == interface and _enabled(row)]
    beside = [address for address in found if _holds(address, gateway)]
    chosen = next(iter(beside or found), None)
    return None if chosen is None else chosen.partition("/")[0]


def _enabled(row: Mapping[str, str]) -> bool:
    return "address" in row and row.get("disabled") not in ("true", "yes")


def _holds(address: str, gateway: str) -> bool:
    try:
        return ipaddress.IPv4Address(gateway) in ipaddress.IPv4Interface(address).network
    except ValueError:
        return False
