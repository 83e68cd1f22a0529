"""State -> the document that the fleet, the control socket and a person's screen are made from. Values only."""

from __future__ import annotations

from typing import Any

from edgeagent.core.detector import PathState
from edgeagent.core.drain import busy
from edgeagent.core.facts import Instant
from edgeagent.core.guard import GuardState
from edgeagent.core.settings import Settings
from edgeagent.core.turn import State

FORMAT = 1
FINDINGS_MAX = 10  # shown with what was found; of the others the number


def document(state: State, now: Instant, settings: Settings) -> dict[str, Any]:
    """The status as of ``now``; durations are seconds."""
    place = state.place
    return {
        "format": FORMAT,
        "site": settings.site,
        "phase": place.phase,
        "path": place.path,
        "since_s": _ago(place.since_s, now),
        "incident": place.incident or None,
        "waiting": len(place.waiting),
        "failovers_today": sum(1 for at_s in place.left_s if now.mono_s - at_s < 86400.0),
        "paths": {name: _path(path, now) for name, path in state.paths.items()},
        "phones": len(state.phones.phones),
        "calls": sum(busy(phone, now.mono_s, settings.failback) for phone in state.phones.phones.values()),
        "router": "unreachable" if state.router_lost else "reachable",
        "rows": _rows(state.guard, now),
        "faults": {code: round(now.mono_s - state.faults.holding[code], 1) for code in sorted(state.faults.raised)},
    }


def _path(path: PathState, now: Instant) -> dict[str, Any]:
    return {
        "verdict": path.verdict,
        "for_s": _ago(path.since_s, now),
        "cause": path.cause or None,
        "answered_ago_s": _ago(path.window.alive_s, now),
        "sip_answered_ago_s": _ago(path.window.sip_answered_s, now),
        "lost_in_a_row": path.lost,
        "address": path.address,
    }


def _rows(guard: GuardState, now: Instant) -> dict[str, Any]:
    """What differs in the router from what was provisioned."""
    found = [
        {
            "thing": one.finding.thing,
            "kind": one.finding.kind,
            "attribute": one.finding.attribute or None,
            "was": one.finding.found or None,
            "wanted": one.finding.wanted or None,
            "left": thing in guard.left,
            "since_s": _ago(one.since_s, now),
        }
        for thing, one in list(guard.open.items())[:FINDINGS_MAX]
    ]
    return {
        "provisioned": guard.provisioned,
        "led_by": guard.other or None,
        "differing": len(guard.open),
        "found": found,
        "unapplied": len(guard.unapplied),
        "unapplied_things": list(guard.unapplied[:FINDINGS_MAX]),
        "mended": guard.mended,
        "mended_ago_s": None if guard.mended_s is None else _ago(guard.mended_s, now),
    }


def _ago(at_s: float, now: Instant) -> float | None:
    return round(now.mono_s - at_s, 1) if at_s > float("-inf") else None
