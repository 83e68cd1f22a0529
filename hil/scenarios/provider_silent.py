"""The provider's servers stop answering anything, by every path; the line itself is fine (clause P9)."""

from __future__ import annotations

from hil.bench import Bench
from hil.scenarios import _quiet


async def trouble(bench: Bench) -> None:
    """No SIP, no media, not even pings."""
    await bench.provider_silent(silent=True)


SCENARIO = _quiet.scenario(
    "provider-silent", "the provider's servers are dead by both paths: no failover", trouble, lambda _bench: 90.0
)
