"""``/export``: its form, what it leaves out, and that it makes the same router again."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.export import LINE_MAX, Export
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.kernel_script import Interpreter
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.store import Store
from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_routeros.client import Bench, Shell, bench, run

ODD = 'say "hi" to $user; a\\b = [x] {y} #z? ä ' + "long words " * 12
SCRIPT = ':local a "x\\"y"\r\n:if ($a = "z") do={\r\n\t:log info "it is $a"\r\n}\r\n'


def config(version: Version) -> Initial:
    """Something in every menu that export writes."""
    table = {"routing-mark": "lte"} if version == "6.49" else {"routing-table": "lte"}
    hole = {"type": "blackhole"} if version == "6.49" else {"blackhole": ""}
    rules = "/ip/route/rule" if version == "6.49" else "/routing/rule"
    found: dict[str, object] = {
        "/interface/ethernet": [{"name": "ether2", "comment": "uplink", "disabled": "yes", "mtu": "1400"}],
        "/interface/bridge": [{"name": "bridge", "comment": "defconf", "priority": "0x7000"}, {"name": "edge-probe"}],
        "/interface/bridge/port": [
            {"interface": "ether3", "bridge": "bridge", "comment": ODD},
            {"interface": "ether4", "bridge": "edge-probe", "pvid": "7", "hw": "no"},
        ],
        "/interface/list": [{"name": "WAN"}, {"name": "LAN", "include": "WAN"}],
        "/interface/list/member": [{"interface": "ether1", "list": "WAN"}, {"interface": "bridge", "list": "LAN"}],
        "/ip/address": [
            {"address": "192.0.2.2/24", "interface": "ether1"},
            {"address": "192.0.2.9/32", "interface": "ether1", "network": "192.0.2.1", "disabled": "yes"},
        ],
        "/ip/dhcp-client": [{"interface": "ether5", "add-default-route": "no", "script": SCRIPT}],
        "/ip/dns": {"servers": "198.51.100.1,198.51.100.2", "allow-remote-requests": "yes", "cache-size": "4096KiB"},
        "/ip/settings": {"rp-filter": "loose"},
        "/ip/arp": [{"address": "192.0.2.7", "interface": "ether1", "mac-address": "02:00:00:00:00:01"}],
        "/ip/firewall/address-list": [
            {"list": "edge-voip", "address": "203.0.113.0/24", "comment": "edgeagent:prefix"},
            {"list": "gone", "address": "203.0.113.9", "timeout": "1h"},
        ],
        "/ip/firewall/filter": [
            {"chain": "forward", "action": "fasttrack-connection", "connection-state": "established,related"},
            {"chain": "forward", "action": "drop", "src-address-list": "!edge-voip", "comment": " lead", "log": "yes"},
            {"chain": "input", "in-interface-list": "!LAN", "disabled": "yes"},
        ],
        "/ip/firewall/nat": [{"chain": "srcnat", "action": "masquerade", "out-interface": "ether1"}],
        "/ip/firewall/mangle": [
            {"chain": "prerouting", "action": "mark-connection", "new-connection-mark": "a", "passthrough": "no"},
            {"chain": "prerouting", "action": "mark-connection", "new-connection-mark": "b", "passthrough": "yes"},
            {"chain": "prerouting", "action": "mark-packet", "new-packet-mark": "c d"},
        ],
        "/ip/firewall/raw": [{"chain": "prerouting", "action": "notrack", "dst-port": "69,5000-5010"}],
        "/ip/firewall/connection/tracking": {"udp-timeout": "30s"},
        "/ip/firewall/service-port": [{"name": "sip", "disabled": "yes"}],
        "/ip/service": [{"name": "telnet", "disabled": "yes"}, {"name": "www", "address": "192.0.2.0/24"}],
        "/ip/route": [
            {"gateway": "192.0.2.1", "check-gateway": "ping"},
            {"gateway": "192.0.2.3", "distance": "9", **table},
            {"dst-address": "203.0.113.0/24", "distance": "250", **hole},
        ],
        rules: [{"src-address": "192.0.2.4/32", "action": "lookup-only-in-table", "table": "lte"}],
        "/queue/simple": [{"name": "edge", "target": "ether5", "max-limit": "1M/1M"}],
        "/ppp/secret": [{"name": "branch", "password": "s3cret", "service": "l2tp"}],
        "/system/identity": {"name": "Main Street 5"},
        "/system/clock": {"time-zone-name": "Europe/Riga"},
        "/system/script": [{"name": "flush", "source": SCRIPT, "policy": "read,write"}],
        "/system/scheduler": [{"name": "every", "interval": "10s", "on-event": ODD, "policy": "read,write,test"}],
        "/tool/netwatch": [{"host": "192.0.2.1", "down-script": SCRIPT, "interval": "5s"}],
        "/user/group": [{"name": "edge", "policy": "api,read,write,test"}, {"name": "read", "policy": "read"}],
    }  # fmt: skip
    if version == "7.22":
        found["/routing/table"] = [{"name": "lte", "fib": ""}]
        found["/routing/settings"] = {"check-gateway-ping-interval": "1s"}
    return found  # type: ignore[return-value]


def body(text: str) -> str:
    """An export without the line that tells the time."""
    first, _, rest = text.partition("\n")
    assert first.startswith("# ")
    return rest


def rows(rig: Bench) -> dict[str, list[Row]]:
    """All rows that are configuration, without what the router gives them."""
    found = {}
    for path, menu in rig.router.store.menus.items():
        if path in ("/log", "/system/history", "/user/active", "/file", "/system/resource", "/system/clock"):
            continue
        if menu.single:
            found[path] = [rig.router.store.single(path)]
        else:
            given = (".id", "creation-time", "dynamic", "owner", "run-count", "port")
            kept = [row for row in rig.router.store.rows(path) if row["dynamic"] == "false"]
            found[path] = [
                {name: value for name, value in row.items() if name not in given and value != "false"} for row in kept
            ]
    return found


@pytest.mark.parametrize("terse", ["", "terse"])
@pytest.mark.parametrize("profile", ["rb2011", "hap-ac2"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_makes_the_same_router_again(version: Version, profile: Profile, terse: str) -> None:
    show = "show-sensitive" if version == "7.22" else ""

    async def test() -> None:
        async with bench(version, config(version), ssh_port=0, profile=profile) as rig, rig.ssh() as shell:
            first = await shell(f"/export {terse} {show}")
            wanted = rows(rig)
        async with bench(version, ssh_port=0, profile=profile) as rig, rig.ssh() as shell:
            assert (await shell.run_file(first)).endswith("Script file loaded and executed successfully")
            assert body(await shell(f"/export {terse} {show}")) == body(first)
            assert rows(rig) == wanted
            if terse:
                assert all(len(line.split(" ")) > 2 for line in first.splitlines() if not line.startswith("#"))
            else:
                assert max(map(len, first.splitlines())) <= LINE_MAX

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_router_out_of_the_box_has_nothing_to_export(version: Version) -> None:
    header = {
        "6.49": r"# [a-z]{3}/\d\d/\d{4} \d\d:\d\d:\d\d by RouterOS 6\.49\.18",
        "7.22": r"# \d{4}-\d\d-\d\d \d\d:\d\d:\d\d by RouterOS 7\.22\.3",
    }[version]

    async def test() -> None:
        async with bench(version, ssh_port=0, profile="rb2011") as rig, rig.ssh() as shell:
            lines = (await shell("/export")).splitlines()
            assert re.fullmatch(header, lines[0])
            assert all(line.startswith("#") for line in lines)
            assert "# model = RB2011UiAS" in lines

    run(test)


def test_the_form_of_an_export() -> None:
    async def test() -> None:
        async with bench("6.49", config("6.49"), ssh_port=0) as rig, rig.ssh() as shell:
            lines = (await shell("/export")).splitlines()
            for wanted in (
                "set [ find default-name=ether2 ] comment=uplink disabled=yes mtu=1400",
                "add address=192.0.2.2/24 interface=ether1 network=192.0.2.0",
                "add action=accept chain=input disabled=yes in-interface-list=!LAN",
                "set telnet disabled=yes",
                "set sip disabled=yes",
                'set name="Main Street 5"',
            ):
                assert wanted in lines
            assert not [
                line for line in lines if "list=gone" in line or "special dummy" in line or "add name=admin" in line
            ]
            scoped = (await shell("/ip address export")).splitlines()
            assert [line for line in scoped if not line.startswith("#")] == [
                "/ip address",
                "add address=192.0.2.2/24 interface=ether1 network=192.0.2.0",
                "add address=192.0.2.9/32 disabled=yes interface=ether1 network=192.0.2.1",
            ]
            await shell("/interface bridge remove [find name=bridge]")
            assert "remove [ find name=bridge ]" in (await shell("/export")).splitlines()

    run(test)


async def _shows(shell: Shell, line: str) -> bool:
    return "password=s3cret" in await shell(line)


def test_secrets_are_shown_on_6_and_hidden_on_7_unless_said_otherwise() -> None:
    async def test() -> None:
        async with bench("6.49", config("6.49"), ssh_port=0) as rig, rig.ssh() as shell:
            assert await _shows(shell, "/export")
            assert not await _shows(shell, "/export hide-sensitive")
            assert "expected end of command" in await shell("/export show-sensitive")
            await _without_sensitive(rig, shell, "/export")
        async with bench("7.22", config("7.22"), ssh_port=0) as rig, rig.ssh() as shell:
            assert not await _shows(shell, "/export")
            assert await _shows(shell, "/export show-sensitive")
            await _without_sensitive(rig, shell, "/export show-sensitive")

    run(test)


async def _without_sensitive(rig: Bench, admin: Shell, line: str) -> None:
    assert "password=s3cret" in await admin("/ppp secret print")
    await admin("/user group add name=plain policy=ssh,read,write")
    await admin("/user add name=plain group=plain password=pw")
    async with rig.ssh("plain", "pw") as shell:
        assert not await _shows(shell, line)
        assert "password=*****" in await shell("/ppp secret print")
        assert await shell("/export file=x") == "not enough permissions (9)"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_to_a_file_is_the_same_text_and_can_be_fetched(version: Version) -> None:
    async def test() -> None:
        async with bench(version, config(version), ssh_port=0) as rig, rig.ssh() as shell:
            assert await shell("/export file=before") == ""
            text = (await shell.get("before.rsc")).decode().replace("\r\n", "\n").rstrip("\n")
            assert body(text) == body(await shell("/export"))
            client = await rig.client()
            (done,) = await client.ask("/export")
            assert body("\n".join(done)[len("!done\n=ret=") :].replace("\r\n", "\n").rstrip("\n")) == body(text)

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_made_and_taken_away_again_leaves_no_trace_in_the_export(version: Version) -> None:
    async def test() -> None:
        async with bench(version, config(version), ssh_port=0) as rig, rig.ssh() as shell:
            before = body(await shell("/export"))
            add = "/ip firewall filter add chain=forward action=drop comment=edgeagent:x"
            # The first row is the one that counts what fasttrack lets by; nothing may stand before it.
            assert await shell(f"{add} place-before=0") == "failure: can not move/place before builtin/dynamic"
            assert await shell(f"{add} place-before=1") == ""
            await shell("/interface ethernet set ether5 comment=lte disabled=yes")
            await shell("/ip service set api-ssl address=192.0.2.5/32 disabled=yes")
            changed = body(await shell("/export"))
            assert changed != before
            assert "comment=edgeagent:x" in changed
            await shell("/ip firewall filter remove [find comment=edgeagent:x]")
            await shell('/interface ethernet set ether5 comment="" disabled=no')
            await shell('/ip service set api-ssl address="" disabled=no')
            assert body(await shell("/export")) == before

    run(test)


def test_a_foreign_reader_finds_no_fault_in_an_export(tmp_path: Path) -> None:
    """routeros-lsp knows RouterOS 7 by its own means."""

    async def test() -> None:
        async with bench("7.22", config("7.22"), ssh_port=0) as rig, rig.ssh() as shell:
            (tmp_path / "good.rsc").write_text(await shell("/export show-sensitive") + "\n")

    run(test)
    (tmp_path / "bad.rsc").write_text("/ip address\nadd adress=192.0.2.1/24\n")
    check = [sys.executable, "-m", "routeros_lsp", "check"]
    good = subprocess.run([*check, str(tmp_path / "good.rsc")], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, ""), good.stdout
    bad = subprocess.run([*check, str(tmp_path / "bad.rsc")], capture_output=True, text=True, check=False)
    assert "adress" in bad.stdout


def test_flags_that_7_takes_bare_are_written_and_taken_so() -> None:
    async def test() -> None:
        async with bench("7.22", config("7.22"), ssh_port=0) as rig, rig.ssh() as shell:
            lines = (await shell("/export")).splitlines()
            assert "add fib name=lte" in lines
            assert "add blackhole distance=250 dst-address=203.0.113.0/24" in lines
            assert await shell("/routing table add name=x fib=yes") == "expected end of command (line 1 column 27)"
            assert await shell("/routing table add name=x fib") == ""

    run(test)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from('"\\$?\r\n\t #;[]{}()'), min_size=1, max_size=300))
def test_any_text_survives_quotes_and_broken_lines(source: str) -> None:
    store = Store("7.22", "generic")
    store.add(store.menus["/system/script"], {"name": "x", "source": source})
    text = Export(store, secrets=True).text("/system/script")
    assert max(map(len, text.split("\r\n"))) <= LINE_MAX
    written: list[list[str]] = []

    async def sentence(words: list[str]) -> list[Row]:
        written.append(words)
        return []

    asyncio.run(Interpreter(sentence, lambda *_line: None).run(text))
    assert f"=source={source}" in written[-1]
