"""``/import``: what runs of a script that is wrong somewhere, and what the console says of it."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from hil.virtual.routeros.grammar import Grammar, GrammarError
from hil.virtual.routeros.kernel_syntax import joined, place_of, quoted, unescape
from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_routeros.client import Bench, bench, eventually, run

LISTS = "/ip/firewall/address-list"
GOOD = """\
# a comment; with a brace {
/ip firewall address-list
add list=a address=192.0.2.1 comment="one \\
    two"
add address=192.0.2.2 list=\\
    a
:local where "192.0.2.3"
:if ([:len [find list="a"]] = 2) do={
  add list=a address=$where
}
/system identity set name=done
"""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("arguments", ["", "verbose=yes"])
def test_a_good_script_runs_whole(version: Version, arguments: str) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            said = await shell.run_file(GOOD, arguments)
            assert said.endswith("Script file loaded and executed successfully")
            rows = rig.router.store.rows(LISTS)
            assert [(row["address"], row.get("comment")) for row in rows] == [
                ("192.0.2.1", "one two"), ("192.0.2.2", None), ("192.0.2.3", None),
            ]  # fmt: skip
            assert await shell(":put [/system identity get name]") == "done"
            assert ("#line 5" in said) == bool(arguments)

    run(test)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("add list=a address=192.0.2.9 frob=1", "expected end of command (line 4 column 30)"),
        ("/ip frobnicate", "bad command name frobnicate (line 4 column 5)"),
        ('add list="a', "syntax error (line 4 column 10)"),
        ("add list='a'", "syntax error (line 4 column 10)"),
        (":if (1 = 1) do={ :frob }", "bad command name frob (line 4 column 18)"),
        (":put [find list=a", "syntax error (line 4 column 6)"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_plain_import_of_a_syntax_error_changes_nothing_and_verbose_runs_up_to_it(
    version: Version, bad: str, complaint: str
) -> None:
    script = f"/ip firewall address-list\n# first\nadd list=a address=192.0.2.1\n{bad}\nadd list=a address=192.0.2.2\n"
    start = "" if version == "6.49" else "Script Error: "

    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            said = await shell.run_file(script)
            assert said.splitlines()[-1] == start + complaint
            assert rig.router.store.rows(LISTS) == []
            said = await shell.run_file(script, "verbose=yes")
            assert said.splitlines()[-1] == start + complaint
            assert [row["address"] for row in rig.router.store.rows(LISTS)] == ["192.0.2.1"]

    run(test)


@pytest.mark.parametrize("arguments", ["", "verbose=yes"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_failing_command_leaves_the_earlier_ones_and_skips_the_later(version: Version, arguments: str) -> None:
    script = GOOD.replace(":local where", ":put [find]\n:local where").replace("192.0.2.3", "192.0.2.1")

    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            said = await shell.run_file(script, arguments)
            told = "failure: already have such entry"
            if version == "7.22":
                told = f"Script Error: {told} (/ip/firewall/address-list/add; line 10)"
            assert said.splitlines()[-1] == told
            assert [row["address"] for row in rig.router.store.rows(LISTS)] == ["192.0.2.1", "192.0.2.2"]
            assert await shell(":put [/system identity get name]") == "MikroTik"

    run(test)


def test_the_api_imports_too_and_traps_where_it_stops() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            await shell.put("good.rsc", GOOD)
            await shell.put("bad.rsc", "/ip address\nfrob\n")
            client = await rig.client()
            await client.do("/import", "=file-name=good.rsc")
            assert len(rig.router.store.rows(LISTS)) == 3
            said = await client.trap("/import", "=file-name=bad.rsc")
            assert said == "Script Error: bad command name frob (line 2 column 1)"
            assert await client.trap("/import", "=file-name=no.rsc") == "Cannot open import file, file does not exist"
            assert await client.trap("/import") == "missing =file-name="

    run(test)


def test_dry_run_and_from_line_need_verbose_and_dry_run_needs_7() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            assert "need verbose" in await shell.run_file(GOOD, "dry-run=yes")
            assert "successfully" in await shell.run_file(GOOD, "verbose=yes dry-run=yes")
            assert "Script Error: bad" in await shell.run_file(GOOD + "/frob\n", "verbose=yes dry-run=yes")
            assert rig.router.store.rows(LISTS) == []
            assert "successfully" in await shell.run_file(GOOD, "verbose=yes from-line=11")
            assert rig.router.store.single("/system/identity")["name"] == "done"
            assert rig.router.store.rows(LISTS) == []
        async with bench("6.49", ssh_port=0) as rig, rig.ssh() as shell:
            assert "expected end of command" in await shell.run_file(GOOD, "verbose=yes dry-run=yes")

    run(test)


def test_each_command_of_a_script_is_judged_by_what_its_user_may_do() -> None:
    script = "/ip firewall address-list add list=a address=192.0.2.1\n/user add name=evil group=full\n"

    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as admin:
            await admin("/user group add name=w policy=ssh,ftp,read,write")
            await admin("/user add name=w group=w password=pw")
            async with rig.ssh("w", "pw") as shell:
                said = await shell.run_file(script)
            assert said.endswith("Script Error: not enough permissions (9) (/user/add; line 2)")
            assert len(rig.router.store.rows(LISTS)) == 1
            assert "evil" not in rig.router.store.names("/user")

    run(test)


@pytest.mark.parametrize(
    "text",
    ["", "plain", "two words", 'say "hi"', "back\\slash", "dollar $x", "a;b", "#x", "[find]", "{x}", "what?", "ä→€",
     "line\r\nline\ttab", " lead and trail ", "a=b", "!no", "*A1", "\x01\x7f", "c:\\new\\", "'", "$(1+1)", "\udcff"],
)  # fmt: skip
def test_what_is_quoted_reads_back_as_it_was(text: str) -> None:
    async def test() -> None:
        for version in VERSIONS:
            async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
                said = await shell.run_file(f"/system identity set name={quoted(text)}\n")
                assert said.endswith("successfully"), quoted(text)
                assert rig.router.store.single("/system/identity")["name"] == text

    run(test)


def test_places_are_those_of_the_file_though_lines_are_joined() -> None:
    source = "a \\\n  b\r\nc"
    text, places = joined(source)
    assert text == "a b\nc"
    assert [place_of(source, places[text.index(each)]) for each in "abc"] == [(1, 1), (2, 3), (3, 1)]
    assert unescape("\\C3\\A4") == "ä"
    with pytest.raises(GrammarError) as caught:
        Grammar("7.22").check("/ip address\nadd address=192.0.2.1/24 \\\n  interface=ether1 frob=1\n")
    assert place_of(caught.value.source, caught.value.at) == (3, 20)


def test_a_power_cut_ends_an_import_where_it_is_and_a_lost_connection_does_not() -> None:
    script = "/ip firewall address-list add list=a address=192.0.2.1\n:delay 2s\n"
    script += "/ip firewall address-list add list=a address=192.0.2.2\n"

    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig:
            for cut, rows in ((True, 1), (False, 2)):
                async with rig.ssh() as shell:
                    await shell("/ip firewall address-list remove [find]")
                    asked = asyncio.create_task(shell.run_file(script))
                    await eventually(lambda: _rows(rig, 1))
                    if cut:
                        rig.router.reboot(0.0)
                    else:
                        shell.connection.abort()
                    with pytest.raises((AssertionError, asyncssh.Error, OSError)):
                        await asked
                if cut:
                    await asyncio.sleep(2.5)
                await eventually(lambda rows=rows: _rows(rig, rows))  # type: ignore[misc]

    run(test)


async def _rows(rig: Bench, count: int) -> bool:
    return len(rig.router.store.rows(LISTS)) == count
