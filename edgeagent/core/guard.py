"""Hand edits of what was provisioned, and other agents: what is put right, what is only watched (clause P7).

Rules
-----
1. What differs is put right, once, and told: a person may not know what a row is for.
2. A thing that is found changed twice within ten minutes is somebody's will, or is not taken by the router. It is left
   as it is, named as a fault, and watched until it is right again. There is no exception for rows that keep other
   traffic off a backup: whoever takes such a row away twice could as well switch the agent off, an agent that writes it
   again every minute would wear the router's flash and win nothing, and the fault says what is open meanwhile.
3. What only differs because what is wanted has changed (a next hop that a line was given) is put right and not counted.
4. While another agent leads, nothing is put right: it does that, by its own lights.
5. Where a router was never provisioned, or what we had put there was taken away by ``provision --remove``, nothing is
   put right either: the whole ruleset is written by a person's command only.
6. While rows that the probes need are missing and being put right, lost probes say nothing of a line; for half a minute
   at most, since a line may die all the same.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import DriftSeen, Finding

FIGHT_S = 600.0
CHANGES_MAX = 2
BLIND_S = 30.0
THINGS_MAX = 300  # of which something is remembered; a ruleset has about a hundred


class Open(Struct, frozen=True):
    """Something that differs. ``asked``: whether it was ordered to be put right."""

    finding: Finding
    since_s: float
    asked: bool = False


class GuardState(Struct, frozen=True):
    """``open``: what differs now, by thing. ``changed_s``: when each thing was found changed in the last ten minutes.
    ``left``: things that are no longer put right. ``righted``: what the last look showed to be right again, having been
    written. ``provisioned`` is None until the router has been looked at. ``unapplied``: see rule 5.
    """

    provisioned: bool | None = None
    other: str = ""
    open: dict[str, Open] = {}
    changed_s: dict[str, tuple[float, ...]] = {}
    left: frozenset[str] = frozenset()
    righted: tuple[Finding, ...] = ()
    mended: int = 0
    mended_s: float | None = None
    unapplied: tuple[str, ...] = ()


def seen(state: GuardState, fact: DriftSeen, now_s: float) -> GuardState:
    """Take in what was found. What was written and differs all the same was put back, or never taken: changed anew."""
    found = {one.thing: one for one in fact.findings[:THINGS_MAX]}
    recent = {
        thing: kept
        for thing, times in state.changed_s.items()
        if (kept := tuple(at_s for at_s in times if now_s - at_s < FIGHT_S))
    }
    for thing, one in found.items():
        former = state.open.get(thing)
        if not one.by_us and (former is None or thing in fact.tried):
            recent[thing] = (*recent.get(thing, ()), now_s)
    fought = {thing for thing in found if len(recent.get(thing, ())) >= CHANGES_MAX}
    righted = tuple(one.finding for thing, one in state.open.items() if thing in fact.tried and thing not in found)
    return replace(
        state,
        provisioned=fact.provisioned,
        open={
            thing: Open(one, state.open[thing].since_s if thing in state.open else now_s)
            for thing, one in found.items()
        },
        changed_s=dict(list(recent.items())[-THINGS_MAX:]),
        left=frozenset(fought | (state.left & found.keys())),
        righted=righted,
        mended=state.mended + len(righted),
        mended_s=now_s if righted else state.mended_s,
        unapplied=fact.unapplied[:THINGS_MAX],
    )


def to_mend(state: GuardState, *, lead: bool) -> tuple[str, ...]:
    """The things to be put right now. ``lead``: whether it is known that no other agent does."""
    if not lead or state.other or not state.provisioned:
        return ()
    return tuple(thing for thing, one in state.open.items() if not one.asked and thing not in state.left)


def asked(state: GuardState, things: tuple[str, ...]) -> GuardState:
    """These are being put right."""
    if not things:
        return state
    return replace(state, open={**state.open, **{thing: replace(state.open[thing], asked=True) for thing in things}})


def blind(state: GuardState, now_s: float) -> bool:
    """Whether probes may be lost because of what is being put right."""
    return any(
        one.finding.blinds and thing not in state.left and now_s - one.since_s < BLIND_S
        for thing, one in state.open.items()
    )


def put_right(before: GuardState, after: GuardState) -> tuple[Finding, ...]:
    """What has proved to be right again, having been written."""
    return () if before.righted is after.righted else after.righted


def found_new(before: GuardState, after: GuardState) -> tuple[Finding, ...]:
    """What was not known to differ before, or differs in another way."""
    if before.open is after.open:
        return ()
    return tuple(
        one.finding
        for thing, one in after.open.items()
        if thing not in before.open or before.open[thing].finding != one.finding
    )
