"""The core by hand: who moves when, and why not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgeagent.core.facts import Flow, FlowsSeen, Lease, LeasesSeen, LinkChanged, RoundSent, UplinkSeen
from edgeagent.core.failover import Place, hold_s
from edgeagent.core.intents import MoveFlows
from edgeagent.core.settings import PRIMARY_PROBING, FailbackSettings
from edgeagent.core.turn import Kept, first_state, kept, reminded
from tests.core.driver import LTE, SETTINGS, WAN, Site


def dead_from(site: Site, *paths: str) -> float:
    start_s = site.now_s
    site.alive = lambda path, at_s: path not in paths or at_s < start_s
    return start_s


def test_a_silent_line_is_left_within_the_detection_time_clause_l2() -> None:
    site = Site()
    site.run(120)
    cut_s = dead_from(site, "primary")
    site.run(10)
    assert site.place == ("away", "lte")
    assert site.state.place.since_s - cut_s <= 2.7
    assert "edge-lte-site" in site.lists()


@pytest.mark.parametrize("lost", [1, 2, 8])
def test_a_short_burst_of_loss_never_causes_a_failover_clause_p5(lost: int) -> None:
    site = Site()
    site.run(60)
    start_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or not start_s <= at_s < start_s + lost * 0.1
    site.run(60)
    assert site.place == ("home", "primary")


def test_a_dead_network_card_of_the_agent_is_no_outage_clause_p5() -> None:
    site = Site()
    site.run(60)
    start_s = dead_from(site, "primary", "lte")
    site.control = lambda at_s: at_s < start_s
    site.run(60)
    assert site.place == ("home", "primary")
    assert "control_silent" in site.state.faults.raised


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5, 4.0])
@pytest.mark.parametrize("dead", [False, True])
def test_an_agent_up_before_the_router_leaves_only_a_dead_primary_clauses_l7_p5(after_s: float, dead: bool) -> None:
    site = Site()
    site.state = first_state(site.settings)
    up_s = site.now_s + 60.3
    site.alive = lambda path, at_s: at_s >= up_s and not (dead and path == "primary")
    site.control = lambda at_s: at_s >= up_s
    site.tell()
    site.run(60.3 + after_s)
    assert site.state.paths["primary"].verdict != "down", "it is the router that does not answer"
    site.tell(LeasesSeen((), site.now_s))
    site.run(10)
    assert site.place == (("away", "lte") if dead else ("home", "primary"))
    assert bool(site.told) is dead


def test_an_answer_on_its_way_at_the_first_contact_still_counts() -> None:
    site = Site()
    site.state = first_state(site.settings)
    site.tell()
    site.run(0.01)
    site.tell(LeasesSeen((), site.now_s))
    site.run(1.0)
    assert {path.verdict for path in site.state.paths.values()} == {"up"}


def test_no_failover_to_a_backup_known_dead_clause_p6() -> None:
    site = Site()
    site.run(60)
    dead_from(site, "lte")
    site.run(300)
    assert "backup_down" in site.state.faults.raised
    dead_from(site, "primary", "lte")
    site.run(30)
    assert site.place == ("home", "primary")
    assert "no_path" in site.state.faults.raised


def test_filtered_pings_with_sip_alive_cause_no_failover() -> None:
    site = Site()
    site.run(60)
    start_s = site.now_s
    site.icmp = lambda path, at_s: path != "primary" or at_s < start_s
    site.run(300)
    assert site.place == ("home", "primary")
    # ... and a real outage is still found afterwards, by SIP alone
    cut_s = dead_from(site, "primary")
    site.run(10)
    assert site.place == ("away", "lte")
    assert site.state.place.since_s - cut_s <= 3.0


def test_a_silent_provider_is_no_outage_clause_p9() -> None:
    site = Site()
    site.run(60)
    site.sip = lambda _path, _at: False
    site.run(300)
    assert site.place == ("home", "primary")


def test_answered_flows_refute_an_outage_that_the_probes_claim() -> None:
    site = Site()
    site.run(60)
    start_s = site.now_s
    site.flows = lambda at_s: (
        Flow("udp", "192.168.88.11", 5060, "203.0.113.10", 5060, WAN, int(at_s * 9), int(at_s * 9), media=False),
    )
    site.run(20)
    site.icmp = site.sip = lambda path, at_s: path != "primary" or at_s < start_s
    site.run(60)
    assert site.place == ("home", "primary")


def test_a_lost_link_is_believed_at_once_and_overruled_by_answers() -> None:
    site = Site()
    site.run(60)
    site.tell(LinkChanged("primary", up=False, at_s=site.now_s))
    assert site.place == ("away", "lte")
    site = Site()
    site.run(60)
    site.tell(LinkChanged("primary", up=False, at_s=site.now_s - 5))
    assert site.place == ("home", "primary")


def test_voice_goes_home_after_the_hold_clause_l1() -> None:
    site = Site()
    site.run(60)
    dead_from(site, "primary")
    site.run(60)
    back_s = dead_from(site)
    site.run(29)
    assert site.place == ("away", "lte")
    site.run(10)
    assert site.place == ("home", "primary")
    assert site.state.place.since_s - back_s == pytest.approx(33, abs=3)
    assert site.lists() == {"edge-alive"}


def test_home_at_once_when_the_backup_dies_and_the_primary_lives() -> None:
    site = Site()
    site.run(60)
    dead_from(site, "primary")
    site.run(30)
    dead_from(site, "lte")
    site.run(20)
    assert site.place == ("home", "primary")
    assert [move.pinned for _, move in site.moves if move.path == "primary"] == [True, True]


def test_one_notice_for_each_audience_at_each_end_clause_n1() -> None:
    site = Site()
    site.run(60)
    for _ in range(2):
        dead_from(site, "primary")
        site.run(60)
        dead_from(site)
        site.run(200)
    kinds = [(notice.incident, notice.kind, notice.audience) for _, notice in site.told]
    assert len(kinds) == len(set(kinds)) == 8
    assert [kind for _, kind, audience in kinds if audience == "customer"] == ["failover", "restored"] * 2


def test_an_idle_phone_goes_home_just_before_it_speaks_and_a_busy_one_when_its_call_ends_clause_l1() -> None:
    site = Site()
    period_s, born_s = 54.0, site.now_s

    def flows(at_s: float) -> tuple[Flow, ...]:
        nat = WAN if site.place[0] == "home" else LTE
        if nat == WAN and not site.alive("primary", at_s):
            at_s = cut_s
        spoken = 1 + int((at_s - born_s) // period_s)
        idle = Flow("udp", "p1", 5060, "sbc", 5060, nat, 500 * spoken, 400 * spoken, media=False)
        sip = Flow("udp", "p4", 5060, "sbc", 5060, nat, 500 * spoken, 400 * spoken, media=False)
        talked = int(min(at_s, hangup_s) * 10000)
        media = Flow("udp", "p4", 10000, "relay", 30000, nat, talked, talked, media=True)
        return idle, sip, media

    hangup_s, cut_s = born_s + 600, born_s + 150
    site.flows = flows
    site.run(150)
    dead_from(site, "primary")
    site.run(150)
    back_s = dead_from(site)
    site.run(32)
    site.run(4)
    assert site.place[0] == "returning"
    site.run(60)
    released = [(at_s, move.sources) for at_s, move in site.moves if move.sources]
    assert released[0][1] == frozenset({"p1"})
    before_s = period_s - (released[0][0] - born_s) % period_s
    assert before_s <= 10
    assert site.state.place.waiting == frozenset({"p4"})
    site.run(hangup_s - site.now_s)
    assert site.state.place.waiting == frozenset({"p4"})
    site.run(60)
    assert site.place == ("home", "primary")
    assert back_s < hangup_s < site.state.place.since_s


def test_a_restarted_agent_adopts_what_the_router_does() -> None:
    site = Site()
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", 900.0, "i1")), "boot0000")
    result = site.tell()
    result = site.tell(LeasesSeen((Lease("edge-lte-site", "0.0.0.0/0"),), site.now_s))
    assert site.place == ("away", "lte")
    assert site.state.place.incident == "i1"
    assert not result.intents
    assert not result.notices
    assert {lease.list for lease in result.orders.leases or ()} == {"edge-alive", "edge-lte-site"}


def test_a_failover_cut_short_while_phones_return_is_completed_and_nobody_is_told_restored_clause_n6() -> None:
    site = Site()
    since_s = site.now_s - 5.0
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", since_s, "i2")), "boot0000")
    result = site.tell(LeasesSeen((Lease("edge-lte-phone", "192.168.88.14"),), site.now_s))
    assert site.place == ("away", "lte")
    assert not result.notices
    assert {lease.list for lease in result.orders.leases or ()} == {"edge-alive", "edge-lte-site"}


def test_a_call_that_a_reboot_of_the_router_left_without_rows_is_not_moved_clause_l1() -> None:
    site = Site()
    site.run(60)
    dead_from(site, "primary")
    site.run(20)
    talks = lambda at_s: (Flow("udp", "p4", 10000, "sbc", 30000, LTE, int(at_s * 9e3), int(at_s * 9e3), media=True),)  # noqa: E731
    site.flows = talks
    site.alive = lambda _path, _at: True
    site.run(60)
    assert site.place == ("returning", "lte")
    site.flows = lambda _at: ()  # the router has rebooted; its connection table is empty
    site.run(5)
    assert "edge-lte-phone" in site.lists()
    site.flows = talks
    site.run(20)
    assert "edge-lte-phone" in site.lists()
    site.flows = lambda _at: ()  # and now the phone is gone for good
    site.run(61)
    assert site.place == ("home", "primary")


def test_a_return_that_was_acted_on_and_not_recorded_goes_on_and_is_told() -> None:
    site = Site()
    since_s = site.now_s - 100.0
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", since_s, "i2")), "boot0000")
    result = site.tell(LeasesSeen((Lease("edge-lte-phone", "192.168.88.14"),), site.now_s))
    assert site.place == ("returning", "lte")
    assert [notice.kind for notice in result.notices] == ["restored", "restored"]


def test_an_agent_that_remembers_nothing_adopts_the_lease_and_tells_of_it() -> None:
    site = Site()
    site.state = first_state(site.settings)
    assert site.tell().orders.leases is None
    result = site.tell(LeasesSeen((Lease("edge-lte-site", "0.0.0.0/0"),), site.now_s))
    assert site.place == ("away", "lte")
    assert [notice.kind for notice in result.notices] == ["failover", "failover"]


def test_an_agent_back_after_its_lease_lapsed_starts_from_home() -> None:
    site = Site()
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", 900.0, "i1")), "boot0000")
    assert site.tell().orders.leases is None, "what it remembers may be long over"
    site.tell(LeasesSeen((), site.now_s))
    assert site.place == ("home", "primary")
    assert not site.told, "whether the line is back is for the line to show"
    site.run(5)
    assert [notice.kind for _, notice in site.told] == ["restored", "restored"]
    assert {notice.incident for _, notice in site.told} == {"i1"}


@pytest.mark.parametrize("dead", [False, True])
def test_a_return_that_was_told_and_cut_short_is_told_no_second_time_clause_n6(dead: bool) -> None:
    site = Site()
    kept = Kept("boot0000", Place("returning", "lte", site.now_s - 3.0, "i1", waiting=frozenset({"p1"})))
    site.state = first_state(site.settings, kept, "boot0000")
    if dead:
        dead_from(site, "primary")
    site.tell(LeasesSeen((Lease("edge-lte-site", "0.0.0.0/0"),), site.now_s))
    site.run(10)
    assert site.place == ("away", "lte")
    assert [notice.kind for _, notice in site.told] == (["failover", "failover"] if dead else [])
    site.alive = lambda _path, _at: True
    site.run(90)
    assert site.place == ("home", "primary")
    assert [notice.kind for _, notice in site.told[2:]] == (["restored", "restored"] if dead else [])


def test_an_agent_back_during_the_outage_goes_on_with_its_incident_clause_n6() -> None:
    site = Site()
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", 900.0, "i1")), "boot0000")
    dead_from(site, "primary")
    site.tell(LeasesSeen((), site.now_s))
    site.run(10)
    assert site.place == ("away", "lte")
    assert site.state.place.incident == "i1"
    assert not site.told


@pytest.mark.parametrize(
    ("dead", "held", "kinds"),
    [
        (False, False, ["restored", "restored"]),
        (False, True, []),
        (True, False, []),
        (True, True, []),
    ],
)
def test_an_incident_outlives_a_power_failure_clause_n1(dead: bool, held: bool, kinds: list[str]) -> None:
    site = Site()
    former = Place(phase="away", path="lte", since_s=9e6, incident="i1", left_s=(9e6,), ready_since_s=9e6)
    site.state = first_state(site.settings, Kept("boot-before", former), "boot0000")
    assert site.tell().orders.leases is None
    if dead:
        dead_from(site, "primary")
    site.tell(LeasesSeen((Lease("edge-lte-site", "0.0.0.0/0"),) if held else (), site.now_s))
    site.run(10)
    assert site.place == (("away", "lte") if dead or held else ("home", "primary"))
    assert [notice.kind for _, notice in site.told] == kinds
    assert {notice.incident for _, notice in site.told} <= {"i1"}
    site.alive = lambda _path, _at: True
    site.run(60)
    assert site.place == ("home", "primary")
    assert [notice.kind for _, notice in site.told] == ["restored", "restored"]
    assert {notice.incident for _, notice in site.told} == {"i1"}


@pytest.mark.parametrize("boot", ["boot0000", "boot-before"])
def test_an_incident_that_a_slow_disk_tells_of_late_is_ended_too_clause_n1(boot: str) -> None:
    site = Site()
    site.run(10)
    former = Kept(boot, Place(phase="away", path="lte", since_s=900.0, incident="i1", left_s=(900.0,)))
    site.state = reminded(site.state, former, site.settings, "boot0000")
    assert kept(site.state, "boot0000").former is not None, "a run that ends now leaves it to the next"
    assert site.state.place.left_s == ((900.0,) if boot == "boot0000" else ())
    site.run(2)
    assert [(notice.kind, notice.incident) for _, notice in site.told] == [("restored", "i1")] * 2
    assert site.place == ("home", "primary")


def test_told_of_a_former_incident_late_and_away_each_one_is_ended_clause_n1() -> None:
    site = Site()
    site.run(10)
    dead_s = dead_from(site, "primary")
    site.run(10)
    own = site.state.place.incident
    assert own
    site.told.clear()
    former = Kept("boot-before", Place(phase="away", path="lte", since_s=9e6, incident="i1"))
    site.state = reminded(site.state, former, site.settings, "boot0000")
    site.run(10)
    assert (site.place, site.state.place.incident, site.told) == (("away", "lte"), own, [])
    later = first_state(site.settings, kept(site.state, "boot0000"), "boot0000")
    assert later.former is not None, "nothing of it is lost where this run ends meanwhile"
    site.alive = lambda _path, at_s: at_s < dead_s or at_s > dead_s + 20
    site.run(120)
    assert site.place == ("home", "primary")
    ends = [(notice.kind, notice.incident) for _, notice in site.told]
    assert ends == [("restored", own)] * 2 + [("restored", "i1")] * 2


def test_an_incident_whose_end_was_told_is_over_after_a_power_failure_too() -> None:
    site = Site()
    former = Place(phase="returning", path="lte", incident="i1", waiting=frozenset({"p1"}))
    site.state = first_state(site.settings, Kept("boot-before", former), "boot0000")
    site.tell(LeasesSeen((), site.now_s))
    site.run(60)
    assert site.place == ("home", "primary")
    assert not site.told


def test_a_call_that_is_only_heard_from_afar_does_not_hide_an_outage() -> None:
    site = Site()
    site.run(60)
    start_s = dead_from(site, "primary")
    site.flows = lambda at_s: (
        Flow("udp", "p4", 10000, "relay", 30000, WAN, int(start_s), int(at_s * 9000), media=True),
        Flow("udp", "p4", 5060, "sbc", 5060, WAN, 500, int(at_s * 900), media=False),
    )
    site.run(20)
    assert site.place == ("away", "lte")


def test_rows_with_another_address_of_the_line_itself_are_left_alone() -> None:
    site = Site()
    site.run(30)
    site.flows = lambda at_s: (
        Flow("udp", "p1", 5060, "sbc", 5060, "192.0.2.99", int(at_s * 9), int(at_s * 9), media=False),
    )
    site.run(60)
    assert not site.moves


def test_rows_left_on_a_backup_are_moved_home() -> None:
    site = Site()
    site.run(30)
    site.flows = lambda at_s: (Flow("udp", "p1", 5060, "sbc", 5060, LTE, int(at_s * 9), int(at_s * 9), media=False),)
    site.run(15)
    assert site.moves[0][1].sources == frozenset({"p1"})


def test_a_router_that_never_answers_pings_is_told_and_hides_no_outage() -> None:
    site = Site()
    site.control = lambda _at: False
    site.run(60)
    assert "control_silent" in site.state.faults.raised
    dead_from(site, "primary")
    site.run(10)
    assert site.place == ("away", "lte")


def test_probes_that_cannot_be_sent_are_told() -> None:
    site = Site()
    site.run(30)
    for number in range(1000, 1006):
        site.tell(RoundSent("primary", number, site.now_s, (), control=True))
    assert "probes_not_sent" in site.state.faults.raised


def test_a_backup_whose_target_refuses_pings_is_found_alive_by_sip_when_it_is_needed() -> None:
    site = Site()
    site.icmp = lambda path, _at: path != "lte"
    site.run(300)
    dead_from(site, "primary")
    site.run(20)
    assert site.place == ("away", "lte")


def test_the_backup_is_asked_again_while_sip_keeps_voice_away() -> None:
    site = Site()
    site.run(60)
    dead_from(site, "primary")
    site.run(60)
    dead_from(site)
    site.sip = lambda path, _at: path != "primary"
    site.run(120)
    assert site.place[0] == "away"
    site.sip = lambda _path, _at: False
    site.run(700)
    assert site.place == ("home", "primary")


def test_the_hold_doubles_with_each_failover_of_the_hour() -> None:
    settings = FailbackSettings()
    assert [hold_s(tuple(float(at) for at in range(n)), settings, 100.0) for n in range(5)] == [30, 30, 60, 120, 240]
    assert hold_s(tuple(float(at) for at in range(12)), settings, 100.0) == 7200


@pytest.mark.parametrize(
    ("failback", "kept"),
    [
        (FailbackSettings(), True),
        (FailbackSettings(hold_hour_max_s=30.0), True),  # the hold does not grow: the cap alone keeps it
        (FailbackSettings(hold_hour_max_s=30.0, per_hour_max=99), False),  # what nothing keeps is seen
    ],
)
def test_at_most_four_failovers_an_hour_while_the_backup_lives_clause_l4(
    failback: FailbackSettings, kept: bool
) -> None:
    # Few rounds, because two hours are many of them: how a line is judged is not the matter here.
    coarse = replace(PRIMARY_PROBING, interval_s=5.0, active_interval_s=5.0, fast_interval_s=1.0, lost_rounds=3)
    primary = replace(SETTINGS.primary, probing=coarse)
    site = Site(replace(SETTINGS, paths=(primary, *SETTINGS.paths[1:]), failback=failback))
    site.run(60)
    start_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or (at_s - start_s) % 100 > 20
    site.run(4500)
    left_s = site.state.place.left_s
    assert len(left_s) > 4
    assert all(later - earlier >= 3600 for earlier, later in zip(left_s, left_s[4:], strict=False)) is kept


def rtcp(source_port: int, nat: str, pinned: bool) -> Flow:
    """A media row of one phone that was never answered."""
    return Flow(
        protocol="udp", source="192.168.88.14", source_port=source_port, far="203.0.113.10", far_port=30001, nat=nat,
        orig_bytes=500, repl_bytes=0, media=True, pinned=pinned,
    )  # fmt: skip


def test_away_a_row_of_the_dead_line_is_a_stray_even_if_its_mark_says_backup_clause_p2() -> None:
    site = Site()
    site.state = first_state(site.settings, Kept("boot0000", Place("away", "lte", 990.0, "i1")), "boot0000")
    addresses = [UplinkSeen("primary", WAN, site.now_s), UplinkSeen("lte", LTE, site.now_s)]
    site.tell(LeasesSeen((Lease("edge-lte-site", "0.0.0.0/0"),), site.now_s), *addresses)
    good = rtcp(10001, LTE, pinned=True)
    assert not site.tell(FlowsSeen((good,), site.now_s, site.now_s)).intents
    stale = rtcp(10003, WAN, pinned=True)
    expected = MoveFlows("lte", sources=frozenset({"192.168.88.14"}), pinned=True)
    assert site.tell(FlowsSeen((good, stale), site.now_s, site.now_s)).intents == (expected,)


def test_on_the_way_home_media_pinned_to_the_backup_is_no_stray() -> None:
    site = Site()
    site.state = first_state(site.settings, Kept("boot0000", Place("returning", "lte", 990.0, "i1")), "boot0000")
    addresses = [UplinkSeen("primary", WAN, site.now_s), UplinkSeen("lte", LTE, site.now_s)]
    site.tell(LeasesSeen((Lease("edge-lte-phone", "192.168.88.11"),), site.now_s), *addresses)
    assert not site.tell(FlowsSeen((rtcp(10001, LTE, pinned=True),), site.now_s, site.now_s)).intents
    assert site.tell(FlowsSeen((rtcp(10001, LTE, pinned=False),), site.now_s, site.now_s)).intents
