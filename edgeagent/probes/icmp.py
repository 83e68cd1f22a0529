"""ICMP echo (RFC 792) from one source address, without privilege: Linux "ping sockets" (SOCK_DGRAM, IPPROTO_ICMP).

The source address decides the path: the router steers each of the agent's alias addresses through one uplink, whatever
the leases say (clause P10). The kernel fills in checksum and identifier and hands only our own replies up. Each echo
carries 8 random bytes, so that a host on the LAN cannot keep a dead line "up" by forging answers: an echo is 36 bytes
on the wire (20 IP + 8 ICMP + 8 nonce) instead of the bare 28, which at one a minute each way costs 3.1 MB a month on
LTE instead of 2.4.

Times are taken with `now` when the packet is handed to the kernel and when the loop reads the answer, so they include
the loop's own lag.
"""

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from edgeagent.probes.errors import ProbeForbidden, ProbeNotSent, ProbeUnavailable

ECHO_WIRE_BYTES = 36  # one way, IP header included
LATE_S = 10.0  # answers are delivered up to this age: loss is judged on reading, and a late answer heals it
MAX_WAITING = 2048  # probes without an answer yet; 10 s of three targets, ten rounds a second, are 300

_HEADER = struct.Struct("!BBHHH8s")  # type, code, checksum, identifier, sequence, nonce
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_READ_AT_ONCE = 64  # datagrams per wake-up: a flood of forged answers must leave the loop its turn

OnReply = Callable[[str, int, float, float], None]


class _Sent(NamedTuple):
    target: str
    seq: int
    at_s: float


class IcmpProber:
    """Sends echoes and reports answers as `on_reply(target, seq, sent_s, received_s)`, each at most once.

    `now` reads monotonic seconds, `token(n)` gives n random bytes in hexadecimal (host.clock has both).
    """

    def __init__(
        self, source: str, on_reply: OnReply, *, now: Callable[[], float], token: Callable[[int], str]
    ) -> None:
        self.source = str(ipaddress.IPv4Address(source))
        self._on_reply = on_reply
        self._now = now
        self._token = token
        self._socket: socket.socket | None = None
        self._waiting: dict[bytes, _Sent] = {}  # by nonce, oldest first

    @property
    def waiting(self) -> int:
        """How many probes may still be answered."""
        return len(self._waiting)

    def open(self) -> None:
        """Open and bind, inside a running loop. Raises ProbeForbidden or ProbeUnavailable; may be tried again."""
        self.close()
        try:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        except PermissionError as error:
            raise ProbeForbidden(
                errno.EACCES,
                "this system does not let this user ping: its group id must lie within the two numbers of "
                "/proc/sys/net/ipv4/ping_group_range; set net.ipv4.ping_group_range in /etc/sysctl.d to the agent's "
                "group and run sysctl --system (in a container: on the container)",
            ) from error
        except OSError as error:
            raise ProbeUnavailable(error.errno, f"no ICMP socket: {error.strerror}") from error
        try:
            opened.bind((self.source, 0))
        except OSError as error:
            opened.close()
            raise ProbeUnavailable(
                error.errno,
                f"cannot send from {self.source} ({error.strerror}); is the alias address set on this machine?",
            ) from error
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened, self._read)

    def send(self, target: str, seq: int) -> float:
        """Send one echo to a literal address; returns when it left. Raises ProbeNotSent: it did not leave, so it is no
        loss.

        `seq` may grow without end: its low 16 bits travel, the whole number is reported.
        """
        if self._socket is None:
            raise ProbeNotSent("closed", f"the prober of {self.source} is not open")
        self._forget_old()
        if len(self._waiting) >= MAX_WAITING:
            raise ProbeNotSent("crowded", f"{MAX_WAITING} probes from {self.source} wait for an answer already")
        nonce = bytes.fromhex(self._token(8))
        sent_s = self._now()
        try:
            self._socket.sendto(_HEADER.pack(_ECHO_REQUEST, 0, 0, 0, seq & 0xFFFF, nonce), (target, 0))
        except OSError as error:
            raise ProbeNotSent.from_os(error, f"{self.source} to {target}") from error
        self._waiting[nonce] = _Sent(target, seq, sent_s)
        return sent_s

    def close(self) -> None:
        """Stop; answers still on their way are not delivered."""
        if self._socket is not None:
            with suppress(RuntimeError):  # no loop is running any more
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = None
        self._waiting.clear()

    def _read(self) -> None:
        for _ in range(_READ_AT_ONCE):
            if self._socket is None:  # a callback closed us
                return
            try:
                packet, sender = self._socket.recvfrom(2048)
            except OSError:  # nothing more to read, or an ICMP error about an earlier probe, which is simply lost
                return
            self._take(packet, sender[0])

    def _take(self, packet: bytes, sender: str) -> None:
        received_s = self._now()
        if len(packet) != _HEADER.size:
            return
        kind, code, _, _, seq, nonce = _HEADER.unpack(packet)
        sent = self._waiting.get(nonce)
        if sent is None or (kind, code, seq, sender) != (_ECHO_REPLY, 0, sent.seq & 0xFFFF, sent.target):
            return
        del self._waiting[nonce]
        if received_s - sent.at_s <= LATE_S:
            self._on_reply(sent.target, sent.seq, sent.at_s, received_s)

    def _forget_old(self) -> None:
        too_old_s = self._now() - LATE_S
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest].at_s >= too_old_s:
                return
            del self._waiting[oldest]
