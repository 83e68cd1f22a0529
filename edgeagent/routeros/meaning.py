"""Changes as a person reviews them: what a group of them is for (by code), and each in one line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from edgeagent.routeros.diff import Add, Change, Move, Remove, Set, Unset
from edgeagent.routeros.rows import TAG, Row

Seen = Mapping[str, Sequence[Mapping[str, str]]]
SETTINGS, REMOVALS = "settings", "removals"
# By menu, then by how the row's name begins; the first that fits.
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("/interface/", "", "ports"),
    ("/ip/dhcp-client", "", "ports"),
    ("/ip/firewall/address-list", "", "lists"),
    ("/ip/address", "", "routes"),
    ("/ip/route", "canary-", "fallback"),
    ("/ip/route", "native-", "fallback"),
    ("/ip/route", "", "routes"),
    ("/routing/", "", "routes"),
    ("/system/scheduler", "", "fallback"),
    ("/tool/netwatch", "", "fallback"),
    ("/ip/firewall/", "dns-", "names"),
    ("/ip/firewall/mangle", "born-", "marks"),
    ("/ip/firewall/mangle", "media-", "marks"),
    ("/ip/firewall/mangle", "learn-", "learning"),
    ("/ip/firewall/mangle", "asked-", "passage"),
    ("/ip/firewall/mangle", "", "steering"),
    ("/ip/firewall/nat", "", "translation"),
    ("/ip/firewall/filter", "drill-", "drill"),
    ("/ip/firewall/filter", "", "passage"),
    ("/ipv6/", "", "ipv6"),
    ("/queue/", "", "throttle"),
)
CODES = tuple(dict.fromkeys((*(code for _, _, code in GROUPS), SETTINGS, REMOVALS)))


class Said(Struct, frozen=True):
    """``code``: what it is for (the sentence is in texts/). ``line``: the change, one line whatever is in it."""

    code: str
    line: str


def of(change: Change, seen: Seen) -> Said:
    """One change; ``seen`` tells what stands there now, by menu."""
    if isinstance(change, Add):
        return Said(_group(change.menu, _name(change.attributes)), _line("+", change.menu, _words(change.attributes)))
    row = _row(change, seen)
    name = _name(row)
    if isinstance(change, Remove):
        return Said(REMOVALS, _line("-", change.menu, name or change.row_id))
    code = _group(change.menu, name) if name else SETTINGS
    if isinstance(change, Move):
        return Said(code, _line("^", change.menu, name))
    if isinstance(change, Unset):
        return Said(code, _line("~", change.menu, f"{name} {change.attribute}: {row.get(change.attribute, '?')} ->"))
    differences = [f"{key}: {row.get(key, '?')} -> {value}" for key, value in change.attributes.items()]
    return Said(code, _line("~", change.menu, " ".join([name, *differences]).strip()))


def of_row(row: Row) -> str:
    """What a row of ours is for: a code."""
    return _group(row.menu, row.comment)


def _row(change: Set | Unset | Move | Remove, seen: Seen) -> Mapping[str, str]:
    return next((row for row in seen.get(change.menu, ()) if row.get(".id") == change.row_id), {})


def _name(row: Mapping[str, str]) -> str:
    comment = row.get("comment", "")
    return comment if comment.startswith(TAG) else ""


def _group(menu: str, comment: str) -> str:
    name = comment.removeprefix(TAG)
    return next(code for begins, named, code in GROUPS if menu.startswith(begins) and name.startswith(named))


def _words(attributes: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in attributes.items())


def _line(sign: str, menu: str, said: str) -> str:
    return f"{sign} {menu} {said}".replace("\r", "").replace("\n", "\\n")
