"""The router reboots: at home, on LTE, in the middle of a failover, and on the way home. Its leases go with it."""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _right, _steps
from hil.virtual import addresses as plan

HOLD_S = 10.0
RIGHT_S = 30.0
SHORT_S = {"p1": 60.0, "p4": 60.0}  # each phone's own registration interval
LONG_S = {**SHORT_S, "p2": 120.0}
CONTACT_MAX_S = 60.0
REBOOTS, BOUND_TIMES = 4, 3
RETURN_MAX_S = 60.0
AT_HOME, ON_LTE, SWITCHING, GOING_HOME = "at home", "on lte", "switching", "going home"

MEASURES = (
    Measure("right_s", "s", RIGHT_S),
    Measure("phones_unbound", "", 0, "equal"),
    Measure("reboots", "", REBOOTS, "equal"),
    Measure("contact_s", "s", None, "info"),
    Measure("bound_s", "s", None, "info"),
)


async def story(bench: Bench) -> None:
    """Two outages; four reboots."""
    phones = LONG_S if bench.options.long else SHORT_S
    await bench.start_site(tuple(phones), hold_s=HOLD_S)
    bench.observe("phones", intervals_s=phones)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 10.0))
    await _call(bench)
    await _reboot(bench, AT_HOME, "home")
    await _cut(bench)
    lease = await bench.wait(_steps.is_site_lease, 20.0, bench.now() - 1.0)
    if lease is None:
        return
    await bench.sleep(bench.random.uniform(2.0, 10.0))
    await _reboot(bench, ON_LTE, "lte")
    await _switched(bench)
    await bench.lan_attempt("LEAK-ON-LTE")
    await _bound(bench, ON_LTE, plan.ROUTER_LTE)
    await _call(bench)
    await bench.capture("before return")
    await _restore(bench)
    await bench.sleep(bench.random.uniform(0.5, 4.0))
    await _reboot(bench, GOING_HOME, "returning")
    await bench.hang_up("p4")
    await _bound(bench, GOING_HOME, plan.ROUTER_WAN)
    await _call(bench)
    await _cut(bench)
    await bench.sleep(bench.random.uniform(0.2, 2.2))
    await _reboot(bench, SWITCHING, "lte")
    await _switched(bench)
    await _bound(bench, SWITCHING, plan.ROUTER_LTE)
    await bench.capture("before return")
    await _own_control(bench)
    await _steps.controls(bench)


async def _call(bench: Bench) -> None:
    """Somebody talks: voice flows all the time."""
    await bench.hang_up("p4")
    await _steps.talk(bench, "p4", 30.0)


async def _cut(bench: Bench) -> None:
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)


async def _restore(bench: Bench) -> None:
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.wait(_steps.is_release(bench), RETURN_MAX_S, restored_s)


async def _reboot(bench: Bench, name: str, state: str) -> None:
    """Off and on again; what is right is due from the moment at which the agent reaches the API."""
    bench.observe("rebooted", name=name)
    off_s = bench.now()
    await bench.power("router", on=False)
    await bench.power("router", on=True)
    contact = await bench.wait(_is_contact, CONTACT_MAX_S, off_s + 1.0)
    if contact is None:
        raise _right.NotRight(name)
    bench.observe("contact", name=name, after_s=contact["t"] - off_s)
    await _right.reach(bench, name, state, contact["t"], RIGHT_S)


def _is_contact(event: Event) -> bool:
    """A login of the agent that was granted."""
    return bool(seen.of([event], "router", "reply", command="/login", outcome="done"))


async def _switched(bench: Bench) -> None:
    bench.observe("switched", at_s=bench.now())
    await bench.capture("after switch")


async def _bound(bench: Bench, name: str, address: str) -> None:
    """Wait until every phone is bound at the address that is right now."""
    contact_s = _contact_s(bench.events(), name)
    for user, interval_s in _intervals(bench.events()).items():
        left_s = (contact_s or bench.now()) + RIGHT_S + interval_s - bench.now()
        await bench.wait(_steps.is_bound(user, address), left_s, contact_s or 0.0)
    bench.observe("bound due", name=name, address=address)


async def _own_control(bench: Bench) -> None:
    """A lease that goes with a reboot while nobody is there to take it again is seen as wrong."""
    await bench.stop_agent(kill=True)
    off_s = bench.now()
    await bench.power("router", on=False)
    await bench.power("router", on=True)

    def back(event: Event) -> bool:
        return bool(seen.of([event], "router", "started"))

    await bench.wait(back, CONTACT_MAX_S, off_s)
    await _right.settle(bench, "control", "lte", bench.now(), 1.0)


def figures(events: Sequence[Event]) -> Samples:
    """From the router's entries and wire, the emulator and the registrar."""
    rebooted = seen.of(events, "bench", "rebooted")
    due = seen.of(events, "bench", "bound due")
    if not rebooted:
        return {}
    contacts = seen.of(events, "bench", "contact")
    right = [_right.right_after(events, str(event["name"])) for event in contacts]
    samples: Samples = {"reboots": [float(len(contacts))], "contact_s": [float(event["after_s"]) for event in contacts]}
    if len(due) == BOUND_TIMES:
        delays = [one for event in due for one in _bound_after(events, event)]
        samples["phones_unbound"] = [float(delays.count(None))]
        samples["bound_s"] = [one for one in delays if one is not None]
    return (
        samples
        if None in right or len(right) < REBOOTS
        else {**samples, "right_s": [s for s in right if s is not None]}
    )


def _bound_after(events: Sequence[Event], due: Event) -> list[float | None]:
    """For each phone, how long after the contact it was bound where it belongs; None if it was not in its time."""
    contact_s = _contact_s(events, due["name"])
    if contact_s is None:
        return [None] * len(_intervals(events))
    found = []
    for user, interval_s in _intervals(events).items():
        at_s = seen.registered(events, user, due["address"], contact_s)
        in_time = at_s is not None and at_s - contact_s <= RIGHT_S + interval_s
        found.append(at_s - contact_s if at_s is not None and in_time else None)
    return found


def _intervals(events: Sequence[Event]) -> dict[str, float]:
    """The phones of this run, and how often each registers."""
    return dict(seen.of(events, "bench", "phones")[0]["intervals_s"])


def _contact_s(events: Sequence[Event], name: str) -> float | None:
    stage = seen.of(events, "bench", "stage", name=name)
    return float(stage[-1]["since_s"]) if stage else None


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Without the agent nobody takes the lease again after the reboot."""
    if "control" not in _right.stages(events):
        return {}
    wrong = _right.right_after(events, "control") is None
    return {"right state": "bit" if wrong else "did not bite: right without agent and lease"}


SCENARIO = Scenario(
    name="router-reboots",
    purpose="the router reboots at home, on LTE, in a failover and on the way home; all is right again, phones bound",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "lease-swallowed"),
    controls=controls,
)
