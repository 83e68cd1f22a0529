"""Faults: when they show, what they blame, when they are mailed, and what a restart makes of it."""

from __future__ import annotations

import inspect

import pytest

from edgeagent.core.facts import Instant, LeasesSeen, PartFailed, PartWorks, RouterLost, RouterReached
from edgeagent.core.failover import Departure, Place
from edgeagent.core.faults import CARRIED_S, CATALOGUE, Told
from edgeagent.core.turn import Kept, first_state, reminded
from edgeagent.outlets import mail
from edgeagent.probes import errors as probe_errors
from edgeagent.routeros import errors as router_errors
from edgeagent.routeros import versions
from edgeagent.store import errors as store_errors
from tests.core.driver import Site


def raised(site: Site) -> frozenset[str]:
    return site.state.faults.raised


def test_a_part_that_fails_is_named_and_cleared_when_it_works_again() -> None:
    site = Site()
    site.run(30)
    site.tell(PartFailed("store", "store_full", site.now_s))
    assert "store_full" in raised(site)
    site.tell(PartFailed("store", "store_readonly", site.now_s))
    assert raised(site) & {"store_full", "store_readonly"} == {"store_readonly"}
    site.tell(PartWorks("store", site.now_s))
    assert not raised(site)


def test_the_reason_is_named_and_not_that_the_router_does_not_answer() -> None:
    site = Site()
    site.run(30)
    site.tell(RouterLost("router_login_refused", site.now_s))
    site.run(30)
    assert raised(site) == {"router_login_refused"}
    site.tell(RouterLost("router_unreachable", site.now_s))
    site.run(1)
    assert raised(site) == {"router_unreachable"}
    site.tell(RouterReached(site.now_s))
    assert not raised(site)


def test_a_fault_that_stays_is_mailed_once_and_its_end_once() -> None:
    site = Site()
    site.run(30)
    site.tell(PartFailed("leases", "router_policy_missing", site.now_s))
    site.run(59)
    assert site.told == []
    site.run(600)
    site.tell(PartWorks("leases", site.now_s))
    site.run(600)
    (_, fault), (_, cleared) = site.told
    assert (fault.kind, cleared.kind, fault.audience) == ("fault", "cleared", "support")
    assert fault.incident == cleared.incident
    assert fault.data["code"] == "router_policy_missing"
    assert cleared.data["lasted_s"] == pytest.approx(659.0, abs=2.0)


def test_a_fault_that_passes_is_shown_and_not_mailed() -> None:
    site = Site()
    site.run(30)
    for _ in range(20):
        site.tell(PartFailed("store", "store_full", site.now_s))
        site.run(30)
        site.tell(PartWorks("store", site.now_s))
        site.run(30)
    assert site.told == []


@pytest.mark.parametrize("boot", ["boot0000", "boot-before"])
@pytest.mark.parametrize("lasts", [True, False])
def test_a_fault_told_by_a_former_run_is_not_told_again_and_its_end_is_clause_n6(boot: str, lasts: bool) -> None:
    site = Site()
    told = {"store_full": Told("fault-store_full-1", Instant(10.0, boot, 1.7e9, "synced"))}
    site.state = first_state(site.settings, Kept(boot, Place(path="primary"), told=told), "boot0000")
    site.told.clear()
    site.run(10)
    if lasts:
        site.tell(PartFailed("store", "store_full", site.now_s))
    site.run(CARRIED_S - 20)
    assert site.told == []  # nothing says yet that it is over
    site.run(1000)
    ended = [(notice.kind, notice.incident) for _, notice in site.told]
    assert ended == ([] if lasts else [("cleared", "fault-store_full-1")])
    site.tell(PartWorks("store", site.now_s))
    assert [notice.kind for _, notice in site.told] == ["cleared"]


@pytest.mark.parametrize("lasts", [False, True])
def test_a_fault_that_a_slow_disk_tells_of_late_is_ended_too_clause_n6(lasts: bool) -> None:
    site = Site()
    site.run(CARRIED_S + 100)
    told = {"store_full": Told("fault-store_full-1", Instant(10.0, "boot-1", 1.7e9, "synced"))}
    if lasts:
        site.tell(PartFailed("store", "store_full", site.now_s))
    site.state = reminded(site.state, Kept("boot-1", Place(path="primary"), told=told), site.settings, "boot0000")
    site.run(CARRIED_S - 20)
    assert site.told == []
    site.run(1000)
    ended = [(notice.kind, notice.incident) for _, notice in site.told]
    assert ended == ([] if lasts else [("cleared", "fault-store_full-1")])


def test_an_incident_that_was_open_when_the_power_went_is_ended_by_the_next_boot_clause_n1() -> None:
    site = Site()
    left = Departure("lte", Instant(500.0, "boot-before", 1.7e9, "synced"))
    place = Place("away", "lte", 500.0, "i1", cause="probes", left=left)
    site.state = first_state(site.settings, Kept("boot-before", place), "boot0000")
    site.told.clear()
    site.run(10)
    assert site.told == []  # whether it is over is not known before the router was asked
    site.tell(LeasesSeen((), site.now_s))
    site.run(10)
    restored = [notice for _, notice in site.told if notice.kind == "restored"]
    assert [notice.incident for notice in restored] == ["i1", "i1"]
    assert restored[0].data["moved_wall"] == 1.7e9
    assert restored[0].data["path"] == "lte"


def test_every_fault_that_an_adapter_names_is_in_the_catalogue() -> None:
    named = set(store_errors.FAULTS.values()) | {"store_failed", f"router_version_{versions.UNLISTED}"}
    named |= {f"router_version_{versions.UNTESTED}", "store_set_aside", "mail_unusable", "mail_too_old"}
    for module in (router_errors, probe_errors, mail):
        for _, one in inspect.getmembers(module, inspect.isclass):
            fault = getattr(one, "fault", None)
            if isinstance(fault, str):
                named.add(fault)
    named.add(router_errors.RouterTrap("/x", "not enough permissions (9)", None).fault)
    named.add(router_errors.RouterTrap("/x", "no", None).fault)
    named.add(mail.MailRefused("login", 535, "no").fault)
    named.add(mail.MailRefused("data", 550, "no").fault)
    named.add(mail.MailUnreachable("certificate", "no").fault)
    assert named <= CATALOGUE.keys()
    assert {"router_policy_missing", "mail_login_refused", "mail_refused", "mail_untrusted", "alias_missing"} <= named


@pytest.mark.parametrize(
    ("version", "standing"),
    [
        ("6.49.17 (long-term)", "known"),
        ("6.48.6", "unlisted"),
        ("7.11.2", "unlisted"),
        ("7.12", "known"),
        ("7.22.3 (stable)", "known"),
        ("7.40", "untested"),
        ("8.0", "unlisted"),
        ("7.1beta", "unlisted"),
        ("", "unlisted"),
        ("nonsense", "unlisted"),
    ],
)
def test_versions_of_routeros(version: str, standing: str) -> None:
    assert versions.standing(version) == standing
