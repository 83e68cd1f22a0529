"""Each standing checker: events that hold, that say nothing, and that break it."""

from __future__ import annotations

from typing import Any

import pytest

from hil import checks
from hil.bench import BenchBroken, Event

SITE_LEASE = ["/ip/firewall/address-list/add", "=list=edge-lte-site"]
CUSTOMER, SUPPORT = "customer@provider.example", "support@provider.example"


def note(t: float, event: str, **fields: Any) -> Event:
    return {"t": t, "source": "bench", "event": event, **fields}


def flow(t: float, link: str, kind: str, dst: str = "203.0.113.10", **fields: Any) -> Event:
    what = {"t": t, "source": "emulator", "event": "flow_started", "link": link, "direction": "up"}
    return {**what, "class": kind, "protocol": kind, "dst": dst, "verdict": "delivered", **fields}


def ping(t: float, link: str, dst: str) -> Event:
    return flow(t, link, "icmp", dst, icmp_type="echo")


def lease(t: float) -> Event:
    return {"t": t, "source": "router", "event": "sentence", "words": SITE_LEASE}


def totals(t: float, label: str, **counters: dict[str, int]) -> Event:
    found = {key.replace("_", "/"): value for key, value in counters.items()}
    return {"t": t, "source": "emulator", "event": "totals", "label": label, "totals": found}


def switched(before: dict[str, int], after: dict[str, int], key: str = "wan_up_rtp") -> list[Event]:
    quiet = {"packets": 1}
    return [
        note(1, "switched"),
        totals(2, "after switch", lte_up_sip=quiet, **{key: before}),
        totals(3, "before return", lte_up_sip=quiet, **{key: after}),
    ]


# --- P1 -----------------------------------------------------------------------------------------------------------


def test_p1_holds_when_voice_left_the_old_line() -> None:
    assert checks.p1_one_path(switched({"voice_packets": 9}, {"voice_packets": 9})) == "held"


@pytest.mark.parametrize("key", ["wan_up_sip", "wan_up_rtp", "wan_up_rtcp"])
def test_p1_breaks_on_one_voice_packet_of_any_class(key: str) -> None:
    assert checks.p1_one_path(switched({"voice_packets": 9}, {"voice_packets": 10}, key)).startswith("broken: 1 ")


def test_p1_breaks_when_the_class_appears_only_after_the_switch() -> None:
    assert checks.p1_one_path(switched({}, {"voice_packets": 3})).startswith("broken: 3 ")


def test_p1_does_not_count_the_agents_own_options() -> None:
    events = switched({"packets": 5, "voice_packets": 2}, {"packets": 9, "voice_packets": 2}, "wan_up_sip")
    assert checks.p1_one_path(events) == "held"


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("checker", [checks.p1_one_path, checks.p2_never_stranded])
def test_p1_and_p2_say_nothing_without_a_switch_or_a_capture(checker: checks.Checker, missing: int) -> None:
    events = switched({"voice_packets": 9, "dropped_spoofed": 0}, {"voice_packets": 99, "dropped_spoofed": 9})
    assert checker(events).startswith("broken")
    assert checker([event for index, event in enumerate(events) if index != missing]) == "not exercised"


def test_counters_that_were_reset_between_the_captures_are_no_verdict() -> None:
    with pytest.raises(BenchBroken, match="reset"):
        checks.p1_one_path(switched({"voice_packets": 9}, {"voice_packets": 0}))


# --- P2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["wan_up_sip", "lte_up_rtp", "lte_up_rtcp"])
@pytest.mark.parametrize("reason", ["spoofed", "blackhole", "carrier"])
def test_p2_breaks_on_voice_lost_where_it_cannot_be_carried(key: str, reason: str) -> None:
    events = switched({f"dropped_{reason}": 1}, {f"dropped_{reason}": 3}, key)
    assert checks.p2_never_stranded(events).startswith("broken: 2 voice packets")


def test_p2_holds_with_bad_luck_on_the_way_and_with_what_was_lost_before() -> None:
    counters = {"dropped_loss": 0, "dropped_queue": 0, "dropped_blackhole": 105}
    after = {**counters, "dropped_loss": 9, "dropped_queue": 3}
    assert checks.p2_never_stranded(switched(counters, after)) == "held"


# --- P5 -----------------------------------------------------------------------------------------------------------


def test_p5_holds_when_the_lease_follows_the_cause() -> None:
    assert checks.p5_not_without_cause([note(1, "site up"), note(5, "cause"), lease(7)]) == "held"


def test_p5_holds_without_any_lease_and_says_nothing_of_a_site_that_never_ran() -> None:
    assert checks.p5_not_without_cause([note(1, "site up")]) == "held"
    assert checks.p5_not_without_cause([]) == "not exercised"


@pytest.mark.parametrize("events", [[lease(4), note(5, "cause")], [lease(4)]])
def test_p5_breaks_on_a_lease_before_any_cause(events: list[Event]) -> None:
    assert checks.p5_not_without_cause([note(1, "site up"), *events]) == "broken: 1 failovers without a cause"


def test_p5_takes_the_lines_own_time_when_the_story_noted_it_late() -> None:
    events = [note(1, "site up"), lease(5.02), note(5.05, "cause"), note(5.05, "cut", at_s=5.0)]
    assert checks.p5_not_without_cause(events) == "held"
    early = [note(1, "site up"), lease(4.99), note(5.05, "cause"), note(5.05, "control cut", at_s=5.0)]
    assert checks.p5_not_without_cause(early).startswith("broken")


def test_p5_lets_a_second_cause_not_condemn_the_first_failover() -> None:
    events = [note(1, "site up"), note(5, "cause"), lease(7), note(90, "cause"), lease(92)]
    assert checks.p5_not_without_cause(events) == "held"


# --- P10 ----------------------------------------------------------------------------------------------------------

OWN = [ping(1, "wan", "203.0.113.10"), ping(1, "wan", "203.0.113.130"), ping(2, "lte", "203.0.113.131")]


def test_p10_holds_when_each_probe_keeps_to_its_line() -> None:
    assert checks.p10_probes_stay(OWN) == "held"


@pytest.mark.parametrize(
    "events", [[], [flow(1, "wan", "icmp", icmp_type="echo-reply")], [{**OWN[0], "direction": "down"}]]
)
def test_p10_says_nothing_when_no_probe_was_seen(events: list[Event]) -> None:
    assert checks.p10_probes_stay(events) == "not exercised"


@pytest.mark.parametrize(
    "stray", [ping(3, "lte", "203.0.113.10"), ping(3, "lte", "203.0.113.129"), ping(3, "wan", "203.0.113.131")]
)
@pytest.mark.parametrize("verdict", ["delivered", "spoofed", "blackhole"])
def test_p10_breaks_on_a_stray_ping_delivered_or_not(stray: Event, verdict: str) -> None:
    events = [*OWN, {**stray, "verdict": verdict}]
    assert checks.p10_probes_stay(events) == "broken: 1 probes on the wrong line"
    assert checks.p10_probes_stay([stray]).startswith("broken")  # also when no probe kept to its own line


def test_p10_spares_the_stray_that_is_its_control_and_the_control_sees_it() -> None:
    events = [*OWN, note(5, "strays begin"), ping(6, "wan", "203.0.113.131")]
    assert checks.p10_probes_stay(events) == "held"
    assert checks.controls(events) == {"P10": "bit"}
    assert checks.controls(events[:-1])["P10"].startswith("did not bite")


# --- M1 -----------------------------------------------------------------------------------------------------------


def marked(t: float, link: str, control: bool = False) -> Event:
    return {"t": t, "source": "emulator", "event": "marked", "link": link, "bytes": 900, "control": control}


ATTEMPT = note(4, "lan attempt", text="LEAK")
ALLOWED = [
    flow(1, "lte", "sip"),
    flow(1, "lte", "rtp"),
    flow(1, "lte", "rtcp"),
    flow(1, "lte", "dns"),
    flow(1, "lte", "arp", "198.51.100.1"),
    ping(1, "lte", "203.0.113.131"),
    flow(1, "lte", "icmp", icmp_type="unreachable"),
    flow(1, "lte", "other", "203.0.113.40", dport=465),
    flow(1, "wan", "other", "203.0.113.131", dport=4433),
]


def test_m1_holds_for_voice_its_names_and_the_agents_own() -> None:
    assert checks.m1_voice_only([*ALLOWED, ATTEMPT, marked(5, "wan")]) == "held"


def test_m1_says_nothing_without_an_attempt_or_with_the_control_alone() -> None:
    assert checks.m1_voice_only(ALLOWED) == "not exercised"
    assert checks.m1_voice_only([*ALLOWED, note(3, "leak control"), ATTEMPT]) == "not exercised"


def test_m1_breaks_on_marked_bytes_on_lte() -> None:
    assert checks.m1_voice_only([ATTEMPT, marked(5, "lte")]).startswith("broken: 900 marked bytes")


@pytest.mark.parametrize(
    "foreign",
    [
        flow(2, "lte", "other", "203.0.113.131", dport=4433),
        flow(2, "lte", "other", "203.0.113.131", dport=465),
        flow(2, "lte", "other", "203.0.113.40", dport=443),
        flow(2, "lte", "other", "203.0.113.131", dport=4433, verdict="spoofed"),
        flow(2, "lte", "ipv6", "2001:db8::1"),
        flow(2, "lte", "something-new"),
        ping(2, "lte", "203.0.113.129"),
    ],
)
def test_m1_breaks_on_anything_else_on_lte_even_without_an_attempt(foreign: Event) -> None:
    for events in ([*ALLOWED, foreign], [*ALLOWED, foreign, ATTEMPT]):
        assert checks.m1_voice_only(events).endswith(f"other classes on LTE: {foreign['class']}")


def test_m1_spares_its_control_which_must_leak() -> None:
    begun = [ATTEMPT, note(6, "leak control")]
    leak = [flow(7, "lte", "other", "203.0.113.131", dport=4433), marked(8, "lte", control=True)]
    assert checks.m1_voice_only([*begun, *leak]) == "held"
    assert checks.controls([*begun, *leak]) == {"M1": "bit"}
    assert checks.controls(begun)["M1"].startswith("did not bite")


# --- N1 -----------------------------------------------------------------------------------------------------------


def mail(t: float, to: str, kind: str, references: str = "") -> Event:
    message_id = f"<7.{kind}.{to}>"
    return {
        "t": t, "source": "exim", "event": "delivered", "to": to, "message_id": message_id, "references": references
    }  # fmt: skip


def incident(to: str) -> list[Event]:
    return [mail(1, to, "failover"), mail(2, to, "restored", f"<7.failover.{to}>")]


DUE = note(9, "mails due")
GOOD = [*incident(CUSTOMER), *incident(SUPPORT)]


def test_n1_holds_for_one_of_each_per_audience() -> None:
    assert checks.n1_one_of_each([*GOOD, DUE]) == "held"


def test_n1_says_nothing_before_the_mails_are_due() -> None:
    assert checks.n1_one_of_each(GOOD) == "not exercised"


@pytest.mark.parametrize("missing", range(4))
def test_n1_breaks_on_any_missing_mail(missing: int) -> None:
    mails = [event for index, event in enumerate(GOOD) if index != missing]
    assert checks.n1_one_of_each([*mails, DUE]).startswith("broken")


@pytest.mark.parametrize("kind", ["failover", "restored", "fault"])
def test_n1_breaks_on_a_doubled_or_foreign_mail(kind: str) -> None:
    events = sorted([*GOOD, mail(1.5, SUPPORT, kind)], key=lambda event: float(event["t"]))
    assert checks.n1_one_of_each([*events, DUE]).startswith(f"broken: {'support@'} was sent")


def test_n1_breaks_on_the_wrong_order_and_on_mails_that_are_no_thread() -> None:
    swapped = [*incident(CUSTOMER), *reversed(incident(SUPPORT)), DUE]
    assert "restored, failover" in checks.n1_one_of_each(swapped)
    loose = [*incident(CUSTOMER), mail(1, SUPPORT, "failover"), mail(2, SUPPORT, "restored"), DUE]
    assert "does not refer" in checks.n1_one_of_each(loose)


# --- all ----------------------------------------------------------------------------------------------------------


def test_the_control_of_p5_is_a_line_that_really_dies() -> None:
    cut = [note(5, "control cut", at_s=5.0)]
    assert checks.controls([*cut, lease(7), flow(7.1, "lte", "rtp")]) == {"P5": "bit"}
    assert checks.controls([*cut, lease(7)])["P5"].startswith("did not bite"), "a lease that moves nobody is none"
    assert checks.controls([lease(4), *cut])["P5"].startswith("did not bite")


def test_p5_breaks_on_a_second_failover_once_the_line_is_back() -> None:
    story = [note(1, "site up"), note(2, "cause"), lease(3), note(9, "restored", at_s=9.0)]
    assert checks.p5_not_without_cause(story) == "held"
    assert checks.p5_not_without_cause([*story, lease(12)]).startswith("broken")


def test_every_checker_says_nothing_of_no_events() -> None:
    assert set(checks.judge([]).values()) == {"not exercised"}
    assert checks.controls([]) == {}
