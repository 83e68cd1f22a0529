"""How long a call was silent: what of its media never came to the carrier's side of a line, in the media's own time.

An RTP packet says which stretch of sound it carries. Where a stretch is missing among those that a line delivered,
somebody on the way dropped it or sent it by another line; that is what a router or an agent can do to a call. A phone,
a relay or an emulator that waits on a busy machine sends late, and nothing is missing: that is the bench's own silence,
told as ``call_spacing_s`` and not judged. A stream that has stopped has no later packet to show what is missing, so it
is silent for as long as nothing came, once that is longer than any wait of the bench (``ENDED_S``).
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Event

PACKET_S = 0.02  # of sound in each: the gap of a call of which nothing is missing
ENDED_S = 1.0
BUSY = 50  # packets: media, not its control protocol


def gaps_s(events: Sequence[Event], label: str, line: str = "lte") -> list[float]:
    """The longest silence of each busy media flow by a line up to the note of this label."""
    found = seen.of(events, "emulator", "max_gaps", label=label)
    return [_gap_s(flow, found[-1]["t"]) for flow in _busy(events, label, line)]


def spacing_s(events: Sequence[Event], label: str, line: str = "lte") -> float | None:
    """The longest spacing at arrival among the same flows, whoever was late."""
    return max((float(flow["max_gap_s"]) for flow in _busy(events, label, line)), default=None)


def _busy(events: Sequence[Event], label: str, line: str) -> list[Event]:
    found = seen.of(events, "emulator", "max_gaps", label=label)
    return [flow for flow in found[-1]["gaps"] if flow["link"] == line and flow["packets"] > BUSY] if found else []


def _gap_s(flow: Event, noted_s: float) -> float:
    lasts_s = noted_s - (flow["last_delivered_t"] or 0.0)
    return max(float(flow["max_media_gap_s"]), lasts_s if lasts_s > ENDED_S else 0.0)
