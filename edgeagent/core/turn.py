"""One turn: facts in; state, orders, intents and notices out. This module holds the order of things and no more.

``turn`` is a pure function: the same state, facts and time give the same result. The shell commits what a turn says in
``transitions`` and ``notices`` before it acts on ``orders`` and ``intents``, and calls again when facts arrive or at
``next_deadline``.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core import detector, drain, failover, faults, notices, orders, window
from edgeagent.core.detector import DOWN, UP, PathState
from edgeagent.core.facts import (
    Fact,
    FlowsSeen,
    Instant,
    LeasesSeen,
    LinkChanged,
    NoticeSent,
    ProbeReplied,
    RoundsAnswered,
    RoundSent,
    RouterLost,
    RouterReached,
    UplinkSeen,
)
from edgeagent.core.failover import AWAY, HOME, RETURNING, Place
from edgeagent.core.intents import MoveFlows, Notify, Orders, Transition
from edgeagent.core.settings import Settings
from edgeagent.core.window import DAY_S

Values = dict[str, str | float | int | None]
BLIND_ROUNDS = 5
LOOK_S = 1.0  # a reading of the rows so long after the return began was surely asked after it


class State(Struct, frozen=True):
    """All that the core remembers. ``again``: second passes over the flows that are still due."""

    paths: dict[str, PathState]
    place: Place
    phones: drain.Phones = drain.Phones()
    faults: faults.FaultState = faults.FaultState()
    again: tuple[tuple[float, MoveFlows], ...] = ()
    router_lost_s: float | None = None
    leases_known: bool = False
    decided: bool = False  # whether this run has itself chosen the place; else what it remembers may be long over


class Turn(Struct, frozen=True):
    """What follows from one turn. ``reason`` says what ``next_deadline`` is for."""

    state: State
    orders: Orders
    intents: tuple[MoveFlows, ...]
    transitions: tuple[Transition, ...]
    notices: tuple[Notify, ...]
    next_deadline: float
    reason: str


def first_state(settings: Settings, place: Place | None = None) -> State:
    """The state at start; ``place`` where a former run of the same boot left off."""
    return State(
        paths={path.name: PathState() for path in settings.paths},
        place=place or Place(path=settings.primary.name),
    )


def turn(state: State, facts: tuple[Fact, ...], now: Instant, settings: Settings) -> Turn:
    """Take in ``facts``, judge, decide."""
    before = state
    for fact in facts:
        state = _observed(state, fact, settings, now)
    state = _judged(state, settings, now.mono_s)
    start = state.place
    place = failover.next_place(start, state.paths, settings, now)
    place = _waiting(place, state, start, settings, now.mono_s)
    place = failover.next_place(place, state.paths, settings, now) if place.phase == RETURNING else place
    moves = _moves(state, place, start, settings)
    if not moves and not state.again:
        moves = _strays(state, place, facts, settings)
    moved = (place.phase, place.path) != (before.place.phase, before.place.path)
    due = () if moved else tuple(one for at_s, one in state.again if at_s <= now.mono_s)
    later = () if moved else tuple(one for one in state.again if one[0] > now.mono_s)
    again_s = now.mono_s + settings.flows.again_after_s
    told = notices.told(before.place, place, state.paths, state.phones, settings, now)
    again = (*later, *((again_s, move) for move in moves))[-64:]
    decided = state.decided or place.phase != start.phase
    state = replace(state, place=place, again=again, decided=decided)
    state = replace(state, faults=faults.judged(state.faults, _conditions(state, settings, now.mono_s), now.mono_s))
    at_s, reason = _deadline(state, settings, now.mono_s)
    return Turn(
        state=state,
        orders=orders.wanted(state.paths, place, settings, now.mono_s, lead=state.leases_known or decided),
        intents=(*due, *moves),
        transitions=_transitions(before, state),
        notices=told,
        next_deadline=at_s,
        reason=reason,
    )


# --- taking in ---------------------------------------------------------------------------------------------------


def _observed(state: State, fact: Fact, settings: Settings, now: Instant) -> State:
    match fact:
        case RoundSent():
            return _with_window(state, fact.path, window.round_sent(state.paths[fact.path].window, fact))
        case ProbeReplied():
            return _with_window(state, fact.path, window.replied(state.paths[fact.path].window, fact))
        case RoundsAnswered():
            return _with_window(state, fact.path, window.stretch_answered(state.paths[fact.path].window, fact))
        case LinkChanged():
            return _with_path(state, fact.path, detector.link_changed(state.paths[fact.path], fact))
        case UplinkSeen():
            return _with_path(state, fact.path, replace(state.paths[fact.path], address=fact.address))
        case FlowsSeen():
            return _flows_seen(state, fact, settings)
        case LeasesSeen():
            if state.leases_known:
                return state
            return replace(state, place=failover.adopted(state.place, fact, settings, now), leases_known=True)
        case RouterReached():
            return replace(state, router_lost_s=None)
        case RouterLost():
            lost_s = fact.at_s if state.router_lost_s is None else state.router_lost_s
            return replace(state, router_lost_s=lost_s)
        case NoticeSent():
            return state


def _flows_seen(state: State, fact: FlowsSeen, settings: Settings) -> State:
    for name, path in state.paths.items():
        alive_s = drain.answered_on(state.phones, fact, path.address)
        if alive_s is not None:
            state = _with_window(state, name, window.known_alive(path.window, alive_s))
    return replace(state, phones=drain.flows_seen(state.phones, fact, settings.flows))


def _with_path(state: State, name: str, path: PathState) -> State:
    return replace(state, paths={**state.paths, name: path})


def _with_window(state: State, name: str, changed: window.Window) -> State:
    return _with_path(state, name, replace(state.paths[name], window=changed))


# --- judging and deciding ----------------------------------------------------------------------------------------


def _judged(state: State, settings: Settings, now_s: float) -> State:
    return replace(
        state,
        paths={path.name: detector.judged(state.paths[path.name], path.probing, now_s) for path in settings.paths},
    )


def _waiting(place: Place, state: State, before: Place, settings: Settings, now_s: float) -> Place:
    """Who still holds a lease of their own while returning."""
    if place.phase != RETURNING:
        return place
    phones = state.phones.phones
    if before.phase == AWAY:
        home = state.paths[settings.primary.name].address
        waiting = frozenset(address for address, phone in phones.items() if phone.nats != {home})
    else:
        waiting = place.waiting
    read_s = state.phones.read_s
    looked = read_s is not None and read_s - place.since_s >= LOOK_S
    going = {
        address
        for address in waiting
        if (
            drain.may_go(phones[address], place.since_s, now_s, settings.failback)
            if address in phones and phones[address].nats
            else looked  # no rows: it may have registered a moment ago, or was adopted with its lease only
        )
    }
    return replace(place, waiting=waiting - going)


def _moves(state: State, place: Place, before: Place, settings: Settings) -> tuple[MoveFlows, ...]:
    """Which flows must go to the path they belong on after a change of place."""
    home = settings.primary.name
    if place.phase == AWAY and (before.phase, before.path) != (AWAY, place.path):
        return (MoveFlows(place.path, pinned=True),)
    if before.phase == AWAY and place.phase == RETURNING:
        return (MoveFlows(home, spare=place.waiting),)
    if place.phase == HOME and before.phase != HOME:
        dead = state.paths[before.path].verdict == DOWN
        return (MoveFlows(home, pinned=dead),)
    released = before.waiting - place.waiting if place.phase == RETURNING else frozenset()
    return (MoveFlows(home, sources=released),) if released else ()


def _strays(state: State, place: Place, facts: tuple[Fact, ...], settings: Settings) -> tuple[MoveFlows, ...]:
    """Rows seen on another path than their phone's: left behind by a crash, a lost reply, a lapse, a new address.

    Nothing else would ever end them while the phone talks, and an unanswered phone talks all the more. Only a row with
    the address of another path is a stray: a line may well have more addresses than the one we know.
    """
    home = settings.primary.name
    if place.phase == HOME and state.paths[home].verdict != UP:
        return ()  # the native fallback may be carrying them
    strayed: dict[str, set[str]] = {}
    for flow in (flow for fact in facts if isinstance(fact, FlowsSeen) for flow in fact.flows if not flow.pinned):
        path = place.path if place.phase == AWAY or flow.source in place.waiting else home
        if flow.nat in {other.address for name, other in state.paths.items() if name != path}:
            strayed.setdefault(path, set()).add(flow.source)
    return tuple(MoveFlows(path, sources=frozenset(strayed[path])) for path in sorted(strayed))


def _conditions(state: State, settings: Settings, now_s: float) -> frozenset[str]:
    primary = state.paths[settings.primary.name]
    backups = [state.paths[path.name] for path in settings.paths[1:]]
    found = {
        "no_path": primary.verdict == DOWN and all(backup.verdict == DOWN for backup in backups),
        "backup_down": primary.verdict == UP and any(backup.verdict == DOWN for backup in backups),
        "router_unreachable": state.router_lost_s is not None,
        "control_silent": window.control_silent(
            primary.window, now_s, settings.primary.probing.reply_wait_s, BLIND_ROUNDS
        ),
        "probes_not_sent": window.not_sent(primary.window, BLIND_ROUNDS),
        "sip_silent": state.place.ready_since_s is not None,
        "call_over_drain_limit": state.place.phase == RETURNING
        and bool(state.place.waiting)
        and now_s - state.place.since_s >= settings.failback.drain_limit_s,
    }
    return frozenset(code for code, holds in found.items() if holds)


# --- telling ---------------------------------------------------------------------------------------------------------


def _transitions(before: State, after: State) -> tuple[Transition, ...]:
    found: list[Transition] = []
    evidence: Values
    data: Values
    for name, path in after.paths.items():
        if path.verdict != before.paths[name].verdict:
            evidence = {"path": name, "verdict": path.verdict, "cause": path.cause, "lost": path.lost}
            found.append(Transition("path", evidence))
    old, new = before.place, after.place
    if (old.phase, old.path, old.incident) != (new.phase, new.path, new.incident):
        data = {"phase": new.phase, "path": new.path, "incident": new.incident, "waiting": len(new.waiting)}
        found.append(Transition("place", data))
    found.extend(
        Transition("fault raised", {"code": code}) for code in sorted(after.faults.raised - before.faults.raised)
    )
    found.extend(
        Transition("fault cleared", {"code": code}) for code in sorted(before.faults.raised - after.faults.raised)
    )
    return tuple(found)


def _deadline(state: State, settings: Settings, now_s: float) -> tuple[float, str]:
    """When to turn again even if nothing is heard, and why."""
    due: list[tuple[float, str]] = [(now_s + DAY_S, "daily")]
    for path in settings.paths:
        at_s = detector.wakes_at(state.paths[path.name], path.probing, now_s)
        if at_s is not None:
            due.append((at_s, f"{path.name} round settles"))
    due.extend((at_s, "second pass over flows") for at_s, _ in state.again)
    ripe_s = faults.ripens_at(state.faults, now_s)
    if ripe_s is not None:
        due.append((ripe_s, "fault ripens"))
    due.extend(_place_deadlines(state, settings, now_s))
    soonest = min(due)
    return max(soonest[0], now_s), soonest[1]


def _place_deadlines(state: State, settings: Settings, now_s: float) -> list[tuple[float, str]]:
    place = state.place
    if place.phase == AWAY:
        primary = state.paths[settings.primary.name]
        at_s = failover.may_return_at(place, primary, settings.failback, now_s)
        if at_s is None or primary.verdict != UP:
            return []
        return [(at_s if at_s > now_s else now_s + 1.0, "hold ends")]
    if place.phase != RETURNING:
        return []
    due = [(now_s + 1.0, "phones are waiting")]
    for address in place.waiting:
        phone = state.phones.phones.get(address)
        refresh_s = drain.next_refresh_s(phone, now_s) if phone else None
        if refresh_s is not None and refresh_s - settings.failback.refresh_lead_s > now_s:
            due.append((refresh_s - settings.failback.refresh_lead_s, "a phone is about to refresh"))
    return due
