"""Rows seen and a site give sentences: the cases are data, in ``cases/``. Leases have tables of their own below."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeagent.config.site import Site, parse
from edgeagent.core.facts import Lease
from edgeagent.daemon.survey import wish
from edgeagent.routeros import sentences
from edgeagent.routeros.adopted import EVERYWHERE as ADOPTED
from edgeagent.routeros.adopted import Changes, Setting, adopting, giving_back, no_longer, settings
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import LeaseChanges, Remove, Set, lease_changes, removal_changes, ruleset_changes
from edgeagent.routeros.rows import Dialect, Row
from edgeagent.routeros.ruleset import build, menus
from edgeagent.routeros.values import same
from tests.agent.support import board, table

CASES = Path(__file__).parent / "cases"
DIALECTS: dict[str, Dialect] = {"6.49": DialectV6(), "7.22": DialectV7()}
Seen = dict[str, list[dict[str, str]]]
NONE = Changes([], [])


def site(changed: dict[str, Any] | None = None) -> Site:
    """The good site; ``changed``: values by the full name of their key, None takes one out."""
    found = table()
    for key, value in (changed or {}).items():
        *where, last = key.split(".")
        into = found
        for name in where:
            into = into.setdefault(name, {})
        if value is None:
            del into[last]
        else:
            into[last] = value
    return parse(found, "site.toml")


def rows(version: str, case: dict[str, Any] | None = None) -> list[Row]:
    """What the good site wants, or that of a case, of a router as it is found there."""
    case = case or {}
    known = replace(board(DIALECTS[version]), **case.get("board", {}))
    return build(wish(site(case.get("site")), known), DIALECTS[version])


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
    changes = ruleset_changes(rows(case["router"], case), seen_of(case))
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
    assert place("in-lte-voice") < place("in-lte-rest") < place("jump-in-lte")


@pytest.mark.parametrize("version", list(DIALECTS))
def test_names_are_unique_and_probes_are_let_out_before_any_lease_clause_p10(version: str) -> None:
    found = rows(version)
    assert len({(row.menu, row.comment) for row in found}) == len(found)
    prerouting = [row.name for row in found if row.attributes.get("chain") == "prerouting"]
    assert prerouting[0] == "probes"


@pytest.mark.parametrize("version", list(DIALECTS))
@pytest.mark.parametrize("how", ["remove", "canaries gone"])
def test_the_native_routes_go_in_an_order_that_leaves_voice_on_the_primary_clause_p2(version: str, how: str) -> None:
    """In whatever order the router prints them: the unchecked ones, then the primary's, then the canaries."""
    random_order = random.Random(how)
    for _ in range(20):
        seen = {menu: list(found) for menu, found in seen_of(case_of(f"provisioned-{version}")).items()}
        random_order.shuffle(seen["/ip/route"])
        order = menus(rows(version))
        kept = [row for row in rows(version) if not row.name.startswith(("native-", "canary-", "flush"))]
        changes = removal_changes(seen, order) if how == "remove" else ruleset_changes(kept, seen)
        names = {row[".id"]: row["comment"] for row in seen["/ip/route"] if row.get("comment")}
        gone = [names[one.row_id] for one in changes if isinstance(one, Remove) and one.menu == "/ip/route"]
        routes = [one for one in gone if ":native-" in one or ":canary-" in one]
        assert [one.split(":")[1][:10] for one in routes] == [*["native-lte"], *["native-wan"] * 2, *["canary-127"] * 2]


@pytest.mark.parametrize("how", ["remove", "leftover"])
def test_a_routing_table_goes_after_the_routes_in_it(how: str) -> None:
    seen = seen_of(case_of("provisioned-7.22"))
    kept = [row for row in rows("7.22") if "edge-lte" not in row.attributes.values()]
    changes = removal_changes(seen, menus(rows("7.22"))) if how == "remove" else ruleset_changes(kept, seen)
    gone = [one.menu for one in changes if isinstance(one, Remove)]
    assert gone.count("/routing/table") == (2 if how == "remove" else 1)
    for menu in ("/ip/route", "/routing/rule", "/ip/firewall/mangle"):
        assert menu in gone
        assert gone.index("/routing/table") > len(gone) - 1 - gone[::-1].index(menu)


@pytest.mark.parametrize("version", list(DIALECTS))
def test_a_backup_has_an_address_only_while_the_lan_is_kept_from_its_network_clause_m1(version: str) -> None:
    case = case_of(f"fresh-dhcp-and-names-{version}")
    wanted = rows(version, case)
    jumps = [place for place, row in enumerate(wanted) if row.name in ("jump-out-lte", "jump-in-lte")]
    (client,) = [place for place, row in enumerate(wanted) if row.name == "dhcp-lte"]
    assert len(jumps) == 2
    assert max(jumps) < client
    seen: Seen = {}
    for number, row in enumerate(wanted):
        seen.setdefault(row.menu, []).append({**row.attributes, ".id": f"*{number:X}", "comment": row.comment})
    gone = [one.row_id for one in removal_changes(seen, menus(wanted)) if isinstance(one, Remove)]
    assert gone.index(f"*{client:X}") < min(gone.index(f"*{jump:X}") for jump in jumps)


def test_power_is_taken_only_from_a_port_that_can_send_it() -> None:
    """An RB2011 sends it out of ether10 alone: the word means nothing to its other ports."""
    wanted = wish(site({"path.lte.interface": "ether5"}), board(DIALECTS["7.22"]))
    for poe, count in ((("ether10",), 0), ((), 0), (("ether5", "ether10"), 1)):
        found = settings(wanted, DIALECTS["7.22"], poe=poe)
        assert sum(one.attribute == "poe-out" for one in found) == count


@pytest.mark.parametrize("version", list(DIALECTS))
def test_the_job_that_moves_phones_goes_first_of_all(version: str) -> None:
    seen = seen_of(case_of(f"provisioned-{version}"))
    first = removal_changes(seen, menus(rows(version)))[0]
    assert isinstance(first, Remove)
    assert first.menu == "/system/scheduler"


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
    Lease("edge-alive", "0.0.0.0/0"),
    Lease("edge-lte-phone", "a"),
)


@pytest.mark.parametrize(
    ("wanted", "held", "expected"),
    [
        ([], {}, LeaseChanges((), ())),
        ([ALIVE], {}, LeaseChanges((ALIVE,), ())),
        ([ALIVE], {ALIVE: "*1"}, LeaseChanges((), ())),
        ([ALIVE, SITE_LEASE, PHONE], {}, LeaseChanges((ALIVE, SITE_LEASE, PHONE), ())),  # who leads comes first
        ([ALIVE, SITE_LEASE, PHONE], {ALIVE: "*1"}, LeaseChanges((SITE_LEASE, PHONE), ())),
        ([PHONE, ALIVE], {SITE_LEASE: "*2", ALIVE: "*1"}, LeaseChanges((PHONE,), ("*2",))),
        ([], {SITE_LEASE: "*2"}, LeaseChanges((), ("*2",))),
    ],
)
def test_leases_are_added_and_given_back(wanted: list[Lease], held: dict[Lease, str], expected: LeaseChanges) -> None:
    assert lease_changes(wanted, held) == expected


def test_a_lease_is_one_sentence_and_is_renewed_by_set_alone_clause_p2() -> None:
    assert sentences.lease_add(SITE_LEASE, "site-7") == [
        "/ip/firewall/address-list/add",
        "=list=edge-lte-site",
        "=address=0.0.0.0/0",
        "=timeout=60s",
        "=comment=edgeagent:site-7",
    ]
    renewal = ["/ip/firewall/address-list/set", "=.id=*1,*2", "=timeout=60s"]
    assert sentences.leases_renew(["*1", "*2"], 60) == renewal
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
    assert changes == Changes([], [Set(TIMER.menu, "", {"udp-timeout": "3m"})])
    assert former == {TIMER.key: "10s"}
    assert adopting({TIMER: ("", "00:03:00")}) == (NONE, {})
    assert giving_back({TIMER: ("", "3m")}, former) == Changes([Set(TIMER.menu, "", {"udp-timeout": "10s"})], [])
    assert giving_back({TIMER: ("", "10s")}, former) == NONE
    assert giving_back({TIMER: ("", "3m")}, {}) == NONE


def test_a_port_is_freed_before_and_given_back_after_our_rows_stand_on_it() -> None:
    port = Setting("/interface/bridge/port", "ether5", "disabled", "yes", by="interface", early=True)
    changes, former = adopting({port: ("*3", "false")})
    assert changes == Changes([Set(port.menu, "*3", {"disabled": "yes"})], [])
    assert giving_back({port: ("*3", "true")}, former) == Changes([], [Set(port.menu, "*3", {"disabled": "false"})])


def test_a_script_is_put_beside_the_owners_and_leaves_it_as_it_is_then() -> None:
    client = Setting("/ip/dhcp-client", "ether1", "script", ":log info 2", by="interface", beside=True)
    changes, former = adopting({client: ("*1", ":log info 1")})
    (change,) = changes.after
    put = change.attributes["script"]
    assert put.splitlines() == [":log info 1", "# edgeagent: from here", ":log info 2", "# edgeagent: to here"]
    assert adopting({client: ("*1", put)}) == (NONE, {})
    assert former == {client.key: ":log info 1"}
    later = put.replace("info 1", "info 3") + "\n:log info 4"
    assert giving_back({client: ("*1", later)}, former) == Changes(
        [Set(client.menu, "*1", {"script": ":log info 3\n:log info 4"})], []
    )
    assert adopting({client: ("*1", "")})[0].after[0].attributes["script"].startswith("# edgeagent: from here")


def test_our_part_of_a_script_goes_whatever_is_remembered() -> None:
    client = Setting("/ip/dhcp-client", "ether1", "script", ":log info 2", by="interface", beside=True)
    put = client.wanted(":log info 1")
    assert giving_back({client: ("*1", put)}, {}) == Changes([Set(client.menu, "*1", {"script": ":log info 1"})], [])
    assert giving_back({client: ("*1", ":log info 1")}, {}) == NONE


def test_discovery_is_only_kept_off_backups_where_it_goes_everywhere() -> None:
    discovery = Setting(
        "/ip/neighbor/discovery-settings", None, "discover-interface-list", "!edge-backups", only=("all",)
    )
    assert adopting({discovery: ("", "all")})[0].after
    assert adopting({discovery: ("", "LAN")}) == (NONE, {})


def test_a_setting_that_today_s_site_does_not_adopt_is_known_by_its_key() -> None:
    former = {
        "/interface/bridge/port[ether5].disabled": "false",
        "/interface/ethernet[ether5].poe-out": "auto-on",
        "/ip/dhcp-client[ether1].script": ":log info 1",
        TIMER.key: "10s",
        "/ip/service[api-ssl].address": "",
        "no key of ours": "x",
    }
    left = {setting.key: setting for setting in no_longer(former, [TIMER])}
    assert left.keys() == former.keys() - {TIMER.key, "/ip/service[api-ssl].address", "no key of ours"}
    port = left["/interface/bridge/port[ether5].disabled"]
    assert giving_back({port: ("*3", "true")}, former) == Changes([], [Set(port.menu, "*3", {"disabled": "false"})])
    script = left["/ip/dhcp-client[ether1].script"]
    put = adopting({Setting(script.menu, "ether1", "script", "x", by="interface", beside=True): ("*1", ":log info 1")})[
        0
    ]
    value = put.after[0].attributes["script"]
    assert giving_back({script: ("*1", value)}, former).before[0].attributes == {"script": ":log info 1"}
