"""No agent at all: a lease alone does not bring phones back, because their flows keep the dead line's address.

The control that the fault which users meet on RouterOS 6 is really in the bench. The story types a lease, and the few
rules it needs, at the router by hand; the router acknowledges the removal of flows and keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps
from hil.virtual import addresses as plan

WATCHED_S = 180.0
AGAIN_S = 400.0  # a phone that has failed to register thrice by then waits up to 240 s before it tries again
UDP_PHONES = ("p1", "p2", "p4")
MEASURES = (
    Measure("phones_back", "", 0, "equal"),
    Measure("away_s", "s", None, "info"),
    Measure("phones_back_without_stale_flows", "", None, "info"),
)


async def story(bench: Bench) -> None:
    """Rules and lease by hand, the line dies, removals are acknowledged and not done; then they are done."""
    await _by_hand(bench)
    await bench.start_phones(UDP_PHONES, 10.0)
    bench.observe("site up")
    await bench.sleep(5.0 + bench.random.uniform(0, 30.0))
    cut_s = await bench.cut("wan")
    bench.observe("cause")
    await bench.sleep(2.0)
    await bench.router_misbehave("swallow", command="/ip/firewall/connection/remove")
    lists = "/ip/firewall/address-list/add"
    await bench.router_sentence(lists, "=list=hand-lte", "=address=0.0.0.0/0", "=timeout=1h")
    bench.observe("moved by hand", cut_s=cut_s)
    await _remove_flows(bench)
    await bench.sleep(WATCHED_S)
    bench.observe("watched")
    await bench.router_behave()
    await _remove_flows(bench)
    removed = bench.observe("flows really removed")
    waits = [bench.wait(_steps.is_bound(user, plan.ROUTER_LTE), AGAIN_S, removed["t"]) for user in UDP_PHONES]
    await asyncio.gather(*waits)
    bench.observe("watched again")


async def _by_hand(bench: Bench) -> None:
    table = [] if bench.options.router.startswith("6") else [("/routing/table/add", "=name=hand-lte", "=fib=")]
    key = "routing-mark" if bench.options.router.startswith("6") else "routing-table"
    lte = plan.UPLINK_PORTS[bench.options.profile][1]
    typed = [
        *table,
        ("/ip/route/add", "=dst-address=0.0.0.0/0", f"=gateway={plan.CARRIER_GATEWAY}", f"={key}=hand-lte"),
        ("/ip/firewall/nat/add", "=chain=srcnat", "=action=masquerade", f"=out-interface={lte}"),
        (
            "/ip/firewall/mangle/add",
            "=chain=prerouting",
            f"=dst-address={plan.VOICE_PREFIX}",
            "=src-address-list=hand-lte",
            "=action=mark-routing",
            "=new-routing-mark=hand-lte",
            "=passthrough=no",
        ),
        # Fasttracked flows would not even look at the rule above.
        (
            "/ip/firewall/filter/add",
            "=chain=forward",
            f"=dst-address={plan.VOICE_PREFIX}",
            "=connection-state=established,related",
            "=action=accept",
            f"=place-before={await _first_static(bench)}",
        ),
    ]
    for words in typed:
        await bench.router_sentence(*words)


async def _first_static(bench: Bench) -> str:
    rows = await bench.router_sentence("/ip/firewall/filter/print")
    return next(row[".id"] for row in rows if row.get("dynamic") != "true")


async def _remove_flows(bench: Bench) -> None:
    """As the agent would: over the API, where the router may swallow it."""
    for row in await bench.voice_flows():
        await bench.router_api("/ip/firewall/connection/remove", f"=.id={row['.id']}")


def figures(events: Sequence[Event]) -> Samples:
    """Phones bound on the LTE address while their flows were kept, and after they were removed."""
    moved_s, watched_s = seen.marked(events, "moved by hand"), seen.marked(events, "watched")
    if moved_s is None or watched_s is None:
        return {}
    samples = {"phones_back": [float(len(_back(events, moved_s, watched_s)))], "away_s": [watched_s - moved_s]}
    again_s = seen.marked(events, "watched again")
    if again_s is not None:
        samples["phones_back_without_stale_flows"] = [float(len(_back(events, watched_s, again_s)))]
    return samples


def _back(events: Sequence[Event], since_s: float, until_s: float) -> set[str]:
    bound = seen.of(events, "kamailio", "registered", address=plan.ROUTER_LTE)
    return {event["user"] for event in bound if since_s <= event["t"] <= until_s}


def controls(events: Sequence[Event]) -> dict[str, str]:
    """The same phones do come back once their flows are really removed: it was the flows that kept them away."""
    again_s, watched_s = seen.marked(events, "watched again"), seen.marked(events, "watched")
    if again_s is None or watched_s is None:
        return {}
    back = _back(events, watched_s, again_s)
    return {"flows": "bit" if len(back) == len(UDP_PHONES) else f"did not bite: only {len(back)} phones came back"}


SCENARIO = Scenario(
    name="stale-flow-control",
    purpose="no agent: with flows kept, no phone comes back in 180 s; with flows removed, all do",
    story=story,
    figures=figures,
    measures=MEASURES,
    routers=("6.49",),
    controls=controls,
)
