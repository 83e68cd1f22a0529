"""SIP OPTIONS over UDP (RFC 3261 section 11) from one source address: does the provider's server answer by this path?

Any answer counts, whatever its status: a server that says 403 is alive. One packet is one probe: the retransmissions of
RFC 3261 section 17.1.2 are not made, for they would hide the loss that is to be seen. Answers go to the port they came
from (rport, RFC 3581) and are matched by their branch, which is random, so they cannot be forged from the LAN.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from edgeagent.probes.errors import ProbeNotSent, ProbeUnavailable

MAX_REQUEST_BYTES = 400
LATE_S = 32.0  # 64*T1: when RFC 3261 gives a transaction up
MAX_WAITING = 256

_MAX_ANSWER_BYTES = 8192
_READ_AT_ONCE = 16
_STATUS = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: |\r)")
_BRANCH = re.compile(
    rb"\r\n(?:Via|v)[ \t]*:[^\r\n]*?;[ \t]*branch[ \t]*=[ \t]*z9hG4bK([0-9a-f]{16})(?=[;,\s])", re.IGNORECASE
)

OnAnswer = Callable[[int, int, float, float], None]


class _Sent(NamedTuple):
    cseq: int
    at_s: float


class SipProber:
    """Sends OPTIONS and reports `on_answer(cseq, status, sent_s, received_s)`.

    `server` is a literal address; `domain`, if the provider's server insists on its name, goes into the request
    instead. A provisional answer (1xx) is reported and the final one as well; each final one once.
    """

    def __init__(
        self,
        source: str,
        server: str,
        port: int,
        on_answer: OnAnswer,
        *,
        now: Callable[[], float],
        token: Callable[[int], str],
        domain: str = "",
    ) -> None:
        if domain and not re.fullmatch(r"[A-Za-z0-9.-]{1,64}", domain):
            raise ValueError(f"{domain!r} is not a SIP domain of at most 64 letters, digits, dots and dashes")
        self.source = str(ipaddress.IPv4Address(source))
        self._server = (str(ipaddress.IPv4Address(server)), port)
        self._on_answer = on_answer
        self._now = now
        self._token = token
        self._host = (domain or self._server[0]) + ("" if port == 5060 else f":{port}")
        self._cseq = 0
        self._socket: socket.socket | None = None
        self._waiting: dict[bytes, _Sent] = {}  # by the random part of the branch, oldest first

    @property
    def waiting(self) -> int:
        """How many probes may still be answered."""
        return len(self._waiting)

    def open(self) -> None:
        """Open and bind, inside a running loop. Raises ProbeUnavailable; may be tried again."""
        self.close()
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
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

    def send(self) -> int:
        """Send one OPTIONS; returns its CSeq number. Raises ProbeNotSent: it did not leave, so it is no loss."""
        if self._socket is None:
            raise ProbeNotSent("closed", f"the prober of {self.source} is not open")
        self._forget_old()
        if len(self._waiting) >= MAX_WAITING:
            raise ProbeNotSent("crowded", f"{MAX_WAITING} probes from {self.source} wait for an answer already")
        self._cseq += 1
        branch = self._token(8)
        request = self._request(branch, self._socket.getsockname()[1])
        sent_s = self._now()
        try:
            self._socket.sendto(request, self._server)
        except OSError as error:
            raise ProbeNotSent.from_os(error, f"{self.source} to {self._server[0]}") from error
        self._waiting[branch.encode()] = _Sent(self._cseq, sent_s)
        return self._cseq

    def close(self) -> None:
        """Stop; answers still on their way are not delivered."""
        if self._socket is not None:
            with suppress(RuntimeError):  # no loop is running any more
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = None
        self._waiting.clear()

    def _request(self, branch: str, local_port: int) -> bytes:
        """Branch, tag and Call-ID are new for each request, so that no server takes it for a retransmission."""
        lines = (
            f"OPTIONS sip:{self._host} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.source}:{local_port};branch=z9hG4bK{branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:edgeagent@{self.source}>;tag={self._token(4)}",
            f"To: <sip:{self._host}>",
            f"Call-ID: {self._token(8)}",
            f"CSeq: {self._cseq} OPTIONS",
            f"Contact: <sip:{self.source}:{local_port}>",
            "User-Agent: edgeagent",
            "Content-Length: 0",
            "",
            "",
        )
        return "\r\n".join(lines).encode("ascii")

    def _read(self) -> None:
        for _ in range(_READ_AT_ONCE):
            if self._socket is None:  # a callback closed us
                return
            try:
                packet, sender = self._socket.recvfrom(_MAX_ANSWER_BYTES)
            except OSError:  # nothing more to read, or an ICMP error about an earlier probe, which is simply lost
                return
            if sender == self._server:
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        received_s = self._now()
        status = _STATUS.match(packet)
        via = _BRANCH.search(packet)
        if status is None or via is None:
            return
        branch, code = via[1].lower(), int(status[1])
        sent = self._waiting.get(branch)
        if sent is None:
            return
        if code >= 200:
            del self._waiting[branch]
        if received_s - sent.at_s <= LATE_S:
            self._on_answer(sent.cseq, code, sent.at_s, received_s)

    def _forget_old(self) -> None:
        too_old_s = self._now() - LATE_S
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest].at_s >= too_old_s:
                return
            del self._waiting[oldest]
