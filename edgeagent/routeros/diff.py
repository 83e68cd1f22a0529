"""Rows wanted + rows seen -> the changes that make the router so. None when it is so already.

Pure. Two kinds of rows: the standing ruleset (by name, in order, above foreign rows), and timed leases (by list and
address, without order).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from edgeagent.core.facts import Lease
from edgeagent.core.settings import ALIVE_LIST, PRIMARY_TAG
from edgeagent.routeros import plain
from edgeagent.routeros.fallback import CANARY, NATIVE
from edgeagent.routeros.rows import TAG, Row, device_comment
from edgeagent.routeros.ruleset import ORDERED, REMOVED_FIRST, REMOVED_LAST, TABLES, learns
from edgeagent.routeros.values import same

Seen = Mapping[str, str]


class Add(Struct, frozen=True, tag=True):
    """Add a row, above the row ``before`` where order matters."""

    menu: str
    attributes: dict[str, str]
    before: str | None = None


class Set(Struct, frozen=True, tag=True):
    """Change attributes of a row that is there."""

    menu: str
    row_id: str
    attributes: dict[str, str]


class Unset(Struct, frozen=True, tag=True):
    """Take an attribute away from a row that is there."""

    menu: str
    row_id: str
    attribute: str


class Move(Struct, frozen=True, tag=True):
    """Put a row above another one."""

    menu: str
    row_id: str
    before: str


class Remove(Struct, frozen=True, tag=True):
    """Remove a row of ours."""

    menu: str
    row_id: str


Change = Add | Set | Unset | Move | Remove


def ruleset_changes(wanted: Sequence[Row], seen: Mapping[str, Sequence[Seen]]) -> list[Change]:
    """The changes for the standing ruleset; ``seen`` holds each menu's rows in the router's order.

    Additions, corrections and moves come in the order of ``wanted``, removals last: at no point is a rule gone that its
    replacement does not yet do the work of (clause P2).
    """
    changes: list[Change] = []
    orders = {menu: _Order(menu, wanted, seen.get(menu, ())) for menu in {row.menu for row in wanted}}
    for row in wanted:
        present = _ours(seen.get(row.menu, ())).get(row.comment)
        order = orders[row.menu]
        if present is None:
            changes.append(Add(row.menu, {**row.attributes, "comment": row.comment}, order.before(row.comment)))
            continue
        wrong = {
            key: value for key, value in row.attributes.items() if key not in present or not same(value, present[key])
        }
        disabled = {"disabled": "no"} if present.get("disabled") in ("true", "yes") else {}
        more = dict(plain.added(row, present))
        wrong |= {name: value for name, value in more.items() if value or row.menu in plain.SET_EMPTY}
        changes += [Unset(row.menu, present[".id"], name) for name in more if name not in wrong]
        if wrong or disabled:
            changes.append(Set(row.menu, present[".id"], {**wrong, **disabled}))
        if order.must_move(row.comment):
            changes.append(Move(row.menu, present[".id"], order.before(row.comment) or ""))
    changes.extend(_leftovers(wanted, seen))
    return changes


def removal_changes(seen: Mapping[str, Sequence[Seen]], order: Sequence[str]) -> list[Change]:
    """Take every row of ours away again, menus in the reverse of the order in which they were built."""
    menus = [menu for menu in reversed(order) if menu not in (*REMOVED_FIRST, *REMOVED_LAST)]
    return _removals(
        (menu, row)
        for menu in (*REMOVED_FIRST, *menus, *REMOVED_LAST)
        for row in reversed(seen.get(menu, ()))
        if row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true"
    )


def _removals(rows: Iterable[tuple[str, Seen]]) -> list[Change]:
    """In this order, but for the native routes: the unchecked ones first, then those that hold voice on the primary,
    then what these are looked up by. In any other order voice would be on the backup meanwhile (clause P2). A routing
    table goes last: what a router makes of routes in a table that is gone is written nowhere.
    """
    menus: dict[str, list[Seen]] = {}
    for menu, row in rows:
        menus.setdefault(menu, []).append(row)
    ordered = sorted(menus.items(), key=lambda one: one[0] == TABLES)
    return [Remove(menu, row[".id"]) for menu, found in ordered for row in sorted(found, key=_last_to_go)]


def _last_to_go(row: Seen) -> int:
    name = row["comment"].removeprefix(TAG)
    if name.startswith(NATIVE):
        return int(name.startswith(f"{NATIVE}{PRIMARY_TAG}-"))
    return 2 if name.startswith(CANARY) else 0


class LeaseChanges(Struct, frozen=True):
    """Entries to add, then ids to remove."""

    add: tuple[Lease, ...]
    remove: tuple[str, ...]


def lease_changes(wanted: Iterable[Lease], held: Mapping[Lease, str]) -> LeaseChanges:
    """The changes for the timed entries; ``held`` maps those in the router to their ids."""
    wished = set(wanted)
    return LeaseChanges(
        # The site's entry first: it moves everybody, and nothing may stand before it. But where we do not lead yet,
        # who leads is settled by who gets this one, and only then may anybody be moved (clause P7).
        add=tuple(
            sorted(
                wished - held.keys(),
                key=lambda lease: (lease.list != ALIVE_LIST, not lease.list.endswith("-site"), lease),
            )
        ),
        remove=tuple(held[lease] for lease in sorted(held.keys() - wished)),
    )


def _ours(rows: Sequence[Seen]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for row in rows:
        if row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true":
            found.setdefault(row["comment"], row)
    return found


class _Order:
    """Where each row of one menu belongs: ours on top, in the order wanted, with as few moves as can be.

    As many of ours as stand in order above all foreign rows stay where they are; every other, new or moved, goes right
    above the next of them, or above the first foreign row. Rows of ours that will go anyway are not counted.
    """

    def __init__(self, menu: str, wanted: Sequence[Row], seen: Sequence[Seen]) -> None:
        rows = [row for row in seen if row.get("dynamic") != "true"]
        ours = _ours(rows)
        self.names = [row.comment for row in wanted if row.menu == menu]
        self.ids = {name: ours[name][".id"] for name in self.names if name in ours}
        self.matters = menu in ORDERED
        self.foreign = next((row[".id"] for row in rows if _foreign(row)), None)
        self.kept = self._staying([row[".id"] for row in rows])

    def before(self, name: str) -> str | None:
        """The id of the row above which this one belongs; None for the end."""
        if not self.matters:
            return None
        later = self.names[self.names.index(name) + 1 :]
        return next((self.ids[other] for other in later if other in self.kept), self.foreign)

    def must_move(self, name: str) -> bool:
        """Whether this row, which is there, has to be put in its place."""
        return self.matters and name not in self.kept

    def _staying(self, places: list[str]) -> set[str]:
        """Of ours, the most that stand in the order wanted, above the first foreign row.

        Where there is none, the last of ours stays whatever else does: what has to move goes above something.
        """
        end = places.index(self.foreign) if self.foreign else len(places)
        last = None if self.foreign or not self.ids else list(self.ids)[-1]
        if last:
            end = places.index(self.ids[last])
        place = {name: places.index(number) for name, number in self.ids.items()}
        ordered = _longest_rising([name for name in self.ids if place[name] < end], place)
        return {*ordered, *([last] if last else [])}


def _foreign(row: Seen) -> bool:
    return not row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true"


def _longest_rising(names: Sequence[str], place: Mapping[str, int]) -> list[str]:
    """The longest part of ``names`` whose places rise; the first of equals."""
    best: dict[str, list[str]] = {}
    for name in names:
        before = (best[other] for other in best if place[other] < place[name])
        best[name] = [*max(before, key=len, default=[]), name]
    return max(best.values(), key=len, default=[])


def _leftovers(wanted: Sequence[Row], seen: Mapping[str, Sequence[Seen]]) -> list[Change]:
    """Rows that carry our tag and are not wanted: of an older version, or duplicates made by hand.

    Voice devices that were learnt are wanted as long as any are learnt.
    """
    keep = {(row.menu, row.comment) for row in wanted}
    learning = learns(wanted)
    found: list[tuple[str, Seen]] = []
    for menu, rows in seen.items():
        taken: set[str] = set()
        for row in rows:
            comment = row.get("comment", "")
            if not comment.startswith(TAG) or row.get("dynamic") == "true":
                continue
            known = learning and comment.startswith(device_comment(""))
            if not (known or (menu, comment) in keep) or comment in taken:
                found.append((menu, row))
            taken.add(comment)
    return _removals(found)
