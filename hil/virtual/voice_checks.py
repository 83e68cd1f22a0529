"""Does voice work now, in every form? Named checks, each with real phones or real packets, all at once in seconds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from hil.bench import Event, Match
from hil.virtual import addresses as plan
from hil.virtual.phones import Phone
from hil.virtual.provider_programs import ProgramError

Wait = Callable[[Match, float, float], Awaitable[Event | None]]
MEDIA_PORTS: Final = {"low": plan.RELAY_PORTS[0], "high": plan.RELAY_PORTS[1], "odd": plan.ODD_MEDIA_PORT}
PHONES: Final = {"udp": "p1", "tcp": "p5", "tls": "p6"}
LIMIT_S: Final = 6.0
TALK_S: Final = 2.0
AUDIO_PACKETS_MIN: Final = 40  # of 100 in that time
MEDIA_PACKETS, MEDIA_SPACING_S, MEDIA_BACK_S = 25, 0.02, 5.0
RTP_START: Final = b"\x80\x00"
TAG_BYTES: Final = 2200  # comes back in the answer, which therefore needs fragments, too


class VoiceChecks:
    """``enter``: makes a socket in the namespace of the phone's host "ph1"."""

    def __init__(
        self, phones: Mapping[str, Phone], wait: Wait, now: Callable[[], float], enter: Callable[[], socket.socket]
    ) -> None:
        self._phones = phones
        self._wait = wait
        self._now = now
        self._enter = enter

    async def run(self) -> dict[str, bool]:
        """The checks by name, and whether each worked."""
        names = list(PHONES)
        phoned = await asyncio.gather(*(self._phone(name) for name in names))
        found = {
            f"{step}-{name}": worked
            for name, steps in zip(names, phoned, strict=True)
            for step, worked in steps.items()
        }
        # After the phones: their registrations are what a router may know a voice device by.
        ports = list(MEDIA_PORTS)
        media = await asyncio.gather(*(self._media(MEDIA_PORTS[port]) for port in ports))
        found |= {f"media-{port}": worked for port, worked in zip(ports, media, strict=True)}
        return found | {"large-invite": await self._large_invite()}

    async def _phone(self, transport: str) -> dict[str, bool]:
        """A phone is switched on, registers, calls, and hears."""
        phone = self._phones[PHONES[transport]]
        found = {"register": False, "call": False, "audio": False}
        await phone.stop()
        since_s = self._now()
        await phone.start()
        found["register"] = await self._saw("registered", phone, since_s)
        if not found["register"]:
            return found
        since_s = self._now()
        await phone.dial("far")
        found["call"] = await self._saw("answered", phone, since_s)
        if found["call"]:
            before = datagrams(phone)
            await asyncio.sleep(TALK_S)
            gained = [now - then for then, now in zip(before, datagrams(phone), strict=True)]
            found["audio"] = min(gained) >= AUDIO_PACKETS_MIN
        with contextlib.suppress(ProgramError):
            await phone.hangup()
        return found

    async def _saw(self, event: str, phone: Phone, since_s: float) -> bool:
        def match(one: Event) -> bool:
            return bool(one["source"] == "kamailio" and one["event"] == event and one["user"] == phone.spec.user)

        # Kamailio's wall time is converted by one offset: some ms of slack.
        return await self._wait(match, LIMIT_S, since_s - 0.05) is not None

    async def _media(self, port: int) -> bool:
        """Half of a stream's packets at least come back; how soon is not asked."""
        back = 0
        with contextlib.closing(self._enter()) as sender:
            sender.setblocking(False)
            sender.connect((plan.SBC, port))
            for number in range(MEDIA_PACKETS):
                with contextlib.suppress(OSError):
                    sender.send(RTP_START + number.to_bytes(2) + bytes(168))
                await asyncio.sleep(MEDIA_SPACING_S)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(MEDIA_BACK_S):
                    while back < MEDIA_PACKETS // 2:
                        back += bool(await asyncio.get_running_loop().sock_recv(sender, 2048))
        return back >= MEDIA_PACKETS // 2

    async def _large_invite(self) -> bool:
        """An INVITE of two fragments is answered, and the answer has two as well."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(self._enter()) as sender:
            sender.setblocking(False)
            sender.connect((plan.SBC, plan.SIP_PORT))
            for _ in range(3):  # as a phone would
                with contextlib.suppress(OSError, TimeoutError):
                    sender.send(large_invite(uuid.uuid4().hex, sender.getsockname()))
                    answer = await asyncio.wait_for(loop.sock_recv(sender, 1 << 16), 1.0)
                    return answer.startswith(b"SIP/2.0 ") and len(answer) > TAG_BYTES
        return False


def large_invite(number: str, source: tuple[str, int]) -> bytes:
    """To somebody whom the provider does not know: what counts is the answer, which repeats the long tag."""
    host, port = source
    lines = [
        f"INVITE sip:nobody@{plan.SBC} SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{number};rport",
        f"From: <sip:p1@{plan.SBC}>;tag={number.ljust(TAG_BYTES, 'x')}",
        f"To: <sip:nobody@{plan.SBC}>",
        f"Call-ID: {number}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:p1@{host}:{port}>",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def datagrams(phone: Phone) -> tuple[int, int]:
    """How many UDP datagrams the kernel has handed to the phone's host so far, and taken from it (RFC 4113)."""
    lines = Path(f"/proc/{phone.program.pid}/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    counted = dict(zip(names[1:], map(int, values[1:]), strict=True))
    return counted["InDatagrams"], counted["OutDatagrams"]
