"""Raw IP packets of the attempts, headers included. Pure.

Formats: IPv4 (RFC 791), UDP (RFC 768), TCP (RFC 9293), ICMP (RFC 792), DNS (RFC 1035), SCTP (RFC 9260), IPv6 (RFC
8200), ICMPv6 (RFC 4443). A TCP packet is a SYN with data, so that the marker is in the first packet already. Every
builder takes the source address ("0.0.0.0": the kernel's choice), a marker and what the attempt says under ``where``.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

FRAGMENT_BYTES: Final = 1400  # a multiple of eight
RECORD_ROUTE: Final = b"\x07\x07\x04\0\0\0\0\x01"
Packets = list[bytes]


def udp(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One datagram."""
    return [_ipv4(source, where, 17, _udp(where["port"], _text(marker, where), _port(marker)))]


def tcp(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One SYN with data."""
    body = b"GET /" + marker + b" HTTP/1.1\r\n\r\n"
    return [_ipv4(source, where, 6, _tcp(_pseudo4(source, where["to"]), _port(marker), where["port"], body))]


def icmp(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One echo request."""
    body = struct.pack("!BBHHH", 8, 0, 0, _port(marker), 1) + marker * 4
    return [_ipv4(source, where, 1, _with_sum(body, 2))]


def dns(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One question; ``kind``: A is 1, TXT is 16; ``fill``: so many more labels of data."""
    labels = [marker, *[b"x" * 60] * where.get("fill", 0), b"tunnel", b"example"]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    body = struct.pack("!6H", _port(marker), 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", where.get("kind", 1), 1)
    return [_ipv4(source, where, 17, _udp(53, body, _port(marker)))]


def ip(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One packet of a protocol without a builder of its own."""
    return [_ipv4(source, where, where["protocol"], where.get("start", b"").ljust(8, b"\0") + marker * 4)]


def sctp(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One INIT chunk with a parameter that holds the marker."""
    parameter = struct.pack("!HH", 0x8008, 4 + len(marker)) + marker.ljust((len(marker) + 3) // 4 * 4, b"\0")
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20 + len(parameter), 1, 65535, 1, 1, 1) + parameter
    header = struct.pack("!HHI", _port(marker), where["port"], 0)
    checksum = _crc32c(header + bytes(4) + chunk)
    return [_ipv4(source, where, 132, header + struct.pack("<I", checksum) + chunk)]


def fragments(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """A datagram of 3,000 bytes in three fragments, each full of markers."""
    whole = _udp(where["port"], marker * (3000 // len(marker)), _port(marker))
    number = zlib.crc32(marker) & 0xFFFF or 1
    return [
        _ipv4(source, where, 17, whole[at : at + FRAGMENT_BYTES], number, (at, at + FRAGMENT_BYTES < len(whole)))
        for at in range(0, len(whole), FRAGMENT_BYTES)
    ]


def options(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One datagram that asks every router on its way to write down its address."""
    return [_ipv4(source, where, 17, _udp(where["port"], marker * 4, _port(marker)), options=RECORD_ROUTE)]


def udp6(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One datagram."""
    return [_ipv6(source, where["to"], 17, _udp(where["port"], marker * 4, _port(marker), _pseudo6(source, where)))]


def tcp6(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One SYN with data."""
    return [_ipv6(source, where["to"], 6, _tcp(_pseudo6(source, where), _port(marker), where["port"], marker * 4))]


def icmp6(source: str, marker: bytes, where: Mapping[str, Any]) -> Packets:
    """One echo request."""
    body = struct.pack("!BBHHH", 128, 0, 0, _port(marker), 1) + marker * 4
    pseudo = _pseudo6(source, where)(58, len(body))
    return [_ipv6(source, where["to"], 58, _with_sum(body, 2, pseudo))]


BUILDERS: Final[Mapping[str, Callable[[str, bytes, Mapping[str, Any]], Packets]]] = {
    build.__name__: build for build in (udp, tcp, icmp, dns, ip, sctp, fragments, options, udp6, tcp6, icmp6)
}


def checksum(data: bytes) -> int:
    """The internet's checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


Pseudo = Callable[[int, int], bytes]


def _ipv4(
    source: str,
    where: Mapping[str, Any],
    protocol: int,
    body: bytes,
    number: int = 0,
    fragment: tuple[int, bool] = (0, False),
    options: bytes = b"",
) -> bytes:
    """The header's checksum, and a number of zero, are the kernel's business (raw(7), IP_HDRINCL)."""
    at, more = fragment
    length, words = 20 + len(options) + len(body), 5 + len(options) // 4
    offset = at // 8 | (0x2000 if more else 0)
    ends = socket.inet_aton(source) + socket.inet_aton(where["to"])
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, number, offset, where.get("ttl", 64), protocol, 0)
    return header + ends + options + body


def _ipv6(source: str, target: str, protocol: int, body: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return struct.pack("!IHBB", 0x60000000, len(body), protocol, 64) + ends + body


def _udp(port: int, body: bytes, source_port: int, pseudo: Pseudo | None = None) -> bytes:
    """IPv4 does without a checksum."""
    plain = struct.pack("!HHHH", source_port, port, 8 + len(body), 0) + body
    return plain if pseudo is None else _with_sum(plain, 6, pseudo(17, len(plain)))


def _tcp(pseudo: Pseudo, source_port: int, port: int, body: bytes) -> bytes:
    plain = struct.pack("!HHIIBBHHH", source_port, port, 1000, 0, 5 << 4, 0x02, 64240, 0, 0) + body
    return _with_sum(plain, 16, pseudo(6, len(plain)))


def _pseudo4(source: str, target: str) -> Pseudo:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return lambda protocol, length: ends + struct.pack("!BBH", 0, protocol, length)


def _pseudo6(source: str, where: Mapping[str, Any]) -> Pseudo:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, where["to"])
    return lambda protocol, length: ends + struct.pack("!II", length, protocol)


def _with_sum(body: bytes, at: int, pseudo: bytes = b"") -> bytes:
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]


def _text(marker: bytes, where: Mapping[str, Any]) -> bytes:
    start: bytes = where.get("start", b"")
    return start + marker * 4


def _port(marker: bytes) -> int:
    """A source port of the attempt's own in its situation, so that no two share a row of the connection table."""
    return 20000 + zlib.crc32(marker) % 40000


def _crc32c(data: bytes) -> int:
    """CRC32c, bit by bit (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
