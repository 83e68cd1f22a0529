"""From the box to a site that fails over: a router as it is sold is given the agent's access and rules, and back.

The ISP and the modem tell the router its addresses by DHCP. The agent's access comes by SSH with the owner's login,
then the rules over the API; a second run must find nothing to do. When the line has died and voice has gone by LTE,
everything is taken away again, and the router's own export must be as it was.
"""

from __future__ import annotations

from hil.bench import Bench
from hil.scenario import Scenario
from hil.scenarios import _provisioning as steps


async def story(bench: Bench) -> None:
    """Bootstrap, provision, fail over, take away."""
    if not await steps.begin(bench) or not await steps.provision(bench):
        return
    await steps.fail_over(bench)
    await steps.take_away(bench)


SCENARIO = Scenario(
    name="provision-factory",
    purpose="a router as it is sold becomes a site that fails over, and is given back as it was",
    story=story,
    figures=steps.figures,
    measures=steps.MEASURES,
    breakages=("agent-not-started", "lease-swallowed"),
    controls=steps.controls,
    start="factory",
)
