"""One simulated site: lines, router, phones and the agent, driven by a heap of timed events and nothing random."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import edgeagent.core.turn as turn_module
from edgeagent.core.facts import Fact, FlowsSeen, Instant, LinkChanged, RoundsAnswered
from edgeagent.core.failover import HOME
from edgeagent.core.settings import Settings
from edgeagent.core.turn import State, Turn
from tests.simulation.checkers import Checkers
from tests.simulation.episodes import FIRST_S, CallPlan, Episode, Fault, Plan
from tests.simulation.lines import Line, noise
from tests.simulation.phones import Phone
from tests.simulation.post import Mailroom
from tests.simulation.router import Router
from tests.simulation.shell import RENEW_S, Agent, Sentence

FAR = float("inf")
ANSWERED_WITHIN_S = 0.1  # every line's round trip is shorter
UNSET_WALL = 1.6e9  # years behind `true_wall`
Wall = Callable[[float], tuple[float | None, str]]


def true_wall(now_s: float) -> tuple[float | None, str]:
    """A clock that is right."""
    return 1.7e9 + now_s, "synced"


class World:
    """Run with `run`; what was decided stands in ``decided``, everything in ``log``."""

    def __init__(
        self, plan: Plan, settings: Settings, core: Callable[..., Turn], leaping: bool = True, wall: Wall = true_wall
    ) -> None:
        self.plan, self.settings, self.leaping, self.wall = plan, settings, leaping, wall
        self.replaying = core is turn_module.turn  # another core is not what a replay would run
        self.now = FIRST_S
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.seq = 0
        self.facts: list[Fact] = []
        self.in_flight = 0
        self.active: dict[Fault, None] = {}
        self.disturbed_s = float("-inf")
        self.api_down = 0
        self.card = 0
        self.clock_unset = 0
        self.trap: tuple[str, int] | None = None
        self.detail_until = FIRST_S + 60.0
        self.next_episode = 0
        self.episode: Episode | None = None
        self.log: list[str] = []
        self.decided: list[tuple[float, str]] = []
        self.incidents: dict[str, int] = {}
        self.lines = {
            path.name: Line(
                path.name,
                f"192.0.2.{index + 2}",
                ("icmp:a", "icmp:b", "icmp:c") if index == 0 else ("icmp:a",),
                0.02 + 0.02 * index,
                index,
            )
            for index, path in enumerate(settings.paths)
        }
        self.primary = self.lines[settings.primary.name]
        self.router = Router(settings, {name: line.address for name, line in self.lines.items()})
        self.phones = [self._phone(index) for index in range(len(plan.phones))]
        self.mail = Mailroom(self)
        self.agent = Agent(self, settings, core)
        self.check = Checkers(self)
        for episode in plan.episodes:
            for fault in episode.faults:
                self.at(fault.start_s, self._fault_on, fault)
                self.at(fault.end_s, self._fault_off, fault)
            for call in episode.calls:
                self.at(call.start_s, self._call, call)

    def _phone(self, index: int) -> Phone:
        plan = self.plan.phones[index]
        first_s = FIRST_S + 5.0 + plan.offset_s
        keep_s = first_s + 11.0 if plan.keepalive else FAR
        return Phone(index, f"192.168.88.{index + 11}", plan.expiry_s, plan.keepalive, first_s, keep_s)

    # --- tools -------------------------------------------------------------------------------------------------

    def at(self, at_s: float, what: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        self.seq += 1
        heapq.heappush(self.heap, (at_s, self.seq, what, arguments))

    def emit(self, at_s: float, facts: list[Fact]) -> None:
        """Tell the agent later, if this very process still lives then."""
        self.in_flight += 1
        self.at(at_s, self._arrived, self.agent.life, facts)

    def _arrived(self, life: int, facts: list[Fact]) -> None:
        self.in_flight -= 1
        if life == self.agent.life and not self.card:
            self.facts.extend(facts)

    def instant(self) -> Instant:
        """Now, as the agent's machine knows it."""
        wall, quality = (UNSET_WALL + self.now, "unknown") if self.clock_unset else self.wall(self.now)
        return Instant(self.now, self.agent.boot, wall, quality)

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:.3f} {text}")

    def latency(self, salt: int) -> float:
        """How long one answer of the API takes."""
        return self.plan.latency_s * (0.7 + 0.3 * noise(salt, int(self.now * 10)))

    @property
    def api_up(self) -> bool:
        return self.api_down == 0

    @property
    def card_dead(self) -> bool:
        return self.card > 0

    # --- what happens ------------------------------------------------------------------------------------------

    def _fault_on(self, fault: Fault) -> None:
        self.note(f"fault {fault.kind} {fault.path} begins")
        self.active[fault] = None
        self._fault(fault, 1)

    def _fault_off(self, fault: Fault) -> None:
        self.note(f"fault {fault.kind} {fault.path} ends")
        del self.active[fault]
        self._fault(fault, -1)

    def _fault(self, fault: Fault, by: int) -> None:
        self.disturbed_s = self.now
        self.talk()
        line = self.lines[fault.path]
        was_down = line.link_down > 0
        match fault.kind:
            case "black":
                line.black += by
            case "link":
                line.link_down += by
                self.at(self.now + fault.value, self._link_told, fault.path, by < 0)
            case "burst":
                line.burst += by
            case "filtered":
                line.filtered += by
            case "sip":
                line.sip_silent += by
            case "late":
                line.lates += by
                line.late_s = fault.value if line.lates else 0.0
            case "dead":
                self._dead_target(line, line.targets[int(fault.value)], by)
            case "nic":
                self.card += by
            case "unset clock":
                self.clock_unset += by
            case "mail":
                self.mail.server_down += by
            case "mute mail":
                self.mail.server_mute += by
            case "api":
                self._api(by, bool(fault.value))
            case "reboot":
                self._reboot(by)
            case "crash":
                self._crash(by, int(fault.value))
            case "trap crash" | "trap api":
                self.trap = (fault.kind, int(fault.value)) if by > 0 else None
        line.changed(self.now, was_down)

    def _dead_target(self, line: Line, target: str, by: int) -> None:
        line.dead[target] = line.dead.get(target, 0) + by
        if not line.dead[target]:
            del line.dead[target]

    def _link_told(self, path: str, up: bool) -> None:
        if self.agent.alive and self.agent.contact:
            self.facts.append(LinkChanged(path, up, self.now))

    def _api(self, by: int, in_flight_applies: bool) -> None:
        self.api_down += by
        if by > 0 and self.api_down == 1:
            self.agent.lost(in_flight_applies)
        elif self.api_down == 0 and self.agent.alive:
            self.at(self.now + 0.4, self.agent.reached, self.agent.life)

    def _reboot(self, by: int) -> None:
        """The router goes: leases and rows vanish, nothing passes, and not even its own address answers."""
        self._api(by, in_flight_applies=False)
        self.card += by
        for line in self.lines.values():
            line.black += by
            line.changed(self.now, line.link_down > 0)
        self.router.reboot()

    def _crash(self, by: int, how: int) -> None:
        if by > 0 and self.agent.alive:
            self.agent.die(in_flight_applies=how == 1)
        elif by < 0 and not self.agent.alive:
            if how == 2:
                self.check.forgotten()
            self.agent.start(forget=how == 2)

    def said(self) -> None:
        """A sentence is on its way: a trap set for it springs before its answer is back."""
        if self.trap is None:
            return
        kind, count = self.trap
        self.trap = (kind, count - 1) if count > 1 else None
        if self.trap is None:
            self.at(self.now + 0.005, self._sprung, kind)

    def _sprung(self, kind: str) -> None:
        self.note(f"{kind} springs")
        self.disturbed_s = self.now
        applies, down_s = noise(1, int(self.now)) < 0.5, 1.0 + 60.0 * noise(2, int(self.now)) ** 2
        if kind == "trap api":
            self._api(1, applies)
        elif self.agent.alive:
            self.agent.die(applies)
        self.at(self.now + down_s, self._mended, kind)

    def _mended(self, kind: str) -> None:
        self.note(f"{kind} is mended")
        self.disturbed_s = self.now
        if kind == "trap api":
            self._api(-1, in_flight_applies=False)
        elif not self.agent.alive:
            self._crash(-1, 2 if noise(3, int(self.now)) < 0.2 else 0)

    def _call(self, call: CallPlan) -> None:
        phone = self.phones[call.phone]
        phone.dial(self.now, call.end_s, self.router, self.lines)
        if phone.call is not None and phone.call.began_s == self.now:
            self.note(f"phone {phone.index} talks")
            self.at(call.end_s, self.talk)

    def talk(self) -> None:
        """Bring the media counters up to now."""
        for phone in self.phones:
            if phone.call is not None:
                phone.talk(self.now, self.router, self.lines)
                if phone.call is None:
                    self.note(f"phone {phone.index} hangs up")

    def apply(self, sentence: Sentence) -> None:
        """The router obeys one sentence."""
        self.talk()
        self.router.expire(self.now)
        self.check.before_sentence()
        if sentence.verb == "add" and sentence.lease is not None:
            self.router.lease(sentence.lease, self.now)
        elif sentence.verb == "remove" and sentence.lease is not None:
            self.router.release(sentence.lease)
        elif sentence.verb == "flush":
            self.router.remove_rows(list(sentence.rows))
        self.note(f"router: {sentence}")
        self.check.after_sentence(sentence)
        self.talk()

    def turned(self, before: State, facts: tuple[Fact, ...], now: Instant, result: Turn) -> None:
        """Keep the log of what was decided, and judge it."""
        for transition in result.transitions:
            self._decided(transition.kind, transition.data)
        for notice in result.notices:
            self._decided(f"notice {notice.kind} to {notice.audience}", {"incident": notice.incident})
        for move in result.intents:
            sources = "all" if move.sources is None else ",".join(sorted(move.sources))
            self._decided(f"move to {move.path} {sources}", {"spare": ",".join(sorted(move.spare))})
        self.check.turned(before, facts, now, result)

    def _decided(self, kind: str, data: dict[str, str | float | int | None]) -> None:
        shown = dict(data)
        shown.pop("lost", None)
        incident = shown.get("incident")
        if isinstance(incident, str) and incident:
            shown["incident"] = self.incidents.setdefault(incident, len(self.incidents))
        text = f"{kind} " + " ".join(f"{key}={value}" for key, value in shown.items())
        self.decided.append((self.now, text))
        self.note(text)

    # --- time --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live until the plan ends."""
        self.agent.start(forget=False)
        while self.now < self.plan.end_s:
            self._enter_episode()
            if not (self.leaping and self._quiet() and self._leap()):
                self._step()
        self.check.replays()

    def _enter_episode(self) -> None:
        episodes = self.plan.episodes
        while self.next_episode < len(episodes) and episodes[self.next_episode].start_s <= self.now:
            self.episode = episodes[self.next_episode]
            self.detail_until = max(self.detail_until, self.episode.end_s)
            self.next_episode += 1
            self.note(f"episode {self.episode.number} {self.episode.kind}")
            self.check.replays()

    def _step(self) -> None:
        """To the next thing that happens, whatever it is."""
        agent = self.agent
        at_s = self.heap[0][0] if self.heap else FAR
        for phone in self.phones:
            at_s = min(at_s, phone.next_s, phone.keep_s)
        if agent.alive:
            deadline_s = agent.last.next_deadline if agent.last is not None else self.now
            at_s = min(at_s, *agent.due.values(), agent.flows_due, agent.renew_due, deadline_s)
        else:
            deadline_s = FAR
        self.now = min(max(at_s, self.now), self.plan.end_s)
        self.router.expire(self.now)
        while self.heap and self.heap[0][0] <= self.now:
            _, _, what, arguments = heapq.heappop(self.heap)
            what(*arguments)
        for phone in self.phones:
            if phone.due_s() <= self.now:
                phone.act(self.now, self.router, self.lines)
        if agent.alive:
            self._agent_step(agent, deadline_s)
        else:
            self.facts.clear()
        self.check.stepped()

    def _agent_step(self, agent: Agent, deadline_s: float) -> None:
        for path, due_s in agent.due.items():
            if due_s <= self.now:
                agent.send_round(path)
        if agent.flows_due <= self.now and agent.contact:
            agent.read_flows()
        if agent.renew_due <= self.now:
            agent.renew()
        if self.facts or deadline_s <= self.now:
            facts, self.facts = self.facts, []
            agent.tell(facts)

    # --- leaping -----------------------------------------------------------------------------------------------

    def _quiet(self) -> bool:
        agent = self.agent
        if self.active or self.now < self.detail_until or self.in_flight or not agent.alive or not agent.contact:
            return False
        if agent.state.place.phase != HOME or agent.state.again or agent.busy is not None or agent.moves:
            return False
        if self.mail.busy is not None:
            return False
        if agent.last is None or frozenset(agent.believed) != agent.last.orders.leases:
            return False
        if any(path.verdict != "up" or path.lost for path in agent.state.paths.values()):
            return False
        return all(phone.trying_s is None for phone in self.phones) and all(line.clean for line in self.lines.values())

    def _leap(self) -> bool:
        """Tell one quiet stretch at once, as far as the turn's own deadline and the world's next event allow."""
        agent = self.agent
        assert agent.last is not None
        limit_s = min(agent.last.next_deadline, self.heap[0][0] if self.heap else FAR, self.plan.end_s)
        if self.next_episode < len(self.plan.episodes):
            limit_s = min(limit_s, self.plan.episodes[self.next_episode].start_s)
        if limit_s < self.now + 0.5:
            return False
        every_s = agent.last.orders.flows_every_s
        run_up_s = 4.5 * max(phone.period_s for phone in self.phones) + 30.0
        far_s = limit_s - run_up_s
        if far_s > self.now + 100.0 and self._settled():
            tick_s = agent.flows_due + every_s * int((far_s - agent.flows_due) // every_s)
            return self._leap_to(tick_s, tick_s, limit_s, far=True)
        tick_s = agent.flows_due
        while tick_s + 0.5 < limit_s:
            self._phones_until(tick_s)
            counts = self._counts(tick_s)
            changed, agent.told_counts = counts != agent.told_counts, counts
            if changed or agent.still_changing:
                agent.still_changing = changed
                return self._leap_to(tick_s, tick_s, limit_s, far=False)
            tick_s += every_s
            agent.flows_due = tick_s
        return self._leap_to(limit_s, None, limit_s, far=False)

    def _settled(self) -> bool:
        """Whether every phone is where it belongs and silent but for its own rhythm."""
        return not any(phone.call or self.router.stale(phone.address, self.now) for phone in self.phones)

    def _phones_until(self, to_s: float) -> None:
        """Let the phones live, one after the other in the order of time."""
        while True:
            phone = min(self.phones, key=Phone.due_s)
            if phone.due_s() > to_s:
                return
            phone.act(phone.due_s(), self.router, self.lines)

    def _counts(self, at_s: float) -> object:
        here_s, self.now = self.now, at_s
        self.talk()
        self.now = here_s
        return {
            key: (row.orig, row.repl)
            for key in list(self.router.rows)
            if (row := self.router.row(key, at_s)) is not None
        }

    def _leap_to(self, to_s: float, asked_s: float | None, limit_s: float, far: bool) -> bool:
        """Tell all rounds up to ``to_s``, shifted a little so that the last ones have been answered by then."""
        agent = self.agent
        to_s = self._past_answers(to_s, limit_s)
        if to_s <= self.now + 0.01:
            return False
        self.now = to_s
        if far:
            for phone in self.phones:
                phone.leap(to_s, self.router)
        else:
            self._phones_until(to_s)
            self.talk()
        facts: list[Fact] = [fact for path in self.lines if (fact := self._answered(path, to_s)) is not None]
        if asked_s is not None and asked_s <= to_s:
            assert agent.last is not None
            facts.append(FlowsSeen(self.router.flows(to_s), asked_s, to_s))
            agent.flows_due = asked_s + agent.last.orders.flows_every_s
        if agent.renew_due <= to_s:
            for lease in agent.believed:
                assert self.router.renew(lease, to_s), f"{lease} lapsed in a leap"
            agent.renew_due = to_s + RENEW_S
        agent.tell(facts)
        self.check.stepped()
        return True

    def _past_answers(self, to_s: float, limit_s: float) -> float:
        """A moment near ``to_s`` at which no round is on its way."""
        plans = self._intervals()
        for _ in range(4):
            lasts = [self._last_sent(path, to_s, every_s) for path, every_s in plans.items()]
            open_s = [last_s for last_s in lasts if last_s is not None and to_s - last_s < ANSWERED_WITHIN_S]
            if not open_s:
                return to_s
            to_s = max(open_s) + ANSWERED_WITHIN_S + 0.001
            if to_s > limit_s:
                return min(open_s) - 0.001
        return to_s

    def _intervals(self) -> dict[str, float]:
        assert self.agent.last is not None
        return {plan.path: plan.interval_s for plan in self.agent.last.orders.probing}

    def _last_sent(self, path: str, to_s: float, every_s: float) -> float | None:
        due_s = self.agent.due[path]
        return None if due_s > to_s else due_s + every_s * int((to_s - due_s) // every_s)

    def _answered(self, path: str, to_s: float) -> RoundsAnswered | None:
        """The rounds of one path up to ``to_s``, as one fact."""
        agent, line = self.agent, self.lines[path]
        assert agent.last is not None
        plan = next(plan for plan in agent.last.orders.probing if plan.path == path)
        last_s = self._last_sent(path, to_s, plan.interval_s)
        if last_s is None:
            return None
        count = round((last_s - agent.due[path]) / plan.interval_s) + 1
        first = agent.numbers[path] + 1
        agent.numbers[path] += count
        line.round_sent(True, last_s)
        agent.sent[path] = last_s
        agent.due[path] = last_s + plan.interval_s
        targets = line.targets
        if plan.sip_every and agent.numbers[path] // plan.sip_every > (first - 1) // plan.sip_every:
            targets = (*targets, "sip:sbc")
        return RoundsAnswered(path, agent.numbers[path], last_s, targets)
