"""A router that its owner has configured over years: what stands in the way is named, all else stays as it is.

Its check of reverse paths is strict, which would drop what comes back by LTE. That is the owner's to change: before it
is, nothing is touched. His marks, rules, subnets and forwards stay as they are throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _provisioning as steps

REFUSED = 2
STRICT, LOOSE = "rp-filter=strict", "rp-filter=loose"
MEASURES = (
    Measure("refusals", "", 2, "equal"),
    Measure("sentences_while_refused", "", 0, "equal"),
    Measure("lines_changed_while_refused", "", 0, "equal"),
    *steps.MEASURES,
)


async def story(bench: Bench) -> None:
    """Refused, loosened, provisioned, failed over, taken away."""
    if not await steps.begin(bench):
        return
    await bench.export("strict")
    bench.observe("refused")
    for words in (("--plan",), ("--apply",)):
        await steps.command(bench, *words, code=REFUSED)
    bench.observe("refused over")
    await bench.export("refused")
    await bench.router_sentence("/ip/settings/set", f"={LOOSE}")
    bench.observe("owner changed", found=STRICT, changed=LOOSE)
    if not await steps.provision(bench):
        return
    await steps.fail_over(bench)
    await steps.take_away(bench)


def figures(events: Sequence[Event]) -> Samples:
    """Those of every provisioning, and that a refusal names the cause and leaves everything as it is."""
    samples = steps.figures(events)
    refused = [event for event in seen.of(events, "bench", "provision", code=REFUSED) if "rp-filter" in event["output"]]
    samples["refusals"] = [float(len(refused))]
    bounds = seen.marked(events, "refused"), seen.marked(events, "refused over")
    if bounds[0] is not None and bounds[1] is not None:
        samples["sentences_while_refused"] = [float(steps.changing(events, bounds[0], bounds[1]))]
    strict, after = steps.exported(events, "strict"), steps.exported(events, "refused")
    if strict is not None and after is not None:
        samples["lines_changed_while_refused"] = [float(steps.differing(strict, after))]
    return samples


SCENARIO = Scenario(
    name="provision-grown",
    purpose="a router with its owner's own rules: what is in the way is named, all of his stays as it was",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started",),
    controls=steps.controls,
    start="hand-grown",
)
