"""The kernel plane: RouterOS rows given effect in the network namespace this process runs in.

Who does what: ``kernel_routes`` decides which routes are active, ``kernel_nft`` and ``kernel_match`` compile the
firewall, ``kernel_conntrack`` is the connection table, ``kernel_gateways`` checks gateways, ``kernel_timers`` runs
scheduler and netwatch through ``kernel_script``. This module keeps them in step with the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.kernel_conntrack import Conntrack
from hil.virtual.routeros.kernel_firewall import Firewall
from hil.virtual.routeros.kernel_gateways import CheckTiming, Gateways
from hil.virtual.routeros.kernel_interfaces import Interfaces
from hil.virtual.routeros.kernel_learn import Learner
from hil.virtual.routeros.kernel_netlink import Links
from hil.virtual.routeros.kernel_ping import ping_rows
from hil.virtual.routeros.kernel_router import Router
from hil.virtual.routeros.kernel_script import Interpreter
from hil.virtual.routeros.kernel_syntax import ScriptError
from hil.virtual.routeros.kernel_system import apply_settings, apply_tracking
from hil.virtual.routeros.kernel_timers import Netwatch, Scheduler
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

_ADDRESS_LIST: Final = "/ip/firewall/address-list"
_FIREWALL: Final = frozenset(f"/ip/firewall/{name}" for name in ("raw", "mangle", "nat", "filter"))
_LISTS: Final = frozenset({"/interface/list", "/interface/list/member"})
_ROUTING: Final = frozenset(
    {"/ip/address", "/ip/route", "/ip/route/rule", "/routing/rule", "/routing/table", "/routing/settings"}
)
_TIMERS: Final = frozenset({"/system/scheduler", "/tool/netwatch"})
_INTERFACES: Final = frozenset({"/interface", "/interface/ethernet", "/interface/bridge", "/interface/bridge/port"})
_CONNECTIONS: Final = "/ip/firewall/connection"


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
        self._interpreter = Interpreter(self._sentence, self._log)
        self._learner = Learner(self._sentence)
        self._scheduler = Scheduler(self._run_script)
        self._netwatch = Netwatch(self._run_script, store.version, lambda row: self._notify("/tool/netwatch", row))
        async with self._lock:
            self._apply_switches()
            await self._interfaces.sync()
            self._interfaces.changes()
            await self._router.start()
            await self._firewall.compile()
            self._learner.watch(self._firewall.learned)
        self._scheduler.sync(store.rows("/system/scheduler"), booting=True)
        self._netwatch.sync(store.rows("/tool/netwatch"), booting=True)
        self._links.watch(self._kick)

    async def stop(self) -> None:
        """Undo everything but the devices."""
        if self._store is None:
            return
        self._scheduler.stop()
        self._netwatch.stop()
        self._learner.stop()
        self._gateways.stop_tasks()
        for task in list(self._background):
            task.cancel()
        async with self._lock:
            self._links.close()
            await self._router.stop()
            await self._firewall.stop()
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
                self._learner.watch(self._firewall.learned)
        if menus & _TIMERS:
            self._scheduler.sync(store.rows("/system/scheduler"))
            self._netwatch.sync(store.rows("/tool/netwatch"))

    async def rows(self, menu: str) -> list[Row] | None:
        """The connections; None for every other menu."""
        if menu != _CONNECTIONS:
            return None
        return self._conntrack.rows(self._firewall.connection_mark_name)

    async def live(self, menu: str) -> Mapping[str, Row]:
        """Counters, activity, running state."""
        store = self._started()
        if menu in _FIREWALL:
            return await self._firewall.live(menu)
        if menu == "/ip/route":
            return self._router.live()
        if menu in {"/interface", "/interface/ethernet", "/interface/bridge"}:
            return self._interfaces.live(store.rows(menu))
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
        for name, row in self._interfaces.changes():
            self._notify("/interface", row)
            if row["running"] == "false":
                for address in self._router.addresses_on(name):
                    self._purge(address)
        async with self._lock:
            await self._sync_routes()
            try:
                await self._firewall.compile()
            except Trap as trap:  # nobody wrote this, so there is nobody to refuse it to
                self._log("error", trap.message)

    def _log(self, severity: str, message: str) -> None:
        self._started().append_log(f"script,{severity}", message)

    async def _run_script(self, what: str, who: str) -> None:
        """Run a script by its name or by its text; a failure ends it with a line in the log."""
        named = [row for row in self._started().rows("/system/script") if row.get("name") == what.strip()]
        try:
            await self._interpreter.run(named[0].get("source", "") if named else what)
        except ScriptError as error:
            self._log("error", f"script error ({who}): {error}")

    async def _sentence(self, words: list[str]) -> list[Row]:
        """A command as the router's own administrator."""
        return await self._started().sentence(words)
