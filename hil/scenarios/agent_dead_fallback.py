"""The agent is dead, and the router alone keeps the phones reachable: it turns its routes and lets go of stale rows.

Five stretches of one site's life: agent and line die in one moment; the agent's leases lapse while the line is dead;
the line returns and nobody is there; the line dies and nobody is there; the agent dies for good while a bad but living
line is not used. Between them the agent comes back and must find everything as it should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _calls, _right, _steps
from hil.virtual import addresses as plan

UDP, SLOW = ("p1", "p4"), ("p5", "p6")  # all with 60 s; p5 and p6 talk TCP and TLS
CALLS = ("p4", "p3")
STRETCHES = 4  # that end with the phones on another line
BACK_S = 120.0
TOGETHER_S = 60.0
GAP_S = 0.1
HOLD_S = 900.0  # the agent must still be away when it dies for good
WATCH_S = 65.0  # each phone has registered once more by then
SLOW_S = 200.0
LAPSE_S = 75.0
LOSS = 0.02
BLIP_S = 0.5

MEASURES = (
    Measure("first_voice_s", "s", TOGETHER_S),
    Measure("udp60_back_s", "s", BACK_S),
    Measure("udp60_phones_back", "", STRETCHES * len(UDP), "equal"),
    Measure("tcp60_back_s", "s", None, "info"),
    Measure("call_gap_s", "s", GAP_S),
    Measure("call_spacing_s", "s", None, "info"),
    Measure("second_switches", "", 0, "equal"),
)


# --- the story ---------------------------------------------------------------------------------------------------


async def story(bench: Bench) -> None:
    """All stretches, one after the other."""
    await bench.start_site(("p1", "p3", "p4", "p5", "p6"), hold_s=HOLD_S)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 20.0))
    await _gap_control(bench)
    await _die_together(bench)
    await _agent_back(bench)
    await _lapse_and_return(bench)
    await _agent_back(bench)
    await _line_dies(bench)
    await _steps.leak_attempt(bench, "LEAK-WITHOUT-AGENT")
    await _agent_back(bench)
    await _dies_for_good(bench)
    await _steps.controls(bench)


async def _gap_control(bench: Bench) -> None:
    """Half a second of silence is no outage, and is heard in a call."""
    await _steps.talk(bench, CALLS[0])
    await bench.reset_gaps()
    await bench.sleep(BLIP_S)  # a silence lies between two packets
    await bench.cut("wan")
    await bench.sleep(BLIP_S)
    await bench.restore("wan")
    await bench.sleep(2.0)
    await bench.call_gap("blip")


async def _die_together(bench: Bench) -> None:
    await bench.stop_agent(kill=True)
    cut_s = await _cut(bench)
    bench.observe("died together", at_s=cut_s)
    await _all_back(bench, "died together", plan.ROUTER_LTE, cut_s)
    await bench.hang_up(CALLS[0])


async def _lapse_and_return(bench: Bench) -> None:
    """A call that was born on LTE outlives the lease and the way back of everybody else."""
    await _steps.talk(bench, CALLS[1])
    await bench.reset_gaps()
    await bench.stop_agent(kill=True)
    await _lapsed(bench)
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await _all_back(bench, "returned", plan.ROUTER_WAN, restored_s)
    await bench.call_gap("call kept: returned")
    await bench.hang_up(CALLS[1])


async def _line_dies(bench: Bench) -> None:
    await bench.stop_agent(kill=True)
    await _lapsed(bench)
    cut_s = await _cut(bench)
    await _all_back(bench, "died alone", plan.ROUTER_LTE, cut_s)


async def _dies_for_good(bench: Bench) -> None:
    """The line lives again, badly, and the agent waits out its hold: then it dies, and its lease lapses."""
    await _steps.talk(bench, CALLS[1])
    await bench.impair("wan", loss=LOSS)
    bench.observe("restored", at_s=await bench.restore("wan"))
    await bench.sleep(15.0)
    await bench.reset_gaps()
    await bench.stop_agent(kill=True)
    lapsed_s = await _lapsed(bench)
    await _all_back(bench, "for good", plan.ROUTER_WAN, lapsed_s)
    await bench.call_gap("call kept: for good")


async def _cut(bench: Bench) -> float:
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    return cut_s


async def _lapsed(bench: Bench) -> float:
    """Wait until the router holds nothing of the agent's any more; when that was."""
    end_s = bench.now() + LAPSE_S
    while bench.now() < end_s:
        look = await bench.look("lapse")
        if not look["leases"]:
            return float(look["t"])
        await bench.sleep(0.5)
    raise BenchBroken(f"leases still stand {LAPSE_S:.0f} s after the agent's death")


async def _all_back(bench: Bench, stretch: str, address: str, since_s: float) -> None:
    bench.observe("stretch", name=stretch, address=address, since_s=since_s)
    waits = [bench.wait(_steps.is_bound(user, address), BACK_S - (bench.now() - since_s), since_s) for user in UDP]
    if None in await asyncio.gather(*waits):
        raise _right.NotRight(stretch)
    await bench.sleep(2.0)


async def _agent_back(bench: Bench) -> None:
    """Nothing but the agent changes now, so nobody may have to register anew. The slow ones come first."""
    stretch = seen.of(bench.events(), "bench", "stretch")[-1]
    for user in SLOW:
        bound = _steps.is_bound(user, str(stretch["address"]))
        await bench.wait(bound, float(stretch["since_s"]) + SLOW_S - bench.now(), float(stretch["since_s"]))
    started_s = bench.now()
    await bench.start_agent()
    await bench.sleep(WATCH_S)
    bench.observe("agent back", since_s=started_s, until_s=bench.now())


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """From the registrar and the emulator."""
    samples: Samples = {}
    for stretch in seen.of(events, "bench", "stretch"):
        for name, users in (("udp60_back_s", UDP), ("tcp60_back_s", SLOW)):
            bound = [seen.registered(events, user, stretch["address"], stretch["since_s"]) for user in users]
            samples.setdefault(name, []).extend(at_s - stretch["since_s"] for at_s in bound if at_s is not None)
    if samples:
        samples["udp60_phones_back"] = [float(len(samples["udp60_back_s"]))]
    together = seen.of(events, "bench", "died together")
    voice = seen.voice_started(events, "lte", together[0]["at_s"]) if together else None
    if voice is not None:
        samples["first_voice_s"] = [voice["t"] - together[0]["at_s"]]
    labels = [f"call kept: {label}" for label in ("returned", "for good")]
    gaps = [gap for label in labels for gap in _calls.gaps_s(events, label)]
    if len(gaps) == 2 * 2:  # two calls, both directions
        spacings = [_calls.spacing_s(events, label) for label in labels]
        samples |= {"call_gap_s": gaps, "call_spacing_s": [one for one in spacings if one is not None]}
    back = seen.of(events, "bench", "agent back")
    if back:
        samples["second_switches"] = [float(sum(rebound(events, one["since_s"], one["until_s"]) for one in back))]
    return samples


def rebound(events: Sequence[Event], since_s: float, until_s: float) -> int:
    """How many registrations of this time came from another address than the phone's one before.

    A phone's first one since the line died or returned is no second switch: the 3600 s phone may be that late.
    """
    count = 0
    last: dict[str, str] = {}
    begun_s = max((one["since_s"] for one in seen.of(events, "bench", "stretch") if one["t"] < since_s), default=0.0)
    for event in seen.of(events, "kamailio", "registered"):
        if event["t"] >= until_s:
            break
        if event["t"] < begun_s:
            continue
        former = last.get(event["user"], event["address"])
        count += event["t"] >= since_s and former != event["address"]
        last[event["user"]] = event["address"]
    return count


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Where voice does change its path, registrations are seen to, and a call that is not pinned falls silent."""
    stretch = seen.of(events, "bench", "stretch", name="died together")
    if not stretch or seen.marked(events, "given up") is not None:
        return {}
    since_s = float(stretch[0]["since_s"])
    silences = _calls.gaps_s(events, "blip", "wan")
    moved = rebound(events, since_s, since_s + WATCH_S)
    return {
        "second switch": "bit" if moved else "did not bite: nobody was seen to move",
        "call gap": "bit" if silences and min(silences) > GAP_S else "did not bite: a dead line silenced nobody",
    }


SCENARIO = Scenario(
    name="agent-dead-fallback",
    purpose="the agent is dead: the router alone brings the phones onto LTE and back, and the calls on LTE go on",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("native-disabled", "flush-disabled@6.49", "pin-disabled"),
    controls=controls,
)
