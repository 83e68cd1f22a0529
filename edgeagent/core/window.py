"""Recent rounds of one path. Loss is no event: it is judged when read, and a late reply heals it.

A round is *lost* when it is older than the reply wait and none of its targets answered although the control (the
router's own LAN address) did. A round whose control is silent says nothing about the line: the fault is on our side of
the router. The control has that say only if it was answered within a day: a router may refuse pings altogether. A round
that could not be sent says nothing either.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import ProbeReplied, RoundsAnswered, RoundSent

ROUNDS_MAX = 64
CONTROL = "control"
SIP = "sip:"
NEVER = float("-inf")
DAY_S = 86400.0


class Round(Struct, frozen=True):
    """One round: what was sent, what came back."""

    number: int
    sent_s: float
    targets: tuple[str, ...]
    control_sent: bool
    control: bool = False
    answered: tuple[str, ...] = ()


class Window(Struct, frozen=True):
    """The last rounds of a path, oldest first, and when each kind of probe was last known to be answered.

    ``alive_s``: the latest moment at which anything that we saw answered had been sent; ``flow_s``: the same, of the
    phones' own flows alone.
    """

    rounds: tuple[Round, ...] = ()
    alive_s: float = NEVER
    icmp_answered_s: float = NEVER
    sip_answered_s: float = NEVER
    sip_sent_s: float = NEVER
    control_answered_s: float = NEVER
    flow_s: float = NEVER


class LostRun(Struct, frozen=True):
    """Rounds lost in a row up to now, and when the first of them was sent."""

    count: int
    first_s: float


def round_sent(window: Window, fact: RoundSent) -> Window:
    """Add a round; the oldest falls out."""
    entry = Round(fact.number, fact.at_s, fact.targets, fact.control)
    sip_s = fact.at_s if any(target.startswith(SIP) for target in fact.targets) else window.sip_sent_s
    return replace(window, rounds=(*window.rounds[-(ROUNDS_MAX - 1) :], entry), sip_sent_s=sip_s)


def replied(window: Window, fact: ProbeReplied) -> Window:
    """Note an answer, however late; one to a round that has fallen out is too old to matter."""
    newest_first = reversed(range(len(window.rounds)))
    index = next((i for i in newest_first if window.rounds[i].number == fact.number), None)
    if index is None:
        return window
    entry = window.rounds[index]
    if fact.target == CONTROL:
        changed = replace(entry, control=True)
        window = replace(window, control_answered_s=max(window.control_answered_s, entry.sent_s))
    elif fact.target in entry.targets and fact.target not in entry.answered:
        changed = replace(entry, answered=(*entry.answered, fact.target))
        window = _answered(window, fact.target, entry.sent_s)
    else:
        return window
    return replace(window, rounds=(*window.rounds[:index], changed, *window.rounds[index + 1 :]))


def stretch_answered(window: Window, fact: RoundsAnswered) -> Window:
    """Leap over a quiet stretch: its last round stands for all of it."""
    entry = Round(fact.number, fact.until_s, fact.targets, control_sent=True, control=True, answered=fact.targets)
    for target in fact.targets:
        window = _answered(window, target, fact.until_s)
        if target.startswith(SIP):
            window = replace(window, sip_sent_s=fact.until_s)
    window = replace(window, control_answered_s=fact.until_s)
    return replace(window, rounds=(*window.rounds[-(ROUNDS_MAX - 1) :], entry))


def flow_answered(window: Window, at_s: float) -> Window:
    """A phone's flow was answered by this path after ``at_s``."""
    return replace(window, alive_s=max(window.alive_s, at_s), flow_s=max(window.flow_s, at_s))


def without_loss(window: Window, now_s: float, reply_wait_s: float) -> Window:
    """Forget the rounds that are lost as of now; one that may still be answered is kept."""
    kept = (entry for entry in window.rounds if entry.answered or now_s - entry.sent_s < reply_wait_s)
    return replace(window, rounds=tuple(kept))


def settled(window: Window, now_s: float, reply_wait_s: float) -> Iterator[Round]:
    """The rounds that are no longer waited for, newest first."""
    return (entry for entry in reversed(window.rounds) if now_s - entry.sent_s >= reply_wait_s)


def lost_run(window: Window, now_s: float, reply_wait_s: float) -> LostRun:
    """Count back from the newest round to the last sign of life."""
    count, first_s = 0, now_s
    control_votes = now_s - window.control_answered_s <= DAY_S
    for entry in reversed(window.rounds):
        if entry.answered or entry.sent_s <= window.alive_s:
            break
        if not entry.targets or now_s - entry.sent_s < reply_wait_s:
            continue
        if control_votes and entry.control_sent and not entry.control:
            continue
        count += 1
        first_s = entry.sent_s
    return LostRun(count, first_s)


def control_silent(window: Window, now_s: float, reply_wait_s: float, rounds: int) -> bool:
    """Whether the router itself has not answered on the LAN in the last ``rounds`` rounds."""
    newest = list(itertools.islice(settled(window, now_s, reply_wait_s), rounds))
    return len(newest) == rounds and not any(entry.control for entry in newest)


def not_sent(window: Window, rounds: int) -> bool:
    """Whether none of the last ``rounds`` rounds could be sent by this path at all."""
    last = window.rounds[-rounds:]
    return len(last) == rounds and not any(entry.targets for entry in last)


def answered_run(window: Window, now_s: float, reply_wait_s: float) -> tuple[int, float]:
    """Rounds answered in a row up to now, and when the first of them was sent."""
    count, first_s = 0, now_s
    for entry in reversed(window.rounds):
        if entry.answered:
            count, first_s = count + 1, entry.sent_s
        elif now_s - entry.sent_s >= reply_wait_s and entry.targets:
            break
    return count, first_s


def settles_at(window: Window, now_s: float, reply_wait_s: float) -> float | None:
    """When the next unanswered round will count as lost; None when nothing is open."""
    young = itertools.takewhile(lambda entry: entry.sent_s + reply_wait_s > now_s, reversed(window.rounds))
    open_s = [entry.sent_s + reply_wait_s for entry in young if entry.targets and not entry.answered]
    return min(open_s, default=None)


def icmp_silent(window: Window, now_s: float, reply_wait_s: float, rounds: int = 3) -> bool:
    """Whether SIP alone answers: the last settled rounds had no other answer, though the path is alive."""
    if window.sip_answered_s <= window.icmp_answered_s:
        return False
    sent = (entry for entry in settled(window, now_s, reply_wait_s) if entry.targets)
    newest = list(itertools.islice(sent, rounds))
    icmp = any(not target.startswith(SIP) for entry in newest for target in entry.answered)
    return len(newest) == rounds and not icmp


def _answered(window: Window, target: str, sent_s: float) -> Window:
    if target.startswith(SIP):
        window = replace(window, sip_answered_s=max(window.sip_answered_s, sent_s))
    else:
        window = replace(window, icmp_answered_s=max(window.icmp_answered_s, sent_s))
    return replace(window, alive_s=max(window.alive_s, sent_s))
