"""What may leave the outbox now, and in which form. Pure: the queue, what was sent, the time -> what to do.

A *stream* is one audience's mails about incidents, or its mails about faults; each stream counts for itself. A *thread*
is one incident within it: its opening (``failover``, ``fault``) and its closing (``restored``, ``cleared``). Rules, the
first that fits:

1. A message older than ``keep_s`` is dropped (clause N2).
2. An opening and its closing that are both unsent become one ``summary`` (clause N1).
3. An opening waits ``delay_s``, in case its closing comes.
4. What the cap leaves no room for waits; once there is room for one, all that waits becomes one ``digest`` (clause N5).
5. Within a thread nothing overtakes, and what waits for another try holds its successors back.

A message that the server may have taken is never merged: it is sent again as it was (clause N3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from edgeagent.core.facts import Instant
from edgeagent.core.faults import FAULT_INCIDENT
from edgeagent.core.intents import Notify
from edgeagent.core.settings import MailSettings

HOUR_S, DAY_S = 3600.0, 86400.0
OPENINGS = {"failover": "restored", "fault": "cleared"}
PARTS_MAX = 64  # of one digest; more become a second one
DIGEST = "digest-"
TICK_S = 0.01  # past the end of a span, whatever the rounding
TOO_OLD = "too old"


class Unsent(Struct, frozen=True):
    """One queued message. ``maybe_taken``: a server may have it, though its answer was lost."""

    id: str
    notice: Notify
    created: Instant
    maybe_taken: bool = False


class Done(Struct, frozen=True):
    """One message that the server took, perhaps in an earlier boot."""

    audience: str
    incident: str
    at: Instant


class Send(Struct, frozen=True, tag=True):
    """Hand this message to the server now."""

    id: str


class Merge(Struct, frozen=True, tag=True):
    """Queue ``notice`` in the place of these messages, in one transaction."""

    ids: tuple[str, ...]
    notice: Notify


class Drop(Struct, frozen=True, tag=True):
    """Send this message no more; ``reason`` is kept with it."""

    id: str
    reason: str


class Plan(Struct, frozen=True):
    """Merges and drops come first; then the sending, in the order given. ``next_s``: when to ask again, if nothing
    happens before (monotonic, None: then only).
    """

    actions: tuple[Send | Merge | Drop, ...]
    next_s: float | None


def plan(
    queue: Sequence[Unsent],
    done: Sequence[Done],
    retry_s: Mapping[str, float],
    now: Instant,
    settings: MailSettings,
) -> Plan:
    """What to do now. ``queue`` is oldest first; ``retry_s``: when each message that failed is to be tried again."""
    old = [Drop(one.id, TOO_OLD) for one in queue if too_old(one, now, settings)]
    gone = {one.id for one in old}
    actions: list[Send | Merge | Drop] = [*old]
    waits: list[float] = []
    for stream in _streams([one for one in queue if one.id not in gone]):
        more, next_s = _of_stream(stream, done, retry_s, now, settings)
        actions += more
        waits += next_s
    return Plan(tuple(actions), min((at_s for at_s in waits if at_s > now.mono_s), default=None))


def _of_stream(
    stream: Sequence[Unsent],
    done: Sequence[Done],
    retry_s: Mapping[str, float],
    now: Instant,
    settings: MailSettings,
) -> tuple[list[Send | Merge | Drop], list[float]]:
    summaries = _summaries(stream)
    if summaries:
        return list(summaries), [now.mono_s + 1.0]
    delayed = _delayed(stream, now, settings)
    held = {one.notice.incident for one in delayed}
    due = [one for one in stream if one.notice.incident not in held]
    waits = [one.created.mono_s + settings.delay_s for one in delayed]
    if not due:
        return [], waits
    room, free_s = _room(due[0].notice, done, now, settings)
    if len(due) > room:
        waits.append(free_s)
        mergeable = _mergeable(due)
        if room and len(mergeable) > 1:
            return [_digest(mergeable)], [*waits, now.mono_s + 1.0]
    # Room is for what can go now: what waits for its next try must not keep the place of what does not.
    return [*_sends(due, retry_s, now.mono_s)[:room]], [*waits, *(retry_s[one.id] for one in due if one.id in retry_s)]


def _streams(queue: Sequence[Unsent]) -> list[list[Unsent]]:
    found: dict[tuple[str, bool], list[Unsent]] = {}
    for one in queue:
        found.setdefault((one.notice.audience, _about_fault(one.notice.incident)), []).append(one)
    return list(found.values())


def _about_fault(incident: str) -> bool:
    return incident.startswith(FAULT_INCIDENT)


def _summaries(stream: Sequence[Unsent]) -> list[Merge]:
    """Rule 2."""
    found = []
    for one in stream:
        closing = OPENINGS.get(one.notice.kind)
        if closing is None or one.maybe_taken:
            continue
        for other in stream:
            if (other.notice.kind, other.notice.incident) == (closing, one.notice.incident) and not other.maybe_taken:
                both = {**one.notice.data, **other.notice.data}
                parts = (one.notice, other.notice)
                notice = Notify(one.notice.incident, "summary", one.notice.audience, both, parts)
                found.append(Merge((one.id, other.id), notice))
    return found


def _delayed(stream: Sequence[Unsent], now: Instant, settings: MailSettings) -> list[Unsent]:
    """Rule 3. What was written in an earlier boot has waited long enough."""
    return [
        one
        for one in stream
        if one.notice.kind in OPENINGS
        and one.created.boot_id == now.boot_id
        and now.mono_s < one.created.mono_s + settings.delay_s
    ]


def _room(notice: Notify, done: Sequence[Done], now: Instant, settings: MailSettings) -> tuple[int, float]:
    """Rule 4: how many mails this stream may still send, and when there will be room for one more.

    A mail of which it is not known how long ago it left counts for nothing (clause C4): one held back by a clock that
    is wrong is worse than one too many. Those of this boot always count, and those of earlier boots as soon as the
    clock is set, so a clock that is never right lets through the cap once for each boot and no more.
    """
    about = _about_fault(notice.incident)
    ages_s = [
        _since_s(one.at, now) for one in done if one.audience == notice.audience and about == _about_fault(one.incident)
    ]
    sent_s = sorted(now.mono_s - age_s for age_s in ages_s if age_s is not None)
    room, free_s = settings.per_hour_max, now.mono_s
    for most, span_s in ((settings.per_hour_max, HOUR_S), (settings.per_day_max, DAY_S)):
        recent = [at_s for at_s in sent_s if now.mono_s - at_s < span_s]
        room = min(room, most - len(recent))
        if len(recent) >= most:
            free_s = max(free_s, recent[-most] + span_s + TICK_S)
    return max(0, room), free_s


def _parts(one: Unsent) -> tuple[Notify, ...]:
    return one.notice.parts or (one.notice,)


def _mergeable(due: Sequence[Unsent]) -> list[Unsent]:
    found: list[Unsent] = []
    count = 0
    for one in due:
        if one.maybe_taken:
            continue
        parts = len(_parts(one))
        if found and count + parts > PARTS_MAX:
            if len(found) > 1:
                break
            found, count = [], 0  # a full digest takes no more; those behind it make another
        found.append(one)
        count += parts
    return found


def _digest(waiting: Sequence[Unsent]) -> Merge:
    parts = tuple(part for one in waiting for part in _parts(one))
    last = parts[-1]
    prefix = FAULT_INCIDENT + DIGEST if _about_fault(last.incident) else DIGEST
    # Named after what is in it, so that the same merging, done twice, makes the same message.
    incident = f"{prefix}{len(parts)}-{last.kind}-{last.incident}"
    return Merge(tuple(one.id for one in waiting), Notify(incident, "digest", last.audience, {}, parts))


def _sends(due: Sequence[Unsent], retry_s: Mapping[str, float], now_s: float) -> list[Send]:
    """Rule 5."""
    blocked: set[str] = set()
    found = []
    for one in due:
        threads = {one.notice.incident, *(part.incident for part in one.notice.parts)}
        if not threads.isdisjoint(blocked):
            continue
        if retry_s.get(one.id, now_s) > now_s:
            blocked |= threads
        else:
            found.append(Send(one.id))
    return found


def too_old(one: Unsent, now: Instant, settings: MailSettings) -> bool:
    """Whether a message is to be given up (clause N2); never one whose age is not known."""
    age_s = _since_s(one.created, now)
    return age_s is not None and age_s > settings.keep_s


def _since_s(at: Instant, now: Instant) -> float | None:
    """Seconds from ``at`` to ``now``, None where that is not known.

    Between two boots only the time of day tells it: where both clocks were set, and it did not go backwards.
    """
    if at.boot_id == now.boot_id:
        return now.mono_s - at.mono_s
    if at.wall is None or now.wall is None or {at.wall_quality, now.wall_quality} != {"synced"}:
        return None
    return now.wall - at.wall if now.wall >= at.wall else None
