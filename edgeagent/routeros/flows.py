"""Connection-tracking rows -> flows, and which rows stand in the way of a change of path. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgeagent.core.facts import Flow
from edgeagent.core.intents import MoveFlows

Seen = Mapping[str, str]
SIP_PORTS = (5060, 5061)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:\d+ms)?")


def flow(row: Seen, udp_timeout_s: float | None, media_marks: frozenset[str]) -> Flow | None:
    """One row; None where it is not a voice device's. ``udp_timeout_s`` is the router's UDP timer, if it is known.

    Version 6 and early 7 print ``address:port``, later ones print the port apart; both are read.
    """
    protocol = row.get("protocol", "")
    source, source_port = _endpoint(row, "src")
    far, far_port = _endpoint(row, "dst")
    nat = row.get("reply-dst-address", "").partition(":")[0]
    if protocol not in ("udp", "tcp") or not source or not far or not nat:
        return None
    idle_s = None
    if protocol == "udp" and udp_timeout_s is not None:
        idle_s = max(0.0, udp_timeout_s - seconds(row.get("timeout", "")))
    return Flow(
        protocol=protocol,
        source=source,
        source_port=source_port,
        far=far,
        far_port=far_port,
        nat=nat,
        orig_bytes=_count(row, "orig-bytes"),
        repl_bytes=_count(row, "repl-bytes"),
        media=protocol == "udp" and far_port not in SIP_PORTS,
        pinned=row.get("connection-mark", "") in media_marks,
        idle_s=idle_s,
    )


def in_the_way(rows: Sequence[Seen], move: MoveFlows, address: str, media_marks: frozenset[str]) -> list[str]:
    """Ids of the rows that ``move`` removes: their NAT address is not ``address``, the path's present one."""
    found = []
    for row in rows:
        one = flow(row, None, media_marks)
        if one is None or ".id" not in row or one.nat == address or one.source in move.spare:
            continue
        if (move.sources is not None and one.source not in move.sources) or (one.pinned and not move.pinned):
            continue
        found.append(row[".id"])
    return found


def seconds(duration: str) -> float:
    """Seconds of a RouterOS duration such as ``2m59s``; what cannot be read counts as zero."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        return 0.0
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def _endpoint(row: Seen, side: str) -> tuple[str, int]:
    address, _, port = row.get(f"{side}-address", "").partition(":")
    text = port or row.get(f"{side}-port", "")
    return address, int(text) if text.isdecimal() else 0


def _count(row: Seen, key: str) -> int:
    text = row.get(key, "0")
    return int(text) if text.isdecimal() else 0
