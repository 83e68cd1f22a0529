"""What a line does to packets: delay, jitter, loss, rate, queue, blackhole, filters. Pure: time and seed are arguments.

Theory of operation: a :class:`Pipe` is one direction of one link. A packet passes, in this order, the blackhole, the
filters, chance (loss), the queue of the bottleneck, and then the propagation delay. Order is always preserved: jitter
or a shortened delay never lets a packet overtake an earlier one.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Mapping
from typing import Any, Final

from hil.virtual.emulator_packet import CLASSES, FlowKey

QUEUE_BYTES_DEFAULT: Final = 200_000
# Shorter bursts than the spacing of voice packets would be independent loss, and cost a loop per packet.
BURST_S_MIN: Final = 0.005


class ImpairmentError(ValueError):
    """A change was refused: which field, what it must be, what was given."""


@dataclasses.dataclass(frozen=True, slots=True)
class BurstLoss:
    """Gilbert-Elliott loss in time: a bad state of mean length ``mean_burst_s`` loses the share ``loss_in_burst``.

    ``mean_loss`` is the long-run share over all time; the good state loses nothing.
    """

    mean_loss: float
    mean_burst_s: float
    loss_in_burst: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.loss_in_burst <= 1:
            raise ImpairmentError(f"loss_in_burst must be above 0 and at most 1, not {self.loss_in_burst}")
        if not 0 < self.mean_loss < self.loss_in_burst:
            raise ImpairmentError(f"mean_loss must be above 0 and below loss_in_burst, not {self.mean_loss}")
        if self.mean_burst_s < BURST_S_MIN:
            raise ImpairmentError(f"mean_burst_s must be at least {BURST_S_MIN}, not {self.mean_burst_s}")

    @property
    def bad_share(self) -> float:
        """The share of time spent in the bad state."""
        return self.mean_loss / self.loss_in_burst

    @property
    def mean_good_s(self) -> float:
        """The mean length of the good state."""
        return self.mean_burst_s * (1 - self.bad_share) / self.bad_share


class BurstState:
    """Which state a :class:`BurstLoss` is in. Its timeline depends on the seed alone, not on the traffic."""

    def __init__(self, spec: BurstLoss, dwell: random.Random, now: float) -> None:
        self.spec = spec
        self._dwell = dwell
        self._bad = False
        self._until = now
        self._settle(now)

    def is_bad(self, now: float) -> bool:
        """Advance to ``now`` (never backwards) and tell the state."""
        if now - self._until > 1000 * (self.spec.mean_burst_s + self.spec.mean_good_s):
            self._settle(now)  # After a long silence the past does not matter; do not walk through it.
        while now >= self._until:
            self._bad = not self._bad
            self._until += self._length()
        return self._bad

    def _settle(self, now: float) -> None:
        self._bad = self._dwell.random() < self.spec.bad_share
        self._until = now + self._length()

    def _length(self) -> float:
        return self._dwell.expovariate(1 / (self.spec.mean_burst_s if self._bad else self.spec.mean_good_s))


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """A class expression: a packet matches when every field that is given matches.

    JSON: ``{"class", "protocol", "sip_method", "icmp_type", "src", "dst", "sport", "dport"}``; ``src`` and ``dst`` are
    prefixes or addresses, ports are a number or ``[first, last]``.
    """

    flow_class: str | None = None
    protocol: str | None = None
    sip_method: str | None = None
    icmp_type: str | None = None
    src: ipaddress.IPv4Network | None = None
    dst: ipaddress.IPv4Network | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None

    def matches(self, key: FlowKey) -> bool:
        """Whether this packet's key falls under the expression."""
        texts = (
            (self.flow_class, key.flow_class),
            (self.protocol, key.protocol),
            (self.sip_method, key.detail if key.flow_class == "sip" else ""),
            (self.icmp_type, key.detail if key.flow_class == "icmp" else ""),
        )
        if any(wanted is not None and wanted != found for wanted, found in texts):
            return False
        for ports, port in ((self.sport, key.sport), (self.dport, key.dport)):
            if ports is not None and not ports[0] <= port <= ports[1]:
                return False
        return all(
            prefix is None or is_within(address, prefix)
            for prefix, address in ((self.src, key.src), (self.dst, key.dst))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Impairment:
    """One direction of a line. Sizes are IP bytes."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # up to this much is added to the delay, evenly spread
    loss: float | BurstLoss = 0.0  # a share of packets, each on its own; or bursts
    rate_kbit: float = 0.0  # 0 means no bottleneck
    queue_bytes: int = QUEUE_BYTES_DEFAULT  # what may wait in front of the bottleneck
    blackhole: bool = False
    # A line cut upstream still has a neighbour that answers ARP; without it the router would notice and say so.
    blackhole_arp: bool = False
    filters: tuple[Filter, ...] = ()


def changed(old: Impairment, changes: Mapping[str, Any]) -> Impairment:
    """``old`` with ``changes`` (JSON values) laid over it; raises :class:`ImpairmentError` naming the field."""
    values: dict[str, Any] = {}
    for name, value in changes.items():
        if name in ("delay_ms", "jitter_ms", "rate_kbit"):
            values[name] = _number(name, value, 0.0, 1e9)
        elif name == "queue_bytes":
            values[name] = int(_number(name, value, 1, 1e9))
        elif name in ("blackhole", "blackhole_arp"):
            if not isinstance(value, bool):
                raise ImpairmentError(f"{name} must be true or false, not {value!r}")
            values[name] = value
        elif name == "loss":
            values[name] = _loss(value)
        elif name == "filters":
            if not isinstance(value, list):
                raise ImpairmentError(f"filters must be a list of expressions, not {value!r}")
            values[name] = tuple(parse_filter(entry) for entry in value)
        else:
            known = ", ".join(field.name for field in dataclasses.fields(Impairment))
            raise ImpairmentError(f"unknown field {name!r}; known are {known}")
    return dataclasses.replace(old, **values)


def parse_filter(expression: object) -> Filter:
    """A class expression from JSON; raises :class:`ImpairmentError`."""
    if not isinstance(expression, Mapping) or not expression:
        raise ImpairmentError(f"a filter must be an object with at least one field, not {expression!r}")
    values: dict[str, Any] = {}
    for name, value in expression.items():
        if name == "class":
            if value not in CLASSES:
                raise ImpairmentError(f"class must be one of {', '.join(CLASSES)}, not {value!r}")
            values["flow_class"] = value
        elif name in ("protocol", "sip_method", "icmp_type"):
            values[name] = str(value)
        elif name in ("src", "dst"):
            values[name] = ipaddress.IPv4Network(value)
        elif name in ("sport", "dport"):
            first, last = value if isinstance(value, list) else (value, value)
            values[name] = (int(_number(name, first, 0, 65535)), int(_number(name, last, 0, 65535)))
        else:
            raise ImpairmentError(f"unknown filter field {name!r}")
    return Filter(**values)


def is_within(address: str, prefix: ipaddress.IPv4Network) -> bool:
    """Whether a dotted IPv4 address lies in the prefix; False for any other text."""
    try:
        return ipaddress.IPv4Address(address) in prefix
    except ipaddress.AddressValueError:
        return False


class Pipe:
    """One direction of one link in time. ``now`` is in seconds and must not go backwards."""

    def __init__(self, impairment: Impairment, seed: str, now: float) -> None:
        self._chance = random.Random(f"{seed}/chance")
        self._spread = random.Random(f"{seed}/jitter")
        self._dwell = random.Random(f"{seed}/bursts")
        self._bursts: BurstState | None = None
        self._free_at = 0.0  # when the bottleneck has sent all it holds
        self._last_departure = 0.0
        self.generation = 0  # counts changes, so that decisions taken per flow can be kept until the next one
        self.impairment = impairment
        self.set(impairment, now)

    def set(self, impairment: Impairment, now: float) -> None:
        """Packets that arrive from now on meet this impairment; those on their way keep the old one."""
        loss = impairment.loss
        if isinstance(loss, float):
            self._bursts = None
        elif self._bursts is None or self._bursts.spec != loss:
            self._bursts = BurstState(loss, self._dwell, now)
        self.impairment = impairment
        self.generation += 1

    def is_lost(self, now: float) -> bool:
        """Draw one packet's luck."""
        if self._bursts is None:
            share = self.impairment.loss
            return bool(share) and self._chance.random() < share  # type: ignore[operator]
        return self._bursts.is_bad(now) and self._chance.random() < self._bursts.spec.loss_in_burst

    def departure(self, now: float, size: int) -> float | None:
        """When a packet of ``size`` bytes leaves at the far end; None where the queue has no room for it."""
        line = self.impairment
        at = now
        if line.rate_kbit:
            bytes_per_s = line.rate_kbit * 125.0
            start = max(self._free_at, now)
            waiting = (start - now) * bytes_per_s
            if waiting > 0 and waiting + size > line.queue_bytes:
                return None
            at = self._free_at = start + size / bytes_per_s
        at += line.delay_ms * 1e-3
        if line.jitter_ms:
            at += self._spread.random() * line.jitter_ms * 1e-3
        self._last_departure = at = max(at, self._last_departure)
        return at


def _loss(value: object) -> float | BurstLoss:
    if isinstance(value, Mapping):
        try:
            return BurstLoss(**{name: float(number) for name, number in value.items()})
        except TypeError as error:
            raise ImpairmentError(
                f"loss must have mean_loss, mean_burst_s and perhaps loss_in_burst: {error}"
            ) from error
    return _number("loss", 0.0 if value is None else value, 0.0, 1.0)


def _number(name: str, value: object, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise ImpairmentError(f"{name} must be a number from {lowest:g} to {highest:g}, not {value!r}")
    return float(value)
