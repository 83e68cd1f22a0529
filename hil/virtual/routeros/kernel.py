"""The kernel plane: RouterOS rows given effect in the network namespace this process runs in.

IPv6 has its filter and nothing else: its addresses and routes are the namespace's own. They outlive a power cut, so a
router that is off, or still booting, is kept silent by a table of its own.

Who does what: ``kernel_routes`` decides which routes are active, ``kernel_nft`` and ``kernel_match`` compile the
firewall, ``kernel_conntrack`` is the connection table, ``kernel_gateways`` checks gateways, ``kernel_timers`` runs
scheduler and netwatch through ``kernel_script``. This module keeps them in step with the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.dhcp_leases import CLIENTS, Leases
from hil.virtual.routeros.kernel_conntrack import Conntrack
from hil.virtual.routeros.kernel_dhcp import DhcpClients
from hil.virtual.routeros.kernel_firewall import Firewall
from hil.virtual.routeros.kernel_gateways import CheckTiming, Gateways
from hil.virtual.routeros.kernel_interfaces import Interfaces
from hil.virtual.routeros.kernel_netlink import Links
from hil.virtual.routeros.kernel_ping import ping_rows
from hil.virtual.routeros.kernel_router import Router
from hil.virtual.routeros.kernel_system import apply_settings, apply_tracking, nft
from hil.virtual.routeros.kernel_timers import Netwatch, Scheduler, scheduled
from hil.virtual.routeros.kernel_values import IPV6
from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.scripts import Scripts

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

_ADDRESS_LIST: Final = "/ip/firewall/address-list"
_FIREWALL: Final = frozenset(f"/ip/firewall/{name}" for name in ("raw", "mangle", "nat", "filter"))
_FIREWALL6: Final = frozenset({"/ipv6/firewall/filter", "/ipv6/firewall/address-list"})
_LISTS: Final = frozenset({"/interface/list", "/interface/list/member"})
_ROUTING: Final = frozenset(
    {"/ip/address", "/ip/route", "/ip/route/rule", "/routing/rule", "/routing/table", "/routing/settings"}
)
_TIMERS: Final = frozenset({"/system/scheduler", "/tool/netwatch"})
_INTERFACES: Final = frozenset({"/interface", "/interface/ethernet", "/interface/bridge", "/interface/bridge/port"})
_CONNECTIONS: Final = "/ip/firewall/connection"
_OFF: Final = "table inet off"
_SILENT: Final = "".join(
    f"add chain inet off {hook} {{ type filter hook {hook} priority -400; policy drop; }}\n"
    for hook in ("forward", "output")
)


class KernelPlane:
    """See :class:`hil.virtual.routeros.plane.Plane`. ``check_timing`` replaces RouterOS' check-gateway timing."""

    def __init__(self, check_timing: CheckTiming | None = None) -> None:
        self._check_timing = check_timing or CheckTiming()
        self._notify: Callable[[str, Row], None] = lambda _menu, _row: None
        self._lock = asyncio.Lock()
        self._store: Store | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._kicked = False

    # -- Plane -----------------------------------------------------------------------------------------------------

    def on_event(self, notify: Callable[[str, Row], None]) -> None:
        """Where changes that nobody wrote are reported."""
        self._notify = notify

    async def start(self, store: Store) -> None:
        """Make the namespace what the rows say."""
        self._store = store
        self._links = Links()
        self._conntrack = Conntrack()
        self._gateways = Gateways(self._kick)
        self._interfaces = Interfaces(store, self._links)
        self._router = Router(store, self._links, self._gateways, self._check_timing)
        self._firewall = Firewall(store, self._router)
        self._firewall6 = Firewall(store, self._router, IPV6)
        self._scripts = Scripts(store)
        self._scheduler = Scheduler(self._scripts)
        self._netwatch = Netwatch(self._scripts, store.version, lambda row: self._notify("/tool/netwatch", row))
        self._dhcp = DhcpClients(store, self._links, Leases(store, self._scripts, self._settle))
        async with self._lock:
            await nft(f"add {_OFF}\n{_SILENT}")  # nothing passes before the rules stand
            self._apply_switches()
            await self._interfaces.sync()
            self._interfaces.changes()
            await self._router.start()
            await self._firewall.compile()
            await self._firewall6.compile()
            await nft(f"delete {_OFF}\n")
        self._dhcp.sync()
        self._scheduler.sync(scheduled(store), booting=True)
        self._netwatch.sync(store.rows("/tool/netwatch"), booting=True)
        self._links.watch(self._kick)
        self._kick()  # links may have changed between the reading above and the watching

    async def stop(self) -> None:
        """Undo everything but the devices; until the next start nothing is forwarded or sent."""
        if self._store is None:
            return
        self._scheduler.stop()
        self._netwatch.stop()
        self._dhcp.stop()
        self._gateways.stop_tasks()
        for task in list(self._background):
            task.cancel()
        self._kicked = False  # the task that was to see to it may not even have begun
        async with self._lock:
            await nft(f"add {_OFF}\n{_SILENT}")
            self._links.close()
            await self._router.stop()
            await self._firewall.stop()
            await self._firewall6.stop()
            await self._interfaces.stop()
            self._conntrack.flush()
            self._conntrack.close()
            self._store = None

    async def changed(self, menus: frozenset[str]) -> None:
        """Follow written rows. A lease (an address-list row) takes the short way: one set, one transaction."""
        store = self._started()
        async with self._lock:
            if menus <= {_ADDRESS_LIST}:
                await self._firewall.lists()
                return
            if menus & {"/ip/settings", "/ip/firewall/connection/tracking"}:
                self._apply_switches()
            if menus & _INTERFACES:
                await self._interfaces.sync()
            if menus & (_ROUTING | _INTERFACES | {"/ip/firewall/mangle"}):
                await self._sync_routes()
            if menus & (_FIREWALL | _LISTS | _ROUTING | _INTERFACES | {_ADDRESS_LIST}):
                await self._firewall.compile()
            if menus & (_FIREWALL6 | _LISTS):
                await self._firewall6.compile()
        if menus & ({CLIENTS} | _INTERFACES):
            self._dhcp.sync()
        if menus & _TIMERS:
            self._scheduler.sync(scheduled(store))
            self._netwatch.sync(store.rows("/tool/netwatch"))

    async def rows(self, menu: str) -> list[Row] | None:
        """The connections; None for every other menu."""
        if menu == _ADDRESS_LIST:
            await self._firewall.learn()
        if menu != _CONNECTIONS:
            return None
        return self._conntrack.rows(self._firewall.connection_mark_name)

    async def live(self, menu: str) -> Mapping[str, Row]:
        """Counters, activity, running state."""
        store = self._started()
        if menu in _FIREWALL:
            return await self._firewall.live(menu)
        if menu == "/ipv6/firewall/filter":
            return await self._firewall6.live(menu)
        if menu == "/ip/route":
            return self._router.live()
        if menu in {"/interface", "/interface/ethernet", "/interface/bridge"}:
            return self._interfaces.live(store.rows(menu))
        if menu == CLIENTS:
            return self._dhcp.live()
        if menu == "/system/scheduler":
            return self._scheduler.live
        if menu == "/tool/netwatch":
            return self._netwatch.live
        return {}

    async def remove(self, menu: str, row_id: str) -> None:
        """Remove one connection."""
        if menu != _CONNECTIONS:
            raise Trap("no such command", 0)
        self._conntrack.remove(row_id)

    def ping(self, arguments: Mapping[str, str]) -> AsyncIterator[Row]:
        """Echo from the router."""
        return ping_rows(arguments, self._started().version, self._router.marks())

    # -- within ------------------------------------------------------------------------------------------------------

    def _started(self) -> Store:
        if self._store is None:
            raise RuntimeError("the kernel plane is not started; await start(store) first")
        return self._store

    def _apply_switches(self) -> None:
        store = self._started()
        apply_settings(store.single("/ip/settings"))
        apply_tracking(store.single("/ip/firewall/connection/tracking"), store.version)

    async def _sync_routes(self) -> None:
        for lost in await self._router.sync():
            self._purge(lost)
        for row in self._router.take_changes():
            self._notify("/ip/route", row)

    def _purge(self, address: str) -> None:
        """A lost address: "the router will clear all masqueraded connection tracking entries" (manual, NAT).

        Both versions: RouterOS does it when an interface disconnects or its address changes, which Linux would do only
        for a device taken down by hand.
        """
        if self._firewall.masquerades:
            self._conntrack.purge(lambda one: one.source_natted and one.reply.destination == address)

    def _kick(self) -> None:
        """Something changed by itself: look at it in a task, once for a burst of events."""
        if not self._kicked:
            self._kicked = True
            self._spawn(self._follow())

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _follow(self) -> None:
        self._kicked = False
        if self._store is None:
            return
        self._links.refresh()
        lost: list[str] = []
        for name, row in self._interfaces.changes():
            self._notify("/interface", row)
            if row["running"] == "false":
                lost += self._router.addresses_on(name)
        async with self._lock:
            await self._sync_routes()
            for address in lost:  # after the routes: a packet in between would make the entry anew on the dead line
                self._purge(address)
            try:
                await self._firewall.compile()
            except Trap as trap:  # nobody wrote this, so there is nobody to refuse it to
                self._log("error", trap.message)
        self._dhcp.sync()

    async def _settle(self) -> None:
        """Follow rows that a lease has brought or taken."""
        async with self._lock:
            if self._store is not None:
                await self._sync_routes()
                await self._firewall.compile()

    def _log(self, severity: str, message: str) -> None:
        self._started().append_log(f"script,{severity}", message)
