"""/ip/dhcp-client on the kernel plane: each row asks the real server on its port (RFC 2131, section 4.4).

A client runs while its row is enabled, its port has a carrier and is no port of a bridge. Without a carrier the lease
is given up, as RouterOS says in its log ("lease stopped locally").
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.dhcp_leases import CLIENTS, STOPPED, Lease, Leases
from hil.virtual.routeros.kernel_dhcp_wire import (
    ACK,
    ADDRESS,
    DISCOVER,
    LIFETIME,
    MASK,
    NAK,
    NAMES,
    OFFER,
    RELEASE,
    REQUEST,
    ROUTER,
    SERVER,
    WISHES,
    Options,
    Reply,
    Wire,
    deaf_ear,
)
from hil.virtual.routeros.kernel_netlink import Links
from hil.virtual.routeros.kernel_values import enabled
from hil.virtual.routeros.plane import Row

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
_RENEW, _RELEASE = "renew", "release"
_WISHES: Final[Options] = {WISHES: bytes([MASK, ROUTER, NAMES, LIFETIME, SERVER])}
_KEEPS: Final = frozenset({"interface", "dhcp-options", ".id"})  # a change of these begins anew


class DhcpClients:
    """One task for each client that may run."""

    def __init__(self, store: Store, links: Links, leases: Leases) -> None:
        self._store = store
        self._links = links
        self._leases = leases
        self._tasks: dict[str, tuple[Row, asyncio.Task[None], asyncio.Queue[str]]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def sync(self) -> None:
        """Follow the rows and the state of their ports."""
        rows = {row[".id"]: row for row in self._store.rows(CLIENTS)}
        wanted = {row_id: row for row_id, row in rows.items() if self._may_run(row)}
        for row_id, (row, task, _orders) in list(self._tasks.items()):
            if row_id not in wanted or any(wanted[row_id].get(name) != row.get(name) for name in _KEEPS):
                del self._tasks[row_id]
                task.cancel()
                self._spawn(self._end(row, task, linked=self._links.running(row["interface"])))
        for row_id, row in wanted.items():
            if row_id in self._tasks:
                task, orders = self._tasks[row_id][1:]
                if row != self._tasks[row_id][0]:
                    self._tasks[row_id] = (row, task, orders)
                    self._spawn(self._leases.apply(row))
            else:
                orders = asyncio.Queue()
                self._tasks[row_id] = (row, asyncio.get_running_loop().create_task(self._run(row_id, orders)), orders)
        for row_id, order in self._store.take_orders():
            if row_id in self._tasks:
                self._tasks[row_id][2].put_nowait(order)

    def stop(self) -> None:
        """The power goes; no server is told."""
        for task in (*(task for _row, task, _orders in self._tasks.values()), *self._ends):
            task.cancel()
        self._tasks.clear()
        self._leases.forget()

    def live(self) -> dict[str, Row]:
        """The read-only properties of every client."""
        found = {}
        for row in self._store.rows(CLIENTS):
            if row[".id"] in self._tasks:
                found[row[".id"]] = self._leases.live(row)
            else:
                invalid = row["interface"] in self._enslaved()
                found[row[".id"]] = {"status": STOPPED, "invalid": "true" if invalid else "false"}
        return found

    def _may_run(self, row: Row) -> bool:
        usable = row["interface"] not in self._enslaved() and self._links.running(row["interface"])
        return bool(enabled([row])) and usable

    def _enslaved(self) -> set[str]:
        return {row["interface"] for row in enabled(self._store.rows("/interface/bridge/port"))}

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _end(self, row: Row, task: asyncio.Task[None], *, linked: bool) -> None:
        """A client that may not run any more gives its lease back, where a server can still be told."""
        await asyncio.wait([task])
        lease = self._leases.lease(row[".id"])
        if lease is not None and linked:
            _tell_released(row["interface"], lease)
        await self._leases.lose(row, "lease stopped locally")

    async def _run(self, row_id: str, orders: asyncio.Queue[str]) -> None:
        row = self._tasks[row_id][0]
        with contextlib.closing(deaf_ear(row["interface"])):
            while True:
                lease = await self._searched(row["interface"])
                while lease is not None:
                    await self._leases.bind(self._row(row_id), lease)
                    lease = await self._kept(row_id, lease, orders)

    def _row(self, row_id: str) -> Row:
        """As it is now: only what needs another lease begins a new task."""
        return self._tasks[row_id][0]

    async def _searched(self, device: str) -> Lease | None:
        """One round of discovery, ever longer waits, until a server gives a lease; None to begin anew."""
        for wait_s in (*_WAITS_S, *[_WAITS_S[-1]] * 3):
            try:
                with Wire(device, random.getrandbits(32)) as wire:
                    answer = await _discovered(wire, wait_s)
            except OSError:  # its port has just gone; who watches the ports ends this
                await asyncio.sleep(wait_s)
                continue
            if answer is not None and answer.kind == ACK:
                return _lease(answer)
        return None

    async def _kept(self, row_id: str, lease: Lease, orders: asyncio.Queue[str]) -> Lease | None:
        """The lease that comes after this one; None where it is lost and the search begins anew."""
        device = self._row(row_id)["interface"]
        until_s, order = time.monotonic() + lease.lifetime_s, ""
        while (left_s := until_s - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                order = await asyncio.wait_for(orders.get(), left_s / 2)
            if order == _RELEASE:
                _tell_released(device, lease)
                break
            answer = await _renewed(device, lease)
            if answer is not None and answer.kind == ACK:
                return _lease(answer)
            if order == _RENEW or answer is not None:  # then begin anew (MikroTik manual, "DHCP", renew)
                break
        await self._leases.lose(self._row(row_id), "lease released" if order == _RELEASE else "lease lost")
        return None


async def _discovered(wire: Wire, wait_s: float) -> Reply | None:
    wire.send(DISCOVER, _WISHES)
    offer = await wire.receive((OFFER,), wait_s)
    if offer is None or SERVER not in offer.options:
        return None
    chosen = {SERVER: offer.options[SERVER], ADDRESS: socket.inet_aton(offer.address)}
    wire.send(REQUEST, {**_WISHES, **chosen})
    return await wire.receive((ACK, NAK), wait_s)


async def _renewed(device: str, lease: Lease) -> Reply | None:
    """Asked of every server, as when rebinding (RFC 2131, section 4.3.2): half of the lifetime is long enough."""
    own = lease.address.split("/")[0]
    for wait_s in _WAITS_S[:3]:
        with contextlib.suppress(OSError), Wire(device, random.getrandbits(32)) as wire:
            wire.send(REQUEST, _WISHES, own)
            answer = await wire.receive((ACK, NAK), wait_s)
            if answer is not None:
                return answer
    return None


def _tell_released(device: str, lease: Lease) -> None:
    with contextlib.suppress(OSError), Wire(device, random.getrandbits(32)) as wire:
        wire.send(RELEASE, {SERVER: socket.inet_aton(lease.server)}, lease.address.split("/")[0])


def _lease(answer: Reply) -> Lease:
    mask = (answer.addresses(MASK) or ("255.255.255.255",))[0]
    length = int.from_bytes(socket.inet_aton(mask)).bit_count()
    return Lease(
        address=f"{answer.address}/{length}",
        gateway=next(iter(answer.addresses(ROUTER)), ""),
        server=next(iter(answer.addresses(SERVER)), ""),
        names=answer.addresses(NAMES),
        lifetime_s=answer.seconds(LIFETIME) or 3600.0,
    )
