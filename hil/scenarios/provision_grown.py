"""A router that its owner has configured over years: what stands in the way is named, all else stays as it is.

Its check of reverse paths is strict, which would drop what comes back by LTE. That is the owner's to change: before it
is, nothing is touched. His marks, rules, subnets and forwards stay as they are throughout, and so does by which address
his hosts are seen: a subnet behind a tunnel is not translated, and one server has an address of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _provisioning as steps
from hil.virtual import addresses as plan

REFUSED = 2
STRICT, LOOSE = "rp-filter=strict", "rp-filter=loose"
# Of the owner's hosts: who sends where.
FLOWS = (("pc", plan.BRANCH_HOST), ("pc", plan.WEB_HOST), ("pi", plan.BRANCH_HOST), ("pi", plan.WEB_HOST))
BEFORE, CONTROL = "before", "control"
STAGES = ("applied", "removed")
NAT = "/ip/firewall/nat"
MEASURES = (
    Measure("sources_translated_otherwise", "", 0, "equal"),
    Measure("refusals", "", 2, "equal"),
    Measure("sentences_while_refused", "", 0, "equal"),
    Measure("lines_changed_while_refused", "", 0, "equal"),
    *steps.MEASURES,
)


async def story(bench: Bench) -> None:
    """Refused, loosened, provisioned, failed over, taken away."""
    if not await steps.begin(bench):
        return
    await _sources(bench, BEFORE)
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
    await _sources(bench, "applied")
    await steps.fail_over(bench)
    await steps.take_away(bench)
    await _sources(bench, "removed")
    await _translate_all(bench)
    await _sources(bench, CONTROL)


async def _sources(bench: Bench, label: str) -> None:
    for host, target in FLOWS:
        await bench.note_source(host, target, label)


async def _translate_all(bench: Bench) -> None:
    """What rules of ours must not do: on top of the owner's, whatever leaves by the primary."""
    wan = plan.UPLINK_PORTS[bench.options.profile][0]
    first = next(row for row in await bench.router_sentence(f"{NAT}/print") if row.get("dynamic") != "true")
    row = ("=chain=srcnat", "=action=masquerade", f"=out-interface={wan}", f"=place-before={first['.id']}")
    await bench.router_sentence(f"{NAT}/add", *row)


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
    if all(_seen(events, stage) for stage in STAGES):
        samples["sources_translated_otherwise"] = [float(sum(_otherwise(events, stage) for stage in STAGES))]
    return samples


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Those of every provisioning, and that a row which translates all is seen."""
    found = steps.controls(events)
    if _seen(events, CONTROL):
        bitten = _otherwise(events, CONTROL)
        found["all translated"] = "bit" if bitten == 3 else f"did not bite: {bitten} of three flows are seen otherwise"
    return found


def _seen(events: Sequence[Event], label: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """By host and target: the addresses that it was seen with."""
    found = seen.of(events, "bench", "source", label=label)
    return {(event["host"], event["target"]): tuple(event["seen"]) for event in found}


def _otherwise(events: Sequence[Event], label: str) -> int:
    """How many flows were seen otherwise than by the owner's rules alone, or not at all."""
    before, now = _seen(events, BEFORE), _seen(events, label)
    return sum(not now.get(flow) or now[flow] != before.get(flow) for flow in FLOWS)


SCENARIO = Scenario(
    name="provision-grown",
    purpose="a router with its owner's own rules: what is in the way is named, all of his stays as it was",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started",),
    controls=controls,
    start="hand-grown",
)
