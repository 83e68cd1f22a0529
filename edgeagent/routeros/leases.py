"""Address-list rows -> the timed entries that the router holds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgeagent.core.facts import Lease
from edgeagent.core.settings import ALIVE_LIST
from edgeagent.routeros.rows import TAG
from edgeagent.routeros.values import is_prefix, row_id

Seen = Mapping[str, str]
NAME_MAX = 255  # a static entry may be a name
OWNER_MAX = 64


def held(rows: Sequence[Seen], lists: Collection[str]) -> tuple[dict[Lease, str], frozenset[Lease]]:
    """What stands in our ``lists``: what lapses by itself, as ours does, with its id; and what somebody else made.

    A row that lacks something, or has an address that is none, is passed over. Were it ours after all, the router
    refuses to make it a second time, and that is told.
    """
    timed: dict[Lease, str] = {}
    foreign: set[Lease] = set()
    for row in rows:
        number, lease = row_id(row), Lease(row.get("list", ""), row.get("address", "").removesuffix("/32"))
        if number is None or lease.list not in lists or not lease.address:
            continue
        if row.get("dynamic") not in ("true", "yes"):
            foreign.add(Lease(lease.list, lease.address[:NAME_MAX]))
        elif is_prefix(lease.address):
            timed[lease] = number
    return timed, frozenset(foreign)


def other_leader(rows: Sequence[Seen], owner: str) -> str:
    """Which other agent leads: whoever holds ``edge-alive`` by name, for only one can. Empty: none but ``owner``.

    Whose name the other lists' entries bear says nothing: whoever leads takes over what a dead agent has left.
    """
    for row in rows:
        name = row.get("comment", "")
        timed = row.get("list") == ALIVE_LIST and row.get("dynamic") in ("true", "yes")
        if timed and name.startswith(TAG) and name != TAG + owner:
            return name.removeprefix(TAG)[:OWNER_MAX] or "?"
    return ""
