"""Is a path dead? Lost rounds in a row, with probing that quickens at the first wholly lost one.

One fixed rule, on purpose: for silent outages the run of lost rounds is as fast as anything at the same rate of false
alarms, and it can be explained to an installer. Brown-outs need another detector beside it.

=========  ==========================================================================  =========
from       when                                                                        to
=========  ==========================================================================  =========
unsure     one round answered                                                          up
any        ``lost_rounds`` lost in a row, and nothing else answered meanwhile          down
any        the router saw the uplink's link go, and nothing answered since             down
down       ``recover_rounds`` answered in a row, all sent after it went down           up
=========  ==========================================================================  =========
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import LinkChanged
from edgeagent.core.settings import ProbingSettings
from edgeagent.core.window import (
    DAY_S,
    NEVER,
    LostRun,
    Window,
    answered_run,
    icmp_silent,
    lost_run,
    settles_at,
)

UP, DOWN, UNSURE = "up", "down", "unsure"


class PathState(Struct, frozen=True):
    """What is known of one path.

    ``verdict`` since ``since_s``, because of ``cause`` (``probes`` or ``link``). ``good_since_s``: steady since then
    (None while it is not): the hold before failback counts from here. ``suspect_since_s``: when the first round of the
    present run of lost ones was sent. ``down_from_s``: when the last outage is believed to have begun.
    """

    window: Window = Window()
    verdict: str = UNSURE
    since_s: float = NEVER
    cause: str = ""
    good_since_s: float | None = None
    suspect_since_s: float | None = None
    down_from_s: float = NEVER
    lost: int = 0
    link_lost_s: float | None = None
    address: str | None = None


def link_changed(path: PathState, fact: LinkChanged) -> PathState:
    """Note what the router says of the uplink's link."""
    return replace(path, link_lost_s=None if fact.up else fact.at_s)


def judged(path: PathState, settings: ProbingSettings, now_s: float, *, loss_counts: bool = True) -> PathState:
    """The verdict as of now. Without ``loss_counts`` only answers say anything."""
    run = lost_run(path.window, now_s, settings.reply_wait_s) if loss_counts else LostRun(0, now_s)
    path = replace(path, lost=run.count, suspect_since_s=run.first_s if run.count else None)
    if run.count >= settings.unsteady_rounds:
        path = replace(path, good_since_s=None)
    if path.verdict != DOWN:
        return _still_alive(path, settings, run.count, now_s)
    return _recovered(path, settings, now_s)


def _still_alive(path: PathState, settings: ProbingSettings, lost: int, now_s: float) -> PathState:
    if _link_gone(path):
        return _down(path, "link", now_s)
    if lost >= settings.lost_rounds:
        return _down(path, "probes", now_s)
    count, first_s = answered_run(path.window, now_s, settings.reply_wait_s)
    if count and path.verdict == UNSURE:
        return replace(path, verdict=UP, since_s=now_s, cause="probes", good_since_s=first_s)
    if count and path.good_since_s is None:
        return replace(path, good_since_s=first_s)
    return path


def _recovered(path: PathState, settings: ProbingSettings, now_s: float) -> PathState:
    count, first_s = answered_run(path.window, now_s, settings.reply_wait_s)
    fresh = sum(1 for entry in path.window.rounds[-count:] if entry.sent_s > path.since_s) if count else 0
    if fresh < settings.recover_rounds or _link_gone(path):
        return path
    return replace(path, verdict=UP, since_s=now_s, cause="probes", good_since_s=max(first_s, path.since_s))


def _link_gone(path: PathState) -> bool:
    """A link report is overruled by an answer to anything sent after it: a stale report must not hold a path down."""
    return path.link_lost_s is not None and path.window.alive_s <= path.link_lost_s


def _down(path: PathState, cause: str, now_s: float) -> PathState:
    began_s = path.suspect_since_s if path.suspect_since_s is not None else now_s
    return replace(path, verdict=DOWN, since_s=now_s, cause=cause, good_since_s=None, down_from_s=began_s)


def hurried(path: PathState, settings: ProbingSettings) -> bool:
    """Whether to probe at the fast interval: something was lost, and it is not yet clear what that means."""
    return path.verdict != DOWN and 0 < path.lost < settings.lost_rounds


def sip_votes(path: PathState, now_s: float) -> bool:
    """Whether SIP says anything about this path: only if it was answered here within a day."""
    return now_s - path.window.sip_answered_s <= DAY_S


def sip_every(path: PathState, settings: ProbingSettings, now_s: float) -> int:
    """Which rounds probe SIP as well. All of them once pings are filtered and SIP alone tells life from death."""
    if settings.sip_every and icmp_silent(path.window, now_s, settings.reply_wait_s):
        return 1
    return settings.sip_every_fast if hurried(path, settings) else settings.sip_every


def wakes_at(path: PathState, settings: ProbingSettings, now_s: float) -> float | None:
    """When the verdict may change without a further fact."""
    return settles_at(path.window, now_s, settings.reply_wait_s)
