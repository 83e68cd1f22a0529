"""kill -9 of the agent at ten seeded moments of failovers and of ways home; each time it is started again after 2 s.

The moments that matter most lie between two system calls: the decision is on the disk and nothing was sent yet; the
router has done what it was told and its answer was never read. Each run shows by the router's wire and by the agent's
disk that every moment was hit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _right, _steps

HOLD_S = 10.0
RIGHT_S = 10.0
DOWN_S = 2.0  # RestartSec= of the service
DETECTED_S, RETURNS_S, LONGEST_HOLD_S = 20.0, 60.0, 120.0
MAIL_S = 120.0
# Who talks in each outage. A phone that has just come by the primary is moved by the switch; one of the outage before
# may still hold its own lease.
PHONES = ("p4", "p1", "p2", "p3")
LISTS, CONNECTIONS = "/ip/firewall/address-list", "/ip/firewall/connection"

SUSPECTING, RECORD_OUT, ANSWER_OUT, FLOWS = "suspecting", "record/act out", "act/answer out", "lease/flows"
ON_LTE, HOLDING = "on lte", "holding"
RECORD_HOME, ANSWER_PHONE, ANSWER_RELEASE = "record/act home", "act/answer phone lease", "act/answer release"
DRAINING = "draining"
AT_RECORD = (RECORD_OUT, RECORD_HOME)
OUT = (SUSPECTING, RECORD_OUT, ANSWER_OUT, FLOWS)
MOMENTS = (*OUT, ON_LTE, HOLDING, RECORD_HOME, ANSWER_PHONE, ANSWER_RELEASE, DRAINING)

# What else happens in each of the four outages: on LTE, and on the way home where the agent still goes home.
LATER: tuple[tuple[tuple[str, ...], tuple[str, ...] | None], ...] = (
    ((ON_LTE,), (HOLDING, RECORD_HOME, ANSWER_PHONE)),
    ((), (ANSWER_RELEASE, DRAINING)),
    ((), ()),
    ((), None),
)

MEASURES = (
    Measure("moments_hit", "", len(MOMENTS), "equal"),
    Measure("right_s", "s", RIGHT_S),
    Measure("second_switches", "", 0, "equal"),
)


# --- the moments: each waits for it and says whether the agent stands exactly there ------------------------------


async def _at_record(bench: Bench, phase: str, timeout_s: float) -> bool:
    return await bench.stop_at_record(phase, timeout_s) is not None


async def _unanswered(bench: Bench, command: str, arguments: str, timeout_s: float) -> bool:
    """The router does the next such command and never answers."""
    asked_s = bench.now()
    await bench.router_misbehave("mute", command=command, arguments=arguments, count=1)

    def done(event: Event) -> bool:
        return bool(seen.of([event], "router", "reply", command=command, outcome="mute"))

    return await bench.wait(done, timeout_s, asked_s) is not None


async def _flows_kept(bench: Bench) -> bool:
    """The lease stands, and the removal of the flows is not done."""
    asked_s = bench.now()
    await bench.router_misbehave("hang", command=f"{CONNECTIONS}/remove", count=1)

    def hung(event: Event) -> bool:
        return bool(seen.of([event], "router", "reply", command=f"{CONNECTIONS}/remove", outcome="hung"))

    return await bench.wait(hung, DETECTED_S, asked_s) is not None


async def _some_time(bench: Bench, least_s: float, most_s: float) -> bool:
    await bench.sleep(bench.random.uniform(least_s, most_s))
    return True


async def _draining(bench: Bench) -> bool:
    await _some_time(bench, 1.0, 5.0)
    leases = (await bench.look(DRAINING))["leases"] or ()
    return _right.talking(bench.events(), bench.now()) in leases


HITS: dict[str, tuple[str, Callable[[Bench], Awaitable[bool]]]] = {
    # the moment: the state that is right after it, and how it is hit
    # The earliest lease comes 1.35 s after the cut: a lost ping's 0.25 s and eleven rounds.
    SUSPECTING: ("lte", lambda bench: _some_time(bench, 0.2, 0.9)),
    RECORD_OUT: ("lte", lambda bench: _at_record(bench, "away", DETECTED_S)),
    ANSWER_OUT: ("lte", lambda bench: _unanswered(bench, f"{LISTS}/add", f"list={seen.SITE_LEASE}", DETECTED_S)),
    FLOWS: ("lte", _flows_kept),
    ON_LTE: ("lte", lambda bench: _some_time(bench, 1.0, 8.0)),
    HOLDING: ("lte", lambda bench: _some_time(bench, 3.0, 8.0)),
    RECORD_HOME: ("lte", lambda bench: _at_record(bench, "returning", RETURNS_S)),
    ANSWER_PHONE: ("lte", lambda bench: _unanswered(bench, f"{LISTS}/add", f"list={seen.PHONE_LEASE}", RETURNS_S)),
    ANSWER_RELEASE: ("returning", lambda bench: _unanswered(bench, f"{LISTS}/remove", "", RETURNS_S)),
    DRAINING: ("returning", _draining),
}


async def _killed_at(bench: Bench, moment: str) -> None:
    """Hit the moment, kill, start again as the service manager would, wait until all is right."""
    state, hit = HITS[moment]
    if not await hit(bench):
        raise BenchBroken(f"the moment {moment!r} was missed")
    if moment in AT_RECORD:  # it stands still; elsewhere what is to be hit would go by meanwhile
        await bench.note_store(moment)
    await bench.stop_agent(kill=True)
    bench.observe("killed", moment=moment)
    await bench.sleep(DOWN_S)
    started_s = bench.now()
    await bench.start_agent()
    await _right.reach(bench, moment, state, started_s, RIGHT_S)


# --- the story ---------------------------------------------------------------------------------------------------


async def story(bench: Bench) -> None:
    """Four outages, the most that the agent comes home from in an hour but one, each with moments of its own."""
    await bench.start_site(PHONES[:1], hold_s=HOLD_S, own_disk=True)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 10.0))
    out = bench.random.sample(OUT, len(OUT))
    for phone, moment, (away, home) in zip(PHONES, out, LATER, strict=True):
        if phone != PHONES[0]:
            await bench.start_phones((phone,), 1.0)
        await _outage(bench, phone, moment, away)
        if home is not None:
            await _way_home(bench, phone, home)
    await _last_mails(bench)
    await _own_controls(bench)
    await _steps.controls(bench)


async def _outage(bench: Bench, phone: str, moment: str, later: Sequence[str]) -> None:
    await _steps.talk(bench, phone)
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    await _killed_at(bench, moment)
    bench.observe("switched", at_s=bench.now())
    await bench.capture("after switch")
    await bench.hang_up(phone)
    await bench.place_call(phone, 20.0)
    for one in later:
        await _killed_at(bench, one)
    await bench.lan_attempt("LEAK-ON-LTE")
    await bench.capture("before return")


async def _way_home(bench: Bench, phone: str, moments: Sequence[str]) -> None:
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    for moment in moments:
        await _killed_at(bench, moment)
    while not seen.released(bench.events(), restored_s) and bench.now() < restored_s + LONGEST_HOLD_S:
        await bench.sleep(0.5)
    await bench.sleep(2.0)
    await bench.hang_up(phone)
    await bench.sleep(5.0)


async def _last_mails(bench: Bench) -> None:
    """The mails of the last outage, which comes to no end here; those before it are older."""
    cut_s = float(seen.of(bench.events(), "bench", "cut")[-1]["at_s"])
    end_s = bench.now() + MAIL_S
    while bench.now() < end_s:
        fresh = [mail for mail in seen.of(bench.events(), "exim", "delivered") if mail["t"] > cut_s]
        if len({mail["to"] for mail in fresh if ".failover." in mail["message_id"]}) >= 2:
            break
        await bench.sleep(0.5)
    await bench.sleep(2.0)
    bench.observe("mails due")


async def _own_controls(bench: Bench) -> None:
    """A lease taken twice is a second switch; without the agent and its lease nothing is right."""
    bench.observe("second switch control")
    words = (f"=list={seen.SITE_LEASE}", "=address=0.0.0.0/0", "=timeout=1m")
    try:
        await bench.router_api(f"{LISTS}/add", *words)
    except Exception as error:  # noqa: BLE001  (the router has such an entry; that the sentence came is what counts)
        bench.observe("refused", why=str(error))
    await bench.stop_agent(kill=True)
    for row in await bench.router_sentence(f"{LISTS}/print"):
        if row["list"] == seen.SITE_LEASE:
            await bench.router_sentence(f"{LISTS}/remove", f"=.id={row['.id']}")
    await _right.settle(bench, "control", "lte", bench.now(), 1.0)


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """From the router's entries and wire, the emulator and the agent's disk."""
    killed = seen.of(events, "bench", "killed")
    if not killed:
        return {}
    control_s = _control_s(events)
    right = [_right.right_after(events, name) for name in _right.stages(events) if name != "control"]
    samples = {
        "moments_hit": [float(sum(was_hit(events, str(kill["moment"]), float(kill["t"])) for kill in killed))],
        "second_switches": [float(second_switches([event for event in events if event["t"] < control_s]))],
    }
    return samples if None in right else {**samples, "right_s": [one for one in right if one is not None]}


def was_hit(events: Sequence[Event], moment: str, killed_s: float) -> bool:
    """Whether bystanders saw the agent die just there."""
    cut_s = max(event["at_s"] for event in seen.of(events, "bench", "cut") if event["at_s"] < killed_s)
    before = [event for event in events if cut_s <= event["t"] < killed_s]
    taken = seen.leases_taken(before)
    back = seen.of(before, "bench", "restored")
    since = [event for event in before if back and event["t"] >= back[0]["at_s"]]
    if moment in (SUSPECTING, RECORD_OUT):
        return not taken and (moment == SUSPECTING or _recorded(before, moment, "away"))
    if moment in (ANSWER_OUT, FLOWS, ON_LTE):
        answered = _outcome(before, taken[:1]) == ("mute" if moment == ANSWER_OUT else "done")
        removals = seen.sentences(before, f"{CONNECTIONS}/remove")
        return answered and not back and (moment != FLOWS or _outcome(before, removals[-1:]) == "hung")
    removed = seen.released(before, back[0]["at_s"]) if back else []
    if moment == ANSWER_PHONE:
        return not removed and _outcome(before, seen.leases_taken(since, seen.PHONE_LEASE)[-1:]) == "mute"
    if moment in (HOLDING, RECORD_HOME):
        return bool(back) and not removed and (moment == HOLDING or _recorded(before, moment, "returning"))
    if moment == ANSWER_RELEASE:
        return _outcome(before, removed[-1:]) == "mute"
    looks = seen.of(before, "bench", "look", stage=moment)
    return bool(removed) and bool(looks) and _right.talking(events, killed_s) in looks[-1]["leases"]


def _recorded(before: Sequence[Event], moment: str, phase: str) -> bool:
    """The agent stood still after the sync, and its decision is on its disk."""
    stopped = seen.of(before, "bench", "stopped at record", phase=phase)
    places = seen.of(before, "store", "store", label=moment)
    return bool(stopped) and bool(places) and places[-1]["places"][-1]["phase"] == phase


def _outcome(events: Sequence[Event], sentence: Sequence[Event]) -> str:
    """How the router ended this sentence; empty where there is none, or no end."""
    for one in sentence:
        key = {"session": one["session"], "sentence": one["sentence"]}
        found = seen.first(seen.of(events, "router", "reply", **key), one["t"])
        return str(found["outcome"]) if found else ""
    return ""


def second_switches(events: Sequence[Event]) -> int:
    """Sentences that take or give back the site's lease, beyond one of each for each outage."""
    cuts = [float(event["at_s"]) for event in seen.of(events, "bench", "cut")]
    count = 0
    for start_s, end_s in zip(cuts, [*cuts[1:], float("inf")], strict=True):
        for sentences in (seen.leases_taken(events), seen.released(events, 0.0)):
            count += max(0, sum(start_s <= event["t"] < end_s for event in sentences) - 1)
    return count


def controls(events: Sequence[Event]) -> dict[str, str]:
    """A second lease is counted; a site without agent and lease is not right."""
    if _control_s(events) == float("inf"):
        return {}
    before = second_switches([event for event in events if event["t"] < _control_s(events)])
    more = second_switches(events) - before
    right_s = _right.right_after(events, "control")
    return {
        "second switch": "bit" if more == 1 else f"did not bite: {more} seen",
        "right state": "bit" if right_s is None else "did not bite: right without agent and lease",
    }


def _control_s(events: Sequence[Event]) -> float:
    at_s = seen.marked(events, "second switch control")
    return float("inf") if at_s is None else at_s


SCENARIO = Scenario(
    name="agent-killed",
    purpose="kill -9 at ten moments of failovers and ways home; the new process has all right, and switches nothing",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-restarted", "lease-swallowed"),
    controls=controls,
)
