"""Only the way out dies: the far end is still heard, so a call seems alive, and nobody hears the site any more."""

from __future__ import annotations

from hil.bench import Bench
from hil.report import Measure
from hil.scenarios import _outage

HOLD_S = 30.0
MEASURES = (
    Measure("detection_s", "s", 3.0, "p95"),
    Measure("switch_s", "s", 0.5, "p95"),
    Measure("udp60_binding_s", "s", 60.0),
    Measure("returned_s", "s", HOLD_S + 15.0),
)


async def _cut(bench: Bench) -> float:
    return await bench.cut("wan", "up")


async def _restore(bench: Bench) -> float:
    return await bench.restore("wan")


SCENARIO = _outage.scenario(
    "failover-oneway", "only the way out of the primary dies, in mid-call, and returns", _cut, _restore, MEASURES
)
