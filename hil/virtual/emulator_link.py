"""One emulated link: two TAP ends and, for each direction, a pipe and a flow table."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from hil.virtual.emulator_impair import Impairment, ImpairmentError, Pipe, changed, is_within
from hil.virtual.emulator_packet import FlowKey, ip_bytes
from hil.virtual.emulator_record import (
    BLACKHOLE,
    CARRIER,
    DELIVERED,
    FILTER,
    LOSS,
    QUEUE,
    SPOOFED,
    Budget,
    Emit,
    Flow,
    FlowTable,
)
from hil.virtual.emulator_tap import Tap
from hil.virtual.emulator_tape import Tape

UP: Final = "up"  # from the site to the carrier
DOWN: Final = "down"
DIRECTIONS: Final = {"up": (UP,), "down": (DOWN,), "both": (UP, DOWN)}
ENDS: Final = {"a": ("a",), "b": ("b",), "both": ("a", "b")}


@dataclasses.dataclass(frozen=True, slots=True)
class LinkConfig:
    """What the configuration file says of a link: ``a`` is the site's end, ``b`` the carrier's: (netns, device)."""

    name: str
    a: tuple[str, str]
    b: tuple[str, str]
    allow_source: ipaddress.IPv4Network | None
    up: Impairment
    down: Impairment

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LinkConfig:
        """From one entry of ``links``; raises KeyError or ValueError where it is wrong."""
        lines = {name: changed(Impairment(), value.get("impair", {}).get(name, {})) for name in (UP, DOWN)}
        allowed = value.get("allow_source")
        return cls(
            name=str(value["name"]),
            a=(str(value["a"]["netns"]), str(value["a"]["device"])),
            b=(str(value["b"]["netns"]), str(value["b"]["device"])),
            allow_source=ipaddress.IPv4Network(allowed) if allowed else None,
            up=lines[UP],
            down=lines[DOWN],
        )


class Direction:
    """One way through a link: what comes out of ``source`` goes, if at all, into ``sink``."""

    def __init__(self, name: str, ends: tuple[Tap, Tap], pipe: Pipe, table: FlowTable) -> None:
        self.name = name
        self.source, self.sink = ends
        self.pipe = pipe
        self.table = table
        self.baseline = pipe.impairment
        self.tape: Tape | None = None

    def arrive(self, frame: bytes, now: float) -> tuple[float, Flow] | None:
        """Judge and record one frame; its departure time and row when it goes through."""
        if self.tape is not None:
            self.tape.take(frame, now)
        flow = self.table.find(frame, now)
        pipe = self.pipe
        line = pipe.impairment
        if flow.generation != pipe.generation:
            flow.filtered = any(expression.matches(flow.key) for expression in line.filters)
            flow.generation = pipe.generation
        departure: float | None = None
        # A wrong source comes first: it is the router's mistake whatever the line does to the packet afterwards.
        if flow.spoofed:
            verdict = SPOOFED
        elif not self.sink.carrier:
            verdict = CARRIER
        elif line.blackhole and (line.blackhole_arp or flow.key.flow_class != "arp"):
            verdict = BLACKHOLE
        elif flow.filtered:
            verdict = FILTER
        elif line.loss and pipe.is_lost(now):
            verdict = LOSS
        else:
            departure = pipe.departure(now, ip_bytes(frame))
            verdict = DELIVERED if departure is not None else QUEUE
        self.table.note(flow, frame, now, verdict)
        return None if departure is None else (departure, flow)


class Link:
    """A link with its two ends and two directions."""

    def __init__(self, config: LinkConfig, number: int, seed: str, now: float, emit: Emit, budget: Budget) -> None:
        self.name = config.name
        # These names last only until the move.
        self.ends = {"a": Tap(f"emu{number}a", *config.a), "b": Tap(f"emu{number}b", *config.b)}
        up, down = (self.ends["a"], self.ends["b"]), (self.ends["b"], self.ends["a"])
        spoofed = _source_check(config.allow_source)
        self.directions = {
            UP: Direction(
                UP, up, Pipe(config.up, f"{seed}/{self.name}/up", now), FlowTable(self.name, UP, emit, budget, spoofed)
            ),
            DOWN: Direction(
                DOWN,
                down,
                Pipe(config.down, f"{seed}/{self.name}/down", now),
                FlowTable(self.name, DOWN, emit, budget, lambda _key: False),
            ),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One thing to do to a link: set impairment fields, go back to the configured line, pull or plug the cable."""

    link: str
    cause: str
    directions: tuple[str, ...] = (UP, DOWN)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    clear: bool = False
    carrier: bool | None = None
    ends: tuple[str, ...] = ("a", "b")

    @classmethod
    def from_json(cls, value: Mapping[str, Any], cause: str) -> Change:
        """From ``{"link", "direction"?, "end"?, "clear"?, "carrier"?, FIELDS...}``; raises ImpairmentError."""
        fields = dict(value)
        link, direction, end = str(fields.pop("link")), fields.pop("direction", "both"), fields.pop("end", "both")
        clear, carrier = fields.pop("clear", False), fields.pop("carrier", None)
        if direction not in DIRECTIONS or end not in ENDS:
            raise ImpairmentError(f"direction must be up, down or both, and end a, b or both: {direction!r}, {end!r}")
        if not isinstance(clear, bool) or not isinstance(carrier, bool | None):
            raise ImpairmentError("clear and carrier must be true or false")
        if not fields and not clear and carrier is None:
            raise ImpairmentError(f"nothing to change on link {link!r}")
        changed(Impairment(), fields)  # refuse a mistake now, not when its time has come
        return cls(link, cause, DIRECTIONS[direction], fields, clear, carrier, ENDS[end])

    def apply(self, link: Link, now: float, emit: Emit) -> None:
        """Do it, and say so."""
        if self.clear or self.fields:
            for name in self.directions:
                direction = link.directions[name]
                base = direction.baseline if self.clear else direction.pipe.impairment
                direction.pipe.set(changed(base, self.fields), now)
            what = {"clear": True, **self.fields} if self.clear else dict(self.fields)
            which = self.directions[0] if len(self.directions) == 1 else "both"
            emit(
                {"t": now, "event": "impaired", "link": link.name, "direction": which, "changes": what}
                | {"cause": self.cause}
            )
        if self.carrier is not None:
            for end in self.ends:
                link.ends[end].set_carrier(self.carrier)
            which = self.ends[0] if len(self.ends) == 1 else "both"
            emit(
                {"t": now, "event": "carrier", "link": link.name, "end": which, "on": self.carrier}
                | {"cause": self.cause}
            )


def _source_check(allowed: ipaddress.IPv4Network | None) -> Any:
    """Whether a packet from the site claims a source the carrier never gave it; IPv4 only, as the carrier's filter.

    Who asks for an address by DHCP has none yet.
    """

    def is_spoofed(key: FlowKey) -> bool:
        if allowed is None or key.flow_class in ("arp", "dhcp", "ipv6") or not key.src:
            return False
        return not is_within(key.src, allowed)

    return is_spoofed
