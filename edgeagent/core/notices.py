"""Transitions -> who is told what, once."""

from __future__ import annotations

from edgeagent.core.detector import PathState
from edgeagent.core.drain import Phones, busy
from edgeagent.core.facts import Instant
from edgeagent.core.failover import AWAY, Place, open_incident
from edgeagent.core.intents import Notify
from edgeagent.core.settings import Settings


def told(
    before: Place, after: Place, paths: dict[str, PathState], phones: Phones, settings: Settings, now: Instant
) -> tuple[Notify, ...]:
    """The notices that a change of place owes: ``failover`` when an incident begins, ``restored`` when it ends."""
    if after.phase == AWAY and after.incident != open_incident(before):
        primary = paths[settings.primary.name]
        began_s = min(primary.down_from_s, now.mono_s)
        data = {
            "path": after.path,
            "cause": after.cause,
            "began_wall": _wall_of(began_s, now),
            "moved_wall": now.wall,
            "wall_quality": now.wall_quality,
            "phones": len(phones.phones),
            "calls": _calls(phones, settings, now),
        }
        return _for_all("failover", after.incident, data, settings)
    if open_incident(before) and open_incident(before) != open_incident(after):
        data = {
            "path": before.path,
            "cause": before.cause,
            "moved_wall": _wall_of(before.since_s, now),
            "returned_wall": now.wall,
            "wall_quality": now.wall_quality,
            "away_s": round(now.mono_s - before.since_s, 1),
            "calls": _calls(phones, settings, now),
            "backup_died": int(before.phase == AWAY and not after.waiting and paths[before.path].verdict == "down"),
        }
        return _for_all("restored", before.incident, data, settings)
    return ()


def _for_all(
    kind: str, incident: str, data: dict[str, str | float | int | None], settings: Settings
) -> tuple[Notify, ...]:
    return tuple(Notify(incident, kind, audience, data) for audience in settings.audiences)


def _calls(phones: Phones, settings: Settings, now: Instant) -> int:
    return sum(
        busy(phone, now.mono_s - settings.flows.home_every_s, settings.failback) for phone in phones.phones.values()
    )


def _wall_of(at_s: float, now: Instant) -> float | None:
    """Wall time of a monotonic moment of this boot."""
    return None if now.wall is None else now.wall - (now.mono_s - at_s)
