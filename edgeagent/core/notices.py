"""Transitions -> who is told what, once.

An incident (a failover with its failback) makes one ``failover`` and one ``restored`` for each audience, a fault that
stays makes one ``fault`` and one ``cleared``. When and in which form they leave is decided later, in post.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgeagent.core import guard
from edgeagent.core.detector import PathState
from edgeagent.core.drain import Phones, busy
from edgeagent.core.facts import Finding, Instant
from edgeagent.core.failover import AWAY, Departure, Place, open_incident
from edgeagent.core.faults import CATALOGUE, FAULT_INCIDENT, SUPPORT, FaultState, Told, moment
from edgeagent.core.intents import Notify, Values
from edgeagent.core.settings import Settings
from edgeagent.core.window import NEVER

SYNCED = "synced"
ROWS_TOLD = 8  # of what was put right; the journal has them all


def told(
    before: Place, after: Place, paths: dict[str, PathState], phones: Phones, settings: Settings, now: Instant
) -> tuple[Notify, ...]:
    """The notices that a change of place owes: ``failover`` when an incident begins, ``restored`` when it ends."""
    if after.phase == AWAY and after.incident != open_incident(before):
        began_s = paths[settings.primary.name].down_from_s
        data: Values = {
            "path": after.path,
            "cause": after.cause,
            "began_wall": None if began_s == NEVER else moment(now, min(began_s, now.mono_s)).wall,
            "moved_wall": now.wall,
            "wall_quality": now.wall_quality,
            "phones": len(phones.phones),
            "calls": _calls(phones, settings, now),
        }
        return _for_all("failover", after.incident, data, settings.audiences)
    if open_incident(before) and open_incident(before) != open_incident(after):
        left = before.left or Departure(before.path, now)
        moved_wall, away_s, quality = _between(left.at, now)
        data = {
            "path": left.path,
            "cause": before.cause,
            "moved_wall": moved_wall,
            "returned_wall": now.wall,
            "wall_quality": quality,
            "away_s": away_s,
            "calls": _calls(phones, settings, now),
            "backup_died": int(before.phase == AWAY and not after.waiting and paths[before.path].verdict == "down"),
        }
        return _for_all("restored", before.incident, data, settings.audiences)
    return ()


def told_faults(before: FaultState, after: FaultState, settings: Settings, now: Instant) -> tuple[Notify, ...]:
    """The notices that the faults owe: ``fault`` for one that has stayed, ``cleared`` when it is over."""
    found: list[Notify] = []
    for code in sorted(after.told.keys() - before.told.keys()):
        found += _of_fault("fault", code, after.told[code], {}, settings, now)
    for code in sorted(before.told.keys() - after.told.keys()):
        _, lasted_s, _ = _between(before.told[code].since, now)
        over: Values = {"cleared_wall": now.wall, "lasted_s": lasted_s}
        found += _of_fault("cleared", code, before.told[code], over, settings, now)
    return tuple(found)


def told_drift(
    before: guard.GuardState, after: guard.GuardState, settings: Settings, now: Instant
) -> tuple[Notify, ...]:
    """One notice for all that somebody had changed in the router and that has proved to be right again."""
    findings = [one for one in guard.put_right(before, after) if not one.by_us]
    if not findings:
        return ()
    more = len(findings) - ROWS_TOLD
    data: Values = {
        "count": len(findings),
        "rows": "; ".join(map(_row, findings[:ROWS_TOLD])) + (f"; +{more}" if more > 0 else ""),
        "since_wall": now.wall,
        "wall_quality": now.wall_quality,
    }
    incident = f"{FAULT_INCIDENT}drift-{now.boot_id[:8]}-{int(now.mono_s * 1000):x}"
    audiences = [audience for audience in SUPPORT if audience in settings.audiences]
    return _for_all("drifted", incident, data, audiences)


def _row(one: Finding) -> str:
    """In the router's own words, as the journal has it."""
    what = f"{one.thing}: {one.kind}"
    return f"{what} {one.attribute} {one.found} -> {one.wanted}".rstrip(" ->") if one.attribute else what


def _of_fault(kind: str, code: str, one: Told, more: Values, settings: Settings, now: Instant) -> tuple[Notify, ...]:
    since_wall, _, quality = _between(one.since, now)
    data: Values = {"code": code, "since_wall": since_wall, "wall_quality": quality, **more}
    audiences = [audience for audience in CATALOGUE[code].audience if audience in settings.audiences]
    return _for_all(kind, one.incident, data, audiences)


def _for_all(kind: str, incident: str, data: Values, audiences: Iterable[str]) -> tuple[Notify, ...]:
    return tuple(Notify(incident, kind, audience, data) for audience in audiences)


def _calls(phones: Phones, settings: Settings, now: Instant) -> int:
    return sum(
        busy(phone, now.mono_s - settings.flows.home_every_s, settings.failback) for phone in phones.phones.values()
    )


def _between(then: Instant, now: Instant) -> tuple[float | None, float | None, str]:
    """Wall time of an earlier moment, seconds from it until now, and how far both may be trusted.

    Within one boot the clock as it is now knows best; of an earlier boot only its own clock is left.
    """
    if then.boot_id == now.boot_id:
        return moment(now, then.mono_s).wall, round(now.mono_s - then.mono_s, 1), now.wall_quality
    if then.wall is None or now.wall is None or now.wall < then.wall:
        return then.wall, None, "unknown"
    both = SYNCED if then.wall_quality == now.wall_quality == SYNCED else "unknown"
    return then.wall, round(now.wall - then.wall, 1), both
