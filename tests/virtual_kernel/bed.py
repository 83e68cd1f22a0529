"""A small site of three namespaces: a LAN host, the router with the plane in it, and an internet with two ways in."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hil.virtual.addresses import CARRIER_GATEWAY, ISP_GATEWAY, NEUTRAL_TARGETS, ROUTER_LAN, ROUTER_LTE, ROUTER_WAN, SBC
from hil.virtual.routeros.engine import Engine
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.kernel import KernelPlane
from hil.virtual.routeros.kernel_gateways import CheckTiming
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.store import Store
from hil.virtual.routeros.values import Version

T = TypeVar("T")
WAN, LTE, LAN = "ether1", "ether2", "bridge"
PHONE = "192.168.88.11"
OTHER_PHONE = "192.168.88.12"
ALIAS = "192.168.88.77"
GUARD_S = 60.0  # no claim of any test here: it ends what would hang
SILENCE_S = 0.4  # so long an answer is waited for where none may come
QUICK = CheckTiming(interval_s=0.2, timeout_s=1.0, misses=2)  # with patience: where nothing is cut, nothing moves
_NUMBERS = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)


def run(command: str) -> str:
    """Run a command line without quotes in it; its output."""
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def enter(namespace: str) -> None:
    """Move this thread into a namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _LIBC.setns(descriptor, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def within(namespace: str, make: Callable[[], T]) -> T:
    """Call something in a namespace; a socket made there stays there."""
    found: list[T] = []

    def work() -> None:
        enter(namespace)
        found.append(make())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def udp(namespace: str, address: str, port: int) -> socket.socket:
    """A UDP socket bound in a namespace."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.settimeout(GUARD_S)
        return made

    return within(namespace, make)


class Loop:
    """An event loop in a thread of its own, inside a namespace."""

    def __init__(self, namespace: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, args=(namespace,))
        self._thread.start()

    def _work(self, namespace: str) -> None:
        enter(namespace)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something there and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(2 * GUARD_S)

    def close(self) -> None:
        """End the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Phone:
    """A UDP flow of one LAN host to the SBC, which answers with the source address it saw."""

    def __init__(self, site: Site, source: str = PHONE, port: int = 5062) -> None:
        self._socket = udp(site.lan, source, port)
        site.closing.callback(self._socket.close)

    def silent(self, text: str = "hello", port: int = 5060) -> bool:
        """Whether no answer comes."""
        return self.ask(text, port, SILENCE_S) is None

    def ask(self, text: str = "hello", port: int = 5060, within_s: float = GUARD_S) -> str | None:
        """The address the SBC sees, None where no answer comes. Where that may be, ``within_s`` is short."""
        self._socket.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            while True:
                self._socket.recv(2048)
        self._socket.settimeout(within_s)
        with contextlib.suppress(TimeoutError, OSError):
            self.send(text, port)
            return self._socket.recv(2048).decode()
        return None

    def send(self, text: str = "hello", port: int = 5060) -> None:
        """One datagram, without waiting for an answer."""
        self._socket.sendto(text.encode(), (SBC, port))


@dataclass
class Site:
    """The running bed."""

    version: Version
    router: str
    lan: str
    internet: str
    loop: Loop
    store: Store
    engine: Engine
    plane: KernelPlane
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def do(self, command: str, **properties: str) -> str:
        """One API command; the ``.id`` it returned."""
        words = [command, *(f"={name.replace('_', '-')}={value}" for name, value in properties.items())]
        rows = self.loop.call(self.store.sentence([word.replace("=-id=", "=.id=") for word in words]))
        return rows[-1].get("ret", "") if rows else ""

    def add(self, menu: str, **properties: str) -> str:
        """Add a row."""
        return self.do(f"{menu}/add", **properties)

    def rows(self, menu: str) -> list[Row]:
        """Print a menu."""
        return self.loop.call(self.store.sentence([f"{menu}/print"]))

    def row(self, menu: str, row_id: str) -> Row:
        """Print one row."""
        return next(row for row in self.rows(menu) if row[".id"] == row_id)

    def wait(self, condition: Callable[[], bool]) -> float:
        """Wait for what must come; how long it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < GUARD_S, "waited in vain"
            time.sleep(0.01)
        return time.monotonic() - started

    def ip(self, namespace: str, words: str) -> str:
        """Run ip(8) in a namespace."""
        return run(f"ip -n {namespace} {words}")

    # -- pieces most tests want --------------------------------------------------------------------------------------

    def table(self, name: str) -> dict[str, str]:
        """A routing table of that name; the property that puts a route into it."""
        if self.version == "6.49":
            return {"routing_mark": name}
        self.add("/routing/table", name=name, fib="yes")
        return {"routing_table": name}

    @property
    def rules_menu(self) -> str:
        """Where routing rules are."""
        return "/ip/route/rule" if self.version == "6.49" else "/routing/rule"

    def default_via_wan(self) -> str:
        """The ordinary default route."""
        return self.add("/ip/route", gateway=ISP_GATEWAY)

    def masquerade(self) -> None:
        """Masquerade on both uplinks."""
        for uplink in (WAN, LTE):
            self.add("/ip/firewall/nat", chain="srcnat", action="masquerade", out_interface=uplink)

    def lte_mark(self, **match: str) -> str:
        """A table ``lte`` with a default through LTE, and a mangle rule that marks what matches for it."""
        self.add("/ip/route", gateway=CARRIER_GATEWAY, **self.table("lte"))
        return self.add(
            "/ip/firewall/mangle", chain="prerouting", action="mark-routing", new_routing_mark="lte",
            passthrough="no", **match,
        )  # fmt: skip


def _answer(server: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError, OSError):
            data, source = server.recvfrom(2048)
            server.sendto(source[0].encode() + data[5:], source)


def _build(names: dict[str, str]) -> None:
    lan, router, internet = names["lan"], names["router"], names["internet"]
    for name in names.values():
        run(f"ip netns add {name}")
        run(f"ip -n {name} link set lo up")
    for device, peer, where in ((LAN, "eth0", lan), (WAN, "wan0", internet), (LTE, "lte0", internet)):
        run(f"ip -n {router} link add {device} type veth peer name {peer} netns {where}")
        run(f"ip -n {where} link set {peer} up")
    for address in (PHONE, OTHER_PHONE, ALIAS):
        run(f"ip -n {lan} address add {address}/24 dev eth0")
    run(f"ip -n {lan} route add default via {ROUTER_LAN}")
    run(f"ip -n {internet} address add {ISP_GATEWAY}/24 dev wan0")
    run(f"ip -n {internet} address add {CARRIER_GATEWAY}/24 dev lte0")
    for address in (SBC, *NEUTRAL_TARGETS):
        run(f"ip -n {internet} address add {address}/32 dev lo")


@contextlib.contextmanager
def site(version: Version, timing: CheckTiming = QUICK) -> Iterator[Site]:
    """Build a site whose router has its three addresses, and take it down again."""
    stem = f"ebt-k{os.getpid()}-{next(_NUMBERS)}"
    names = {part: f"{stem}-{part[0]}" for part in ("lan", "router", "internet")}
    with contextlib.ExitStack() as stack:
        for name in names.values():
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
        _build(names)
        loop = Loop(names["router"])
        stack.callback(loop.close)
        store, plane = Store(version, "generic"), KernelPlane(timing)

        async def make() -> Engine:
            return Engine(store, plane, EventLog())

        engine = loop.call(make())
        loop.call(engine.start())
        made = Site(version, names["router"], names["lan"], names["internet"], loop, store, engine, plane)
        stack.callback(lambda: loop.call(engine.stop()))
        stack.enter_context(made.closing)
        for address, device in ((ROUTER_LAN, LAN), (ROUTER_WAN, WAN), (ROUTER_LTE, LTE)):
            made.add("/ip/address", address=f"{address}/24", interface=device)
        ended = threading.Event()
        for port in (5060, 30000):
            server = udp(names["internet"], SBC, port)
            server.settimeout(0.4)
            thread = threading.Thread(target=_answer, args=(server, ended))
            thread.start()
            stack.callback(server.close)
            stack.callback(thread.join)
        stack.callback(ended.set)
        yield made
