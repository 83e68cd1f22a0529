"""The owner of the virtual router, at the agent's machine: his SSH login, and what he reads over it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from pathlib import Path
from typing import Final

import asyncssh

from hil.virtual import addresses as plan
from hil.virtual.provider_programs import GUARD_S
from hil.virtual.topology_netns import inside

USER: Final = "admin"
PASSWORD: Final = "owners-password-of-the-bench"  # noqa: S105  (the router lives in a namespace of the bench only)
SSH_PORT: Final = 22


class Owner:
    """His password is in a file of the bench's folder. ``host_key``: as the router shows it, ``ssh-rsa AAAA...``."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.password_file = folder / "owner.password"
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(f"{PASSWORD}\n")
        self.host_key = ""
        self._namespace = namespace

    def login_words(self) -> list[str]:
        """How ``edgeagent provision`` is told to log in as him."""
        digest = hashlib.sha256(base64.b64decode(self.host_key.split(" ")[1])).digest()
        fingerprint = base64.b64encode(digest).decode().rstrip("=")
        return [
            *("--ssh-user", USER, "--ssh-password-file", str(self.password_file)),
            *("--host-key", f"SHA256:{fingerprint}"),
        ]

    async def read(self, line: str) -> list[str]:
        """What the router prints to a command line, without carriage returns."""

        def make() -> socket.socket:
            return socket.create_connection((plan.ROUTER_LAN, SSH_PORT), GUARD_S)

        connected = await asyncio.to_thread(inside, self._namespace, make)
        connected.setblocking(False)
        known = asyncssh.import_known_hosts(f"{plan.ROUTER_LAN} {self.host_key}")
        async with asyncssh.connect(
            plan.ROUTER_LAN,
            sock=connected,
            username=USER,
            password=PASSWORD,
            known_hosts=known,
            client_keys=None,
            config=None,
        ) as connection:
            done = await connection.run(line, timeout=GUARD_S)
        return str(done.stdout).replace("\r\n", "\n").splitlines()
