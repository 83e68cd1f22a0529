"""A power failure: everything of the site comes back, in any order, with the primary alive or dead (clause L7).

The boxes are switched on one after the other, with seeded gaps. An order with the agent first has no router to talk
to, one with the phones first has no network, and so on. What the router held in RAM is gone, and the agent wakes up on
a disk that tells of another boot. The registrar forgets nothing: only what it accepts after the power came back counts.

The short form takes two orders with each box first, one with the primary alive and one with it dead; the long form
takes all twenty-four, both ways. A phone whose first REGISTER goes unanswered waits out its own timers
(32 s of RFC 3261, Timer F, then 30 to 60 s of RFC 5626, 4.5, and twice that after the next), which nothing can shorten;
so the short form has shorter gaps.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hil import events as seen
from hil.bench import PHONES, Bench, Event, Match, disable_rows
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps
from hil.virtual import addresses as plan

BOXES = ("router", "modem", "agent", "phones")
BOUND_S = 300.0
CALL_S = 10.0
DECIDED_S = 10.0  # clause C2
ALIVE_LEASE = "edge-alive"
GAPS_S, LONG_GAPS_S = (3.0, 10.0), (5.0, 20.0)
CONTROL_S = 60.0
MEASURES = (
    Measure("bound_s", "s", BOUND_S),
    Measure("unbound", "", 0, "equal"),
    Measure("decided_s", "s", DECIDED_S),
    Measure("undecided", "", 0, "equal"),
    Measure("call_s", "s", CALL_S),
    Measure("unanswered_calls", "", 0, "equal"),
    Measure("needless_failovers", "", 0, "equal"),
    Measure("cold_starts", "", None, "info"),
    Measure("bound_alive_s", "s", None, "info"),
    Measure("bound_dead_s", "s", None, "info"),
)


@dataclass(frozen=True)
class Case:
    """One cold start: in which order, and whether the primary is dead when the power comes back."""

    order: tuple[str, ...]
    dead: bool

    @property
    def address(self) -> str:
        """Where the registrar must see the phones."""
        return plan.ROUTER_LTE if self.dead else plan.ROUTER_WAN


def cases(chance: Random, *, long: bool) -> list[Case]:
    """The cold starts of one run, in a seeded sequence; one with the primary alive comes first."""
    if long:
        every = [Case(order, dead) for order in itertools.permutations(BOXES) for dead in (False, True)]
        chance.shuffle(every)
        every.insert(0, every.pop(next(index for index, case in enumerate(every) if not case.dead)))
        return every
    found = []
    for first in chance.sample(BOXES, len(BOXES)):
        rest = itertools.permutations(box for box in BOXES if box != first)
        alive, dead = chance.sample(list(rest), 2)
        found += [Case((first, *alive), dead=False), Case((first, *dead), dead=True)]
    return found


async def story(bench: Bench) -> None:
    """One power failure after the other; it ends with the first that the site does not recover from."""
    await bench.start_site()
    await bench.sleep(_steps.SETTLE_S)
    slowest_s = CONTROL_S
    for case in cases(bench.random, long=bench.options.long):
        await _fail(bench, dead=case.dead)
        since_s = await _come_back(bench, case.order, dead=case.dead)
        waits = [_bound(bench, user, case, since_s) for user in PHONES]
        bound = all(await asyncio.gather(*waits))
        # The router itself may have brought the phones back before the agent has come to its decision.
        await bench.wait(_is_decision(case), DECIDED_S + 5.0, since_s)
        if case.dead:
            slowest_s = max(slowest_s, bench.now() - since_s)
        if bound:
            await _call(bench)
        bench.observe("case ended")
        if not bound:
            for menu in ("/interface", "/ip/address", "/ip/route", "/ip/firewall/address-list", "/log"):
                bench.observe("what the router held", menu=menu, rows=await bench.router_sentence(f"{menu}/print"))
            return
    await _without_agent(bench, slowest_s)
    await _steps.controls(bench)


async def _fail(bench: Bench, *, dead: bool) -> None:
    """The power goes; the line dies or comes back unseen."""
    for box in BOXES:
        await bench.power(box, on=False)
    if dead:
        at_s = await bench.cut("wan")
        bench.observe("cause", at_s=at_s)
    else:
        await bench.restore("wan")
    await bench.sleep(bench.random.uniform(1.0, 5.0))


async def _come_back(bench: Bench, order: Sequence[str], **fields: bool) -> float:
    """Switch on in this order, each box a gap after the one before; returns when the power came back."""
    back = bench.observe("power back", order=list(order), **fields)
    gaps_s = LONG_GAPS_S if bench.options.long else GAPS_S
    starts_s = list(itertools.accumulate((bench.random.uniform(*gaps_s) for _ in order[1:]), initial=0.0))

    async def one(box: str, after_s: float) -> None:
        await bench.sleep(after_s)
        await bench.power(box, on=True)

    await asyncio.gather(*(one(box, after_s) for box, after_s in zip(order, starts_s, strict=True)))
    await bench.lan_attempt("LEAK-AT-BOOT")
    return float(back["t"])


def _is_decision(case: Case) -> Match:
    def match(event: Event) -> bool:
        return bool(seen.leases_taken([event], seen.SITE_LEASE if case.dead else ALIVE_LEASE))

    return match


async def _bound(bench: Bench, user: str, case: Case, since_s: float) -> bool:
    left_s = since_s + BOUND_S + 5.0 - bench.now()
    return await bench.wait(_steps.is_bound(user, case.address), left_s, since_s) is not None


async def _call(bench: Bench) -> None:
    bench.observe("calls")
    bench.observe("call", answered_s=await bench.place_call("p1", CALL_S + 5.0))
    await bench.hang_up("p1")


async def _without_agent(bench: Bench, watched_s: float) -> None:
    """The control: the agent stays off while the primary is dead, for as long as the slowest such start took.

    The router's own routes would bring the phones onto LTE without it (see agent-dead-fallback), so they are off.
    """
    await disable_rows(bench, "/ip/route", "edgeagent:native-")
    await _fail(bench, dead=True)
    since_s = await _come_back(bench, [box for box in BOXES if box != "agent"], dead=True, control=True)
    await bench.sleep(since_s + watched_s - bench.now())
    await _call(bench)
    bench.observe("case ended")


@dataclass(frozen=True)
class Seen:
    """What a cold start came to, from the moment at which the power came back until the story looked away."""

    bound_s: list[float]
    unbound: int
    call_s: float | None
    failovers: int
    decided_s: float | None


def figures(events: Sequence[Event]) -> Samples:
    """Kamailio's registrations and answers, and the router's wire, after the power came back."""
    samples: Samples = {}

    def add(name: str, value: float | None) -> None:
        if value is not None:
            samples.setdefault(name, []).append(float(value))

    for found, back in _judged(events):
        if back.get("control"):
            continue
        add("unbound", found.unbound)
        add("unanswered_calls", found.call_s is None)
        add("call_s", found.call_s)
        add("undecided", found.decided_s is None)
        add("decided_s", found.decided_s)
        add("bound_s", max(found.bound_s, default=None))
        add("bound_dead_s" if back["dead"] else "bound_alive_s", max(found.bound_s, default=None))
        add("needless_failovers", None if back["dead"] else found.failovers)
    if samples:
        add("cold_starts", len(samples["unbound"]))
    return samples


def _judged(events: Sequence[Event]) -> list[tuple[Seen, Event]]:
    """Each cold start with what the story noted when the power came back."""
    backs, ends = seen.of(events, "bench", "power back"), seen.of(events, "bench", "case ended")
    return [(_seen(events, back, float(end["t"])), back) for back, end in zip(backs, ends, strict=False)]


def _seen(events: Sequence[Event], back: Event, until_s: float) -> Seen:
    since_s, dead = float(back["t"]), bool(back["dead"])
    span = [event for event in events if since_s <= event["t"] <= until_s]
    found = [seen.registered(span, user, plan.ROUTER_LTE if dead else plan.ROUTER_WAN, since_s) for user in PHONES]
    bound_s = [at_s - since_s for at_s in found if at_s is not None]
    asked, calls = seen.of(span, "bench", "calls"), seen.of(span, "bench", "call")
    answered_s = calls[-1]["answered_s"] if asked and calls else None
    return Seen(
        bound_s=bound_s,
        unbound=len(PHONES) - len(bound_s),
        call_s=None if answered_s is None else answered_s - asked[-1]["t"],
        failovers=len(seen.leases_taken(span)),
        decided_s=_decided_s(span, dead=dead),
    )


def _decided_s(span: Sequence[Event], *, dead: bool) -> float | None:
    """From when all that a decision needs was on until the lease that says it: that of the site, or the agent's own."""
    needed = ("router", "agent", "modem") if dead else ("router", "agent")
    on_s = [event["t"] for event in seen.of(span, "bench", "power", on=True) if event["box"] in needed]
    lease = seen.first(seen.leases_taken(span, seen.SITE_LEASE if dead else ALIVE_LEASE))
    return None if lease is None or len(on_s) < len(needed) else float(lease["t"]) - max(on_s)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Without the agent no phone is bound and no call answered on a dead primary; with it, leases are seen."""
    every = _judged(events)
    alone = [found for found, back in every if back.get("control")]
    if not alone:
        return {}
    last = alone[-1]
    said = {"L7": "bit"}
    if last.bound_s or last.call_s is not None or last.failovers or last.decided_s is not None:
        said["L7"] = f"did not bite: without the agent {last}"
    taken = [found.failovers for found, back in every if back["dead"] and not back.get("control")]
    said["leases"] = "bit" if taken and all(taken) else "did not bite: a dead primary was left without a lease"
    return said


SCENARIO = Scenario(
    name="cold-start",
    purpose="the power fails; phones are bound whatever the boot order, primary alive or dead",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "lease-swallowed"),
    controls=controls,
)
