"""/interface rows and the devices of the same names: up or down, bridge membership, counters, running.

The devices are the bench's, but for bridges and VLANs: one that a user adds is made, and goes with its row. A VLAN
is made only where the kernel has VLANs (module 8021q).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hil.virtual.routeros.kernel_netlink import Links
from hil.virtual.routeros.kernel_system import ip_batch
from hil.virtual.routeros.kernel_values import enabled, is_set
from hil.virtual.routeros.plane import Row

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store


class Interfaces:
    """The router's interfaces. One without a device is shown as not running; a device without a row is left alone."""

    def __init__(self, store: Store, links: Links) -> None:
        self._store = store
        self._links = links
        self._running: dict[str, bool] = {}
        self._downs: dict[str, int] = {}
        self._made: set[str] = set()

    async def sync(self) -> None:
        """Bring devices up or down and in or out of their bridges."""
        await self._make({row["name"]: "type bridge" for row in self._store.rows("/interface/bridge")} | self._vlans())
        links = self._links.refresh()
        rows = {row.get("name", ""): row for row in self._store.rows("/interface")}
        ports = {row.get("interface", ""): row for row in enabled(self._store.rows("/interface/bridge/port"))}
        by_index = {link.index: link for link in links.values()}
        lines = ["link set dev lo up"]
        for name, row in rows.items():
            link = links.get(name)
            if link is None:
                continue
            bridge = links.get(ports[name].get("bridge", "")) if name in ports else None
            master = by_index.get(link.master)
            # Only bridges that are rows count: the bench may hang devices into bridges of its own.
            if bridge is not None and bridge.kind == "bridge" and bridge is not master:
                lines.append(f"link set dev {name} master {bridge.name}")
            elif bridge is None and master is not None and master.name in rows:
                lines.append(f"link set dev {name} nomaster")
            if link.up == is_set(row, "disabled"):
                lines.append(f"link set dev {name} {'down' if link.up else 'up'}")
        await ip_batch(lines)
        self._links.refresh()

    async def stop(self) -> None:
        """Take away what users had added."""
        await ip_batch(f"link del dev {name}" for name in self._made)
        self._made.clear()

    def _vlans(self) -> dict[str, str]:
        return {
            row["name"]: f"link {row['interface']} type vlan id {row['vlan-id']}"
            for row in self._store.rows("/interface/vlan")
        }

    async def _make(self, wanted: Mapping[str, str]) -> None:
        """Devices by name, with what ``ip link add`` is told. A name that Linux cannot give stays without one."""
        present = self._links.refresh().keys()
        gone = (self._made & present) - wanted.keys()
        new = {name for name in wanted.keys() - present if re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", name)}
        made = [name for name in wanted if name in new]  # bridges first: others stand on them
        await ip_batch([f"link del dev {name}" for name in gone] + [f"link add name {n} {wanted[n]}" for n in made])
        self._made = (self._made - gone) | new

    def changes(self) -> list[tuple[str, Row]]:
        """The interfaces whose running state changed since the last call, as rows."""
        found = []
        for row in self._store.rows("/interface"):
            name = row.get("name", "")
            running = self._links.running(name)
            if self._running.get(name, running) != running:
                self._downs[name] = self._downs.get(name, 0) + (not running)
                found.append((name, {".id": row[".id"], "name": name, "running": "true" if running else "false"}))
            self._running[name] = running
        return found

    def live(self, rows: list[Row]) -> dict[str, Row]:
        """Running state and counters of these rows, now."""
        links = self._links.refresh()
        found = {}
        for row in rows:
            name = row.get("name", "")
            live: Row = {"running": "true" if self._links.running(name) else "false"}
            live["link-downs"] = str(self._downs.get(name, 0))
            link = links.get(name)
            live["rx-byte"], live["tx-byte"] = (str(link.rx_bytes), str(link.tx_bytes)) if link else ("0", "0")
            live["rx-packet"], live["tx-packet"] = (str(link.rx_packets), str(link.tx_packets)) if link else ("0", "0")
            found[row[".id"]] = live
        return found
