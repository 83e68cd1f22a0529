"""What the scripts of firmware-scripts/ say and need: schemas, order of removal, policies; and the bootstrap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeagent.daemon.survey import wish
from edgeagent.routeros import console, diff
from edgeagent.routeros.errors import RouterError
from edgeagent.routeros.ruleset import build, menus
from edgeagent.routeros.session import Session
from hil.virtual.routeros.access import Caller
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.server import Router
from hil.virtual.routeros.values import Version
from tests.agent.rendered_rig import (
    GOOD,
    MODELS,
    VERSIONS,
    Rig,
    heard,
    import_as,
    imported,
    rig,
    script,
)
from tests.agent.support import run
from tests.agent.test_sentences_match_schemas import lacking, schema
from tests.rendered import DIALECTS, FOLDER, board, site
from tests.virtual_routeros.client import bench


@pytest.mark.parametrize("version", VERSIONS)
def test_bootstrap_opens_api_ssl_to_the_agent_and_nothing_else(version: Version, tmp_path: Path) -> None:
    asked = (FOLDER / "bootstrap.rsc").read_text()
    password = "a password of the test $ \\"
    filled = asked.replace('"PUT THE PASSWORD HERE"\n', f"{console.text(password)}\n", 1)
    filled = filled.replace('edgeAgent "192.168.88.2"', 'edgeAgent "127.0.0.1"')

    async def test() -> None:
        async with bench(version, ssh_port=0, tls_port=0) as on:
            before = {path: on.router.store.rows(path) for path in ("/user", "/user/group", "/certificate")}
            for text, why in ((asked, "put a password"), (filled.replace(password[:20], ""), "16 characters")):
                async with on.ssh() as shell:
                    assert why in await import_as(shell, text, "", "bootstrap.rsc")
                assert {path: on.router.store.rows(path) for path in before} == before
            untouched = _services(on.router)
            on.router.store.open_connection("api-ssl", "127.0.0.1", "127.0.0.3:50000")  # somebody tries it just now
            async with on.ssh() as shell:
                assert (await import_as(shell, filled, "", "bootstrap.rsc")).endswith(GOOD)
                assert on.router.store.names("/file") == {"cert_export_edgeagent.crt"}
                pinned = (await shell.get("cert_export_edgeagent.crt")).decode()
                assert "user edgeagent is there" in await import_as(shell, filled, "", "bootstrap.rsc")
            assert _services(on.router) == untouched
            (group,) = [row for row in on.router.store.rows("/user/group") if row["name"] == "edgeagent"]
            assert {one for one in group["policy"].split(",") if one[0] != "!"} == {"api", "read", "write", "test"}
            port = on.router.ports["api-ssl"]
            session = await Session.open("127.0.0.1", port, "edgeagent", password, pinned, 10.0, source="127.0.0.1")
            await session.print("/ip/route", (".id",))
            await session.close()
            with pytest.raises(RouterError):  # from an address that is not the agent's
                await Session.open("127.0.0.1", port, "edgeagent", password, pinned, 10.0, source="127.0.0.2")

    run(test)


def _services(router: Router) -> list[Row]:
    """How all but api-ssl are configured."""
    return [row for row in router.store.rows("/ip/service") if row["name"] != "api-ssl" and row["dynamic"] != "true"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("model", MODELS)
def test_what_the_files_say_exists_on_that_version(version: Version, model: Profile, tmp_path: Path) -> None:
    schema("schema-7.22.3.json")

    async def test() -> None:
        async with rig(tmp_path, version, model) as on:
            hosts = ("203.0.113.10:5060", "203.0.113.32:5060", "198.51.100.9")
            on.plane.set_connections([{"dst-address": host} for host in hosts])
            files = [FOLDER / f"{name}.rsc" for name in (f"lease-{version}", f"netwatch-{model}", "remove")]
            for text in (script(model, version), *(path.read_text() for path in files)):
                assert (await imported(on, text)).endswith(GOOD)
            # Those with the provider are gone; the first address after its prefix is somebody else's.
            left = await on.router.engine.view(on.router.store.menus["/ip/firewall/connection"])
            assert [row["dst-address"] for row in left] == list(hosts[1:])

    run(test)
    said = heard(tmp_path)
    assert {words[0].rpartition("/")[2] for words in said} >= {"add", "set", "remove", "move", "print"}
    names = ("fields-6.49-ansible.json",) if version == "6.49" else ("schema-7.22.3.json", "schema-7.12.2.json")
    unknown = {f"{name}: {one}" for name in names for words in said for one in lacking(schema(name), words, version)}
    # The schemas of 7 were taken on a machine without PoE; on the RB2011 the word is in its vendor's manual.
    assert {one for one in unknown if not one.endswith("/interface/ethernet/set poe-out")} == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_go_in_the_order_in_which_the_agent_takes_them_away(version: Version) -> None:
    text = (FOLDER / "remove.rsc").read_text()
    rows = build(wish(site("rb2011"), board("rb2011", DIALECTS[version])), DIALECTS[version])
    seen: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(rows):
        seen.setdefault(row.menu, []).append({**row.attributes, ".id": f"*{number:X}", "comment": row.comment})
    gone = [change for change in diff.removal_changes(seen, menus(rows)) if isinstance(change, diff.Remove)]
    said = [found.replace(" ", "/") for found in re.findall(r"(/[a-z0-9 -]+) remove \[", text)]
    there = [menu for menu in dict.fromkeys(said) if menu in seen]
    assert there == list(dict.fromkeys(change.menu for change in gone))
    # Within the routes: each line takes what the agent takes at that time, and nothing earlier.
    patterns = [r"^edgeagent:(?!native-wan-|canary-)", r"^edgeagent:native-wan-", r"^edgeagent:canary-"]
    lines = re.findall(r"^/ip route remove .*$", text, re.MULTILINE)
    assert len(lines) == len(patterns)
    assert all(name in line for name, line in zip(("!(comment", "native-wan-", "canary-"), lines, strict=True))
    comments = {row[".id"]: row["comment"] for row in seen["/ip/route"]}
    ranks = [
        next(rank for rank, pattern in enumerate(patterns) if re.search(pattern, comments[change.row_id]))
        for change in gone
        if change.menu == "/ip/route"
    ]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}


@pytest.mark.parametrize("version", VERSIONS)
def test_removal_takes_what_was_put_into_our_lists_for_a_time_clause_p4(version: Version, tmp_path: Path) -> None:
    lists = "/ip/firewall/address-list"
    ours = ("edge-alive", "edge-phones", "edge-drill", "edge-lte-site", "edge-wan-phone")
    owners = ("edge-owner", "wedge-alive", "edge-phones-2", "edge-site")

    async def test() -> None:
        async with rig(tmp_path, version, "hap-ac2") as on:
            assert (await imported(on, script("hap-ac2", version))).endswith(GOOD)
            for name in (*ours, *owners):
                words = [f"{lists}/add", f"=list={name}", "=address=192.168.88.11", "=timeout=7d"]
                await on.router.store.sentence(words)
            await on.router.store.sentence([f"{lists}/add", "=list=edge-phones", "=address=192.168.88.12"])
            assert (await imported(on, (FOLDER / "remove.rsc").read_text())).endswith(GOOD)
            left = [(row["list"], row["address"]) for row in on.router.store.rows(lists)]
            assert left == [*((name, "192.168.88.11") for name in owners), ("edge-phones", "192.168.88.12")]

    run(test)


FLOWS: list[Row] = [
    {"protocol": "udp", "connection-mark": "edge-wan", "reply-dst-address": "198.51.100.2:5060"},
    {"protocol": "udp", "connection-mark": "edge-wan", "reply-dst-address": "192.0.2.2:5062"},
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["job", "watch"])
def test_the_flush_needs_read_and_write_and_no_more(version: Version, form: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version, "hap-ac2") as on:
            assert (await imported(on, script("hap-ac2", version))).endswith(GOOD)
            (job,) = on.router.store.rows("/system/scheduler")
            assert {one for one in job["policy"].split(",") if one[0] != "!"} == {"read", "write"}
            text = job["on-event"]
            if form == "watch":
                assert (await imported(on, (FOLDER / "netwatch-hap-ac2.rsc").read_text())).endswith(GOOD)
                text = on.router.store.rows("/tool/netwatch")[0]["down-script"].replace(":delay 10s", ":delay 1ms")
            for policies, left in (({"read"}, 2), ({"write"}, 2), ({"read", "write"}, 1)):
                assert await _left(on, text, frozenset(policies)) == left, policies

    run(test)


async def _left(on: Rig, text: str, policies: frozenset[str]) -> int:
    """How many flows the script leaves when it runs with these policies: one is on the wrong path."""
    on.plane.set_connections(FLOWS)
    await on.router.engine.scripts.run_job(text, "test", Caller("*sys", policies))
    return len(await on.router.engine.view(on.router.store.menus["/ip/firewall/connection"]))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_dhcp_script_needs_read_and_write_and_no_more(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version, "hap-ac2") as on:
            assert (await imported(on, script("hap-ac2", version))).endswith(GOOD)
            clients = {row["interface"]: row["script"] for row in on.router.store.rows("/ip/dhcp-client")}
            on.router.store.script_globals |= {
                "bound": "1",
                "gateway-address": "192.0.2.9",
                "lease-address": "192.0.2.7",
            }
            for policies, moved in (({"read"}, False), ({"write"}, False), ({"read", "write"}, True)):
                caller = Caller("*sys", frozenset(policies))
                await on.router.engine.scripts.run_job(clients["ether1"], "test", caller)
                refused = "not enough permissions" in on.router.store.rows("/log")[-1]["message"]
                assert refused != moved
                assert _by_primary(on) == ({"192.0.2.9"} if moved else {"192.0.2.1"})

    run(test)


def _by_primary(on: Rig) -> set[str]:
    """The next hops of the routes that keep to the primary."""
    followed = re.compile(r"^edgeagent:(default-edge-wan$|canary-)")
    rows = on.router.store.rows("/ip/route")
    return {row["gateway"] for row in rows if followed.search(row.get("comment", ""))}
