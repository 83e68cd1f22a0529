"""The watch for hand edits against the virtual router, with the whole daemon around it; two agents at one router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeagent.cli.status import lines
from edgeagent.config.site import Site, parse
from edgeagent.core import orders
from edgeagent.core.facts import Finding
from edgeagent.daemon import actuator, survey
from edgeagent.daemon import drift as module
from edgeagent.daemon.memory import FORMER
from edgeagent.daemon.survey import Survey
from edgeagent.daemon.wiring import Daemon
from edgeagent.routeros import drift
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.rows import Row
from edgeagent.routeros.ruleset import build
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.store import Store
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import Rig, board, rig, run, site_at, table, until
from tests.agent.test_provision import provisioned

FILTER, MANGLE, NAT = "/ip/firewall/filter", "/ip/firewall/mangle", "/ip/firewall/nat"
TRACKING = "/ip/firewall/connection/tracking"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_S", 0.5)
    monkeypatch.setattr(module, "AGAIN_S", 0.2)
    monkeypatch.setattr(actuator, "AGAIN_S", 0.1)
    monkeypatch.setattr(orders, "SWITCHING_S", 0.0)  # the place counts from the first contact


@asynccontextmanager
async def agent(site: Site) -> AsyncIterator[Daemon]:
    daemon = Daemon(site)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        task.cancel()
        await asyncio.wait([task])


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
                await until(lambda: daemon.loop.state.guard.mended == 1, 20.0)
                await quiet(daemon)
                assert found(daemon) == [(drift.EVERYTHING, drift.GONE)]
                assert standing(on, site) == before

    run(test, 60.0)


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
        return len(module.RowsWatch._found_in(Survey(wanted_of, wanted, {lists: [*rows, *more]}, {}), lists))

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

                await until(lambda: read() > 0, 15.0)
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
