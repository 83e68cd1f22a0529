"""The phones find their registrar by name and ask the router for it, and the primary is dead for long.

The provider's SRV record lives 30 s, so a phone asks again at every registration. The router's own cache asks the ISP's
resolver, which died with the line: on LTE, names come from the voice devices' resolver or from nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event, disable_rows
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _right, _steps
from hil.virtual import addresses as plan

# How long after the switch each phone may be away, as in failover-blackhole; p5 and p6 talk TCP and TLS.
LIMITS_S = {"p1": 60.0, "p4": 60.0, "p2": 115.0, "p5": 190.0, "p6": 190.0}
TTL_S = 30.0
DEAD_S, LONG_DEAD_S = 8 * TTL_S, 20 * TTL_S  # four registrations of most phones; ten
LOST_S = 75.0  # each phone that registers every minute was due by then
DUE = ("p1", "p4")
REDIRECTION = "edgeagent:dns"
MENUS = ("/ip/firewall/nat", "/ip/firewall/filter", "/ip/firewall/mangle")
CONNECTIONS = "/ip/firewall/connection"
UNDER_WAY_S = 2.0  # a registration that had its answer already
CONTROL = "control-asks"
OTHERS = (("pc", plan.PROVIDER_DNS), ("pc", plan.ROUTER_LAN), ("pi", plan.PROVIDER_DNS), ("pi", plan.ROUTER_LAN))
ASKED_MIN = 10  # two questions for each of five phones

MEASURES = (
    Measure("phones_late", "", 0, "equal"),
    Measure("expired_bindings", "", 0, "equal"),
    Measure("bytes_of_other_hosts", "byte", 0, "equal"),
    Measure("phones_asking_in_vain", "", 0, "equal"),
    Measure("questions_too_few", "", 0, "equal"),
    Measure("questions_on_lte", "", None, "info"),
    Measure("away_s", "s", None, "info"),
)


# --- the story ---------------------------------------------------------------------------------------------------


async def story(bench: Bench) -> None:
    """Up, down for long, and then without the redirection."""
    await bench.ask_by_name()
    await bench.start_site(tuple(LIMITS_S))
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 20.0))
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    lease = await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    if lease is None:
        raise _right.NotRight("lte")
    bench.observe("switched", at_s=lease["t"])
    await _steps.switch_over(bench, lease["t"])
    await _questions(bench)
    await bench.sleep(lease["t"] + (LONG_DEAD_S if bench.options.long else DEAD_S) - bench.now())
    await bench.capture("before return")
    bench.observe("watched")
    await _control(bench)
    await _steps.controls(bench)
    await bench.ask_name("pc", plan.PROVIDER_DNS, CONTROL)


async def _questions(bench: Bench) -> None:
    """A voice device is answered over LTE; nobody else reaches a resolver that way, directly or by the cache."""
    await bench.ask_name("ph1", plan.ROUTER_LAN, "voice-asks")
    for number, (host, server) in enumerate(OTHERS):
        await bench.ask_name(host, server, f"other-asks-{number}")


async def _control(bench: Bench) -> None:
    """Without the redirection no phone can register; nor in the rows that were redirected before, which are removed."""
    bench.observe("names off")
    for menu in MENUS:
        await disable_rows(bench, menu, REDIRECTION)
    for row in await bench.router_sentence(f"{CONNECTIONS}/print"):
        if row.get("dst-address", "").endswith(":53"):
            await bench.router_sentence(f"{CONNECTIONS}/remove", f"=.id={row['.id']}")
    await bench.sleep(LOST_S)
    bench.observe("names off watched")


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """From the registrar, the emulator and the questions that hosts asked."""
    switched_s, watched_s = seen.marked(events, "switched"), seen.marked(events, "watched")
    if switched_s is None or watched_s is None:
        return {"questions_on_lte": [0.0]} if seen.marked(events, "cut") is not None else {}
    bound = {user: seen.registered(events, user, plan.ROUTER_LTE, switched_s) for user in LIMITS_S}
    away = {user: at_s - switched_s for user, at_s in bound.items() if at_s is not None}
    late = [user for user, limit_s in LIMITS_S.items() if away.get(user, limit_s + 1.0) > limit_s]
    since = {user: at_s for user, at_s in bound.items() if at_s is not None}  # until then it has its limit
    asked = seen.of(events, "bench", "question")
    questions = seen.grown(events, "after switch", "before return", "lte/up/dns", "packets") or 0
    return {
        "phones_late": [float(len(late))],
        "expired_bindings": [float(sum(lapses(events, user, at_s, watched_s) for user, at_s in since.items()))],
        "bytes_of_other_hosts": [
            float(sum(one["lte_bytes"] for one in asked if one["host"] != "ph1" and one["label"] != CONTROL))
        ],
        "phones_asking_in_vain": [float(sum(not one["answered"] for one in asked if one["host"] == "ph1"))],
        "questions_too_few": [float(max(0, ASKED_MIN - questions))],
        "questions_on_lte": [float(questions)],
        "away_s": list(away.values()),
    }


def lapses(events: Sequence[Event], user: str, since_s: float, until_s: float) -> int:
    """How often the registrar's binding of a phone, made at ``since_s``, ran out until ``until_s``."""
    bound = [e for e in seen.of(events, "kamailio", "registered", user=user) if since_s <= e["t"] <= until_s]
    ends = [event["t"] + event["expires_s"] for event in bound]
    renewed = [*(event["t"] for event in bound[1:]), until_s]
    return sum(end_s < next_s for end_s, next_s in zip(ends, renewed, strict=True))


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Phones are lost without the redirection; what a PC asks with the rules off is seen on LTE."""
    since_s, until_s = seen.marked(events, "names off"), seen.marked(events, "names off watched")
    if since_s is None or until_s is None:
        return {}
    bound = [
        event for event in seen.of(events, "kamailio", "registered") if since_s + UNDER_WAY_S < event["t"] < until_s
    ]
    back = sorted({event["user"] for event in bound} & set(DUE))
    leaked = [one["lte_bytes"] for one in seen.of(events, "bench", "question", label=CONTROL)]
    return {
        "redirection": f"did not bite: {', '.join(back)} registered without it" if back else "bit",
        "questions": "bit" if any(leaked) else "did not bite: a PC's, with the rules off, was not seen on LTE",
    }


SCENARIO = Scenario(
    name="names-on-lte",
    purpose="phones look their registrar up; the primary is dead for minutes, and no phone is lost",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "names-disabled"),
    controls=controls,
)
