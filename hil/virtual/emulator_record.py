"""What passed the links: one row per flow, and events at the moments that matter. The bench's independent truth.

Every packet is counted in exactly one of "delivered" and the drop reasons. Counts are IP bytes without link-layer
padding; times are ``time.monotonic()`` seconds at arrival from the sender's side, before any delay. Media has a clock
of its own besides, the RTP timestamp (RFC 3550 section 5.1), which tells what is missing from what is only late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from hil.virtual.emulator_packet import FlowKey, detail_matters, detail_of, ip_bytes, media_clock, parse, raw_key

DELIVERED: Final = "delivered"
BLACKHOLE, LOSS, QUEUE, SPOOFED, FILTER, CARRIER = "blackhole", "loss", "queue", "spoofed", "filter", "carrier"
# Bad luck is no state of a flow: a lossy line must not report a "change" with every lost packet.
CHANCE_VERDICTS: Final = frozenset({LOSS, QUEUE})

FLOWS_MAX: Final = 20_000
MARKS_MAX: Final = 16
IDLE_S: Final = 1.0
GAP_S: Final = 0.060
RTP_CLOCK_HZ: Final = 8000  # G.711, which all phones of the bench speak
PINGS_MAX: Final = 64  # moments kept of each flow of pings

Emit = Callable[[dict[str, Any]], None]


class Flow:
    """The counters of one flow key in one direction of one link."""

    __slots__ = (
        "bytes", "delivered_bytes", "delivered_gap_max_s", "delivered_packets", "detailed", "drops", "filtered",
        "first_t", "generation", "key", "last_delivered_t", "last_t", "marked_bytes", "max_gap_s",
        "media", "media_gap_max_s", "overflow", "packets", "seen_t", "sent_t", "spoofed", "state",
    )  # fmt: skip

    def __init__(self, key: FlowKey, spoofed: bool = False, overflow: bool = False) -> None:
        self.key = key
        self.spoofed = spoofed
        self.overflow = overflow
        self.generation = -1  # of the pipe, when `filtered` was worked out
        self.filtered = False
        # By what the address and port bytes leave open (the SIP method); None where they decide all.
        self.detailed: dict[str, Flow] | None = None
        self.state: str | None = None
        self.seen_t = 0.0  # the latest packet, whatever was reset since
        self.sent_t: deque[float] | None = deque(maxlen=PINGS_MAX) if key.detail == "echo" else None
        self.zero()

    def zero(self) -> None:
        """Forget what was counted, but not the verdict: a reset is no news about the flow."""
        self.packets = self.bytes = self.delivered_packets = self.delivered_bytes = 0
        self.first_t = self.last_t = self.last_delivered_t = self.max_gap_s = self.delivered_gap_max_s = 0.0
        self.media: tuple[bytes, int] | None = None  # the source and the timestamp of the newest delivered packet
        self.media_gap_max_s = 0.0
        self.drops: dict[str, list[int]] = {}
        self.marked_bytes: dict[str, int] = {}

    def row(self, link: str, direction: str) -> dict[str, Any]:
        """The counters as the control socket shows them."""
        return {
            "link": link,
            "direction": direction,
            **key_fields(self.key),
            "packets": self.packets,
            "bytes": self.bytes,
            "first_t": self.first_t,
            "last_t": self.last_t,
            "max_gap_s": self.max_gap_s,
            "delivered_packets": self.delivered_packets,
            "delivered_bytes": self.delivered_bytes,
            "last_delivered_t": self.last_delivered_t or None,
            "max_delivered_gap_s": self.delivered_gap_max_s,
            "max_media_gap_s": self.media_gap_max_s,
            "dropped": {reason: {"packets": count[0], "bytes": count[1]} for reason, count in self.drops.items()},
            "marked_bytes": dict(self.marked_bytes),
            "overflow": self.overflow,
        }


def key_fields(key: FlowKey) -> dict[str, Any]:
    """A flow key as fields of an event or a row."""
    return {
        "class": key.flow_class,
        "sip_method": key.detail or None if key.flow_class == "sip" else None,
        "icmp_type": key.detail if key.flow_class == "icmp" else None,
        "protocol": key.protocol,
        "src": key.src,
        "sport": key.sport,
        "dst": key.dst,
        "dport": key.dport,
    }


class Budget:
    """How many flow keys the whole emulator may still hold."""

    def __init__(self, flows_max: int = FLOWS_MAX) -> None:
        self.flows_max = flows_max
        self.used = 0


class FlowTable:
    """The flows of one direction of one link."""

    def __init__(
        self, link: str, direction: str, emit: Emit, budget: Budget, is_spoofed: Callable[[FlowKey], bool]
    ) -> None:
        self.link = link
        self.direction = direction
        self.marks: dict[str, bytes] = {}
        self._emit = emit
        self._budget = budget
        self._is_spoofed = is_spoofed
        self._flows: dict[FlowKey, Flow] = {}
        self._overflow: dict[str, Flow] = {}
        self._cache: dict[bytes, Flow] = {}

    def find(self, frame: bytes, now: float) -> Flow:
        """The row this frame belongs to, made when it is new."""
        index = raw_key(frame)
        flow = self._cache.get(index)
        if flow is None:
            return self._first_of(index, frame, now)
        if flow.detailed is not None:
            detail = detail_of(frame, flow.key.flow_class)
            return flow.detailed.get(detail) or self._first_of(index, frame, now, flow, detail)
        return flow

    def note(self, flow: Flow, frame: bytes, now: float, verdict: str) -> None:
        """Count one packet and tell what is worth telling about it."""
        size = ip_bytes(frame)
        gap = now - flow.seen_t if flow.seen_t else 0.0
        flow.seen_t = now
        if gap > flow.max_gap_s and flow.packets:
            flow.max_gap_s = gap
        if gap > GAP_S and flow.key.flow_class == "rtp" and not flow.overflow:
            self._tell("gap", now, flow, gap_s=round(gap, 6))
        if not flow.packets:
            flow.first_t = now
        flow.last_t = now
        if flow.sent_t is not None:
            flow.sent_t.append(now)
        flow.packets += 1
        flow.bytes += size
        if verdict == DELIVERED:
            flow.delivered_packets += 1
            flow.delivered_bytes += size
            if flow.last_delivered_t and now - flow.last_delivered_t > flow.delivered_gap_max_s:
                flow.delivered_gap_max_s = now - flow.last_delivered_t
            flow.last_delivered_t = now
            if flow.key.flow_class == "rtp":
                _follow_media(flow, frame)
        else:
            _count_drop(flow, verdict, size)
        if self.marks:
            for text, mark in self.marks.items():
                if mark in frame:
                    flow.marked_bytes[text] = flow.marked_bytes.get(text, 0) + size
        if flow.state is None or gap >= IDLE_S or (verdict != flow.state and verdict not in CHANCE_VERDICTS):
            flow.state = verdict
            if not flow.overflow:
                self._tell("flow_started", now, flow, bytes=size, verdict=verdict)

    def undelivered(self, flow: Flow, frame: bytes, reason: str) -> None:
        """A packet already counted as delivered was still on its way when its link went down: take that back."""
        size = ip_bytes(frame)
        if flow.delivered_packets:  # else a reset came in between
            flow.delivered_packets -= 1
            flow.delivered_bytes -= size
            _count_drop(flow, reason, size)

    def reset(self) -> None:
        """Zero every row. Rows stay, so that a flow that goes on is not reported as a new one."""
        for flow in (*self._flows.values(), *self._overflow.values()):
            flow.zero()

    def rows(self) -> list[dict[str, Any]]:
        """Every row that counted something since the last reset."""
        flows = (*self._flows.values(), *self._overflow.values())
        return [flow.row(self.link, self.direction) for flow in flows if flow.packets]

    def pings(self) -> dict[str, list[float]]:
        """By target, when the latest pings to it arrived, resets or not."""
        found: dict[str, list[float]] = {}
        for flow in self._flows.values():
            if flow.sent_t is not None:
                found.setdefault(flow.key.dst, []).extend(flow.sent_t)
        return {target: sorted(moments) for target, moments in found.items()}

    def last_voice(self) -> tuple[float | None, float | None]:
        """When the last voice packet arrived, and when the last one that was delivered; OPTIONS are not voice."""
        flows = [flow for flow in self._flows.values() if flow.packets and _is_voice(flow.key)]
        entered_s = max((flow.last_t for flow in flows), default=0.0)
        delivered_s = max((flow.last_delivered_t for flow in flows), default=0.0)
        return entered_s or None, delivered_s or None

    def _first_of(self, index: bytes, frame: bytes, now: float, sibling: Flow | None = None, detail: str = "") -> Flow:
        key = parse(frame)
        flow = self._flows.get(key)
        if flow is None:
            if self._budget.used >= self._budget.flows_max:
                return self._overflowing(key, now)
            self._budget.used += 1
            flow = self._flows[key] = Flow(key, spoofed=self._is_spoofed(key))
        if len(self._cache) > 4 * self._budget.flows_max:
            self._cache.clear()
        if not detail_matters(key):
            self._cache[index] = flow
        elif sibling is not None and sibling.detailed is not None:
            sibling.detailed[detail] = flow
        else:
            # The cache entry only leads to the rows; it is not itself one.
            signpost = self._cache[index] = Flow(key)
            signpost.detailed = {detail_of(frame, key.flow_class): flow}
        return flow

    def _overflowing(self, key: FlowKey, now: float) -> Flow:
        """One row per class for all keys beyond the limit; its addresses are those of the packet in hand."""
        flow = self._overflow.get(key.flow_class)
        if flow is None:
            flow = self._overflow[key.flow_class] = Flow(key, overflow=True)
            self._tell("overflow", now, flow, flows_max=self._budget.flows_max)
        flow.key, flow.spoofed, flow.generation = key, self._is_spoofed(key), -1
        return flow

    def _tell(self, event: str, now: float, flow: Flow, **fields: Any) -> None:
        self._emit(
            {"t": now, "event": event, "link": self.link, "direction": self.direction, **key_fields(flow.key), **fields}
        )


def _is_voice(key: FlowKey) -> bool:
    return key.flow_class in ("sip", "rtp", "rtcp") and key.detail != "OPTIONS"


def _follow_media(flow: Flow, frame: bytes) -> None:
    """The longest spacing of delivered media by its own clock. One that was overtaken fills no gap."""
    clock = media_clock(frame)
    if clock is None:
        return
    if flow.media is not None and flow.media[0] == clock[0]:
        ticks = (clock[1] - flow.media[1]) % (1 << 32)
        if ticks >= 1 << 31:
            return
        flow.media_gap_max_s = max(flow.media_gap_max_s, ticks / RTP_CLOCK_HZ)
    flow.media = clock


def _count_drop(flow: Flow, reason: str, size: int) -> None:
    count = flow.drops.setdefault(reason, [0, 0])
    count[0] += 1
    count[1] += size
