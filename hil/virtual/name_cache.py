"""The router's own resolver, which RouterOS's API cannot give the virtual router: dnsmasq in its namespace.

It answers the LAN and asks one resolver by whatever way the router's own packets go. Where the router is to speak IPv6,
it announces itself to the LAN as well.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from hil.virtual import addresses as plan
from hil.virtual.provider_programs import Program, Spawn, wait_until

_COMMON: Final = (
    *("--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file=", "--no-resolv"),
    *("--no-hosts", "--no-poll", "--bind-interfaces", "--log-facility=-"),
)
_ANNOUNCE: Final = ("--enable-ra", f"--dhcp-range=::,constructor:{plan.BRIDGE},ra-only,64", "--ra-param=*,10,600")


class NameCache:
    """On the router's LAN address, port 53."""

    def __init__(self, spawn: Spawn, folder: Path, upstream: str) -> None:
        self.program = Program("dns-router", spawn, folder)
        self._upstream = upstream

    async def start(self, *, announce: bool = False) -> None:
        """Start; returns when its port is bound. ``announce``: router advertisements on the LAN."""
        options = [*_COMMON, f"--server={self._upstream}", f"--interface={plan.BRIDGE}"]
        await self.program.start("rtr", ["dnsmasq", *options, *(_ANNOUNCE if announce else ())])
        await wait_until(self._is_bound, "the router's resolver")

    async def stop(self) -> None:
        """End it."""
        await self.program.stop()

    def _is_bound(self) -> bool:
        """Whether its port is taken."""
        with self.program.in_namespace(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
            try:
                probe.bind((plan.ROUTER_LAN, 53))
            except OSError:
                return True
        return False
