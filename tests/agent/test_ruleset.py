"""Rows seen and a site give sentences: the cases are data, in ``cases/``. Leases have tables of their own below."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli.provision import wish
from edgeagent.config.site import Site, parse
from edgeagent.core.facts import Lease
from edgeagent.routeros import sentences
from edgeagent.routeros.adopted import ADOPTED, adopting, giving_back
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import LeaseChanges, Set, lease_changes, ruleset_changes, same
from edgeagent.routeros.ruleset import Dialect, Row, build
from tests.agent.support import LTE, WAN, table

CASES = Path(__file__).parent / "cases"
DIALECTS: dict[str, Dialect] = {"6.49": DialectV6(), "7.22": DialectV7()}
Seen = dict[str, list[dict[str, str]]]


def site() -> Site:
    return parse(table(), "site.toml")


def rows(version: str) -> list[Row]:
    return build(wish(site(), {"primary": WAN, "lte": LTE}), DIALECTS[version])


def case_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CASES / f"{name}.json").read_text())
    return found


def seen_of(case: dict[str, Any]) -> Seen:
    """The rows of a case, or those of another one with a few edits."""
    if "seen" in case:
        given: Seen = case["seen"]
        return given
    seen = seen_of(case_of(case["start"]))
    for edit in case["edits"]:
        menu = seen[edit["menu"]]
        place = {row[".id"]: index for index, row in enumerate(menu)}
        if "delete" in edit:
            del menu[place[edit["delete"]]]
        elif "set" in edit:
            menu[place[edit["set"]]].update(edit["to"])
        elif "unset" in edit:
            for name in edit["names"]:
                del menu[place[edit["unset"]]][name]
        elif "move" in edit:
            menu.insert(edit["at"], menu.pop(place[edit["move"]]))
        else:
            menu.insert(edit["at"], edit["insert"])
    return seen


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.json")))
def test_rows_seen_give_exactly_these_sentences(name: str) -> None:
    case = case_of(name)
    assert case["about"]
    assert name.endswith(case["router"])
    changes = ruleset_changes(rows(case["router"]), seen_of(case))
    assert [sentences.of_change(change) for change in changes] == case["sentences"]


def test_each_case_is_told_for_both_versions() -> None:
    names = [path.stem.rpartition("-") for path in CASES.glob("*.json")]
    assert {name for name, _, router in names if router == "6.49"} == {name for name, _, r in names if r == "7.22"}


@pytest.mark.parametrize("version", list(DIALECTS))
def test_each_prefix_of_a_fresh_start_leaves_voice_a_route_clause_p2(version: str) -> None:
    """What steers comes after what it needs: tables and their routes, lists, the pass for probes, the way out."""
    names = [row.name for row in rows(version)]

    def place(name: str) -> int:
        return names.index(name)

    for steer in (name for name in names if name.startswith(("pin-", "phone-", "site-"))):
        for needed in ("default-edge-wan", "default-edge-lte", "out-lte", "out-lte-voice", "probes", "born-lte"):
            assert place(needed) < place(steer)
    assert place("probe-lte") > place("default-edge-lte")
    assert place("out-lte-voice") < place("out-lte-rest") < place("jump-out-lte")
    assert place("in-lte-known") < place("in-lte-rest") < place("jump-in-lte")


@pytest.mark.parametrize("version", list(DIALECTS))
def test_names_are_unique_and_probes_are_let_out_before_any_lease_clause_p10(version: str) -> None:
    found = rows(version)
    assert len({(row.menu, row.comment) for row in found}) == len(found)
    prerouting = [row.name for row in found if row.attributes.get("chain") == "prerouting"]
    assert prerouting[0] == "probes"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("yes", "true", True),
        ("no", "false", True),
        ("yes", "no", False),
        ("", "true", True),
        ("", "yes", True),
        ("3m", "180s", True),
        ("3m", "00:03:00", True),
        ("1d1h", "1d 01:00:00", True),
        ("1w", "7d", True),
        ("3m", "3m1s", False),
        ("5060,5061", "5061,5060", True),
        ("192.0.2.1/32", "192.0.2.1", True),
        ("192.0.2.0/24", "192.0.2.0", False),
        ("254", "254", True),
        ("1", "true", False),
    ],
)
def test_spellings_are_compared_by_meaning(one: str, other: str, alike: bool) -> None:
    assert same(one, other) is alike
    assert same(other, one) is alike


# Leases

SITE_LEASE, ALIVE, PHONE = (
    Lease("edge-lte-site", "0.0.0.0/0"),
    Lease("edge-alive", "127.0.0.1"),
    Lease("edge-lte-phone", "a"),
)


@pytest.mark.parametrize(
    ("wanted", "held", "renew", "expected"),
    [
        ([], {}, True, LeaseChanges((), (), ())),
        ([ALIVE], {}, True, LeaseChanges((ALIVE,), (), ())),
        ([ALIVE], {ALIVE: "*1"}, False, LeaseChanges((), (), ())),
        ([ALIVE], {ALIVE: "*1"}, True, LeaseChanges((), ("*1",), ())),
        ([SITE_LEASE, ALIVE], {ALIVE: "*1"}, True, LeaseChanges((SITE_LEASE,), ("*1",), ())),
        ([PHONE, ALIVE], {SITE_LEASE: "*2", ALIVE: "*1"}, True, LeaseChanges((PHONE,), ("*1",), ("*2",))),
        ([], {SITE_LEASE: "*2"}, True, LeaseChanges((), (), ("*2",))),
    ],
)
def test_leases_are_added_renewed_and_given_back(
    wanted: list[Lease], held: dict[Lease, str], renew: bool, expected: LeaseChanges
) -> None:
    assert lease_changes(wanted, held, renew=renew) == expected


def test_a_lease_is_one_sentence_and_is_renewed_by_set_alone_clause_p2() -> None:
    assert sentences.lease_add(SITE_LEASE, "site-7") == [
        "/ip/firewall/address-list/add",
        "=list=edge-lte-site",
        "=address=0.0.0.0/0",
        "=timeout=1m",
        "=comment=edgeagent:site-7",
    ]
    renewal = ["/ip/firewall/address-list/set", "=.id=*1,*2", "=timeout=1m"]
    assert sentences.leases_renew(["*1", "*2"]) == renewal
    assert sentences.leases_remove(["*1", "*2"]) == ["/ip/firewall/address-list/remove", "=.id=*1,*2"]


def test_a_question_for_any_of_several_values_is_one_query() -> None:
    assert sentences.flows_print(["a", "b", "c"])[2:] == [
        "?connection-mark=a",
        "?connection-mark=b",
        "?connection-mark=c",
        "?#|",
        "?#|",
    ]
    assert sentences.leases_print(["a"])[2:] == ["?list=a"]


# Adopted settings

TIMER = ADOPTED[0]


def test_a_setting_is_adopted_once_and_given_back_as_it_was_clause_p4() -> None:
    changes, former = adopting({TIMER: ("", "10s")})
    assert changes == [Set(TIMER.menu, "", {"udp-timeout": "3m"})]
    assert former == {TIMER.key: "10s"}
    assert adopting({TIMER: ("", "00:03:00")}) == ([], {})
    assert giving_back({TIMER: ("", "3m")}, former) == [Set(TIMER.menu, "", {"udp-timeout": "10s"})]
    assert giving_back({TIMER: ("", "10s")}, former) == []
    assert giving_back({TIMER: ("", "3m")}, {}) == []
