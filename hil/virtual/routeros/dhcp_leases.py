"""What DHCP clients were given, and what follows from it: an address, a default route, name servers, a script's run.

The same for every plane: the kernel plane asks real servers, the model plane is told by the bench.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.access import NETWATCH_POLICIES, Caller
from hil.virtual.routeros.kernel_values import enabled, is_set
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import format_time_s

if TYPE_CHECKING:
    from hil.virtual.routeros.scripts import Scripts
    from hil.virtual.routeros.store import Store

CLIENTS: Final = "/ip/dhcp-client"
SEARCHING, BOUND, STOPPED = "searching...", "bound", "stopped"


@dataclass(frozen=True)
class Lease:
    """What a server gave: ``address`` with its length, the next hop (empty for none), how long it holds."""

    address: str
    gateway: str
    server: str
    names: tuple[str, ...] = ()
    lifetime_s: float = 3600.0


@dataclass
class _Held:
    row: Row
    lease: Lease
    until_s: float
    in_force: bool = False  # shown as bound once packets can take its route, not before
    rows: dict[str, tuple[Row, str]] = field(default_factory=dict)  # menu -> (the dynamic row, its .id)


class Leases:
    """The leases of one router. ``settle`` makes the plane follow rows that changed by themselves."""

    def __init__(self, store: Store, scripts: Scripts, settle: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._scripts = scripts
        self._settle = settle
        self._held: dict[str, _Held] = {}

    def lease(self, row_id: str) -> Lease | None:
        """What the client of this row holds."""
        held = self._held.get(row_id)
        return None if held is None else held.lease

    async def bind(self, row: Row, lease: Lease) -> None:
        """A client was given this. Its script runs where anything but the time is new."""
        until_s = self._store.clock() + lease.lifetime_s
        held = self._held.get(row[".id"])
        if held is None:
            held = self._held[row[".id"]] = _Held(row, lease, until_s)
        else:
            known, held.lease, held.until_s = held.lease, lease, until_s
            if known == lease:
                return
        await self.apply(row)
        held.in_force = True
        self._note(row, f"got IP address {lease.address.split('/')[0]}")
        await self._run(row, lease, bound=True)

    async def lose(self, row: Row, why: str) -> None:
        """A client has its lease no more."""
        held = self._held.pop(row[".id"], None)
        if held is None:
            return
        for menu, (_row, row_id) in held.rows.items():
            self._store.remove_dynamic(menu, row_id)
        self._name_servers()
        await self._settle()
        self._note(row, f"lost IP address {held.lease.address.split('/')[0]} - {why}")
        await self._run(row, held.lease, bound=False)

    async def follow(self) -> None:
        """Clients that are gone or disabled have no lease; whoever asks real servers does this itself."""
        there = {row[".id"] for row in enabled(self._store.rows(CLIENTS))}
        for row_id, held in list(self._held.items()):
            if row_id not in there:
                await self.lose(held.row, "lease stopped locally")

    async def apply(self, row: Row) -> None:
        """Make the dynamic rows what the lease and the options of the client say; rows that stand so stay."""
        held = self._held.get(row[".id"])
        if held is None:
            return
        wanted = self._rows(row, held.lease)
        changed = False
        for menu, (standing, row_id) in list(held.rows.items()):
            if wanted.get(menu) != standing:
                self._store.remove_dynamic(menu, row_id)
                del held.rows[menu]
                changed = True
        for menu, values in wanted.items():
            if menu not in held.rows:
                held.rows[menu] = (values, self._store.add_dynamic(menu, dict(values)))
                changed = True
        self._name_servers()
        if changed:
            await self._settle()

    def forget(self) -> None:
        """The power goes: the store drops dynamic rows by itself."""
        self._held.clear()

    def live(self, row: Row) -> Row:
        """The read-only properties of one client that may run."""
        held = self._held.get(row[".id"])
        if held is None or not held.in_force:
            return {"status": SEARCHING, "invalid": "false"}
        lease = held.lease
        found = {"status": BOUND, "invalid": "false", "address": lease.address, "dhcp-server": lease.server}
        found["expires-after"] = format_time_s(max(0.0, held.until_s - self._store.clock()))
        if lease.gateway:
            found["gateway"] = lease.gateway
        return found | dict(zip(("primary-dns", "secondary-dns"), lease.names, strict=False))

    def _rows(self, row: Row, lease: Lease) -> dict[str, Row]:
        network = IPv4Interface(lease.address).network
        place = {"interface": row["interface"], "actual-interface": row["interface"], "invalid": "false"}
        found = {"/ip/address": {"address": lease.address, "network": str(network.network_address), **place}}
        if lease.gateway and row.get("add-default-route", "yes") != "no":
            route = {"dst-address": "0.0.0.0/0", "gateway": lease.gateway, "scope": "30", "target-scope": "10"}
            route["distance"] = row.get("default-route-distance", "1")
            if not self._store.version.startswith("6"):
                route |= {"routing-table": "main", "dhcp": "true"}
            found["/ip/route"] = route
        return found

    def _name_servers(self) -> None:
        clients = {row[".id"]: row for row in self._store.rows(CLIENTS)}
        wanted = [
            name
            for row_id, held in self._held.items()
            if row_id in clients and is_set(clients[row_id], "use-peer-dns", default=True)
            for name in held.lease.names
        ]
        self._store.set_single(self._store.menus["/ip/dns"], {"dynamic-servers": ",".join(dict.fromkeys(wanted))})

    async def _run(self, row: Row, lease: Lease, *, bound: bool) -> None:
        """With the variables of the manual ("DHCP", DHCP client, lease script). What it may do is not documented; that
        it may do what a netwatch script may is taken.
        """
        script = row.get("script", "")
        if not script:
            return
        values = {
            "bound": "1" if bound else "0",
            "server-address": lease.server,
            "lease-address": lease.address.split("/")[0],
            "gateway-address": lease.gateway,
            "interface": row["interface"],
        }
        who = f"dhcp-client {row['interface']}"
        await self._scripts.run_job(script, who, Caller("*dhcp", NETWATCH_POLICIES), values)

    def _note(self, row: Row, what: str) -> None:
        self._store.append_log("dhcp,info", f"dhcp-client on {row['interface']} {what}")
