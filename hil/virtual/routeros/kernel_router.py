"""Addresses, routes and rules: the store's rows, what of them is in force, and what the kernel was given."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.kernel_gateways import CheckTiming, Gateways
from hil.virtual.routeros.kernel_netlink import Links
from hil.virtual.routeros.kernel_routes import PREF_LOCAL, Table, decide, live_row, rules
from hil.virtual.routeros.kernel_system import ip_batch
from hil.virtual.routeros.kernel_values import Tables, enabled
from hil.virtual.routeros.plane import Row

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

_ROUTE: Final = "/ip/route"


class Router:
    """The layer 3 of the router."""

    def __init__(self, store: Store, links: Links, gateways: Gateways, timing: CheckTiming) -> None:
        self._store = store
        self._links = links
        self._gateways = gateways
        self._timing = timing
        self.tables = Tables()
        self._addresses: dict[tuple[str, str], int] = {}  # (address/length, device) -> device index
        self._connected: dict[str, tuple[Row, str]] = {}  # /ip/address .id -> (route row, its .id)
        self._kernel: dict[tuple[int, str], str] = {}
        self._rules: list[str] = []
        self._shown: dict[str, Row] = {}
        self._changes: list[Row] = []
        self.table = Table()

    async def start(self) -> None:
        """Take over a namespace with Linux' default rules."""
        await ip_batch([f"rule add pref {PREF_LOCAL} lookup 255", "rule del pref 0"])
        self._rules = [f"pref {PREF_LOCAL} lookup 255"]
        await self.sync()
        self._changes.clear()

    async def stop(self) -> None:
        """Give Linux its default rules back; take away routes and addresses made here."""
        lines = [f"route del {destination} table {table}" for table, destination in self._kernel]
        lines += [f"address del {address} dev {device}" for address, device in self._addresses]
        lines += ["rule add pref 0 lookup 255", *(f"rule del {words}" for words in self._rules)]
        await ip_batch(lines)
        for _row, route_id in self._connected.values():
            self._store.remove_dynamic(_ROUTE, route_id)

    async def sync(self) -> list[str]:
        """Bring the kernel up to date; the addresses that went away."""
        lost = await self._sync_addresses()
        self._sync_connected()
        self._decide()
        await self._sync_kernel()
        self._show()  # last: a route is active to a reader once packets take it, not before
        return lost

    def take_changes(self) -> list[Row]:
        """The routes whose state changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def live(self) -> dict[str, Row]:
        """Read-only properties of every route, by ``.id``."""
        return {row[".id"]: self._shown.get(row[".id"], {"active": "false"}) for row in self._store.rows(_ROUTE)}

    def marks(self) -> dict[str, int]:
        """Routing marks that have a table (RouterOS 6 makes it when first named), with their numbers."""
        if not self._store.version.startswith("6"):
            names = [row.get("name", "") for row in enabled(self._store.rows("/routing/table"))]
        else:
            names = [row.get("routing-mark", "") for row in self._store.rows(_ROUTE)]
            names += [row.get("new-routing-mark", "") for row in self._store.rows("/ip/firewall/mangle")]
            for row in self._store.rows("/ip/route/rule"):
                names += [row.get("table", ""), row.get("routing-mark", "")]
        return {name: self.tables.marks.of(name) for name in dict.fromkeys(names) if name not in {"", "main"}}

    def addresses_on(self, device: str) -> list[str]:
        """The addresses of one interface."""
        return [address.split("/")[0] for address, where in self._addresses if where == device]

    def source_addresses(self) -> dict[str, list[tuple[str, IPv4Network]]]:
        """Interface -> its addresses, the one in the network of a gateway in use first: far hosts see that one."""
        hops = {hop for route in self.table.routes if route.active for hop in route.hops if hop.address}
        found: dict[str, list[tuple[str, IPv4Network]]] = {}
        for text, device in self._addresses:
            address = IPv4Interface(text)
            found.setdefault(device, []).append((str(address.ip), address.network))
        for device, addresses in found.items():
            gateways = [IPv4Interface(hop.address).ip for hop in hops if hop.device == device]
            addresses.sort(key=lambda pair: not any(gateway in pair[1] for gateway in gateways))
        return found

    # -- helpers -----------------------------------------------------------------------------------------------------

    async def _sync_addresses(self) -> list[str]:
        wanted: dict[tuple[str, str], int] = {}
        for row in enabled(self._store.rows("/ip/address")):
            device = row.get("interface", "")
            if device in self._links.by_name:
                text = row["address"] if "/" in row["address"] else f"{row['address']}/32"
                wanted[(text, device)] = self._links.by_name[device].index
        gone = [key for key in self._addresses if key not in wanted]
        lines = [f"address del {address} dev {device}" for address, device in gone]
        for (address, device), index in wanted.items():
            if self._addresses.get((address, device)) != index:
                lines.append(f"address replace {address} dev {device} noprefixroute")
        await ip_batch(lines)
        self._addresses = wanted
        lost = [address.split("/")[0] for address, _device in gone]
        for key, words in list(self._kernel.items()):
            # The kernel takes routes away along with their source address.
            if any(words.endswith(f" src {address}") or f" src {address} " in words for address in lost):
                del self._kernel[key]
        return lost

    def _sync_connected(self) -> None:
        """Keep one dynamic route row for each address."""
        wanted: dict[str, Row] = {}
        for row in enabled(self._store.rows("/ip/address")):
            address = IPv4Interface(row["address"])
            alone = address.network.prefixlen == 32 and row.get("network")
            route: Row = {
                "dst-address": f"{row['network']}/32" if alone else str(address.network),
                "gateway": row.get("interface", ""),
                "distance": "0",
                "scope": "10",
                "connect": "true",
            }
            if self._store.version.startswith("6"):
                route["pref-src"] = str(address.ip)
            else:
                route |= {"routing-table": "main", "local-address": f"{address.ip}%{row.get('interface', '')}"}
            wanted[row[".id"]] = route
        standing = {row[".id"] for row in self._store.rows(_ROUTE)}  # a write undone may take ours along
        for address_id, (route, route_id) in list(self._connected.items()):
            if wanted.get(address_id) != route or route_id not in standing:
                self._store.remove_dynamic(_ROUTE, route_id)
                del self._connected[address_id]
        for address_id, route in wanted.items():
            if address_id not in self._connected:
                self._connected[address_id] = (route, self._store.add_dynamic(_ROUTE, dict(route)))

    def _decide(self) -> None:
        store = self._store
        rows = store.rows(_ROUTE)
        self.table = decide(rows, store.version, self.tables, self._links.running, self._gateways.reachable)
        settings = {} if store.version.startswith("6") else store.single("/routing/settings")
        self._gateways.watch(self.table.subjects, self._timing.tuned(settings, store.version))

    def _show(self) -> None:
        shown = {route.row_id: live_row(route, self._store.version) for route in self.table.routes}
        for row_id, row in shown.items():
            if row_id in self._shown and self._shown[row_id] != row:
                self._changes.append({".id": row_id, **row})
        self._shown = shown

    async def _sync_kernel(self) -> None:
        links = self._links.by_name
        for key, words in list(self._kernel.items()):
            device = words.partition(" dev ")[2].split(" ")[0]
            # The kernel takes routes away with a device that goes down.
            if device and not (device in links and links[device].up):
                del self._kernel[key]
        wanted = self.table.kernel
        lines = [f"route replace {words}" for key, words in wanted.items() if self._kernel.get(key) != words]
        lines += [f"route del {key[1]} table {key[0]}" for key in self._kernel if key not in wanted]
        menu = "/ip/route/rule" if self._store.version.startswith("6") else "/routing/rule"
        wanted_rules = rules(self._store.rows(menu), self.marks())
        lines += [f"rule add {words}" for words in wanted_rules if words not in self._rules]
        lines += [f"rule del {words}" for words in self._rules if words not in wanted_rules]
        complaint = await ip_batch(lines)
        if complaint:
            self._store.append_log("system,error", f"virtual router: ip refused: {complaint.strip()[:300]}")
        # After a refusal it is not known what stands: the next change writes every route anew.
        self._kernel = {} if complaint else dict(wanted)
        self._rules = wanted_rules
