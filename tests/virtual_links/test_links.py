"""A real link: what the kernels on both sides see, and what the emulator says of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hil.virtual import topology_netns as netns
from hil.virtual.control import ControlError
from hil.virtual.emulator_tape import frames

from .support import CARRIER, GUARD_S, SITE, STRANGER, VOICE, LinkBench, needs_root, run, run_quiet

pytestmark = [pytest.mark.bench, needs_root]


def test_a_ping_takes_both_delays_and_little_more() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()  # ARP
        with bench.first():
            times = [bench.ping() or 9.0 for _ in range(20)]
        never(min(times) < 0.0199, f"early: {times}")
        assert statistics.median(times) < 0.030
        arp = [row for row in (await bench.control.call("flows", **{"class": "arp"}))["flows"] if row["src"] == SITE]
        assert arp[0]["delivered_packets"] == 1
        stats = await bench.control.call("stats")
        assert stats["lateness_p50_s"] < 0.001

    run_quiet(story, delay_ms=10)


def never(condition: bool, text: str) -> None:
    """What no busy machine can cause: one time is enough to fail."""
    if condition:
        pytest.fail(text)


def test_the_records_equal_the_kernels_counters() -> None:
    async def story(bench: LinkBench) -> None:
        for size in (1, 160, 1400):
            await bench.send(20, payload=b"x" * size)
        bench.ping()
        site, far, rows = await at_rest(bench)
        for direction, sent, received in (("up", site, far), ("down", far, site)):
            mine = [row for row in rows if row["direction"] == direction]
            packets = sum(row["packets"] for row in mine)
            assert (packets, sum(row["bytes"] for row in mine) + 14 * packets) == (sent["tx_packets"], sent["tx_bytes"])
            assert sum(row["delivered_bytes"] for row in mine) + 14 * packets == received["rx_bytes"]

    run(story)


async def at_rest(bench: LinkBench) -> tuple[dict[str, int], dict[str, int], list[dict[str, Any]]]:
    """The kernels' counters of both ends and the emulator's rows, read while nothing moved."""
    end_s = time.monotonic() + GUARD_S
    while True:
        before = bench.counters(bench.a, "site0"), bench.counters(bench.b, "far0")
        rows = (await bench.control.call("flows"))["flows"]
        flying = (await bench.control.call("stats"))["in_flight"]
        if not flying and before == (bench.counters(bench.a, "site0"), bench.counters(bench.b, "far0")):
            return *before, rows
        assert time.monotonic() < end_s, "the link never rests"


def test_loss_has_its_share_and_is_counted() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()
        await bench.control.call("impair", link="wan", direction="up", loss=0.2)
        arrived = len(await bench.send(1500, every_s=0.0002))
        row = await bench.row(**{"class": "rtp", "direction": "up"})
        assert row["packets"] == 1500
        assert row["delivered_packets"] == arrived
        assert row["dropped"]["loss"]["packets"] == 1500 - arrived
        assert 0.15 < 1 - arrived / 1500 < 0.25

    run(story)


def test_burst_loss_is_taken_from_the_control_socket() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()
        await bench.control.call("impair", link="wan", loss={"mean_loss": 0.5, "mean_burst_s": 0.05})
        await bench.send(400, every_s=0.002)
        row = await bench.row(**{"class": "rtp"})
        lost = row["dropped"]["loss"]["packets"]
        assert 60 < lost < 340
        assert row["max_delivered_gap_s"] > 0.02

    run_quiet(story)


def test_the_rate_limits_and_the_queue_drops() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()
        await bench.control.call("impair", link="wan", direction="up", rate_kbit=4000, queue_bytes=50_000)
        with bench.first():
            start = time.monotonic()
            arrivals = await bench.send(100, payload=b"x" * 972)  # 1000 bytes with its headers: 2 ms each
        passed = len(arrivals)
        never(passed < 49, f"{passed} of a queue of 50")
        never(arrivals[-1] - start < passed * 0.002 - 0.02, f"{passed} in {arrivals[-1] - start} s")
        assert passed <= 54
        row = await bench.row(**{"class": "rtp"})
        never(row["dropped"]["queue"]["packets"] != 100 - passed, f"{passed} passed: {row}")
        assert arrivals[-1] - start == pytest.approx(passed * 0.002, abs=0.02)

    run_quiet(story)


def test_a_cut_is_silent_with_the_carrier_up_and_arp_answered() -> None:
    async def story(bench: LinkBench) -> None:
        assert bench.ping() is not None
        before = time.monotonic()
        cut = await bench.control.call("cut", link="wan")
        assert before <= cut["t"] <= time.monotonic()
        netns.run_ip(["neigh flush dev site0"], bench.a)
        assert bench.ping(timeout_s=0.1) is None
        assert "LOWER_UP" in link_flags(bench.a, "site0")

        async def swallowed() -> bool:
            row = await bench.row(**{"class": "icmp", "direction": "up"})
            return bool(row["dropped"].get("blackhole", {}).get("packets") == 1)

        await bench.until(swallowed)
        await bench.control.call("restore", link="wan")
        assert bench.ping() is not None
        verdicts = [e["verdict"] for e in bench.events("flow_started") if e["icmp_type"] == "echo"]
        # After a second's pause a flow is told of anew.
        assert [verdict for verdict, _ in itertools.groupby(verdicts)] == ["delivered", "blackhole", "delivered"]
        causes = [(e["cause"], e["changes"]) for e in bench.events("impaired")]
        assert [cause for cause, _ in causes] == ["cut", "restore"]

    run(story)


def test_carrier_off_shows_at_the_device_and_takes_what_was_on_its_way() -> None:
    async def story(bench: LinkBench) -> None:
        assert bench.ping() is not None
        await bench.control.call("impair", link="wan", delay_ms=5000)
        with bench.udp(bench.a, SITE, 10000) as sender:
            sender.sendto(b"on its way", (VOICE, 30000))
        await bench.wait_for_events("flow_started", 5)
        await bench.control.call("carrier", link="wan", on=False)
        await until_flag(bench, bench.a, "site0", "NO-CARRIER")
        await until_flag(bench, bench.b, "far0", "NO-CARRIER")

        async def over() -> bool:
            return not (await bench.control.call("stats"))["in_flight"]

        await bench.until(over)
        row = await bench.row(**{"class": "rtp"})
        assert (row["delivered_packets"], row["dropped"]["carrier"]["packets"]) == (0, 1)
        await bench.control.call("carrier", link="wan", on=True, end="a")
        await until_flag(bench, bench.a, "site0", "LOWER_UP")
        assert "NO-CARRIER" in link_flags(bench.b, "far0")
        assert [(e["end"], e["on"]) for e in bench.events("carrier")] == [("both", False), ("a", True)]

    run(story)


def test_a_strangers_source_is_dropped_and_told_and_the_right_one_passes() -> None:
    async def story(bench: LinkBench) -> None:
        with bench.udp(bench.b, VOICE, 5060) as receiver:
            for source in (STRANGER, SITE):
                with bench.udp(bench.a, source, 5060) as sender:
                    sender.sendto(b"OPTIONS sip:x SIP/2.0\r\n\r\n", (VOICE, 5060))
            assert receiver.recvfrom(2048)[1] == (SITE, 5060)
        row = await bench.row(src=STRANGER, sip_method="OPTIONS")
        assert (row["delivered_packets"], row["dropped"]["spoofed"]["packets"]) == (0, 1)
        await bench.control.call("hello")  # what it has answered before, it has told
        verdicts = {e["src"]: e["verdict"] for e in bench.events("flow_started") if e["class"] == "sip"}
        assert verdicts == {STRANGER: "spoofed", SITE: "delivered"}

    run(story)


def test_filters_take_pings_or_options_and_nothing_else() -> None:
    async def story(bench: LinkBench) -> None:
        assert bench.ping(VOICE) is not None
        await bench.control.call("impair", link="wan", filters=[{"protocol": "icmp"}])
        assert bench.ping(VOICE, timeout_s=0.1) is None
        assert len(await bench.send(5)) == 5
        options = [{"protocol": "udp", "sip_method": "OPTIONS", "dst": "203.0.113.0/27"}]
        await bench.control.call("impair", link="wan", filters=options)
        assert bench.ping(VOICE) is not None
        assert await bench.send(5, port=5060, payload=b"OPTIONS sip:x SIP/2.0\r\n") == []
        assert len(await bench.send(5, port=5060, payload=b"REGISTER sip:x SIP/2.0\r\n")) == 5
        row = await bench.row(sip_method="OPTIONS")
        assert row["dropped"]["filter"]["packets"] == 5
        await bench.control.call("clear", link="wan")
        assert len(await bench.send(5, port=5060, payload=b"OPTIONS sip:x SIP/2.0\r\n")) == 5

    run(story)


def test_a_timeline_keeps_its_times_and_can_be_cancelled() -> None:
    async def story(bench: LinkBench) -> None:
        steps = [
            {"at_s": 0.05, "link": "wan", "direction": "up", "loss": 1.0},
            {"at_s": 0.10, "link": "wan", "carrier": False, "end": "a"},
            {"at_s": 0.15, "link": "wan", "clear": True},
            {"at_s": 0.20, "link": "wan", "carrier": True},
            {"at_s": 60.0, "link": "wan", "blackhole": True},
        ]
        with bench.first():
            t0 = (await bench.control.call("timeline", steps=steps))["t0"]
            await bench.wait_for_events("carrier", 2)
        done = [e for e in bench.events() if e["event"] in ("impaired", "carrier")]
        never([e["event"] for e in done] != ["impaired", "carrier", "impaired", "carrier"], f"order: {done}")
        late = [e["t"] - t0 - step["at_s"] for e, step in zip(done, steps, strict=False)]
        never(min(late) < -0.0001, f"early: {late}")
        assert max(late) < 0.01
        assert {e["cause"] for e in done} == {"timeline"}
        assert (await bench.control.call("timeline_cancel"))["cancelled"] == 1
        with pytest.raises(ControlError, match="at_s"):
            await bench.control.call("timeline", steps=[{"at_s": -1, "link": "wan", "blackhole": True}])

    run_quiet(story)


def test_gaps_in_media_are_told_at_arrival() -> None:
    async def story(bench: LinkBench) -> None:
        await bench.send(5, every_s=0.02)
        await asyncio.sleep(0.25)
        await bench.send(5, every_s=0.02)
        worst = (await bench.control.call("max_gaps"))["gaps"]
        gaps = bench.events("gap")  # told before the answer
        assert any(gap["gap_s"] > 0.2 for gap in gaps)
        assert {gap["class"] for gap in gaps} == {"rtp"}
        assert worst[0]["max_gap_s"] == pytest.approx(max(e["gap_s"] for e in gaps), abs=1e-5)

    run(story)


def test_marks_reset_and_refusals() -> None:
    async def story(bench: LinkBench) -> None:
        await bench.control.call("mark", text="MARK-1234")
        await bench.send(3, payload=b"before MARK-1234 after")
        row = await bench.row(**{"class": "rtp"})
        assert row["marked_bytes"] == {"MARK-1234": 3 * 50}
        await bench.control.call("reset")
        assert (await bench.control.call("flows", link="wan"))["flows"] == []
        for request, text in (
            ({"op": "impair", "link": "wan", "delay": 3}, "unknown field 'delay'"),
            ({"op": "cut", "link": "dsl"}, "no link 'dsl'"),
            ({"op": "cut"}, "missing field 'link'"),
            ({"op": "explode"}, "unknown op"),
        ):
            with pytest.raises(ControlError, match=text):
                await bench.control.call(**request)

    run(story)


def test_a_recording_has_every_frame_whatever_the_line_does_with_it(tmp_path: Path) -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()  # ARP
        await bench.control.call("record", link="wan", path=str(tmp_path / "tape"))
        await bench.send(3, payload=b"through")
        await bench.control.call("cut", link="wan")
        await bench.send(2, payload=b"into the dark")
        await bench.control.call("record", link="wan", path=str(tmp_path / "tape"))
        sent = [frame for _, frame in frames(tmp_path / "tape.up")]
        assert [sum(text in frame for frame in sent) for text in (b"through", b"into the dark")] == [3, 2]
        with pytest.raises(ControlError, match="no link 'dsl'"):
            await bench.control.call("record", link="dsl", path=str(tmp_path / "tape"))

    run(story)


def test_ten_calls_cost_little_and_are_on_time() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()
        before = await bench.control.call("stats")
        with bench.first(), bench.udp(bench.a, SITE, 10000) as sender, bench.udp(bench.b, VOICE, 30000):
            start = time.monotonic()
            for n in range(1000):  # 2 s of ten calls' 500 packets per second, one way
                await asyncio.sleep(max(0.0, start + n * 0.002 - time.monotonic()))
                sender.sendto(bytes(172), (VOICE, 30000))
            took_s = time.monotonic() - start
            await bench.until(lambda: sent(bench, before["packets_sent"] + 1000))
        after = await bench.control.call("stats")
        assert (after["cpu_s"] - before["cpu_s"]) / took_s < 0.15
        assert after["lateness_p99_s"] < 0.01

    run_quiet(story, delay_ms=35, jitter_ms=5, rate_kbit=10000)


async def sent(bench: LinkBench, count: int) -> bool:
    """Whether the emulator has sent on so many packets."""
    return bool((await bench.control.call("stats"))["packets_sent"] >= count)


def test_a_reply_longer_than_the_sockets_buffer_arrives_whole() -> None:
    async def story(bench: LinkBench) -> None:
        bench.ping()
        before = (await bench.control.call("stats"))["packets_sent"]
        with bench.udp(bench.a, SITE, 10000) as sender:
            for count in range(1, 2001):
                sender.sendto(b"x", (CARRIER, 39999 + count))
                if count % 100 == 0:  # the device holds 500 for an emulator that is kept waiting
                    await bench.until(lambda: sent(bench, before + count))  # noqa: B023  (it is awaited here)
        rows = (await bench.control.call("flows"))["flows"]
        assert sum(row["protocol"] == "udp" and row["direction"] == "up" for row in rows) == 2000

    run(story)


def test_ipv6_towards_the_carrier_is_recorded() -> None:
    async def story(bench: LinkBench) -> None:
        raw = bench_raw(bench)
        with raw:
            raw.send(bytes.fromhex("ffffffffffff02000000000186dd") + b"\x60" + bytes(5) + b"\x3a\xff" + bytes(32))
        await bench.wait_for_events("flow_started", 1)
        row = await bench.row(**{"class": "ipv6"})
        assert (row["direction"], row["bytes"]) == ("up", 40)

    run(story)


def bench_raw(bench: LinkBench) -> socket.socket:
    """A socket for whole frames at the site's end."""

    def make() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(("site0", 0))
        return raw

    return netns.inside(bench.a, make)


async def until_flag(bench: LinkBench, netns_name: str, device: str, flag: str) -> None:
    """The kernel tells of a carrier a moment after it has changed (linkwatch)."""

    async def shown() -> bool:
        return flag in link_flags(netns_name, device)

    await bench.until(shown)


def link_flags(netns_name: str, device: str) -> list[str]:
    """The flags ``ip link`` shows."""
    output = subprocess.run(["ip", "-n", netns_name, "-j", "link", "show", device], check=True, capture_output=True)
    return list(json.loads(output.stdout)[0]["flags"])
