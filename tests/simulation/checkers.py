"""The clauses, judged from the world and not from what the core says of itself.

Every checker is named by its clause and says its bound. `Checkers.turned` runs on every turn, `stepped` after every
step of the world, `before_sentence` and `after_sentence` around every single thing said to the router, so that every
prefix of a sequence that might be cut off has been looked at.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeagent.core import journal
from edgeagent.core.facts import Fact, Instant, Lease
from edgeagent.core.failover import AWAY, HOME, RETURNING
from edgeagent.core.settings import EVERYTHING
from edgeagent.core.turn import State, Turn
from tests.simulation.violation import ClauseViolation

if TYPE_CHECKING:
    from tests.simulation.episodes import Fault
    from tests.simulation.phones import Phone
    from tests.simulation.shell import Sentence
    from tests.simulation.world import World

NEVER = float("-inf")
HOUR_S, DAY_S = 3600.0, 86400.0
SWITCH_S = 2.0  # P1
RECONCILE_S = 30.0  # P3
LOST_S = 3.5  # P5: a run of five lost rounds must be so recent; three answered ones, a second apart, end an outage
NATIVE_TURNS_S = 10.0  # P5: two checks of the router's, ten seconds apart
KNOWN_DEAD_S = 75.0  # P6: one minute between echoes, four lost ones a second apart, two seconds to wait
BACKUP_FAULT_S = 300.0  # P6
DETECT_S, DETECT_WORST_S, ACT_S = 5.0, 15.0, 2.0  # L2
UNCALLABLE_S = 10.0  # L1
SLACK_S = 10.0  # L1: API answers, a second between readings, repeats of a lost REGISTER
TURNS_PER_S = 120
SAMPLE = 61
WELL_S = 600.0  # L5


@dataclass(slots=True)
class Homecoming:
    """One way home under clause L1, given up as soon as anything disturbs it."""

    began_s: float
    bound_by: dict[str, float]
    callable_then: set[str] = field(default_factory=set)
    uncallable_s: dict[str, float] = field(default_factory=dict)
    late_by: dict[str, float] = field(default_factory=dict)


class Checkers:
    """All clauses of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen_version = -1
        self.stale_s: dict[str, float] = {}
        self.differs_s: float | None = None
        self.paths_before: dict[str, str] = {}
        self.talking_before: set[str] = set()
        self.left_s: list[float] = []
        self.forced_s = NEVER
        self.recorder = journal.Recorder()
        self.start: bytes | None = None  # the state that the present stretch of the journal begins with
        self.made: list[object] = []  # what was decided since
        self.ready_s: float | None = None
        self.life = -1
        self.reached_s: float | None = None
        self.seeing_s: float | None = None
        self.homecoming: Homecoming | None = None
        self.second, self.turns_in_second = 0, 0
        self.canaries_s: float | None = None  # since when both are dead
        self.life_journaled = -1
        self.judged: Counter[str] = Counter()  # how often each clause had something to judge

    # --- hooks -------------------------------------------------------------------------------------------------

    def turned(self, before: State, facts: tuple[Fact, ...], now: Instant, result: Turn) -> None:
        """After each turn."""
        self._times()
        self._purity(before, facts, now, result)
        self._pace(result)
        after = result.state
        if (before.place.phase, before.place.path) != (after.place.phase, after.place.path):
            self._place_changed(before, after)
        self._messages(result)
        self._journaled(before, facts, now, result)
        if self.world.agent.turns % SAMPLE == 0:
            self._bounded(after)

    def stepped(self) -> None:
        """After each step of the world."""
        self._times()
        self._rows_follow_the_path()
        self._router_as_ordered()
        self._voice_leaves_a_dead_line()
        self._dead_backup_is_told()
        self._canaries_are_contradicted()
        self._return_begins_in_time()
        self._phones_come_home()
        self._all_is_well_again()
        self.world.mail.stepped()

    def before_sentence(self) -> None:
        """Before the router obeys: which way each phone goes, and who talks well."""
        world = self.world
        self.paths_before = {phone.address: world.router.path_of(phone.address) for phone in world.phones}
        self.talking_before = {phone.address for phone in world.phones if self._talks_well(phone)}

    def after_sentence(self, sentence: Sentence) -> None:
        """After each single sentence: cut off right here, is everything still as it may be?"""
        self._no_sentence_strands_voice(sentence)
        self._only_intended_paths(sentence)
        self._no_call_is_moved(sentence)

    # --- what was up, since when -------------------------------------------------------------------------------

    def _times(self) -> None:
        world, agent = self.world, self.world.agent
        if not agent.alive:
            self.ready_s = None
        elif self.ready_s is None or agent.life != self.life:
            self.ready_s = world.now
        if agent.life != self.life:
            self.life = agent.life
            self.reached_s = None
        if not (agent.alive and agent.contact and world.api_up):
            self.reached_s = None
        elif self.reached_s is None:
            self.reached_s = world.now
        if world.card_dead:
            self.seeing_s = None
        elif self.seeing_s is None:
            self.seeing_s = world.now

    def _backups(self) -> list[str]:
        return [path.name for path in self.world.settings.paths[1:]]

    # --- P1 and P3 ---------------------------------------------------------------------------------------------

    def _rows_follow_the_path(self) -> None:
        """P1: a phone's new flows take one path; the rest is over 2 s after the switch.

        The router gives one path at any time, so what can go wrong is a living row, not pinned, that still has another
        uplink's address: its packets leave by one path and are answered on another. Within 2 s of the sentence that
        moved the phone none may be left while the API answers; after a crash, a lost reply or a lapse clause P3 allows
        30 s of contact.
        """
        world = self.world
        if world.router.version != self.seen_version:
            self.seen_version = world.router.version
            stale = {phone.address for phone in world.phones if world.router.stale(phone.address, world.now)}
            for address in self.stale_s.keys() - stale:
                self.judged["P1" if self._undisturbed(self.stale_s[address]) else "P3"] += 1
            self.stale_s = {address: self.stale_s.get(address, world.now) for address in stale}
        if not self.stale_s or self.reached_s is None:
            return
        for address, since_s in self.stale_s.items():
            undisturbed = self._undisturbed(since_s)
            if not world.router.stale(address, world.now):
                self.seen_version = -1
                continue
            bound_s = SWITCH_S if undisturbed else RECONCILE_S
            if world.now - max(since_s, self.reached_s) > bound_s:
                name = "P1" if undisturbed else "P3"
                raise ClauseViolation(name, f"rows of {address} have been on the wrong path since {since_s:.1f}")

    def _undisturbed(self, since_s: float) -> bool:
        return self.reached_s is not None and self.reached_s < since_s - 60.0

    def _router_as_ordered(self) -> None:
        """P3: within 30 s of API contact the router holds exactly the leases that the orders name."""
        world, agent = self.world, self.world.agent
        if self.reached_s is None or agent.last is None or agent.last.orders.leases is None:
            self.differs_s = None
            return
        if agent.last.orders.leases == world.router.leases.keys():
            self.differs_s = None
        elif self.differs_s is None:
            self.differs_s = world.now
        elif world.now - self.differs_s > RECONCILE_S:
            held = ", ".join(f"{lease.list} {lease.address}" for lease in world.router.leases)
            raise ClauseViolation("P3", f"the router does not hold what is ordered since {self.differs_s:.1f}: {held}")

    def _only_intended_paths(self, sentence: Sentence) -> None:
        """P3: every sentence leaves every phone where it was or where it is meant to go."""
        world = self.world
        ordered = world.agent.said_under
        for phone in world.phones:
            path = world.router.path_of(phone.address)
            if path != self.paths_before[phone.address] and ordered is not None:
                meant = world.router.path_under(ordered, phone.address)
                if path != meant and sentence.verb == "remove":
                    raise ClauseViolation("P3", f"{sentence} put {phone.address} on {path}, meant was {meant}")

    # --- P2 ----------------------------------------------------------------------------------------------------

    def _no_sentence_strands_voice(self, sentence: Sentence) -> None:
        """P2: no sentence takes voice from a path that works to one that does not.

        A line dead for less time than it takes to know (15 s for the primary, 75 s for a backup) does not count: then
        the sequence was right and the world changed under it.
        """
        world = self.world
        for phone in world.phones:
            old, new = self.paths_before[phone.address], world.router.path_of(phone.address)
            bad_s = world.lines[new].bad_since
            self.judged["P2"] += old != new
            if old == new or not world.lines[old].usable or bad_s is None:
                continue
            known_s = DETECT_WORST_S if new == world.primary.name else KNOWN_DEAD_S
            if world.now - max(bad_s, self.seeing_s or world.now) > known_s:
                raise ClauseViolation("P2", f"'{sentence}' put {phone.address} on {new}, dead since {bad_s:.1f}")

    # --- P5, P6, L4: the moment of leaving ---------------------------------------------------------------------

    def _place_changed(self, before: State, after: State) -> None:
        world = self.world
        if after.place.phase == AWAY and before.place.phase != AWAY:
            if after.leases_known and not before.leases_known:
                return  # adopted: the router did that before this process began
            self._primary_was_dead()
            self._backup_was_not_known_dead(after.place.path)
            self._not_too_often()
        if before.place.phase == AWAY and after.place.phase != AWAY:
            if not world.lines[before.place.path].usable or not before.leases_known:
                self.forced_s = world.now
            elif after.place.phase == RETURNING:
                self._homecoming_begins(after.place.waiting)

    def _primary_was_dead(self) -> None:
        """P5: voice leaves the primary only if its link was down, or five rounds in a row could not have been answered.

        The world asks the line itself, so an agent that is deaf (its own card is dead) finds no excuse here, and
        neither does one lost probe or one dead target. The run must have been on within the last 3.5 s: an outage
        ends with the third answered round, and until then a backup that comes up may be taken.
        """
        world = self.world
        self.judged["P5"] += 1
        link_s = world.now if world.primary.link_down else world.primary.link_bad_s
        ago_s = world.now - max(world.primary.dead_run_s, link_s)
        if ago_s > LOST_S:
            raise ClauseViolation("P5", f"failover although the primary was last dead {ago_s:.2f} s ago")

    def _backup_was_not_known_dead(self, path: str) -> None:
        """P6: no failover to a backup that has been dead for longer than its probing needs to find out (75 s)."""
        world = self.world
        bad_s = world.lines[path].bad_since
        if bad_s is None or self.seeing_s is None or self.ready_s is None:
            return
        if world.now - max(bad_s, self.seeing_s, self.ready_s) > KNOWN_DEAD_S:
            raise ClauseViolation("P6", f"failover to {path}, dead since {bad_s:.1f}")

    def _not_too_often(self) -> None:
        """L4: at most 4 failovers in any hour and 12 in any day.

        Kept by staying away, so a return that was forced (the backup died, or its leases lapsed while no agent lived)
        voids the count for the spans that contain it: clause L2 wins. A reboot of the agent's machine forgets the
        count too, and is such an exception.
        """
        now_s = self.world.now
        self.judged["L4"] += 1
        self.left_s = [at_s for at_s in self.left_s if now_s - at_s < DAY_S + 60.0] + [now_s]
        for most, span_s in ((4, HOUR_S), (12, DAY_S)):
            count = sum(1 for at_s in self.left_s if now_s - at_s < span_s)
            if count > most and now_s - self.forced_s > span_s:
                raise ClauseViolation("L4", f"{count} failovers within {span_s:.0f} s")

    def forgotten(self) -> None:
        """The agent's memory is gone: exceptions of L4 and N1 begin."""
        self.forced_s = self.world.now

    def _dead_backup_is_told(self) -> None:
        """P6: a backup dead for 5 minutes while the primary works is a raised fault."""
        world = self.world
        primary = world.primary
        if self.ready_s is None or self.seeing_s is None or not primary.clean:
            return
        for name in self._backups():
            bad_s = world.lines[name].bad_since
            if bad_s is None:
                continue
            since_s = max(bad_s, primary.usable_since, world.disturbed_s, self.ready_s, self.seeing_s)
            if world.now - since_s <= BACKUP_FAULT_S:
                continue
            self.judged["P6"] += 1
            if "backup_down" not in world.agent.state.faults.raised:
                raise ClauseViolation("P6", f"{name} dead since {bad_s:.1f} and no fault raised")

    def _canaries_are_contradicted(self) -> None:
        """P5: the primary works but for the two hosts that the router checks: a lease holds voice there in time.

        The router's native routes would leave it ten seconds after both have gone, at the soonest.
        """
        world = self.world
        path = world.settings.primary
        dead = bool(path.canaries) and all(canary in world.primary.dead for canary in path.canaries)
        self.canaries_s = (self.canaries_s or world.now) if dead else None
        ready = (self.canaries_s, self.reached_s, self.ready_s, self.seeing_s)
        if None in ready or world.agent.state.place.phase == AWAY or set(world.active) != set(_dead(world)):
            return
        since_s = max(world.disturbed_s, *(at_s for at_s in ready if at_s is not None))
        if world.now - since_s <= NATIVE_TURNS_S:
            return
        self.judged["P5 canaries"] += 1
        if Lease(path.site_list, EVERYTHING) not in world.router.leases:
            raise ClauseViolation("P5", f"the canaries are dead since {self.canaries_s:.1f}, and nothing holds voice")

    # --- L2 ----------------------------------------------------------------------------------------------------

    def _voice_leaves_a_dead_line(self) -> None:
        """L2: the primary is dead and a backup works: every phone's way is a working one within detection + 2 s.

        Detection is 5 s where all was calm for a minute before, 15 s otherwise; the clock starts when the last thing
        that the agent needs (its own card, the API, a working backup, itself) is there.
        """
        world = self.world
        bad_s = world.primary.bad_since
        if bad_s is None or self.reached_s is None or self.seeing_s is None or self.ready_s is None:
            return
        good = [world.lines[name] for name in self._backups() if world.lines[name].clean]
        if not good:
            return
        others_s = max(self.reached_s, self.seeing_s, self.ready_s, min(line.usable_since for line in good))
        dead = [line.bad_since for line in world.lines.values() if line.bad_since is not None]
        calm = others_s < bad_s - 60.0 and len(dead) == 1 and world.disturbed_s <= bad_s
        bound_s = (DETECT_S if calm else DETECT_WORST_S) + ACT_S
        since_s = max([bad_s, others_s, *dead]) if len(world.lines) == 2 else max([bad_s, others_s, world.disturbed_s])
        if world.now - since_s <= bound_s:
            return
        self.judged["L2"] += 1
        for phone in world.phones:
            path = world.router.path_of(phone.address)
            if not world.lines[path].usable:
                raise ClauseViolation("L2", f"{phone.address} is still on {path}; the primary died at {bad_s:.1f}")

    # --- L1 ----------------------------------------------------------------------------------------------------

    def _return_begins_in_time(self) -> None:
        """L1: with nothing wrong any more, the way home begins when the hold is over.

        The hold is 30 s, doubled with each failover of the hour; the fifth of an hour waits for the hour, the seventh
        of a day up to two hours, the thirteenth for the day (clause L4). 30 s are allowed on top: the last outage's
        recovery, SIP's answer, and probing that was just started.
        """
        world = self.world
        if world.agent.last is None or world.agent.state.place.phase != AWAY or world.active:
            return
        if self.reached_s is None or self.seeing_s is None or self.ready_s is None:
            return
        hour = sum(1 for at_s in self.left_s if world.now - at_s < HOUR_S + 60.0)
        day = sum(1 for at_s in self.left_s if world.now - at_s < DAY_S + 60.0)
        held_s = HOUR_S if hour >= 4 else 30.0 * 2 ** max(0, hour - 1)
        if day > 6:
            held_s = DAY_S if day >= 12 else 7200.0
        if world.now - max(world.disturbed_s, self.reached_s, self.seeing_s, self.ready_s) > held_s + 30.0:
            raise ClauseViolation("L1", f"still away {held_s + 30.0:.0f} s after the last fault")

    def _homecoming_begins(self, waiting: frozenset[str]) -> None:
        world = self.world
        if world.active or self.reached_s is None or self.ready_s is None:
            return
        known_s = max(self.reached_s, self.ready_s)
        watch = Homecoming(world.now, {})
        limit_s = world.settings.failback.drain_limit_s
        for phone in world.phones:
            rhythmic = self._rhythm_was_learnable(phone, known_s)
            wait_s = phone.expiry_s if rhythmic else limit_s + phone.expiry_s
            watch.bound_by[phone.address] = world.now + wait_s + SLACK_S
            if rhythmic and phone.callable(world.now, world.router, world.lines):
                watch.callable_then.add(phone.address)
        self.homecoming = watch

    def _rhythm_was_learnable(self, phone: Phone, known_s: float) -> bool:
        """Whether a watcher of the rows since ``known_s`` could foretell the next refresh.

        Of the last three gaps between answered refreshes at least two were the phone's own, and no call was among them.
        A phone with keep-alives is left out: they hide by up to a reading's interval when the refresh was.
        """
        if len(phone.spoke_s) < 4 or phone.spoke_s[0] < known_s + 15.0 or phone.call or phone.keepalive:
            return False
        if phone.call_over_s + 200.0 > phone.spoke_s[0]:
            return False
        gaps = [later - earlier for earlier, later in zip(phone.spoke_s, phone.spoke_s[1:], strict=False)]
        return sum(abs(gap - phone.period_s) < 0.5 for gap in gaps) >= 2

    def _phones_come_home(self) -> None:
        """L1: from the start of the return, idle phones are bound on the primary within one registration interval.

        None whose rhythm was learnable is uncallable for more than 10 s on the way. One with an unknown rhythm, or that
        talked on the way (a call hides the rhythm), has until the drain limit and one interval more, counted from the
        end of its call. Given up as soon as a fault disturbs the way.
        """
        world, watch = self.world, self.homecoming
        if watch is None:
            return
        if world.disturbed_s > watch.began_s or self.reached_s is None:
            self.homecoming = None
            return
        for phone in world.phones:
            if phone.call is not None or phone.call_over_s > watch.began_s:
                watch.callable_then.discard(phone.address)
                wait_s = world.settings.failback.drain_limit_s + phone.expiry_s + SLACK_S
                after_s = world.now if phone.call is not None else phone.call_over_s
                watch.bound_by[phone.address] = max(watch.bound_by[phone.address], after_s + wait_s)
            self._one_comes_home(watch, phone)
        if all(phone.bound == world.primary.address and phone.call is None for phone in world.phones):
            self.judged["L1 all came home"] += 1
            self.judged["L1 callable on the way"] += len(watch.callable_then)
            self.homecoming = None

    def _one_comes_home(self, watch: Homecoming, phone: Phone) -> None:
        world = self.world
        address = phone.address
        if phone.bound != world.primary.address and world.now > watch.bound_by[address]:
            raise ClauseViolation("L1", f"{address} is not bound on the primary, return began {watch.began_s:.1f}")
        if address not in watch.callable_then:
            return
        if phone.callable(world.now, world.router, world.lines):
            watch.uncallable_s.pop(address, None)
        elif world.now - watch.uncallable_s.setdefault(address, world.now) > UNCALLABLE_S:
            raise ClauseViolation("L1", f"{address} cannot be called since {watch.uncallable_s[address]:.1f}")

    def _talks_well(self, phone: Phone) -> bool:
        world, call = self.world, phone.call
        if call is None or call.lost or world.now - call.began_s < 5.0:
            return False
        line = world.lines[call.row.path]
        return line.clean and world.now - line.usable_since > 15.0 and world.router.out_path(call.row) == line.name

    def _no_call_is_moved(self, sentence: Sentence) -> None:
        """L1: a phone in a call that works is not moved on the way home.

        The call's path must have worked for 15 s and the core must have seen the call: it is 5 s old and the API was
        there.
        """
        world = self.world
        if world.agent.state.place.phase == AWAY or self.reached_s is None or world.now - self.reached_s < 10.0:
            return
        for phone in world.phones:
            if phone.address not in self.talking_before or phone.call is None:
                continue
            self.judged["L1 call left alone"] += 1
            row = phone.call.row
            gone = world.router.rows.get((row.source, row.port, row.far_port)) is not row
            if gone or world.router.path_of(phone.address) != self.paths_before[phone.address]:
                raise ClauseViolation("L1", f"'{sentence}' moved {phone.address}, which is in a call")

    # --- N1 ----------------------------------------------------------------------------------------------------

    def _messages(self, result: Turn) -> None:
        """N1: every audience is told of an incident. What comes of it is the mailroom's to judge."""
        incidents = {notice.incident for notice in result.notices if notice.kind in ("failover", "restored")}
        for incident in incidents:
            heard = [notice.audience for notice in result.notices if notice.incident == incident]
            if sorted(heard) != sorted(self.world.settings.audiences):
                raise ClauseViolation("N1", f"incident {incident} was told to {', '.join(heard)}")

    # --- L5 ----------------------------------------------------------------------------------------------------

    def _all_is_well_again(self) -> None:
        """L5: ten minutes after the last fault, and after the hold that flaps have earned, all is as intended.

        Voice at home or going there with nobody waiting but who may (a call, an unknown rhythm), the leases as ordered,
        no fault raised, nothing in the outbox that may leave.
        """
        world, agent = self.world, self.world.agent
        since_s = max(world.disturbed_s, self.reached_s or world.now, self.seeing_s or world.now)
        if world.active or agent.last is None or self.ready_s is None or world.now - since_s <= WELL_S:
            return
        if world.now - since_s <= WELL_S + self._earned_s():
            return
        self.judged["L5"] += 1
        state = agent.state
        drained_s = state.place.since_s + world.settings.failback.drain_limit_s
        late = state.place.phase == RETURNING and world.now > drained_s
        if state.place.phase not in (HOME, RETURNING) or (late and not any(phone.call for phone in world.phones)):
            raise ClauseViolation("L5", f"still {state.place.phase} {world.now - since_s:.0f} s after the last fault")
        if self.differs_s is not None and world.now - self.differs_s > SWITCH_S:
            raise ClauseViolation("L5", "the router does not hold what is ordered")
        raised = state.faults.raised - {"call_over_drain_limit"}
        if raised:
            raise ClauseViolation("L5", f"still raised: {', '.join(sorted(raised))}")
        unended = [incident for incident in world.mail.unended() if "call_over_drain_limit" not in incident]
        if unended:
            raise ClauseViolation("N1", f"all is well, and nobody was told the end of {', '.join(unended)}")

    def _earned_s(self) -> float:
        """How long flaps may keep voice on the backup at the most."""
        day = sum(1 for at_s in self.left_s if self.world.now - at_s < DAY_S + 60.0)
        return DAY_S if day >= 12 else 7200.0 if day > 6 else HOUR_S if day >= 4 else 900.0

    # --- C6 ----------------------------------------------------------------------------------------------------

    def _journaled(self, before: State, facts: tuple[Fact, ...], now: Instant, result: Turn) -> None:
        if self.life_journaled != self.world.agent.life:  # a new process begins a new stretch
            self.life_journaled, self.start = self.world.agent.life, None
        if self.start is None:
            self.recorder, self.start, self.made = journal.Recorder(), journal.packed(before), []
        self.recorder.add(before, facts, now, result)
        self.made += _decisions(result)

    def replays(self) -> None:
        """C6: from the state at its beginning the journal, as it is stored, gives the same decisions again."""
        if self.start is None or not self.world.replaying:
            return
        batch = self.recorder.take()
        if batch is None or batch.lost:
            self.start = None
            return
        again: list[object] = []
        state = journal.unpacked_state(self.start)
        stored = journal.unpacked_batch(journal.packed(batch))
        for result in journal.replayed(state, [stored], self.world.settings):
            again += _decisions(result)
            state = result.state
        if again != self.made or state.place != self.world.agent.state.place:
            pair = next(((one, two) for one, two in zip(self.made, again, strict=False) if one != two), None)
            raise ClauseViolation("C6", f"{len(self.made)} decisions, {len(again)} replayed, first to differ: {pair}")
        self.judged["C6"] += len(again)
        self.start = None

    # --- what makes all this possible --------------------------------------------------------------------------

    def _purity(self, before: State, facts: tuple[Fact, ...], now: Instant, result: Turn) -> None:
        """Same state, facts and time: same result. Asked of a sample."""
        agent = self.world.agent
        if agent.turns % SAMPLE == 0 and agent.core(before, facts, now, agent.settings) != result:
            raise ClauseViolation("purity", "the same turn decided differently the second time")

    def _pace(self, result: Turn) -> None:
        """No deadline lies in the past or more than a day ahead, and no second holds more than 120 turns."""
        now_s = self.world.now
        if not now_s <= result.next_deadline <= now_s + DAY_S:
            raise ClauseViolation("pace", f"next_deadline {result.next_deadline} at {now_s}")
        if int(now_s) != self.second:
            self.second, self.turns_in_second = int(now_s), 0
        self.turns_in_second += 1
        if self.turns_in_second > TURNS_PER_S:
            raise ClauseViolation("pace", f"{self.turns_in_second} turns within one second, for: {result.reason}")

    def _bounded(self, state: State) -> None:
        """C5: nothing that is remembered grows without a cap."""
        sizes = {
            "rounds": max(len(path.window.rounds) for path in state.paths.values()) - 64,
            "second passes": len(state.again) - 64,
            "failovers": len(state.place.left_s) - 65,
            "phones": len(state.phones.phones) - self.world.settings.flows.phones_max,
            "flows": len(state.phones.counts) - self.world.settings.flows.flows_max,
            "waiting": len(state.place.waiting) - self.world.settings.flows.phones_max,
        }
        grown = [name for name, over in sizes.items() if over > 0]
        if grown:
            raise ClauseViolation("C5", f"too many: {', '.join(grown)}")


def _dead(world: World) -> list[Fault]:
    return [fault for fault in world.active if fault.kind == "dead"]


def _decisions(result: Turn) -> list[object]:
    return [*result.transitions, *result.notices, *result.intents]
