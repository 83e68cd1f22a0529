"""Place and verdicts -> the standing orders: leases to hold, how to probe, how often to read the rows."""

from __future__ import annotations

from edgeagent.core import detector
from edgeagent.core.detector import DOWN, UP, PathState
from edgeagent.core.facts import Lease
from edgeagent.core.failover import AWAY, HOME, RETURNING, Place
from edgeagent.core.intents import Orders, Probing
from edgeagent.core.settings import ALIVE_LIST, EVERYTHING, PathSettings, Settings
from edgeagent.core.window import DAY_S

Paths = dict[str, PathState]
SIP_AGAIN_S = 300.0  # how often the backup's SIP is asked while the way home waits for the primary's
SWITCHING_S = 10.0  # so long after a change of place the router is left to it: rows are neither read nor put right
SIP_IN_NEED = 3  # of the rounds by a backup that is needed and does not answer pings


def leases(place: Place, settings: Settings, *, contradict: bool = False) -> frozenset[Lease]:
    """The timed entries that a place needs in the router. ``contradict``: the native fallback may leave the primary.

    That of a backup stands above that of the primary, so the latter does no harm while voice is away.
    """
    held = {Lease(ALIVE_LIST, EVERYTHING)}
    path = settings.path(place.path)
    if contradict:
        held.add(Lease(settings.primary.site_list, EVERYTHING))
    if place.phase == AWAY:
        held.add(Lease(path.site_list, EVERYTHING))
    if place.phase == RETURNING:
        held |= {Lease(path.phone_list, address) for address in place.waiting}
    return frozenset(held)


def wanted(
    paths: Paths, place: Place, settings: Settings, now_s: float, *, lead: bool, contradict: bool, keep_devices: bool
) -> Orders:
    """The orders for a place. Without ``lead`` the leases are left as the router holds them: they are unknown yet."""
    flows = settings.flows
    primary = paths[settings.primary.name]
    if detector.hurried(primary, settings.primary.probing):
        every_s = flows.suspect_every_s
    else:
        every_s = {HOME: flows.home_every_s, AWAY: flows.away_every_s, RETURNING: flows.returning_every_s}[place.phase]
    return Orders(
        leases=leases(place, settings, contradict=contradict) if lead else None,
        probing=tuple(_probing(paths, place, path, settings, now_s) for path in settings.paths),
        flows_every_s=every_s,
        watch_rows=not detector.hurried(primary, settings.primary.probing) and now_s - place.since_s >= SWITCHING_S,
        keep_devices=keep_devices,
    )


def _probing(paths: Paths, place: Place, path: PathSettings, settings: Settings, now_s: float) -> Probing:
    own, probing = paths[path.name], path.probing
    primary = paths[settings.primary.name]
    interval_s = probing.interval_s
    if path.name == place.path:
        interval_s = probing.active_interval_s
    if detector.hurried(own, probing) or (path is not settings.primary and _needed(own, primary, settings)):
        interval_s = probing.fast_interval_s
    sip_every = detector.sip_every(own, probing, now_s)
    if path is not settings.primary:
        needed = primary.verdict == DOWN and own.verdict != UP
        sip_every = 1 if _sip_due(place, path, own, now_s) else SIP_IN_NEED if needed else 0
    return Probing(path.name, interval_s, sip_every)


def _needed(backup: PathState, primary: PathState, settings: Settings) -> bool:
    """Whether a backup may be needed at any moment and has not answered since that became so."""
    if primary.verdict == DOWN:
        return backup.window.alive_s < primary.down_from_s
    return detector.hurried(primary, settings.primary.probing) and (
        primary.suspect_since_s is not None and backup.window.alive_s < primary.suspect_since_s
    )


def _sip_due(place: Place, path: PathSettings, own: PathState, now_s: float) -> bool:
    """A backup's SIP is asked once a day, once with each failover to it, and when the way home waits for SIP."""
    sent_s = own.window.sip_sent_s
    if place.ready_since_s is not None and place.path == path.name:
        return sent_s < place.ready_since_s or now_s - sent_s >= SIP_AGAIN_S
    return now_s - sent_s >= DAY_S or (place.phase == AWAY and place.path == path.name and sent_s < place.since_s)
