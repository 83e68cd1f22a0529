"""The firewall of the router, one for each family: compiles the rows when they change, and reads the counters back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.kernel_learn import Learner
from hil.virtual.routeros.kernel_nft import (
    FIREWALL,
    Installed,
    Ruleset,
    World,
    after,
    compile_firewall,
    counter_of,
    fasttrack_counter,
    list_members,
    set_lines,
    transaction,
)
from hil.virtual.routeros.kernel_router import Router
from hil.virtual.routeros.kernel_system import counters, nft
from hil.virtual.routeros.kernel_values import IPV4, IPV6, Family, Numbers, enabled, is_set, name_of
from hil.virtual.routeros.plane import Row

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

# The tables that are given an effect.
TABLES: Final[Mapping[Family, tuple[str, ...]]] = {IPV4: FIREWALL, IPV6: ("filter",)}


class Firewall:
    """The tables of one family and its address lists."""

    def __init__(self, store: Store, router: Router, family: Family = IPV4) -> None:
        self._store = store
        self._router = router
        self._family = family
        self._root = "/ip/firewall" if family == IPV4 else "/ipv6/firewall"
        self._lists: Final = f"{self._root}/address-list"
        self._connection_marks = Numbers()
        self._packet_marks = Numbers()
        self._ruleset: Ruleset | None = None
        self._installed = Installed()
        self._learner = Learner(store, family)

    async def learn(self) -> None:
        """Bring the address lists up to date with what rules have learned."""
        await self._learner.copy()

    @property
    def masquerades(self) -> bool:
        """Whether any masquerade rule is in force."""
        rows = enabled(self._store.rows("/ip/firewall/nat"))
        return any(row.get("action") == "masquerade" for row in rows)

    def connection_mark_name(self, number: int) -> str:
        """The name of a connection mark."""
        return self._connection_marks.name(number)

    async def compile(self) -> None:
        """Make the kernel's table what the rows say, if it is not."""
        version = self._store.version
        world = World(
            version=version,
            interface_lists=self._interface_lists(),
            addresses=self._router.source_addresses() if version.startswith("6") else {},
            routing_marks=self._router.tables.marks,
            connection_marks=self._connection_marks,
            packet_marks=self._packet_marks,
            family=self._family,
        )
        menus = {name: self._store.rows(f"{self._root}/{name}") for name in TABLES[self._family]}
        ruleset = compile_firewall(menus, self._store.rows(self._lists), world)
        if ruleset != self._ruleset:
            await nft(transaction(ruleset, self._installed))
            self._ruleset, self._installed = ruleset, after(ruleset)
        self._learner.watch(ruleset.learned)
        forgotten = self._learner.forget()
        if forgotten:
            await nft("\n".join(forgotten) + "\n")

    async def lists(self) -> None:
        """Bring only the address lists up to date: one transaction, nothing where nothing differs."""
        members = list_members(enabled(self._store.rows(self._lists)))
        if self._ruleset is None:
            return
        wanted = {name: members.get(name, ()) for name in self._ruleset.sets}
        lines = self._learner.forget()
        for name, networks in wanted.items():
            kernel_name = name_of("L", name)
            lines += set_lines(self._family.table, kernel_name, networks, self._installed.sets.get(kernel_name, ()))
        if lines:
            await nft("\n".join(lines) + "\n")
            self._ruleset.sets = wanted
            self._installed.sets = {name_of("L", name): networks for name, networks in wanted.items()}

    async def live(self, menu: str) -> dict[str, Row]:
        """Bytes and packets of every row of one table; the fasttrack rows show what skipped their chain."""
        values = await counters(self._family.table)
        short = menu.rpartition("/")[2]
        found: dict[str, Row] = {}
        for row in self._store.rows(menu):
            name = counter_of(short, row[".id"])
            if is_set(row, "dynamic"):
                name = fasttrack_counter("mangle" if short == "raw" else short, row.get("chain", ""))
            packets, size = values.get(name, (0, 0))
            found[row[".id"]] = {"bytes": str(size), "packets": str(packets)}
        return found

    async def stop(self) -> None:
        """Take the table away."""
        self._learner.stop()
        table = self._family.table
        await nft(f"add table {table}\ndelete table {table}\n")
        self._ruleset, self._installed = None, Installed()

    def _interface_lists(self) -> dict[str, frozenset[str]]:
        own: dict[str, set[str]] = {}
        for row in enabled(self._store.rows("/interface/list/member")):
            own.setdefault(row.get("list", ""), set()).add(row.get("interface", ""))
        found = {name: frozenset(members) for name, members in own.items()}
        for row in self._store.rows("/interface/list"):
            name = row.get("name", "")
            members = set(own.get(name, set()))
            for other in filter(None, row.get("include", "").split(",")):
                members |= own.get(other, set())
            for other in filter(None, row.get("exclude", "").split(",")):
                members -= own.get(other, set())
            found[name] = frozenset(members)
        return found
