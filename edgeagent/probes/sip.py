"""SIP OPTIONS over UDP (RFC 3261 section 11) from one source address: does the provider's server answer by this path?

Any answer counts, whatever its status: a server that says 403 is alive. One packet is one probe: the retransmissions of
RFC 3261 section 17.1.2 are not made, for they would hide the loss that is to be seen. Answers go to the port they came
from (rport, RFC 3581) and are matched by their branch, which is random, so they cannot be forged from the LAN.
"""

import ipaddress
import re
from collections.abc import Callable

from edgeagent.probes.datagram import BoundSocket, Peer, Unanswered

MAX_REQUEST_BYTES = 400
LATE_S = 32.0  # 64*T1: when RFC 3261 gives a transaction up
MAX_WAITING = 256

_MAX_ANSWER_BYTES = 8192
_STATUS = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: |\r)")
_BRANCH = re.compile(
    rb"\r\n(?:Via|v)[ \t]*:[^\r\n]*?;[ \t]*branch[ \t]*=[ \t]*z9hG4bK([0-9a-f]{16})(?=[;,\s])", re.IGNORECASE
)

OnAnswer = Callable[[int, int, float, float], None]


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
        self._socket = BoundSocket(self.source, 0, _MAX_ANSWER_BYTES, self._take)
        self._waiting: Unanswered[int] = Unanswered(MAX_WAITING, LATE_S, now)  # by the random part of the branch

    @property
    def waiting(self) -> int:
        """How many probes may still be answered."""
        return len(self._waiting)

    def open(self) -> None:
        """Open and bind, inside a running loop. Raises ProbeUnavailable; may be tried again."""
        self._waiting.clear()
        self._socket.open()

    def send(self) -> int:
        """Send one OPTIONS; returns its CSeq number. Raises ProbeNotSent: it did not leave, so it is no loss."""
        self._waiting.make_room()
        self._cseq += 1
        branch = self._token(8)
        request = self._request(branch, self._socket.port())
        sent_s = self._now()
        self._socket.send(request, self._server)
        self._waiting.add(branch.encode(), self._cseq, sent_s)
        return self._cseq

    def close(self) -> None:
        """Stop; answers still on their way are not delivered."""
        self._socket.close()
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

    def _take(self, packet: bytes, sender: Peer) -> None:
        received_s = self._now()
        status = _STATUS.match(packet)
        via = _BRANCH.search(packet)
        if sender != self._server or status is None or via is None:
            return
        branch, code = via[1].lower(), int(status[1])
        sent = self._waiting.get(branch)
        if sent is None:
            return
        if code >= 200:
            self._waiting.answered(branch)
        self._on_answer(sent[1], code, sent[0], received_s)
