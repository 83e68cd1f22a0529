"""What a user may do, over the API and over SSH alike; jobs, device-mode, backups, and the certificate of api-ssl."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives import serialization

from hil.virtual.routeros.certificate import make_certificate, server_context
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_routeros.client import Bench, bench, eventually, run

DENIED = "not enough permissions (9)"
EVERYTHING = ("ssh", "api", "ftp", "read", "write", "policy", "test", "reboot", "sensitive")

# What a command needs besides a login: the console line, and the API words where there is a pair.
NEEDS = [
    ("/ip address print", ["/ip/address/print"], {"read"}),
    ("/system identity set name=x", ["/system/identity/set", "=name=x"], {"read", "write"}),
    (
        "/ip firewall address-list add list=a address=192.0.2.1",
        ["/ip/firewall/address-list/add", "=list=b", "=address=192.0.2.1"],
        {"read", "write"},
    ),
    ("/user add name=u group=read", ["/user/add", "=name=v", "=group=read"], {"read", "write", "policy"}),
    ("/user group add name=g", ["/user/group/add", "=name=h"], {"read", "write", "policy"}),
    ("/certificate import file-name=c.pem", ["/certificate/import", "=file-name=c.pem"], {"read", "write", "policy"}),
    ("/ping 192.0.2.1 count=1 interval=10ms", ["/ping", "=address=192.0.2.1", "=count=1", "=interval=10ms"], {"test"}),
    ("/export", ["/export"], {"read"}),
    ("/export file=x", ["/export", "=file=x"], {"read", "write", "ftp"}),
    (
        "/system backup save name=b",
        ["/system/backup/save", "=name=b"],
        {"read", "write", "policy", "ftp"},
    ),
    ("/file remove no", ["/file/remove", "=.id=no"], {"read", "write", "ftp"}),
    ("/system script run no", ["/system/script/run", "=number=no"], {"read"}),
    (
        "/system backup load name=no",
        ["/system/backup/load", "=name=no"],
        {"read", "write", "policy", "ftp", "reboot"},
    ),
]


@pytest.mark.parametrize(("line", "words", "needed"), NEEDS, ids=[line for line, _, _ in NEEDS])
def test_a_command_needs_its_policies_and_no_others(line: str, words: list[str], needed: set[str]) -> None:
    groups = {"all": needed, **{f"without-{name}": set(EVERYTHING) - {"ssh", "api"} - {name} for name in needed}}
    initial: Initial = {
        "/user/group": [
            {"name": name, "policy": ",".join(sorted(held | {"ssh", "api"}))} for name, held in groups.items()
        ],
        "/user": [{"name": name, "group": name, "password": "pw"} for name in groups],
    }

    async def test() -> None:
        async with bench("7.22", initial, ssh_port=0) as rig:
            for name in groups:
                client = await rig.client(name, "pw")
                replies = await client.ask(*words)
                async with rig.ssh(name, "pw") as shell:
                    said = await shell(line)
                assert (said.splitlines()[-1:] == [DENIED]) == (name != "all"), (name, said)
                assert any(f"=message={DENIED}" in reply for reply in replies) == (name != "all"), (name, replies)

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_user_may_not_make_or_change_a_job_that_may_more_than_the_user(version: Version) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as admin:
            await admin("/user group add name=w policy=ssh,read,write,test; /user add name=w group=w password=pw")
            await admin('/system scheduler add name=strong interval=1h on-event="" policy=read,reboot')
            async with rig.ssh("w", "pw") as shell:
                assert await shell('/system script add name=s source="" policy=read,policy') == DENIED
                assert await shell('/system scheduler add name=s interval=1h on-event="" policy=reboot') == DENIED
                assert await shell('/system scheduler set strong on-event="/user remove admin"') == DENIED
                assert await shell('/system scheduler add name=s interval=1h on-event="" policy=read,test') == ""
                assert await shell('/system script add name=s source=""') == ""
                assert await shell("/system scheduler remove strong") == ""
            (row,) = rig.router.store.rows("/system/scheduler")
            assert (row["owner"], row["policy"]) == ("w", "read,test")
            (row,) = rig.router.store.rows("/system/script")
            assert (row["owner"], row["policy"]) == ("w", "ssh,read,write,test")

    run(test)


async def _logged(rig: Bench, text: str) -> None:
    async def seen() -> bool:
        return any(text in row["message"] for row in rig.router.store.rows("/log"))

    await eventually(seen)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_scheduled_job_does_what_its_policies_allow_and_no_more(version: Version) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as admin:
            on_event = 'on-event="/system identity set name=job"'
            await admin(f"/system scheduler add name=may interval=50ms policy=read,write {on_event}")
            await eventually(lambda: _named(rig, "job"))
            await admin("/system scheduler remove may; /system identity set name=hand")
            await admin(f"/system scheduler add name=may-not interval=50ms policy=read {on_event}")
            await _logged(rig, f"script error (scheduler may-not): {DENIED}")
            assert rig.router.store.single("/system/identity")["name"] == "hand"

    run(test)


async def _named(rig: Bench, name: str) -> bool:
    return rig.router.store.single("/system/identity")["name"] == name


def test_a_job_runs_no_script_that_asks_for_more_than_the_job_may() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as admin:
            await admin('/system script add name=s policy=read,write,reboot source="/system identity set name=job"')
            await admin("/system scheduler add name=j interval=50ms policy=read,write on-event=s")
            await _logged(rig, f"script error (scheduler j): {DENIED}")
            await admin("/system script set s dont-require-permissions=yes")
            await eventually(lambda: _named(rig, "job"))
            await admin("/user group add name=w policy=ssh,read,write; /user add name=w group=w password=pw")
            await admin("/system script set s dont-require-permissions=no; /system scheduler remove j")
            async with rig.ssh("w", "pw") as shell:
                assert await shell("/system script run s") == DENIED
            await admin('/system script set s source=":global x 7"')
            assert await admin("/system script run s; :put $x") == "7"

    run(test)


def test_home_mode_forbids_schedulers_and_says_so() -> None:
    refused = "failure: not allowed by device-mode"
    add = "/system scheduler add name=s interval=50ms on-event=x"

    async def test() -> None:
        there: Initial = {"/system/scheduler": [{"name": "old", "interval": "50ms", "on-event": ":log info ran"}]}
        async with bench("7.22", there, ssh_port=0, device_mode="home") as rig, rig.ssh() as shell:
            printed = await shell("/system device-mode print")
            assert "mode: home" in printed
            assert "scheduler: no" in printed
            assert await shell(add) == refused
            assert await shell("/system scheduler set old interval=1s") == refused
            client = await rig.client()
            assert await client.trap("/system/scheduler/add", "=name=s") == refused
            said = await shell.run_file(f"/system identity set name=x\n{add}\n")
            assert said.endswith(f"Script Error: {refused} (/system/scheduler/add; line 2)")
            await asyncio.sleep(0.1)
            assert "ran" not in [row["message"] for row in rig.router.store.rows("/log")]
            assert await shell("/system scheduler remove old") == ""
            # Netwatch is not among what device-mode knows.
            assert await shell('/tool netwatch add host=192.0.2.1 down-script=":log info down"') == ""
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            assert await shell(add) == ""

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_backup_brings_everything_back_users_too_and_reboots(version: Version) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0, reboot_s=0.05) as rig:
            async with rig.ssh() as shell:
                await shell("/user add name=owner group=full password=theirs")
                await shell("/ip firewall filter add chain=input comment=theirs")
                await shell("/interface ethernet set ether2 comment=uplink")
                before = (await shell("/export")).splitlines()[1:]
                assert await shell('/system backup save name=b password="s3cret x"') == "Configuration backup saved"
                data = await shell.get("b.backup")
                assert b"theirs" not in data
                await shell("/user remove owner; /ip firewall filter remove [find]; /user group add name=new")
                await shell('/ip firewall filter add chain=forward comment=ours; /interface ethernet set 1 comment=""')
                assert await shell("/system backup load name=b password=wrong") == (
                    "failure: bad password for backup file"
                )
                with contextlib.suppress(AssertionError, asyncssh.Error):
                    await shell('/system backup load name=b password="s3cret x"')

            async def back() -> bool:
                return not rig.router.rebooting

            await eventually(back)
            async with rig.ssh("owner", "theirs") as shell:
                assert (await shell("/export")).splitlines()[1:] == before
                assert await shell(":put [/interface get ether2 comment]") == "uplink"
                assert await shell("/interface ethernet set ether2 comment=again") == ""
                assert await shell(":put [/interface get ether2 comment]") == "again"

    run(test)


def test_a_group_in_use_stays() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            await shell("/user group add name=g policy=read; /user add name=u group=g password=x")
            assert await shell("/user group remove g") == "failure: group has some users"
            assert await shell("/user remove u; /user group remove g") == ""

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_api_ssl_talks_only_with_the_certificate_imported_and_assigned(version: Version, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass phrase"),
    )
    pinned = ssl.create_default_context(cafile=str(certificate))

    async def test() -> None:
        async with bench(version, ssh_port=0, tls_port=0) as rig, rig.ssh() as shell:
            with pytest.raises((ssl.SSLError, OSError)):
                await rig.connect(pinned)
            await shell.put("agent.crt", certificate.read_bytes())
            await shell.put("agent.key", locked)
            said = await shell('/certificate import file-name=agent.key passphrase="pass phrase"')
            assert "keys-with-no-certificate: 1" in said
            said = await shell('/certificate import file-name=agent.crt passphrase=""')
            assert "certificates-imported: 1" in said
            assert "decryption-failures: 1" in await shell("/certificate import file-name=agent.key passphrase=no")
            said = await shell('/certificate import file-name=agent.key passphrase="pass phrase"')
            assert "private-keys-imported: 1" in said
            await shell("/ip service set api-ssl certificate=agent.crt_0 disabled=no")
            await (await rig.connect(pinned)).login()
            shown = await shell("/certificate print detail")
            assert "PRIVATE KEY" not in shown
            assert "name=agent.crt_0" in shown
            which = "and dynamic=no" if version == "7.22" else ""  # the connection of before is a row there
            for change in ("address=192.0.2.0/24", 'address="" disabled=yes'):
                assert await shell(f'/ip service set [find where name="api-ssl" {which}] {change}') == ""
                with pytest.raises((ssl.SSLError, OSError, EOFError)):
                    await (await rig.connect(pinned)).login()

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_is_a_row_of_its_service_from_7_19_on(version: Version) -> None:
    """Such a row refuses to be set, and goes with the connection (changelog of 7.19)."""

    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            client = await rig.client()
            seen = await client.rows("/ip/service/print", "?name=api")
            if version == "6.49":
                assert ["dynamic" in row for row in seen] == [False]
                assert await shell("/ip service set api address=127.0.0.0/8") == ""
                return
            standing, connection = seen
            assert (standing["dynamic"], connection["dynamic"], connection["connection"]) == ("false", "true", "true")
            assert connection["remote"].startswith("127.0.0.1:")
            assert not connection.keys() & {"address", "certificate", "max-sessions"}
            assert await shell("/ip service set api disabled=yes") == "failure: this is configured elsewhere"
            assert await shell('/ip service set [find where name="ssh"] disabled=yes') != ""  # this very one is a row
            assert await shell('/ip service set [find where name="api" and dynamic=no] address=127.0.0.0/8') == ""
            await client.close()
            await eventually(lambda: _rows_are(rig, "api", 1))

    run(test)


async def _rows_are(rig: Bench, name: str, count: int) -> bool:
    return sum(row["name"] == name for row in rig.router.store.rows("/ip/service")) == count


def test_the_bench_may_lend_api_ssl_a_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "127.0.0.1")

    async def test() -> None:
        async with bench("7.22", tls_port=0, tls=server_context(certificate, key)) as rig:
            await (await rig.connect(ssl.create_default_context(cafile=str(certificate)))).login()

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_armed_rollback_fires_by_itself_unless_it_is_removed(version: Version) -> None:
    arm = (
        "/system backup save name=before password=x\n"
        "/system scheduler add name=rollback interval=4s policy=ftp,reboot,read,write,policy,test "
        'on-event="/system backup load name=before password=x"\n'
        "/user add name=agent group=full password=pw\n"
    )

    async def test() -> None:
        async with bench(version, ssh_port=0, reboot_s=0.05) as rig:
            for proved in (True, False):
                async with rig.ssh() as shell:
                    assert (await shell.run_file(arm)).endswith("successfully")
                    if proved:
                        await shell("/system scheduler remove rollback")
                        await asyncio.sleep(4.3)
                        assert "agent" in rig.router.store.names("/user")
                        await shell("/user remove agent")

            async def undone() -> bool:
                return not rig.router.rebooting and "agent" not in rig.router.store.names("/user")

            await eventually(undone)
            assert rig.router.store.rows("/system/scheduler") == []

    run(test)
