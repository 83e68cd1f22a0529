"""The cable is pulled: the router sees the carrier go, and says so before any probe can."""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps
from hil.virtual import addresses as plan

HOLD_S = 30.0
MEASURES = (
    Measure("detection_s", "s", 1.0, "p95"),
    Measure("switch_s", "s", 0.5, "p95"),
    Measure("udp60_binding_s", "s", 60.0),
    Measure("returned_s", "s", HOLD_S + 15.0),
)


async def story(bench: Bench) -> None:
    """Bring up, call, pull the cable, watch the switch, plug it in again."""
    await _steps.quiet_start(bench)
    await bench.place_call("p4", 10.0)
    await bench.sleep(bench.random.uniform(1.0, 3.0))
    pulled_s = await bench.unplug("wan")
    bench.observe("cause")
    bench.observe("cut", at_s=pulled_s)
    lease = await bench.wait(_steps.is_site_lease, 20.0, pulled_s)
    if lease is None:
        return
    bench.observe("switched", at_s=lease["t"])
    await _steps.switch_over(bench, lease["t"])
    await bench.lan_attempt("LEAK-ON-LTE")
    await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), 65.0, lease["t"])
    await bench.capture("before return")
    restored_s = await bench.plug("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.wait(_steps.is_release, HOLD_S + 20.0, restored_s)
    await _steps.all_mails(bench, 4, 120.0)
    await _steps.controls(bench)


def figures(events: Sequence[Event]) -> Samples:
    """From the emulator, the router's wire and Kamailio."""
    cut = seen.of(events, "bench", "cut")
    lease = seen.first(seen.leases_taken(events), cut[0]["at_s"]) if cut else None
    if lease is None:
        return {"switches": [0.0]} if cut else {}
    switched_s = float(lease["t"])
    samples = {"detection_s": [switched_s - cut[0]["at_s"]]}
    voice = seen.voice_started(events, "lte", switched_s)
    if voice is not None:
        samples["switch_s"] = [voice["t"] - switched_s]
    bound_s = seen.registered(events, "p1", plan.ROUTER_LTE, switched_s)
    if bound_s is not None:
        samples["udp60_binding_s"] = [bound_s - switched_s]
    restored = seen.of(events, "bench", "restored")
    released = seen.first(seen.leases_removed(events), restored[0]["at_s"]) if restored else None
    if released is not None:
        samples["returned_s"] = [released["t"] - restored[0]["at_s"]]
    return samples


SCENARIO = Scenario(
    name="failover-unplug",
    purpose="the cable of the primary is pulled and plugged in again",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "lease-swallowed"),
)
