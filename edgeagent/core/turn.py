"""One turn: facts in; state, orders, intents and notices out. This module holds the order of things and no more.

``turn`` is a pure function: the same state, facts and time give the same result. The shell commits what a turn says in
``transitions`` and ``notices`` before it acts on ``orders`` and ``intents``, and calls again when facts arrive or at
``next_deadline``.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core import detector, drain, failover, faults, guard, native, notices, orders, window
from edgeagent.core.detector import DOWN, UP, PathState
from edgeagent.core.facts import (
    DriftSeen,
    Fact,
    Finding,
    FlowsSeen,
    Instant,
    Lease,
    LeasesSeen,
    LedBy,
    LinkChanged,
    PartFailed,
    PartWorks,
    ProbeReplied,
    RoundsAnswered,
    RoundSent,
    RouterLost,
    RouterReached,
    UplinkSeen,
)
from edgeagent.core.failover import AWAY, HOME, RETURNING, Place
from edgeagent.core.intents import MoveFlows, Notify, Orders, Transition, Values
from edgeagent.core.settings import ALIVE_LIST, EVERYTHING, Settings
from edgeagent.core.window import DAY_S, NEVER

BLIND_ROUNDS = 5
FORGOT_S = 6.0  # a router that has forgotten our leases may hold other rows than before; so long they are waited for
FINDINGS_TOLD = 20  # of one turn in the journal, each with what was found; of the others the number
LOOK_S = 1.0  # a reading of the rows so long after the return began was surely asked after it


class State(Struct, frozen=True):
    """All that the core remembers. ``again``: second passes over the flows that are still due.

    ``router_lost``: the fault that says why the router's API does not answer, None while it does. ``troubles``: by part
    of the agent, the fault that keeps it from its work.
    """

    paths: dict[str, PathState]
    place: Place
    phones: drain.Phones = drain.Phones()
    faults: faults.FaultState = faults.FaultState()
    again: tuple[tuple[float, MoveFlows], ...] = ()
    router_lost: str | None = None
    troubles: dict[str, str] = {}
    remembers: bool = True  # False while a slow disk has not told yet what the last run left
    former: Place | None = None  # an open incident of the last run, told of late and not taken up yet
    contradict_until_s: float = NEVER  # so long the router's own fallback may leave a primary that is well
    leases_known: bool = False
    decided: bool = False  # whether this run has itself chosen the place; else what it remembers may be long over
    guard: guard.GuardState = guard.GuardState()
    look_until_s: float = NEVER  # so long lost probes say nothing: the router's rows have to be looked at first
    watched: bool = False  # another agent led until now: the router answered meanwhile, and the lines were judged


class Turn(Struct, frozen=True):
    """What follows from one turn. ``reason`` says what ``next_deadline`` is for. ``mend``: the things in the router to
    be put right, once (see guard.py).
    """

    state: State
    orders: Orders
    intents: tuple[MoveFlows, ...]
    transitions: tuple[Transition, ...]
    notices: tuple[Notify, ...]
    next_deadline: float
    reason: str
    mend: tuple[str, ...] = ()


class Kept(Struct, frozen=True):
    """What one run leaves to the next: where voice was, who the phones are, which faults were told. ``former``: what it
    had itself been left and not come to yet.
    """

    boot_id: str
    place: Place
    phones: drain.Phones = drain.Phones()
    told: dict[str, faults.Told] = {}
    former: Place | None = None


def first_state(settings: Settings, kept: Kept | None = None, boot_id: str = "", *, remembers: bool = True) -> State:
    """The state at start, from what the last run kept; not ``remembers``: that will be told later, if at all.

    After a reboot of the machine no monotonic time means anything any more: only what was told and has not ended is
    carried over, so that its end is told too.
    """
    paths = {path.name: PathState() for path in settings.paths}
    if kept is None or kept.place.path not in paths:
        return State(paths=paths, place=Place(path=settings.primary.name), remembers=remembers)
    told = {code: one for code, one in kept.told.items() if code in faults.CATALOGUE}
    judged = faults.FaultState(told=told, carried=frozenset(told))
    if kept.boot_id != boot_id:
        place = failover.carried(kept.place, settings)
        return State(paths=paths, place=place, faults=judged, former=kept.former)
    phones = replace(kept.phones, counts={}, read_s=None)
    return State(paths=paths, place=kept.place, phones=phones, faults=judged, former=kept.former)


def reminded(state: State, kept: Kept | None, settings: Settings, boot_id: str) -> State:
    """What the last run left, read only after this run had begun (a slow disk); None: waited for long enough.

    Where voice goes is known better by now. What was told and has not ended is taken over all the same (clause N1): the
    faults at once, an open incident as soon as none of this run's own is open.
    """
    state = replace(state, remembers=True)
    if kept is None:
        return state
    left = first_state(settings, kept)
    told = {**left.faults.told, **state.faults.told}
    carried = state.faults.carried | (left.faults.carried - state.faults.told.keys())
    judged = replace(state.faults, told=told, carried=carried, carried_until_s=None)
    former = left.place if failover.open_incident(left.place) else left.former
    failovers = {*state.place.left_s, *(kept.place.left_s if kept.boot_id == boot_id else ())}
    place = replace(state.place, left_s=tuple(sorted(failovers))[-64:])
    return replace(state, place=place, faults=judged, former=former)


def kept(state: State, boot_id: str) -> Kept:
    """What a later run shall know; the byte counts of the last reading are of no use to it."""
    phones = replace(state.phones, counts={}, read_s=None)
    return Kept(boot_id, state.place, phones, state.faults.told, state.former)


def turn(state: State, facts: tuple[Fact, ...], now: Instant, settings: Settings) -> Turn:
    """Take in ``facts``, judge, decide."""
    before = state
    for fact in facts:
        state = _observed(state, fact, settings, now)
    state = _judged(state, settings, now.mono_s)
    if state.former is not None and state.place.phase != RETURNING and not state.place.incident:
        left = state.former
        place = replace(state.place, incident=left.incident, cause=left.cause, left=left.left)
        state = replace(state, place=place, former=None)
        before = replace(before, place=place)  # its beginning was told long ago
    start = state.place
    place = failover.next_place(start, state.paths, settings, now)
    if not state.remembers and start.phase == AWAY and not start.incident and place.phase == AWAY:
        place = replace(place, incident="", left=None)  # the last run may have told of it already
    if not state.leases_known and start.phase == place.phase == HOME:
        place = start  # whether an incident that was open is over is not known before the router was asked
    place = _waiting(place, state, start, settings, now.mono_s)
    place = failover.next_place(place, state.paths, settings, now) if place.phase == RETURNING else place
    if state.guard.other:
        place = start  # whoever leads decides where voice goes, and tells
    moves = _moves(state, place, start, settings)
    if not moves and not state.again:
        moves = _strays(state, place, facts, settings)
    moved = (place.phase, place.path) != (before.place.phase, before.place.path)
    due = () if moved else tuple(one for at_s, one in state.again if at_s <= now.mono_s)
    later = () if moved else tuple(one for one in state.again if one[0] > now.mono_s)
    state = replace(state, contradict_until_s=_contradict_until_s(state, place, settings, now.mono_s))
    again_s = now.mono_s + settings.flows.again_after_s
    again = (*later, *((again_s, move) for move in moves))[-64:]
    decided = state.decided or place.phase != start.phase
    mend = guard.to_mend(state.guard, lead=state.leases_known)
    state = replace(state, place=place, again=again, decided=decided, guard=guard.asked(state.guard, mend))
    state = replace(state, faults=faults.judged(state.faults, _conditions(state, settings, now.mono_s), now))
    told = notices.told(before.place, place, state.paths, state.phones, settings, now)
    told_faults = notices.told_faults(before.faults, state.faults, settings, now)
    told_drift = notices.told_drift(before.guard, state.guard, settings, now)
    at_s, reason = _deadline(state, settings, now.mono_s)
    return Turn(
        state=state,
        orders=orders.wanted(
            state.paths,
            place,
            settings,
            now.mono_s,
            lead=(state.leases_known or decided) and not state.guard.other,
            contradict=_contradicting(state, place, settings, now.mono_s),
            keep_devices=_keep_devices(state),
        ),
        intents=() if state.guard.other else (*due, *moves),
        transitions=_transitions(before, state),
        notices=(*told, *told_faults, *told_drift),
        next_deadline=at_s,
        reason=reason,
        mend=mend,
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
                forgot = Lease(ALIVE_LIST, EVERYTHING) not in fact.leases
                return replace(state, look_until_s=now.mono_s + FORGOT_S) if forgot else state
            return _reached_first(state, fact, settings, now)
        case LedBy():
            return _led_by(state, fact.owner)
        case DriftSeen():
            return _drift_seen(state, fact, settings, now.mono_s)
        case RouterReached():
            return replace(state, router_lost=None)
        case RouterLost():
            return replace(state, router_lost=fact.code)
        case PartFailed():
            return replace(state, troubles={**state.troubles, fact.part: fact.code})
        case PartWorks():
            return replace(state, troubles={part: why for part, why in state.troubles.items() if part != fact.part})


def _reached_first(state: State, fact: LeasesSeen, settings: Settings, now: Instant) -> State:
    """The router answers for the first time in this run: what went unanswered until now may be its own silence."""
    state = state if state.watched else _without_loss(state, settings, now.mono_s)
    place = failover.adopted(state.place, fact, settings, now)
    if not state.remembers and place.phase == AWAY:
        place = replace(place, incident="", left=None)
    held = any(lease.list == settings.primary.site_list for lease in fact.leases)
    until_s = now.mono_s + native.SETTLE_S if held else state.contradict_until_s  # the last run knew why
    return replace(state, place=place, leases_known=True, contradict_until_s=until_s, watched=False)


def _led_by(state: State, other: str) -> State:
    """While another agent leads, what the router holds is not ours; once it has gone, it is looked at as at a start."""
    if not other:
        return replace(state, guard=replace(state.guard, other=""))
    led = replace(state.guard, other=other)
    return replace(state, guard=led, leases_known=False, decided=False, again=(), watched=True)


def _drift_seen(state: State, fact: DriftSeen, settings: Settings, now_s: float) -> State:
    """Once the rows that the probes need are there again, what went unanswered without them is forgotten."""
    judged = guard.seen(state.guard, fact, now_s)
    if guard.blind(state.guard, now_s) and not guard.blind(judged, now_s):
        state = _without_loss(state, settings, now_s)
    return replace(state, guard=judged, look_until_s=NEVER)


def _without_loss(state: State, settings: Settings, now_s: float) -> State:
    for path in settings.paths:
        kept = window.without_loss(state.paths[path.name].window, now_s, path.probing.reply_wait_s)
        state = _with_window(state, path.name, kept)
    return state


def _flows_seen(state: State, fact: FlowsSeen, settings: Settings) -> State:
    for name, path in state.paths.items():
        alive_s = drain.answered_on(state.phones, fact, path.address)
        if alive_s is not None:
            state = _with_window(state, name, window.flow_answered(path.window, alive_s))
    return replace(state, phones=drain.flows_seen(state.phones, fact, settings.flows))


def _with_path(state: State, name: str, path: PathState) -> State:
    return replace(state, paths={**state.paths, name: path})


def _with_window(state: State, name: str, changed: window.Window) -> State:
    return _with_path(state, name, replace(state.paths[name], window=changed))


# --- judging and deciding ----------------------------------------------------------------------------------------


def _judged(state: State, settings: Settings, now_s: float) -> State:
    """Until the router has answered once in this run, loss says nothing: after a power failure the agent may be up
    before it. Nothing could be done about a dead line then, and lines that are well would be found dead, to come back
    in whatever order their probes happen to be sent. Whoever watches another agent lead has heard the router.
    """
    counts = state.leases_known or state.watched
    counts = counts and now_s >= state.look_until_s and not guard.blind(state.guard, now_s)
    paths = {
        path.name: detector.judged(state.paths[path.name], path.probing, now_s, loss_counts=counts)
        for path in settings.paths
    }
    return replace(state, paths=paths)


def _keep_devices(state: State) -> bool:
    """Whoever only watches writes nothing (clause P7), and a router without our rules has no use for it (clause P4)."""
    ours = state.leases_known and not state.guard.other and state.guard.provisioned is True
    return ours and faults.UNLISTED not in state.troubles.values()


def _contradicting(state: State, place: Place, settings: Settings, now_s: float) -> bool:
    window = state.paths[settings.primary.name].window
    return native.standing(state.contradict_until_s, place, window, now_s)


def _contradict_until_s(state: State, place: Place, settings: Settings, now_s: float) -> float:
    primary = settings.primary
    stuck = all(state.paths[path.name].verdict == DOWN for path in settings.paths)
    return native.needed_until(state.contradict_until_s, place, state.paths[primary.name], primary, now_s, stuck=stuck)


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
            # no rows: it may have registered a moment ago, or was adopted with its lease only
            else looked and not (address in phones and drain.cut_off(phones[address], now_s, settings.failback))
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
    the address of another path is a stray: a line may well have more addresses than the one we know. Media pinned to a
    backup stays there on the way home. Away from home the mark proves nothing: a row that was never answered bears that
    of the path it was tried on last.
    """
    home = settings.primary.name
    away = place.phase == AWAY
    if place.phase == HOME and state.paths[home].verdict != UP:
        return ()  # the native fallback may be carrying them
    strayed: dict[str, set[str]] = {}
    for flow in (flow for fact in facts if isinstance(fact, FlowsSeen) for flow in fact.flows):
        if flow.pinned and not away:
            continue
        path = place.path if away or flow.source in place.waiting else home
        if flow.nat in {other.address for name, other in state.paths.items() if name != path}:
            strayed.setdefault(path, set()).add(flow.source)
    return tuple(MoveFlows(path, sources=frozenset(strayed[path]), pinned=away) for path in sorted(strayed))


def _conditions(state: State, settings: Settings, now_s: float) -> frozenset[str]:
    primary = state.paths[settings.primary.name]
    backups = [state.paths[path.name] for path in settings.paths[1:]]
    found = {
        "no_path": primary.verdict == DOWN and all(backup.verdict == DOWN for backup in backups),
        "backup_down": primary.verdict == UP and any(backup.verdict == DOWN for backup in backups),
        # Whatever keeps the API from answering, the agent cannot move the phones.
        "router_unreachable": state.router_lost is not None,
        "control_silent": window.control_silent(
            primary.window, now_s, settings.primary.probing.reply_wait_s, BLIND_ROUNDS
        ),
        "probes_not_sent": window.not_sent(primary.window, BLIND_ROUNDS),
        "canaries_silent": native.silent(primary.window, settings.primary, now_s),
        "router_unprovisioned": state.guard.provisioned is False,
        "router_rules_not_applied": bool(state.guard.unapplied),
        "router_held_by_other": bool(state.guard.other),
        "router_rows_differ": bool(state.guard.open.keys() - state.guard.left),
        "router_rows_fought_over": bool(state.guard.left),
        "sip_silent": state.place.ready_since_s is not None,
        "call_over_drain_limit": state.place.phase == RETURNING
        and bool(state.place.waiting)
        and now_s - state.place.since_s >= settings.failback.drain_limit_s,
    }
    told = {state.router_lost or "", *state.troubles.values()} & faults.CATALOGUE.keys()
    return frozenset({*(code for code, holds in found.items() if holds), *told})


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
    found += _of_drift(before.guard, after.guard)
    found.extend(
        Transition("fault raised", {"code": code}) for code in sorted(after.faults.raised - before.faults.raised)
    )
    found.extend(
        Transition("fault cleared", {"code": code}) for code in sorted(before.faults.raised - after.faults.raised)
    )
    return tuple(found)


def _of_drift(before: guard.GuardState, after: guard.GuardState) -> list[Transition]:
    """What was found, thing by thing, before anything is done about it; and what has proved to be right again."""
    found: list[Transition] = []
    for kind, findings in (
        ("drift found", guard.found_new(before, after)),
        ("drift mended", guard.put_right(before, after)),
    ):
        found += [Transition(kind, _as_values(one)) for one in findings[:FINDINGS_TOLD]]
        if len(findings) > FINDINGS_TOLD:
            found.append(Transition(kind, {"more": len(findings) - FINDINGS_TOLD}))
    if before.other != after.other:
        found.append(Transition("led by", {"owner": after.other}))
    return found


def _as_values(one: Finding) -> Values:
    data: Values = {"thing": one.thing, "found": one.kind}
    if one.attribute:
        data |= {"attribute": one.attribute}
    if one.found or one.wanted:
        data |= {"was": one.found, "wanted": one.wanted}
    return data


def _deadline(state: State, settings: Settings, now_s: float) -> tuple[float, str]:
    """When to turn again even if nothing is heard, and why."""
    due: list[tuple[float, str]] = [(now_s + DAY_S, "daily")]
    for path in settings.paths:
        at_s = detector.wakes_at(state.paths[path.name], path.probing, now_s)
        if at_s is not None:
            due.append((at_s, f"{path.name} round settles"))
    due.extend((at_s, "second pass over flows") for at_s, _ in state.again)
    if now_s < state.contradict_until_s:
        due.append((state.contradict_until_s, "native fallback settles"))
    if now_s < state.look_until_s:
        due.append((state.look_until_s, "rows are looked at"))
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
