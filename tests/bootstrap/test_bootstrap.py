"""``provision --bootstrap`` as a person runs it: on a fresh router, again, and where things stand in the way."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from edgeagent.config.site import load
from edgeagent.daemon.control import StatusSocket
from hil.virtual.routeros.access import held
from hil.virtual.routeros.backup import ENCRYPTED
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import run
from tests.bootstrap.support import Site, bought, mode, place

pytestmark = pytest.mark.slow
WEAK = {"name": "helper", "group": "write", "password": "the-owners-own-secret"}


@pytest.mark.parametrize(
    ("version", "profile"), [("6.49", "generic"), ("6.49", "rb2011"), ("7.22", "generic"), ("7.22", "hap-ac2")]
)
def test_a_fresh_router_gets_the_access_and_a_second_run_changes_nothing(
    tmp_path: Path, version: Version, profile: str
) -> None:
    async def test() -> None:
        async with place(tmp_path, version, profile=profile) as site:
            done = await site.bootstrap()
            assert (done.code, done.err.count("In the way")) == (0, 0), done.said
            (group,) = [row for row in site.rows("/user/group") if row["name"] == "edgeagent"]
            assert held(group["policy"]) == {"api", "read", "write", "test"}
            (user,) = [row for row in site.rows("/user") if row["name"] == "edgeagent"]
            assert (user["group"], user["address"], user["disabled"]) == ("edgeagent", "127.0.0.1/32", "false")
            assert site.service() == {"address": "127.0.0.1/32", "certificate": "edgeagent", "disabled": "false"}
            assert site.ours() == {"/user", "/user/group", "/certificate", "service"}
            assert (mode(site.password_file), mode(site.certificate)) == (0o600, 0o644)
            shown = await asyncio.to_thread(_shown, site.router.ports["api-ssl"])
            assert shown == ssl.PEM_cert_to_DER_cert(site.certificate.read_text())
            before, history, kept = site.export(), len(site.rows("/system/history")), _backups(site)
            assert history > 0  # the control: what the first run changed is counted there
            for _ in range(2):
                again = await site.bootstrap()
                assert (again.code, "nothing was changed" in again.out) == (0, True), again.said
            assert (site.export(), len(site.rows("/system/history")), _backups(site)) == (before, history, kept)

    run(test)


def test_an_owner_without_a_password_as_on_a_router_just_unpacked(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22", {}, profile="hap-ac2", device_mode="home", password="") as site:
            site.owner_file.write_text("\n")
            done = await site.bootstrap()
            assert done.code == 0, done.said
            assert "systemctl restart" not in done.out  # no agent runs here
            assert site.ours() == {"/user", "/user/group", "/certificate", "service"}

    run(test)


def test_where_an_agent_runs_already_the_last_line_says_to_start_it_anew(tmp_path: Path) -> None:
    """It was handed its password when it started, and that was another one, or none."""

    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            control = StatusSocket(Path(load(site.site).control_socket), lambda: {"format": 1})
            await control.open()
            done = await site.bootstrap()
            await control.close()
            assert done.code == 0, done.said
            assert "sudo systemctl restart edgeagent" in done.out.splitlines()[-1]

    run(test)


def test_a_password_that_is_there_already_is_taken_whatever_is_in_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "6.49") as site:
            site.password_file.write_text('a "b" $c \\d [e] {f}; größer\n')
            done = await site.bootstrap()
            assert done.code == 0, done.said
            assert site.router.store.password_of("edgeagent") == 'a "b" $c \\d [e] {f}; größer'

    run(test)


def _shown(port: int) -> bytes:
    """The certificate that the router shows, by another client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 5) as sock, context.wrap_socket(sock) as tls:
        return tls.getpeercert(binary_form=True) or b""


def _backups(site: Site) -> list[Path]:
    return sorted((site.folder / "state" / "router-backups").iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_backup_is_encrypted_brings_the_router_back_and_only_this_machine_has_it(
    tmp_path: Path, version: Version
) -> None:
    async def test() -> None:
        async with place(tmp_path, version, reboot_s=0.05) as site:
            before = site.export()
            assert (await site.bootstrap()).code == 0
            backup, password, export, undo = _backups(site)
            assert [path.suffix for path in (backup, password, export, undo)] == [
                ".backup",
                ".password",
                ".rsc",
                ".undo",
            ]
            assert {mode(path) for path in _backups(site)} == {0o600}
            assert backup.read_bytes().startswith(ENCRYPTED)
            assert "MikroTik" not in export.read_text()
            assert "/ip firewall" in export.read_text()
            assert site.names("/file") == set()
            await site.upload("restore.backup", backup.read_bytes())
            secret = password.read_text().strip()
            await site.router.store.sentence(["/system/backup/load", "=name=restore.backup", f"=password={secret}"])
            await site.back()
            site.router.store.find("/file", "restore.backup")
            await site.router.store.sentence(["/file/remove", "=.id=restore.backup"])
            assert site.export() == before

    run(test)


def _everything_wrong(version: Version) -> dict[str, Any]:
    rules = bought(version)
    rules["/ip/address"].append({"address": "127.9.9.5/24", "interface": "ether3"})
    rules["/ip/route"].append({"dst-address": "0.0.0.0/0", "gateway": "198.51.100.77", "distance": "5"})
    rules["/ip/dhcp-client"] = [{"interface": "ether5"}]
    rules["/interface/list/member"].append({"list": "WAN", "interface": "ether5"})
    rules["/user"] = [WEAK]
    return rules


BLOCKERS = (
    "lacks the policies ftp, policy;",
    "free-hdd-space is 97 KiB; expected 1024 KiB",
    "more than a day from this machine's",
    "127.9.9.5/24 on ether3 overlaps agent.alias_prefix 127.9.9.0/29",
    "leads through the backup's port ether5 (gateway 198.51.100.77)",
    "the client on the backup's port ether5 takes a default route",
    "the backup's port ether5 is in the list WAN",
)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_that_stands_in_the_way_is_named_at_once_and_nothing_is_changed(tmp_path: Path, version: Version) -> None:
    async def test() -> None:
        options = {"free_bytes": 100_000, "clock_offset_s": -1_700_000_000.0}
        async with place(tmp_path, version, _everything_wrong(version), **options) as site:
            before = site.export()
            done = await site.bootstrap(owner="helper")
            assert done.code == 2
            for blocker in BLOCKERS:
                assert blocker in done.err, blocker
            assert done.err.count("In the way:") == len(BLOCKERS)
            assert f"{len(BLOCKERS)} things stand in the way. Nothing was changed." in done.err
            assert (site.export(), site.rows("/system/history")) == (before, [])
            assert not site.password_file.exists()
            assert not site.certificate.exists()

    run(test)


MEMORY = ("/system/resource", "free-memory")


@pytest.mark.parametrize(
    ("profile", "free_bytes", "memory_bytes", "why"),
    [
        ("hap-ac2", 200_000, 2_000_000, ""),  # the files go to memory there: 1 MiB of flash is not asked for
        ("hap-ac2", 50_000, 2_000_000, "free-hdd-space is 48 KiB; expected 64 KiB"),
        ("hap-ac2", 200_000, 900_000, "free-memory is 878 KiB; expected 1024 KiB"),
        ("rb2011", 200_000, 2_000_000, "free-hdd-space is 195 KiB; expected 1024 KiB"),
        ("rb2011", 2_000_000, 900_000, ""),
    ],
)
def test_space_is_asked_for_where_the_files_go(
    tmp_path: Path, profile: str, free_bytes: int, memory_bytes: int, why: str
) -> None:
    async def test() -> None:
        async with place(tmp_path, "6.49", {}, profile=profile, free_bytes=free_bytes) as site:
            menu, name = MEMORY
            site.router.store._settings[menu][name] = str(memory_bytes)
            done = await site.bootstrap()
            assert (done.code, done.err.count("In the way:")) == ((2, 1) if why else (0, 0)), done.said
            assert why in done.err

    run(test)


def test_a_network_of_the_lan_at_the_modems_port_stands_in_the_way(tmp_path: Path) -> None:
    async def test() -> None:
        rules = bought("7.22")
        rules["/ip/address"].append({"address": "192.168.88.20/24", "interface": "ether5"})
        async with place(tmp_path, "7.22", rules) as site:
            done = await site.bootstrap()
            assert (done.code, done.err.count("In the way:")) == (2, 1), done.said
            assert "192.168.88.20/24 on the backup's port ether5 (the modem's own network) overlaps" in done.err

    run(test)


def test_a_default_by_way_of_hosts_beyond_the_backup_and_halves_of_one_stand_in_the_way(tmp_path: Path) -> None:
    """And one to nowhere does not, where no gateway of the backup is known."""

    async def test() -> None:
        rules = bought("7.22")
        rules["/ip/address"] = [row for row in rules["/ip/address"] if row["interface"] != "ether5"]
        rules["/ip/route"] += [
            {"dst-address": "0.0.0.0/0", "gateway": "203.0.113.200", "distance": "9"},
            {"dst-address": "203.0.113.200/32", "gateway": "ether5"},
            {"dst-address": "128.0.0.0/1", "gateway": "ether5"},
            {"dst-address": "0.0.0.0/0", "blackhole": "", "distance": "200"},
        ]
        async with place(tmp_path, "7.22", rules) as site:
            text = site.site.read_text().replace('gateway = "198.51.100.1"', 'kind = "dhcp"')
            site.site.write_text(text)
            done = await site.bootstrap()
            assert (done.code, done.err.count("In the way:")) == (2, 2), done.said
            assert "the owner's route to 128.0.0.0/1 leads through the backup's port ether5" in done.err
            assert "to 0.0.0.0/0 leads through the backup's port ether5 (gateway 203.0.113.200)" in done.err

    run(test)


@pytest.mark.parametrize("gateway", ["ether5", "198.51.100.1%ether5", "198.51.100.1"])
def test_a_default_route_through_the_backup_is_known_by_port_gateway_and_subnet(tmp_path: Path, gateway: str) -> None:
    async def test() -> None:
        rules = bought("7.22")
        rules["/ip/route"].append({"gateway": gateway, "distance": "9"})
        async with place(tmp_path, "7.22", rules) as site:
            done = await site.bootstrap()
            assert (done.code, done.err.count("In the way:")) == (2, 1), done.said
            assert f"(gateway {gateway})" in done.err
            route = next(row for row in site.rows("/ip/route") if row["gateway"] == gateway)
            await site.router.store.sentence(["/ip/route/disable", f"=.id={route['.id']}"])
            assert (await site.bootstrap()).code == 0  # the control: that was all

    run(test)


def test_names_that_somebody_else_uses_are_not_taken_over(tmp_path: Path) -> None:
    async def test() -> None:
        rules = bought("6.49")
        rules["/user/group"] = [{"name": "edgeagent", "policy": "read"}]
        rules["/user"] = [{"name": "edgeagent", "group": "read", "password": "x"}]
        async with place(tmp_path, "6.49", rules) as site:
            done = await site.bootstrap()
            assert done.code == 2
            assert "has a user named edgeagent that is not known to be the agent's" in done.err
            assert "has a group named edgeagent" in done.err
            removed = await site.run("--remove", *site.bootstrap_words())
            assert removed.code == 2  # nobody of ours gets in
            await site.router.store.sentence(["/user/remove", "=.id=edgeagent"])
            await site.router.store.sentence(["/user/group/remove", "=.id=edgeagent"])
            assert (await site.bootstrap()).code == 0

    run(test)


def test_a_service_that_is_in_use_and_an_odd_clock_are_only_warned_of(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22", clock_offset_s=4000.0) as site:
            await site.give_certificate("owners")
            done = await site.bootstrap()
            assert done.code == 0, done.said
            assert "with the certificate owners, for the addresses: any. It gets the agent's" in done.err
            assert "some minutes from this machine's" in done.err
            assert "the plain API on port" in done.err
            assert "not known to be" not in done.err

    run(test)


def test_where_jobs_are_forbidden_the_way_back_is_shown_and_kept(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22", device_mode="home") as site:
            before = site.export()
            done = await site.bootstrap()
            assert done.code == 0, done.said
            assert "/system device-mode: found home, in which the router runs no jobs" in done.err
            assert "The router undoes" not in done.out
            undo = next(path for path in _backups(site) if path.suffix == ".undo")
            for line in undo.read_text().splitlines():
                assert line in done.out
                assert await site.console(line) == ""
            assert (site.ours(), site.export()) == (set(), before)  # they do what they say

    run(test)


def test_an_unknown_version_is_asked_nothing_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            site.router.store._settings["/system/resource"]["version"] = "8.1 (stable)"
            done = await site.bootstrap()
            assert (done.code, "RouterOS 8.1 (stable) is not supported" in done.err) == (2, True)
            assert (site.rows("/system/history"), site.ours()) == ([], set())

    run(test)


def test_another_port_than_the_sites_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            text = re.sub(r"(?m)^port = \d+$", "port = 8730", site.site.read_text(), count=1)
            site.site.write_text(text)
            done = await site.bootstrap()
            assert (done.code, "expected 8730, which router.port" in done.err) == (2, True), done.said

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_hand_changed_is_put_right_by_another_run(tmp_path: Path, version: Version) -> None:
    hands = (
        ("/user/set", "=.id=edgeagent", "=password=other"),
        ("/user/set", "=.id=edgeagent", "=address="),
        ("/user/disable", "=.id=edgeagent"),
        ("/user/group/set", "=.id=edgeagent", "=policy=read"),
        ("/ip/service/set", "=.id=api-ssl", "=address="),
        ("/ip/service/disable", "=.id=api-ssl"),
        ("/certificate/remove", "=.id=edgeagent"),
    )

    async def test() -> None:
        async with place(tmp_path, version) as site:
            assert (await site.bootstrap()).code == 0
            for hand in hands[:: 2 if version == "6.49" else 1]:
                service = site.router.store.service("api-ssl").id  # by name it may be a connection that just ends
                await site.router.store.sentence([word.replace("=api-ssl", f"={service}") for word in hand])
                mended = await site.bootstrap()
                assert mended.code == 0, mended.said
                assert "Proved" in mended.out
                again = await site.bootstrap()
                assert "nothing was changed" in again.out, again.said
            assert site.ours() == {"/user", "/user/group", "/certificate", "service"}

    run(test)
