"""The provider's SBC: Kamailio as registrar and proxy, its bindings read from it, its happenings as events.

Events (source "kamailio", ``t`` converted from the wall time Kamailio logs, see provider_events.py):
``registered`` {user, address, port, transport, expires_s} and ``unregistered`` {user, address, port, transport};
``invite``, ``answered``, ``ack``, ``bye``, ``reinvite`` {user, peer, call_id}: ``user`` is the From user of that
request, so of a ``bye`` the side that hung up.
"""

from __future__ import annotations

import json
import re
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hil.virtual import addresses
from hil.virtual.provider_events import EventLog, LineTail
from hil.virtual.provider_programs import Program, ProgramError, Spawn, run_in, wait_until

MIN_EXPIRES_S: Final = 10
MAX_EXPIRES_S: Final = 7200
DEFAULT_EXPIRES_S: Final = 3600
FLOW_TIMER_S: Final = 25  # RFC 5626 section 4.4.1: what the registrar tells phones with outbound to keep to

_TEMPLATE: Final = Path(__file__).with_name("templates") / "kamailio.cfg"
_MARK: Final = "EDGEEV "
_ANSWER_S: Final = 10.0
_PAUSE_TABLE: Final = "ebt_pause"


@dataclass(frozen=True)
class Binding:
    """Where Kamailio would send a call for one user at this moment."""

    user: str
    contact: str
    """The Contact as the phone wrote it; behind NAT its private address."""
    address: str
    """Source address of the REGISTER as the SBC saw it, after NAT."""
    port: int
    transport: str
    """udp, tcp or tls."""
    expires_s: int
    """Seconds left at the time of reading."""
    granted_s: int
    """What the last accepted REGISTER was granted, from Kamailio's whole seconds: exact to 1 s."""
    modified_t: float
    """Last accepted REGISTER in s, CLOCK_MONOTONIC; Kamailio keeps whole wall seconds, so up to 1 s early."""


class SipServer:
    """Kamailio in role "prov". Registrations are taken without a password; calls go to ``p1``... and ``far``."""

    def __init__(
        self, spawn: Spawn, folder: Path, events: EventLog, certificate: Path, key: Path, media_flags: str = ""
    ) -> None:
        self.program = Program("kamailio", spawn, folder)
        self._spawn = spawn
        self._folder = folder
        self._events = events
        self._certificate = certificate
        self._key = key
        self._media_flags = f" {media_flags}" if media_flags else ""
        self._output = folder / "kamailio.out"
        self._tail = LineTail(self._output, self._on_line)
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self._paused = False

    async def start(self) -> None:
        """Start; returns when Kamailio answers on its control socket. It knows no binding from an earlier run."""
        # Socket names have room for 107 characters (unix(7)): the bench's own folder may be deeper than that.
        self._sockets = tempfile.TemporaryDirectory(prefix="ebt-kam-")
        config = self._folder / "kamailio.cfg"
        config.write_text(self._config())
        argv = ["kamailio", "-DD", "-E", "-f", str(config), "-Y", self._sockets.name]
        await self.program.start("prov", argv, output=self._output)
        self._tail.start()
        try:
            await wait_until(self._answers, "Kamailio's control socket")
        except ProgramError as error:
            raise ProgramError(f"{error}; Kamailio said: {self._output.read_text()[-2000:]}") from None

    async def stop(self) -> None:
        """The servers fail hard: packets to them meet closed ports. Ends every process; forgets the bindings."""
        # SIGTERM first: after a SIGKILL to the parent its children would go on answering.
        await self.program.stop(grace_s=1.0)
        await self._tail.stop()
        if self._sockets is not None:
            self._sockets.cleanup()
            self._sockets = None

    async def pause(self, *, answer_ping: bool = True) -> None:
        """The servers fail silently: nothing reaches or leaves the SBC's address, bindings are kept (clause P9).

        ``answer_ping``: the machine still answers echo requests, only its services are dead.
        """
        await self.resume()
        spare = "meta l4proto != icmp " if answer_ping else ""
        rules = f"""table ip {_PAUSE_TABLE} {{
            chain incoming {{
                type filter hook input priority 0
                ip daddr {addresses.SBC} {spare}drop
            }}
            chain outgoing {{
                type filter hook output priority 0
                ip saddr {addresses.SBC} {spare}drop
            }}
        }}"""
        await run_in(self._spawn, "prov", ["nft", rules], "nft")
        self._paused = True
        self._events.add("bench", "provider_paused", answer_ping=answer_ping)

    async def resume(self) -> None:
        """End a pause."""
        if self._paused:
            await run_in(self._spawn, "prov", ["nft", "delete", "table", "ip", _PAUSE_TABLE], "nft")
            self._paused = False
            self._events.add("bench", "provider_resumed")

    def ignore_options(self, ignore: bool) -> None:
        """From now on leave OPTIONS without any answer, or answer them again with 200."""
        self._rpc("pv.shvSet", "ignore_options", "int", int(ignore))
        self._events.add("bench", "options_ignored" if ignore else "options_answered")

    def bindings(self) -> list[Binding]:
        """Every live binding, asked of Kamailio itself (about 1 ms); ProgramError when it does not answer."""
        answer = self._rpc("ul.dump")
        wall, mono = time.time(), time.monotonic()
        found = []
        for domain in answer.get("Domains", []):
            for record in domain["Domain"]["AoRs"]:
                for contact in record["Info"]["Contacts"]:
                    binding = _binding(record["Info"]["AoR"], contact["Contact"], wall, mono)
                    if binding is not None:
                        found.append(binding)
        return sorted(found, key=lambda binding: (binding.user, binding.contact))

    def _config(self) -> str:
        assert self._sockets is not None
        values = {
            "SBC": addresses.SBC,
            "MODULES": str(_modules_folder()) + "/",
            "CERTIFICATE": str(self._certificate),
            "KEY": str(self._key),
            "CONTROL": f"{self._sockets.name}/control",
            "DEFAULT_EXPIRES": str(DEFAULT_EXPIRES_S),
            "MIN_EXPIRES": str(MIN_EXPIRES_S),
            "MAX_EXPIRES": str(MAX_EXPIRES_S),
            "FLOW_TIMER": str(FLOW_TIMER_S),
            "MEDIA_FLAGS": self._media_flags,
        }
        return fill(_TEMPLATE.read_text(), values)

    def _answers(self) -> bool:
        if not self.program.running:
            raise ProgramError(f"Kamailio ended with code {self.program.exit_code}")
        try:
            self._rpc("core.version")
        except ProgramError:
            return False
        return True

    def _rpc(self, method: str, *parameters: object) -> Any:
        """One JSON-RPC call over Kamailio's datagram socket (module jsonrpcs, transport 4)."""
        if self._sockets is None:
            raise ProgramError("Kamailio is not running")
        folder = Path(self._sockets.name)
        reply_path = folder / f"reply-{time.monotonic_ns()}"
        request = {"jsonrpc": "2.0", "method": method, "params": list(parameters), "id": 1}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(_ANSWER_S)
            try:
                client.bind(str(reply_path))
                client.connect(str(folder / "control"))
                client.send(json.dumps(request).encode())
                answer = json.loads(client.recv(1 << 20))
            except OSError as error:
                raise ProgramError(f"Kamailio does not answer {method}: {error}") from error
            finally:
                reply_path.unlink(missing_ok=True)
        if "error" in answer:
            raise ProgramError(f"Kamailio refuses {method}: {answer['error']}")
        return answer["result"]

    def _on_line(self, line: str) -> None:
        _, mark, text = line.partition(_MARK)
        if not mark:
            return
        wall, kind, *fields = text.split(" ")
        t = self._events.to_mono(float(wall))
        if kind == "register":
            self._on_register(t, fields)
        else:
            user, peer, call_id = fields
            self._events.add("kamailio", kind, t, user=user, peer=peer, call_id=call_id)

    def _on_register(self, t: float, fields: list[str]) -> None:
        user, address, port, transport, header, _, *contact = fields
        where: dict[str, object] = {"user": user, "address": address, "port": int(port), "transport": transport}
        asked_s = asked_expiry_s(header, " ".join(contact))
        if asked_s == 0:
            self._events.add("kamailio", "unregistered", t, **where)
        else:
            granted_s = min(max(asked_s, MIN_EXPIRES_S), MAX_EXPIRES_S)
            self._events.add("kamailio", "registered", t, **where, expires_s=granted_s)


def fill(template: str, values: dict[str, str]) -> str:
    """``template`` with each @NAME@ replaced; a name without a value is an error (KeyError)."""
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], template)


def asked_expiry_s(header: str, contact: str) -> int:
    """The expiry in s a REGISTER asks for: the Contact's own before the Expires header (RFC 3261, 10.2.1.1)."""
    match = re.search(r";\s*expires=(\d+)", contact, re.IGNORECASE)
    if match:
        return int(match[1])
    return int(header) if header.isdigit() else DEFAULT_EXPIRES_S


def _binding(user: str, contact: dict[str, Any], wall: float, mono: float) -> Binding | None:
    """One row of ul.dump; None for one that is no longer valid."""
    if not isinstance(contact["Expires"], int):  # "expired", "deleted", "permanent"
        return None
    received = str(contact["Received"])
    source = received if received.startswith("sip") else str(contact["Address"])
    match = re.match(r"sips?:(?:[^@;]*@)?([\d.]+)(?::(\d+))?", source)
    if match is None:
        raise ProgramError(f"Kamailio's binding of {user!r} has an unreadable source {source!r}")
    transport = re.search(r";transport=(\w+)", source)
    modified = int(contact["Last-Modified"])
    return Binding(
        user=user,
        contact=str(contact["Address"]),
        address=match[1],
        port=int(match[2] or addresses.SIP_PORT),
        transport=transport[1].lower() if transport else "udp",
        expires_s=contact["Expires"],
        granted_s=contact["Expires"] + int(wall) - modified,
        modified_t=modified - (wall - mono),
    )


def _modules_folder() -> Path:
    """Debian's module folder, which is named after the architecture."""
    found = sorted(Path("/usr/lib").glob("*/kamailio/modules"))
    if not found:
        raise ProgramError("no Kamailio modules in /usr/lib/*/kamailio/modules; install the package kamailio")
    return found[0]
