"""The router: timed leases, marks, and connection tracking that keeps a NAT address for as long as a phone talks.

There is no native fallback here on purpose: the main table always goes by the primary, so that the core is judged by
what it does itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeagent.core.facts import Flow, Lease
from edgeagent.core.intents import MoveFlows
from edgeagent.core.settings import EVERYTHING, Settings

LEASE_S = 60.0
ROW_IDLE_S = 180.0

Key = tuple[str, int, int]


@dataclass(slots=True, eq=False)
class Row:
    """One connection-tracking row: ``path`` is where it was born, ``nat`` that uplink's address."""

    source: str
    port: int
    far_port: int
    path: str
    nat: str
    media: bool
    pinned: bool
    last_s: float
    orig: int = 0
    repl: int = 0


class Router:
    """RouterOS 6 semantics: a row's address is never revised, only its removal or 180 idle seconds end it."""

    def __init__(self, settings: Settings, addresses: dict[str, str]) -> None:
        self.addresses = addresses
        self.primary = settings.primary.name
        self.leases: dict[Lease, float] = {}
        self.rows: dict[Key, Row] = {}
        self.version = 0  # grows with every change of leases or rows
        order = (*settings.paths[1:], settings.primary)  # as the rules stand in prerouting
        self._phone_lists = [(path.name, path.phone_list) for path in order]
        self._site_lists = [(path.name, Lease(path.site_list, EVERYTHING)) for path in order]
        self._next_expiry = float("inf")
        self._paths: dict[str, str] = {}

    def touched(self) -> None:
        self.version += 1
        self._paths.clear()

    def expire(self, now_s: float) -> None:
        """Timed entries lapse."""
        if now_s < self._next_expiry:
            return
        lapsed = [lease for lease, until_s in self.leases.items() if until_s <= now_s]
        for lease in lapsed:
            del self.leases[lease]
        self._next_expiry = min(self.leases.values(), default=float("inf"))
        if lapsed:
            self.touched()

    def lease(self, lease: Lease, now_s: float) -> None:
        self.leases[lease] = now_s + LEASE_S
        self._next_expiry = min(self.leases.values())
        self.touched()

    def renew(self, lease: Lease, now_s: float) -> bool:
        """``set timeout=``: False where the entry is gone."""
        if lease not in self.leases:
            return False
        self.leases[lease] = now_s + LEASE_S
        self._next_expiry = min(self.leases.values())
        return True

    def release(self, lease: Lease) -> None:
        self.leases.pop(lease, None)
        self.touched()

    def reboot(self) -> None:
        self.leases.clear()
        self.rows.clear()
        self.touched()

    def path_of(self, source: str) -> str:
        """Which way a new flow of this phone goes: phone lists, then site lists, then the main table."""
        found = self._paths.get(source)
        if found is None:
            found = self._paths[source] = self.path_under(frozenset(self.leases), source)
        return found

    def path_under(self, leases: frozenset[Lease], source: str) -> str:
        """The same under other leases."""
        for name, phones in self._phone_lists:
            if Lease(phones, source) in leases or Lease(phones, f"{source}/32") in leases:
                return name
        for name, site in self._site_lists:
            if site in leases:
                return name
        return self.primary

    def row(self, key: Key, now_s: float) -> Row | None:
        """The living row of that key."""
        row = self.rows.get(key)
        if row is not None and now_s - row.last_s > ROW_IDLE_S:
            del self.rows[key]
            self.version += 1
            return None
        return row

    def packet(self, key: Key, now_s: float, size: int, media: bool = False) -> tuple[Row, bool]:
        """A packet of a phone: the row it used or made, and whether it left by the path of the row's address."""
        row = self.row(key, now_s)
        if row is None:
            path = self.path_of(key[0])
            pinned = media and path != self.primary
            row = Row(key[0], key[1], key[2], path, self.addresses[path], media, pinned, now_s)
            self.rows[key] = row
        row.last_s = now_s
        row.orig += size
        return row, self.out_path(row) == row.path

    def out_path(self, row: Row) -> str:
        return row.path if row.pinned else self.path_of(row.source)

    def wrong_rows(self, move: MoveFlows) -> list[Row]:
        """What a MoveFlows removes, as its docstring says."""
        address = self.addresses[move.path]
        return [
            row
            for row in self.rows.values()
            if row.nat != address
            and (move.sources is None or row.source in move.sources)
            and row.source not in move.spare
            and (move.pinned or not row.pinned)
        ]

    def remove_rows(self, rows: list[Row]) -> None:
        doomed = set(rows)
        self.rows = {key: row for key, row in self.rows.items() if row not in doomed}
        self.touched()

    def flows(self, now_s: float) -> tuple[Flow, ...]:
        """All voice rows as the API tells them."""
        found = []
        for key in list(self.rows):
            row = self.row(key, now_s)
            if row is not None:
                far = "203.0.113.20" if row.media else "203.0.113.10"
                found.append(
                    Flow(
                        "udp", row.source, row.port, far, row.far_port, row.nat, row.orig, row.repl,
                        media=row.media, pinned=row.pinned, idle_s=now_s - row.last_s,
                    )
                )  # fmt: skip
        return tuple(found)

    def stale(self, source: str, now_s: float) -> bool:
        """Whether a row of this phone has another address than the path it leaves by."""
        path = self.path_of(source)
        return any(
            row.source == source and not row.pinned and row.path != path and now_s - row.last_s <= ROW_IDLE_S
            for row in self.rows.values()
        )
