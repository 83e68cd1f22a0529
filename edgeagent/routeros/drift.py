"""Rows and settings wanted and seen -> what differs, each with the changes that put it right. Pure.

The changes are those of provisioning, in its order; here each bears the name of the *thing* it is about, so that one
thing can be put right and another be left. A thing is one of our rows, the order of ours in a menu, or an adopted
setting; or all of it at once, where no row of ours is left: a restored backup, or a reset, is one act and no edit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import Finding
from edgeagent.routeros import adopted, diff
from edgeagent.routeros.adopted import Setting
from edgeagent.routeros.diff import Add, Change, Move, Remove, Set, Unset
from edgeagent.routeros.rows import TAG, Row, device_comment

Seen = Mapping[str, Sequence[Mapping[str, str]]]
TEXT_MAX = 80  # of a value that is told; a script is longer, and nobody reads it in a mail
DELETED, DISABLED, CHANGED, ADDED = "deleted", "disabled", "changed", "attribute added"
EVERYTHING, GONE = "everything", "all rows gone"
REORDERED, DUPLICATED, UNKNOWN, SETTING = "reordered", "duplicated", "unknown row", "setting"


# Without these an echo or its answer does not go by the line that it is of.
PROBING = (
    *("/ip/address alias", "/ip/address probe-address-", "/interface/bridge probe-", "/ip/route default-edge-"),
    *("/routing/table ", "/routing/rule probe-", "/ip/route/rule probe-", EVERYTHING),
    *("/ip/firewall/nat out-", "/ip/firewall/nat probes-out-"),
)


class Step(Struct, frozen=True):
    """One change, and the thing that it is for."""

    thing: str
    change: Change


class Difference(Struct, frozen=True):
    """What was found, the steps that put it right in their order, and former values of settings to save first."""

    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    former: Mapping[str, str]


def difference(
    wanted: Sequence[Row], seen: Seen, settings: adopted.Found, apart: Collection[str] = frozenset()
) -> Difference:
    """All of it; one finding for each thing. Of the rows ``apart`` nothing is told, and nothing is done about them."""
    adopting, former = adopted.adopting(settings)
    by_change = {
        (change.menu, change.row_id, *change.attributes): (setting, value)
        for setting, (row_id, value) in settings.items()
        for change in (Set(setting.menu, row_id, {setting.attribute: value}),)
    }
    names = {(row.menu, row.comment) for row in wanted}
    found: dict[str, Finding] = {}
    steps: list[Step] = []
    for change in (*adopting.before, *diff.ruleset_changes(wanted, seen), *adopting.after):
        setting = None
        if isinstance(change, Set):
            setting = by_change.get((change.menu, change.row_id, *change.attributes))
        if setting is None and thing_of(change.menu, _comment(change, seen)) in apart:
            continue
        one = _of_setting(change, *setting) if setting and isinstance(change, Set) else _of_row(change, seen, names)
        found.setdefault(one.thing, replace(one, blinds=one.thing.startswith(PROBING)))
        steps.append(Step(one.thing, change))
    if wanted and not holds_rows(seen):
        gone = Finding(EVERYTHING, GONE, "rows", "0", str(len(wanted)), blinds=True)
        # A part of the rules may be worse than none: that which keeps other traffic off a backup may not be among them.
        return Difference((gone,), () if apart else tuple(Step(EVERYTHING, step.change) for step in steps), former)
    return Difference(tuple(found.values()), tuple(steps), former)


def holds_rows(seen: Seen) -> bool:
    """Whether any row of ours stands there. What a running agent gives back of what the router had learnt is none."""
    comments = [row.get("comment", "") for rows in seen.values() for row in rows]
    return any(one.startswith(TAG) and not one.startswith(device_comment("")) for one in comments)


def moved(findings: Sequence[Finding], to: str, former: Collection[str]) -> tuple[Finding, ...]:
    """The same, those marked that nobody's hand has made: the thing ``to`` is wanted in place of one of ``former``."""
    left = {one.thing for one in findings if one.kind == UNKNOWN and one.thing in former}
    by_us = {*left, to} if left else left
    return tuple(replace(one, by_us=one.by_us or one.thing in by_us) for one in findings)


def outdated(findings: Sequence[Finding], before: Collection[str]) -> tuple[Finding, ...]:
    """The same, those marked that nobody's hand has made: by what was wanted ``before``, such things were right."""
    return tuple(replace(one, by_us=one.thing not in before) for one in findings)


def thing_of(menu: str, comment: str) -> str:
    """What a row of ours is called wherever it is told of."""
    return f"{menu} {short(comment.removeprefix(TAG))}"


def order_of(menu: str) -> str:
    """What the order of our rows in a menu is called."""
    return f"{menu} order"


def _comment(change: Change, seen: Seen) -> str:
    if isinstance(change, Add):
        return change.attributes["comment"]
    return _row(change, seen).get("comment", "")


def _row(change: Set | Unset | Move | Remove, seen: Seen) -> Mapping[str, str]:
    return next((row for row in seen.get(change.menu, ()) if row.get(".id") == change.row_id), {})


def _of_setting(change: Set, setting: Setting, value: str) -> Finding:
    wanted = change.attributes[setting.attribute]
    return Finding(setting.key, SETTING, setting.attribute, short(value), short(wanted))


def _of_row(change: Change, seen: Seen, names: Collection[tuple[str, str]]) -> Finding:
    menu = change.menu
    comment = _comment(change, seen)
    thing = thing_of(menu, comment)
    if isinstance(change, Add):
        return Finding(thing, DELETED)
    row = _row(change, seen)
    match change:
        case Move():
            return Finding(order_of(menu), REORDERED, "", *_first_out_of_place(seen[menu], comment))
        case Remove():
            return Finding(thing, DUPLICATED if (menu, comment) in names else UNKNOWN)
        case Unset():
            return Finding(thing, ADDED, change.attribute, short(row.get(change.attribute, "")))
        case Set():
            changed = [name for name in change.attributes if name != "disabled"]
            if not changed:
                return Finding(thing, DISABLED, "disabled", "yes", "no")
            name = changed[0]
            return Finding(thing, CHANGED, name, short(row.get(name, "")), short(change.attributes[name]))


def _first_out_of_place(rows: Sequence[Mapping[str, str]], comment: str) -> tuple[str, str]:
    """What stands where ours should begin, as far as it may be told: a person's own words stay at the site."""
    first = next((row for row in rows if row.get("dynamic") != "true"), {})
    name = first.get("comment", "")
    ours = name.startswith(TAG)
    return short(name.removeprefix(TAG) if ours else first.get("action", "")), short(comment.removeprefix(TAG))


def short(text: str) -> str:
    """On one line, and not longer than a reader bears."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= TEXT_MAX else f"{line[: TEXT_MAX - 3]}..."
