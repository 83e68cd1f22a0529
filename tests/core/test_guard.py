"""What is put right and what is left: tables over the guard, and the whole core where it meets the rest."""

from __future__ import annotations

import pytest

from edgeagent.core import guard
from edgeagent.core.facts import DriftSeen, Finding, Instant, Lease, LeasesSeen, LedBy, PartFailed
from edgeagent.core.guard import GuardState
from edgeagent.core.notices import ROWS_TOLD
from edgeagent.core.status import FINDINGS_MAX, document
from edgeagent.core.turn import FINDINGS_TOLD
from tests.core.driver import Site

A = Finding("/ip/route a", "deleted")
B = Finding("/ip/firewall/filter b", "changed", "action", "accept", "drop")
MOVED = Finding("/ip/route a", "changed", "gateway", "192.0.2.1", "192.0.2.9", by_us=True)

# Steps of (seconds after the one before, what is found, what was written since) -> what is ordered to be put right.
Steps = list[tuple[float, list[Finding], list[Finding], list[Finding]]]


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        pytest.param([(0, [A, B], [], [A, B]), (1, [], [A, B], [])], [], id="once"),
        pytest.param([(0, [A], [], [A]), (1, [], [A], []), (60, [A], [], [])], [A], id="twice within ten minutes"),
        pytest.param([(0, [A], [], [A]), (1, [], [A], []), (601, [A], [], [A])], [], id="twice, ten minutes apart"),
        pytest.param([(0, [A], [], [A]), (1, [], [A], []), (60, [B], [], [B])], [], id="two things"),
        pytest.param([(0, [A], [], [A]), (1, [A], [A], [])], [A], id="never taken"),
        pytest.param([(0, [A], [], [A]), (1, [A], [], [A]), (1, [], [A], [])], [], id="not come to, asked for again"),
        pytest.param(
            [(0, [A], [], [A]), (1, [], [A], []), (60, [A], [], []), (60, [A, B], [], [B]), (999, [A], [B], [])],
            [A],
            id="left for good, while others are put right",
        ),
        pytest.param(
            [(0, [A], [], [A]), (1, [], [A], []), (60, [A], [], []), (60, [], [], []), (600, [A], [], [A])],
            [],
            id="right again by another hand: forgiven after ten minutes",
        ),
        pytest.param(
            [
                (0, [MOVED], [], [MOVED]),
                (1, [], [MOVED], []),
                (9, [MOVED], [], [MOVED]),
                (9, [MOVED], [MOVED], [MOVED]),
            ],
            [],
            id="what we want has changed: never a fight",
        ),
    ],
)
def test_what_is_put_right_and_what_is_left_clause_p7(steps: Steps, left: list[Finding]) -> None:
    state, now_s = GuardState(), 1000.0
    for after_s, found, written, expected in steps:
        now_s += after_s
        state = guard.seen(state, DriftSeen(tuple(found), True, now_s, tuple(one.thing for one in written)), now_s)
        things = guard.to_mend(state, lead=True)
        assert things == tuple(one.thing for one in expected), f"after {now_s - 1000.0} s"
        state = guard.asked(state, things)
        assert guard.to_mend(state, lead=True) == (), "ordered once"
    assert state.left == {one.thing for one in left}


@pytest.mark.parametrize(
    ("provisioned", "other", "lead"), [(False, "", True), (True, "site-8", True), (True, "", False)]
)
def test_nothing_is_put_right_where_it_is_not_ours_to_do(provisioned: bool, other: str, lead: bool) -> None:
    state = guard.seen(GuardState(other=other), DriftSeen((A,), provisioned, 1.0), 1.0)
    assert guard.to_mend(state, lead=lead) == ()


def test_what_is_remembered_is_bounded_clause_c5() -> None:
    state = GuardState()
    for number in range(10):
        many = tuple(Finding(f"/ip/route {number}-{index}", "deleted") for index in range(1000))
        state = guard.seen(state, DriftSeen(many, True, float(number)), float(number))
    assert len(state.open) == guard.THINGS_MAX
    assert len(state.changed_s) == guard.THINGS_MAX


# The whole core


def ready() -> Site:
    site = Site()
    site.run(30.0)
    return site


def see(site: Site, *findings: Finding, tried: tuple[Finding, ...] = (), provisioned: bool = True) -> tuple[str, ...]:
    fact = DriftSeen(findings, provisioned, site.now_s, tuple(one.thing for one in tried))
    return site.tell(fact).mend


def kinds(site: Site) -> list[str]:
    return [transition.kind for _, result in site.turns for transition in result.transitions]


def test_an_edit_is_journaled_before_it_is_put_right_and_told_once_it_was() -> None:
    site = ready()
    result = site.tell(DriftSeen((A, B), True, site.now_s))
    assert result.mend == (A.thing, B.thing)
    said = [transition.data for transition in result.transitions if transition.kind == "drift found"]
    assert said == [
        {"thing": A.thing, "found": "deleted"},
        {"thing": B.thing, "found": "changed", "attribute": "action", "was": "accept", "wanted": "drop"},
    ]
    assert not site.told
    assert site.tell().mend == ()
    assert see(site, tried=(A, B)) == ()
    assert kinds(site).count("drift mended") == 2
    (_, told) = site.told[-1]
    assert (told.kind, told.audience, told.data["count"]) == ("drifted", "support", 2)
    assert told.data["rows"] == f"{A.thing}: deleted; {B.thing}: changed action accept -> drop"
    assert len(site.told) == 1
    site.run(100.0)
    assert not site.state.faults.raised


def test_what_somebody_else_has_put_right_is_not_told_as_ours() -> None:
    site = ready()
    see(site, A)
    see(site)
    assert kinds(site).count("drift found") == 1
    assert kinds(site).count("drift mended") == 0
    assert not site.told


def test_many_edits_make_one_mail_and_a_bounded_journal() -> None:
    site = ready()
    many = tuple(Finding(f"/ip/route {number}", "deleted") for number in range(50))
    see(site, *many)
    assert document(site.state, _now(site), site.settings)["rows"]["differing"] == 50
    assert len(document(site.state, _now(site), site.settings)["rows"]["found"]) == FINDINGS_MAX
    see(site, tried=many)
    assert kinds(site).count("drift found") == kinds(site).count("drift mended") == FINDINGS_TOLD + 1
    assert len(site.told) == 1
    assert str(site.told[0][1].data["rows"]).count(";") == ROWS_TOLD


def test_a_new_next_hop_is_put_right_and_nobody_is_written_to() -> None:
    site = ready()
    assert see(site, MOVED) == (MOVED.thing,)
    see(site, tried=(MOVED,))
    assert kinds(site).count("drift mended") == 1
    assert not site.told


def test_a_fight_is_a_fault_until_it_is_over_clause_p7() -> None:
    site = ready()
    see(site, A)
    see(site, tried=(A,))
    site.run(60.0)
    assert see(site, A) == ()
    assert site.state.faults.raised == {"router_rows_fought_over"}
    site.run(120.0)
    assert [told.data["code"] for _, told in site.told if told.kind == "fault"] == ["router_rows_fought_over"]
    assert document(site.state, _now(site), site.settings)["rows"]["found"][0]["left"] is True
    see(site)
    assert not site.state.faults.raised


def test_what_cannot_be_put_right_is_named() -> None:
    site = ready()
    see(site, A)
    site.run(20.0)
    assert site.state.faults.raised == {"router_rows_differ"}


def test_a_router_that_is_not_provisioned_is_named_and_left_alone() -> None:
    site = ready()
    assert see(site, provisioned=False) == ()
    assert site.state.faults.raised == {"router_unprovisioned"}
    see(site)
    assert not site.state.faults.raised


def not_applied(site: Site, *things: str, findings: tuple[Finding, ...] = ()) -> tuple[str, ...]:
    return site.tell(DriftSeen(findings, True, site.now_s, unapplied=things)).mend


def test_what_was_not_applied_is_a_fault_and_no_edit_clause_n6() -> None:
    site = ready()
    assert not_applied(site, B.thing, findings=(A,)) == (A.thing,), "an edit of what was applied is put right"
    assert site.state.faults.raised == {"router_rules_not_applied"}
    not_applied(site, B.thing)
    shown = document(site.state, _now(site), site.settings)["rows"]
    assert (shown["unapplied"], shown["unapplied_things"], shown["differing"]) == (1, [B.thing], 0)
    site.run(1000.0)
    assert [told.data["code"] for _, told in site.told if told.kind == "fault"] == ["router_rules_not_applied"]
    assert not site.state.guard.changed_s.get(B.thing)
    not_applied(site)
    assert not site.state.faults.raised
    assert [told.kind for _, told in site.told][-1] == "cleared"


def test_of_many_things_not_applied_some_are_kept_clause_c5() -> None:
    site = ready()
    not_applied(site, *(f"/ip/route {number}" for number in range(1000)))
    assert len(site.state.guard.unapplied) == guard.THINGS_MAX
    shown = document(site.state, _now(site), site.settings)["rows"]
    assert (shown["unapplied"], len(shown["unapplied_things"])) == (guard.THINGS_MAX, FINDINGS_MAX)


def test_devices_are_written_down_where_we_lead_and_our_rules_stand_clauses_p4_p7() -> None:
    site = ready()

    def kept() -> bool:
        return site.turns[-1][1].orders.keep_devices

    assert not kept(), "nothing is known of the rules yet"
    see(site)
    assert kept()
    see(site, provisioned=False)
    assert not kept(), "taken away by command"
    see(site)
    site.tell(LedBy("site-8", site.now_s))
    assert not kept(), "another one leads"
    site.tell(LedBy("", site.now_s), LeasesSeen((), site.now_s))
    assert kept()
    site.tell(PartFailed("version", "router_version_unlisted", site.now_s))
    assert not kept(), "a version that is watched only"
    site.tell(PartFailed("version", "router_version_untested", site.now_s))
    assert kept()


def test_rows_are_left_alone_while_a_switch_is_under_way() -> None:
    site = ready()
    assert site.turns[-1][1].orders.watch_rows
    dead_s = site.now_s
    site.alive = lambda path, at_s: path == "lte" or at_s < dead_s
    site.run(1.5)
    assert not site.turns[-1][1].orders.watch_rows, "suspect"
    site.run(8.0)
    assert site.state.place.phase == "away"
    assert not site.turns[-1][1].orders.watch_rows, "just switched"
    site.run(20.0)
    assert site.turns[-1][1].orders.watch_rows, "a dead line is no reason to look away"


# Two agents


def test_while_another_agent_leads_nothing_is_decided_ordered_or_told_clause_p7() -> None:
    site = ready()
    site.tell(LedBy("site-8", site.now_s))
    dead_s = site.now_s
    site.alive = lambda path, at_s: path == "lte" or at_s < dead_s
    site.run(60.0)
    assert site.state.place.phase == "home"
    since = [result for at_s, result in site.turns if at_s >= dead_s]
    assert {result.orders.leases for result in since} == {None}
    assert not any(result.intents for result in since)
    assert see(site, A) == ()
    site.run(60.0)
    assert "router_held_by_other" in site.state.faults.raised
    assert {told.kind for _, told in site.told} == {"fault"}


def test_what_the_other_left_is_adopted_without_a_second_switch_clause_p7() -> None:
    site = ready()
    site.tell(LedBy("site-8", site.now_s))
    dead_s = site.now_s
    site.alive = lambda path, at_s: path == "lte" or at_s < dead_s
    site.run(30.0)
    left = site.tell(LedBy("", site.now_s), LeasesSeen(held("edge-lte-site"), site.now_s))
    assert site.state.place.phase == "away"
    assert left.orders.leases is not None
    assert {lease.list for lease in left.orders.leases} >= {"edge-alive", "edge-lte-site"}
    site.run(20.0)
    assert site.state.place.phase == "away"
    assert not site.moves or all(move.path == "lte" for _, move in site.moves)


def test_a_leader_that_is_overtaken_steps_back_and_comes_back_clause_p7() -> None:
    site = ready()
    dead_s = site.now_s
    site.alive = lambda path, at_s: path == "lte" or at_s < dead_s
    site.run(10.0)
    assert site.state.place.phase == "away"
    incident, told = site.state.place.incident, len(site.told)
    result = site.tell(LedBy("site-8", site.now_s))
    assert result.orders.leases is None
    site.run(10.0)
    site.tell(LedBy("", site.now_s), LeasesSeen(held("edge-lte-site"), site.now_s))
    site.run(10.0)
    assert (site.state.place.phase, site.state.place.incident) == ("away", incident)
    assert [one.kind for _, one in site.told[told:]] == []


def held(name: str) -> tuple[Lease, ...]:
    return (Lease(name, "0.0.0.0/0"),)


def _now(site: Site) -> Instant:
    return Instant(site.now_s, "boot0000")
