"""What was observed, in the past tense. Facts are the only way into the core.

Times ending in ``_s`` are seconds of the machine's monotonic clock, sizes ending in ``_bytes`` are bytes.
"""

from __future__ import annotations

from msgspec import Struct


class Instant(Struct, frozen=True):
    """One moment. Decisions use ``mono_s`` only; ``wall`` is for people and for the billing month.

    ``wall`` is seconds since 1970-01-01 UTC, None where the machine has no idea; ``wall_quality`` is ``synced`` or
    ``unknown``. ``boot_id`` tells which boot ``mono_s`` counts from.
    """

    mono_s: float
    boot_id: str
    wall: float | None = None
    wall_quality: str = "unknown"


class RoundSent(Struct, frozen=True, tag=True):
    """One probe went to each of ``targets`` by ``path``; round numbers of a path only grow.

    ``control``: whether the router's own LAN address was probed along, to tell a dead line from a dead Pi.
    ``targets`` holds only what really left; a round that could not be sent at all has none.
    """

    path: str
    number: int
    at_s: float
    targets: tuple[str, ...]
    control: bool = True


class ProbeReplied(Struct, frozen=True, tag=True):
    """A probe of round ``number`` was answered; ``target`` is one of the round's, or ``control``."""

    path: str
    number: int
    target: str
    at_s: float


class RoundsAnswered(Struct, frozen=True, tag=True):
    """A quiet stretch told at once: every round up to ``number`` was answered by all its targets and the control.

    The journal keeps such stretches instead of packets, and a replay or a simulation may leap over them as far as the
    turn's own deadline allows. ``until_s`` is when the last round was sent.
    """

    path: str
    number: int
    until_s: float
    targets: tuple[str, ...]


class LinkChanged(Struct, frozen=True, tag=True):
    """The router saw the link of a path's uplink port come or go."""

    path: str
    up: bool
    at_s: float


class UplinkSeen(Struct, frozen=True, tag=True):
    """The address that the router has on a path's uplink, None where it has none."""

    path: str
    address: str | None
    at_s: float


FlowKey = tuple[str, str, int, str, int, str]


class Flow(Struct, frozen=True):
    """One voice row of the router's connection tracking.

    ``source`` and ``nat`` are plain addresses: the LAN host, and the router's address that the far end sees.
    ``pinned``: media born on a backup that stays there until it ends. ``media``: UDP on a port that is not SIP.
    ``idle_s``: time since the row's last packet, where the router tells it.
    """

    protocol: str
    source: str
    source_port: int
    far: str
    far_port: int
    nat: str
    orig_bytes: int
    repl_bytes: int
    media: bool
    pinned: bool = False
    idle_s: float | None = None

    @property
    def key(self) -> FlowKey:
        """What tells it from other rows; one made anew by another uplink is another row."""
        return self.protocol, self.source, self.source_port, self.far, self.far_port, self.nat


class FlowsSeen(Struct, frozen=True, tag=True):
    """All voice rows, as read between ``asked_s`` and ``at_s``."""

    flows: tuple[Flow, ...]
    asked_s: float
    at_s: float


class Lease(Struct, frozen=True, order=True):
    """One timed address-list entry of ours: while it stands, the sources in ``address`` go by the list's path."""

    list: str
    address: str


class LeasesSeen(Struct, frozen=True, tag=True):
    """Our timed entries as the router holds them; told after each new contact with the router."""

    leases: tuple[Lease, ...]
    at_s: float


class LedBy(Struct, frozen=True, tag=True):
    """Who leads at this router: ``owner`` is another agent, by the name in its lease of ``edge-alive``; empty: nobody
    else. Told when it changes.
    """

    owner: str
    at_s: float


class Finding(Struct, frozen=True, order=True):
    """One thing in the router that is not as it was provisioned.

    ``thing``: a row of ours by menu and name, the order of ours in a menu, or an adopted setting by its key. ``kind``:
    what was found, a code of routeros/drift.py. ``by_us``: nobody's hand did it: what is wanted has changed, such as a
    next hop that a line was given. ``blinds``: without it probes do not go their way, so that what they say is of no
    line.
    """

    thing: str
    kind: str
    attribute: str = ""
    found: str = ""
    wanted: str = ""
    by_us: bool = False
    blinds: bool = False


class DriftSeen(Struct, frozen=True, tag=True):
    """All that differed when every row and adopted setting of ours was compared; told when it changes.

    ``provisioned``: whether the router is ours to put right; where it is not, nothing was compared. ``tried``: the
    things that were written since the last time. ``unapplied``: things that are wanted otherwise than a person has had
    applied, because site.toml, the program or what the router may do has changed since; none of them is a finding.
    """

    findings: tuple[Finding, ...]
    provisioned: bool
    at_s: float
    tried: tuple[str, ...] = ()
    unapplied: tuple[str, ...] = ()


class RouterReached(Struct, frozen=True, tag=True):
    """The router's API answers."""

    at_s: float


class RouterLost(Struct, frozen=True, tag=True):
    """The router's API stopped answering; ``code`` is the fault that says why (see faults.py)."""

    code: str
    at_s: float


class PartFailed(Struct, frozen=True, tag=True):
    """A part of the agent (``PARTS`` of faults.py) cannot do its work; ``code`` is the fault that says why."""

    part: str
    code: str
    at_s: float


class PartWorks(Struct, frozen=True, tag=True):
    """A part of the agent does its work, or does it again."""

    part: str
    at_s: float


Fact = (
    RoundSent
    | ProbeReplied
    | RoundsAnswered
    | LinkChanged
    | UplinkSeen
    | FlowsSeen
    | LeasesSeen
    | LedBy
    | DriftSeen
    | RouterReached
    | RouterLost
    | PartFailed
    | PartWorks
)
