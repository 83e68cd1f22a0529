"""ICMP echo (RFC 792) from one source address, without privilege: Linux "ping sockets" (SOCK_DGRAM, IPPROTO_ICMP).

The source address decides the path: the router steers each of the agent's alias addresses through one uplink, whatever
the leases say (clause P10). The kernel fills in checksum and identifier and hands only our own replies up. Each echo
carries 8 random bytes, so that a host on the LAN cannot keep a dead line "up" by forging answers: an echo is 36 bytes
on the wire (20 IP + 8 ICMP + 8 nonce) instead of the bare 28, which at one a minute each way costs 3.1 MB a month on
LTE instead of 2.4.

Times are taken with `now` when the packet is handed to the kernel and when the loop reads the answer, so they include
the loop's own lag.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable

from edgeagent.probes.datagram import BoundSocket, Peer, Unanswered
from edgeagent.probes.errors import ProbeForbidden, ProbeUnavailable

ECHO_WIRE_BYTES = 36  # one way, IP header included
LATE_S = 10.0  # answers are delivered up to this age: loss is judged on reading, and a late answer heals it
MAX_WAITING = 2048  # probes without an answer yet; 10 s of three targets, ten rounds a second, are 300

_HEADER = struct.Struct("!BBHHH8s")  # type, code, checksum, identifier, sequence, nonce
_ECHO_REQUEST, _ECHO_REPLY = 8, 0

OnReply = Callable[[str, int, float, float], None]


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
        self._socket = BoundSocket(self.source, socket.IPPROTO_ICMP, 2048, self._take)
        self._waiting: Unanswered[tuple[str, int]] = Unanswered(MAX_WAITING, LATE_S, now)

    @property
    def waiting(self) -> int:
        """How many probes may still be answered."""
        return len(self._waiting)

    def open(self) -> None:
        """Open and bind, inside a running loop. Raises ProbeForbidden or ProbeUnavailable; may be tried again."""
        self._waiting.clear()
        try:
            self._socket.open()
        except ProbeUnavailable:
            raise
        except PermissionError as error:
            raise ProbeForbidden(
                errno.EACCES,
                "this system does not let this user ping: its group id must lie within the two numbers of "
                "/proc/sys/net/ipv4/ping_group_range; set net.ipv4.ping_group_range in /etc/sysctl.d to the agent's "
                "group and run sysctl --system (in a container: on the container)",
            ) from error
        except OSError as error:
            raise ProbeUnavailable(error.errno, f"no ICMP socket: {error.strerror}") from error

    def send(self, target: str, seq: int) -> float:
        """Send one echo to a literal address; returns when it left. Raises ProbeNotSent: it did not leave, so it is no
        loss.

        `seq` may grow without end: its low 16 bits travel, the whole number is reported.
        """
        self._waiting.make_room()
        nonce = bytes.fromhex(self._token(8))
        sent_s = self._now()
        self._socket.send(_HEADER.pack(_ECHO_REQUEST, 0, 0, 0, seq & 0xFFFF, nonce), (target, 0))
        self._waiting.add(nonce, (target, seq), sent_s)
        return sent_s

    def close(self) -> None:
        """Stop; answers still on their way are not delivered."""
        self._socket.close()
        self._waiting.clear()

    def _take(self, packet: bytes, sender: Peer) -> None:
        received_s = self._now()
        if len(packet) != _HEADER.size:
            return
        kind, code, _, _, seq, nonce = _HEADER.unpack(packet)
        sent = self._waiting.get(nonce)
        if sent is None:
            return
        sent_s, (target, number) = sent
        if (kind, code, seq, sender[0]) == (_ECHO_REPLY, 0, number & 0xFFFF, target):
            self._waiting.answered(nonce)
            self._on_reply(target, number, sent_s, received_s)
