"""2 % loss in bursts of 0.25 s: annoying, and no outage."""

from __future__ import annotations

from hil.bench import Bench
from hil.scenarios import _quiet

SHORT_S, LONG_S = 240.0, 900.0
LOSS = {"mean_loss": 0.02, "mean_burst_s": 0.25, "loss_in_burst": 0.8}


async def trouble(bench: Bench) -> None:
    """Loss in both directions."""
    await bench.impair("wan", loss=LOSS)


SCENARIO = _quiet.scenario(
    "lossy-primary",
    "2 % loss in bursts of 0.25 s on the primary causes no failover",
    trouble,
    lambda bench: LONG_S if bench.options.long else SHORT_S,
)
