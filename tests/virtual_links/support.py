"""One emulated link between two namespaces, and sockets in them, for the tests of the emulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.virtual import topology_netns as netns
from hil.virtual.control import ControlClient
from hil.virtual.topology import new_bed_id, wait_for_emulator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes network namespaces")
REPOSITORY = Path(__file__).resolve().parents[2]

GUARD_S = 30.0  # no claim of any test here: it ends what would hang
QUIET_S = 90.0  # so long a test of times tries to find a moment in which nothing else delays it
SITE, CARRIER, VOICE, STRANGER = "192.0.2.2", "192.0.2.1", "203.0.113.10", "10.9.9.9"


class LinkBench:
    """A link "wan": ``site0`` in namespace ``a``, ``far0`` in namespace ``b``, where the provider's address also is."""

    def __init__(self, folder: Path, control: ControlClient, names: tuple[str, str], emulator_pid: int) -> None:
        self.folder = folder
        self.control = control
        self.a, self.b = names
        self.emulator_pid = emulator_pid

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The events so far, all or those of one name."""
        lines = (self.folder / "events").read_text().splitlines()
        return [event for event in map(json.loads, lines) if name in (None, event["event"])]

    async def wait_for_events(self, name: str, count: int, timeout_s: float = GUARD_S) -> list[dict[str, Any]]:
        """Wait until so many events of this name are there."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.events(name)
            if len(found) >= count or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.01)

    def udp(self, netns_name: str, address: str, port: int) -> socket.socket:
        """A bound UDP socket in a namespace."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            made.bind((address, port))
            made.settimeout(GUARD_S)
            return made

        return netns.inside(netns_name, make)

    def ping(self, target: str = CARRIER, timeout_s: float = GUARD_S) -> float | None:
        """One echo from the site; its round trip in seconds, or None."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)

        with netns.inside(self.a, make) as pinger:
            pinger.settimeout(timeout_s)
            start = time.monotonic()
            pinger.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + b"x" * 48, (target, 0))
            try:
                pinger.recv(2048)
            except TimeoutError:
                return None
            return time.monotonic() - start

    async def row(self, **wanted: Any) -> dict[str, Any]:
        """The one flow row whose fields have these values."""
        rows = (await self.control.call("flows"))["flows"]
        found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
        assert len(found) == 1, f"{wanted}: {len(found)} of {rows}"
        return dict(found[0])

    async def send(
        self, count: int, *, port: int = 30000, payload: bytes = b"x" * 160, every_s: float = 0.0
    ) -> list[float]:
        """Datagrams from the site to the provider; the arrival times of those that the emulator says it delivered.

        One more that arrives for all that fails the test.
        """
        arrivals = []
        packets, delivered = await self.taken(port)
        with self.udp(self.a, SITE, 10000) as sender, self.udp(self.b, VOICE, port) as receiver:
            start = time.monotonic()
            for n in range(count):
                if n % 100 == 99:  # the device holds 500 for an emulator that is kept waiting
                    await self.until(lambda: self.took(port, packets + n))  # noqa: B023  (it is awaited here)
                sender.sendto(payload, (VOICE, port))
                if every_s:
                    await asyncio.sleep(max(0.0, start + (n + 1) * every_s - time.monotonic()))
            await self.until(lambda: self.took(port, packets + count))
            for _ in range((await self.taken(port))[1] - delivered):
                receiver.recv(2048)
                arrivals.append(time.monotonic())
            receiver.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                pytest.fail(f"arrived without a record: {receiver.recv(2048)!r}")
        return arrivals

    async def taken(self, port: int) -> tuple[int, int]:
        """(all, those delivered) of the packets to this port that the emulator has come to."""
        rows = (await self.control.call("flows"))["flows"]
        mine = [row for row in rows if (row["direction"], row["dport"]) == ("up", port)]
        return sum(row["packets"] for row in mine), sum(row["delivered_packets"] for row in mine)

    async def took(self, port: int, count: int) -> bool:
        """Whether the emulator has come to so many packets to this port."""
        return (await self.taken(port))[0] >= count

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what must come, however long a busy machine takes."""
        end_s = time.monotonic() + GUARD_S
        while not await condition():
            assert time.monotonic() < end_s, "waited in vain"
            await asyncio.sleep(0.005)

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """The emulator and this thread go before what else the machine does, where that is permitted (sched(7))."""
        for pid in (self.emulator_pid, 0):
            _schedule(pid, os.SCHED_FIFO, 1)
        try:
            yield
        finally:
            for pid in (self.emulator_pid, 0):
                _schedule(pid, os.SCHED_OTHER, 0)

    def counters(self, netns_name: str, device: str) -> dict[str, int]:
        """The kernel's own counters of a device (frames with their 14-byte Ethernet headers)."""
        output = subprocess.run(
            ["ip", "-n", netns_name, "-s", "-j", "link", "show", device], check=True, capture_output=True
        ).stdout
        both = json.loads(output)[0]["stats64"]
        return {f"{way}_{what}": both[way][what] for way in ("rx", "tx") for what in ("bytes", "packets")}


@contextlib.asynccontextmanager
async def link_bench(**impair: Any) -> AsyncIterator[LinkBench]:
    """A running link with these impairment fields both ways; ``allow_source`` is the site's own prefix."""
    bed_id = new_bed_id("t")
    names = {role: f"eb-{bed_id}-{role}" for role in ("a", "b", "emu")}
    with tempfile.TemporaryDirectory(prefix="edgeagent-link-") as text:
        folder = Path(text)
        process: subprocess.Popen[bytes] | None = None
        control: ControlClient | None = None
        try:
            _build(names)
            _write_config(folder / "config", names, impair)
            process = _start(folder, names["emu"])
            control = await wait_for_emulator(folder / "control", process)
            netns.run_ip([f"addr add {SITE}/24 dev site0", f"route add default via {CARRIER}"], names["a"])
            netns.run_ip([f"addr add {CARRIER}/24 dev far0", "route add default via 192.0.2.2"], names["b"])
            yield LinkBench(folder, control, (names["a"], names["b"]), process.pid)
        finally:
            if control is not None:
                await control.close()
            netns.delete(names.values())
            if process is not None:
                process.wait(GUARD_S)
        assert not netns.existing(f"eb-{bed_id}-")


def run(test: Callable[[LinkBench], Any], **impair: Any) -> None:
    """Run one asynchronous test on a link of its own."""

    async def body() -> None:
        async with link_bench(**impair) as bench:
            await test(bench)

    asyncio.run(body())


def run_quiet(test: Callable[[LinkBench], Any], **impair: Any) -> None:
    """As :func:`run`, for a test that no time is exceeded: again on a new link where the machine has been in its way.

    An emulator that takes longer than it must does so each time.
    """
    end_s = time.monotonic() + QUIET_S
    while True:
        try:
            return run(test, **impair)
        except AssertionError:
            if time.monotonic() > end_s:
                raise


def _schedule(pid: int, policy: int, priority: int) -> None:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, policy, os.sched_param(priority))


def _build(names: dict[str, str]) -> None:
    netns.run_ip(f"netns add {name}" for name in names.values())
    for name in names.values():
        netns.set_sysctls(
            name,
            {
                "ipv4/ping_group_range": "0 2147483647",
                "ipv4/conf/all/rp_filter": "0",
                "ipv4/conf/default/rp_filter": "0",
                "ipv6/conf/default/disable_ipv6": "1",
            },
        )
    netns.run_ip(["link set lo up", f"addr add {STRANGER}/32 dev lo"], names["a"])
    netns.run_ip(["link set lo up", f"addr add {VOICE}/32 dev lo"], names["b"])


def _write_config(path: Path, names: dict[str, str], impair: dict[str, Any]) -> None:
    link = {
        "name": "wan",
        "a": {"netns": names["a"], "device": "site0"},
        "b": {"netns": names["b"], "device": "far0"},
        "allow_source": "192.0.2.0/24",
        "impair": {"up": impair, "down": impair},
    }
    path.write_text(json.dumps({"seed": 7, "links": [link]}))


def _start(folder: Path, emulator_netns: str) -> subprocess.Popen[bytes]:
    files = ["--config", folder / "config", "--control", folder / "control", "--events", folder / "events"]
    command = ["ip", "netns", "exec", emulator_netns, sys.executable, "-m", "hil.virtual.emulator", *map(str, files)]
    with (folder / "emulator.log").open("wb") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
