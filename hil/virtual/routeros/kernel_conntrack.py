"""``/ip/firewall/connection`` from ctnetlink: rows as RouterOS prints them, and exact removal of one row.

Attribute numbers: linux/netfilter/nfnetlink_conntrack.h; status bits: nf_conntrack_common.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hil.virtual.routeros.kernel_netlink import NLM_F_ACK, NLM_F_DUMP, Netlink, attribute, attributes
from hil.virtual.routeros.kernel_values import duration_text
from hil.virtual.routeros.plane import Row, Trap

NETLINK_NETFILTER: Final = 12
_CT_GET: Final = (1 << 8) | 1
_CT_DELETE: Final = (1 << 8) | 2
_NFGENMSG: Final = struct.pack("=BBH", socket.AF_INET, 0, 0)

_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT, _MARK = 1, 2, 3, 4, 7, 8
_COUNTERS_ORIG, _COUNTERS_REPLY, _ID = 9, 10, 12
_SEEN_REPLY, _ASSURED, _CONFIRMED, _SRC_NAT, _DST_NAT, _DYING = 0x2, 0x4, 0x8, 0x10, 0x20, 0x200

# The fasttrack bit and the connection mark share the kernel's one 32-bit mark of a connection.
FASTTRACK_BIT: Final = 1 << 31
CONNECTION_MARK_MASK: Final = 0xFFFF

_PROTOCOLS: Final = {
    1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 47: "gre", 50: "ipsec-esp", 51: "ipsec-ah", 89: "ospf",
    132: "sctp",
}  # fmt: skip
_TCP_STATES: Final = (
    "none", "syn-sent", "syn-received", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "close",
    "syn-sent2",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoints:
    """One direction of a connection. ``key`` is its encoded form, which the kernel takes back for a removal."""

    key: bytes
    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    icmp: tuple[int, int, int] | None

    def text(self, address: str, port: int) -> str:
        """``address:port`` where the protocol has ports."""
        return f"{address}:{port}" if self.protocol in {6, 17, 132} else address


@dataclass(frozen=True)
class Connection:
    """One row of the kernel's table."""

    identity: int
    original: Endpoints
    reply: Endpoints
    status: int
    mark: int
    timeout_s: int
    tcp_state: int
    sent: tuple[int, int]
    received: tuple[int, int]

    @property
    def row_id(self) -> str:
        """The ``.id``: the kernel's own id, the same for the life of the row."""
        return f"*{self.identity:X}"

    @property
    def source_natted(self) -> bool:
        """Whether its source address was translated."""
        return bool(self.status & _SRC_NAT)


def _endpoints(value: memoryview) -> Endpoints:
    source = destination = "0.0.0.0"
    protocol, source_port, destination_port = 0, 0, 0
    icmp: dict[int, int] = {}
    for part, nested in attributes(value):
        for number, data in attributes(nested):
            if part == 1 and number == 1:
                source = socket.inet_ntoa(data)
            elif part == 1 and number == 2:
                destination = socket.inet_ntoa(data)
            elif part == 2 and number == 1:
                protocol = data[0]
            elif part == 2 and number == 2:
                source_port = int.from_bytes(data, "big")
            elif part == 2 and number == 3:
                destination_port = int.from_bytes(data, "big")
            elif part == 2 and number in {4, 5, 6}:
                icmp[number] = int.from_bytes(data, "big")
    triple = (icmp.get(4, 0), icmp.get(5, 0), icmp.get(6, 0)) if icmp else None
    return Endpoints(bytes(value), protocol, source, destination, source_port, destination_port, triple)


def _counters(value: memoryview | None) -> tuple[int, int]:
    """Packets and bytes."""
    found = dict(attributes(value)) if value is not None else {}
    return tuple(int.from_bytes(found.get(number, b""), "big") for number in (1, 2))  # type: ignore[return-value]


def _connection(body: bytes) -> Connection | None:
    found = dict(attributes(memoryview(body)[4:]))
    if _TUPLE_ORIG not in found or _TUPLE_REPLY not in found:
        return None
    number = {key: int.from_bytes(found.get(key, b""), "big") for key in (_STATUS, _MARK, _TIMEOUT, _ID)}
    tcp_state = 0
    for kind, tcp in attributes(found.get(_PROTOINFO, memoryview(b""))):
        if kind == 1:
            tcp_state = dict(attributes(tcp)).get(1, b"\0")[0]
    return Connection(
        identity=number[_ID],
        original=_endpoints(found[_TUPLE_ORIG]),
        reply=_endpoints(found[_TUPLE_REPLY]),
        status=number[_STATUS],
        mark=number[_MARK],
        timeout_s=number[_TIMEOUT],
        tcp_state=tcp_state,
        sent=_counters(found.get(_COUNTERS_ORIG)),
        received=_counters(found.get(_COUNTERS_REPLY)),
    )


def _flag(value: int) -> str:
    return "true" if value else "false"


def connection_row(one: Connection, mark_name: Callable[[int], str]) -> Row:
    """One connection as RouterOS properties. A property without a value is left out, as on a router."""
    original, reply = one.original, one.reply
    row: Row = {
        ".id": one.row_id,
        "protocol": _PROTOCOLS.get(original.protocol, str(original.protocol)),
        "src-address": original.text(original.source, original.source_port),
        "dst-address": original.text(original.destination, original.destination_port),
        "reply-src-address": reply.text(reply.source, reply.source_port),
        "reply-dst-address": reply.text(reply.destination, reply.destination_port),
        "timeout": duration_text(one.timeout_s),
        "seen-reply": _flag(one.status & _SEEN_REPLY),
        "assured": _flag(one.status & _ASSURED),
        "confirmed": _flag(one.status & _CONFIRMED),
        "dying": _flag(one.status & _DYING),
        "expected": _flag(one.status & 0x1),
        "srcnat": _flag(one.status & _SRC_NAT),
        "dstnat": _flag(one.status & _DST_NAT),
        "fasttrack": _flag(one.mark & FASTTRACK_BIT),
        "orig-packets": str(one.sent[0]),
        "orig-bytes": str(one.sent[1]),
        "repl-packets": str(one.received[0]),
        "repl-bytes": str(one.received[1]),
    }
    if one.mark & CONNECTION_MARK_MASK:
        row["connection-mark"] = mark_name(one.mark & CONNECTION_MARK_MASK)
    if original.protocol == 6:
        row["tcp-state"] = _TCP_STATES[min(one.tcp_state, len(_TCP_STATES) - 1)]
    if original.icmp is not None:
        row["icmp-id"], row["icmp-type"], row["icmp-code"] = map(str, original.icmp)
    return row


class Conntrack:
    """The connection table of the namespace."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)
        # What the ids last printed stand for. The kernel's ids are hashes, so a row can only be named by its tuple too.
        self._printed: dict[str, Connection] = {}

    def close(self) -> None:
        """Give the socket back."""
        self._netlink.close()

    def connections(self) -> list[Connection]:
        """All IPv4 connections now."""
        bodies = self._netlink.request(_CT_GET, NLM_F_DUMP, _NFGENMSG)
        found = [one for one in map(_connection, bodies) if one is not None]
        self._printed = {one.row_id: one for one in found}
        return found

    def rows(self, mark_name: Callable[[int], str]) -> list[Row]:
        """All connections as RouterOS rows."""
        return [connection_row(one, mark_name) for one in self.connections()]

    def remove(self, row_id: str) -> None:
        """Remove exactly the connection that was printed under this id; Trap where it is gone."""
        one = self._printed.get(row_id.upper())
        if one is None:
            self.connections()
            one = self._printed.get(row_id.upper())
        if one is None or not self._delete(one):
            raise Trap("no such item", 0)

    def purge(self, chosen: Callable[[Connection], bool]) -> int:
        """Remove the connections chosen; how many went."""
        return sum(self._delete(one) for one in self.connections() if chosen(one))

    def flush(self) -> None:
        """Remove every connection."""
        self._netlink.request(_CT_DELETE, NLM_F_ACK, _NFGENMSG)

    def _delete(self, one: Connection) -> bool:
        body = attribute(0x8000 | _TUPLE_ORIG, one.original.key) + attribute(_ID, one.identity.to_bytes(4, "big"))
        try:
            self._netlink.request(_CT_DELETE, NLM_F_ACK, _NFGENMSG + body)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True
