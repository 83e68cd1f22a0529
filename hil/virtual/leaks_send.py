"""Sends the attempts of one role: run in its namespace, told what to do over a control socket.

``open`` {label, names}: set up the flows that are to be carried over. ``begin`` {label, names}: send each of these
attempts every ROUND_S from now on. ``end``: stop -> {"sent": {name: count}}. ``relay`` {inner, outer, source}: be the
IGMP proxy of the router's owner, until ``relay_off``. A packet that has no route or no carrier is not counted as
sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import signal
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from hil.virtual import addresses as plan
from hil.virtual.control import ControlError, Message, serve
from hil.virtual.leaks import FLOW_PORT, GROUP, SSDP, WEB, WEB6, Attempt, Markers, named
from hil.virtual.leaks_packets import BUILDERS

ROUND_S: Final = 0.5
OPEN_S: Final = 20.0  # a guard: the hosts that answer are the bench's
SOURCES: Final = {"pc": plan.PC, "pi": plan.PI, "ph2": plan.PHONES[1], "rtr": "0.0.0.0"}
# <linux/mroute.h>
_MRT_INIT, _MRT_ADD_VIF, _MRT_ADD_MFC, _VIF_USE_INDEX = 200, 202, 204, 8
_SIOCGIFINDEX: Final = 0x8933


class Sender:
    """The sockets of one role."""

    def __init__(self, role: str, secret: str, lte_port: str) -> None:
        self.role = role
        self.markers = Markers(secret)
        self.lte_port = lte_port
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.raw.setblocking(False)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.raw6: socket.socket | None = None
        self.flows: dict[tuple[str, str], socket.socket] = {}
        self.sent: dict[str, int] = {}
        self.task: asyncio.Task[None] | None = None
        self.proxy: socket.socket | None = None

    async def handle(self, operation: str, arguments: Message) -> Message:
        """One request."""
        match operation:
            case "open":
                for attempt in named(arguments["names"]):
                    await asyncio.to_thread(self._open, attempt, arguments["label"])
                return {}
            case "begin":
                await self._end()
                attempts = named(arguments["names"])
                self.sent = dict.fromkeys(arguments["names"], 0)
                self.task = asyncio.create_task(self._go_on(attempts, arguments["label"]))
                return {}
            case "end":
                await self._end()
                return {"sent": self.sent}
            case "relay":
                self._relay(**arguments)
                return {}
            case "relay_off":
                if self.proxy is not None:
                    self.proxy.close()
                return {}
            case _:
                raise ControlError(f"unknown op {operation!r}; known are open, begin, end, relay, relay_off")

    async def _go_on(self, attempts: list[Attempt], label: str) -> None:
        while True:
            for attempt in attempts:
                self.sent[attempt.name] += self._try(attempt, label)
            await asyncio.sleep(ROUND_S)

    def _try(self, attempt: Attempt, label: str) -> bool:
        """Whether it was sent. What a rule for the router's own output drops is (EPERM), what has no route is not."""
        try:
            self._send(attempt, label)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    async def _end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    def _send(self, attempt: Attempt, label: str) -> None:
        marker = self.markers.of(attempt, label).encode()
        if attempt.how == "flow":
            self.flows[attempt.name, label].send(marker * 4)
        elif attempt.how in ("port", "port6"):
            self._out_of_port(marker, attempt.where["to"], attempt.where["port"])
        else:
            self._send_raw(attempt, marker)

    def _send_raw(self, attempt: Attempt, marker: bytes) -> None:
        where = attempt.where
        if attempt.ipv6:
            packets = BUILDERS[attempt.how](source6(), marker, where)
            if self.raw6 is None:
                self.raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
                self.raw6.setblocking(False)
            for packet in packets:
                self.raw6.sendto(packet, (where["to"], 0))
            return
        for packet in BUILDERS[attempt.how](where.get("source", SOURCES[self.role]), marker, where):
            self.raw.sendto(packet, (where["to"], 0))

    def _out_of_port(self, marker: bytes, target: str, port: int) -> None:
        """As the router's own services do that speak on a port rather than to a host."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.lte_port.encode())
            sender.sendto(marker * 4, (target, port))

    def _open(self, attempt: Attempt, label: str) -> None:
        """A flow that is answered once, unless nobody answers there; what it carries then has no marker yet."""
        tcp = attempt.where["transport"] == "tcp"
        port = attempt.where.get("port", FLOW_PORT)
        flow = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        flow.settimeout(OPEN_S)
        try:
            flow.connect((WEB, port))
            flow.send(b"hello")
            if port == FLOW_PORT:
                flow.recv(100)
        except OSError as error:
            raise ControlError(f"{attempt.name}: no flow to {WEB}: {error}") from error
        flow.setblocking(False)
        self.flows[attempt.name, label] = flow

    def _relay(self, inner: str, outer: str, source: str) -> None:
        """Forward two groups from a host of the LAN, as an IGMP proxy whose upstream is the other port would."""
        proxy = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
        proxy.setsockopt(socket.IPPROTO_IP, _MRT_INIT, 1)
        for number, device in enumerate((inner, outer)):
            vif = struct.pack("=HBBIi4x", number, _VIF_USE_INDEX, 1, 0, _index(proxy, device))
            proxy.setsockopt(socket.IPPROTO_IP, _MRT_ADD_VIF, vif)
        for group in (GROUP, SSDP):
            thresholds = bytes([0, 1]).ljust(32, b"\0")
            entry = socket.inet_aton(source) + socket.inet_aton(group) + struct.pack("=H", 0) + thresholds + bytes(18)
            proxy.setsockopt(socket.IPPROTO_IP, _MRT_ADD_MFC, entry)
        self.proxy = proxy


def _index(any_socket: socket.socket, device: str) -> int:
    answer = fcntl.ioctl(any_socket, _SIOCGIFINDEX, struct.pack("16si20x", device.encode(), 0))
    return int(struct.unpack("16si20x", answer)[1])


def source6() -> str:
    """The address that the kernel would take; OSError without a default."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect((WEB6, 9))
        address: str = probe.getsockname()[0]
        return address


async def _run(role: str, secret: str, lte_port: str, control: Path) -> None:
    sender = Sender(role, secret, lte_port)
    server = await serve(control, sender.handle)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with server:
        await ended.wait()


def main(argv: Iterable[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Send the attempts of one role.")
    for name in ("--role", "--secret", "--lte-port"):
        parser.add_argument(name, required=True)
    parser.add_argument("--control", type=Path, required=True)
    options: Any = parser.parse_args(None if argv is None else list(argv))
    asyncio.run(_run(options.role, options.secret, options.lte_port, options.control))


if __name__ == "__main__":
    main()
