"""Whole dialogues as bytes written by hand, and the rules of sessions: login, tags, cancel, policies."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from hil.virtual.routeros.initial import Initial
from tests.virtual_routeros.client import PASSWORD, begun, bench, eventually, properties, run

LOGIN = b"\x06/login\x0b=name=admin\x17=password=correct horse\x00"
DONE = b"\x05!done\x00"
FATAL_NOT_LOGGED_IN = b"\x06!fatal\x0dnot logged in\x00"
IDENTITY = b"\x16/system/identity/print\x0a.tag=seven\x00"
IDENTITY_REPLY = b"\x03!re\x0e=name=MikroTik\x0a.tag=seven\x00\x05!done\x0a.tag=seven\x00"

GROUPS: Initial = {
    "/user/group": [
        {"name": "agent", "policy": "api,read,write,test"},
        {"name": "reader", "policy": "api,read"},
        {"name": "web", "policy": "web,read,write"},
    ],
    "/user": [
        {"name": "agent", "group": "agent", "password": "a", "address": "127.0.0.1/32"},
        {"name": "reader", "group": "reader", "password": "r"},
        {"name": "web", "group": "web", "password": "w"},
        {"name": "elsewhere", "group": "agent", "password": "e", "address": "192.0.2.0/24"},
    ],
}


def test_dialogue_to_the_byte() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.connect()
            client.send_bytes(LOGIN + IDENTITY)
            assert await client.read_bytes(len(DONE + IDENTITY_REPLY)) == DONE + IDENTITY_REPLY

    run(test)


def test_dialogue_one_byte_at_a_time() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.connect()
            for byte in LOGIN + IDENTITY:
                client.send_bytes(bytes([byte]))
                await client.drain()
                await asyncio.sleep(0)
            assert await client.read_bytes(len(DONE + IDENTITY_REPLY)) == DONE + IDENTITY_REPLY

    run(test)


def test_command_before_login_is_fatal_and_ends_the_session() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.connect()
            client.send("/system/identity/print")
            assert await client.read_bytes(len(FATAL_NOT_LOGGED_IN)) == FATAL_NOT_LOGGED_IN
            with pytest.raises(asyncio.IncompleteReadError):
                await client.read_bytes(1)

    run(test)


def test_reserved_length_byte_ends_the_session() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            client.send_bytes(b"\xff")
            with pytest.raises((EOFError, ConnectionError)):
                await client.read()

    run(test)


def test_wrong_password_is_trapped_and_the_right_one_still_works() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.connect()
            wrong = await client.trap("/login", "=name=admin", "=password=wrong")
            assert wrong == "invalid user name or password (6)"
            await client.login()

    run(test)


def test_quit_is_answered_with_a_bare_word() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            assert await client.ask("/quit") == [["!fatal", "session terminated on request"]]

    run(test)


@pytest.mark.parametrize(("user", "password"), [("web", "w"), ("elsewhere", "e"), ("nobody", "")])
def test_login_needs_the_api_policy_and_an_allowed_address(user: str, password: str) -> None:
    async def test() -> None:
        async with bench(initial=GROUPS) as rig:
            client = await rig.connect()
            await client.trap("/login", f"=name={user}", f"=password={password}")

    run(test)


def test_commands_need_their_policies() -> None:
    async def test() -> None:
        async with bench(initial=GROUPS) as rig:
            reader, agent = await rig.client("reader", "r"), await rig.client("agent", "a")
            denied = "not enough permissions (9)"
            assert await reader.rows("/interface/print")
            assert await reader.trap("/ip/firewall/address-list/add", "=list=a", "=address=1.2.3.4") == denied
            assert await reader.trap("/ping", "=address=192.0.2.1", "=count=1") == denied
            await agent.do("/ip/firewall/address-list/add", "=list=a", "=address=1.2.3.4")
            assert (await agent.rows("/ping", "=address=192.0.2.1", "=count=1"))[0]["received"] == "1"
            assert await agent.trap("/user/set", "=.id=agent", "=group=full") == denied
            assert await agent.trap("/system/reboot") == denied
            assert await agent.trap("/system/script/add", "=source=x", "=policy=reboot") == denied

    run(test)


def test_policy_taken_away_counts_at_once() -> None:
    async def test() -> None:
        async with bench(initial=GROUPS) as rig:
            agent, admin = await rig.client("agent", "a"), await rig.client()
            await admin.do("/user/group/set", "=.id=agent", "=policy=api,read")
            await agent.trap("/system/identity/set", "=name=x")

    run(test)


def test_tag_is_echoed_wherever_it_stands() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            for words in (["=.proplist=name", ".tag=5"], [".tag=5", "=.proplist=name"]):
                client.send("/system/identity/print", *words)
                assert await client.read() == ["!re", "=name=MikroTik", ".tag=5"]
                assert await client.read() == ["!done", ".tag=5"]

    run(test)


def test_tags_of_two_sessions_do_not_mix() -> None:
    async def test() -> None:
        async with bench() as rig:
            one, other = await rig.client(), await rig.client()
            one.send("/log/listen", ".tag=1")
            await begun()
            other.send("/cancel", "=tag=1")
            assert await other.read() == ["!done"]
            await other.do("/system/identity/set", "=name=x")
            with pytest.raises(TimeoutError):
                await one.read(0.05)

    run(test)


def test_commands_with_tags_run_at_the_same_time() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            client.send("/ping", "=address=192.0.2.1", "=count=2", "=interval=1s", ".tag=slow")
            client.send("/system/identity/print", ".tag=fast")
            replies = [await client.read() for _ in range(5)]
            assert [reply[-1] for reply in replies[:3]].count(".tag=fast") == 2  # before the second ping
            assert replies[-1] == ["!done", ".tag=slow"]

    run(test)


def test_cancel_interrupts_the_command_and_both_end() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            client.send("/ip/firewall/address-list/listen", ".tag=9")
            await begun()
            client.send("/cancel", "=tag=9", ".tag=10")
            assert await client.read() == ["!trap", "=category=2", "=message=interrupted", ".tag=9"]
            ends = [await client.read(), await client.read()]
            assert sorted(ends) == [["!done", ".tag=10"], ["!done", ".tag=9"]]

    run(test)


def test_max_sessions_is_kept_on_7() -> None:
    async def test() -> None:
        async with bench() as rig:
            for _ in range(20):
                await rig.client()
            with pytest.raises((EOFError, ConnectionError)):
                await rig.client()

    run(test)


def test_service_lets_in_only_its_addresses() -> None:
    async def test() -> None:
        async with bench() as rig:
            admin = await rig.client()
            service = rig.router.store.service("api").id  # by name it could be this very connection
            await admin.do("/ip/service/set", f"=.id={service}", "=address=192.0.2.0/24")
            with pytest.raises((EOFError, ConnectionError)):
                await rig.client()

    run(test)


def test_active_users_are_listed() -> None:
    async def test() -> None:
        async with bench() as rig:
            one, other = await rig.client(), await rig.client()
            assert [row["name"] for row in await one.rows("/user/active/print")] == ["admin", "admin"]
            await other.close()

            async def alone() -> bool:
                return len(await one.rows("/user/active/print")) == 1

            await eventually(alone)

    run(test)


def test_event_log_tells_first_byte_reply_and_no_secret(tmp_path: Path) -> None:
    events, times = tmp_path / "events.jsonl", list[float]()

    async def test() -> None:
        async with bench(events=events) as rig:
            client = await rig.client()
            times.append(time.monotonic())
            client.send_bytes(b"\x13/ip/firewall/filter")
            await client.drain()
            await asyncio.sleep(0.05)
            client.send_bytes(b"\x00")
            while (await client.read())[0] != "!done":
                pass
            times.append(time.monotonic())
            await client.do("/user/add", "=name=u", "=group=read", "=password=hush")

    run(test)
    log = [json.loads(line) for line in events.read_text().splitlines()]
    assert {"started", "session_opened", "sentence", "reply", "session_closed"} <= {line["event"] for line in log}
    assert PASSWORD not in events.read_text()
    assert "hush" not in events.read_text()
    sentence = next(line for line in log if line.get("words") == ["/ip/firewall/filter"])
    reply = next(line for line in log if line["event"] == "reply" and line["sentence"] == sentence["sentence"])
    assert reply["outcome"] == "trap"
    assert times[0] <= sentence["t"] <= reply["t"] - 0.05 <= times[1]


def test_properties_of_a_reply() -> None:
    assert properties(["!re", "=a=b=c", ".tag=1"]) == {"a": "b=c"}
