"""The router's own fallback, and the lease by which the agent contradicts it."""

from __future__ import annotations

import itertools

import pytest

from edgeagent.core.facts import Lease, LeasesSeen, LinkChanged
from edgeagent.core.native import SETTLE_S
from edgeagent.core.turn import first_state, kept
from tests.core.driver import Site

CONTRADICTS = Lease("edge-wan-site", "0.0.0.0/0")
TURNS_AT_S = 10.0  # the soonest at which two checks of the router's, ten seconds apart, have both gone unanswered


def settled() -> Site:
    """A site on a healthy primary, long enough after its start."""
    site = Site()
    site.run(60)
    assert site.lists() == {"edge-alive"}
    return site


def held_during(site: Site, seconds: float) -> set[frozenset[str]]:
    """What was held at any turn of so long a time."""
    before = len(site.turns)
    site.run(seconds)
    return {frozenset(lease.list for lease in one.orders.leases or ()) for _, one in site.turns[before:]}


def test_on_a_healthy_primary_only_the_agents_own_address_is_held() -> None:
    site = settled()
    assert held_during(site, 1200.0) == {frozenset({"edge-alive"})}
    assert not site.told


def test_after_a_start_and_after_an_outage_the_router_may_still_be_on_its_way_back() -> None:
    site = Site()
    site.run(5)
    assert site.lists() == {"edge-alive", CONTRADICTS.list}


def test_a_failover_just_when_the_stretch_ends_is_still_one_sentence() -> None:
    for after_s in (28.0, 29.0, 29.3, 29.5, 29.7, 30.0, 30.3, 30.7, 31.0, 31.3):
        site = Site()
        site.run(after_s)
        held = [site.lists()]
        site.alive = lambda path, _at_s: path != "primary"
        while site.place[0] == "home":
            site.run(0.05)
            held.append(site.lists())
        changes = [after - before for before, after in itertools.pairwise(held) if before != after]
        assert changes == [{"edge-lte-site"}], after_s


def test_canaries_that_die_alone_are_contradicted_before_the_router_turns_clause_p5() -> None:
    site = settled()
    site.dead_targets = frozenset({"icmp:b", "icmp:c"})
    site.run(TURNS_AT_S / 2)
    assert site.lists() == {"edge-alive", CONTRADICTS.list}
    assert held_during(site, 1200.0) == {frozenset({"edge-alive", CONTRADICTS.list})}
    assert site.place == ("home", "primary")
    assert "canaries_silent" in site.state.faults.raised
    site.dead_targets = frozenset()
    site.run(SETTLE_S - 5)
    assert CONTRADICTS.list in site.lists(), "the router may ask again only ten seconds after us"
    site.run(15)
    assert site.lists() == {"edge-alive"}
    assert "canaries_silent" not in site.state.faults.raised


def test_blips_that_might_meet_each_check_of_the_router_are_contradicted_clause_p5() -> None:
    site = settled()
    start_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or (at_s - start_s) % 10.0 > 0.9
    site.run(4)
    for _ in range(60):
        site.run(5)
        assert site.lists() == {"edge-alive", CONTRADICTS.list}
    assert site.place == ("home", "primary")


@pytest.mark.parametrize("dead", [{"icmp:b"}, {"icmp:c"}, {"icmp:a"}])
def test_one_dead_target_turns_nothing_and_needs_no_lease_clause_p5(dead: set[str]) -> None:
    site = settled()
    site.dead_targets = frozenset(dead)
    site.run(600)
    assert site.lists() == {"edge-alive"}
    assert site.place == ("home", "primary")


def test_a_line_that_reaches_others_but_not_the_provider_is_not_held_on_to_clause_p8() -> None:
    site = settled()
    site.dead_targets = frozenset({"icmp:a", "icmp:b", "icmp:c"})
    site.sip = lambda _path, _at: False
    for _ in range(40):
        site.run(0.5)
        assert CONTRADICTS.list not in site.lists()


@pytest.mark.parametrize("link", [False, True])
def test_a_failover_stays_one_sentence_clause_p2(link: bool) -> None:
    site = settled()
    dead_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or at_s < dead_s
    if link:
        site.tell(LinkChanged("primary", False, site.now_s))
    orders = []
    for _ in range(300):
        site.run(0.1)
        orders.append(site.lists())
    assert orders[-1] == {"edge-alive", "edge-lte-site"}
    assert [one for one in orders if CONTRADICTS.list in one] == []


def test_a_lease_that_stands_at_a_failover_is_let_run_out_clause_p2() -> None:
    site = settled()
    site.dead_targets = frozenset({"icmp:b", "icmp:c"})
    site.run(20)
    dead_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or at_s < dead_s
    site.run(10)
    assert site.place == ("away", "lte")
    assert site.lists() == {"edge-alive", "edge-lte-site", CONTRADICTS.list}
    site.run(30)
    assert site.lists() == {"edge-alive", "edge-lte-site"}


def test_while_voice_is_away_no_lease_of_the_primary_is_added() -> None:
    """The line comes back during the hold: the lease of the backup rules, and another one would say nothing."""
    site = settled()
    dead_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or not dead_s <= at_s < dead_s + 20
    site.run(35)
    assert (site.place, site.state.paths["primary"].verdict) == (("away", "lte"), "up")
    assert site.lists() == {"edge-alive", "edge-lte-site"}


def test_with_no_path_left_voice_stays_on_the_primary_clause_p6() -> None:
    site = settled()
    site.alive = lambda path, _at: path != "lte"
    site.run(400)
    dead_s = site.now_s
    site.alive = lambda path, at_s: path != "lte" and at_s < dead_s
    site.run(TURNS_AT_S)
    assert site.place == ("home", "primary")
    assert site.lists() == {"edge-alive", CONTRADICTS.list}
    site.alive = lambda path, _at: path != "lte"
    site.run(20)
    assert site.lists() == {"edge-alive", CONTRADICTS.list}
    site.run(40)
    assert site.lists() == {"edge-alive"}


def test_a_restarted_agent_keeps_the_lease_that_the_last_one_held_clause_p8() -> None:
    site = settled()
    site.dead_targets = frozenset({"icmp:b", "icmp:c"})
    site.run(60)
    site.state = first_state(site.settings, kept(site.state, "boot0000"), "boot0000")
    site.tell(LeasesSeen((CONTRADICTS,), site.now_s))
    for _ in range(300):
        assert CONTRADICTS.list in site.lists()
        site.run(0.1)


def test_on_the_way_home_too_the_primary_is_kept_while_its_canaries_are_silent() -> None:
    site = settled()
    dead_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or not dead_s <= at_s < dead_s + 30
    site.run(20)
    site.dead_targets = frozenset({"icmp:b", "icmp:c"})
    site.run(60)
    assert site.place == ("home", "primary")
    assert site.lists() == {"edge-alive", CONTRADICTS.list}
