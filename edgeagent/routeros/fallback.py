"""The native fallback: routes that the router checks by itself, and the flush that frees its phones. Pure."""

from __future__ import annotations

from edgeagent.core.settings import ALIVE_LIST
from edgeagent.routeros import scripts
from edgeagent.routeros.rows import Row, Wish

CANARY, NATIVE = "canary-", "native-"  # how the names of these routes begin
NATIVE_BACKUP = 10  # its distance; worse than that of any canary


def routes(wish: Wish) -> list[Row]:
    """Routes that need nobody: by the primary while one of the canaries behind it answers, else by the first backup.

    The canaries are looked for by the primary only. Their routes come before the unchecked one by the backup, which
    alone would take voice away (clause P2). Different distances, so that no two ever share the phones. The resolvers of
    voice devices go the same way, for a phone that cannot resolve its registrar's name is as dead as one without line.
    """
    primary, backup = wish.uplinks[0], wish.uplinks[1]
    rows = [
        _route(f"{CANARY}{host}", f"{host}/32", primary.gateway, 1, scope="10", **{"target-scope": "10"})
        for host in wish.canaries
    ]
    prefixes = (*wish.voice, *(f"{address}/32" for address in wish.resolvers[:1]))
    for prefix in prefixes if wish.canaries else ():
        # A canary is looked up among the routes of scope 10 (manual, "IP Routing", nexthop lookup).
        checked = {"check-gateway": "ping", "target-scope": "11"}
        for distance, host in enumerate(wish.canaries, 1):
            rows.append(_route(f"{NATIVE}{primary.tag}-{distance}-{prefix}", prefix, host, distance, **checked))
        rows.append(_route(f"{NATIVE}{backup.tag}-{prefix}", prefix, backup.gateway, NATIVE_BACKUP))
    return rows


def _route(name: str, prefix: str, gateway: str, distance: int, **more: str) -> Row:
    return Row("/ip/route", name, {"dst-address": prefix, "gateway": gateway, "distance": str(distance), **more})


def flush(wish: Wish) -> list[Row]:
    """The flush of the native fallback: each ten seconds, or, where there are no jobs, at each change of a host."""
    if not wish.canaries:
        return []
    lists = [ALIVE_LIST, *(f"edge-{uplink.tag}-{kind}" for uplink in wish.uplinks for kind in ("site", "phone"))]
    ports = [(uplink.tag, uplink.interface) for uplink in wish.uplinks[:2]]
    marks = [*(uplink.tag for uplink in wish.uplinks), *(["dns"] if wish.resolvers else [])]
    text = scripts.flush(ports, marks, lists)
    if wish.scheduler:
        # From startup on: by the clock it would not run at all on a board whose clock is behind after a power cut.
        when = {"start-time": "startup", "interval": scripts.FLUSH_EVERY}
        job = {"name": "edge-flush", **when, "policy": scripts.FLUSH_POLICY, "on-event": text}
        return [Row("/system/scheduler", "flush", job)]
    late = scripts.repeated(text)
    watch = {"interval": scripts.FLUSH_EVERY, "up-script": late, "down-script": late}
    return [Row("/tool/netwatch", f"flush-{host}", {"host": host, **watch}) for host in (wish.agent, *wish.canaries)]
