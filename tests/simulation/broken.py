"""Cores that are broken on purpose, each with the clause that must notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from msgspec.structs import replace

from edgeagent.core import detector, drain, failover, faults, journal, native, notices, orders, post, turn, window
from edgeagent.core.facts import Instant, ProbeReplied
from edgeagent.core.settings import PRIMARY_PROBING, MailSettings, PathSettings, Settings
from tests.simulation.shell import Agent, Sentence
from tests.simulation.sites import SETTINGS


@dataclass(frozen=True)
class Broken:
    """One broken core: what is replaced, which clause catches it, and in which kind of episode it shows."""

    name: str
    clause: str
    only: str
    patches: tuple[tuple[object, str, Any], ...] = ()
    settings: Settings = SETTINGS
    gap_s: float = 6 * 3600.0

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Break the core for the time of the block."""
        with contextlib.ExitStack() as stack:
            for module, name, wrong in self.patches:
                stack.enter_context(mock.patch.object(module, name, wrong))
            yield


def _primary_with(**changed: float) -> Settings:
    primary = PathSettings("primary", "wan", replace(PRIMARY_PROBING, **changed))
    return replace(SETTINGS, paths=(primary, *SETTINGS.paths[1:]))


def _lost_run_without_control(state: window.Window, now_s: float, reply_wait_s: float) -> window.LostRun:
    rounds = tuple(replace(entry, control_sent=False) for entry in state.rounds)
    return window_lost_run(replace(state, rounds=rounds), now_s, reply_wait_s)


window_lost_run: Callable[[window.Window, float, float], window.LostRun] = window.lost_run
window_replied = window.replied
told = notices.told
right_leases = orders.leases
turn_conditions = turn._conditions
one_turn = turn.turn
planned, digest, judged = post.plan, post._digest, faults.judged
owed = Agent._owed


def _late_replies_are_lost(state: window.Window, fact: ProbeReplied) -> window.Window:
    sent_s = next((entry.sent_s for entry in state.rounds if entry.number == fact.number), fact.at_s)
    return state if fact.at_s - sent_s > PRIMARY_PROBING.reply_wait_s else window_replied(state, fact)


def _not_adopted(*_: object) -> failover.Place:
    return failover.Place(path="primary")


def _not_reminded(state: turn.State, *_: object) -> turn.State:
    return replace(state, remembers=True)


def _leases_without_phones(place: failover.Place, settings: Settings, **more: bool) -> object:
    return right_leases(replace(place, waiting=frozenset()), settings, **more)


def _first_backup(_paths: object, settings: Settings) -> str | None:
    return settings.paths[1].name


def _returns_at_once(place: object, primary: detector.PathState, *_: object) -> float | None:
    return primary.good_since_s


def _plain_hold(_place: object, primary: detector.PathState, settings: Any, _now_s: float) -> float | None:
    return None if primary.good_since_s is None else primary.good_since_s + settings.hold_s


def _told_twice(*arguments: Any) -> tuple[Any, ...]:
    return told(*arguments) * 2


def _told_to_one(*arguments: Any) -> tuple[Any, ...]:
    return told(*arguments)[:1]


def _backup_fault_forgotten(state: turn.State, settings: Settings, now_s: float) -> frozenset[str]:
    return turn_conditions(state, settings, now_s) - {"backup_down"}


def _goes_when_idle(phone: drain.Phone, _since_s: float, now_s: float, settings: Any) -> bool:
    return not drain.busy(phone, now_s, settings)


def _removes_first(agent: Agent) -> Sentence | None:
    wanted = agent.last.orders.leases if agent.last is not None else None
    if wanted is not None and agent.believed - wanted:
        return Sentence("remove", min(agent.believed - wanted))
    return owed(agent)


def _with_mail(**changed: float) -> Settings:
    return replace(SETTINGS, mail=replace(MailSettings(), **changed))


def _taken_is_forgotten(queue: Any, *rest: Any) -> post.Plan:
    return planned([replace(one, maybe_taken=False) for one in queue], *rest)


def _unset_clock_believed(at: Instant, now: Instant) -> float | None:
    if at.boot_id == now.boot_id:
        return now.mono_s - at.mono_s
    return None if at.wall is None or now.wall is None else max(0.0, now.wall - at.wall)


def _digest_without_its_last(waiting: Any) -> post.Merge:
    merge = digest(waiting)
    return replace(merge, notice=replace(merge.notice, parts=merge.notice.parts[:-1]))


def _digest_of_one_name(waiting: Any) -> post.Merge:
    merge = digest(waiting)
    return replace(merge, notice=replace(merge.notice, incident="digest"))


def _lasted_nothing(_then: Instant, now: Instant) -> tuple[float | None, float | None, str]:
    return now.wall, 0.0, now.wall_quality


def _never_cleared(state: faults.FaultState, conditions: frozenset[str], now: Instant) -> faults.FaultState:
    return judged(state, conditions | state.raised, now)


def wall_is_watched(state: turn.State, facts: tuple[Any, ...], now: Instant, settings: Settings) -> turn.Turn:
    """A core that trusts its wall clock for the hold (clause C4)."""
    hold_s = 30.0 if now.wall is None else 30.0 + now.wall % 7
    wrong = replace(settings, failback=replace(settings.failback, hold_s=hold_s))
    return one_turn(state, facts, now, wrong)


FEW = _with_mail(per_hour_max=2)  # so that digests are common

BROKEN = (
    Broken(
        "the control is ignored: a dead card looks like a dead line",
        "P5",
        "own card",
        ((detector, "lost_run", _lost_run_without_control),),
    ),
    Broken("one lost round is an outage", "P5", "blip", settings=_primary_with(lost_rounds=1)),
    Broken("late replies do not heal", "P5", "late", ((window, "replied", _late_replies_are_lost),)),
    Broken("the router's leases are not adopted", "P2", "crash", ((failover, "adopted", _not_adopted),)),
    Broken(
        "flows are not moved",
        "P1",
        "outage",
        ((turn, "_moves", lambda *_: ()), (turn, "_strays", lambda *_: ())),
    ),
    Broken("rows left behind by a crash are not looked for", "P3", "crash", ((turn, "_strays", lambda *_: ()),)),
    Broken(
        "dead canaries are not contradicted",
        "P5",
        "dead canaries",
        ((native, "needed_until", lambda until_s, *_, **__: until_s),),
    ),
    Broken("failover to a backup known dead", "P6", "backup dead", ((failover, "_best_backup", _first_backup),)),
    Broken("a dead backup is not told", "P6", "backup dead", ((turn, "_conditions", _backup_fault_forgotten),)),
    Broken("a dead line is left too late", "L2", "outage", settings=_primary_with(lost_rounds=60)),
    Broken("the site entry goes before the phones' entries come", "P3", "outage", ((Agent, "_owed", _removes_first),)),
    Broken(
        "the site entry goes and the phones get none",
        "P1",
        "outage",
        ((orders, "leases", _leases_without_phones),),
    ),
    Broken("a call is taken for silence", "L1", "outage", ((drain, "busy", lambda *_: False),)),
    Broken("idle phones are released whenever", "L1", "outage", ((drain, "may_go", _goes_when_idle),)),
    Broken("voice never goes home", "L1", "outage", ((failover, "may_return_at", lambda *_: None),)),
    Broken("the hold is ignored", "L4", "flappy", ((failover, "may_return_at", _returns_at_once),)),
    Broken("the hold does not grow", "L4", "flappy", ((failover, "may_return_at", _plain_hold),)),
    Broken("each notice is told twice", "N1", "outage", ((notices, "told", _told_twice),)),
    Broken("one audience is forgotten", "N1", "outage", ((notices, "told", _told_to_one),)),
    Broken("what a server may have is merged", "N1", "mail", ((post, "plan", _taken_is_forgotten),), gap_s=9000.0),
    Broken("what a slow disk tells late is thrown away", "N1", "crash", ((turn, "reminded", _not_reminded),)),
    Broken("a mail is given up too soon", "N2", "mail", settings=_with_mail(keep_s=300.0), gap_s=3000.0),
    Broken("a digest loses a part", "N2", "flappy", ((post, "_digest", _digest_without_its_last),), FEW, 1500.0),
    Broken("two digests bear one name", "N3", "flappy", ((post, "_digest", _digest_of_one_name),), FEW, 1500.0),
    Broken("an incident's first mail waits too long", "N4", "outage", settings=_with_mail(delay_s=300.0)),
    Broken("an unset clock is believed", "N4", "unset clock", ((post, "_since_s", _unset_clock_believed),)),
    Broken("the cap is ignored", "N5", "flappy", ((post, "_room", lambda *_: (99, 0.0)),), gap_s=3000.0),
    Broken("the outage is told too short", "N6", "outage", ((notices, "_between", _lasted_nothing),)),
    Broken("a fault is never cleared", "L5", "backup dead", ((faults, "judged", _never_cleared),)),
    Broken("rounds are kept for ever", "C5", "outage", ((window, "ROUNDS_MAX", 10**9),)),
    Broken("the journal forgets who answered SIP", "C6", "outage", ((journal, "_with_sip", lambda _: False),)),
)
