"""Name servers of the bench: the provider's own and the ISP's, both dnsmasq without any upstream."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hil.virtual import addresses
from hil.virtual.provider_programs import Program, Spawn, wait_until

TTL_S: Final = 30  # what hosted providers give their SRV records, so that they can move
SIP_NAME: Final = "sip.provider.example"
MAIL_NAME: Final = "mail.provider.example"

PROVIDER_NAMES: Final[Mapping[str, str]] = {SIP_NAME: addresses.SBC, MAIL_NAME: addresses.MAIL_SERVER}
ISP_NAMES: Final[Mapping[str, str]] = {**PROVIDER_NAMES, "www.example.net": addresses.NEUTRAL_TARGETS[0]}


class NameServer:
    """One dnsmasq answering A for the given names and, for the provider's SIP name, SRV; every other name NXDOMAIN."""

    def __init__(
        self, name: str, role: str, address: str, spawn: Spawn, folder: Path, names: Mapping[str, str]
    ) -> None:
        self.program = Program(name, spawn, folder)
        self.address = address
        self._role = role
        self._names = dict(names)

    async def start(self) -> None:
        """Start; returns when it answers."""
        options = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            # As root in its own namespace it needs no other user, and it finds none on a small image.
            "--user=root",
            "--group=root",
            "--pid-file=",
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
            "--bind-interfaces",
            "--log-facility=-",
            f"--local-ttl={TTL_S}",
            "--address=/#/",  # NXDOMAIN for every other name, where no upstream would mean REFUSED
            f"--listen-address={self.address}",
        ]
        options += [f"--host-record={name},{address}" for name, address in self._names.items()]
        if SIP_NAME in self._names:
            for service, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061)):
                options.append(f"--srv-host={service}.{SIP_NAME},{SIP_NAME},{port}")
        await self.program.start(self._role, ["dnsmasq", *options])
        await wait_until(self._answers, f"the name server on {self.address}")

    async def stop(self) -> None:
        """End it; questions then meet a closed port."""
        await self.program.stop()

    def ask(self, name: str, kind: int = 1, *, timeout_s: float = 1.0) -> bytes:
        """The raw reply to one question from inside the server's namespace; kind 1 is A, 33 is SRV (RFC 1035, 2782)."""
        with self.program.in_namespace(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(timeout_s)
            client.connect((self.address, 53))
            client.send(question(name, kind))
            return client.recv(4096)

    def _answers(self) -> bool:
        try:
            return len(self.ask(next(iter(self._names)), timeout_s=0.2)) > 0
        except OSError:
            return False


def question(name: str, kind: int = 1) -> bytes:
    """A question for one name; kinds as in :meth:`NameServer.ask`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">2H", kind, 1)
