"""Until when the router's own fallback has to be contradicted: a lease of the primary then holds voice there.

The router sends an echo to two canaries behind the primary every ten seconds; after two misses in a row its native
routes turn to the backup, and with the next answer back. It may do so while we know the line to be well: canaries die
or refuse pings, blips meet both checks. On some kernels a turn silences calls for good, so the lease must stand before
the router turns, and as long after as it may take to turn back.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeagent.core import detector
from edgeagent.core.detector import UP, PathState
from edgeagent.core.failover import AWAY, HOME, Place
from edgeagent.core.settings import PathSettings
from edgeagent.core.window import DAY_S, SIP, Round, Window, settled

# check-gateway asks each 10 s (MikroTik manual, "IP Routing"): two that are missed, the one that is answered, and room.
SETTLE_S = 30.0
SILENT_ROUNDS = 20


def needed_until(
    until_s: float, place: Place, primary: PathState, path: PathSettings, now_s: float, *, stuck: bool
) -> float:
    """The end of the stretch in which the primary's lease is needed, given the one so far.

    It goes on from: a round that no canary answered, and after which the provider did; a primary that has come up; now,
    while voice is ``stuck`` on a primary that is down, every backup being down too, and while the line is suspected and
    the lease still stands. Nothing is added while voice is away, and what was is let run out, so that a failover stays
    one sentence.
    """
    if place.phase == AWAY or not path.canaries:
        return until_s
    missed_s = _missed_s(primary.window, path, now_s)
    begun_s = [missed_s] if missed_s is not None else []
    begun_s += [primary.since_s] if primary.verdict == UP else []
    begun_s += [now_s] if stuck and place.phase == HOME else []
    suspected = detector.hurried(primary, path.probing)
    begun_s += [now_s] if suspected and standing(until_s, place, primary.window, now_s) else []
    return max([until_s, *(at_s + SETTLE_S for at_s in begun_s)])


def standing(until_s: float, place: Place, window: Window, now_s: float) -> bool:
    """Whether the lease stands: until its end, and at home until something has answered after that.

    A line that dies just then would else cost a second sentence, in the very second in which voice is to be moved.
    """
    return now_s < until_s or (place.phase != AWAY and window.alive_s < until_s)


def silent(window: Window, path: PathSettings, now_s: float) -> bool:
    """Whether the provider answered and no canary did, in as many rounds as are remembered."""
    count, heard = 0, False
    for one in _telling(window, path, now_s):
        if _by_canary(one, path):
            return False
        count, heard = count + 1, heard or _by_provider(one, path)
    return heard and count >= SILENT_ROUNDS


def _missed_s(window: Window, path: PathSettings, now_s: float) -> float | None:
    """When the last such round was sent, if its stretch is not over.

    One alone says nothing: the line may have died while it was under way.
    """
    alive_s = window.flow_s
    for one in _telling(window, path, now_s):
        if now_s - one.sent_s > SETTLE_S:
            return None
        if alive_s > one.sent_s:
            if not _by_canary(one, path):
                return one.sent_s
        elif _by_provider(one, path):
            alive_s = one.sent_s
    return None


def _telling(window: Window, path: PathSettings, now_s: float) -> Iterator[Round]:
    """The settled rounds that say something of the canaries, newest first: our own network card may have been dead."""
    votes = now_s - window.control_answered_s <= DAY_S
    for one in settled(window, now_s, path.probing.reply_wait_s):
        blind = votes and one.control_sent and not one.control
        if not blind and not path.canaries.isdisjoint(one.targets):
            yield one


def _by_canary(one: Round, path: PathSettings) -> bool:
    return not path.canaries.isdisjoint(one.answered)


def _by_provider(one: Round, path: PathSettings) -> bool:
    return any(target == path.registrar or target.startswith(SIP) for target in one.answered)
