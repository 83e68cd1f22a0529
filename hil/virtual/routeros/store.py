"""The rows of every menu: order, ids, defaults, lapses. No sockets, no effect on any kernel."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from hil.virtual.routeros.boards import BOARDS, Profile, factory_rows, nameplate
from hil.virtual.routeros.derived import FASTTRACK_DUMMIES, derived_values
from hil.virtual.routeros.device_mode import DeviceMode, mode_record
from hil.virtual.routeros.files import FILE, FLASH, FULL, shown
from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.menus import DEVICE_MODE, MENUS
from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.values import Version, format_time_s, parse_time_s

if TYPE_CHECKING:
    from hil.virtual.routeros.access import Caller

LOG_ROWS_MAX: Final = 1000  # the factory setting of the router's memory log
HISTORY_ROWS_MAX: Final = 100

INTERFACES: Final = "/interface"
# Menus that show some of the rows of /interface, under the same ids, and what both show.
INTERFACE_VIEWS: Final[Mapping[str, str]] = {
    "/interface/ethernet": "ether",
    "/interface/bridge": "bridge",
    "/interface/vlan": "vlan",
    "/interface/pppoe-client": "pppoe-out",
}
INTERFACE_SHARED: Final = ("name", "default-name", "comment", "disabled", "mtu", "l2mtu", "mac-address")
ADDRESS_LIST: Final = "/ip/firewall/address-list"
SERVICE_MENU: Final = "/ip/service"
POE_OUT: Final = "poe-out"
# What a backup leaves alone: it belongs to the board, or is gone after a reboot.
_NOT_SAVED: Final = frozenset({FILE, "/ip/firewall/connection", "/log", "/system/history", "/system/package"})
_INTERFACE_FAMILY: Final = (INTERFACES, *INTERFACE_VIEWS)


@dataclass
class Entry:
    """One row as the store keeps it."""

    id: str
    values: Row
    dynamic: bool = False
    builtin: bool = False
    deadline_s: float | None = None
    """When the row lapses, on the store's clock."""


@dataclass
class _Table:
    entries: list[Entry] = field(default_factory=list)
    next_id: int = 1


class Store:
    """Rows and settings of one router. Values are the text the API shows."""

    def __init__(
        self,
        version: Version,
        profile: Profile,
        clock: Callable[[], float] = time.monotonic,
        *,
        device_mode: DeviceMode = "advanced",
        free_bytes: int | None = None,
        clock_offset_s: float = 0.0,
    ) -> None:
        self.version: Version = version
        self.profile: Profile = profile
        self.clock = clock
        self.booted_s = clock()
        self.bound_ports: dict[str, str] = {}
        """The ports that the bench chose for services: they are shown, but nobody configured them."""
        self._orders: list[tuple[str, str]] = []
        self.script_globals: dict[str, str | list[str]] = {}
        """What scripts keep in ``:global`` variables, until the next reboot."""
        self._clock_offset = timedelta(seconds=clock_offset_s)
        self._disk_bytes = BOARDS[profile].free_bytes if free_bytes is None else free_bytes
        self.menus: Mapping[str, Menu] = MENUS[version]
        self.runner: Callable[[Mapping[str, str] | list[str], Caller | None], Awaitable[list[Row]]] | None = None
        """Executes a sentence, as the local administrator where no caller is given; set by the command engine."""
        self._tables: dict[str, _Table] = {path: _Table() for path, menu in self.menus.items() if not menu.single}
        self._settings: dict[str, Row] = {
            path: dict(menu.defaults) for path, menu in self.menus.items() if menu.single
        } | nameplate(version, profile)
        if DEVICE_MODE in self.menus:
            self._settings[DEVICE_MODE] = mode_record(device_mode)
        self._watchers: dict[str, list[Callable[[Row], None]]] = {}
        self._unpublished: list[tuple[str, Row]] = []
        for path, rows in factory_rows(version, profile).items():
            for row in rows:
                values = derived_values(version, path, {**self.menus[path].defaults, **row})
                self._insert(path, values, builtin=path != "/interface/bridge")
            self._settle(path)

    # Reading

    def rows(self, menu: str) -> list[Row]:
        """Ordered copies of the rows of a menu, each with ``.id``, ``disabled`` and ``dynamic``."""
        return [self.row(menu, entry) for entry in self._table(menu).entries]

    def row(self, menu: str, entry: Entry) -> Row:
        """One row as :meth:`rows` gives it; a lapsing row tells the time it has left."""
        secret = self.menus[menu].secret
        row = {".id": entry.id, **{name: value for name, value in entry.values.items() if name not in secret}}
        row.setdefault("disabled", "false")
        row["dynamic"] = "true" if entry.dynamic else "false"
        if entry.deadline_s is not None:
            row["timeout"] = format_time_s(max(0.0, entry.deadline_s - self.clock()))
        return shown(self.version, row) if menu == FILE else row

    def entries(self, menu: str) -> list[Entry]:
        """The rows of a menu as they are kept, secrets among them; for parts of the router, not to be changed."""
        return list(self._table(menu).entries)

    def single(self, menu: str) -> Row:
        """The record of a settings menu."""
        record = dict(self._settings[menu])
        if menu == "/system/resource":
            record["uptime"] = format_time_s(self.clock() - self.booted_s)
            record["free-hdd-space"] = str(self.free_bytes())
        elif menu == "/system/clock":
            record |= {"date": self.wall_time().rpartition(" ")[0], "time": self.wall_time().rpartition(" ")[2]}
            record["gmt-offset"] = "+00:00"
        return record

    def names(self, menu: str) -> Collection[str]:
        """The names in a menu, for references; empty for a menu this version lacks."""
        table = self._tables.get(menu)
        return () if table is None else {entry.values["name"] for entry in table.entries if "name" in entry.values}

    def find(self, menu: str, reference: str) -> Entry:
        """The row with this ``.id``, or, where rows have names, with this name.

        Of several rows of a name the last: what a real router takes is told as "randomly", and one that is a
        connection (:meth:`open_connection`) refuses what is done to it.
        """
        entries = self._table(menu).entries
        named = [entry for entry in entries if entry.values.get("name") == reference]
        for entry in (*(entry for entry in entries if entry.id == reference.upper()), *reversed(named)):
            return entry
        raise Trap("no such item", 0)

    def service(self, name: str) -> Entry:
        """The row by which a service is configured."""
        entries = self._table(SERVICE_MENU).entries
        return next(entry for entry in entries if entry.values["name"] == name and not entry.dynamic)

    def open_connection(self, service: str, local: str, remote: str) -> str | None:
        """Show a connection to a service of the router's own as RouterOS 7.19 and later do: a dynamic row of the
        service's name in its very menu (changelog of 7.19; terraform-routeros issue 769). Its ``.id``.
        """
        if self.version != "7.22":
            return None
        standing = self.service(service).values
        seen = {"local": local, "remote": remote, "connection": "true"}
        return self.add_dynamic(SERVICE_MENU, {"name": service, "port": standing["port"], "proto": "tcp", **seen})

    def close_connection(self, row_id: str | None) -> None:
        """It ended."""
        if row_id is not None:
            self.remove_dynamic(SERVICE_MENU, row_id)

    def password_of(self, user: str) -> str | None:
        """The password of an enabled user, None where there is no such user."""
        for entry in self._table("/user").entries:
            if entry.values["name"] == user and entry.values.get("disabled") != "true":
                return entry.values.get("password", "")
        return None

    def free_bytes(self) -> int:
        """The space left for files."""
        return self._disk_bytes - sum(int(entry.values.get("size", "0")) for entry in self._table(FILE).entries)

    def wall_time(self) -> str:
        """Date and time as this version prints them."""
        now = datetime.now(UTC) + self._clock_offset
        return now.strftime("%b/%d/%Y %H:%M:%S" if self.version == "6.49" else "%Y-%m-%d %H:%M:%S").lower()

    async def sentence(self, words: Mapping[str, str] | list[str], caller: Caller | None = None) -> list[Row]:
        """Execute a command, as the local administrator where no caller is given: its rows, a value last as ``ret``.

        Either API words (``["/ip/route/add", "=gateway=..."]``) or a mapping with the path under ``"command"``. Raises
        Trap where the router refuses. Not to be awaited from within ``Plane.changed``: it waits for the same turn.
        """
        if self.runner is None:
            raise RuntimeError("this store is not connected to a command engine; create an Engine for it first")
        return await self.runner(words, caller)

    # Rows that the plane owns

    def add_dynamic(self, menu: str, row: Row) -> str:
        """Add a row that no user wrote (connected route, DHCP address); its ``.id``."""
        values = {name: value for name, value in row.items() if name not in (".id", "dynamic")}
        entry = self._insert(menu, values, dynamic=True)
        self.tell(menu, self.row(menu, entry))
        return entry.id

    def update_dynamic(self, menu: str, row_id: str, changes: Row) -> None:
        """Change properties of a row; listeners are told if anything differs."""
        entry = self.find(menu, row_id)
        if any(entry.values.get(name) != value for name, value in changes.items()):
            entry.values.update(changes)
            self.tell(menu, self.row(menu, entry))

    def remove_dynamic(self, menu: str, row_id: str) -> None:
        """Remove a row; removing one that has gone already is no error."""
        entries = self._table(menu).entries
        for entry in entries:
            if entry.id == row_id and entry.dynamic:  # after a reboot another row may have the id
                entries.remove(entry)
                self.tell(menu, {".id": entry.id, ".dead": "yes"})
                return

    def append_log(self, topics: str, message: str) -> None:
        """Write a line to /log; the oldest lines fall out."""
        self._append("/log", {"time": self.wall_time(), "topics": topics, "message": message}, LOG_ROWS_MAX)

    def append_history(self, action: str, user: str) -> None:
        """Note a change in /system/history."""
        row = {"action": action, "by": user, "policy": "write", "time": self.wall_time()}
        self._append("/system/history", row, HISTORY_ROWS_MAX)

    def set_service_port(self, service: str, port: int) -> None:
        """Show the port a service was really bound to."""
        self.service(service).values["port"] = self.bound_ports[service] = str(port)

    # Writes; the engine publishes them once the plane has accepted them

    def add(self, menu: Menu, values: Row, place_before: str | None = None) -> str:
        """Add a row; its ``.id``."""
        values = {**menu.defaults, **self._without_empty(menu, values)}
        if menu.auto_name and "name" not in values:
            values["name"] = self._free_name(menu)
        lapse = self._take_lapse(menu, values)
        dynamic = values.pop("dynamic", "false") == "true"
        values = derived_values(self.version, menu.path, values)
        if menu.path in (ADDRESS_LIST, FILE):
            values[self._time_name(menu)] = self.wall_time()
        self._refuse_duplicate(menu, values, None)
        self._refuse_full(menu, values, None)
        place = None if place_before is None else self._place(menu, place_before)
        entry = self._insert(menu.path, values, dynamic=dynamic, place=place)
        self._set_lapse(entry, lapse)
        self._wrote(menu.path, [entry])
        return entry.id

    def set(self, menu: Menu, references: Sequence[str], values: Row) -> None:
        """Change properties of rows; a text set to nothing goes away."""
        entries = [self.find(menu.path, reference) for reference in references]
        for entry in entries:
            self._refuse_dynamic(menu, entry, "change")
            if POE_OUT in values and POE_OUT not in entry.values:
                raise Trap(f"unknown parameter {POE_OUT}", 0)  # how a port without it says so is not known
            changed = {**entry.values, **values}
            lapse = self._take_lapse(menu, changed)
            changed.pop("dynamic", None)
            changed = derived_values(self.version, menu.path, self._without_empty(menu, changed))
            self._refuse_duplicate(menu, changed, entry)
            self._refuse_full(menu, changed, entry)
            if menu.path == FILE:
                changed[self._time_name(menu)] = self.wall_time()
            entry.values = changed
            self._set_lapse(entry, lapse)
        self._wrote(menu.path, entries)

    def unset(self, menu: Menu, references: Sequence[str], name: str) -> None:
        """Take a property away, or put its default back."""
        if name not in menu.fields:
            raise Trap("input does not match any value of value-name", 1)
        entries = [self.find(menu.path, reference) for reference in references]
        for entry in entries:
            self._refuse_dynamic(menu, entry, "change")
            entry.values.pop(name, None)
            if name in menu.defaults:
                entry.values[name] = menu.defaults[name]
        self._wrote(menu.path, entries)

    def remove(self, menu: Menu, references: Sequence[str]) -> None:
        """Remove rows: all of them, or none where one does not exist."""
        table = self._table(menu.path)
        entries = [self.find(menu.path, reference) for reference in references]
        for entry in entries:
            if entry.builtin:
                raise Trap("failure: can not remove builtin")
            self._refuse_dynamic(menu, entry, "remove")
            if menu.path == "/user/group" and entry.values["name"] in self._groups_in_use():
                raise Trap("failure: group has some users")
        for entry in entries:
            # A row named twice in one command is removed once.
            if entry in table.entries:
                table.entries.remove(entry)
                self._unpublished.append((menu.path, {".id": entry.id, ".dead": "yes"}))
        self._settle(menu.path)

    def move(self, menu: Menu, references: Sequence[str], destination: str | None) -> None:
        """Move rows before another one, or to the end."""
        entries = [self.find(menu.path, reference) for reference in references]
        for entry in entries:
            if entry.dynamic or entry.builtin:
                raise Trap("failure: can not move/place before builtin/dynamic")
        target = None if destination is None else self._table(menu.path).entries[self._place(menu, destination)]
        if target in entries:
            raise Trap("failure: can not move an item before itself")
        kept = [entry for entry in self._table(menu.path).entries if entry not in entries]
        place = len(kept) if target is None else kept.index(target)
        self._table(menu.path).entries = [*kept[:place], *entries, *kept[place:]]
        self._wrote(menu.path, entries)

    def order(self, menu: Menu, references: Sequence[str], command: str) -> None:
        """Something to do for these rows that changes nothing of them (``renew``, ``release``); see take_orders."""
        self._orders += [(self.find(menu.path, reference).id, command) for reference in references]

    def take_orders(self) -> list[tuple[str, str]]:
        """The orders since the last call, as (``.id``, command); for the plane."""
        orders, self._orders = self._orders, []
        return orders

    def set_single(self, menu: Menu, values: Row) -> None:
        """Change settings."""
        self._settings[menu.path].update(values)

    def publish(self) -> None:
        """Tell listeners what the last write changed."""
        unpublished, self._unpublished = self._unpublished, []
        for menu, row in unpublished:
            self.tell(menu, row)

    def snapshot(self, menus: Iterable[str]) -> tuple[dict[str, _Table], dict[str, Row]]:
        """Copies of these menus, for :meth:`restore`."""
        chosen = self.touched_with(menus)
        return (
            {path: copy.deepcopy(table) for path, table in self._tables.items() if path in chosen},
            {path: dict(record) for path, record in self._settings.items() if path in chosen},
        )

    def restore(self, before: tuple[dict[str, _Table], dict[str, Row]]) -> None:
        """Undo what was written since the snapshot."""
        self._tables.update(before[0])
        self._settings.update(before[1])
        self._unpublished.clear()

    def touched_with(self, menus: Iterable[str]) -> frozenset[str]:
        """The menus whose rows a write to ``menus`` may change."""
        chosen = set(menus)
        if chosen & set(_INTERFACE_FAMILY):
            chosen |= set(_INTERFACE_FAMILY)
        if "/ip/firewall/filter" in chosen:
            chosen |= set(FASTTRACK_DUMMIES)
        return frozenset(chosen)

    # Time

    def next_deadline_s(self) -> float | None:
        """When the next row lapses, on the store's clock."""
        deadlines = [entry.deadline_s for entry in self._table(ADDRESS_LIST).entries if entry.deadline_s is not None]
        return min(deadlines, default=None)

    def lapse(self) -> list[Row]:
        """Remove the address-list rows whose time has run out; the rows removed."""
        now = self.clock()
        table = self._table(ADDRESS_LIST)
        gone = [entry for entry in table.entries if entry.deadline_s is not None and entry.deadline_s <= now]
        for entry in gone:
            table.entries.remove(entry)
            self.tell(ADDRESS_LIST, {".id": entry.id, ".dead": "yes"})
        return [self.row(ADDRESS_LIST, entry) for entry in gone]

    def reboot(self) -> None:
        """Forget what a power cut forgets: dynamic rows, logs, ids."""
        self.booted_s = self.clock()
        self.script_globals.clear()
        for table in self._tables.values():
            table.entries = [entry for entry in table.entries if not entry.dynamic or entry.builtin]
        for path in ("/log", "/system/history", "/user/active"):
            self._table(path).entries.clear()
        if BOARDS[self.profile].flash:
            files = self._table(FILE)
            files.entries = [entry for entry in files.entries if entry.values["name"].startswith(FLASH)]
        for path, table in self._tables.items():
            if path not in _INTERFACE_FAMILY:
                _renumber([table])
        self._renumber_interfaces()
        self._settle("/ip/firewall/filter")
        self._unpublished.clear()

    # Backup

    def dump(self) -> dict[str, Any]:
        """All that a backup keeps, secrets included, as JSON can hold it."""
        rows = {
            path: [[entry.values, entry.builtin] for entry in table.entries if not entry.dynamic]
            for path, table in self._tables.items()
            if path not in _NOT_SAVED
        }
        settings = {path: record for path, record in self._settings.items() if self.menus[path].fields}
        return {"rows": rows, "settings": settings}

    def load_dump(self, saved: Mapping[str, Any]) -> None:
        """Put back what :meth:`dump` gave. To be followed by a reboot: nobody is told."""
        for path, rows in saved["rows"].items():
            table = self._tables[path] = _Table()
            for values, builtin in rows:
                table.entries.append(Entry(f"*{table.next_id:X}", dict(values), builtin=builtin))
                table.next_id += 1
        for path, record in saved["settings"].items():
            self._settings[path] = dict(record)
        for view in INTERFACE_VIEWS:
            self._renumber_view(view)
        self._table(INTERFACES).next_id = len(self._table(INTERFACES).entries) + 1

    def watch(self, menu: str, callback: Callable[[Row], None]) -> Callable[[], None]:
        """Call back with every row of ``menu`` that changes or dies; returns the way to stop it."""
        watchers = self._watchers.setdefault(menu, [])
        watchers.append(callback)
        return lambda: watchers.remove(callback)

    def tell(self, menu: str, row: Row) -> None:
        """Tell listeners that a row of ``menu`` is now like this."""
        for callback in list(self._watchers.get(menu, ())):
            callback(dict(row))

    # Helpers

    def _table(self, menu: str) -> _Table:
        return self._tables[menu]

    def _insert(
        self, menu: str, values: Row, *, dynamic: bool = False, builtin: bool = False, place: int | None = None
    ) -> Entry:
        # The three interface menus number their rows together, as the same interface shows in two of them.
        numbering = self._table(INTERFACES if menu in _INTERFACE_FAMILY else menu)
        table = self._table(menu)
        entry = Entry(f"*{numbering.next_id:X}", dict(values), dynamic, builtin)
        numbering.next_id += 1
        table.entries.insert(len(table.entries) if place is None else place, entry)
        return entry

    def _append(self, menu: str, row: Row, rows_max: int) -> None:
        entry = self._insert(menu, row)
        del self._table(menu).entries[:-rows_max]
        self.tell(menu, self.row(menu, entry))

    def _wrote(self, menu: str, entries: Sequence[Entry]) -> None:
        self._settle(menu)
        self._unpublished += [(menu, self.row(menu, entry)) for entry in entries]

    def _settle(self, menu: str) -> None:
        """Bring along what follows from a write: the other view of an interface, the fasttrack counters."""
        if menu in _INTERFACE_FAMILY:
            self._settle_interfaces(menu)
        if menu == "/ip/firewall/filter":
            self._settle_dummies()

    def _settle_interfaces(self, written: str) -> None:
        interfaces = self._table(INTERFACES)
        known = {entry.id: entry for entry in interfaces.entries}
        if written == INTERFACES:
            for view in INTERFACE_VIEWS:
                for entry in self._table(view).entries:
                    _share(known[entry.id].values, entry.values)
            return
        kind, shown = INTERFACE_VIEWS[written], {entry.id: entry for entry in self._table(written).entries}
        for entry in shown.values():
            if entry.id not in known:
                known[entry.id] = Entry(entry.id, {"name": "", "type": kind}, entry.dynamic)
                interfaces.entries.append(known[entry.id])
            _share(entry.values, known[entry.id].values)
        interfaces.entries = [
            entry for entry in interfaces.entries if entry.id in shown or entry.values.get("type") != kind
        ]

    def _settle_dummies(self) -> None:
        """Rows that carry the fasttrack counters stand at the head while a fasttrack rule is enabled."""
        wanted = any(
            entry.values.get("action") == "fasttrack-connection" and entry.values.get("disabled") != "true"
            for entry in self._table("/ip/firewall/filter").entries
        )
        for menu, dummies in FASTTRACK_DUMMIES.items():
            present = [entry for entry in self._table(menu).entries if entry.builtin]
            if wanted and not present:
                for place, values in enumerate(dummies):
                    self._insert(menu, dict(values), dynamic=True, builtin=True, place=place)
            elif not wanted:
                for entry in present:
                    self._table(menu).entries.remove(entry)

    def _place(self, menu: Menu, reference: str) -> int:
        entry = self.find(menu.path, reference)
        if entry.dynamic or entry.builtin:
            raise Trap("failure: can not move/place before builtin/dynamic")
        return self._table(menu.path).entries.index(entry)

    def _refuse_dynamic(self, menu: Menu, entry: Entry, verb: str) -> None:
        # Address-list entries are the one kind of dynamic row that users may touch.
        if entry.dynamic and menu.path == SERVICE_MENU:
            raise Trap("failure: this is configured elsewhere")
        if entry.dynamic and menu.path != ADDRESS_LIST:
            raise Trap(f"failure: can not {verb} dynamic")

    def _refuse_duplicate(self, menu: Menu, values: Row, itself: Entry | None) -> None:
        if not menu.unique:
            return
        key = [values.get(name) for name in menu.unique]
        for entry in self._table(menu.path).entries:
            if entry is not itself and [entry.values.get(name) for name in menu.unique] == key:
                raise Trap(menu.duplicate)

    def _refuse_full(self, menu: Menu, values: Row, itself: Entry | None) -> None:
        """Refuse a file for which there is no space; what it replaces makes room first."""
        if menu.path == FILE:
            freed = 0 if itself is None else int(itself.values.get("size", "0"))
            if int(values.get("size", "0")) > self.free_bytes() + freed:
                raise Trap(FULL)

    def _groups_in_use(self) -> frozenset[str]:
        return frozenset(entry.values["group"] for entry in self._table("/user").entries)

    def _time_name(self, menu: Menu) -> str:
        return "last-modified" if menu.path == FILE and self.version == "7.22" else "creation-time"

    @staticmethod
    def _take_lapse(menu: Menu, values: Row) -> str | None:
        """The time after which an address-list row goes away; in every other menu a timeout is a plain property."""
        return values.pop("timeout", None) if menu.path == ADDRESS_LIST else None

    def _set_lapse(self, entry: Entry, lapse: str | None) -> None:
        if lapse is None:
            return
        # Zero is taken as "no timeout"; what a real router does with it is not documented.
        seconds = parse_time_s(lapse)
        entry.deadline_s = self.clock() + seconds if seconds else None
        entry.dynamic = bool(seconds)

    @staticmethod
    def _without_empty(menu: Menu, values: Row) -> Row:
        return {name: value for name, value in values.items() if value or name in menu.defaults}

    def _free_name(self, menu: Menu) -> str:
        taken, number = self.names(menu.path), 1
        while f"{menu.auto_name}{number}" in taken:
            number += 1
        return f"{menu.auto_name}{number}"

    def _renumber_view(self, view: str) -> None:
        """Give the rows of a view the ids that the same interfaces have in /interface."""
        ids = {entry.values["name"]: entry.id for entry in self._table(INTERFACES).entries}
        for entry in self._table(view).entries:
            entry.id = ids[entry.values["name"]]

    def _renumber_interfaces(self) -> None:
        before = [entry.id for entry in self._table(INTERFACES).entries]
        _renumber([self._table(INTERFACES)])
        renamed = dict(zip(before, (entry.id for entry in self._table(INTERFACES).entries), strict=True))
        for view in INTERFACE_VIEWS:
            for entry in self._table(view).entries:
                entry.id = renamed[entry.id]


def _share(source: Row, target: Row) -> None:
    for name in INTERFACE_SHARED:
        if name in source:
            target[name] = source[name]
        elif name == "comment":
            target.pop(name, None)


def _renumber(tables: Sequence[_Table]) -> None:
    """Number the rows anew so that no row keeps its id, while old ids may well name other rows."""
    for table in tables:
        start = 1
        while any(entry.id == f"*{start + index:X}" for index, entry in enumerate(table.entries)):
            start += 1
        for index, entry in enumerate(table.entries):
            entry.id = f"*{start + index:X}"
        table.next_id = start + len(table.entries)
