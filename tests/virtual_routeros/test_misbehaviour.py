"""Every fault the router can be asked for, and reboots."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.misbehave import KINDS
from tests.virtual_routeros.client import Bench, Client, begun, bench, eventually, run

LIST = "/ip/firewall/address-list"
ADD = (f"{LIST}/add", "=list=edge-lte", "=address=192.0.2.1")


async def _struck(rig: Bench, **options: Any) -> Client:
    client = await rig.client()
    rig.router.misbehaviour.add(options)
    return client


async def _silent(client: Client) -> None:
    with pytest.raises(TimeoutError):
        await client.read(0.1)


async def _closed(client: Client) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        await client.read()


def _entries(rig: Bench) -> int:
    return len(rig.router.store.rows(LIST))


def test_slow_delays_every_reply() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="slow", delay_s=0.05, command="/interface/list/")
            began_s = time.monotonic()
            rows = await client.rows("/interface/list/print")
            assert time.monotonic() - began_s >= 0.05 * (len(rows) + 1)

    run(test)


def test_hang_does_nothing_and_never_answers_while_others_are_served() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="hang", command=LIST)
            client.send(*ADD)
            await _silent(client)
            assert _entries(rig) == 0
            await client.do("/system/identity/set", "=name=x")

    run(test)


def test_mute_does_it_and_never_answers() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="mute", command=LIST)
            client.send(*ADD)
            await _silent(client)
            assert _entries(rig) == 1

    run(test)


def test_hang_mid_word_sends_half_a_word_and_then_nothing() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="hang_mid_word", command="/system/identity")
            client.send("/system/identity/print")
            assert await client.read_bytes(2) == b"\x03!"
            client.send("/system/identity/print")
            await _silent(client)

    run(test)


def test_drop_closes_before_and_drop_after_closes_after_the_change() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="drop", count=1)
            client.send(*ADD)
            await _closed(client)
            assert _entries(rig) == 0
            client = await _struck(rig, kind="drop_after", count=1)
            client.send(*ADD)
            await _closed(client)
            assert _entries(rig) == 1

    run(test)


def test_trap_after_rows_gives_some_rows_first() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="trap_after_rows", rows=2, command="/interface/print")
            replies = await client.ask("/interface/print")
            assert [reply[0] for reply in replies] == ["!re", "!re", "!trap", "!done"]
            assert replies[2] == ["!trap", "=message=no such item (4)"]

    run(test)


def test_trap_refuses_with_the_message_asked_for() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="trap", message="failure: busy", command=LIST, count=1)
            assert await client.trap(*ADD) == "failure: busy"
            await client.do(*ADD)

    run(test)


def test_wrong_password_refuses_the_right_one() -> None:
    async def test() -> None:
        async with bench() as rig:
            await _struck(rig, kind="wrong_password", count=1)
            client = await rig.connect()
            await client.trap("/login", "=name=admin", "=password=correct horse")
            await client.login()

    run(test)


def test_lost_policy_takes_the_right_to_write_only() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="lost_policy", policy="write")
            assert await client.trap(*ADD) == "not enough permissions (9)"
            assert await client.rows("/interface/print")

    run(test)


def test_swallow_acknowledges_and_does_nothing() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="swallow", command=LIST, arguments="list=edge-lte")
            assert (await client.do(*ADD)).startswith("*")
            assert _entries(rig) == 0
            await client.do(f"{LIST}/add", "=list=other", "=address=192.0.2.1")
            assert _entries(rig) == 1
            rig.router.misbehaviour.clear()
            await client.do(*ADD)
            assert _entries(rig) == 2

    run(test)


def test_login_is_struck_only_by_a_fault_that_names_it() -> None:
    async def test() -> None:
        async with bench() as rig:
            rig.router.misbehaviour.add({"kind": "hang"})
            await rig.client()
            rig.router.misbehaviour.add({"kind": "hang", "command": "/login"})
            client = await rig.connect()
            client.send("/login", "=name=admin", "=password=correct horse")
            await _silent(client)

    run(test)


@pytest.mark.parametrize("options", [{"kind": "sulk"}, {}, {"kind": "slow", "speed": 3}])
def test_unknown_faults_are_refused(options: dict[str, object]) -> None:
    async def test() -> None:
        async with bench() as rig:
            with pytest.raises(ValueError, match="known are"):
                rig.router.misbehaviour.add(options)

    run(test)


def test_every_fault_has_a_test_here() -> None:
    source = "".join(name for name in globals() if name.startswith("test_"))
    assert [kind for kind in KINDS if kind not in source] == []


REBOOT: Initial = {
    "/ip/firewall/filter": [{"chain": "forward", "comment": name} for name in "abc"],
    LIST: [{"list": "static", "address": "192.0.2.7"}],
}


def test_reboot_drops_sessions_changes_ids_and_forgets_what_is_dynamic() -> None:
    async def test() -> None:
        async with bench(initial=REBOOT, reboot_s=0.1) as rig:
            client = await rig.client()
            await client.do(*ADD, "=timeout=10m")
            before = {menu: await client.rows(f"{menu}/print") for menu in (*REBOOT, "/interface", "/ip/service")}
            port = rig.router.ports["api"]
            await client.do("/system/reboot")
            await _closed(client)
            with pytest.raises(OSError, match=r"."):
                await rig.connect()
            await eventually(lambda: _back(rig))
            assert rig.router.ports["api"] == port
            client = await rig.client()
            after = {menu: await client.rows(f"{menu}/print") for menu in before}
            assert [row["list"] for row in after[LIST]] == ["static"]
            for menu, rows in after.items():
                kept = before[menu][: len(rows)]
                assert [row.get("comment", row.get("name")) for row in rows] == [
                    row.get("comment", row.get("name")) for row in kept
                ]
                assert all(new[".id"] != old[".id"] for new, old in zip(rows, kept, strict=True))
            # An id from before may well name another row now, as it may on a real router.
            assert after["/ip/firewall/filter"][0][".id"] == before["/ip/firewall/filter"][1][".id"]

    run(test)


async def _back(rig: Bench) -> bool:
    return not rig.router.summary["rebooting"]


def test_a_router_that_is_switched_off_stays_off_until_it_is_switched_on() -> None:
    async def test() -> None:
        async with bench(initial=REBOOT) as rig:
            client = await rig.client()
            await client.do(*ADD, "=timeout=10m")
            rig.router.power(on=False)
            await _closed(client)
            await asyncio.sleep(0.2)
            assert rig.router.summary["rebooting"]
            assert not rig.router.summary["powered"]
            with pytest.raises(OSError, match=r"."):
                await rig.connect()
            rig.router.power(on=True)
            await eventually(lambda: _back(rig))
            client = await rig.client()
            assert [row["list"] for row in await client.rows(f"{LIST}/print")] == ["static"]

    run(test)


def test_reboot_ends_commands_that_hang() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await _struck(rig, kind="hang")
            client.send(*ADD)
            await begun()
            rig.router.reboot(0.05)
            await _closed(client)
            await eventually(lambda: _back(rig))
            await rig.client()

    run(test)
