"""Real SIP phones: one baresip process each, in a network namespace of its own, driven over its control port.

baresip 1.0.0 refreshes a registration at 90 % of the granted expiry and gives a REGISTER 32 s (Timer F); so a phone's
next packet after a switch comes at a time the caller chooses by when it calls :meth:`Phone.start`. Audio is G.711 from
an 8 kHz tone file (``ausine`` of 1.0.0 needs 48 kHz), 50 packets/s each way.

Events (source "phone", {user, ...}): the control port's own names in lower case, such as ``register_ok``,
``call_incoming``, ``call_established``, ``call_closed``; calls carry ``peer``, ``direction`` and ``detail``. ``t`` is
when the bench read the line, some ms after the fact.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import socket
import struct
import wave
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal

from hil.virtual import addresses
from hil.virtual.provider_events import EventLog
from hil.virtual.provider_names import SIP_NAME
from hil.virtual.provider_programs import GUARD_S, Program, ProgramError, Spawn, stop_all

CONTROL_PORT: Final = 4444
# No call lasts longer: the tone's length, of which each end of a call holds a copy in memory (14 MB for 15 minutes).
CALL_S_MAX: Final = 900


@dataclass(frozen=True)
class PhoneSpec:
    """What a phone is; all times in s."""

    name: str
    role: str
    """Whose namespace it lives in."""
    address: str
    user: str
    transport: Literal["udp", "tcp", "tls"] = "udp"
    expiry_s: int = 60
    """Asked for, and granted within the provider's limits."""
    keepalive: Literal["none", "rfc5626"] = "none"
    """"rfc5626": outbound with STUN keep-alive at the registrar's flow timer (25 s)."""
    answer: bool = True
    """Answers each call at once."""
    registrar: str = ""
    """A name to find the registrar by (RFC 3263: SRV, then A); without one its address and port."""
    resolver: str = addresses.ROUTER_LAN
    """Whom it asks, as the site's DHCP says."""


STANDARD_PHONES: Final = (
    PhoneSpec("p1", "ph1", addresses.PHONES[0], "p1", "udp", 60),
    PhoneSpec("p2", "ph2", addresses.PHONES[1], "p2", "udp", 120),
    PhoneSpec("p3", "ph3", addresses.PHONES[2], "p3", "udp", 3600, "rfc5626"),
    PhoneSpec("p4", "ph4", addresses.PHONES[3], "p4", "udp", 60),  # the one in a call
    PhoneSpec("p5", "ph5", addresses.PHONES[4], "p5", "tcp", 60),
    PhoneSpec("p6", "ph6", addresses.PHONES[5], "p6", "tls", 60),
)
# Its audio reaches the relay from the SBC's own address: both live on one machine, whose kernel picks that source.
FAR_END: Final = PhoneSpec("far", "prov", addresses.FAR_END, "far", "udp", 3600)


def by_name(spec: PhoneSpec) -> PhoneSpec:
    """The same phone, which looks its registrar up."""
    return dataclasses.replace(spec, registrar=SIP_NAME)


class CallState(Enum):
    """Of a phone's newest call."""

    IDLE = "idle"
    RINGING = "ringing"
    """Dialled or being dialled, not yet answered."""
    ESTABLISHED = "established"


class Phone:
    """One baresip: its process, its control connection and what it has told."""

    def __init__(
        self, spec: PhoneSpec, spawn: Spawn, folder: Path, events: EventLog | None = None, tone: Path | None = None
    ) -> None:
        self.spec = spec
        self.folder = folder / spec.name
        self.program = Program(f"phone-{spec.name}", spawn, self.folder)
        self._events = events
        self._tone = tone if tone is not None else folder / "tone.wav"
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._token = 0
        self._changed = asyncio.Event()
        self._calls: dict[str, CallState] = {}
        self._registered = False

    async def start(self) -> None:
        """Start now; returns when it can be controlled (about 0.1 s). It registers at once, by itself."""
        write_tone(self._tone)
        _write_folder(self.spec, self.folder, self._tone)
        self._calls, self._registered = {}, False
        command = ["/bin/sh", "-c", 'cd "$1" && exec baresip -f .', "sh", str(self.folder)]
        await self.program.start(self.spec.role, command)
        reader = await self._connect()
        self._reader_task = asyncio.get_running_loop().create_task(self._read(reader))

    async def stop(self, *, unregister: bool = False) -> None:
        """End it. By default as a power cut does; with ``unregister`` it says goodbye (up to 4 s)."""
        # Still connected during the grace time, so that the goodbye's events are seen.
        await self.program.stop(grace_s=4.0 if unregister else 0.0)
        task, self._reader_task = self._reader_task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._close()
        self._calls, self._registered = {}, False

    @property
    def call_state(self) -> CallState:
        """Of the newest call, as of the last event."""
        return next(reversed(self._calls.values()), CallState.IDLE)

    def has_call(self, call_id: str) -> bool:
        """Whether a call with this Call-ID (RFC 3261, section 8.1.1.4) is dialled, rings or is up."""
        return call_id in self._calls

    @property
    def registered(self) -> bool:
        """The phone's own belief: its last REGISTER was answered with 200. The provider's bindings are the truth."""
        return self._registered

    async def wait_registered(self, timeout_s: float = GUARD_S) -> None:
        """Return once registered; TimeoutError after ``timeout_s``."""
        if not self._registered and "OK" in await self.reginfo():
            self._registered = True  # the answer came before the control connection stood
        async with asyncio.timeout(timeout_s):
            while not self._registered:
                await self._wait_change()

    async def wait_call(self, state: CallState, timeout_s: float) -> None:
        """Return once the call state is that; TimeoutError after ``timeout_s``."""
        async with asyncio.timeout(timeout_s):
            while self.call_state is not state:
                await self._wait_change()

    async def dial(self, target: str) -> None:
        """Call a user of the provider (``far``, ``p1``) over this phone's own transport, or a whole SIP URI."""
        # baresip adds the transport of its account by itself.
        ours = uri(target, self.spec.transport, self.spec.registrar).partition(";")[0]
        whole = target if ":" in target else ours
        await self.command("dial", whole)

    async def hangup(self) -> None:
        """End the current call (BYE, or CANCEL before the answer)."""
        await self.command("hangup")

    async def calls(self) -> str:
        """baresip's list of calls, as it prints it."""
        return await self.command("listcalls")

    async def call_statistics(self) -> str:
        """baresip's statistics of the current call, as it prints them."""
        return await self.command("callstat")

    async def reginfo(self) -> str:
        """baresip's registration status, as it prints it."""
        return await self.command("reginfo")

    async def command(self, name: str, parameters: str = "") -> str:
        """One command of baresip's menu over its control port; the text it prints, without colours."""
        if self._writer is None:
            raise ProgramError(f"phone {self.spec.name} is not running")
        self._token += 1
        token = str(self._token)
        message = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        answer = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            self._writer.write(b"%d:%s," % (len(message), message))
            async with asyncio.timeout(GUARD_S):
                text: str = await answer
        except TimeoutError:
            raise ProgramError(f"phone {self.spec.name} does not answer {name!r} within {GUARD_S:g} s") from None
        finally:
            self._waiting.pop(token, None)
        return re.sub(r"\x1b\[[\d;]*[a-zA-Z]", "", text)

    async def _connect(self) -> asyncio.StreamReader:
        """Open the control connection from inside the phone's namespace: to the LAN it is just another packet."""
        target = (self.spec.address, CONTROL_PORT)
        until = asyncio.get_running_loop().time() + GUARD_S
        while True:
            try:
                raw = self.program.in_namespace(lambda: socket.create_connection(target, 1.0))
                break
            except OSError as error:
                if not self.program.running or asyncio.get_running_loop().time() > until:
                    code = self.program.exit_code
                    raise ProgramError(f"phone {self.spec.name} has no control port ({error}); exit {code}") from error
                await asyncio.sleep(0.02)
        raw.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=raw)
        return reader

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Netstrings (``LENGTH:JSON,``) until the phone goes."""
        try:
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                self._on_message(json.loads((await reader.readexactly(length + 1))[:-1].decode("utf-8", "replace")))
        except (asyncio.IncompleteReadError, OSError):
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ProgramError(f"phone {self.spec.name} closed its control connection"))

    def _on_message(self, message: dict[str, Any]) -> None:
        if message.get("response"):
            answer = self._waiting.get(str(message.get("token")))
            if answer is not None and not answer.done():
                answer.set_result(str(message.get("data", "")))
        elif message.get("event"):
            self._on_event(str(message.get("type", "")), message)

    def _on_event(self, kind: str, message: dict[str, Any]) -> None:
        call_id = str(message.get("id", ""))
        if kind == "CALL_CLOSED":
            self._calls.pop(call_id, None)
        elif kind in _STATES:
            self._calls[call_id] = _STATES[kind]
        self._registered = _REGISTRATIONS.get(kind, self._registered)
        if self._events is not None and kind not in _UNTOLD:
            fields: dict[str, object] = {"user": self.spec.user}
            for ours, theirs in (("peer", "peeruri"), ("direction", "direction"), ("detail", "param")):
                if message.get(theirs):
                    fields[ours] = message[theirs]
            self._events.add("phone", kind.lower(), None, **fields)
        self._changed.set()

    async def _wait_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


_STATES: Final = {
    "CALL_OUTGOING": CallState.RINGING,
    "CALL_INCOMING": CallState.RINGING,
    "CALL_RINGING": CallState.RINGING,
    "CALL_PROGRESS": CallState.RINGING,
    "CALL_ESTABLISHED": CallState.ESTABLISHED,
}
_REGISTRATIONS: Final = {
    "REGISTER_OK": True,
    "REGISTER_FAIL": False,
    "UNREGISTERING": False,
}
# Told every few seconds for as long as a call lasts; rtpengine's counters say the same better.
_UNTOLD: Final = frozenset({"CALL_RTCP", "VU_TX", "VU_RX"})


async def stop_phones(phones: list[Phone], *, unregister: bool = False) -> None:
    """End them all at once."""
    await stop_all([phone.stop(unregister=unregister) for phone in phones])


def uri(user: str, transport: str = "udp", registrar: str = "") -> str:
    """The SIP URI of one of the provider's users, as a phone of that transport must write it.

    With the name of a ``registrar`` it has no port, for a port would mean that its SRV record is not looked up.
    """
    port = f":{addresses.SIPS_PORT}" if transport == "tls" and not registrar else ""
    return f"sip:{user}@{registrar or addresses.SBC}{port};transport={transport}"


def write_tone(path: Path, *, seconds: int = CALL_S_MAX) -> None:
    """An 8 kHz mono 16-bit tone of 440 Hz, made once. baresip hangs up when it has played to the end of the file."""
    if path.exists():
        return
    rate = 8000
    samples = [int(8000 * math.sin(2 * math.pi * 440 * index / rate)) for index in range(rate)]
    second = struct.pack(f"<{rate}h", *samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".new")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(second * seconds)
    partial.replace(path)


def _write_folder(spec: PhoneSpec, folder: Path, tone: Path) -> None:
    """baresip's folder, in which it runs; the options are 1.0.0's (its own template, ``baresip -f EMPTY``)."""
    low, high = addresses.PHONE_RTP_PORTS
    modules = ("g711", "aufile", "stun", "uuid")
    applications = ("account", "menu", "ctrl_tcp")
    config = [
        "poll_method epoll",
        # By address, not by interface: the far end's interface has several.
        f"net_interface {spec.address}",
        # The far end takes the calls of the whole site; the default is 4.
        "call_max_calls 16",
        "statmode_default off",  # else eight lines of status a second in the log
        f"sip_listen {spec.address}:{addresses.SIP_PORT}",
        f"sip_trans_def {spec.transport}",
        f"rtp_ports {low}-{high}",
        # From the phone's own folder: baresip cuts such a path off at 128 bytes, and a phone without its tone rings on.
        f"audio_source aufile,{os.path.relpath(tone, folder)}",
        "audio_player aufile,heard.wav",
        "audio_alert aufile,alert.wav",
        f"ctrl_tcp_listen {spec.address}:{CONTROL_PORT}",
        f"module_path {_module_folder()}",
        *(f"module {name}.so" for name in modules),
        *(f"module_app {name}.so" for name in applications),
    ]
    if spec.registrar:
        config.append(f"dns_server {spec.resolver}:53")
    account = f"<{uri(spec.user, spec.transport, spec.registrar)}>;auth_pass=none;regint={spec.expiry_s}"
    if spec.keepalive == "rfc5626":
        proxy = uri(spec.user, spec.transport, spec.registrar).replace(f"{spec.user}@", "")
        account += f';sipnat=outbound;outbound="{proxy}"'
    if spec.answer:
        account += ";answermode=auto"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("\n".join(config) + "\n")
    (folder / "accounts").write_text(account + "\n")
    (folder / "contacts").write_text("")


def _module_folder() -> Path:
    """Debian puts baresip's modules in one of these, by version."""
    for candidate in (Path("/usr/lib/baresip/modules"), *sorted(Path("/usr/lib").glob("*/baresip/modules"))):
        if candidate.is_dir():
            return candidate
    where = shutil.which("baresip")
    raise ProgramError(f"no baresip modules below /usr/lib (baresip: {where}); install the package baresip-core")
