"""Rows wanted + rows seen -> the changes that make the router so. None when it is so already.

Pure. Two kinds of rows: the standing ruleset (by name, in order, above foreign rows), and timed leases (by list and
address, without order).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from edgeagent.core.facts import Lease
from edgeagent.routeros.ruleset import ORDERED, TAG, Row

Seen = Mapping[str, str]
DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:\d+ms)?")
CLOCK = re.compile(r"(?:(\d+)d )?(\d+):(\d\d):(\d\d)")


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

    Additions and corrections come in the order of ``wanted``, removals last: at no point is a rule gone that its
    replacement does not yet do the work of (clause P2).
    """
    changes: list[Change] = []
    for row in wanted:
        present = _ours(seen.get(row.menu, ())).get(row.comment)
        if present is None:
            changes.append(Add(row.menu, {**row.attributes, "comment": row.comment}, _anchor(row.menu, seen)))
            continue
        wrong = {key: value for key, value in row.attributes.items() if not same(value, present.get(key, ""))}
        if wrong or present.get("disabled") == "true":
            disabled = {"disabled": "no"} if present.get("disabled") == "true" else {}
            changes.append(Set(row.menu, present[".id"], {**wrong, **disabled}))
    changes.extend(_moves(wanted, seen))
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
        add=tuple(sorted(wished - held.keys())),
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
    clock = CLOCK.fullmatch(value)
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return f"{((days * 24 + hours) * 60 + minutes) * 60 + seconds}s"
    duration = DURATION.fullmatch(value)
    if duration and value and any(duration.groups()):
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in duration.groups())
        return f"{(((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds}s"
    if "," in value:
        return ",".join(sorted(value.split(",")))
    return value.removesuffix("/32")


def _ours(rows: Sequence[Seen]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for row in rows:
        if row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true":
            found.setdefault(row["comment"], row)
    return found


def _anchor(menu: str, seen: Mapping[str, Sequence[Seen]]) -> str | None:
    """The first foreign static row, above which ours stand."""
    if menu not in ORDERED:
        return None
    return next((row[".id"] for row in seen.get(menu, ()) if _foreign(row)), None)


def _foreign(row: Seen) -> bool:
    return not row.get("comment", "").startswith(TAG) and row.get("dynamic") != "true"


def _moves(wanted: Sequence[Row], seen: Mapping[str, Sequence[Seen]]) -> list[Change]:
    """Put rows of ours that are there but out of order, or below a foreign row, back in their places."""
    changes: list[Change] = []
    for menu in ORDERED:
        rows = [row for row in seen.get(menu, ()) if row.get("dynamic") != "true"]
        names = [row.comment for row in wanted if row.menu == menu]
        present = [name for name in names if name in _ours(rows)]
        head = [row.get("comment", "") for row in rows][: len(present)]
        if head == present or not present:
            continue
        anchor = _anchor(menu, seen)
        ids = [_ours(rows)[name][".id"] for name in present]
        if anchor is not None:
            changes.extend(Move(menu, row_id, anchor) for row_id in ids)
        else:
            changes.extend(Move(menu, row_id, ids[-1]) for row_id in ids[:-1])
    return changes


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
