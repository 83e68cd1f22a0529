"""The DHCP servers of the bench's ISP and carrier: dnsmasq, which hands the router its one address on that line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hil.virtual import addresses
from hil.virtual.provider_programs import Program, Spawn, wait_until

LIFETIME: Final = "1h"


class LeaseServer:
    """One dnsmasq that serves DHCP on one device; ``gateway`` is the next hop it tells from its next start on."""

    def __init__(self, role: str, device: str, address: str, gateway: str, spawn: Spawn, folder: Path) -> None:
        self.gateway = gateway
        self._role = role
        self._device = device
        self._address = address
        self._folder = folder
        self._program = Program(f"dhcp-{role}", spawn, folder)
        self._log = folder / f"dhcp-{role}.log"

    async def start(self) -> None:
        """Start; returns when it serves. It knows the leases of an earlier start."""
        known = self._served()
        options = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            # As root in its own namespace it needs no other user, and it finds none on a small image.
            "--user=root",
            "--group=root",
            "--pid-file=",
            "--port=0",  # names are another server's
            "--no-ping",
            "--dhcp-authoritative",
            f"--interface={self._device}",
            "--bind-interfaces",
            f"--dhcp-range={self._address},{self._address},255.255.255.0,{LIFETIME}",
            f"--dhcp-option=option:router,{self.gateway}",
            f"--dhcp-option=option:dns-server,{addresses.ISP_DNS}",
            f"--dhcp-leasefile={self._folder / f'dhcp-{self._role}.leases'}",
            "--log-facility=-",
        ]
        await self._program.start(self._role, ["dnsmasq", *options], output=self._log)
        await wait_until(lambda: self._served() > known, f"the DHCP server in {self._role}")

    async def stop(self) -> None:
        """End it; it goes on with the same leases when started again."""
        await self._program.stop()

    def _served(self) -> int:
        """How often a server has said that it serves its range."""
        return self._log.read_text().count("DHCP, IP range") if self._log.exists() else 0
