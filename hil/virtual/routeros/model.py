"""The model plane: rows have no effect; links, pings, counters and connections are what the control socket says.

Only /system/scheduler runs its jobs, for a job needs no kernel.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hil.virtual.routeros.dhcp_leases import CLIENTS, STOPPED, Lease, Leases
from hil.virtual.routeros.kernel_timers import Scheduler, scheduled
from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.scripts import Scripts
from hil.virtual.routeros.store import Store
from hil.virtual.routeros.values import format_time_us, parse_time_s

CONNECTION: Final = "/ip/firewall/connection"
COUNTERS: Final = ("rx-byte", "tx-byte", "rx-packet", "tx-packet", "rx-drop", "tx-drop", "rx-error", "tx-error")
_LINK_MENUS: Final = ("/interface", "/interface/ethernet", "/interface/bridge")
_FIREWALL: Final = tuple(f"/ip/firewall/{table}" for table in ("filter", "nat", "mangle", "raw"))


@dataclass
class _Target:
    """How one address answers pings."""

    rtt_ms: float = 20.0
    lost: bool = False


class ModelPlane:
    """A plane without a kernel, for tests of the agent's adapter and of this server."""

    def __init__(self) -> None:
        self.changes: list[frozenset[str]] = []
        """Every call of :meth:`changed`, in order."""
        self.refuse_next: str | None = None
        """Message of a trap with which to refuse the next change."""
        self._store: Store | None = None
        self._scheduler: Scheduler | None = None
        self._leases: Leases | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._notify: Callable[[str, Row], None] | None = None
        self._targets: dict[str, _Target] = {}
        self._down: set[str] = set()
        self._counters: dict[str, Row] = {}
        self._connections: list[Row] = []
        self._connection_ids = itertools.count(0xA1)

    async def start(self, store: Store) -> None:
        """Take over the rows of this store."""
        self._store = store
        self._scheduler = Scheduler(Scripts(store))
        self._leases = Leases(store, Scripts(store), _nothing)
        self._scheduler.sync(scheduled(store), booting=True)

    async def stop(self) -> None:
        """Forget what a power cut forgets."""
        if self._scheduler is not None:
            self._scheduler.stop()
        for task in self._work:
            task.cancel()
        self._connections.clear()
        self._counters.clear()

    async def changed(self, menus: frozenset[str]) -> None:
        """Note the change; refuse it where a test asked for that."""
        self.changes.append(menus)
        message, self.refuse_next = self.refuse_next, None
        if message is not None:
            raise Trap(message)
        if CLIENTS in menus and self._leases is not None:
            self._spawn(self._leases.follow())  # scripts of theirs write rows, and this write is not done yet
        if "/system/scheduler" in menus and self._store is not None and self._scheduler is not None:
            self._scheduler.sync(scheduled(self._store))

    async def rows(self, menu: str) -> list[Row] | None:
        """Connections; every other menu is the store's."""
        return [dict(row) for row in self._connections] if menu == CONNECTION else None

    async def live(self, menu: str) -> Mapping[str, Row]:
        """Link states and counters, active routes, leases."""
        assert self._store is not None
        rows = self._store.rows(menu)
        if menu in _LINK_MENUS:
            return {row[".id"]: self._link(row) for row in rows}
        if menu == "/ip/route":
            active = self._active_routes(rows)
            return {row[".id"]: {"active": "true" if row[".id"] in active else "false"} for row in rows}
        if menu == CLIENTS:
            return {row[".id"]: self._client(row) for row in rows}
        if menu == "/system/scheduler" and self._scheduler is not None:
            return self._scheduler.live
        if menu in _FIREWALL:
            return {row[".id"]: {"bytes": "0", "packets": "0"} for row in rows}
        return {}

    async def remove(self, menu: str, row_id: str) -> None:
        """Remove one connection."""
        for row in self._connections:
            if menu == CONNECTION and row[".id"] == row_id:
                self._connections.remove(row)
                return
        raise Trap("no such item", 0)

    async def ping(self, arguments: Mapping[str, str]) -> AsyncIterator[Row]:
        """Echoes at the interval asked for, until the count or a cancel."""
        target = self._targets.setdefault(arguments["address"], _Target())
        interval_s = parse_time_s(arguments.get("interval", "1s"))
        count = int(arguments.get("count", "0"))
        for seq in itertools.count():
            row = {"seq": str(seq), "host": arguments["address"]}
            if target.lost:
                await asyncio.sleep(interval_s)
                yield {**row, "status": "timeout"}
            else:
                await asyncio.sleep(target.rtt_ms / 1000)
                rtt = format_time_us(round(target.rtt_ms * 1000))
                yield {**row, "size": arguments.get("size", "56"), "ttl": "58", "time": rtt}
            if count and seq + 1 >= count:
                return
            if not target.lost:
                await asyncio.sleep(max(0.0, interval_s - target.rtt_ms / 1000))

    def on_event(self, notify: Callable[[str, Row], None]) -> None:
        """Where to report link changes."""
        self._notify = notify

    def control(self, do: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """One operation of the control socket: ``ping``, ``link``, ``lease``, ``counters``, ``connections``,
        ``traffic``, ``refuse``.
        """
        if do == "ping":
            self.set_ping(options["address"], options.get("rtt_ms", 20.0), lost=options.get("lost", False))
        elif do == "link":
            self.set_link(options["interface"], running=options["running"])
        elif do == "lease":
            self._spawn(self.set_lease(options["interface"], options.get("address"), options.get("gateway", "")))
        elif do == "counters":
            self.set_counters(options["interface"], options["counters"])
        elif do == "connections":
            return {"ids": self.set_connections(options["rows"])}
        elif do == "traffic":
            return {"ids": self.traffic(options.get("add", []), options.get("changes", {}))}
        elif do == "refuse":
            self.refuse_next = options["message"]
        else:
            known = "ping, link, lease, counters, connections, traffic, refuse"
            raise ValueError(f"the model plane cannot {do!r}; it knows {known}")
        return {}

    def set_ping(self, address: str, rtt_ms: float = 20.0, *, lost: bool = False) -> None:
        """How an address answers from now on; pings under way notice."""
        target = self._targets.setdefault(address, _Target())
        target.rtt_ms, target.lost = rtt_ms, lost

    def set_link(self, interface: str, *, running: bool) -> None:
        """Plug or unplug an interface; listeners are told."""
        assert self._store is not None
        if interface not in self._store.names("/interface"):
            raise ValueError(f"no interface {interface!r} on profile {self._store.profile}")
        (self._down.discard if running else self._down.add)(interface)
        if self._notify is not None:
            self._notify("/interface", {"name": interface, "running": "true" if running else "false"})

    async def set_lease(self, interface: str, address: str | None, gateway: str = "") -> None:
        """What the DHCP client of an interface is told: an address with its length and a next hop, or nothing more."""
        assert self._store is not None and self._leases is not None
        row = next((row for row in self._store.rows(CLIENTS) if row["interface"] == interface), None)
        if row is None:
            raise ValueError(f"no DHCP client on {interface!r}")
        if address is None:
            await self._leases.lose(row, "lease stopped locally")
        else:
            await self._leases.bind(row, Lease(address, gateway, gateway))

    def set_counters(self, interface: str, counters: Mapping[str, object]) -> None:
        """Set some of an interface's counters (bytes and packets since boot)."""
        unknown = sorted(set(counters) - set(COUNTERS))
        if unknown:
            raise ValueError(f"unknown interface counters: {', '.join(unknown)}; known are {', '.join(COUNTERS)}")
        self._counters.setdefault(interface, {}).update({name: str(value) for name, value in counters.items()})

    def set_connections(self, rows: list[Row]) -> list[str]:
        """Replace the tracked connections; their ids."""
        self._connections = [{".id": f"*{next(self._connection_ids):X}", **row} for row in rows]
        return [row[".id"] for row in self._connections]

    def traffic(self, add: list[Row], changes: Mapping[str, Row]) -> list[str]:
        """Change some values of connections by id (those that are gone stay gone), add others; the ids of these."""
        for row in self._connections:
            row.update(changes.get(row[".id"], {}))
        added: list[Row] = [{".id": f"*{next(self._connection_ids):X}", **row} for row in add]
        self._connections += added
        return [row[".id"] for row in added]

    def _link(self, row: Row) -> Row:
        running = row["name"] not in self._down and row["disabled"] != "true"
        counters = {**dict.fromkeys(COUNTERS, "0"), **self._counters.get(row["name"], {})}
        return {"running": "true" if running else "false", **counters}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _client(self, row: Row) -> Row:
        assert self._leases is not None
        return {"status": STOPPED} if self._is_down(row) else self._leases.live(row)

    def _is_down(self, row: Row) -> bool:
        return row["interface"] in self._down or row["disabled"] == "true"

    def _active_routes(self, routes: list[Row]) -> set[str]:
        """Per destination and table, the enabled routes of least distance whose gateway is on a live link."""
        best: dict[tuple[str, str], list[Row]] = {}
        for route in routes:
            if route["disabled"] == "true" or not self._reachable(route):
                continue
            key = (route["dst-address"], route.get("routing-table") or route.get("routing-mark") or "main")
            rivals = best.setdefault(key, [])
            if rivals and int(rivals[0]["distance"]) > int(route["distance"]):
                rivals.clear()
            if not rivals or rivals[0]["distance"] == route["distance"]:
                rivals.append(route)
        return {route[".id"] for rivals in best.values() for route in rivals}

    def _reachable(self, route: Row) -> bool:
        assert self._store is not None
        gateway = route.get("gateway", "").partition("@")[0]
        address, _, interface = gateway.partition("%")
        for row in self._store.rows("/ip/address"):
            if row["disabled"] == "true" or interface not in ("", row["interface"]):
                continue
            if row["interface"] == address:
                return not self._is_down(row)
            if (
                address[:1].isdigit()
                and ipaddress.ip_address(address) in ipaddress.ip_interface(row["address"]).network
            ):
                return not self._is_down(row)
        # Blackholes, and gateways no address of the router is next to: their links are unknown here.
        return True


async def _nothing() -> None:
    """There is no kernel to follow rows."""
