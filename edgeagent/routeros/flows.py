"""Connection-tracking rows -> flows, and which rows stand in the way of a change of path. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgeagent.core.facts import Flow
from edgeagent.core.intents import MoveFlows
from edgeagent.routeros.durations import seconds
from edgeagent.routeros.values import is_ipv4, row_id, whole

Seen = Mapping[str, str]
SIP_PORTS = (5060, 5061)
PORT_MAX = 65535
DNS_PORT = 53


def flow(row: Seen, udp_timeout_s: float | None, media_marks: frozenset[str]) -> Flow | None:
    """One row; None where it is no voice row. ``udp_timeout_s`` is the router's UDP timer, if it is known.

    Version 6 and early 7 print ``address:port``, later ones print the port apart; both are read. A row that the
    provider opened towards a device on the site is told from the device's side.
    """
    protocol = row.get("protocol", "")
    source, far = _endpoint(row, "src"), _endpoint(row, "dst")
    nat = _endpoint(row, "reply-dst")[0]
    sent, received = whole(row.get("orig-bytes", "")), whole(row.get("repl-bytes", ""))
    inside = _endpoint(row, "reply-src")
    if nat == source[0] and inside[0] not in ("", far[0]):
        source, far, nat, sent, received = inside, source, far[0], received, sent
    if protocol not in ("udp", "tcp") or not all(map(is_ipv4, (source[0], far[0], nat))):
        return None
    idle_s = None
    if protocol == "udp" and udp_timeout_s is not None:
        idle_s = max(0.0, udp_timeout_s - (seconds(row.get("timeout", "")) or 0))
    return Flow(
        protocol=protocol,
        source=source[0],
        source_port=source[1],
        far=far[0],
        far_port=far[1],
        nat=nat,
        orig_bytes=sent,
        repl_bytes=received,
        media=protocol == "udp" and far[1] not in SIP_PORTS,
        pinned=row.get("connection-mark", "") in media_marks,
        idle_s=idle_s,
    )


def in_the_way(rows: Sequence[Seen], move: MoveFlows, address: str, media_marks: frozenset[str]) -> list[str]:
    """Ids of the rows that ``move`` removes: their NAT address is not ``address``, the path's present one."""
    found = []
    for row in rows:
        one, number = flow(row, None, media_marks), row_id(row)
        if one is None or number is None or one.nat == address or one.source in move.spare:
            continue
        if (move.sources is not None and one.source not in move.sources) or (one.pinned and not move.pinned):
            continue
        found.append(number)
    return found


def questions(rows: Sequence[Seen], sources: Collection[str]) -> list[str]:
    """Ids of the rows by which these sources ask for names."""
    return [
        number
        for row in rows
        if (number := row_id(row)) is not None
        and _endpoint(row, "dst")[1] == DNS_PORT
        and _endpoint(row, "src")[0] in sources
    ]


def _endpoint(row: Seen, side: str) -> tuple[str, int]:
    address, _, port = row.get(f"{side}-address", "").partition(":")
    return address, whole(port or row.get(f"{side}-port", ""), PORT_MAX)
