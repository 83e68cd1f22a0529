"""What a frame is: its flow key and traffic class, read from the bytes alone.

Formats: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), UDP, TCP, ICMP, IPv6 (RFC 8200; addresses only), the first line of
a SIP message (RFC 3261 section 7), the payload type octet that tells RTCP from RTP (RFC 5761 section 4).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, NamedTuple

from hil.virtual import addresses

ETHERNET_BYTES: Final = 14
ETHERTYPE_IPV4: Final = b"\x08\x00"
ETHERTYPE_ARP: Final = b"\x08\x06"
ETHERTYPE_IPV6: Final = b"\x86\xdd"
ICMP, TCP, UDP = 1, 6, 17

CLASSES: Final = ("sip", "rtp", "rtcp", "icmp", "dns", "dhcp", "arp", "ipv6", "other")
PROTOCOL_NAMES: Final = {ICMP: "icmp", TCP: "tcp", UDP: "udp"}
SIP_METHODS: Final = frozenset(
    ("ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER", "REGISTER")
) | {"SUBSCRIBE", "UPDATE"}
ICMP_TYPES: Final = {0: "echo-reply", 3: "unreachable", 5: "redirect", 8: "echo", 11: "time-exceeded"}

_VOICE = ipaddress.IPv4Network(addresses.VOICE_PREFIX)
_VOICE_FIRST, _VOICE_LAST = int(_VOICE.network_address), int(_VOICE.broadcast_address)
_DHCP_PORTS = {67, 68}
_SIP_PORTS = (addresses.SIP_PORT, addresses.SIPS_PORT)
_RELAY_FIRST, _RELAY_LAST = addresses.RELAY_PORTS


class FlowKey(NamedTuple):
    """One flow in one direction. ``detail``: SIP method or "response", ICMP type name; empty elsewhere."""

    flow_class: str
    protocol: str
    src: str
    sport: int
    dst: str
    dport: int
    detail: str


def raw_key(frame: bytes) -> bytes:
    """The bytes that decide a frame's key, but for ``detail``: the cheap index of the flow table's cache."""
    kind = frame[12:14]
    if len(frame) < 34:
        return kind
    if kind == ETHERTYPE_IPV4:
        protocol = frame[23]
        if protocol in (UDP, TCP) and frame[14] == 0x45 and not (frame[20] & 0x1F or frame[21]):
            return frame[23:24] + frame[26:38]
        # Options, fragments and port-less protocols: the header length and offset belong to the index, ports do not.
        return frame[14:15] + frame[20:22] + frame[23:24] + frame[26:34] + _ports(frame)
    if kind == ETHERTYPE_ARP:
        return kind + frame[28:32] + frame[38:42]
    if kind == ETHERTYPE_IPV6:
        return kind + frame[20:21] + frame[22:54]
    return kind


def ip_bytes(frame: bytes) -> int:
    """The IP packet's length without link-layer padding; the frame's payload where it is not IPv4."""
    if frame[12:14] == ETHERTYPE_IPV4 and len(frame) >= 34:
        return min((frame[16] << 8) | frame[17], len(frame) - ETHERNET_BYTES)
    return max(len(frame) - ETHERNET_BYTES, 0)


def parse(frame: bytes) -> FlowKey:
    """The flow key of one frame."""
    kind = frame[12:14]
    if kind == ETHERTYPE_IPV4 and len(frame) >= 34:
        return _parse_ipv4(frame)
    if kind == ETHERTYPE_ARP and len(frame) >= 42:
        return FlowKey("arp", "arp", socket.inet_ntoa(frame[28:32]), 0, socket.inet_ntoa(frame[38:42]), 0, "")
    if kind == ETHERTYPE_IPV6 and len(frame) >= 54:
        source = socket.inet_ntop(socket.AF_INET6, frame[22:38])
        return FlowKey("ipv6", "ipv6", source, 0, socket.inet_ntop(socket.AF_INET6, frame[38:54]), 0, "")
    return FlowKey("other", f"ethertype-{kind.hex()}", "", 0, "", 0, "")


def detail_matters(key: FlowKey) -> bool:
    """Whether frames with this key's addresses and ports can still differ in class or ``detail``."""
    return key.protocol == "udp" and key.flow_class in ("sip", "rtp", "rtcp")


def detail_of(frame: bytes, flow_class: str) -> str:
    """What tells apart the frames :func:`detail_matters` speaks of (a plain 20-byte IPv4 header is given)."""
    if flow_class == "sip":
        return sip_method(frame[42:58])
    return "rtcp" if _is_rtcp(frame) else ""


def media_clock(frame: bytes) -> tuple[bytes, int] | None:
    """Source (SSRC) and timestamp of an RTP packet (RFC 3550 section 5.1); None where they are not to be read."""
    if frame[14] != 0x45 or len(frame) < 54:
        return None
    return frame[50:54], int.from_bytes(frame[46:50])


def sip_method(start: bytes) -> str:
    """The method of a SIP message's first bytes; "response", "keepalive" (only line ends, or STUN), or "other"."""
    if start.startswith(b"SIP/2.0"):
        return "response"
    word = start.split(b" ", 1)[0].decode("latin-1")
    if word in SIP_METHODS:
        return word
    if not start.strip(b"\r\n\0"):
        return "keepalive"
    return "keepalive" if start[0] < 4 else "other"  # STUN begins with two zero bits (RFC 8489 section 5)


def _parse_ipv4(frame: bytes) -> FlowKey:
    number = frame[23]
    protocol = PROTOCOL_NAMES.get(number, f"ip-{number}")
    source, destination = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
    if number == ICMP:
        start = 14 + (frame[14] & 15) * 4
        icmp_type = frame[start] if len(frame) > start else -1
        detail = ICMP_TYPES.get(icmp_type, f"type-{icmp_type}")
        return FlowKey("icmp", protocol, source, 0, destination, 0, detail)
    ports = _ports(frame)
    if number not in (UDP, TCP) or len(ports) < 4:
        return FlowKey("other", protocol, source, 0, destination, 0, "")
    sport, dport = int.from_bytes(ports[:2]), int.from_bytes(ports[2:])
    to_voice, from_voice = _is_voice(frame[30:34]), _is_voice(frame[26:30])
    flow_class, detail = "other", ""
    if (to_voice and dport in _SIP_PORTS) or (from_voice and sport in _SIP_PORTS):
        flow_class = "sip"
        if number == UDP:
            detail = sip_method(frame[14 + (frame[14] & 15) * 4 + 8 :][:16])
    elif number == UDP and (
        (to_voice and _RELAY_FIRST <= dport <= _RELAY_LAST) or (from_voice and _RELAY_FIRST <= sport <= _RELAY_LAST)
    ):
        flow_class = "rtcp" if _is_rtcp(frame) else "rtp"
    elif 53 in (sport, dport):
        flow_class = "dns"
    elif number == UDP and {sport, dport} == _DHCP_PORTS:
        flow_class = "dhcp"
    return FlowKey(flow_class, protocol, source, sport, destination, dport, detail)


def _ports(frame: bytes) -> bytes:
    """The four port bytes; an ICMP type's one byte; nothing in later fragments, which carry neither."""
    if frame[20] & 0x1F or frame[21]:
        return b""
    start = 14 + (frame[14] & 15) * 4
    if frame[23] == ICMP:
        return frame[start : start + 1]
    return frame[start : start + 4] if frame[23] in (UDP, TCP) else b""


def _is_voice(address: bytes) -> bool:
    return _VOICE_FIRST <= int.from_bytes(address) <= _VOICE_LAST


def _is_rtcp(frame: bytes) -> bool:
    return len(frame) > 43 and frame[42] >> 6 == 2 and 192 <= frame[43] <= 223
