"""Six phones, as far as a router sees of them: rows of its connection tracking that come, grow and go.

Each registers every few seconds by the way that the router's lists give it at that moment, and keeps its row while the
router does. One of them makes a call after the failover and hangs up once the others begin to go home. Real phones
register at any time; these do so soon after the failover and one after the other, which keeps the demo short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hil.demo.site import PHONES
from hil.virtual import addresses as plan

REGISTERS_S = 9.5  # a real phone takes minutes; registrations that seem less than 8 s apart count as one
APART_S = 0.5  # from one phone's registration to the next one's
GONE_S = 1.0  # the rows of the dead line are removed by then
CALL_BEGINS_S = 12.0  # after the failover, when it has registered twice on LTE and that was seen
CALL_ENDS_S = 0.5  # after the way home began
UDP_TIMEOUT_S = 180
BYTES_PER_S = 8000  # G.711, one way
RTP_PORT, RELAY_PORT = "10000", "30000"
OLD_ROW = {"orig-bytes": "70000", "repl-bytes": "60000"}  # the phones have been here for long when the demo begins
Row = dict[str, str]
Seen = Mapping[str, str]
Rows = Sequence[Seen]


class Phones:
    """What the phones do. ``step`` takes the router's rows and says which to add and which to change."""

    def __init__(self, now_s: float) -> None:
        self.rhythm_s = {phone: now_s + index * APART_S for index, phone in enumerate(PHONES)}
        self.due_s = dict.fromkeys(PHONES, now_s)
        self.spoke_s = dict.fromkeys(PHONES, now_s)
        self.talker = PHONES[0]
        self.away_s: float | None = None
        self.returning_s: float | None = None
        self.last_s, self.first = now_s, True
        self.add: list[Row] = []
        self.changes: dict[str, Row] = {}

    def step(self, now_s: float, connections: Rows, lists: Rows, *, cut: bool) -> dict[str, Any]:
        """One moment: ``{"add": rows, "changes": {id: values}}``. ``cut``: nothing comes back by the primary."""
        leases = {(row.get("list", ""), row.get("address", "").removesuffix("/32")) for row in lists}
        self._note(now_s, {name for name, _ in leases})
        self.add, self.changes = [], {}
        for phone in PHONES:
            on_lte = ("edge-lte-site", "0.0.0.0/0") in leases or ("edge-lte-phone", phone) in leases
            signalling = next((row for row in connections if row["src-port"] == "5060" and _of(row, phone)), None)
            nat = signalling["reply-dst-address"] if signalling else plan.ROUTER_LTE if on_lte else plan.ROUTER_WAN
            self._register(phone, now_s, signalling, nat, answered=nat == plan.ROUTER_LTE or not cut)
        self._talk(now_s, next((row for row in connections if row["src-port"] != "5060"), None))
        self.last_s, self.first = now_s, False
        return {"add": self.add, "changes": self.changes}

    def _note(self, now_s: float, lists: set[str]) -> None:
        if self.away_s is None and "edge-lte-site" in lists:
            self.away_s = now_s
            self.rhythm_s = {phone: now_s + GONE_S + index * APART_S for index, phone in enumerate(PHONES)}
            self.due_s = dict(self.rhythm_s)
        if self.returning_s is None and "edge-lte-phone" in lists:
            self.returning_s = now_s

    def _register(self, phone: str, now_s: float, row: Seen | None, nat: str, *, answered: bool) -> None:
        """Speak where it is due. The row that is there decides the way; a new one goes as the lists say."""
        values: Row = {}
        if now_s >= self.due_s[phone]:
            rounds = (now_s - self.rhythm_s[phone]) // REGISTERS_S + 1
            self.due_s[phone] = self.rhythm_s[phone] + rounds * REGISTERS_S
            self.spoke_s[phone] = now_s
            former = OLD_ROW if self.first else {}
            values = _bytes(row or former, 700, 600 if answered else 0)
        left_s = max(0, int(UDP_TIMEOUT_S - (now_s - self.spoke_s[phone])))
        if row is not None:
            self.changes[row[".id"]] = {"timeout": f"{left_s}s", **values}
        elif values:
            self.add.append(
                {**_row(phone, "5060", nat, "edge-lte" if nat == plan.ROUTER_LTE else "edge-wan"), **values}
            )

    def _talk(self, now_s: float, row: Seen | None) -> None:
        """The call: begun on LTE, where its media then stays."""
        if self.away_s is None or now_s < self.away_s + CALL_BEGINS_S:
            return
        if self.returning_s is not None and now_s >= self.returning_s + CALL_ENDS_S:
            return
        if row is None:
            self.add.append(_row(self.talker, RTP_PORT, plan.ROUTER_LTE, "edge-lte-media"))
            return
        grown = round(BYTES_PER_S * (now_s - self.last_s))
        self.changes[row[".id"]] = {"timeout": f"{UDP_TIMEOUT_S}s", **_bytes(row, grown, grown)}


def _of(row: Seen, phone: str) -> bool:
    return row["src-address"] == phone


def _row(phone: str, port: str, nat: str, mark: str) -> Row:
    far_port = port if port == "5060" else RELAY_PORT
    return {
        "protocol": "udp",
        "src-address": phone,
        "src-port": port,
        "dst-address": plan.SBC,
        "dst-port": far_port,
        "reply-src-address": plan.SBC,
        "reply-src-port": far_port,
        "reply-dst-address": nat,
        "reply-dst-port": port,
        "connection-mark": mark,
        "timeout": f"{UDP_TIMEOUT_S}s",
        **_bytes({}, 0, 0),
    }


def _bytes(row: Seen, sent: int, received: int) -> Row:
    return {
        "orig-bytes": str(int(row.get("orig-bytes", "0")) + sent),
        "repl-bytes": str(int(row.get("repl-bytes", "0")) + received),
    }
