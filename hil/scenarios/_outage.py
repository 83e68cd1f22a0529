"""The short story of an outage: a call, the line goes, voice moves, the line comes back, voice returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _stalls, _steps
from hil.virtual import addresses as plan

RETURN_MAX_S = 50.0
MAIL_S = 120.0
Act = Callable[[Bench], Awaitable[float]]


def scenario(name: str, purpose: str, go: Act, come_back: Act, measures: tuple[Measure, ...]) -> Scenario:
    """A scenario in which the primary goes by ``go`` and comes back by ``come_back``."""

    async def story(bench: Bench) -> None:
        await _steps.quiet_start(bench)
        await bench.place_call("p4", 10.0)
        await bench.sleep(bench.random.uniform(1.0, 3.0))
        gone_s = await go(bench)
        bench.observe("cause", at_s=gone_s)
        bench.observe("cut", at_s=gone_s)
        await bench.note_stalls(_stalls.CUT)
        lease = await bench.wait(_steps.is_site_lease, 20.0, gone_s)
        if lease is None:
            return
        await bench.note_stalls(_stalls.SWITCHED)
        bench.observe("switched", at_s=lease["t"])
        await _steps.switch_over(bench, lease["t"])
        await bench.lan_attempt("LEAK-ON-LTE")
        await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), 65.0, lease["t"])
        await bench.capture("before return")
        back_s = await come_back(bench)
        bench.observe("restored", at_s=back_s)
        await bench.wait(_steps.is_release(bench), RETURN_MAX_S, back_s)
        await _steps.all_mails(bench, 4, MAIL_S)
        await _steps.controls(bench)

    told = (*measures, _stalls.TOLD)
    return Scenario(name, purpose, story, figures, told, breakages=("agent-not-started", "lease-swallowed"))


def figures(events: Sequence[Event]) -> Samples:
    """From the emulator, the router's wire and Kamailio."""
    cut = seen.of(events, "bench", "cut")
    lease = seen.first(seen.leases_taken(events), cut[0]["at_s"]) if cut else None
    if lease is None:
        return {"switches": [0.0]} if cut else {}
    switched_s = float(lease["t"])
    samples = _stalls.detection(events, cut[0]["at_s"], switched_s)
    # A lost link turns the router's own routes at once: voice may be there before the lease is.
    voice = seen.voice_started(events, "lte", cut[0]["at_s"])
    if voice is not None:
        samples["switch_s"] = [max(0.0, voice["t"] - switched_s)]
    bound_s = seen.registered(events, "p1", plan.ROUTER_LTE, switched_s)
    if bound_s is not None:
        samples["udp60_binding_s"] = [bound_s - switched_s]
    restored = seen.of(events, "bench", "restored")
    released = seen.first(seen.released(events), restored[0]["at_s"]) if restored else None
    if released is not None:
        samples["returned_s"] = [released["t"] - restored[0]["at_s"]]
    return samples
