"""Beds: built whole, torn down whole, cleaned after a crash, and never another's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.virtual import addresses as plan
from hil.virtual import topology_netns as netns
from hil.virtual.control import ControlClient, ControlError, Message, serve
from hil.virtual.topology import ROLES, Bed, BedError, clean_stale, new_bed_id
from tests import beds

from .support import GUARD_S, REPOSITORY, needs_root

pytestmark = [pytest.mark.bench, needs_root]

OWNER = """
import asyncio, sys
from hil.virtual.topology import Bed
async def main():
    async with Bed.up(bed_id=sys.argv[1]) as bed:
        # A program whose child leaves the session: only its namespace still tells whose it is.
        bed.spawn("ph1", ["sh", "-c", "setsid sleep 1000 & sleep 1000"], "sleep.log")
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_bed_comes_up_whole_carries_packets_and_leaves_nothing() -> None:
    async def story() -> str:
        async with Bed.up(profile="rb2011", bed_id=new_bed_id("t")) as bed:
            assert sorted(netns.existing(f"eb-{bed.bed_id}-")) == sorted(bed.namespace(r) for r in (*ROLES, "emu"))
            route_by_hand(bed)
            assert exchange(bed, plan.ROUTER_WAN) == b"hello"
            assert exchange(bed, plan.ROUTER_LTE, 0.3) is None  # a wrong source on the WAN port
            rows = (await bed.emulator.call("flows", link="wan"))["flows"]
            spoofed = [row for row in rows if "spoofed" in row["dropped"]]
            assert [row["src"] for row in spoofed] == [plan.ROUTER_LTE]
            assert bed.events_path.exists()
            return bed.bed_id

    bed_id = asyncio.run(story())
    assert_gone(bed_id)


def test_teardown_kills_what_left_its_group_and_keeps_the_artifacts(tmp_path: Path) -> None:
    async def story() -> tuple[str, subprocess.Popen[bytes]]:
        async with Bed.up(bed_id=new_bed_id("t"), artifacts=tmp_path / "logs") as bed:
            process = bed.spawn(
                "pc", ["sh", "-c", "echo $GREETING; setsid sleep 1000 & wait"], "pc.log", {"GREETING": "hi"}
            )
            until(lambda: (tmp_path / "logs" / "pc.log").read_text() == "hi\n")
            return bed.bed_id, process

    bed_id, process = asyncio.run(story())
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "logs" / "pc.log").read_text() == "hi\n"
    assert_gone(bed_id)


def test_after_kill_9_clean_stale_removes_all_and_leaves_the_living() -> None:
    async def story() -> None:
        async with Bed.up(bed_id=new_bed_id("t")) as living:
            crashed = new_bed_id("t")
            with start_owner(crashed) as owner:
                assert owner.stdout is not None
                assert owner.stdout.readline() == b"up\n"
                until(lambda: len(pids_in(f"eb-{crashed}-ph1")) == 3)
                members = pids_in(f"eb-{crashed}-ph1")
                assert crashed not in clean_stale()
                owner.send_signal(signal.SIGKILL)
                owner.wait()
            assert netns.existing(f"eb-{crashed}-")
            assert crashed in clean_stale()
            assert_gone(crashed)
            assert not any(alive(pid) for pid in members)
            assert (await living.emulator.call("hello"))["links"] == ["wan", "lte"]
            assert living.bed_id not in clean_stale()

    asyncio.run(story())


def test_the_tests_own_beds_go_once_their_process_is_gone() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    names = [f"ebt-k{gone.pid}-1-l", f"ebt-p{gone.pid}-ph1", f"ebt-k{os.getpid()}-9999-l"]
    try:
        netns.run_ip([f"netns add {name}" for name in names])
        assert set(names) & set(beds.clean_stale()) == set(names[:2])
        assert set(names) & set(netns.existing("ebt-")) == {names[2]}
    finally:
        netns.delete(set(names) & set(netns.existing("ebt-")))


def test_one_id_is_one_bed_and_a_profile_must_exist() -> None:
    bed = Bed(new_bed_id("t"))
    try:
        with pytest.raises(BedError, match="already"):
            Bed(bed.bed_id)
        with pytest.raises(BedError, match="no profile"):
            Bed(new_bed_id("t"), "rb9999")
    finally:
        bed.teardown()
        bed.teardown()


def test_many_beds_have_ids_of_their_own() -> None:
    ids = {new_bed_id("t") for _ in range(100)}
    assert len(ids) == 100
    assert max(map(len, ids)) <= 8


def test_the_control_helper_serves_asyncio_programs(tmp_path: Path) -> None:
    async def handler(operation: str, arguments: Message) -> Message:
        if operation != "add":
            raise ControlError(f"no {operation}")
        return {"sum": arguments["x"] + arguments["y"]}

    async def story() -> None:
        server = await serve(tmp_path / "socket", handler)
        client = await ControlClient.connect(tmp_path / "socket")
        assert await client.call("add", x=1, y=2) == {"sum": 3}
        with pytest.raises(ControlError, match="subtract: no subtract"):
            await client.call("subtract")
        with pytest.raises(ControlError, match="missing field 'y'"):
            await client.call("add", x=1)
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(story())


def start_owner(bed_id: str) -> subprocess.Popen[bytes]:
    """Another process with a bed of its own."""
    command = [sys.executable, "-c", OWNER, bed_id]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def route_by_hand(bed: Bed) -> None:
    """What the virtual RouterOS will do: addresses and a default route on the router."""
    lines = [
        f"addr add {plan.ROUTER_WAN}/24 dev {bed.wan_port}",
        f"addr add {plan.ROUTER_LTE}/24 dev {bed.lte_port}",
        f"route add default via {plan.ISP_GATEWAY}",
    ]
    netns.run_ip(lines, bed.namespace("rtr"))


def exchange(bed: Bed, source: str, timeout_s: float = GUARD_S) -> bytes | None:
    """A datagram from the router to the provider."""

    def make(address: str, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(timeout_s)
        return made

    with (
        netns.inside(bed.namespace("rtr"), lambda: make(source, 4000)) as near,
        netns.inside(bed.namespace("prov"), lambda: make(plan.SBC, 4000)) as far,
    ):
        near.sendto(b"hello", (plan.SBC, 4000))
        try:
            return far.recv(100)
        except TimeoutError:
            return None


def assert_gone(bed_id: str) -> None:
    """No namespace, no folder, no process of a bed."""
    assert netns.existing(f"eb-{bed_id}-") == []
    assert not list(Path("/tmp").glob(f"edgeagent-bench-*/{bed_id}"))
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            assert not any(f"/{bed_id}/".encode() in word for word in command), command


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come, however long a busy machine takes."""
    end_s = time.monotonic() + GUARD_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def pids_in(name: str) -> list[int]:
    """The processes in a namespace."""
    output = subprocess.run(["ip", "netns", "pids", name], check=True, capture_output=True, text=True).stdout
    return [int(pid) for pid in output.split()]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
