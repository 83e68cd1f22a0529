"""What the core wants. *Orders* stand until replaced; *intents* are done once, in the order given.

Orders are one desired value that may be handed over again and again: the shell makes the world so, and keeps it so.
"""

from __future__ import annotations

from msgspec import Struct

from edgeagent.core.facts import Lease

Values = dict[str, str | float | int | None]


class Probing(Struct, frozen=True):
    """How one path is probed: a round each ``interval_s``, every ``sip_every``-th with SIP OPTIONS too (0: none)."""

    path: str
    interval_s: float
    sip_every: int


class Orders(Struct, frozen=True):
    """The standing orders.

    ``leases``: exactly these timed entries, renewed while the order stands; None while we do not know what the router
    holds and have decided nothing.  ``probing``: one plan for each path.
    ``flows_every_s``: how often the voice rows are read. ``watch_rows``: whether the standing rows may be read and put
    right now, or a switch is under way. ``keep_devices``: whether voice devices that the router has learnt may be
    written down there.
    """

    leases: frozenset[Lease] | None
    probing: tuple[Probing, ...]
    flows_every_s: float
    watch_rows: bool = True
    keep_devices: bool = False


class MoveFlows(Struct, frozen=True, tag=True):
    """Remove voice rows whose NAT address is not the present address of ``path``'s uplink.

    ``sources``: only rows of these LAN addresses; None means all. ``spare``: never rows of these. ``pinned``: whether
    pinned media goes too.
    """

    path: str
    sources: frozenset[str] | None = None
    spare: frozenset[str] = frozenset()
    pinned: bool = False


class Notify(Struct, frozen=True, tag=True):
    """Tell an audience something once. ``data`` holds values only; the words are found by ``kind`` in the catalogue.

    ``parts``: the notices that a merged one (``summary``, ``digest``) stands for, oldest first.
    """

    incident: str
    kind: str
    audience: str
    data: Values
    parts: tuple[Notify, ...] = ()


class Transition(Struct, frozen=True, tag=True):
    """Something changed that the journal must know before anything is done about it."""

    kind: str
    data: Values
