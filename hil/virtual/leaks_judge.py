"""What the recording of the LTE link holds: markers of attempts, and a named class for every other packet. Pure.

Markers are looked for in each frame and in datagrams put together from their fragments. A class is decided by the
router's own address on LTE, the far host and its port: whoever sends from another address, to another host or by
another protocol is in no class.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hil.virtual import addresses as plan
from hil.virtual.emulator_packet import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ip_bytes
from hil.virtual.leaks import LABELS, Attempt, Markers

UP, DOWN = "up", "down"
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_HOP_BY_HOP: Final = 0
UNPREVENTABLE: Final = "cannot-be-prevented"
_NAMES: Final = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp6"}
_VOICE: Final = ipaddress.IPv4Network(plan.VOICE_PREFIX)
_SIP: Final = (plan.SIP_PORT, plan.SIPS_PORT)
_MAIL: Final = (465, 587)
_ERRORS: Final = (3, 11)  # unreachable, time exceeded
_ECHO: Final = {UP: 8, DOWN: 0}
_REASSEMBLY_S: Final = 30.0  # how long a fragment may wait for the others (RFC 791 asks for 15 s, Linux takes 30)


@dataclass(frozen=True)
class Frame:
    """One recorded frame."""

    t: float
    direction: str
    data: bytes


@dataclass(frozen=True)
class Packet:
    """What of an IP packet decides its class. Ports are those of its datagram, also in later fragments."""

    protocol: int
    source: str
    target: str
    source_port: int = 0
    target_port: int = 0
    icmp_type: int = -1
    quoted: Packet | None = None


@dataclass
class Tally:
    """Packets and their IP bytes."""

    packets: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """One more packet."""
        self.packets += 1
        self.size += size


@dataclass
class Findings:
    """``marked``: by attempt and label. The others: (control, direction, class or description) -> tally."""

    marked: dict[tuple[Attempt, str], Tally] = field(default_factory=dict)
    classes: dict[tuple[bool, str, str], Tally] = field(default_factory=dict)
    unclassified: dict[tuple[bool, str, str], Tally] = field(default_factory=dict)
    strange_attempts: set[Attempt] = field(default_factory=set)
    """Whose marked packets are in no class: what the classifier alone would have found."""


def judge(frames: Sequence[Frame], markers: Markers, control_s: float) -> Findings:
    """Judge a whole recording; what came before ``control_s`` was sent under the standing rules."""
    findings = Findings()
    whole = _datagrams(frames)
    for index, frame in enumerate(frames):
        packet, text = whole[index]
        name = class_of(packet, frame.direction) if packet is not None else _link_class(frame)
        size = ip_bytes(frame.data)
        control = frame.t >= control_s
        found = markers.found(text)
        for attempt, written in found:
            # What a flow still repeats from an earlier situation gets out in the control, and proves nothing else.
            label = LABELS[-1] if control else written
            findings.marked.setdefault((attempt, label), Tally()).add(size)
            if name is None:
                findings.strange_attempts.add(attempt)
        if found and not any(attempt.preventable for attempt, _ in found):
            _count(findings.classes, (control, frame.direction, UNPREVENTABLE), size)
        elif name is not None and not found:
            _count(findings.classes, (control, frame.direction, name), size)
        elif not found:
            said = described(packet) if packet is not None else f"ethertype {frame.data[12:14].hex()}"
            _count(findings.unclassified, (control, frame.direction, said), size)
    return findings


def class_of(packet: Packet, direction: str) -> str | None:
    """The class of an IP packet on the LTE link; None where it is in none."""
    near, far, far_port = _ends(packet, direction)
    if packet.protocol == ICMPV6:
        # The carrier's own neighbour discovery; nothing of the site's.
        return "carrier-neighbours" if direction == DOWN and _carriers(packet.source) else None
    if packet.protocol == UDP and {packet.source_port, packet.target_port} == {67, 68}:
        return "dhcp"
    if near == plan.ROUTER_WAN and direction == UP:
        return _stale_class(packet, far, far_port)
    if near != plan.ROUTER_LTE:
        return None
    if packet.protocol == ICMP:
        return _icmp_class(packet, direction, far)
    return _transport_class(packet.protocol, far, far_port)


def _transport_class(protocol: int, far: str, far_port: int) -> str | None:
    if far == plan.MAIL_SERVER:
        return "agent-mail" if protocol == TCP and far_port in _MAIL else None
    if far == plan.PROVIDER_DNS:
        return "voice-names" if protocol in (TCP, UDP) and far_port == 53 else None
    if _is_voice(far) and protocol in (TCP, UDP) and far_port in _SIP:
        return "voice-signalling"
    if _is_voice(far) and protocol == UDP and _is_media(far_port):
        return "voice-media"
    return None


def _stale_class(packet: Packet, far: str, far_port: int) -> str | None:
    """RouterOS 6: a phone's row keeps the dead line's address until it is removed, a moment after the lease.

    So does what a phone's kernel says of the media that still comes by that row when the phone has hung up.
    """
    protocol, quoted = packet.protocol, packet.quoted
    if protocol == ICMP and quoted is not None and quoted.target == plan.ROUTER_WAN:
        protocol, far, far_port = quoted.protocol, quoted.source, quoted.source_port
    voice = _transport_class(protocol, far, far_port) in ("voice-signalling", "voice-media")
    return "voice-stale" if voice else None


def _icmp_class(packet: Packet, direction: str, far: str) -> str | None:
    if packet.icmp_type == _ECHO[direction] and far == plan.NEUTRAL_TARGETS[2]:
        return "agent-probe"
    if packet.icmp_type in _ERRORS and packet.quoted is not None:
        # What it quotes went the other way, and must itself have had the right to.
        back = class_of(packet.quoted, UP if direction == DOWN else DOWN)
        return "icmp-errors" if back is not None else None
    return None


def described(packet: Packet) -> str:
    """For a person who wonders what it was."""
    name = _NAMES.get(packet.protocol, f"ip-{packet.protocol}")
    kind = f" type {packet.icmp_type}" if packet.icmp_type >= 0 else ""
    ends = [f"{packet.source}:{packet.source_port}", f"{packet.target}:{packet.target_port}"]
    if packet.protocol not in (TCP, UDP):
        ends = [packet.source, packet.target]
    quoted = f" about {described(packet.quoted)}" if packet.quoted is not None else ""
    return f"{name}{kind} {' > '.join(ends)}{quoted}"


def parsed(data: bytes) -> Packet | None:
    """The packet of an IPv4 or IPv6 header and what follows; None where these bytes are none."""
    if len(data) >= 40 and data[0] >> 4 == 6:
        source, target = (socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24))
        if data[6] == _HOP_BY_HOP and len(data) >= 48:  # so do reports of multicast listeners begin
            return _with_ports(data[40], source, target, data[40 + 8 * (data[41] + 1) :])
        return _with_ports(data[6], source, target, data[40:])
    header = (data[0] & 15) * 4 if data else 0
    if len(data) < 20 or data[0] >> 4 != 4 or len(data) < header:
        return None
    source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    if _offset(data):  # its ports are in another fragment
        return Packet(data[9], source, target)
    return _with_ports(data[9], source, target, data[header:])


def _with_ports(protocol: int, source: str, target: str, body: bytes) -> Packet:
    if protocol in (TCP, UDP) and len(body) >= 4:
        return Packet(protocol, source, target, int.from_bytes(body[:2]), int.from_bytes(body[2:4]))
    if protocol in (ICMP, ICMPV6) and body:
        quoted = parsed(body[8:]) if protocol == ICMP and body[0] in _ERRORS else None
        return Packet(protocol, source, target, icmp_type=body[0], quoted=quoted)
    return Packet(protocol, source, target)


def _datagrams(frames: Sequence[Frame]) -> list[tuple[Packet | None, bytes]]:
    """For each frame, its packet with the ports of its datagram, and the bytes to look for markers in."""
    found: list[tuple[Packet | None, bytes]] = []
    pieces: dict[tuple[str, bytes], list[int]] = {}
    for index, frame in enumerate(frames):
        kind, ip = frame.data[12:14], frame.data[14:]
        packet = parsed(ip) if kind in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else None
        found.append((packet, frame.data))
        if kind == ETHERTYPE_IPV4 and packet is not None and _is_fragment(ip):
            key = (frame.direction, ip[4:6] + ip[9:10] + ip[12:20])
            mates = pieces.setdefault(key, [])
            if mates and frame.t - frames[mates[0]].t > _REASSEMBLY_S:
                _join(frames, mates, found)  # the number came round again: another datagram
                mates.clear()
            mates.append(index)
    for mates in pieces.values():
        _join(frames, mates, found)
    return found


def _join(frames: Sequence[Frame], mates: Sequence[int], found: list[tuple[Packet | None, bytes]]) -> None:
    """Give each fragment the ports and the whole text of its datagram."""
    in_order = sorted(mates, key=lambda index: _offset(frames[index].data[14:]))
    text = b"".join(_body(frames[index].data[14:]) for index in in_order)
    first = found[in_order[0]][0] if not _offset(frames[in_order[0]].data[14:]) else None
    for index in mates:
        own, data = found[index]
        found[index] = (first or own, data + text)


def _body(ip: bytes) -> bytes:
    return ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4])]


def _offset(ip: bytes) -> int:
    return int.from_bytes(ip[6:8]) & 0x1FFF


def _is_fragment(ip: bytes) -> bool:
    return bool(int.from_bytes(ip[6:8]) & 0x3FFF)


def _link_class(frame: Frame) -> str | None:
    """ARP between the router and the carrier.

    A kernel asks in the name of the packet that waits: for a stale one (see above) that is the router's other address.
    """
    data = frame.data
    ends = [socket.inet_ntoa(data[at : at + 4]) for at in (28, 38) if len(data) >= 42]
    if ends and ends[frame.direction == DOWN] == plan.ROUTER_WAN:
        ends[frame.direction == DOWN] = plan.ROUTER_LTE
    own = ipaddress.IPv4Network(plan.LTE_PREFIX)
    if data[12:14] == ETHERTYPE_ARP and ends and all(ipaddress.IPv4Address(end) in own for end in ends):
        return "arp"
    return None


def _ends(packet: Packet, direction: str) -> tuple[str, str, int]:
    """The near address, the far one and the far port."""
    if direction == UP:
        return packet.source, packet.target, packet.target_port
    return packet.target, packet.source, packet.source_port


def _is_voice(address: str) -> bool:
    return ipaddress.ip_address(address) in _VOICE


def _is_media(port: int) -> bool:
    return plan.RELAY_PORTS[0] <= port <= plan.RELAY_PORTS[1] or port == plan.ODD_MEDIA_PORT


def _carriers(source: str) -> bool:
    return ipaddress.ip_address(source).is_link_local or source in ("::", plan.CARRIER_GATEWAY_V6)


def _count(tallies: dict[tuple[bool, str, str], Tally], key: tuple[bool, str, str], size: int) -> None:
    tallies.setdefault(key, Tally()).add(size)


def sizes(tallies: Iterable[tuple[str, Tally]]) -> Counter[str]:
    """Bytes by name."""
    found: Counter[str] = Counter()
    for name, tally in tallies:
        found[name] += tally.size
    return found
