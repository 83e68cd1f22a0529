"""The router's API hangs, in every way that it can, each time the line dies and each time voice is to go home.

Every kind of hang comes at least once in a run. The router goes on routing; what it holds when its API answers again
is judged, and how long that takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _probes, _right, _steps

HOLD_S = 10.0
RIGHT_S = 30.0
KINDS = ("hang", "mute", "hang_mid_word", "slow", "drop")
OUTCOMES = {"hang": "hung", "mute": "mute", "hang_mid_word": "hung", "drop": "dropped"}
SLOW_S = 2.5
# Who talks in each outage: one that comes by the primary, while one of the outage before may still hold its own lease.
PHONES = ("p4", "p1", "p2")
OUTAGES = len(PHONES)  # the hold doubles with each in the hour: 10, 20, 40 s

MEASURES = (
    Measure("right_s", "s", RIGHT_S),
    Measure("probe_delay_s", "s", _probes.DELAY_S),
    Measure("kinds", "", len(KINDS), "equal"),
    Measure("struck", "", None, "info"),
)


async def story(bench: Bench) -> None:
    """Three outages and ways home; the API hangs around each switch, in a way of its own."""
    await bench.start_site(PHONES[:1], hold_s=HOLD_S)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 10.0))
    await bench.reset_gaps()
    kinds = [*bench.random.sample(KINDS, len(KINDS)), bench.random.choice(KINDS)]
    for number, phone in enumerate(PHONES):
        if number:
            await bench.start_phones((phone,), 1.0)
        await _away(bench, phone, number, kinds[2 * number])
        await _home(bench, phone, number, kinds[2 * number + 1])
    await bench.probe_gap(_probes.WATCHED)
    await _probes.control(bench)
    await _own_control(bench)
    await _steps.controls(bench)


async def _away(bench: Bench, phone: str, number: int, kind: str) -> None:
    await _steps.talk(bench, phone)
    await _misbehave(bench, kind)
    await bench.sleep(bench.random.uniform(0.0, 2.0))
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    await bench.sleep(bench.random.uniform(5.0, 12.0))
    await _behave(bench, f"away {number}", "lte")
    bench.observe("switched", at_s=bench.now())
    await bench.capture("after switch")
    await bench.hang_up(phone)
    await bench.place_call(phone, 20.0)
    await bench.lan_attempt("LEAK-ON-LTE")
    await bench.capture("before return")


async def _home(bench: Bench, phone: str, number: int, kind: str) -> None:
    """The hang covers the end of the hold, when the site's lease is to be given back."""
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.sleep(HOLD_S * 2**number - bench.random.uniform(0.5, 2.0))
    await _misbehave(bench, kind)
    await bench.sleep(bench.random.uniform(6.0, 10.0))
    await _behave(bench, f"home {number}", "returning")
    await bench.hang_up(phone)
    await bench.sleep(5.0)


async def _misbehave(bench: Bench, kind: str) -> None:
    bench.observe("api hangs", kind=kind)
    await bench.router_misbehave(kind, delay_s=SLOW_S)


async def _behave(bench: Bench, stage: str, state: str) -> None:
    """The API answers again: from now on the intended state is due."""
    await bench.router_behave()
    contact_s = bench.now()
    bench.observe("api answers")
    await _right.reach(bench, stage, state, contact_s, RIGHT_S)


async def _own_control(bench: Bench) -> None:
    """With the API hung for good, a line that dies is not left: that is seen as wrong."""
    await bench.place_call("p4", 20.0)
    await bench.router_misbehave("hang")
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    await bench.sleep(5.0)
    await _right.settle(bench, "control", "lte", bench.now(), 1.0)
    await bench.restore("wan")
    await bench.router_behave()


def figures(events: Sequence[Event]) -> Samples:
    """From the router's entries and wire, and the emulator."""
    names = [name for name in _right.stages(events) if name != "control"]
    right = [_right.right_after(events, name) for name in names]
    struck = seen.of(events, "bench", "api hangs")
    samples: Samples = {
        "kinds": [float(len({str(event["kind"]) for event in struck if _struck(events, event)}))],
        "struck": [float(sum(_struck(events, event) for event in struck))],
    }
    delay_s = _probes.delay_s(events, _probes.WATCHED)
    if delay_s is not None:
        samples["probe_delay_s"] = [delay_s]
    return (
        samples
        if None in right or len(right) < 2 * OUTAGES
        else {**samples, "right_s": [one for one in right if one is not None]}
    )


def _struck(events: Sequence[Event], begun: Event) -> bool:
    """Whether a sentence of the agent really met this hang, by what the router notes of its replies."""
    ended = seen.first(seen.of(events, "bench", "api answers"), begun["t"])
    end_s = float("inf") if ended is None else ended["t"]
    for asked in seen.of(events, "router", "sentence", user="edgeagent"):
        if not begun["t"] <= asked["t"] < end_s:
            continue
        key = {"session": asked["session"], "sentence": asked["sentence"]}
        reply = seen.first(seen.of(events, "router", "reply", **key), asked["t"])
        late = reply is not None and reply["t"] - asked["t"] >= SLOW_S
        if reply is not None and (late if begun["kind"] == "slow" else reply["outcome"] == OUTCOMES[begun["kind"]]):
            return True
    return False


def controls(events: Sequence[Event]) -> dict[str, str]:
    """A hang that does not end is seen as a wrong state, and a pause as a delay."""
    found = _probes.controls(events)
    if "control" in _right.stages(events):
        wrong = _right.right_after(events, "control") is None
        found["right state"] = "bit" if wrong else "did not bite: right while the API hung"
    return found


SCENARIO = Scenario(
    name="api-hangs",
    purpose="the router's API hangs in five ways while the line dies and while voice goes home",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "lease-swallowed"),
    controls=controls,
)
