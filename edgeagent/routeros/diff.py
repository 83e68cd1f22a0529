"""Rows wanted + rows seen -> the changes that make the router so. None when it is so already.

Pure. Two kinds of rows: the standing ruleset (by name, in order, above foreign rows), and timed leases (by list and
address, without order).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from edgeagent.core.facts import Lease
from edgeagent.routeros.durations import seconds
from edgeagent.routeros.ruleset import ORDERED, TAG, Row

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


class Move(Struct, frozen=True, tag=True):
    """Put a row above another one."""

    menu: str
    row_id: str
    before: str


class Remove(Struct, frozen=True, tag=True):
    """Remove a row of ours."""

    menu: str
    row_id: str


Change = Add | Set | Move | Remove


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
        if wrong or disabled:
            changes.append(Set(row.menu, present[".id"], {**wrong, **disabled}))
        if order.must_move(row.comment):
            changes.append(Move(row.menu, present[".id"], order.before(row.comment) or ""))
    changes.extend(_leftovers(wanted, seen))
    return changes


def removal_changes(seen: Mapping[str, Sequence[Seen]], order: Sequence[str]) -> list[Change]:
    """Take every row of ours away again, menus in the reverse of the order in which they were built."""
    return [
        Remove(menu, row[".id"])
        for menu in reversed(order)
        for row in reversed(seen.get(menu, ()))
        if row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true"
    ]


class LeaseChanges(Struct, frozen=True):
    """Entries to add, ids whose timeout to renew, ids to remove; to be done in this order."""

    add: tuple[Lease, ...]
    renew: tuple[str, ...]
    remove: tuple[str, ...]


def lease_changes(wanted: Iterable[Lease], held: Mapping[Lease, str], *, renew: bool) -> LeaseChanges:
    """The changes for the timed entries; ``held`` maps those in the router to their ids."""
    wished = set(wanted)
    return LeaseChanges(
        # The site's entry first: it moves everybody, and nothing may stand before it.
        add=tuple(sorted(wished - held.keys(), key=lambda lease: (not lease.list.endswith("-site"), lease))),
        renew=tuple(held[lease] for lease in sorted(wished & held.keys())) if renew else (),
        remove=tuple(held[lease] for lease in sorted(held.keys() - wished)),
    )


def same(wanted: str, found: str) -> bool:
    """Whether two spellings mean the same: RouterOS prints what it is given in its own way."""
    return _canonical(wanted) == _canonical(found)


def _canonical(value: str) -> str:
    value = {"yes": "true", "no": "false"}.get(value, value)
    if value == "":
        return "true"  # a flag given without a value, such as blackhole
    duration = seconds(value)
    if duration is not None:
        return f"{duration}s"
    if "," in value:
        return ",".join(sorted(value.split(",")))
    return value.removesuffix("/32")


def _ours(rows: Sequence[Seen]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for row in rows:
        if row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true":
            found.setdefault(row["comment"], row)
    return found


class _Order:
    """Where each row of one menu belongs: ours on top, in the order wanted.

    While those that are there stand in order, a new row goes above the next of them. Else every row in turn, new or
    moved, goes right above one fixed row: the first foreign one, or the last of ours where all are ours.
    """

    def __init__(self, menu: str, wanted: Sequence[Row], seen: Sequence[Seen]) -> None:
        rows = [row for row in seen if row.get("dynamic") != "true"]
        ours = _ours(rows)
        self.names = [row.comment for row in wanted if row.menu == menu]
        self.ids = {name: ours[name][".id"] for name in self.names if name in ours}
        self.matters = menu in ORDERED
        self.good = [row.get("comment", "") for row in rows][: len(self.ids)] == list(self.ids)
        self.foreign = next((row[".id"] for row in rows if _foreign(row)), None)

    def before(self, name: str) -> str | None:
        """The id of the row above which this one belongs; None for the end."""
        if not self.matters:
            return None
        later = self.names[self.names.index(name) + 1 :]
        next_id = next((self.ids[other] for other in later if other in self.ids), None)
        if self.good:
            return next_id or self.foreign
        last_id = list(self.ids.values())[-1]
        return self.foreign or (last_id if next_id else None)

    def must_move(self, name: str) -> bool:
        """Whether this row, which is there, has to be put in its place."""
        return self.matters and not self.good and self.before(name) is not None


def _foreign(row: Seen) -> bool:
    return not row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true"


def _leftovers(wanted: Sequence[Row], seen: Mapping[str, Sequence[Seen]]) -> list[Change]:
    """Rows that carry our tag and are not wanted: of an older version, or duplicates made by hand."""
    keep = {(row.menu, row.comment) for row in wanted}
    changes: list[Change] = []
    for menu, rows in seen.items():
        taken: set[str] = set()
        for row in rows:
            comment = row.get("comment", "")
            if not comment.startswith(TAG) or row.get("dynamic") == "true":
                continue
            if (menu, comment) not in keep or comment in taken:
                changes.append(Remove(menu, row[".id"]))
            taken.add(comment)
    return changes
