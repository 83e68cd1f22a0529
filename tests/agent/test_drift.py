"""The watch for hand edits against the virtual router, with the whole daemon around it; two agents at one router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeagent.cli import provision
from edgeagent.cli.status import lines
from edgeagent.config.site import Site, Voice, parse, resolved
from edgeagent.core import orders
from edgeagent.core.facts import DriftSeen, Fact, Finding
from edgeagent.daemon import actuator, memory, survey, wiring
from edgeagent.daemon import drift as module
from edgeagent.daemon.memory import FORMER
from edgeagent.daemon.wiring import Daemon
from edgeagent.routeros import adopted, approval, drift
from edgeagent.routeros.approval import Agreed, Approval
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.rows import Dialect, Row, Wish
from edgeagent.routeros.ruleset import build
from edgeagent.routeros.sentences import of_change
from edgeagent.routeros.session import Session
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.store import Store
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import (
    PASSWORD,
    REGISTRAR,
    USER,
    Rig,
    agent,
    board,
    owners_router,
    rig,
    run,
    site_at,
    table,
    until,
)
from tests.agent.test_provision import provisioned

pytestmark = pytest.mark.slow

FILTER, MANGLE, NAT = "/ip/firewall/filter", "/ip/firewall/mangle", "/ip/firewall/nat"
TRACKING = "/ip/firewall/connection/tracking"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_S", 0.5)
    monkeypatch.setattr(module, "AGAIN_S", 0.2)
    monkeypatch.setattr(actuator, "AGAIN_S", 0.1)
    monkeypatch.setattr(orders, "SWITCHING_S", 0.0)  # the place counts from the first contact


def number(on: Rig, menu: str, name: str) -> str:
    return next(row[".id"] for row in on.rows(menu) if row.get("comment") == f"edgeagent:{name}")


def standing(on: Rig, site: Site) -> dict[str, list[dict[str, str]]]:
    """Our rows as they stand, in order, by menu."""
    del site
    menus = (FILTER, MANGLE, NAT, "/ip/route", "/ip/firewall/address-list", "/system/scheduler", "/queue/simple")
    return {
        menu: [{key: value for key, value in row.items() if key not in (".id", "creation-time")} for row in found]
        for menu in menus
        if (found := [row for row in on.rows(menu) if row["dynamic"] != "true"]) is not None
    }


def found(daemon: Daemon) -> list[tuple[str, str]]:
    return [
        (str(event.data["thing"]), str(event.data["found"]))
        for event in daemon.loop.events
        if event.kind == "drift found" and "thing" in event.data
    ]


async def quiet(daemon: Daemon) -> None:
    """All was looked at and nothing differs."""
    await until(lambda: daemon.loop.state.guard.provisioned is True and not daemon.loop.state.guard.open)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_kind_of_edit_is_named_and_put_right_to_the_letter(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            before = standing(on, site)
            async with agent(site) as daemon:
                await quiet(daemon)
                await asyncio.sleep(1.5)
                assert not found(daemon), "nothing differs, and nothing is found"
                written = len(on.heard())
                await on.do(f"{MANGLE}/remove", f"=.id={number(on, MANGLE, 'born-lte')}")
                await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                await on.do(f"{FILTER}/set", f"=.id={number(on, FILTER, 'unasked-wan')}", "=action=accept")
                await on.do(f"{FILTER}/set", f"=.id={number(on, FILTER, 'out-lte-rest')}", "=src-address=192.0.2.7")
                await on.do(f"{FILTER}/add", "=chain=forward", "=action=drop", "=comment=edgeagent:nobody")
                copy = "=comment=edgeagent:out-lte"
                await on.do(f"{NAT}/add", "=chain=srcnat", "=action=masquerade", "=out-interface=ether5", copy)
                await on.do(f"{MANGLE}/move", f"=numbers={number(on, MANGLE, 'probes')}")
                await on.do(f"{TRACKING}/set", "=udp-timeout=10s")
                await on.do("/ip/route/set", f"=.id={number(on, '/ip/route', 'default-edge-lte')}", "=distance=9")
                await until(lambda: daemon.loop.state.guard.mended == 9)
                await quiet(daemon)
                assert sorted(found(daemon)) == sorted(
                    [
                        (f"{MANGLE} born-lte", drift.DELETED),
                        (f"{FILTER} voice-out", drift.DISABLED),
                        (f"{FILTER} unasked-wan", drift.CHANGED),
                        (f"{FILTER} out-lte-rest", drift.ADDED),
                        (f"{FILTER} nobody", drift.UNKNOWN),
                        (f"{NAT} out-lte", drift.DUPLICATED),
                        (f"{MANGLE} order", drift.REORDERED),
                        (f"{TRACKING}[].udp-timeout", drift.SETTING),
                        ("/ip/route default-edge-lte", drift.CHANGED),
                    ]
                )
                assert standing(on, site) == before
                flushed = [words for words in on.heard()[written:] if words[0].startswith("/ip/firewall/connection/r")]
                assert not flushed, "no call is cut"

    run(test)


def test_what_is_edited_again_is_left_and_named_clause_p7(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await quiet(daemon)
                for times in (1, 2):
                    await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                    await until(lambda times=times: len(found(daemon)) == times)  # type: ignore[misc]
                    await until(lambda times=times: daemon.loop.state.guard.mended == 1 or times == 2)  # type: ignore[misc]
                await until(lambda: "router_rows_fought_over" in daemon.loop.state.faults.raised)
                await asyncio.sleep(1.0)
                row = next(row for row in on.rows(FILTER) if row.get("comment") == "edgeagent:voice-out")
                assert row["disabled"] == "true"
                shown = "\n".join(lines(json.loads(json.dumps(daemon.document()))))
                assert f"{FILTER} voice-out: disabled (disabled: yes, wanted no); left as it is" in shown
                assert "router_rows_fought_over" in shown

    run(test)


def test_a_router_without_our_rows_is_named_and_not_written_to(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on, agent(site_at(tmp_path, on.port)) as daemon:
            await until(lambda: "router_unprovisioned" in daemon.loop.state.faults.raised)
            await asyncio.sleep(1.0)
            assert not any(row.get("comment", "").startswith("edgeagent:") for row in on.rows(FILTER))

    run(test)


def test_what_was_taken_away_by_command_is_not_put_back_and_what_is_put_there_is_watched(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await quiet(daemon)
                await provisioned(site, "remove")
                await until(lambda: "router_unprovisioned" in daemon.loop.state.faults.raised)
                assert not any(row.get("comment", "").startswith("edgeagent:") for row in on.rows(FILTER))
                await provisioned(site, "apply")
                await until(lambda: daemon.loop.state.guard.provisioned is True)
                await quiet(daemon)
                assert "router_unprovisioned" not in daemon.loop.state.faults.raised

    run(test)


def test_rows_that_are_all_gone_are_one_finding_and_come_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            before = standing(on, site)
            kept = json.loads(json.dumps(on.router.store.dump()))
            await provisioned(site, "remove")
            bare = on.router.store.dump()
            on.router.store.load_dump(kept)
            await provisioned(site, "apply")
            on.router.store.load_dump(bare)
            async with agent(site) as daemon:
                await until(lambda: daemon.loop.state.guard.mended == 1)
                await quiet(daemon)
                assert found(daemon) == [(drift.EVERYTHING, drift.GONE)]
                assert standing(on, site) == before

    run(test)


def test_what_the_router_refuses_is_a_fault_and_the_rest_is_done_all_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await quiet(daemon)
                on.strike("trap", f"{MANGLE}/add", message="failure: no")
                await on.do(f"{MANGLE}/remove", f"=.id={number(on, MANGLE, 'born-lte')}")
                await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                await until(lambda: "router_rows_fought_over" in daemon.loop.state.faults.raised)
                await until(lambda: all(row["disabled"] == "false" for row in on.rows(FILTER)))
                await until(lambda: "rows" in daemon.loop.state.troubles)
                await on.do("/ip/firewall/mangle/print")
                on.router.misbehaviour.clear(None)
                await provisioned(site, "apply")
                await quiet(daemon)
                await until(lambda: "rows" not in daemon.loop.state.troubles)

    run(test)


def test_a_setting_without_a_kept_former_value_is_kept_before_it_is_changed_clause_p4(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            path = Path(site.state_folder) / "store.db"
            store = await Store.open(path)
            await store.commit([], keep={FORMER: b"{}"})
            await store.close()
            async with agent(site) as daemon:
                await quiet(daemon)
                await on.do(f"{TRACKING}/set", "=udp-timeout=25s")
                await until(lambda: on.router.store.single(TRACKING)["udp-timeout"] == "3m")
                assert daemon.loop.store is not None
                assert json.loads(await daemon.loop.store.kept(FORMER) or b"") == {f"{TRACKING}[].udp-timeout": "25s"}

    run(test)


def test_while_a_person_provisions_the_agent_keeps_its_hands_off(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await quiet(daemon)
                person = Exclusive(site.state_folder)
                assert await person.take()
                await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                await until(lambda: len(found(daemon)) == 1)
                await asyncio.sleep(1.0)
                assert any(row["disabled"] == "true" for row in on.rows(FILTER))
                await person.close()
                await until(lambda: all(row["disabled"] == "false" for row in on.rows(FILTER)))
                assert not daemon.loop.state.guard.left, "waiting is no fight"

    run(test)


def test_only_one_of_two_agents_leads_and_the_other_takes_over_clause_p7(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            beside = tmp_path / "other"
            other = replace(site, id="site-8", state_folder=str(beside), control_socket=str(beside / "socket"))
            async with agent(other) as second:
                async with agent(site) as first:
                    await until(lambda: bool(leaders(on)))
                    leader = leaders(on)[0]
                    led, leads = (second, first) if leader == "edgeagent:site-7" else (first, second)
                    await until(lambda: bool(led.loop.state.guard.other))
                    await asyncio.sleep(1.0)
                    assert leaders(on) == [leader]
                    assert not leads.loop.state.guard.other
                    assert led.loop.state.guard.other == leader.removeprefix("edgeagent:")
                if led is second:
                    row = next(row for row in on.rows("/ip/firewall/address-list") if row["list"] == "edge-alive")
                    await on.do("/ip/firewall/address-list/remove", f"=.id={row['.id']}")  # as if it had lapsed
                await until(lambda: leaders(on) == ["edgeagent:site-8"])
                assert not second.loop.state.guard.other

    run(test)


def leaders(on: Rig) -> list[str]:
    return [row.get("comment", "") for row in on.rows("/ip/firewall/address-list") if row["list"] == "edge-alive"]


def test_a_value_is_told_on_one_line_and_not_whole() -> None:
    assert drift.short("a\n\tb\x00c") == "a b c"
    assert len(drift.short("x" * 1000)) == drift.TEXT_MAX
    assert drift.outdated([Finding("a", "x"), Finding("b", "x")], {"a"})[1].by_us


def test_a_device_that_is_written_down_changes_nothing_that_was_found_in_its_menu() -> None:
    dialect = DialectV7()
    lists = "/ip/firewall/address-list"
    wanted_of = survey.wish(parse(table(), "site.toml"), board(dialect))
    wanted = build(wanted_of, dialect)
    rows = [
        {".id": f"*{place:X}", **row.attributes, "comment": row.comment}
        for place, row in enumerate(wanted, 1)
        if row.menu == lists
    ]
    device = {".id": "*77", "list": "edge-phones", "address": "10.0.0.9", "comment": "edgeagent:edge-phones/10.0.0.9"}
    unknown = {".id": "*78", "list": "edge-phones", "address": "10.0.0.8", "comment": "edgeagent:by-hand"}

    def found(*more: dict[str, str]) -> int:
        return len(module.RowsWatch._found_in({lists: [*rows, *more]}, Agreed(wanted, {}), lists))

    assert (found(), found(device), found(unknown)) == (0, 0, 1)


def test_a_menu_that_the_router_does_not_show_costs_nobody_else_the_reader(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            on.strike("trap", "/queue/simple/print")

            def opened() -> int:
                return on.events.read_text().count('"session_opened"')

            async with agent(site) as daemon:
                watch = daemon.router.rows
                assert watch is not None
                await until(lambda: watch.put_off_s > 0)
                begun, before = len(on.heard()), opened()

                def read() -> int:
                    return sum(words[0] == "/ip/firewall/connection/print" for words in on.heard()[begun:])

                await until(lambda: read() > 0)
                assert watch.due_s() - watch.now() > module.TROUBLE_S / 2
                assert opened() == before, "no connection was opened anew"

    run(test)


def test_a_way_out_that_is_gone_blinds_where_probes_go_by_it() -> None:
    """On the primary they have a row of their own; on a backup all goes by one."""
    dialect = DialectV7()
    wanted = build(survey.wish(parse(table(), "site.toml"), board(dialect)), dialect)
    seen = {menu: [row for row in wanted if row.menu == menu] for menu in dict.fromkeys(row.menu for row in wanted)}

    def blinds(gone: Row) -> bool:
        left = {
            menu: [{".id": f"*{row.name}", **row.attributes, "comment": row.comment} for row in rows if row is not gone]
            for menu, rows in seen.items()
        }
        (finding,) = drift.difference(wanted, left, {}).findings
        assert (finding.thing, finding.kind) == (f"{NAT} {gone.name}", drift.DELETED)
        return finding.blinds

    assert {row.name: blinds(row) for row in seen[NAT]} == {
        "voice-out-wan": False,
        "probes-out-wan": True,
        "out-lte": True,
    }


# What was applied, and what is wanted since (rule 5 of core/guard.py)


PORT = "/interface/bridge/port"
WRITING = ("add", "set", "remove", "move", "unset", "enable", "disable")


def owners(version: Version) -> Initial:
    """Ether4 is a port of the LAN, and of the list WAN all the same."""
    rules = owners_router(version)
    rules[PORT] = [{"bridge": "bridge", "interface": "ether4"}]
    rules["/interface/list/member"].append({"list": "WAN", "interface": "ether4"})
    return rules


def with_lte(site: Site, **other: Any) -> Site:
    return replace(site, paths=(site.paths[0], replace(site.paths[1], **other)))


def on_another_port(site: Site) -> Site:
    return with_lte(site, interface="ether4")


def with_more_of_the_provider(site: Site) -> Site:
    more = replace(site.provider, further_prefixes=("203.0.113.128/25",))
    return replace(site, provider=more, voice=replace(site.voice, lans=("192.168.20.0/24",)))


def changing(on: Rig, since: int) -> list[list[str]]:
    """Changing sentences, those for timed entries excepted."""
    return [
        words
        for words in on.heard()[since:]
        if words[0].rpartition("/")[2] in WRITING and not any(word.startswith("=timeout=") for word in words)
    ]


def mails(daemon: Daemon) -> list[str]:
    return [str(event.data["kind"]) for event in daemon.loop.events if event.kind == "notice"]


def raised(daemon: Daemon, code: str = "router_rules_not_applied") -> bool:
    return code in daemon.loop.state.faults.raised


async def rounds(daemon: Daemon, count: int) -> None:
    """So many times all menus are read anew."""
    watch = daemon.rows
    for _ in range(count):
        questions = watch.questions
        await until(lambda questions=questions: watch.questions is not questions)  # type: ignore[misc]


async def edited_and_put_right(on: Rig, daemon: Daemon, name: str) -> None:
    """The control: the watch does see and write, and tells it."""
    before, told = daemon.loop.state.guard.mended, len(mails(daemon))
    await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, name)}")
    await until(lambda: daemon.loop.state.guard.mended == before + 1)
    assert all(row["disabled"] == "false" for row in on.rows(FILTER))
    assert mails(daemon)[told:] == ["drifted"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("changed", [on_another_port, with_more_of_the_provider])
def test_what_site_toml_wants_since_is_a_persons_to_apply_clauses_p4_p7_n6(
    changed: Callable[[Site], Site], version: Version, tmp_path: Path
) -> None:
    async def test() -> None:
        async with rig(tmp_path, version, owners(version)) as on:
            former = site_at(tmp_path, on.port)
            site = changed(former)
            await provisioned(former, "apply")
            before, ports, begun = standing(on, site), on.rows(PORT), len(on.heard())
            async with agent(site) as daemon:
                await until(lambda: raised(daemon))
                await rounds(daemon, 3)
                assert changing(on, begun) == []
                assert not daemon.loop.state.guard.open
                assert mails(daemon) == []
                shown = "\n".join(lines(json.loads(json.dumps(daemon.document()))))
                assert "wanted otherwise than was applied; left as it is" in shown
                assert "edgeagent provision --plan, then --apply" in shown
                await edited_and_put_right(on, daemon, "unasked-wan")
                assert (standing(on, site), on.rows(PORT)) == (before, ports)
                if changed is on_another_port:
                    await provisioned(site, "plan", 2)
                    member = next(row for row in on.rows("/interface/list/member") if row["interface"] == "ether4")
                    await on.do("/interface/list/member/remove", f"=.id={member['.id']}")
                # The control: applied, it is written, and from then on it is what is kept.
                await provisioned(site, "apply")
                await until(lambda: not raised(daemon))
                await quiet(daemon)
                assert standing(on, site) != before
                await edited_and_put_right(on, daemon, "voice-out")
                after = standing(on, site)
                await on.do(f"{FILTER}/set", f"=.id={number(on, FILTER, 'jump-out-lte')}", "=out-interface=ether2")
                await until(lambda: standing(on, site) == after)

    run(test)


def test_a_program_with_another_ruleset_waits_for_a_person_clauses_p7_n6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(wanted: Wish, dialect: Dialect) -> list[Row]:
        rows = build(wanted, dialect)
        place = next(at for at, row in enumerate(rows) if row.menu == FILTER)
        more = Row(FILTER, "of-the-next-version", {"chain": "forward", "action": "accept", "src-address": "192.0.2.77"})
        return [*rows[:place], more, *(row for row in rows[place:] if row.name != "drill-back")]

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            before, begun = standing(on, site), len(on.heard())
            monkeypatch.setattr(survey, "build", newer)
            async with agent(site) as daemon:
                await until(lambda: raised(daemon))
                await rounds(daemon, 3)
                assert daemon.loop.state.guard.unapplied == (
                    f"{FILTER} of-the-next-version",
                    f"{FILTER} drill-back",
                )
                assert (changing(on, begun), mails(daemon), standing(on, site)) == ([], [], before)
                await edited_and_put_right(on, daemon, "unasked-wan")
                assert standing(on, site) == before
                await provisioned(site, "apply")
                await until(lambda: not raised(daemon))
                row = number(on, FILTER, "of-the-next-version")
                assert not [row for row in on.rows(FILTER) if row.get("comment") == "edgeagent:drill-back"]
                await quiet(daemon)
                await on.do(f"{FILTER}/remove", f"=.id={row}")
                await until(lambda: daemon.loop.state.guard.mended == 2)
                assert number(on, FILTER, "of-the-next-version")

    run(test)


def test_an_agent_of_before_the_apply_leaves_what_was_applied(tmp_path: Path) -> None:
    """Until it is started anew it wants what its own site.toml said; it must not put that back."""

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await quiet(daemon)
                await provisioned(with_more_of_the_provider(site), "apply")
                after, begun = standing(on, site), len(on.heard())
                await until(lambda: raised(daemon))
                await rounds(daemon, 2)
                assert (standing(on, site), changing(on, begun), mails(daemon)) == (after, [], [])
            async with agent(with_more_of_the_provider(site)) as daemon:
                await quiet(daemon)
                await rounds(daemon, 2)
                assert not raised(daemon)
                assert (standing(on, site), changing(on, begun)) == (after, [])

    run(test)


@pytest.mark.parametrize("mark", [b"", memory.YES])
def test_where_nothing_is_kept_of_it_everything_counts_as_applied(mark: bytes, tmp_path: Path) -> None:
    """A store that was lost and begun anew. The control of the tests above: what they change is seen and written."""

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            await keep(site, {memory.PROVISIONED: mark})
            async with agent(with_more_of_the_provider(site)) as daemon:
                await until(lambda: daemon.loop.state.guard.mended == len(found(daemon)) > 3)
                assert not raised(daemon)

    run(test)


async def keep(site: Site, values: dict[str, bytes]) -> None:
    store = await Store.open(Path(site.state_folder) / "store.db")
    await store.commit([], keep=values)
    await store.close()


def test_a_removal_forgets_what_was_applied(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            for verb, known in (("apply", True), ("remove", False)):
                await provisioned(site, verb)
                store = await Store.open(Path(site.state_folder) / "store.db")
                mark = await store.kept(memory.PROVISIONED)
                assert mark is not None
                assert mark.startswith(memory.YES + b" {" if known else memory.NO)
                assert len(mark) < 16384 if known else mark == memory.NO
                await store.close()

    run(test)


def named(site: Site, name: str, address: str) -> Site:
    """The site with its registrar by name, as it is when that is at ``address``."""
    provider = replace(site.provider, registrar=name, registrar_name=name)
    targets = tuple(name if host == REGISTRAR else host for host in site.paths[0].targets)
    paths = (replace(site.paths[0], targets=targets), *site.paths[1:])
    return resolved(replace(site, provider=provider, paths=paths, voice=Voice((), ("9.9.9.9",))), address)


async def applied_by_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(asked: Site, *_: object) -> str:
        return asked.provider.registrar

    monkeypatch.setattr(provision, "_registrar", at_once)
    await provisioned(site, "apply")


HOSTS = "/ip/firewall/address-list"
ELSEWHERE = "127.30.0.11"  # another of the provider's


def hosts(on: Rig) -> set[str]:
    return {row["address"] for row in on.rows(HOSTS) if row["list"] == "edge-agent"}


def test_a_registrar_that_has_moved_is_followed_and_is_nobodys_edit_clause_n6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await applied_by_name(named(site, "sbc.example", REGISTRAR), monkeypatch)
            others = hosts(on) - {REGISTRAR}
            async with agent(named(site, "sbc.example", ELSEWHERE)) as daemon:
                await until(lambda: daemon.loop.state.guard.mended == 2)
                await quiet(daemon)
                assert hosts(on) == {*others, ELSEWHERE}
                assert (mails(daemon), raised(daemon)) == ([], False)
                # The control: by a hand it is an edit, and told as one.
                await on.do(f"{HOSTS}/remove", f"=.id={number(on, HOSTS, f'edge-agent/{ELSEWHERE}')}")
                await until(lambda: daemon.loop.state.guard.mended == 3)
                assert mails(daemon) == ["drifted"]
                assert hosts(on) == {*others, ELSEWHERE}
            begun = len(on.heard())
            async with agent(named(site, "another.example", "127.30.0.12")) as daemon:
                await until(lambda: raised(daemon))
                await rounds(daemon, 2)
                assert (changing(on, begun), mails(daemon)) == ([], []), (
                    "another name is site.toml's, not the registrar's"
                )

    run(test)


# The watch by itself, sentence by sentence


class Alone:
    """A watch without the daemon around it, in the hands of the test, which does what the core would."""

    def __init__(self, site: Site, session: Session, store: Store | None) -> None:
        self.session = session
        self.store = store
        self.facts: list[DriftSeen] = []
        memory_of = memory.Memory(lambda: self.store, site.state_folder, wiring.instant)
        self.watch = module.RowsWatch(site, memory_of, self.tell, lambda: self.now_s)
        self.now_s = 1000.0

    def tell(self, fact: Fact) -> None:
        if isinstance(fact, DriftSeen):
            self.facts.append(fact)

    async def look(self, before: Callable[[int], Awaitable[None]] | None = None) -> DriftSeen | None:
        """Read all at once; ``before`` is awaited before each sentence. What is told, if anything."""
        told = len(self.facts)
        if self.watch.session is None:
            await self.watch.step(self.session)
        self.watch._round(whole=True)
        for at in range(len(self.watch.questions)):
            if before is not None:
                await before(at)
            await self.watch.step(self.session)
        return self.facts[-1] if len(self.facts) > told else None

    async def mend(self) -> None:
        """Put right all that was told last, and look once more."""
        self.watch.mend([one.thing for one in self.facts[-1].findings])
        while self.watch.todo:
            await self.watch.step(self.session)
        await self.look()


@asynccontextmanager
async def alone(on: Rig, site: Site, *, store: bool = True) -> AsyncIterator[Alone]:
    certificate = await asyncio.to_thread(Path(site.router.certificate).read_text)
    session = await Session.open("127.0.0.1", on.port, USER, PASSWORD, certificate, 5.0, source="127.0.0.1")
    kept = await Store.open(Path(site.state_folder) / "store.db")
    try:
        yield Alone(site, session, kept if store else None)
    finally:
        await session.close()
        await kept.close()


A, B = ("203.0.113.1", "203.0.113.2/24"), ("203.0.113.65", "203.0.113.66/26")  # what the line may be given


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("in_order", [True, False])
def test_a_lease_that_changes_while_all_is_read_is_never_put_back_clause_n6(
    in_order: bool, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each place within the reading. The control: with the DHCP client read first, it is."""
    if not in_order:
        right = survey.questions

        def wrong(*args: Any, **more: Any) -> list[survey.Question]:
            return sorted(right(*args, **more), key=lambda one: one.menu not in ("/ip/dhcp-client", "/ip/address"))

        monkeypatch.setattr(survey, "questions", wrong)

    async def test() -> None:
        initial = owners_router(version)
        initial["/ip/address"] = [row for row in initial["/ip/address"] if row["interface"] != "ether5"]
        async with rig(tmp_path, version, initial) as on:
            site = with_lte(site_at(tmp_path, on.port), kind="dhcp", gateway="")
            monkeypatch.setattr(provision, "TOLD_S", 0.1)
            await provisioned(site, "apply")
            begun = len(on.heard())

            async def given(line: tuple[str, str]) -> None:
                """As the router does it: the client is told, and its lease script writes our rows."""
                await on.plane.set_lease("ether5", line[1], line[0])
                for row in on.rows("/ip/route"):
                    if row.get("comment") in ("edgeagent:default-edge-lte", "edgeagent:native-lte-127.30.0.0/27"):
                        await on.do("/ip/route/set", f"=.id={row['.id']}", f"=gateway={line[0]}")
                menu = "/routing/rule" if version == "7.22" else "/ip/route/rule"
                for row in on.rows(menu):
                    if row.get("comment") == "edgeagent:own-lte":
                        address = line[1].partition("/")[0]
                        await on.do(f"{menu}/set", f"=.id={row['.id']}", f"=src-address={address}/32")

            async with alone(on, site) as hand:
                await given(A)
                await hand.look()
                await hand.mend()
                assert not hand.facts[-1].findings
                told = len(hand.facts)
                lines_given, count, back = (B, A), len(hand.watch.questions), 0
                for at in range(count):
                    line = lines_given[at % 2]

                    async def change(place: int, at: int = at, line: tuple[str, str] = line) -> None:
                        if place == at:
                            await given(line)

                    written = len(on.heard())
                    if await hand.look(change) is not None:
                        await hand.mend()
                    stale = lines_given[(at + 1) % 2][0]
                    back += sum(f"=gateway={stale}" in words for words in changing(on, written))
                    await hand.look()
                    if hand.facts[-1].findings:
                        await hand.mend()
                edits = [one for fact in hand.facts[told:] for one in fact.findings if not one.by_us]
                assert count > 12
                if in_order:
                    assert (back, edits) == (0, [])
                    assert not raised_in(hand)
                else:
                    assert back > 0, "the control bites"
                assert changing(on, begun), "the control: something was written"

    run(test)


def raised_in(hand: Alone) -> bool:
    return any(fact.unapplied for fact in hand.facts)


def test_what_was_found_before_a_removal_or_long_ago_is_not_written_clause_p4(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with alone(on, site) as hand:
                await hand.look()

                async def edit() -> int:
                    await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                    assert await hand.look() is not None
                    return len(on.heard())

                begun = await edit()
                hand.now_s += module.FRESH_S + 1.0
                hand.watch.mend([one.thing for one in hand.facts[-1].findings])
                await hand.watch.step(hand.session)
                assert changing(on, begun) == []
                assert await hand.look() is not None, "told anew"
                await hand.mend()
                assert not hand.facts[-1].findings, "the control: written"
                begun = await edit()
                hand.watch.mend([one.thing for one in hand.facts[-1].findings])
                assert hand.store is not None
                await hand.store.commit([], keep={memory.PROVISIONED: memory.NO})
                await hand.watch.step(hand.session)
                assert changing(on, begun) == []
                assert not hand.watch.todo
                told = await hand.look()
                assert told is not None
                assert (told.provisioned, told.findings) == (False, ())

    run(test)


def test_until_the_disk_tells_what_was_applied_it_is_only_looked_clause_c3(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with alone(on, with_more_of_the_provider(site)) as hand:
                kept, hand.store = hand.store, None
                begun = len(on.heard())
                await on.do(f"{FILTER}/disable", f"=.id={number(on, FILTER, 'voice-out')}")
                assert await hand.look() is not None
                assert len(hand.facts[-1].findings) > 3
                await hand.mend()
                assert changing(on, begun) == []
                hand.store = kept
                told = await hand.look()
                assert told is not None
                assert [one.thing for one in told.findings] == [f"{FILTER} voice-out"]
                assert told.unapplied
                await hand.mend()
                assert [words[0] for words in changing(on, begun)] == [f"{FILTER}/set"]

    run(test)


def test_all_rows_gone_and_others_wanted_since_is_a_persons_to_decide_clause_m1(tmp_path: Path) -> None:
    """A part of the rules might be worse than none."""

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            bare = on.router.store.dump()
            await provisioned(site, "apply")
            on.router.store.load_dump(bare)
            begun = len(on.heard())
            async with alone(on, on_another_port(site)) as hand:
                told = await hand.look()
                assert told is not None
                assert [one.thing for one in told.findings] == [drift.EVERYTHING]
                await hand.mend()
                assert changing(on, begun) == []
            async with alone(on, site) as hand:
                await hand.look()
                await hand.mend()
                assert len(changing(on, begun)) > 50, "the control: as it was applied, all comes back"

    run(test)


# Rows and approvals, without a router


def approvals(rows: Sequence[Row]) -> Approval:
    return approval.of(rows, ())


def compared(approved: Sequence[Row], wanted: Sequence[Row], seen: Sequence[Row]) -> tuple[list[str], tuple[str, ...]]:
    """What would be said, and what is not applied; ``seen``: the rows in the router, in their order."""
    there: dict[str, list[dict[str, str]]] = {}
    for place, row in enumerate(seen, 1):
        there.setdefault(row.menu, []).append({".id": f"*{place:X}", **row.attributes, "comment": row.comment})
    agreed = approval.agreed(approvals(approved), approvals(wanted), wanted, there, {}, {})
    steps = drift.difference(agreed.rows, there, {}, agreed.apart).steps
    return [" ".join(of_change(step.change)) for step in steps], agreed.unapplied


def filters(*names: str, **attributes: str) -> list[Row]:
    return [Row(FILTER, name, {"chain": "forward", **attributes}) for name in names]


def test_what_stays_as_it_was_applied_keeps_its_places_among_the_rest() -> None:
    a, b, c, new = filters("a", "b", "c", "new")
    (other,) = filters("b", action="drop")
    apart = f"{FILTER} b"
    assert compared([a, b, c], [a, b, c], [a, b, c]) == ([], ())
    assert compared([a, b, c], [a, other, c], [a, b, c]) == ([], (apart,))
    assert compared([a, b, c], [a, c], [a, b, c]) == ([], (apart,))
    assert compared([a, b, c], [a, new, b, c], [a, b, c]) == ([], (f"{FILTER} new",))
    assert compared([a, b, c], [a, new, b, c], [a, new, b, c]) == ([], (f"{FILTER} new",)), "half applied"
    # A deleted row comes back to its place above what is apart, whether that is wanted otherwise or no more.
    above = f"{FILTER}/add =chain=forward =comment=edgeagent:a =place-before=*1"
    assert compared([a, b, c], [a, other, c], [b, c]) == ([above], (apart,))
    assert compared([a, b, c], [a, c], [b, c]) == ([above], (apart,))
    assert compared([a, b, c], [a, b, c], [b, c]) == ([above], ()), "the control"
    # Another order is not applied either, and the one that was is kept.
    assert compared([a, b, c], [b, a, c], [a, b, c]) == ([], (f"{FILTER} order",))
    assert compared([a, b, c], [b, a, c], [b, a, c])[0] == [f"{FILTER}/move =numbers=*1 =destination=*3"]
    # Nobody has approved a row of an unknown name, or a second one of a known name.
    assert compared([a, b], [a, other], [a, b, c]) == ([f"{FILTER}/remove =.id=*3"], (apart,))
    assert compared([a, b], [a, other], [a, b, a]) == ([f"{FILTER}/remove =.id=*3"], (apart,))


@pytest.mark.parametrize("kind", ["static", "dhcp", "pppoe"])
def test_what_a_router_has_learnt_is_in_no_approval_and_what_a_person_wrote_is(kind: str) -> None:
    found = table()
    if kind != "static":
        for path in ("primary", "lte"):
            found["path"][path] |= {"kind": kind}
            del found["path"][path]["gateway"]
    site = parse(found, "site.toml")
    for dialect in (DialectV6(), DialectV7()):
        known = board(dialect)
        bare = replace(known, addresses={}, next_hops=dict.fromkeys(known.next_hops, "169.254.255.254"))
        approved = survey.approval_of(site, dialect, known)
        assert survey.approval_of(site, dialect, bare) == approved
        moved = survey.approval_of(with_lte(site, interface="ether4"), dialect, known)
        route = "/ip/route default-edge-lte"
        own = f"{dialect.rules} own-lte"
        assert (moved.rows[route] != approved.rows[route]) == (kind != "static"), "told on another port"
        assert moved.rows[own] != approved.rows[own]
        assert "/ip/route default-edge-lte" in approved.rows
        if kind == "static":
            other = survey.approval_of(with_lte(site, gateway="198.51.100.9"), dialect, known)
            assert other.rows[route] != approved.rows[route]
        wanted = build(survey.wish(site, known), dialect)
        assert list(approved.rows) == [drift.thing_of(row.menu, row.comment) for row in wanted]


def test_an_approval_outlasts_the_disk_and_garbage_is_none() -> None:
    one = approval.of(filters("a", "b"), adopted.EVERYWHERE)
    assert approval.unpacked(approval.packed(one)) == one
    assert list(one.rows) == [f"{FILTER} a", f"{FILTER} b"]
    for garbage in (b"", b"{", b"[]", b'{"rows": 1, "settings": {}}'):
        assert approval.unpacked(garbage) is None


def test_a_setting_that_is_wanted_otherwise_is_not_touched() -> None:
    timer, other = adopted.EVERYWHERE[0], replace(adopted.EVERYWHERE[0], value="5m")
    for today, expected in ((timer, 1), (other, 0)):
        agreed = approval.agreed(approval.of((), (timer,)), approval.of((), (today,)), (), {}, {today: ("", "10s")}, {})
        assert len(drift.difference(agreed.rows, {}, agreed.settings, agreed.apart).steps) == expected
        assert len(agreed.unapplied) == 1 - expected
