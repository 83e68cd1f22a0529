"""Nothing but voice crosses LTE, whoever tries and whatever the router is going through; and all voice does.

The same attempts are sent in every situation: on the primary, while voice moves and comes home, on LTE, with the agent
dead, and by a router that has just booted. In each, first as the router stands, then ("-led") with its owner's own
default led through LTE, so that rules alone stand in the way. Last they are sent with those rules off: an attempt that
does not leak then has proved nothing before, and makes the run an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event, disable_rows
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _right, _steps
from hil.virtual import addresses as plan

PHONES = ("p1", "p4", "p5", "p6")
HOLD_S = 10.0
EACH_S = 4.0  # eight rounds of every attempt
SETTLED_S = 3.0
FALLBACK_S, RETURN_S, LAPSE_S = 120.0, 60.0, 75.0
ATTEMPTS_MIN = 30
FORBIDDING = ("drop", "reject", "tarpit")
FILTERS = ("/ip/firewall/filter", "/ip/firewall/raw")
FILTERS_V6 = ("/ipv6/firewall/filter",)
OWNERS = "the owner's own failover"
# Of the versions, where a connection fasttracked on one line goes on by another past every rule, its address unchanged.
# Provisioning refuses a default route by a backup, so there nothing leads it there.
FASTTRACK_PASSES_RULES = ("6.49",)
# Born on the primary before the first outage, and before the second.
EARLY = ("primary", "primary-led", "failover", "lte", "lte-led", "failback")
LATE = ("dead", "dead-led", "booted-dead-led", "booted-dead", "booted-led", "booted")
VOICE = ("primary", "lte", "dead")
CONTROL = "control"
CLASSES = (
    *("voice-signalling", "voice-media", "voice-stale", "voice-names", "agent-probe", "agent-mail", "arp", "dhcp"),
    *("icmp-errors", "carrier-neighbours", "cannot-be-prevented"),
)

MEASURES = (
    Measure("marked_bytes_at_carrier", "byte", 0, "equal"),
    Measure("attempts", "", None, "info"),
    Measure("attempts_whose_control_leaked", "", None, "info"),
    Measure("attempts_too_few", "", 0, "equal"),
    Measure("unclassified_packets", "", 0, "equal"),
    Measure("voice_checks_failed", "", 0, "equal"),
    Measure("voice_checks", "", None, "info"),
    *(Measure(f"{name.replace('-', '_')}_bytes", "byte", None, "info") for name in CLASSES),
)


# --- the story ---------------------------------------------------------------------------------------------------


async def story(bench: Bench) -> None:
    """Every situation, and then the control."""
    await bench.start_leaks()
    await bench.start_site(PHONES, hold_s=HOLD_S)
    await bench.sleep(_steps.SETTLE_S)
    await bench.lan_attempt("LEAK-ON-PRIMARY")
    await _open(bench, EARLY)
    await _situation(bench, "primary")
    await _outage(bench)
    await _open(bench, LATE)
    await _agent_dead(bench)
    await _voice_control(bench)
    await _booted(bench, "booted-dead")
    bench.observe("restored", at_s=await bench.restore("wan"))
    await _booted(bench, "booted")
    await _control(bench)


async def _situation(bench: Bench, label: str) -> None:
    """As the router stands, all voice meanwhile; then with the owner's default led through LTE."""
    await bench.begin_attempts(label)
    await asyncio.gather(bench.sleep(EACH_S), bench.check_voice(label))
    await bench.end_attempts(label)
    await _owner_leads(bench)
    await _try(bench, f"{label}-led")
    await _lead_back(bench)


async def _try(bench: Bench, label: str) -> None:
    await bench.begin_attempts(label)
    await bench.sleep(EACH_S)
    await bench.end_attempts(label)


async def _outage(bench: Bench) -> None:
    """The line dies and returns. The owner's router has a failover of its own, for everything."""
    await bench.begin_attempts("failover")
    await bench.sleep(1.0)
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    await _owner_leads(bench)
    if await bench.wait(_steps.is_site_lease, 20.0, cut_s) is None:
        raise _right.NotRight("lte")
    await bench.sleep(_steps.SWITCH_S[bench.options.router] + SETTLED_S)
    await bench.end_attempts("failover")
    await _lead_back(bench)
    await _situation(bench, "lte")
    await _owner_leads(bench)
    await bench.begin_attempts("failback")
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    if await bench.wait(_steps.is_release(bench), RETURN_S, restored_s) is None:
        raise _right.NotRight("home")
    await bench.sleep(SETTLED_S)
    await bench.end_attempts("failback")
    await _lead_back(bench)


async def _agent_dead(bench: Bench) -> None:
    """The agent is killed and the line dies; the router alone brings voice onto LTE, and the agent's rows lapse."""
    await bench.stop_agent(kill=True)
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    if await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), FALLBACK_S, cut_s) is None:
        raise _right.NotRight("fallback")
    end_s = cut_s + LAPSE_S
    while (await bench.look("lapse"))["leases"]:
        if bench.now() > end_s:
            raise BenchBroken("leases still stand long after the agent's death")
        await bench.sleep(0.5)
    await _situation(bench, "dead")


async def _booted(bench: Bench, label: str) -> None:
    """The attempts go on while the router boots with its owner's default led through LTE, and after."""
    await _owner_leads(bench)
    await bench.power("router", on=False)
    await bench.begin_attempts(f"{label}-led")
    await bench.power("router", on=True)
    await bench.sleep(EACH_S)
    await bench.end_attempts(f"{label}-led")
    await _lead_back(bench)
    await _try(bench, label)


async def _voice_control(bench: Bench) -> None:
    """Where the router lets no voice through, every check fails."""
    first = next(row for row in await bench.router_sentence(f"{FILTERS[0]}/print") if row.get("dynamic") != "true")
    drop = ("=chain=forward", "=action=drop", f"=dst-address={plan.VOICE_PREFIX}", "=comment=control")
    await bench.router_sentence(f"{FILTERS[0]}/add", *drop, f"=place-before={first['.id']}")
    await bench.check_voice(CONTROL)
    await _remove(bench, FILTERS[0], "control")


async def _control(bench: Bench) -> None:
    """The rules that forbid are off, and main leads everything through LTE."""
    await _open(bench, (CONTROL,))
    bench.observe("strays begin")
    bench.observe("leak control")
    control_s = bench.now()
    attempts = seen.of(bench.events(), "bench", "attempts")[-1]
    for menu in (*FILTERS, *(FILTERS_V6 if attempts["ipv6"] else ())):
        await disable_rows(bench, menu, "edgeagent:", FORBIDDING)
    await _lead(bench, *_halves())
    await bench.lan_attempt("LEAK-CONTROL")
    await bench.begin_attempts(CONTROL)
    await bench.sleep(EACH_S + SETTLED_S)
    await bench.end_attempts(CONTROL)
    await bench.judge_leaks(control_s)


async def _open(bench: Bench, labels: Sequence[str]) -> None:
    """Flows for situations to come: some that take the long way through the rules, some that are fasttracked."""
    rows = await bench.router_sentence(f"{FILTERS[0]}/print")
    fasttrack = [row[".id"] for row in rows if row["action"] == "fasttrack-connection" and row.get("dynamic") != "true"]
    for fast, command in ((False, "disable"), (True, "enable")):
        for row_id in fasttrack:
            await bench.router_sentence(f"{FILTERS[0]}/{command}", f"=.id={row_id}")
        for label in labels:
            await bench.open_flows(label, fast=fast)
    flows = await bench.router_sentence("/ip/firewall/connection/print")
    tracked = sum(row.get("fasttrack") == "true" and row["src-address"].startswith(plan.PC) for row in flows)
    if tracked < 2 * len(labels):
        raise BenchBroken(f"of {2 * len(labels)} new flows only {tracked} are fasttracked")


# --- the owner's own default -------------------------------------------------------------------------------------


async def _owner_leads(bench: Bench) -> None:
    """Not on RouterOS 6, where nothing but the lack of a way keeps a fasttracked connection off LTE."""
    if bench.options.router not in FASTTRACK_PASSES_RULES:
        await _lead(bench)


async def _lead(bench: Bench, *prefixes: str) -> None:
    """The owner's default leads through LTE, and so do ``prefixes``."""
    for row in await _owners(bench):
        await bench.router_sentence("/ip/route/set", f"=.id={row['.id']}", "=distance=20")
    for prefix in ("0.0.0.0/0", *prefixes):
        words = (f"=dst-address={prefix}", f"=gateway={plan.CARRIER_GATEWAY}", "=distance=1", f"=comment={OWNERS}")
        await bench.router_sentence("/ip/route/add", *words)


async def _lead_back(bench: Bench) -> None:
    await _remove(bench, "/ip/route", OWNERS)
    for row in await _owners(bench):
        await bench.router_sentence("/ip/route/set", f"=.id={row['.id']}", "=distance=1")


async def _owners(bench: Bench) -> list[dict[str, str]]:
    """The default that the router had before anybody came."""
    rows = await bench.router_sentence("/ip/route/print")
    return [row for row in rows if row["dst-address"] == "0.0.0.0/0" and not row.get("comment")]


def _halves() -> tuple[str, str]:
    """The provider's voice prefix as two: more precise than any route that the product has."""
    address, _, length = plan.VOICE_PREFIX.partition("/")
    start, last = address.rpartition(".")[::2]
    half = int(length) + 1
    return f"{address}/{half}", f"{start}.{int(last) + (1 << (32 - half))}/{half}"


async def _remove(bench: Bench, menu: str, comment: str) -> None:
    for row in await bench.router_sentence(f"{menu}/print"):
        if row.get("comment") == comment:
            await bench.router_sentence(f"{menu}/remove", f"=.id={row['.id']}")


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """From the recording of the LTE link, the registrar and the phones."""
    voice = [event["worked"] for event in seen.of(events, "bench", "voice checked") if event["label"] != CONTROL]
    checked: Samples = {"voice_checks": [float(sum(len(checks) for checks in voice))]} if voice else {}
    if not seen.of(events, "carrier", "recorded"):
        return checked  # a story that was given up misses by what it lacks
    tried, proved = preventable(events), leaked(events)
    marked = [event for event in seen.of(events, "carrier", "marked") if event["label"] != CONTROL]
    failed = sum(not worked for checks in voice for worked in checks.values())
    samples = {
        **checked,
        "marked_bytes_at_carrier": [float(sum(event["bytes"] for event in marked if event["preventable"]))],
        "attempts": [float(len(tried))],
        "attempts_whose_control_leaked": [float(len(tried & proved))],
        "attempts_too_few": [float(max(0, ATTEMPTS_MIN - len(tried & proved)))],
        "unclassified_packets": [float(_sum(seen.of(events, "carrier", "unclassified", control=False), "packets"))],
    }
    for name in CLASSES:
        found = seen.of(events, "carrier", "class", control=False, name=name)
        samples[f"{name.replace('-', '_')}_bytes"] = [float(_sum(found, "bytes"))]
    return {**samples, "voice_checks_failed": [float(failed)]} if len(voice) == len(VOICE) else samples


def preventable(events: Sequence[Event]) -> set[str]:
    """The attempts that rules can forbid."""
    told = seen.of(events, "bench", "attempts")[-1]["attempts"]
    return {name for name, attempt in told.items() if attempt["preventable"]}


def leaked(events: Sequence[Event]) -> set[str]:
    """The attempts that leaked with the rules off."""
    return {str(event["attempt"]) for event in seen.of(events, "carrier", "marked", label=CONTROL)}


def unsent(events: Sequence[Event]) -> set[str]:
    """The attempts that in some situation were not sent at all, as "attempt in situation"."""
    return {
        f"{name} in {event['label']}"
        for event in seen.of(events, "bench", "attempted")
        for name, count in event["sent"].items()
        if not count
    }


def _sum(events: Sequence[Event], field: str) -> int:
    return sum(int(event[field]) for event in events)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Every attempt was sent and leaks with the rules off; voice checks can fail; the classes leave things out."""
    recorded = seen.of(events, "carrier", "recorded")
    found: dict[str, str] = {}
    without_voice = seen.of(events, "bench", "voice checked", label=CONTROL)
    if without_voice:
        blind = sorted(name for name, worked in without_voice[-1]["worked"].items() if worked)
        found["voice checks"] = f"did not bite: {', '.join(blind)} worked without voice" if blind else "bit"
    if not recorded:
        return found
    silent = sorted((preventable(events) - leaked(events)) | unsent(events))
    found["attempts"] = f"did not bite: {', '.join(silent)}" if silent else "bit"
    strangers = _sum(seen.of(events, "carrier", "unclassified", control=True), "packets")
    strange = len(recorded[-1]["strange"])
    sharp = strangers and strange >= ATTEMPTS_MIN
    said = f"did not bite: {strangers} packets and {strange} attempts of the control are in no class"
    found["classes"] = "bit" if sharp else said
    return found


SCENARIO = Scenario(
    name="leak-suite",
    purpose="more than thirty ways to misuse LTE, in every situation: none gets through, and all voice does",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "guards-disabled"),
    controls=controls,
)
