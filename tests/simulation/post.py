"""The site's outbox, its postman and the mail server, under clauses N1 to N6.

What leaves when is the core's to say (post.plan); here the messages are carried, answers get lost, the agent dies
between the server's taking a message and its own noting so, and the server may be away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from edgeagent.core import post
from edgeagent.core.facts import Instant
from edgeagent.core.faults import FAULT_INCIDENT
from edgeagent.core.intents import Notify
from edgeagent.core.post import Done, Drop, Merge, Send, Unsent
from edgeagent.core.settings import MailSettings
from tests.simulation.lines import noise
from tests.simulation.violation import ClauseViolation

if TYPE_CHECKING:
    from tests.simulation.world import World

WITHIN_S = 120.0  # N4
PER_HOUR, PER_DAY = 6, 20  # N5; a site may have less
HOUR_S, DAY_S, WEEK_S = 3600.0, 86400.0, 7 * 86400.0
REACH_S, TAKE_S, SILENT_S = 0.3, 0.2, 20.0
RETRY_FIRST_S, RETRY_MAX_S = 3.0, 60.0
PAIRS = {"restored": "failover", "cleared": "fault"}
Key = tuple[str, str, str]  # incident, audience, kind


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the recipients have it."""

    at: Instant
    id: str
    audience: str
    about_fault: bool


def message_id(notice: Notify) -> str:
    """As the postman makes it, but for the site's name."""
    return f"{notice.incident}.{notice.kind}.{notice.audience}"


class Mailroom:
    """``queue`` and ``done`` are on the agent's disk; the rest of the agent's side dies with it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings: MailSettings = world.settings.mail
        self.per_hour = min(PER_HOUR, self.settings.per_hour_max)
        self.per_day = min(PER_DAY, self.settings.per_day_max)
        self.queue: list[Unsent] = []
        self.done: list[Done] = []
        self.server_down = 0
        self.server_mute = 0  # it takes a message, and its answer is lost
        self.delivered: list[Delivery] = []
        self.ids: set[str] = set()
        self.excused: set[str] = set()  # a crash or a lost answer fell after the server took it
        self.told: dict[tuple[str, str], list[str]] = {}
        self.waiting: dict[Key, float] = {}  # created, not yet at the recipients
        self.way_since: float | None = None
        self.full_s: dict[tuple[str, bool], float] = {}  # when each stream last had no room left
        self.moved: dict[str, Instant] = {}  # when each incident's failover was told
        self.started(None)

    # --- the agent's side --------------------------------------------------------------------------------------

    def started(self, now: Instant | None) -> None:
        """A new process: what it had in memory is gone."""
        self.retry: dict[str, float] = {}
        self.tries: dict[str, int] = {}
        self.busy: str | None = None
        self.way_since = None
        if now is not None:
            self.world.at(self.world.now, self.round, self.world.agent.life)

    def notices(self, told: tuple[Notify, ...], now: Instant) -> None:
        """Queue what a turn said, in the transaction that records the turn."""
        for notice in told:
            self._is_true(notice, now)
            self.waiting[notice.incident, notice.audience, notice.kind] = now.mono_s
            self.queue.append(Unsent(message_id(notice), notice, now))
        if told:
            self.world.at(self.world.now, self.round, self.world.agent.life)

    def way_changed(self) -> None:
        """Voice took another path."""
        self.retry.clear()
        self.tries.clear()
        self.world.at(self.world.now, self.round, self.world.agent.life)

    def round(self, life: int) -> None:
        """What the postman does when he looks."""
        if life != self.world.agent.life or not self.world.agent.alive or self.busy is not None:
            return
        now = self.world.instant()
        for _ in range(50):
            plan = post.plan(self.queue, self.done, self.retry, now, self.settings)
            if not self._rearranged(plan):
                break
        else:
            raise ClauseViolation("N2", "the outbox never comes to rest")
        self._nothing_is_lost()
        sends = [action.id for action in plan.actions if isinstance(action, Send)]
        if sends:
            self._carry(sends[0], life)
        elif plan.next_s is not None:
            self.world.at(max(plan.next_s, self.world.now + 0.01), self.round, life)

    def _rearranged(self, plan: post.Plan) -> bool:
        """Merges and drops, on the agent's disk at once."""
        found = False
        for action in plan.actions:
            match action:
                case Merge():
                    last = next(one for one in self.queue if one.id == action.ids[-1])
                    self.queue = [one for one in self.queue if one.id not in action.ids]
                    self.queue.append(Unsent(message_id(action.notice), action.notice, last.created))
                case Drop():
                    self._dropped(next(one for one in self.queue if one.id == action.id))
                case Send():
                    continue
            found = True
        return found

    def _dropped(self, one: Unsent) -> None:
        if self.world.now - one.created.mono_s < WEEK_S:
            raise ClauseViolation("N2", f"{one.id} was given up after {self.world.now - one.created.mono_s:.0f} s")
        self.queue.remove(one)
        for key in _keys(one.notice):
            self.waiting.pop(key, None)

    def _carry(self, id: str, life: int) -> None:  # noqa: A002
        self.busy = id
        if self.way_open:
            self.world.at(self.world.now + REACH_S, self._handed_over, id, life)
        else:
            self.world.at(self.world.now + SILENT_S, self._failed, id, life)

    def _handed_over(self, id: str, life: int) -> None:  # noqa: A002
        """The message is about to be the server's: noted on the agent's disk first."""
        if life != self.world.agent.life or not self.world.agent.alive:
            return
        if not self.way_open:
            self._failed(id, life)
            return
        self.queue = [replace(one, maybe_taken=True) if one.id == id else one for one in self.queue]
        self.world.at(self.world.now + TAKE_S, self._taken, id, life)

    def _taken(self, id: str, life: int) -> None:  # noqa: A002
        alive = life == self.world.agent.life and self.world.agent.alive
        chance = noise(11, int(self.world.now * 10))
        way_held = self.way_open or not alive
        one = next((one for one in self.queue if one.id == id), None)
        if one is None:
            return
        if not alive or not way_held or self.server_mute or chance < 0.03:
            if chance < 0.6 or self.server_mute:
                self._arrives(one)
                self.excused.add(id)
            if alive:
                self._failed(id, life)
            return
        self._arrives(one)
        self.queue.remove(one)
        now = self.world.instant()
        self.done = [*self.done[-199:], Done(one.notice.audience, one.notice.incident, now)]
        self.retry.pop(id, None)
        self.busy = None
        self.round(life)

    def _failed(self, id: str, life: int) -> None:  # noqa: A002
        if life != self.world.agent.life or not self.world.agent.alive:
            return
        tries = self.tries.get(id, 0)
        self.tries[id] = tries + 1
        self.retry[id] = self.world.now + min(RETRY_FIRST_S * 2 ** min(tries, 10), RETRY_MAX_S)
        self.busy = None
        self.round(life)

    @property
    def way_open(self) -> bool:
        """Whether a mail that leaves by the path of voice would reach the server."""
        world = self.world
        path = world.agent.state.place.path
        return world.agent.alive and not self.server_down and not world.card_dead and world.lines[path].usable

    # --- the clauses -------------------------------------------------------------------------------------------

    def stepped(self) -> None:
        """N4: within two minutes of the event once there is a way, unless the cap holds it (N5)."""
        now_s = self.world.now
        if not self.way_open or self.server_mute:  # a server whose answers are lost is no way, whatever it takes
            self.way_since = None
            return
        if self.way_since is None:
            self.way_since = now_s
        for (incident, audience, kind), created_s in self.waiting.items():
            if now_s - max(created_s, self.way_since) <= WITHIN_S:
                continue
            about = incident.startswith(FAULT_INCIDENT)
            if not self._room(audience, about):
                self.full_s[audience, about] = now_s
                self.world.check.judged["N5 held by the cap"] += 1
            elif now_s - self.full_s.get((audience, about), 0.0) > WITHIN_S:
                raise ClauseViolation("N4", f"{kind} of {incident} to {audience}, of {created_s:.1f}, has not left")

    def _room(self, audience: str, about_fault: bool) -> bool:
        """Whether the cap leaves room, also by what the agent knows: of a lost answer it learns only later."""
        arrived_s = [one.at.mono_s for one in self._recent(audience, about_fault, DAY_S)]
        known_s = [
            one.at.mono_s
            for one in self.done
            if self._counts(one.at)
            and one.audience == audience
            and one.incident.startswith(FAULT_INCIDENT) == about_fault
        ]
        return all(
            sum(1 for at_s in sent_s if self.world.now - at_s < span_s) < most
            for sent_s in (arrived_s, known_s)
            for most, span_s in ((self.per_hour, HOUR_S), (self.per_day, DAY_S))
        )

    def _recent(self, audience: str, about_fault: bool, span_s: float) -> list[Delivery]:
        return [
            one
            for one in self.delivered
            if self._counts(one.at)
            and one.audience == audience
            and one.about_fault == about_fault
            and self.world.now - one.at.mono_s < span_s
        ]

    def _counts(self, at: Instant) -> bool:
        """Whether the cap still knows of a mail of that moment: of an earlier boot only where both clocks were set."""
        now = self.world.instant()
        return at.boot_id == now.boot_id or at.wall_quality == now.wall_quality == "synced"

    def _arrives(self, one: Unsent) -> None:
        """N1, N3 and N5, at the recipients' side."""
        notice, now_s = one.notice, self.world.now
        if one.id in self.ids:
            if one.id not in self.excused:
                raise ClauseViolation("N3", f"{one.id} came twice, though no crash and no lost answer was before")
            self.world.check.judged["N3 duplicates"] += 1
            return
        self.ids.add(one.id)
        about = notice.incident.startswith(FAULT_INCIDENT)
        self.delivered = [*(old for old in self.delivered if now_s - old.at.mono_s < DAY_S)]
        now = self.world.instant()
        self.delivered.append(Delivery(now, one.id, notice.audience, about))
        self.world.check.judged["N4 while the clock was unset"] += now.wall_quality != "synced"
        for most, span_s in ((self.per_hour, HOUR_S), (self.per_day, DAY_S)):
            if len(self._recent(notice.audience, about, span_s)) > most:
                raise ClauseViolation("N5", f"{notice.audience} was sent more than {most} within {span_s:.0f} s")
        self.world.check.judged[f"N5 {notice.kind}"] += 1
        for part in notice.parts or (notice,):
            self._is_told(part)

    def _is_told(self, part: Notify) -> None:
        """N1: of each incident each audience hears its opening once, then its closing once."""
        heard = self.told.setdefault((part.incident, part.audience), [])
        heard.append(part.kind)
        closing = part.kind in PAIRS
        if heard != ([PAIRS[part.kind], part.kind] if closing else [part.kind]):
            raise ClauseViolation("N1", f"incident {part.incident} told {part.audience}: {', '.join(heard)}")
        self.world.check.judged["N1"] += closing
        created_s = self.waiting.pop((part.incident, part.audience, part.kind), None)
        if created_s is None:
            raise ClauseViolation("N1", f"{part.kind} of {part.incident} came to {part.audience}, and nobody said it")
        if len(self.told) > 400:
            self.told = dict(list(self.told.items())[-200:])

    def unended(self) -> list[str]:
        """N1: incidents that were told of and whose end nobody has told or is about to tell."""
        ends = {opening: closing for closing, opening in PAIRS.items()}
        return [
            incident
            for (incident, audience), heard in self.told.items()
            if len(heard) == 1 and heard[0] in ends and (incident, audience, ends[heard[0]]) not in self.waiting
        ]

    def _nothing_is_lost(self) -> None:
        """N2: whatever was said and has not come is still in the queue, itself or within a merged message."""
        queued = {key for one in self.queue for key in _keys(one.notice)}
        lost = self.waiting.keys() - queued
        if lost:
            raise ClauseViolation("N2", f"gone and never sent: {sorted(lost)}")
        self.world.check.judged["N2"] += len(queued)

    def _is_true(self, notice: Notify, now: Instant) -> None:
        """N6: what a notice says is what the world knows."""
        world, data = self.world, notice.data
        wrong = ""
        if data["wall_quality"] != now.wall_quality and now.wall_quality != "synced":
            wrong = f"the clock is {now.wall_quality}, told was {data['wall_quality']}"
        elif notice.kind == "failover":
            wrong = self._failover_is_false(notice, now)
        elif notice.kind == "restored":
            wrong = self._restored_is_false(notice, now)
        elif notice.kind == "fault" and data["code"] not in world.agent.state.faults.raised:
            wrong = f"{data['code']} is not raised"
        elif notice.kind == "cleared" and data["code"] in world.agent.state.faults.holding:
            wrong = f"{data['code']} still holds"
        if wrong:
            raise ClauseViolation("N6", f"{notice.kind} of {notice.incident}: {wrong}")
        world.check.judged["N6"] += 1

    def _failover_is_false(self, notice: Notify, now: Instant) -> str:
        world, data = self.world, notice.data
        self.moved = {**dict(list(self.moved.items())[-50:]), notice.incident: now}
        if data["path"] != world.agent.state.place.path:
            return f"voice goes by {world.agent.state.place.path}, told was {data['path']}"
        if data["moved_wall"] != now.wall:
            return "it did not happen when it says"
        began, bad_s = data["began_wall"], world.primary.bad_since
        if bad_s is not None and isinstance(began, float) and now.wall is not None:
            told_s = now.mono_s - (now.wall - began)
            if not bad_s - 1.0 <= told_s <= max(bad_s, world.disturbed_s) + 90.0:
                return f"the outage began at {bad_s:.1f}, told was {told_s:.1f}"
        return ""

    def _restored_is_false(self, notice: Notify, now: Instant) -> str:
        data = notice.data
        then = self.moved.get(notice.incident)
        if data["returned_wall"] != now.wall:
            return "it did not happen when it says"
        away_s, moved = data["away_s"], data["moved_wall"]
        if then is None or not isinstance(moved, float) or not isinstance(away_s, float) or now.wall is None:
            return ""
        if then.boot_id != now.boot_id and data["wall_quality"] != "synced":
            return ""  # nobody can know better, and the mail says so
        true_s = now.mono_s - then.mono_s
        if abs((now.wall - moved) - true_s) > 1.0 or abs(away_s - true_s) > 1.0:
            return f"it lasted {true_s:.1f} s, told was {away_s}"
        return ""


def _keys(notice: Notify) -> list[Key]:
    return [(part.incident, part.audience, part.kind) for part in notice.parts or (notice,)]
