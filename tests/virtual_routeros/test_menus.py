"""What the menus accept, refuse and do, as seen through the API."""

from __future__ import annotations

import asyncio
import time

import pytest

from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.values import VERSIONS, Version, parse_time_s
from tests.virtual_routeros.client import begun, bench, eventually, run

LIST = "/ip/firewall/address-list"
FILTER = "/ip/firewall/filter"
FASTTRACK: Initial = {
    FILTER: [
        {"chain": "forward", "action": "fasttrack-connection", "connection-state": "established,related"},
        {"chain": "forward", "action": "accept", "comment": "last"},
    ]
}


@pytest.mark.parametrize(
    ("version", "words", "message"),
    [
        ("7.22", ["/ip/route/rule/print"], "no such command prefix"),
        ("6.49", ["/routing/table/print"], "no such command prefix"),
        ("6.49", ["/tool/ping", "=address=192.0.2.1"], "no such command"),
        ("7.22", ["/nonsense/print"], "no such command prefix"),
        ("7.22", ["/ip/route/frobnicate"], "no such command"),
        ("7.22", ["/ip/route"], "no such command"),
        ("7.22", ["ip/route/print"], "no such command"),
        ("7.22", ["/ip/route/add", "=gateway=192.0.2.1", "=routing-mark=lte"], "unknown parameter routing-mark"),
        ("6.49", ["/ip/route/add", "=gateway=192.0.2.1", "=routing-table=lte"], "unknown parameter routing-table"),
        ("6.49", ["/ip/route/add", "=gateway=192.0.2.1@main"], "invalid value for argument gateway"),
        ("7.22", ["/ip/route/print", "=detail="], "unknown parameter detail"),
        ("7.22", [f"{FILTER}/add", "=chain=forward", "=action=explode"], "input does not match any value of action"),
        ("7.22", [f"{FILTER}/add", "=chain=forward", "=in-interface=ether9"], "input does not match any value of "),
        ("7.22", [f"{LIST}/add", "=list=a", "=address=1.2.3"], "invalid value for argument address"),
        ("7.22", [f"{LIST}/add", "=list=a", "=address=1.2.3.4", "=timeout=soon"], "invalid value for argument timeout"),
        ("7.22", [f"{LIST}/add", "=list=a"], "missing =address="),
        ("7.22", [f"{LIST}/set", "=comment=x"], "missing =.id="),
        ("7.22", [f"{LIST}/remove", "=.id=*FF"], "no such item"),
        ("7.22", ["/ip/route/add", "gateway"], "unknown parameter gateway"),
        (
            "7.22",
            ["/ip/firewall/mangle/add", "=chain=prerouting", "=action=mark-routing", "=new-routing-mark=lte"],
            "input does not match any value of new-routing-mark",
        ),
    ],
)
def test_refusals(version: Version, words: list[str], message: str) -> None:
    async def test() -> None:
        async with bench(version) as rig:
            assert (await (await rig.client()).trap(*words)).startswith(message)

    run(test)


def test_routing_marks_are_tables_on_7_and_any_name_on_6() -> None:
    mangle = ["/ip/firewall/mangle/add", "=chain=prerouting", "=action=mark-routing", "=new-routing-mark=lte"]

    async def test() -> None:
        async with bench("7.22") as rig:
            client = await rig.client()
            await client.do("/routing/table/add", "=name=lte", "=fib=")
            await client.do(*mangle)
            await client.do("/ip/route/add", "=gateway=198.51.100.1", "=routing-table=lte")
        async with bench("6.49") as rig:
            client = await rig.client()
            await client.do(*mangle)
            await client.do("/ip/route/add", "=gateway=198.51.100.1", "=routing-mark=lte")

    run(test)


def test_empty_print_says_so_from_7_18_on_only() -> None:
    async def test() -> None:
        for version, expected in (("6.49", [["!done"]]), ("7.22", [["!empty"], ["!done"]])):
            async with bench(version) as rig:  # type: ignore[arg-type]
                client = await rig.client()
                assert await client.ask(f"{LIST}/print") == expected
                assert await client.ask(f"{LIST}/print", "=count-only=") == [["!done", "=ret=0"]]

    run(test)


def test_print_queries_and_proplist() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            for host in (1, 2, 3):
                await client.do(f"{LIST}/add", f"=list=l{host % 2}", f"=address=192.0.2.{host}/32")
            rows = await client.rows(f"{LIST}/print", "=.proplist=address,comment", "?list=l1")
            assert rows == [{"address": "192.0.2.1"}, {"address": "192.0.2.3"}]
            rows = await client.rows(f"{LIST}/print", "?address=192.0.2.1", "?address=192.0.2.2", "?#|")
            assert [row["list"] for row in rows] == ["l1", "l0"]
            assert await client.ask(f"{LIST}/print", "=count-only=", "?list=l1") == [["!done", "=ret=2"]]

    run(test)


def test_rows_are_addressed_by_id_numbers_name_and_lists_of_them() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            ids = [await client.do(f"{LIST}/add", "=list=a", f"=address=192.0.2.{host}") for host in (1, 2, 3)]
            await client.do(f"{LIST}/disable", f"=.id={ids[0]},{ids[2]}")
            rows = await client.rows(f"{LIST}/print")
            assert [row["disabled"] for row in rows] == ["true", "false", "true"]
            await client.do(f"{LIST}/enable", f"=numbers={ids[0]}")
            await client.do(f"{LIST}/set", f"=.id={ids[1]},{ids[2]}", "=comment=both")
            await client.do(f"{LIST}/remove", f"=.id={ids[0]},{ids[1]}")
            assert [row["comment"] for row in await client.rows(f"{LIST}/print")] == ["both"]
            await client.do("/interface/set", "=.id=ether2", "=comment=lte")
            assert await client.trap(f"{LIST}/remove", f"=.id={ids[2]},{ids[0]}") == "no such item"
            assert len(await client.rows(f"{LIST}/print")) == 1

    run(test)


def test_comment_is_cleared_by_an_empty_one() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            row_id = await client.do(f"{FILTER}/add", "=chain=forward", "=comment=x", "=dst-port=5060")
            await client.do(f"{FILTER}/set", f"=.id={row_id}", "=comment=")
            await client.do(f"{FILTER}/unset", f"=.id={row_id}", "=value-name=dst-port")
            (row,) = await client.rows(f"{FILTER}/print")
            assert "comment" not in row
            assert "dst-port" not in row

    run(test)


def test_address_list_holds_an_address_once() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1/32")
            again = await client.trap(f"{LIST}/add", "=list=a", "=address=192.0.2.1", "=timeout=1m")
            assert again == "failure: already have such entry"
            other = await client.do(f"{LIST}/add", "=list=b", "=address=192.0.2.1")
            assert await client.trap(f"{LIST}/set", f"=.id={other}", "=list=a") == "failure: already have such entry"
            assert [row["list"] for row in await client.rows(f"{LIST}/print")] == ["a", "b"]

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_timeout_counts_down_is_refreshed_and_lapses_on_time(version: Version) -> None:
    async def test() -> None:
        async with bench(version) as rig:
            client = await rig.client()
            row_id = await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1", "=timeout=3m")
            (row,) = await client.rows(f"{LIST}/print")
            assert 120 < parse_time_s(row["timeout"]) < 180
            assert row["dynamic"] == "true"
            assert "creation-time" in row

            async def left_s() -> float:
                (row,) = await client.rows(f"{LIST}/print")
                return parse_time_s(row["timeout"])

            async def low() -> bool:
                return await left_s() <= 178

            await eventually(low)
            await client.do(f"{LIST}/set", f"=.id={row_id}", "=timeout=5m")
            assert 240 < await left_s() < 300
            rig.plane.changes.clear()
            sent_s = time.monotonic()
            await client.do(f"{LIST}/set", f"=.id={row_id}", "=timeout=1500ms")
            rig.plane.changes.clear()
            await eventually(lambda: _any(rig.plane.changes))
            assert time.monotonic() - sent_s >= 1.5
            assert rig.plane.changes == [frozenset({LIST})]
            assert await client.rows(f"{LIST}/print") == []

    run(test)


async def _any(changes: list[frozenset[str]]) -> bool:
    return bool(changes)


def test_lapsed_row_does_not_come_back_when_a_later_write_is_undone() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1", "=timeout=50ms")
            rig.plane.refuse_next = "cannot"
            assert await client.trap(f"{LIST}/add", "=list=a", "=address=192.0.2.2") == "cannot"

            async def empty() -> bool:
                return await client.rows(f"{LIST}/print") == []

            await eventually(empty)

    run(test)


def test_write_the_plane_refuses_is_undone() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            rig.plane.refuse_next = "the kernel said no"
            assert await client.trap("/system/identity/set", "=name=other") == "the kernel said no"
            rig.plane.refuse_next = "the kernel said no"
            assert await client.trap("/ip/address/add", "=address=192.0.2.2/24", "=interface=ether1")
            assert await client.rows("/system/identity/print") == [{"name": "MikroTik"}]
            assert await client.rows("/ip/address/print") == []

    run(test)


def test_plane_is_told_before_the_reply() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1")
            assert rig.plane.changes[-1] == frozenset({LIST})

    run(test)


def test_dummy_rule_heads_the_filter_while_fasttrack_is_on() -> None:
    async def test() -> None:
        async with bench(initial=FASTTRACK) as rig:
            client = await rig.client()
            rows = await client.rows(f"{FILTER}/print")
            assert [row["action"] for row in rows] == ["passthrough", "fasttrack-connection", "accept"]
            assert (rows[0]["dynamic"], rows[0]["chain"]) == ("true", "forward")
            dummy = f"=place-before={rows[0]['.id']}"
            message = await client.trap(f"{FILTER}/add", "=chain=forward", dummy)
            assert "can not move/place before builtin/dynamic" in message
            await client.do(f"{FILTER}/add", "=chain=forward", "=action=drop", f"=place-before={rows[1]['.id']}")
            rows = await client.rows(f"{FILTER}/print")
            assert [row["action"] for row in rows] == ["passthrough", "drop", "fasttrack-connection", "accept"]
            await client.do(f"{FILTER}/disable", f"=.id={rows[2]['.id']}")
            assert (await client.rows(f"{FILTER}/print"))[0]["action"] == "drop"
            assert await client.rows("/ip/firewall/mangle/print") == []

    run(test)


def test_rules_move_before_others_and_to_the_end() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            ids = [await client.do(f"{FILTER}/add", "=chain=forward", f"=comment={name}") for name in "abc"]
            await client.do(f"{FILTER}/move", f"=numbers={ids[2]}", f"=destination={ids[0]}")
            assert "".join(row["comment"] for row in await client.rows(f"{FILTER}/print")) == "cab"
            await client.do(f"{FILTER}/move", f"=.id={ids[0]}")
            assert "".join(row["comment"] for row in await client.rows(f"{FILTER}/print")) == "cba"

    run(test)


def test_interfaces_show_the_same_in_both_menus() -> None:
    async def test() -> None:
        async with bench(profile="rb2011") as rig:
            client = await rig.client()
            await client.do("/interface/ethernet/set", "=.id=ether10", "=poe-out=off", "=comment=lte")
            assert [row["name"] for row in await client.rows("/interface/ethernet/print") if "poe-out" in row] == [
                "ether10"
            ]
            assert "poe-out" in await client.trap("/interface/ethernet/set", "=.id=ether9", "=poe-out=off")
            await client.do("/interface/disable", "=.id=ether10")
            (general,) = await client.rows("/interface/print", "?name=ether10")
            (ethernet,) = await client.rows("/interface/ethernet/print", "?name=ether10")
            assert general[".id"] == ethernet[".id"]
            assert (general["comment"], general["disabled"]) == ("lte", "true")
            assert (ethernet["disabled"], ethernet["poe-out"], ethernet["running"]) == ("true", "off", "false")
            await client.do("/interface/enable", "=.id=ether10")
            assert (await client.rows("/interface/ethernet/print", "?name=ether10"))[0]["disabled"] == "false"
            bridge = await client.do("/interface/bridge/add", "=name=guests")
            names = [row["name"] for row in await client.rows("/interface/print")]
            assert names == [*(f"ether{port}" for port in range(1, 11)), "sfp1", "bridge", "guests"]
            await client.do("/interface/bridge/remove", f"=.id={bridge}")
            assert await client.rows("/interface/print", "?name=guests") == []

    run(test)


def test_listen_tells_adds_changes_and_deaths() -> None:
    async def test() -> None:
        async with bench() as rig:
            listener, client = await rig.client(), await rig.client()
            listener.send(f"{LIST}/listen", "=.proplist=.id,address,comment", "?list=a", ".tag=l")
            await begun()
            await client.do(f"{LIST}/add", "=list=b", "=address=192.0.2.9")
            row_id = await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1", "=timeout=100ms")
            assert await listener.read() == ["!re", f"=.id={row_id}", "=address=192.0.2.1", ".tag=l"]
            assert await listener.read() == ["!re", f"=.id={row_id}", "=.dead=yes", ".tag=l"]

    run(test)


def test_listen_tells_links_going_down() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            client.send("/interface/listen", "=.proplist=name,running")
            await begun()
            rig.plane.set_link("ether1", running=False)
            assert await client.read() == ["!re", "=name=ether1", "=running=false"]

    run(test)


def test_settings_and_single_records() -> None:
    async def test() -> None:
        async with bench("6.49", profile="hap-ac2") as rig:
            client = await rig.client()
            await client.do("/ip/settings/set", "=rp-filter=loose")
            assert (await client.rows("/ip/settings/print"))[0]["rp-filter"] == "loose"
            (resource,) = await client.rows("/system/resource/print")
            assert resource["version"].startswith("6.49")
            assert resource["board-name"] == "hAP ac^2"
            (tracking,) = await client.rows("/ip/firewall/connection/tracking/print")
            assert tracking["udp-stream-timeout"] == "3m"

    run(test)


def test_connections_come_from_the_plane_and_can_be_removed() -> None:
    connection = "/ip/firewall/connection"

    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            row_id, other = rig.plane.set_connections([{"protocol": "udp", "src-address": "a"}, {"protocol": "tcp"}])
            assert [row[".id"] for row in await client.rows(f"{connection}/print", "?protocol=udp")] == [row_id]
            await client.do(f"{connection}/remove", f"=.id={row_id}")
            assert await client.trap(f"{connection}/remove", f"=.id={row_id}") == "no such item"
            assert [row[".id"] for row in await client.rows(f"{connection}/print")] == [other]

    run(test)


def test_model_routes_are_active_by_distance_and_link() -> None:
    initial: Initial = {
        "/ip/address": [
            {"address": "192.0.2.2/24", "interface": "ether1"},
            {"address": "198.51.100.2/24", "interface": "ether2"},
        ],
        "/ip/route": [{"gateway": "192.0.2.1"}, {"gateway": "198.51.100.1", "distance": "2"}],
    }

    async def test() -> None:
        async with bench(initial=initial) as rig:
            client = await rig.client()
            rows = await client.rows("/ip/route/print", "?active=true")
            assert [row["gateway"] for row in rows] == ["192.0.2.1"]
            rig.plane.set_link("ether1", running=False)
            rows = await client.rows("/ip/route/print", "?active=true")
            assert [row["gateway"] for row in rows] == ["198.51.100.1"]

    run(test)


def test_pings_count_what_is_lost() -> None:
    async def test() -> None:
        async with bench("6.49") as rig:
            client = await rig.client()
            rig.plane.set_ping("192.0.2.1", 5.0)
            rig.plane.set_ping("192.0.2.9", lost=True)
            good = await client.rows("/ping", "=address=192.0.2.1", "=count=2", "=interval=20ms")
            assert (good[-1]["seq"], good[-1]["avg-rtt"], good[-1]["packet-loss"]) == ("1", "5ms", "0")
            bad = await client.rows("/ping", "=address=192.0.2.9", "=count=2", "=interval=20ms")
            assert (bad[-1]["status"], bad[-1]["packet-loss"], bad[-1]["received"]) == ("timeout", "100", "0")

    run(test)


def test_a_ping_under_way_notices_a_cut_though_nobody_spoke_of_that_address_before() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            running = asyncio.create_task(client.rows("/ping", "=address=192.0.2.7", "=count=4", "=interval=500ms"))
            while not rig.plane._targets:  # noqa: ASYNC110  (until it has begun)
                await asyncio.sleep(0.01)
            rig.plane.set_ping("192.0.2.7", lost=True)
            rows = await running
            assert "status" in rows[-1]

    run(test)


def test_traffic_changes_connections_that_are_there_and_adds_others() -> None:
    async def test() -> None:
        async with bench() as rig:
            client, path = await rig.client(), "/ip/firewall/connection"
            first, gone = rig.plane.set_connections([{"src-address": "a"}, {"src-address": "b"}])
            await client.do(f"{path}/remove", f"=.id={gone}")
            changes = {first: {"orig-bytes": "5"}, gone: {"orig-bytes": "6"}}
            answer = rig.plane.control("traffic", {"add": [{"src-address": "c"}], "changes": changes})
            rows = await client.rows(f"{path}/print")
            assert rows == [
                {".id": first, "src-address": "a", "orig-bytes": "5"},
                {".id": answer["ids"][0], "src-address": "c"},
            ]

    run(test)


def test_changes_are_in_the_history_under_the_users_name() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            await client.do("/system/identity/set", "=name=x")
            (row,) = await client.rows("/system/history/print")
            assert (row["action"], row["by"]) == ("/system/identity set", "admin")

    run(test)


def test_passwords_are_never_printed() -> None:
    async def test() -> None:
        async with bench() as rig:
            client = await rig.client()
            assert all("password" not in row for row in await client.rows("/user/print"))

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_timeout_is_a_lapse_in_address_lists_and_a_plain_property_elsewhere(version: Version) -> None:
    async def test() -> None:
        async with bench(version) as rig:
            client = await rig.client()
            row_id = await client.do("/tool/netwatch/add", "=host=192.0.2.1", "=timeout=1s")
            await client.do("/tool/netwatch/set", f"=.id={row_id}", "=timeout=2s")
            (row,) = rig.router.store.rows("/tool/netwatch")
            assert (row["dynamic"], row["timeout"]) == ("false", "2s")
            await client.do(f"{LIST}/add", "=list=a", "=address=192.0.2.1", "=timeout=1m")
            (entry,) = rig.router.store.rows(LIST)
            assert entry["dynamic"] == "true"

    run(test)
