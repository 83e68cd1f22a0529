"""``edgeagent provision`` against the virtual router: what it makes of it, and that foreign rows stay."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeagent.cli import provision
from edgeagent.config.site import Site, Voice
from edgeagent.daemon.memory import FLUSH_DUE
from edgeagent.probes import dns
from edgeagent.routeros.session import MAX_REPLY_ROWS, Session
from edgeagent.store.store import Store
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import MAIL_PASSWORD, PASSWORD, REGISTRAR, WAN, Rig, owners_router, rig, run, site_at
from tests.names import MISSING, free_port, name_server

Everything = dict[str, Any]
SIGNS = {"add": "+", "set": "~"}
MOVING = ("/log", "/system/history", "/user/active", "/system/resource", "/system/clock")
ORDERED = ("/ip/firewall/mangle", "/ip/firewall/filter", "/ip/firewall/nat")
TRACKING = "/ip/firewall/connection/tracking"


async def provisioned(site: Site, verb: str, code: int = 0) -> str:
    """Run the command beside the router, in this loop; what it printed."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        got = await provision._run(
            site, verb, PASSWORD, await asyncio.to_thread(Path(site.router.certificate).read_text)
        )
    assert got == code, told.getvalue()
    return told.getvalue()


def everything(on: Rig) -> Everything:
    """All menus as they stand, but for clocks and logs."""
    store = on.router.store
    return {
        path: store.single(path) if menu.single else [row for row in store.rows(path) if not connection(row)]
        for path, menu in store.menus.items()
        if path not in MOVING
    }


def connection(row: Mapping[str, str]) -> bool:
    """A row that stands among the services for as long as somebody is connected."""
    return row.get("connection") == "true" and row["dynamic"] == "true"


def foreign(found: Everything) -> Everything:
    """Without the rows of ours."""
    return {
        path: rows if isinstance(rows, Mapping) else [row for row in rows if not ours(row)]
        for path, rows in found.items()
    }


def ours(row: Mapping[str, str]) -> bool:
    return row.get("comment", "").startswith("edgeagent:")


def rules_menu(version: Version) -> str:
    return "/routing/rule" if version == "7.22" else "/ip/route/rule"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_changes_nothing_and_apply_does_what_it_said(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            before = everything(on)
            plan = (await provisioned(site, "plan")).splitlines()
            assert everything(on) == before
            assert "one flush of the voice flows, calls in progress included" in plan[-1]
            changes = [line.strip() for line in plan if line.startswith("  ")]
            assert plan[-2].startswith(f"{len(changes)} changes; nothing has been changed yet")
            heard = len(on.heard())
            assert f"{len(changes)} changes made" in await provisioned(site, "apply")
            writes = [words for words in on.heard()[heard:] if not words[0].endswith(("/print", "/ping"))]
            assert [as_planned(words) for words in writes] == [re.sub(r": \S+ -> ", "=", line) for line in changes]

    run(test)


def as_planned(words: list[str]) -> str:
    """A sentence as the plan shows it, former values aside."""
    menu, _, command = words[0].rpartition("/")
    said = " ".join(word[1:] for word in words[1:] if not word.startswith(("=.id", "=place-before")))
    return f"{SIGNS[command]} {menu} {said}".replace("\n", "\\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_applying_twice_changes_nothing_the_second_time_clause_p3(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            after = everything(on)
            assert any(ours(row) for row in after["/ip/firewall/mangle"])
            assert "0 changes made" in await provisioned(site, "apply")
            assert "nothing to change" in await provisioned(site, "plan")
            assert everything(on) == after

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_ours_stand_on_top_and_everything_foreign_is_as_before_clause_p4(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            before = everything(on)
            await provisioned(site, "apply")
            after = everything(on)
            adopted = {TRACKING, "/ip/firewall/service-port", "/ip/neighbor/discovery-settings"}
            kept = {path: rows for path, rows in foreign(after).items() if path not in adopted}
            assert kept == {path: rows for path, rows in foreign(before).items() if path not in adopted}
            differing = {key for key, value in after[TRACKING].items() if before[TRACKING].get(key) != value}
            assert differing <= {"udp-timeout", "udp-stream-timeout"}
            for menu in (*ORDERED, rules_menu(version)):
                static = [row for row in after[menu] if row["dynamic"] != "true"]
                count = sum(map(ours, static))
                assert count
                assert all(map(ours, static[:count])), menu

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_removal_leaves_the_router_as_it_was_clause_p4(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await on.do(f"{TRACKING}/set", "=udp-timeout=17s", "=udp-stream-timeout=2m17s")
            before = everything(on)
            await provisioned(site, "apply")
            assert everything(on)[TRACKING]["udp-timeout"] == "3m"
            assert everything(on) != before
            await provisioned(site, "remove")
            assert everything(on) == before
            assert "0 rows removed" in await provisioned(site, "remove")
            assert everything(on) == before

    run(test)


def test_what_the_owner_changed_after_a_removal_is_what_the_next_one_gives_back_clause_p4(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            for owners in ("11s", "22s"):
                await on.do(f"{TRACKING}/set", f"=udp-timeout={owners}")
                await provisioned(site, "apply")
                await provisioned(site, "apply")
                await provisioned(site, "remove")
                assert on.router.store.single(TRACKING)["udp-timeout"] == owners

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("owners", ["", ":log info told"])
def test_a_removal_that_has_lost_its_memory_leaves_no_script_of_ours_clause_p4(
    version: Version, owners: str, tmp_path: Path
) -> None:
    """The primary's DHCP client is the owner's; what is ours in its script is told by our marks."""

    async def test() -> None:
        initial = owners_router(version)
        initial["/ip/dhcp-client"] = [{"interface": "ether1", **({"script": owners} if owners else {})}]
        async with rig(tmp_path, version, initial) as on:
            good = site_at(tmp_path, on.port)
            site = replace(good, paths=(replace(good.paths[0], kind="dhcp", gateway=""), good.paths[1]))
            await on.plane.set_lease("ether1", f"{WAN}/24", "192.0.2.1")

            def script() -> str:
                return on.rows("/ip/dhcp-client")[0].get("script", "")

            await provisioned(site, "apply")
            assert "# edgeagent: from here" in script()
            await asyncio.to_thread(_forgotten, Path(site.state_folder))
            told = await provisioned(site, "remove")
            assert script() == owners
            assert "[sip].disabled is" in told  # of this nobody knows what it was
            assert ".script is" not in told

    run(test)


def _forgotten(folder: Path) -> None:
    for file in folder.glob("store.db*"):
        file.unlink()


@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_was_done_to_our_rows_one_apply_repairs_it_clause_p3(version: Version, tmp_path: Path) -> None:
    """Delete, disable, change, duplicate, shuffle and leave old rows behind, at random."""
    rng = random.Random(f"disorder-{version}")

    async def disorder(on: Rig) -> None:
        menus = (*ORDERED, rules_menu(version), "/ip/route", "/ip/firewall/address-list")
        for menu in rng.sample(menus, 3):
            rows = [row for row in on.rows(menu) if row["dynamic"] != "true"]
            mine = [row for row in rows if ours(row)]
            ordered = menu not in ("/ip/route", "/ip/firewall/address-list")
            for row in rng.sample(mine, min(3, len(mine))):
                kind = rng.randrange(5)
                if kind == 0:
                    await on.do(f"{menu}/remove", f"=.id={row['.id']}")
                elif kind == 1:
                    await on.do(f"{menu}/disable", f"=.id={row['.id']}")
                elif kind == 2 and "firewall/" in menu and ordered:
                    await on.do(f"{menu}/set", f"=.id={row['.id']}", "=action=accept", "=chain=forward")
                elif kind == 3 and ordered:
                    extra = {"/ip/firewall/nat": "srcnat"}.get(menu, "forward")
                    match = f"=chain={extra}" if "firewall/" in menu else "=table=main"
                    await on.do(f"{menu}/add", match, f"=comment={rng.choice([row['comment'], 'edgeagent:of-old'])}")
                elif ordered:
                    other = rng.choice([one for one in rows if one is not row])
                    with contextlib.suppress(Exception):  # it may have been removed just before
                        await on.do(f"{menu}/move", f"=numbers={row['.id']}", f"=destination={other['.id']}")

    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            before = foreign(everything(on))
            await provisioned(site, "apply")
            wanted = {path: strip(rows) for path, rows in everything(on).items()}
            repaired = 0
            for _ in range(12):
                await disorder(on)
                repaired += {path: strip(rows) for path, rows in everything(on).items()} != wanted
                await provisioned(site, "apply")
                assert {path: strip(rows) for path, rows in everything(on).items()} == wanted
                assert "nothing to change" in await provisioned(site, "plan")
            assert repaired > 6
            await provisioned(site, "remove")
            assert foreign(everything(on))[ORDERED[1]] == before[ORDERED[1]]

    run(test)


@pytest.mark.skipif(MISSING, reason="dnsmasq is not installed")
def test_a_registrar_by_name_is_asked_for_and_else_taken_as_last_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = "127.40.0.53"
    monkeypatch.setattr(dns, "PORT", free_port(resolver))
    monkeypatch.setattr(dns, "ASK_S", 0.2)

    def names(address: str) -> contextlib.AbstractContextManager[None]:
        return name_server(resolver, dns.PORT, [f"--host-record=sbc.provider.example,{address}"])

    async def test() -> None:
        async with rig(tmp_path) as on:
            site = replace(site_at(tmp_path, on.port), voice=Voice((), (resolver,)))
            name = "sbc.provider.example"
            targets = tuple(name if host == REGISTRAR else host for host in site.paths[0].targets)
            provider = replace(site.provider, registrar=name, registrar_name=name)
            site = replace(site, provider=provider, paths=(replace(site.paths[0], targets=targets), *site.paths[1:]))
            before = everything(on)
            assert f"{name}: {resolver} does not answer" in await provisioned(site, "apply", 2)
            with names("203.0.113.9"):
                assert "outside the provider's prefixes" in await provisioned(site, "apply", 2)
            await provisioned(site, "remove")
            assert everything(on) == before
            with names(REGISTRAR):
                assert f"{name} is at {REGISTRAR}" in await provisioned(site, "apply")
            hosts = {row["address"] for row in on.rows("/ip/firewall/address-list") if row["list"] == "edge-agent"}
            assert hosts == {REGISTRAR, resolver, "127.0.0.1", "127.40.0.1", "127.40.0.2", "127.40.0.3"}
            told = await provisioned(site, "plan")
            assert f"taken to be at {REGISTRAR}, as last known" in told
            assert "nothing to change" in told
            with names("203.0.113.9"):
                assert f"taken to be at {REGISTRAR}" in await provisioned(site, "apply")
            await provisioned(site, "remove")
            assert everything(on) == before

    run(test)


def strip(rows: Any) -> Any:
    """Rows without ids and times of creation; unordered where order means nothing."""
    if isinstance(rows, Mapping):
        return rows
    return (
        sorted(
            (sorted((key, value) for key, value in row.items() if key not in (".id", "creation-time")) for row in rows),
            key=str,
        )
        if rows and "chain" not in rows[0]
        else [sorted((key, value) for key, value in row.items() if key != ".id") for row in rows]
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_lost_at_any_sentence_is_made_good_by_the_next_apply_clause_p3(
    version: Version, tmp_path: Path
) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            before = everything(on)
            await provisioned(site, "apply")
            wanted = {path: strip(rows) for path, rows in everything(on).items()}
            await provisioned(site, "remove")
            for command in ("/ip/route/add", "/ip/firewall/filter/add", "/ip/firewall/nat/add", f"{TRACKING}/set"):
                for kind in ("drop", "drop_after"):
                    on.strike(kind, command, count=1)
                    await provisioned(site, "apply", code=1)
                    await provisioned(site, "apply")
                    assert {path: strip(rows) for path, rows in everything(on).items()} == wanted, (kind, command)
                    on.strike(kind, "/ip/firewall/filter/remove", count=1)
                    await provisioned(site, "remove", code=1)
                    await provisioned(site, "remove")
                    assert {path: strip(rows) for path, rows in everything(on).items()} == {
                        path: strip(rows) for path, rows in before.items()
                    }

    run(test)


def test_a_board_that_may_run_no_jobs_gets_watchers_instead_clause_p8(tmp_path: Path) -> None:
    """As boards leave the factory from 7.17 on; the press of a button on the board makes it a job at the next apply."""

    async def test() -> None:
        async with rig(tmp_path, device_mode="home") as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            watched = {row["host"] for row in on.rows("/tool/netwatch") if ours(row)}
            assert watched == {site.agent_address, *site.canaries}
            assert on.rows("/system/scheduler") == []
            assert "nothing to change" in await provisioned(site, "plan")
            on.router.store._settings["/system/device-mode"]["scheduler"] = "true"
            await provisioned(site, "apply")
            assert [row["name"] for row in on.rows("/system/scheduler")] == ["edge-flush"]
            assert not any(map(ours, on.rows("/tool/netwatch")))
            await provisioned(site, "remove")
            assert on.rows("/system/scheduler") == []

    run(test)


def test_a_router_that_names_no_numbers_is_told_and_nothing_is_written_clause_x3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Session.print

    async def nameless(session: Session, menu: str, *more: Any) -> list[dict[str, str]]:
        rows = await shipped(session, menu, *more)
        return [{**row, ".id": "*x y"} if ".id" in row else row for row in rows]

    async def test() -> None:
        async with rig(tmp_path) as on:
            before = everything(on)
            monkeypatch.setattr(Session, "print", nameless)
            assert "a row without its number" in await provisioned(site_at(tmp_path, on.port), "apply", code=1)
            assert everything(on) == before

    run(test)


def test_a_dead_or_missing_canary_is_told_and_stops_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            assert "does not answer" not in await provisioned(site, "plan")
            on.plane.set_ping(site.canaries[1], 20.0, lost=True)
            told = await provisioned(site, "apply")
            assert f"{site.canaries[1]} does not answer the router's pings" in told
            assert "changes made" in told
            lone = replace(site.paths[0], targets=(*site.paths[0].targets[:2], site.paths[0].gateway))
            few = replace(site, paths=(lone, *site.paths[1:]))
            assert few.canaries == ()
            assert "fewer than two hosts" in await provisioned(few, "plan")

    run(test)


def test_flows_from_before_the_rules_are_flushed_once_and_only_the_providers(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            rows = [
                {"protocol": "udp", "dst-address": "127.30.0.10:5060"},
                {"protocol": "udp", "dst-address": "127.30.0.20", "dst-port": "30000"},
                {"protocol": "tcp", "dst-address": "203.0.113.9:443"},
                {"protocol": "icmp"},
            ]
            ids = on.plane.set_connections(rows)
            on.strike("trap", "/ip/firewall/connection/remove", count=1)  # this one ended by itself
            await provisioned(site, "apply")
            left = await on.plane.rows("/ip/firewall/connection") or []
            assert [row[".id"] for row in left] == [ids[0], ids[2], ids[3]]
            on.plane.set_connections(rows)
            await provisioned(site, "apply")
            assert len(await on.plane.rows("/ip/firewall/connection") or []) == 4

    run(test)


def test_another_router_a_wrong_password_and_no_router_are_told_with_code_2_clause_x1(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            on.strike("wrong_password", count=1)
            told = await provisioned(site, "apply", code=2)
            assert "cannot be reached" in told
            assert PASSWORD not in told
            (tmp_path / "other").mkdir()
            async with rig(tmp_path / "other") as stranger:
                assert "not the pinned one" in await provisioned(site_at(tmp_path, stranger.port), "apply", code=2)
                assert stranger.heard() == []
            (tmp_path / "router.pem").write_text("no certificate")
            broken = site_at(tmp_path, on.port, certificate=str(tmp_path / "router.pem"))
            assert "certificate" in await provisioned(broken, "plan", code=2)
        assert "cannot be reached" in await provisioned(site, "plan", code=2)

    run(test)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("8.1 (stable)", False),
        ("7.12 (stable)", True),
        ("7.12rc1 (testing)", True),
        ("7.22.1 (stable)", True),
        ("7.11.3 (stable)", False),
        ("7.9 (stable)", False),
        ("7", False),
        ("70.20 (stable)", False),
        ("6.49.10 (long-term)", True),
        ("6.48.6 (long-term)", False),
        ("5.99", False),
        ("", False),
    ],
)
def test_a_version_that_is_not_supported_is_left_alone(version: str, good: bool, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, "6.49" if version.startswith("6") else "7.22") as on:
            site = site_at(tmp_path, on.port)
            on.router.store.single("/system/resource")
            on.router.store._settings["/system/resource"]["version"] = version
            before = everything(on)
            told = await provisioned(site, "plan" if good else "apply", code=0 if good else 2)
            assert good == ("changes; nothing has been changed yet" in told)
            if not good:
                assert f"RouterOS {version or '(unknown)'} is not supported; expected 6.49" in told
            assert everything(on) == before

    run(test)


FLOWS = [{"protocol": "udp", "dst-address": "127.30.0.10:5060"}, {"protocol": "tcp", "dst-address": "127.30.0.10:5061"}]


def test_a_flush_that_a_stopped_run_left_is_done_by_the_next_even_with_nothing_to_change(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            on.plane.set_connections(FLOWS)
            on.strike("drop", "/ip/firewall/connection/print", count=1)
            await provisioned(site, "apply", code=1)
            assert len(await on.plane.rows("/ip/firewall/connection") or []) == 2
            told = await provisioned(site, "plan")
            assert "nothing to change" in told
            assert "one flush" in told
            assert "0 changes made" in await provisioned(site, "apply")
            assert not await on.plane.rows("/ip/firewall/connection")
            on.plane.set_connections(FLOWS)
            assert "flush" not in await provisioned(site, "plan")
            await provisioned(site, "apply")
            assert len(await on.plane.rows("/ip/firewall/connection") or []) == 2

    run(test)


def test_a_removal_leaves_no_flush_due(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            on.strike("drop", "/ip/firewall/connection/print", count=1)
            await provisioned(site, "apply", code=1)
            await provisioned(site, "remove")
            store = await Store.open(tmp_path / "state" / "store.db")
            assert not await store.kept(FLUSH_DUE)
            await store.close()

    run(test)


def test_too_many_connections_to_read_are_told_and_the_rest_is_done(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            many = [{"protocol": "udp", "dst-address": f"203.0.113.9:{port}"} for port in range(MAX_REPLY_ROWS + 1)]
            on.plane.set_connections([*many, *FLOWS])
            told = await provisioned(site, "apply")
            assert "too many UDP connections" in told
            assert "stay on their line until they end" in told
            assert "changes made" in told
            assert len(await on.plane.rows("/ip/firewall/connection") or []) == len(many) + 1
            on.plane.set_connections(FLOWS)  # a quiet hour
            assert "too many" not in await provisioned(site, "apply")
            assert not await on.plane.rows("/ip/firewall/connection")

    run(test)


def test_a_store_that_cannot_be_used_stops_before_the_first_change_clause_c3(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            (tmp_path / "state").mkdir()
            (tmp_path / "state" / "store.db").mkdir()
            before = everything(on)
            assert "store" in await provisioned(site, "apply", code=2)
            assert everything(on) == before

    run(test)


def test_leases_of_a_running_agent_stay_until_all_of_ours_goes(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            lease = ("=list=edge-lte-site", "=address=0.0.0.0/0", "=timeout=1m", "=comment=edgeagent:site-7")
            await on.do("/ip/firewall/address-list/add", *lease)
            await provisioned(site, "apply")
            assert on.leases() == {("edge-lte-site", "0.0.0.0/0")}
            await provisioned(site, "remove")
            assert on.leases() == set()

    run(test)


def test_passwords_are_read_from_their_files_and_never_printed_clause_x4(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert provision.run(site, "plan") == 2
        (tmp_path / "router.crt").write_text("x")
        assert provision.run(site, "plan") == 2
    assert PASSWORD not in told.getvalue()
    assert MAIL_PASSWORD not in told.getvalue()
    assert "expected a readable file" in told.getvalue()


@pytest.mark.parametrize("verb", ["apply", "remove"])
def test_a_modem_that_moved_to_another_port_leaves_the_former_one_as_it_was_clause_p4(
    tmp_path: Path, verb: str
) -> None:
    async def test() -> None:
        initial = owners_router("7.22")
        initial["/interface/bridge/port"] = [{"bridge": "bridge", "interface": port} for port in ("ether4", "ether5")]
        initial["/ip/address"] = [row for row in initial["/ip/address"] if row["interface"] != "ether5"]
        async with rig(tmp_path, "7.22", initial) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")

            def out() -> set[str]:
                return {row["interface"] for row in on.rows("/interface/bridge/port") if row["disabled"] == "true"}

            assert out() == {"ether5"}
            moved = replace(site, paths=(site.paths[0], replace(site.paths[1], interface="ether4")))
            await provisioned(moved, verb)
            assert out() == ({"ether4"} if verb == "apply" else set())
            await provisioned(moved, "remove")
            assert out() == set()

    run(test)
