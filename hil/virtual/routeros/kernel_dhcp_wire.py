"""DHCP messages on one device (RFC 2131, RFC 2132), past address and firewall of the router, as a client must.

A client without an address sends from 0.0.0.0 (RFC 2131, section 4.1), which Linux lets nobody do but by a packet
socket; it also hears answers there that the firewall would drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7
MASK, ROUTER, NAMES, ADDRESS, LIFETIME, KIND, SERVER, WISHES = 1, 3, 6, 50, 51, 53, 54, 55
_CLIENT_PORT, _SERVER_PORT = 68, 67
_ETH_P_IP: Final = 0x0800
_EVERYBODY: Final = b"\xff" * 6
_COOKIE: Final = b"\x63\x82\x53\x63"
_BROADCAST: Final = 0x8000
_FIXED: Final = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s4s")
_IP: Final = struct.Struct(">BBHHHBBH4s4s")
_SIOCGIFHWADDR: Final = 0x8927  # linux/sockios.h
NOWHERE: Final = "0.0.0.0"
_DATAGRAM_MAX: Final = 4096

Options = dict[int, bytes]


@dataclass(frozen=True)
class Reply:
    """One answer: its kind, the address it speaks of, its options."""

    kind: int
    address: str
    options: Options

    def addresses(self, option: int) -> tuple[str, ...]:
        """The addresses an option holds."""
        data = self.options.get(option, b"")
        return tuple(socket.inet_ntoa(data[at : at + 4]) for at in range(0, len(data) - 3, 4))

    def seconds(self, option: int) -> float:
        """The time an option holds, 0 where it is not there."""
        data = self.options.get(option, b"")
        return float(struct.unpack(">I", data)[0]) if len(data) == 4 else 0.0


class Wire:
    """A packet socket on one device, open as long as an exchange takes: it hears all that comes in there."""

    def __init__(self, device: str, transaction: int) -> None:
        self._device = device
        self._transaction = transaction
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        try:
            self._socket.setblocking(False)
            self._socket.bind((device, _ETH_P_IP))
            self._hardware = _hardware(self._socket, device)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        """As it is."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, kind: int, options: Options, own: str = NOWHERE) -> None:
        """Send to every server; ``own``: the address this client has already."""
        fixed = _FIXED.pack(
            *(1, 1, 6, 0, self._transaction, 0, _BROADCAST, socket.inet_aton(own)),
            *(bytes(4), bytes(4), bytes(4), self._hardware.ljust(16, b"\0"), bytes(64), bytes(128), _COOKIE),
        )
        coded = b"".join(bytes([code, len(value)]) + value for code, value in {KIND: bytes([kind]), **options}.items())
        packet = _packet(own, fixed + coded + b"\xff")
        self._socket.sendto(packet, (self._device, _ETH_P_IP, 0, 0, _EVERYBODY))

    async def receive(self, wanted: tuple[int, ...], timeout_s: float) -> Reply | None:
        """The first answer of a wanted kind to this exchange; None after the time."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    reply = self._reply(await loop.sock_recv(self._socket, _DATAGRAM_MAX))
                    if reply is not None and reply.kind in wanted:
                        return reply
        return None

    def _reply(self, packet: bytes) -> Reply | None:
        header = (packet[0] & 15) * 4 if packet else 0
        message = packet[header + 8 :]
        if len(packet) < 28 or packet[9] != socket.IPPROTO_UDP or len(message) < _FIXED.size:
            return None
        if int.from_bytes(packet[header + 2 : header + 4]) != _CLIENT_PORT:
            return None
        fields = _FIXED.unpack_from(message)
        hardware, cookie = fields[11][:6], fields[14]
        if (fields[0], fields[4], hardware, cookie) != (2, self._transaction, self._hardware, _COOKIE):
            return None
        options = dict(_options(message[_FIXED.size :]))
        return Reply(options.get(KIND, b"\0")[0], socket.inet_ntoa(fields[8]), options)


def deaf_ear(device: str) -> socket.socket:
    """A socket that takes what servers send to the address of a client, so that nobody answers "no such port"."""
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    ear.bind((NOWHERE, _CLIENT_PORT))
    return ear


def _hardware(any_socket: socket.socket, device: str) -> bytes:
    return fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("16s24x", device.encode()))[18:24]


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        length = data[at + 1]
        yield data[at], data[at + 2 : at + 2 + length]
        at += 2 + length


def _packet(source: str, message: bytes) -> bytes:
    length = 8 + len(message)
    udp = struct.pack(">HHHH", _CLIENT_PORT, _SERVER_PORT, length, 0)  # without a checksum, which IPv4 allows
    header = _IP.pack(
        *(0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0),
        *(socket.inet_aton(source), socket.inet_aton("255.255.255.255")),
    )
    total = sum(struct.unpack(">10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:] + udp + message
