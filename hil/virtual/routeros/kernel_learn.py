"""``add-src-to-address-list`` and ``add-dst-...``: what packets put into a dynamic set becomes address-list rows.

Rules match the dynamic set itself, so the next packet is matched already, as on a router. The rows are copied from it a
few times a second and whenever somebody prints the menu; removing such a row takes the address out of the set too.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.kernel_system import run
from hil.virtual.routeros.kernel_values import IPV4, Family, duration_s, enabled
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

POLL_S: Final = 0.25
_ELEMENT: Final = re.compile(r"([0-9a-f:.]+)(?: timeout \S+)?(?: expires ([0-9a-z]+))?")
# Below this, two readings of one time to lapse are the same.
_SAME_S: Final = 0.1
_FOR_EVER: Final = float("inf")


class Learner:
    """Copies learned addresses while there are rules that learn."""

    def __init__(self, store: Store, family: Family) -> None:
        self._store = store
        self._family = family
        self._root = "/ip/firewall" if family == IPV4 else "/ipv6/firewall"
        self.menu: Final = f"{self._root}/address-list"
        self._sets: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._copying = asyncio.Lock()
        # (nft set, address) -> when the row of it lapses, on the monotonic clock.
        self._known: dict[tuple[str, str], float] = {}
        self._forgotten: set[tuple[str, str]] = set()

    def watch(self, learned: dict[str, str]) -> None:
        """Follow these sets (nft set -> address list)."""
        self._sets = dict(learned)
        if learned and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll())
        elif not learned:
            self.stop()

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._known.clear()

    def forget(self) -> list[str]:
        """nft lines that take the addresses out of the sets whose rows somebody has removed.

        A row that lapsed is left to its set: a packet may have renewed it there since the last look.
        """
        standing = {(row.get("list", ""), self._bare(row)) for row in self._store.rows(self.menu)}
        lines: list[str] = []
        for key, lapses_s in list(self._known.items()):
            nft_set, address = key
            if (self._sets.get(nft_set, ""), address) in standing:
                continue
            del self._known[key]
            self._forgotten.add(key)
            if nft_set in self._sets and time.monotonic() < lapses_s - _SAME_S:
                element = f"element {self._family.table} {nft_set} {{ {address} }}"
                lines += [f"add {element}", f"delete {element}"]  # added, for it may have lapsed since
        return lines

    async def copy(self) -> None:
        """Bring the rows up to date with the sets."""
        async with self._copying:
            for nft_set, name in list(self._sets.items()):
                self._forgotten.clear()
                for address, lapses_s in (await self._elements(nft_set)).items():
                    key = (nft_set, address)
                    if key not in self._forgotten and lapses_s > self._known.get(key, 0.0) + _SAME_S:
                        await self._put(name, address, lapses_s)
                        self._known[key] = lapses_s

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.copy()

    async def _put(self, name: str, address: str, lapses_s: float) -> None:
        row = next((r for r in self._store.rows(self.menu) if r.get("list") == name and self._bare(r) == address), None)
        if row is not None and "timeout" not in row:
            return  # somebody wrote it there for good
        left_ms = 0 if lapses_s == _FOR_EVER else max(1, round(1000 * (lapses_s - time.monotonic())))
        timeout = [f"=timeout={left_ms // 1000}s{left_ms % 1000}ms"] if left_ms else []
        try:
            if row is not None:
                await self._store.sentence([f"{self.menu}/set", f"=.id={row['.id']}", *timeout])
                return
            added = await self._store.sentence([f"{self.menu}/add", f"=list={name}", f"=address={address}", *timeout])
        except Trap:  # the row came or went meanwhile; the next look sees how it is
            return
        if not timeout and not self._lasting(name):
            self._store.find(self.menu, added[-1]["ret"]).dynamic = True

    def _lasting(self, name: str) -> bool:
        """Whether a rule keeps its addresses over a reboot (``address-list-timeout=none-static``)."""
        tables = [f"{self._root}/{table}" for table in ("filter", "nat", "mangle", "raw")]
        rows = [row for table in tables if table in self._store.menus for row in enabled(self._store.rows(table))]
        return any(row.get("address-list") == name and row.get("address-list-timeout") == "none-static" for row in rows)

    def _bare(self, row: Row) -> str:
        return row.get("address", "").removesuffix("/128")

    async def _elements(self, nft_set: str) -> dict[str, float]:
        """Address -> when it lapses. Read as text: nft's JSON rounds the time to whole seconds."""
        code, output, _complaint = await run("nft", "list", "set", *self._family.table.split(), nft_set)
        body = output.partition("elements = {")[2].partition("}")[0]
        if code or not body:
            return {}
        now = time.monotonic()
        found = {}
        for text in body.split(","):
            element = _ELEMENT.fullmatch(text.strip())
            if element is not None:
                found[element[1]] = now + duration_s(element[2]) if element[2] else _FOR_EVER
        return found
