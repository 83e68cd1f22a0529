"""The provider's server stops answering SIP OPTIONS; voice works as before."""

from __future__ import annotations

from hil.bench import Bench
from hil.scenarios import _quiet


async def trouble(bench: Bench) -> None:
    """OPTIONS go unanswered, by every path."""
    await bench.provider_options(ignore=True)


SCENARIO = _quiet.scenario(
    "options-ignored", "the provider ignores SIP OPTIONS: no failover", trouble, lambda _bench: 90.0
)
