"""The judgement of the crash stories, from events made by hand: the right state, delays, moments, second switches."""

from __future__ import annotations

from typing import Any

import pytest

from hil import checks
from hil.bench import BenchBroken, Event
from hil.scenarios import _probes, _right, agent_dead_fallback, agent_killed, api_hangs
from hil.virtual import addresses as plan

LISTS = "/ip/firewall/address-list"


def note(t: float, event: str, source: str = "bench", **fields: Any) -> Event:
    return {"t": t, "source": source, "event": event, **fields}


def look(t: float, leases: list[str] | None, *, wan: float = 0.0, lte: float = 0.0, stage: str = "one") -> Event:
    voice = {line: {"entered_s": at_s, "delivered_s": at_s} for line, at_s in (("wan", wan), ("lte", lte))}
    return note(t, "look", stage=stage, leases=leases, voice=voice)


def stage(state: str, since_s: float = 100.0) -> Event:
    return note(since_s, "stage", name="one", state=state, since_s=since_s)


ALIVE, SITE, BUSY = _right.ALIVE, _right.SITE, f"edge-lte-phone {plan.PHONES[3]}"
DIALLED = note(9, "dialled", user="p4")


# --- the right state ----------------------------------------------------------------------------------------------


def test_right_begins_with_the_last_of_lease_flow_and_stray() -> None:
    looks = [look(101, [], wan=101), look(102, [ALIVE, SITE], wan=101.9), look(106, [ALIVE, SITE], wan=103.5, lte=106)]
    assert _right.right_after([stage("lte"), *looks], "one") == pytest.approx(6.0)
    looks[-1] = look(106, [ALIVE, SITE], wan=104.5, lte=106)
    looks.insert(2, look(103, [ALIVE, SITE], wan=103, lte=102.8))
    assert _right.right_after([stage("lte"), *looks], "one") == pytest.approx(4.5), "the last stray packet"


@pytest.mark.parametrize(
    ("state", "last"),
    [
        ("lte", look(110, [ALIVE], lte=110)),
        ("lte", look(110, [SITE], lte=110)),
        ("lte", look(110, None, lte=110)),
        ("lte", look(110, [ALIVE, SITE], lte=105)),
        ("returning", look(110, [ALIVE, SITE, BUSY], lte=110)),
        ("returning", look(110, [ALIVE], lte=110)),
        ("returning", look(110, [ALIVE, "edge-lte-phone 192.168.88.11"], lte=110)),
        ("home", look(110, [ALIVE, BUSY], wan=110)),
        ("home", look(110, [ALIVE], wan=105)),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else ",".join(value["leases"] or ["down"]),
)
def test_a_lease_too_few_or_too_many_and_silence_are_wrong(state: str, last: Event) -> None:
    good = {"lte": [ALIVE, SITE], "returning": [ALIVE, BUSY], "home": [ALIVE]}[state]
    first = look(101, good, wan=101) if state == "home" else look(101, good, lte=101)
    assert _right.right_after([DIALLED, stage(state), first], "one") is not None
    assert _right.right_after([DIALLED, stage(state), first, last], "one") is None


# --- delayed probes -----------------------------------------------------------------------------------------------


def gaps(t: float, gap_s: float, last_t: float, targets: tuple[str, ...] = _probes.TARGETS) -> Event:
    rows = [{"link": "wan", "dst": dst, "max_gap_s": gap_s, "last_t": last_t} for dst in targets]
    return note(t, "probe_gaps", "emulator", label=_probes.WATCHED, gaps=rows)


def test_a_delay_is_what_a_spacing_exceeds_the_interval_by_also_one_that_goes_on() -> None:
    assert _probes.delay_s([gaps(50, 1.25, 49.5)], _probes.WATCHED) == pytest.approx(0.25)
    assert _probes.delay_s([gaps(50, 1.0, 45.0)], _probes.WATCHED) == pytest.approx(4.0)
    assert _probes.delay_s([], _probes.WATCHED) is None


def test_a_target_that_nobody_pings_is_no_good_figure() -> None:
    with pytest.raises(BenchBroken, match=plan.SBC):
        _probes.delay_s([gaps(50, 1.0, 49.9, _probes.TARGETS[1:])], _probes.WATCHED)


# --- second switches and moments ----------------------------------------------------------------------------------


def said(t: float, number: int, *words: str, outcome: str = "done", ret: str = "") -> list[Event]:
    key = {"session": 1, "sentence": number}
    reply = note(t + 0.01, "reply", "router", command=words[0], outcome=outcome, **key, **({"ret": ret} if ret else {}))
    return [note(t, "sentence", "router", words=list(words), user="edgeagent", **key), reply]


def add(t: float, number: int, outcome: str = "done", name: str = "edge-lte-site") -> list[Event]:
    return said(t, number, f"{LISTS}/add", f"=list={name}", outcome=outcome, ret=f"*{number}")


def remove(t: float, number: int, row: str, outcome: str = "done") -> list[Event]:
    return said(t, number, f"{LISTS}/remove", f"=.id={row}", outcome=outcome)


CUT = note(10, "cut", at_s=10.0)
BACK = note(50, "restored", at_s=50.0)


def test_one_lease_taken_and_given_back_for_each_outage_is_no_second_switch() -> None:
    events = [CUT, *add(12, 1), BACK, *remove(90, 2, "*1"), note(100, "cut", at_s=100.0), *add(103, 3)]
    assert agent_killed.second_switches(events) == 0
    assert agent_killed.second_switches([*events, *remove(110, 4, "*77")]) == 0, "not the site's lease"


@pytest.mark.parametrize("more", [add(20, 5), remove(91, 6, "*1"), remove(91, 6, "*9,*1")])
def test_a_lease_taken_or_given_back_again_is_a_second_switch(more: list[Event]) -> None:
    assert agent_killed.second_switches([CUT, *add(12, 1), *remove(90, 2, "*1"), *more]) == 1


def store(moment: str, phase: str) -> list[Event]:
    stopped = note(12.5, "stopped at record", phase=phase)
    return [stopped, note(12.6, "store", "store", label=moment, places=[{"phase": "home"}, {"phase": phase}])]


REMOVAL_HUNG = said(12.2, 9, "/ip/firewall/connection/remove", "=.id=*1", outcome="hung")
HIT: dict[str, list[Event]] = {
    agent_killed.SUSPECTING: [CUT],
    agent_killed.RECORD_OUT: [CUT, *store(agent_killed.RECORD_OUT, "away")],
    agent_killed.ANSWER_OUT: [CUT, *add(12, 1, "mute")],
    agent_killed.FLOWS: [CUT, *add(12, 1), *REMOVAL_HUNG],
    agent_killed.ON_LTE: [CUT, *add(12, 1)],
    agent_killed.HOLDING: [CUT, *add(12, 1), BACK],
    agent_killed.RECORD_HOME: [CUT, *add(11, 1), *store(agent_killed.RECORD_HOME, "returning"), BACK],
    agent_killed.ANSWER_PHONE: [CUT, *add(12, 1), BACK, *add(80, 2, "mute", "edge-lte-phone")],
    agent_killed.ANSWER_RELEASE: [CUT, *add(12, 1), BACK, *remove(80, 2, "*1", "mute")],
    agent_killed.DRAINING: [
        DIALLED, CUT, *add(12, 1), BACK, *remove(80, 2, "*1"), look(85, [ALIVE, BUSY], stage=agent_killed.DRAINING)
    ],
}  # fmt: skip


def test_each_moment_is_recognised_and_no_other_is_taken_for_it() -> None:
    assert set(HIT) == set(agent_killed.MOMENTS)
    for moment, events in HIT.items():
        assert agent_killed.was_hit(events, moment, 99.0), moment
    strict = set(HIT) - {agent_killed.SUSPECTING, agent_killed.ON_LTE, agent_killed.HOLDING}
    for moment in strict:
        others = [name for name, events in HIT.items() if name != moment and agent_killed.was_hit(events, moment, 99.0)]
        assert not others, f"{moment} would also be seen in {others}"


@pytest.mark.parametrize("moment", [agent_killed.SUSPECTING, agent_killed.RECORD_OUT])
def test_a_kill_after_the_sentence_has_left_is_no_hit_of_a_moment_before_it(moment: str) -> None:
    assert not agent_killed.was_hit([*HIT[moment], *add(13, 1)], moment, 99.0)


# --- hangs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", api_hangs.KINDS)
def test_a_hang_counts_only_if_a_sentence_met_it(kind: str) -> None:
    begun, ended = note(10, "api hangs", kind=kind), note(30, "api answers")
    met = said(12, 1, f"{LISTS}/print", outcome=api_hangs.OUTCOMES.get(kind, "done"))
    if kind == "slow":
        met[1]["t"] = 15.0
    assert api_hangs._struck([begun, *met, ended], begun)
    assert not api_hangs._struck([begun, *said(12, 1, f"{LISTS}/print"), ended], begun)
    late = [{**event, "t": event["t"] + 30} for event in met]
    assert not api_hangs._struck([begun, ended, *late], begun)


# --- the standing checkers, with several outages in a story -------------------------------------------------------


def test_p5_judges_each_outage_by_its_own_cause() -> None:
    def lease(t: float) -> Event:
        return add(t, int(t))[0]

    story = [note(1, "site up"), note(5, "cause"), lease(7), note(50, "restored", at_s=50.0), note(90, "cause")]
    assert checks.p5_not_without_cause([*story, lease(92)]) == "held"
    assert checks.p5_not_without_cause([*story, lease(60)]).startswith("broken: 1 ")


def mail(t: float, incident: str, kind: str, to: str = "customer@x") -> Event:
    references = f"<{incident}.failover.{to}>" if kind == "restored" else ""
    return note(t, "delivered", "exim", to=to, message_id=f"<{incident}.{kind}.{to}>", references=references)


def incidents(*kinds: tuple[str, str]) -> list[Event]:
    both = ("customer@x", "support@x")
    return [mail(20 + n, one, kind, to) for n, (one, kind) in enumerate(kinds) for to in both]


TWO_CUTS = [CUT, BACK, note(60, "cut", at_s=60.0), note(99, "mails due")]
FIRST, LAST_OPEN = [("1", "failover"), ("1", "restored")], [("2", "failover")]


def test_n1_wants_one_of_each_for_each_outage_but_for_one_that_goes_on() -> None:
    assert checks.n1_one_of_each([*TWO_CUTS, *incidents(*FIRST, *LAST_OPEN)]) == "held"
    assert checks.n1_one_of_each([*TWO_CUTS, *incidents(("1", "summary"), *LAST_OPEN)]) == "held"
    assert checks.n1_one_of_each([*TWO_CUTS, *incidents(*FIRST)]).startswith("broken"), "an outage untold"
    assert checks.n1_one_of_each([*TWO_CUTS, *incidents(*LAST_OPEN, *FIRST)]).startswith("broken"), "the wrong one open"
    back = note(80, "restored", at_s=80.0)
    assert checks.n1_one_of_each([*TWO_CUTS, back, *incidents(*FIRST, *LAST_OPEN)]).startswith("broken")


def test_n1_lets_a_mail_come_twice_and_an_incident_part_only_where_the_agent_was_killed() -> None:
    killed = note(30, "agent stopped", kill=True)
    twice = incidents(FIRST[0], *FIRST, *LAST_OPEN)
    assert checks.n1_one_of_each([*TWO_CUTS, *twice]).startswith("broken")
    assert checks.n1_one_of_each([*TWO_CUTS, killed, *twice]) == "held"
    parted = incidents(*FIRST, ("1b", "failover"), ("1b", "restored"), *LAST_OPEN)
    assert checks.n1_one_of_each([*TWO_CUTS, *parted]).startswith("broken")
    assert checks.n1_one_of_each([*TWO_CUTS, killed, *parted]) == "held"


def test_p1_judges_every_time_away() -> None:
    def totals(t: float, label: str, count: int) -> Event:
        return note(t, "totals", "emulator", label=label, totals={"wan/up/rtp": {"voice_packets": count}})

    first = [note(1, "switched"), totals(2, "after switch", 5), totals(3, "before return", 6)]
    second = [totals(12, "after switch", 9), totals(13, "before return", 9)]
    assert (
        checks.p1_one_path([*first, *second]) == "broken: 1 voice packets entered the primary after the switch was over"
    )
    assert checks.p1_one_path([first[0], *second]) == "held"


# --- second switches after the agent's return ---------------------------------------------------------------------


def registered(t: float, user: str, address: str) -> Event:
    return note(t, "registered", "kamailio", user=user, address=address)


def test_a_phone_that_is_late_is_no_second_switch_and_one_that_moves_again_is() -> None:
    home, away = plan.ROUTER_WAN, plan.ROUTER_LTE
    events = [
        registered(50, "p1", home),
        registered(55, "p3", home),
        note(101, "stretch", name="died", address=away, since_s=100.0),
        registered(140, "p1", away),
        registered(207, "p3", away),  # its first one since the line died, which the agent did not cause
    ]
    assert agent_dead_fallback.rebound(events, 200.0, 260.0) == 0
    events.append(registered(220, "p1", home))
    assert agent_dead_fallback.rebound(events, 200.0, 260.0) == 1
    assert agent_dead_fallback.rebound(events, 100.0, 160.0) == 1, "the control counts who moves when the line dies"
