"""firmware-scripts/: imported into the virtual router of that model and version, they make what ``provision`` makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeagent.routeros import console
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.values import Version
from tests.agent.rendered_rig import (
    GOOD,
    MODELS,
    VERSIONS,
    exported,
    imported,
    rig,
    script,
    still_wrong,
)
from tests.agent.support import run
from tests.agent.test_provision import provisioned
from tests.rendered import FOLDER, rendered


def test_the_files_are_what_the_rows_give() -> None:
    for path, content in rendered().items():
        assert path.read_text() == content, f"{path.name}: python -m tests.rendered writes it anew"
    there = {path.name for path in FOLDER.rglob("*.rsc")}
    assert there == {path.name for path in rendered()} | {"bootstrap.rsc"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("model", MODELS)
def test_an_imported_file_makes_what_provisioning_makes_and_removal_takes_it_away(
    version: Version, model: Profile, tmp_path: Path
) -> None:
    text = script(model, version)

    async def test() -> None:
        async with rig(tmp_path / "by-agent", version, model) as other:
            await provisioned(other.site, "apply")
            wanted = other.menus()
        async with rig(tmp_path / "by-hand", version, model) as on:
            before, untouched = await exported(on), on.menus()
            assert await still_wrong(on) != []
            assert (await imported(on, text)).endswith(GOOD)
            assert await still_wrong(on) == []
            assert {path: rows for path, rows in on.menus().items() if rows != wanted[path]} == {}
            # In the same order too, in which each leaves voice with a usable route; two that move nothing come last.
            late = {"edgeagent:here", "edgeagent:flush", "edgeagent:throttle-lte"}
            by_agent, by_hand = (
                [one for one in added(tmp_path / who) if one not in late] for who in ("by-agent", "by-hand")
            )
            assert by_hand == by_agent
            once = on.menus()
            assert "remove.rsc first" in await imported(on, text)
            assert on.menus() == once
            for _ in range(2):  # the second time there is nothing to do
                assert (await imported(on, (FOLDER / "remove.rsc").read_text())).endswith(GOOD)
                assert on.menus() == untouched
                assert await exported(on) == before

    run(test)


def added(folder: Path) -> list[str]:
    """The comments of all rows of ours that the router was told to add, in order."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    adds = [line["words"] for line in lines if "words" in line and line["words"][0].endswith("/add")]
    return [
        word.removeprefix("=comment=") for words in adds for word in words if word.startswith("=comment=edgeagent:")
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_comparison_bites(version: Version, tmp_path: Path) -> None:
    """The control: one word, one row, one place, one setting of the file changed."""
    good = script("hap-ac2", version)
    first = '  add comment="edgeagent:out-lte-rest"'.strip()
    row = next(part for part in re.split(r"\n(?=add )", good) if part.startswith(first))
    changed = {
        "word": good.replace("connection-nat-state=!srcnat", "connection-nat-state=srcnat"),
        "row": good.replace(row.rstrip() + "\n", "", 1),
        "place": good.replace(first + ' place-before=[find where comment="edgeagent:here"]', first, 1),
        "setting": good.replace("set udp-timeout=3m", "set udp-timeout=10s"),
    }

    async def test() -> None:
        for name, text in changed.items():
            assert text != good, name
            async with rig(tmp_path / name, version, "hap-ac2") as on:
                assert (await imported(on, text)).endswith(GOOD)
                assert await still_wrong(on) != [], name

    run(test)


@pytest.mark.parametrize("arguments", ["", "verbose=yes"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_router_of_another_version_is_left_as_it_is(version: Version, arguments: str, tmp_path: Path) -> None:
    other: Version = "6.49" if version == "7.22" else "7.22"

    async def test() -> None:
        async with rig(tmp_path, version, "hap-ac2") as on:
            before = on.menus()
            said = await imported(on, script("hap-ac2", other), arguments)
            assert ("this script is for RouterOS" if arguments else "bad command name") in said
            assert on.menus() == before
            older = {"6.49": "6.48.6 (long-term)", "7.22": "7.11.3 (stable)"}[version]
            on.router.store._settings["/system/resource"]["version"] = older
            assert "this script is for RouterOS" in await imported(on, script("hap-ac2", version), arguments)
            assert on.menus() == before

    run(test)


def test_verbose_import_gives_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        for version in VERSIONS:
            async with rig(tmp_path / version, version, "rb2011") as on:
                before = on.menus()
                assert (await imported(on, script("rb2011", version), "verbose=yes")).endswith(GOOD)
                assert await still_wrong(on) == []
                assert (await imported(on, (FOLDER / "remove.rsc").read_text(), "verbose=yes")).endswith(GOOD)
                assert on.menus() == before

    run(test)


@pytest.mark.parametrize("model", MODELS)
def test_without_jobs_the_rest_stands_and_netwatch_takes_the_place(model: Profile, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, "7.22", model, "home") as on:
            before = on.menus()
            watches = (FOLDER / f"netwatch-{model}.rsc").read_text()
            assert "are not there" in await imported(on, watches)
            said = await imported(on, script(model, "7.22"))
            assert "import netwatch" in said
            assert said.endswith(GOOD)
            assert (await imported(on, watches)).endswith(GOOD)
            assert "remove.rsc first" in await imported(on, watches)
            # Two hosts and the agent, which is at another address in this test.
            left = [change for change in await still_wrong(on) if "192.168.88.2" not in str(change)]
            assert [type(change).__name__ for change in left] == ["Add", "Remove"]
            assert "flush-127.0.0.1" in str(left[0])
            assert (await imported(on, (FOLDER / "remove.rsc").read_text())).endswith(GOOD)
            assert on.menus() == before

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_lost_dhcp_scripts_are_put_back(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version, "rb2011") as on:
            text = (FOLDER / f"lease-{version}.rsc").read_text()
            assert "are not there" in await imported(on, text)
            assert (await imported(on, script("rb2011", version))).endswith(GOOD)
            good = on.menus()
            async with on.ssh() as shell:
                await shell('/ip dhcp-client set [find] script=""')
                await shell('/ip dhcp-client set [find where interface=ether1] script=":log info told"')
            assert on.menus() != good
            for _ in range(2):
                assert (await imported(on, text)).endswith(GOOD)
                assert on.menus() == good

    run(test)


@pytest.mark.parametrize(
    "given",
    ["plain", "two words", 'say "hi"', "back\\slash", "\\n", "dollar $x", "$(1+1)", "a;b", "#x", "[find]", "{x}",
     "what?", "ä→€", "line\n  and \\\nmore\r\n\ttab", " lead and trail ", "a=b", "!no", "*A1", "'",
     "\x01", "x" * 300 + "\n" + "y " * 99],
)  # fmt: skip
def test_a_router_reads_back_what_was_written(given: str, tmp_path: Path) -> None:
    assert "?" not in console.text(given)

    async def test() -> None:
        for version in VERSIONS:
            async with rig(tmp_path / version, version, "hap-ac2") as on:
                for written in (console.text(given), console.value(given)):
                    line = console.command(["/system identity set", f"name={written}"])
                    assert (await imported(on, line + "\n")).endswith(GOOD), line
                    assert on.router.store.single("/system/identity")["name"] == given

    run(test)
