"""What a person has approved by ``provision --apply``, and what of it is still wanted. Pure.

The watch for hand edits keeps the router as it was approved. Whoever changes site.toml, or installs a program with
other rules, has approved nothing yet: what is wanted otherwise since then is *not applied*, and neither put right nor
taken away until a person says so. Digests tell it, for the rules themselves would not be small. What the router has
learnt, such as a next hop, is nobody's to approve and is in none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from edgeagent.routeros.adopted import Found, Setting
from edgeagent.routeros.drift import Seen, order_of, thing_of
from edgeagent.routeros.rows import AGENT_HOSTS, TAG, Row
from edgeagent.routeros.ruleset import ORDERED
from edgeagent.routeros.values import is_ipv4

DIGEST_LETTERS = 16  # of what nobody forges; two that are alike by chance would leave one change unnoticed
LISTS = "/ip/firewall/address-list"


class Approval(Struct, frozen=True):
    """By thing, a digest of what was wanted: ``rows`` in the order of the rules, and adopted ``settings``."""

    rows: dict[str, str]
    settings: dict[str, str]


class Agreed(Struct, frozen=True):
    """What may be put right: ``rows`` and ``settings`` to compare with, but for the things ``apart``.

    Rows apart stand among the others only so that these keep their places. ``unapplied``: all that differs from what
    was approved.
    """

    rows: list[Row]
    settings: Found
    apart: frozenset[str] = frozenset()
    unapplied: tuple[str, ...] = ()


def of(rows: Iterable[Row], settings: Iterable[Setting]) -> Approval:
    """To be asked with what is wanted whatever the router learns."""
    return Approval(
        rows={thing_of(row.menu, row.comment): _digest(row.attributes) for row in rows},
        settings={one.key: _digest([one.value, one.by, one.beside, one.only, one.early]) for one in settings},
    )


def packed(approval: Approval) -> bytes:
    """For the store."""
    return msgspec.json.encode(approval)


def unpacked(value: bytes) -> Approval | None:
    """Out of the store; None for what is none."""
    try:
        return msgspec.json.decode(value, type=Approval)
    except msgspec.MsgspecError:
        return None


def host(name: str) -> str:
    """The thing that lets the agent reach a host: an address, or the registrar by name, whatever address that has."""
    return thing_of(LISTS, f"{TAG}{AGENT_HOSTS}/{name}")


def agreed(
    approved: Approval | None,
    today: Approval,
    wanted: Sequence[Row],
    seen: Seen,
    settings: Found,
    by_name: Mapping[str, str],
) -> Agreed:
    """What of ``wanted`` and ``settings`` was approved as it is wanted ``today``; all of it where nothing is known.

    ``by_name``: things whose names have something in them that was learnt, with the things that stand for them in the
    approvals.
    """
    if approved is None:
        return Agreed(list(wanted), settings)
    rows = {by_name.get(name, name): row for row in wanted for name in (thing_of(row.menu, row.comment),)}
    same = {name for name, digest in approved.rows.items() if today.rows.get(name) == digest}
    other = [name for name in {**today.rows, **approved.rows} if name not in same]
    compared = []
    for name in approved.rows:
        if name in rows:
            compared.append(rows[name])
        elif name not in today.rows:
            menu, _, row = name.partition(" ")
            compared.append(Row(menu, row, {}))
    apart = {thing_of(rows[name].menu, rows[name].comment) if name in rows else name for name in other}
    if any(name.startswith(host("")) and not is_ipv4(name.removeprefix(host(""))) for name in other):
        apart |= _hosts(seen) - {thing_of(row.menu, row.comment) for row in compared}  # any may be the former registrar
    kept = {key for key, digest in approved.settings.items() if today.settings.get(key) == digest}
    return Agreed(
        rows=compared,
        settings={setting: found for setting, found in settings.items() if setting.key in kept},
        apart=frozenset(apart),
        unapplied=(
            *other,
            *_reordered(approved, today),
            *(key for key in {**today.settings, **approved.settings} if key not in kept),
        ),
    )


def _hosts(seen: Seen) -> set[str]:
    found = {thing_of(LISTS, row.get("comment", "")) for row in seen.get(LISTS, ())}
    return {name for name in found if name.startswith(host(""))}


def _reordered(approved: Approval, today: Approval) -> list[str]:
    """The menus in which today's rules stand in another order."""
    found = []
    for menu in ORDERED:
        before = [name for name in approved.rows if name in today.rows and name.startswith(f"{menu} ")]
        if before != [name for name in today.rows if name in approved.rows and name.startswith(f"{menu} ")]:
            found.append(order_of(menu))
    return found


def _digest(what: object) -> str:
    text = json.dumps(what, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LETTERS]
