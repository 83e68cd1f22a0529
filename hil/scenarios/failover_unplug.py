"""The cable is pulled: the router sees the carrier go, and says so before any probe can."""

from __future__ import annotations

from hil.bench import Bench
from hil.report import Measure
from hil.scenarios import _outage

HOLD_S = 30.0
MEASURES = (
    Measure("detection_s", "s", 1.0, "p95"),
    Measure("switch_s", "s", 0.5, "p95"),
    Measure("udp60_binding_s", "s", 60.0),
    Measure("returned_s", "s", HOLD_S + 15.0),
)


async def _pull(bench: Bench) -> float:
    return await bench.unplug("wan")


async def _plug(bench: Bench) -> float:
    return await bench.plug("wan")


SCENARIO = _outage.scenario(
    "failover-unplug", "the cable of the primary is pulled and plugged in again", _pull, _plug, MEASURES
)
