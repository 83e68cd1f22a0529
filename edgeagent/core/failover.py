"""Where voice goes. Every change of path lives in this file, in `RULES` and `next_place`.

Rules
-----
1. Voice leaves a path only when that path is down, and only for one that is not known to be dead (clause P6).
2. A path that is not yet judged is waited for; it is being probed at the fast interval meanwhile.
3. Voice goes home after the primary has been good for the hold, phone by phone (returning), so that no call is cut.
4. When the backup that carries voice dies while the primary is up, voice goes home at once: nothing is left to drain.
5. The hold grows with the number of failovers; leaving a dead path is never delayed by it (clause L4 yields to L2).

Theory of operation
-------------------
A *place* is (phase, path). ``home`` is the primary. ``away`` on a backup: the whole site holds that backup's lease.
``returning`` from a backup: new phones go by the primary already, the phones in `waiting` still hold a lease each. An
*incident* begins with ``away`` and ends when voice starts to go home. An agent that died between telling that end and
acting on it is away without one; a line that is dead then begins the next. An agent that starts and finds its lease
lapsed is home with the incident still open: it ends when the primary proves to be up, or goes on with the next
failover.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.detector import DOWN, UP, PathState, sip_votes
from edgeagent.core.facts import Instant, LeasesSeen
from edgeagent.core.settings import FailbackSettings, Settings
from edgeagent.core.window import NEVER

HOME, AWAY, RETURNING = "home", "away", "returning"
HOUR_S, DAY_S = 3600.0, 86400.0
LEASE_S = 60.0  # how long the router keeps a lease that nobody renews


class Departure(Struct, frozen=True):
    """The failover that began an incident: onto which path, when."""

    path: str
    at: Instant


class Place(Struct, frozen=True):
    """Where new voice goes (``path``), since when (NEVER: as the agent found it), and which incident that belongs to.

    ``waiting``: phones that still hold a lease while returning. ``left_s``: when each failover of the last day began.
    ``cause``: why the primary was left (``probes`` or ``link``). ``left``: how the incident began.
    """

    phase: str = HOME
    path: str = ""
    since_s: float = NEVER
    incident: str = ""
    cause: str = ""
    waiting: frozenset[str] = frozenset()
    left_s: tuple[float, ...] = ()
    ready_since_s: float | None = None  # the hold is over; only SIP's answer is missing
    left: Departure | None = None


RULES: dict[tuple[str, str, str], str] = {
    # (phase, primary, the backup in use or the best one) -> what to do
    (HOME, DOWN, "usable"): "leave",
    (AWAY, DOWN, DOWN): "leave",  # to another backup, where there is one
    (AWAY, UP, DOWN): "home",
    (AWAY, UP, "usable"): "return when held",
    (RETURNING, DOWN, "usable"): "leave",
    (RETURNING, UP, DOWN): "home",
    (RETURNING, UP, "usable"): "home when empty",
}


def next_place(place: Place, paths: dict[str, PathState], settings: Settings, now: Instant) -> Place:
    """The place that follows from the verdicts; the same one where no rule fires."""
    primary = paths[settings.primary.name]
    backup = place.path if place.phase != HOME else None
    usable = _best_backup(paths, settings)
    in_use = DOWN if backup and paths[backup].verdict == DOWN else "usable" if backup or usable else "none"
    if place.phase == RETURNING and primary.verdict == DOWN:
        in_use = "usable" if usable else "none"
    if place.phase == AWAY and not place.incident and primary.verdict == DOWN:
        return replace(place, incident=new_incident(now), cause=primary.cause, left=Departure(place.path, now))
    rule = RULES.get((place.phase, primary.verdict, in_use))
    if place.phase == HOME and place.incident and primary.verdict == UP:
        return replace(place, incident="", left=None)
    if rule == "leave" and usable and (place.phase != AWAY or usable != place.path):
        return _left(place, usable, primary, now)
    if rule == "home":
        return _home(place, settings, now)
    if rule == "return when held":
        return _held(place, paths, settings, now)
    if rule == "home when empty" and not place.waiting:
        return _home(place, settings, now)
    if place.ready_since_s is not None and primary.verdict != UP:
        return replace(place, ready_since_s=None)
    return place


def adopted(place: Place, fact: LeasesSeen, settings: Settings, now: Instant) -> Place:
    """Start from what the router does, not from what we last wanted: a restart must not be a second switch."""
    held = {lease.list: {entry.address for entry in fact.leases if entry.list == lease.list} for lease in fact.leases}
    for path in settings.paths[1:]:
        same = place.path == path.name
        fresh = new_incident(now)
        incident = place.incident if same and place.incident else fresh
        kept = replace(place, path=path.name, since_s=now.mono_s, incident=incident, ready_since_s=None)
        if path.site_list in held:
            if same and place.phase == AWAY:
                return place
            kept = replace(kept, phase=AWAY, waiting=frozenset())
            if open_incident(place):
                return replace(kept, incident=place.incident)
            if same and place.phase == RETURNING:
                return replace(kept, incident="")  # its end was told; whether there is another is for the line to show
            return replace(kept, incident=fresh, left=Departure(path.name, now))
        if path.phone_list in held:
            if same and place.phase == AWAY and now.mono_s - place.since_s < LEASE_S:
                return place  # died between the record of a failover and its lease: phones were still returning
            waiting = frozenset(address.removesuffix("/32") for address in held[path.phone_list])
            return replace(kept, phase=RETURNING, waiting=waiting)
    # The lease has lapsed. Whether the incident is over is for the primary to show.
    lapsed = Place(path=settings.primary.name, since_s=now.mono_s, left_s=place.left_s)
    if not open_incident(place):
        return lapsed
    return replace(lapsed, incident=place.incident, cause=place.cause, left=place.left)


def carried(place: Place, settings: Settings) -> Place:
    """What is left of a place after the machine was off: an incident that was open still is (clause N1)."""
    home = Place(path=settings.primary.name)
    if not open_incident(place):
        return home
    return replace(home, incident=place.incident, cause=place.cause, left=place.left)


def new_incident(now: Instant) -> str:
    """A name that no other incident of this site bears."""
    return f"{now.boot_id[:8]}-{int(now.mono_s * 1000):x}"


def open_incident(place: Place) -> str:
    """The incident that has not ended; empty where there is none."""
    return "" if place.phase == RETURNING else place.incident


def hold_s(left_s: tuple[float, ...], settings: FailbackSettings, now_s: float) -> float:
    """How long the primary must have been good, given the failovers of the last day.

    Doubles with each failover of the last hour, and beyond six a day reaches the day's maximum.
    """
    hour = sum(1 for at_s in left_s if now_s - at_s < HOUR_S)
    day = sum(1 for at_s in left_s if now_s - at_s < DAY_S)
    hold = min(settings.hold_s * 2 ** max(0, hour - 1), settings.hold_hour_max_s)
    if day > settings.per_day_max // 2:
        crowded = settings.hold_hour_max_s * 2 ** (day - settings.per_day_max // 2 - 1)
        hold = max(hold, min(crowded, settings.hold_day_max_s))
    return float(hold)


def may_return_at(place: Place, primary: PathState, settings: FailbackSettings, now_s: float) -> float | None:
    """When the hold ends if the primary stays good; None while it is not good.

    Later still where one more failover right after the return would be too many for the hour or the day (clause L4).
    """
    if primary.good_since_s is None:
        return None
    at_s = primary.good_since_s + hold_s(place.left_s, settings, now_s)
    for most, span_s in ((settings.per_hour_max, HOUR_S), (settings.per_day_max, DAY_S)):
        if len(place.left_s) >= most:
            at_s = max(at_s, place.left_s[-most] + span_s)
    return at_s


def _best_backup(paths: dict[str, PathState], settings: Settings) -> str | None:
    return next((path.name for path in settings.paths[1:] if paths[path.name].verdict == UP), None)


def _left(place: Place, backup: str, primary: PathState, now: Instant) -> Place:
    if place.phase == AWAY:
        return replace(place, path=backup, since_s=now.mono_s)
    recent = tuple(at_s for at_s in place.left_s if now.mono_s - at_s < DAY_S)[-64:]
    still_open = place.phase == HOME and place.incident
    return Place(
        phase=AWAY,
        path=backup,
        since_s=now.mono_s,
        incident=place.incident if still_open else new_incident(now),
        cause=primary.cause,
        left_s=(*recent, now.mono_s),
        left=place.left if still_open and place.left else Departure(backup, now),
    )


def _held(place: Place, paths: dict[str, PathState], settings: Settings, now: Instant) -> Place:
    primary = paths[settings.primary.name]
    at_s = may_return_at(place, primary, settings.failback, now.mono_s)
    if at_s is None or now.mono_s < at_s:
        return replace(place, ready_since_s=None)
    if not _sip_agrees(place, primary, paths[place.path], now.mono_s):
        return replace(place, ready_since_s=now.mono_s) if place.ready_since_s is None else place
    return replace(place, phase=RETURNING, since_s=now.mono_s, ready_since_s=None)


def _sip_agrees(place: Place, primary: PathState, backup: PathState, now_s: float) -> bool:
    """Whether SIP is back on the primary, as far as SIP says anything.

    Where it was never answered it has no vote. Where the backup's SIP probe, asked since, goes unanswered too, it is
    the provider that is silent, and that must not keep phones on the backup.
    """
    good_s = primary.good_since_s
    if good_s is None or not sip_votes(primary, now_s) or primary.window.sip_answered_s >= good_s:
        return True
    if place.ready_since_s is None or backup.window.sip_sent_s < place.ready_since_s:
        return False
    return now_s - backup.window.sip_sent_s > SIP_SILENT_S and backup.window.sip_answered_s < backup.window.sip_sent_s


SIP_SILENT_S = 8.0  # a SIP probe of the backup that is still unanswered after this went unanswered


def _home(place: Place, settings: Settings, now: Instant) -> Place:
    return Place(phase=HOME, path=settings.primary.name, since_s=now.mono_s, left_s=place.left_s)
