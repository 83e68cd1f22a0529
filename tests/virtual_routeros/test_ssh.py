"""The SSH and SFTP side of the virtual router, by two clients that share no code: asyncssh and paramiko."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import time
from pathlib import Path

import asyncssh
import paramiko
import pytest

from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_routeros.client import PASSWORD, Bench, bench, eventually, run

GROUPS: Initial = {
    "/user/group": [
        {"name": "install", "policy": "ssh,ftp,read,write,policy,test,api,reboot,sensitive"},
        {"name": "reader", "policy": "ssh,ftp,read"},
        {"name": "shell", "policy": "ssh,read,write"},
        {"name": "writer", "policy": "ssh,ftp,write"},
        {"name": "robot", "policy": "api,read,write,test"},
    ],
    "/user": [
        {"name": "installer", "group": "install", "password": "pw"},
        {"name": "reader", "group": "reader", "password": "pw"},
        {"name": "shell", "group": "shell", "password": "pw"},
        {"name": "writer", "group": "writer", "password": "pw"},
        {"name": "robot", "group": "robot", "password": "pw"},
        {"name": "away", "group": "install", "password": "pw", "address": "192.0.2.0/24"},
        {"name": "gone", "group": "install", "password": "pw", "disabled": "yes"},
    ],
}


def _paramiko(rig: Bench, user: str, password: str) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    assert rig.router.ssh is not None
    kind, _, key = rig.router.ssh.host_key.partition(" ")
    known = paramiko.RSAKey(data=base64.b64decode(key))
    client.get_host_keys().add(f"[127.0.0.1]:{rig.router.ports['ssh']}", kind, known)
    options = {"look_for_keys": False, "allow_agent": False, "timeout": 60}
    client.connect("127.0.0.1", rig.router.ports["ssh"], user, password, **options)
    return client


def test_a_foreign_client_logs_in_by_the_pinned_key_runs_commands_and_moves_files() -> None:
    def work(rig: Bench) -> None:
        with _paramiko(rig, "admin", PASSWORD) as client:
            _in, out, err = client.exec_command("/system identity print")
            assert (out.read(), err.read(), out.channel.recv_exit_status()) == (b"  name: MikroTik\r\n", b"", 0)
            _in, out, _err = client.exec_command("/nonsense")
            assert out.read() == b"bad command name nonsense (line 1 column 2)\r\n"
            assert out.channel.recv_exit_status() == 0
            with client.open_sftp() as sftp:
                data = bytes(range(256)) * 500
                sftp.putfo(io.BytesIO(data), "some.bin")
                assert sftp.stat("some.bin").st_size == len(data)
                assert sftp.listdir() == ["some.bin"]
                back = io.BytesIO()
                sftp.getfo("/some.bin", back)
                assert back.getvalue() == data
                sftp.remove("some.bin")
                with pytest.raises(FileNotFoundError):
                    sftp.stat("some.bin")

    async def test() -> None:
        for version in VERSIONS:
            async with bench(version, ssh_port=0) as rig:
                await asyncio.to_thread(work, rig)

    run(test)


@pytest.mark.parametrize(
    ("user", "password"),
    [("installer", "wrong"), ("nobody", "pw"), ("robot", "pw"), ("away", "pw"), ("gone", "pw"), ("installer", "")],
)
def test_login_needs_the_password_the_ssh_policy_and_an_allowed_address(user: str, password: str) -> None:
    def foreign(rig: Bench) -> None:
        with pytest.raises(paramiko.AuthenticationException):
            _paramiko(rig, user, password)

    async def test() -> None:
        async with bench("7.22", GROUPS, ssh_port=0) as rig:
            with pytest.raises(asyncssh.PermissionDenied):
                async with rig.ssh(user, password):
                    pass
            await asyncio.to_thread(foreign, rig)
            messages = [row["message"] for row in rig.router.store.rows("/log")]
            assert messages[0] == f"login failure for user {user} from 127.0.0.1 via ssh"
            async with rig.ssh("installer+ct200w", "pw") as shell:
                assert await shell(":put hello") == "hello"
                assert [row["via"] for row in rig.router.store.rows("/user/active")] == ["ssh"]

            async def alone() -> bool:
                return rig.router.store.rows("/user/active") == []

            await eventually(alone)

    run(test)


def test_a_disabled_service_and_one_for_other_addresses_refuse_to_talk() -> None:
    async def test() -> None:
        async with bench("6.49", ssh_port=0) as rig:
            admin = await rig.client()
            for change in ("=disabled=yes", "=address=192.0.2.0/24"):
                await admin.do("/ip/service/set", "=.id=ssh", change)
                with pytest.raises((asyncssh.Error, OSError)):
                    async with rig.ssh():
                        pass
                await admin.do("/ip/service/set", "=.id=ssh", "=disabled=no", "=address=")
            async with rig.ssh() as shell:
                assert await shell(":put 1") == "1"

    run(test)


@pytest.mark.parametrize(("user", "reads", "writes"), [("reader", 1, 0), ("writer", 0, 1), ("shell", 0, 0)])
def test_files_need_the_ftp_policy_and_read_or_write(user: str, reads: bool, writes: bool) -> None:
    async def test() -> None:
        async with bench("7.22", GROUPS, ssh_port=0) as rig:
            async with rig.ssh() as shell:
                await shell.put("there.txt", "hello")
            async with rig.ssh(user, "pw") as shell:
                await _tried(shell.get("there.txt"), allowed=reads)
                await _tried(shell.put("new.txt", "x"), allowed=writes)
            assert ("new.txt" in rig.router.store.names("/file")) == writes

    run(test)


async def _tried(work: object, *, allowed: bool) -> None:
    assert asyncio.iscoroutine(work)
    if allowed:
        await work
    else:
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await work


def test_a_full_disk_takes_no_file_and_keeps_the_old_one() -> None:
    def foreign(rig: Bench) -> None:
        # What it says of it differs with how much it had sent ahead.
        with _paramiko(rig, "admin", PASSWORD) as client, client.open_sftp() as sftp, pytest.raises(OSError):
            sftp.putfo(io.BytesIO(bytes(20_000)), "big.bin")

    async def test() -> None:
        async with bench("6.49", ssh_port=0, free_bytes=10_000) as rig, rig.ssh() as shell:
            await shell.put("small.bin", bytes(6_000))
            assert "free-hdd-space: 4000" in await shell("/system resource print")
            with pytest.raises(asyncssh.SFTPFailure, match="no space"):
                await shell.put("other.bin", bytes(4_001))
            with pytest.raises(asyncssh.SFTPFailure, match="no space"):
                await shell.put("small.bin", bytes(10_001))
            await shell.put("small.bin", bytes(10_000))  # what it replaces makes room
            assert await shell("/system backup save name=b") == "failure: not enough space on disk"
            await asyncio.to_thread(foreign, rig)
            assert rig.router.store.names("/file") == {"small.bin"}

    run(test)


def test_with_little_flash_only_what_lies_in_flash_outlives_a_reboot() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0, profile="hap-ac2", reboot_s=0.05) as rig:
            async with rig.ssh() as shell:
                await shell.put("lost.txt", "1")
                await shell.put("../flash/./kept.txt", "2")
                with pytest.raises(asyncssh.SFTPNoSuchFile):
                    await shell.put("nowhere/x.txt", "3")
                assert "name=flash/kept.txt" in await shell("/file print")
                with contextlib.suppress(AssertionError, asyncssh.Error):  # the power may go before the answer
                    await shell("/system reboot")
            await _back(rig)
            async with rig.ssh() as shell:  # by the same host key
                assert await shell.get("flash/kept.txt") == b"2"
                assert rig.router.store.names("/file") == {"flash", "flash/kept.txt"}

    run(test)


async def _back(rig: Bench) -> None:
    async def up() -> bool:
        return not rig.router.rebooting

    await eventually(up)


def test_an_auto_rsc_runs_at_once_and_leaves_a_log() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            await shell.put("now.auto.rsc", "/system identity set name=auto\n:put done\n")
            assert await shell(":put [/system identity get name]") == "auto"
            assert (await shell.get("now.auto.log")).startswith(b"done\r\n")

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_files_are_one_thing_to_sftp_console_and_api(version: Version) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            await shell.put("a.txt", "größer")
            client = await rig.client()
            (row,) = await client.rows("/file/print")
            assert (row["contents"], row["size"], row["type"]) == ("größer", "8", ".txt file")
            await client.do("/file/set", "=.id=a.txt", "=contents=new")
            assert await shell.get("a.txt") == b"new"
            assert await client.trap("/file/set", "=.id=a.txt", f"=contents={'x' * 62_000}") == (
                "failure: contents too long"
            )
            await shell("/file remove a.txt")
            assert await shell(":put [:len [/file find]]") == "0"
            if version == "6.49":
                assert await client.trap("/file/add", "=name=b.txt") == "no such command"

    run(test)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("/system identity set name=site7", ""),
        (":put [/system identity get name]", "MikroTik"),
        (':put "a\\"b \\C3\\A4"', 'a"b ä'),
        ("/ip address add address=192.0.2.9/24 interface=ether1 comment=x", ""),
        ("/ip address add address=192.0.2.9/24", "missing =interface="),
        ("/ip address add adress=192.0.2.9/24", "expected end of command (line 1 column 17)"),
        ("/ip adress print", "bad command name adress (line 1 column 5)"),
        ("/ip address frobnicate", "bad command name frobnicate (line 1 column 13)"),
        (':put "open', "syntax error (line 1 column 6)"),
        ("/ip address add address='192.0.2.9/24'", "syntax error (line 1 column 25)"),
        ("/ip address x=y", "expected command name (line 1 column 13)"),
        ("/ip address remove 5", "no such item"),
        ("/interface ethernet print count-only", "5"),
        (':put [:len [/interface find where name~"ether[12]"]]', "2"),
        ("/ip service set api-ssl,ftp disabled=yes", ""),
        ("/user remove [find name=nobody]", ""),
        (":foreach i in=[/interface bridge find] do={:put [/interface get $i name]; :put 1}", "bridge\n1"),
        ("/ip firewall filter add chain=input action=explode", "input does not match any value of action"),
        ("/system script add name=s source={:put 1; :frob}", "bad command name frob (line 1 column 43)"),
        ("/password", "bad command name password (line 1 column 2)"),
        (":local", "cannot run: list index out of range"),
        (':put [/interface find where name~"["]', "cannot run: unterminated character set at position 0"),
        (':local f [:parse ":put 7"]; $f', "7"),
        (':put 1; :local f [:parse "/ip frob"]; $f', "1\nbad command name frob"),
        (':do { :local f [:parse "/ip frob"]; $f } on-error={ :put caught }', "caught"),
        ("[" * 2000 + "]" * 2000, "syntax error (line 1 column 1)"),
    ],
)
def test_console_lines_and_their_refusals(line: str, printed: str) -> None:
    async def test() -> None:
        for version in VERSIONS:
            async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
                assert await shell(line) == printed

    run(test)


def test_paths_with_slashes_are_for_7_only() -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig, rig.ssh() as shell:
            assert await shell("/ip/firewall/filter/add chain=input action=drop") == ""
            assert await shell("/ip/firewall/filter/print count-only") == "1"
        async with bench("6.49", ssh_port=0) as rig, rig.ssh() as shell:
            said = "bad command name ip/firewall/filter/add (line 1 column 2)"
            assert await shell("/ip/firewall/filter/add chain=input action=drop") == said
            assert await shell("/ip firewall filter add chain=input action=drop") == ""

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_named_by_number_name_and_find_and_can_be_moved(version: Version) -> None:
    async def test() -> None:
        async with bench(version, ssh_port=0) as rig, rig.ssh() as shell:
            for name in "abc":
                await shell(f"/ip firewall filter add chain=input comment={name}")
            assert await shell('/ip firewall filter move [find comment="c"] 0') == ""
            assert await shell("/ip firewall filter add chain=forward comment=d place-before=0") == ""
            assert await shell("/ip firewall filter disable 3") == ""
            assert await shell('/ip firewall filter unset [find comment="c"] comment') == ""
            rows = rig.router.store.rows("/ip/firewall/filter")
            assert [(row.get("comment", ""), row["disabled"]) for row in rows] == [
                ("d", "false"), ("", "false"), ("a", "false"), ("b", "true"),
            ]  # fmt: skip
            printed = await shell("/ip firewall filter print terse where chain=forward")
            assert printed == ' 0    action=accept log=no log-prefix="" chain=forward comment=d bytes=0 packets=0'
            assert await shell(":put [/ip firewall filter get 3 comment]") == "b"

    run(test)


def test_no_secret_reaches_the_event_log(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"

    async def test() -> None:
        async with bench("7.22", events=events, ssh_port=0) as rig, rig.ssh() as shell:
            await shell("/user add name=x group=read password=hunter2")
            await shell('/user set x password="hunter2 and more"; /system backup save name=b password=hunter2')
            await shell('/system script add name=s source="/user set x password=hunter2"')
            await shell.run_file('/user set x password="hunter2"\n/ppp secret add name=p password=hunter2\n')
            client = await rig.client()
            await client.do("/user/set", "=.id=x", "=password=hunter2")
            await client.do("/file/add", "=name=key", "=contents=-----BEGIN PRIVATE KEY-----\nhunter2\n")

    run(test)
    told = events.read_text()
    assert "/user/set" in told
    assert "hunter2" not in told


def test_faults_strike_console_lines(tmp_path: Path) -> None:
    async def test() -> None:
        async with bench("7.22", ssh_port=0) as rig:
            for kind, done in (("drop", False), ("drop_after", True)):
                rig.router.misbehaviour.add({"kind": kind, "command": "/system", "count": 1})
                async with rig.ssh() as shell:
                    with pytest.raises((AssertionError, asyncssh.Error)):
                        await shell(f"/system identity set name={kind}")
                assert (rig.router.store.single("/system/identity")["name"] == kind) == done
            rig.router.misbehaviour.add({"kind": "wrong_password", "count": 1})
            with pytest.raises(asyncssh.PermissionDenied):
                async with rig.ssh():
                    pass

    run(test)


def test_a_router_without_a_battery_may_think_it_is_1970() -> None:
    async def test() -> None:
        async with bench("6.49", ssh_port=0, clock_offset_s=86_400 - time.time()) as rig, rig.ssh() as shell:
            assert "date: jan/02/1970" in await shell("/system clock print")
            assert (await shell("/export")).startswith("# jan/02/1970 ")

    run(test)
