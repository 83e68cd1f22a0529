"""Somebody on the way starts to drop pings; voice works as before."""

from __future__ import annotations

from hil.bench import Bench
from hil.scenarios import _quiet


async def trouble(bench: Bench) -> None:
    """Pings are dropped on the primary, both ways."""
    await bench.impair("wan", filters=[{"protocol": "icmp"}])


SCENARIO = _quiet.scenario(
    "icmp-filtered", "pings start to be dropped while voice works: no failover", trouble, lambda _bench: 90.0
)
