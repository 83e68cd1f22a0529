"""The network card's addresses and the kernel's ping group, by iproute2 and packet sockets. Needs root.

An address is checked before it is used: ARP probes as RFC 5227 wants them (section 2.1.1), all addresses at once, and
announcements afterwards (section 2.3), so that a neighbour's stale entry does not swallow the first answers.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from msgspec import Struct

from edgeagent.host import clock

# RFC 5227, section 1.1; seconds.
PROBE_WAIT_S, PROBE_MIN_S, PROBE_MAX_S, ANNOUNCE_WAIT_S, ANNOUNCE_INTERVAL_S = 1.0, 1.0, 2.0, 2.0, 2.0
PROBES = 3
ANNOUNCEMENTS = 2

COMMAND_S = 10.0
PING_GROUPS = Path("/proc/sys/net/ipv4/ping_group_range")  # of this process's network namespace; see icmp(7)
NOBODY = (1, 0)  # the kernel's default, an empty range

_LABEL = ":edge"
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"  # hardware type, protocol type and their lengths (RFC 826)
_REQUEST = b"\x00\x01"
_NOWHERE = bytes(4)


class AddressError(OSError):
    """iproute2 would not; the text is what it said."""


class Card(Struct, frozen=True):
    """A network card. ``running``: up, with a carrier. ``labelled``: those of its addresses that bear our label."""

    name: str
    mac: str
    running: bool
    addresses: tuple[IPv4Interface, ...]
    labelled: tuple[IPv4Interface, ...]

    def has(self, address: str) -> bool:
        """Whether it holds this address, with whatever prefix."""
        return any(own.ip == IPv4Address(address) for own in self.addresses)


def cards() -> list[Card]:
    """Every network card that there is now."""
    return [_card(row) for row in json.loads(_ip("-json", "address", "show")) if row]


def add(card: Card, address: IPv4Interface) -> None:
    """Put an address on the card until the next boot. Labelled where the name leaves room (ip-address(8))."""
    label = f"{card.name}{_LABEL}"
    _ip("address", "add", str(address), "dev", card.name, *(("label", label) if len(label) < 16 else ()))


def remove(card: Card, address: IPv4Interface) -> None:
    """Take an address off the card."""
    _ip("address", "del", str(address), "dev", card.name)


def duplicates(card: Card, addresses: Iterable[str]) -> dict[str, str]:
    """Which of these another machine on the card's network uses or is about to use, with its MAC. Takes 4 to 7 s."""
    wanted = {IPv4Address(address).packed: address for address in addresses}
    found: dict[str, str] = {}
    with _arp_socket(card) as arp:
        _listen(arp, card, wanted, found, PROBE_WAIT_S * _chance())
        for number in range(PROBES):
            for packed in wanted:
                _send(arp, card, _NOWHERE, packed)
            last = number == PROBES - 1
            pause_s = ANNOUNCE_WAIT_S if last else PROBE_MIN_S + (PROBE_MAX_S - PROBE_MIN_S) * _chance()
            _listen(arp, card, wanted, found, pause_s)
    return found


def announce(card: Card, addresses: Iterable[str]) -> None:
    """Tell the neighbours who has these addresses now."""
    packed = [IPv4Address(address).packed for address in addresses]
    with _arp_socket(card) as arp:
        for number in range(ANNOUNCEMENTS):
            if number:
                pause(ANNOUNCE_INTERVAL_S)
            for one in packed:
                _send(arp, card, one, one)


def pause(seconds: float) -> None:
    """Let time pass."""
    select.select([], [], [], seconds)


def allow_pings(group: int) -> tuple[int, int] | None:
    """Let this group open ICMP sockets. Returns a foreign range that leaves it out, which stays as it is, else None."""
    low, high = ping_groups()
    if low <= group <= high:
        return None
    if low <= high:
        return low, high
    PING_GROUPS.write_text(f"{group} {group}\n", encoding="ascii")
    return None


def forbid_pings(group: int) -> None:
    """Undo :func:`allow_pings`; a range that is not ours stays."""
    if ping_groups() == (group, group):
        PING_GROUPS.write_text("{} {}\n".format(*NOBODY), encoding="ascii")


def ping_groups() -> tuple[int, int]:
    """The first and the last group that may open ICMP sockets; empty where the first is greater."""
    low, high = PING_GROUPS.read_text(encoding="ascii").split()
    return int(low), int(high)


def conflicting(packet: bytes, own_mac: bytes, wanted: Iterable[bytes]) -> tuple[bytes, str] | None:
    """The address that an ARP packet disputes, and by whom (RFC 5227, section 2.1.1); None where it does not.

    It does if another sends it from the address, whatever it asks or answers, or probes for the address itself.
    """
    if len(packet) < 28 or packet[:6] != _ETHERNET_IPV4 or packet[8:14] == own_mac:
        return None
    sender, target = packet[14:18], packet[24:28]
    for packed in wanted:
        if sender == packed or (packet[6:8] == _REQUEST and sender == _NOWHERE and target == packed):
            return packed, packet[8:14].hex(":")
    return None


def _card(row: dict[str, Any]) -> Card:
    held = [
        (IPv4Interface(f"{one['local']}/{one['prefixlen']}"), one.get("label", ""))
        for one in row.get("addr_info", ())
        if one.get("family") == "inet"
    ]
    return Card(
        name=row["ifname"],
        mac=row.get("address", ""),
        running="LOWER_UP" in row.get("flags", ()),
        addresses=tuple(address for address, _ in held),
        labelled=tuple(address for address, label in held if label.endswith(_LABEL)),
    )


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise AddressError(f"ip {' '.join(arguments)}: no answer in {COMMAND_S:.0f} s") from error
    if done.returncode != 0:
        raise AddressError(f"ip {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout


def _arp_socket(card: Card) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ARP))
    try:
        found.bind((card.name, _ETH_P_ARP))
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found


def _send(arp: socket.socket, card: Card, sender: bytes, target: bytes) -> None:
    packet = _ETHERNET_IPV4 + _REQUEST + _mac(card) + sender + bytes(6) + target
    arp.sendto(packet, (card.name, _ETH_P_ARP, 0, 0, _BROADCAST))


def _listen(arp: socket.socket, card: Card, wanted: dict[bytes, str], found: dict[str, str], seconds: float) -> None:
    end_s = clock.mono_s() + seconds
    while (left_s := end_s - clock.mono_s()) > 0:
        if not select.select([arp], [], [], left_s)[0]:
            return
        disputed = conflicting(arp.recv(512), _mac(card), wanted)
        if disputed is not None:
            found[wanted[disputed[0]]] = disputed[1]


def _mac(card: Card) -> bytes:
    return bytes.fromhex(card.mac.replace(":", ""))


def _chance() -> float:
    """0 to 1, another on each machine: those that start together must not probe together."""
    return int(clock.token(2), 16) / 0xFFFF
