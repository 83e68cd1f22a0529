"""Properties that follow from others, and the rows the router adds by itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from hil.virtual.routeros.files import FILE, described
from hil.virtual.routeros.menus import POLICIES
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import Version


def _dummy(chain: str) -> Row:
    comment = "special dummy rule to show fasttrack counters"
    return {"chain": chain, "action": "passthrough", "comment": comment, "log": "false", "log-prefix": ""}


# Where RouterOS shows the traffic that bypasses the rules, once a fasttrack rule exists.
FASTTRACK_DUMMIES: Final[Mapping[str, tuple[Row, ...]]] = {
    "/ip/firewall/filter": (_dummy("forward"),),
    "/ip/firewall/mangle": (_dummy("prerouting"), _dummy("forward"), _dummy("postrouting")),
    "/ip/firewall/raw": (_dummy("prerouting"),),
}


def derived_values(version: Version, menu: str, values: Row) -> Row:
    """The values of a row with what the router works out from them."""
    if menu == "/ip/address":
        network = ipaddress.IPv4Interface(values["address"]).network
        # Only a point-to-point address (/32) may name its far end itself.
        far_end = values.get("network") if network.prefixlen == 32 else None
        return {
            **values,
            "network": far_end or str(network.network_address),
            "actual-interface": values["interface"],
            "invalid": "false",
        }
    if menu == "/ip/firewall/mangle" and values.get("action", "").startswith(("mark-", "change-", "set-")):
        return {"passthrough": "true", **values}
    if menu == FILE:
        return described(values)
    if menu == "/ip/route":
        return {**values, "static": "true"}
    if menu == "/user/group":
        return {**values, "policy": _every_policy(version, values.get("policy", ""))}
    return values


def _every_policy(version: Version, given: str) -> str:
    """All policies of the version, those not given marked as absent, in the router's order."""
    held = set(given.split(","))
    return ",".join(name if name in held else f"!{name}" for name in POLICIES[version])
