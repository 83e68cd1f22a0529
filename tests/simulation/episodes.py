"""What goes wrong, and when: everything random is drawn here, before the run, from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST_S = 1000.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong from ``start_s`` to ``end_s``. ``value``: a delay, a target's index, a switch."""

    kind: str
    start_s: float
    end_s: float
    path: str = "primary"
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Phone ``phone`` would like to talk from ``start_s`` to ``end_s``."""

    phone: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Episode:
    """Faults that belong together; from ``start_s`` to ``end_s`` the run goes round by round."""

    number: int
    kind: str
    start_s: float
    end_s: float
    faults: tuple[Fault, ...]
    calls: tuple[CallPlan, ...]


@dataclass(frozen=True, slots=True)
class PhonePlan:
    """How one phone behaves."""

    expiry_s: float
    keepalive: bool
    offset_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One site's life."""

    seed: int
    phones: tuple[PhonePlan, ...]
    episodes: tuple[Episode, ...]
    latency_s: float
    end_s: float
    again: str = ""  # what to say on the command line to live it again


Maker = Callable[[random.Random, float, tuple[str, ...]], list[Fault]]


def _blip(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    path = rng.choice(paths)
    return [Fault("black", at_s, at_s + rng.uniform(0.05, 1.0), path)]


def _dead_target(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    return [Fault("dead", at_s, at_s + rng.uniform(20, 90), "primary", rng.randrange(3))]


def _dead_canaries(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """The two hosts that the router itself checks go, one after the other."""
    end_s = at_s + rng.uniform(20, 120)
    return [Fault("dead", at_s + rng.uniform(0, 8), end_s + rng.uniform(0, 8), "primary", index) for index in (1, 2)]


def _outage(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    long = rng.random() < 0.06
    return [Fault("black", at_s, at_s + (rng.uniform(200, 900) if long else rng.uniform(3, 60)))]


def _link(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    return [Fault("link", at_s, at_s + rng.uniform(0.3, 40), rng.choice(paths), rng.uniform(0.1, 2.0))]


def _lossy(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """A Gilbert-Elliott channel: good for some seconds, then a burst in which nine packets of ten are lost."""
    found, end_s = [], at_s + rng.uniform(15, 60)
    worst_s = rng.choice((0.25, 0.25, 1.0))
    while at_s < end_s:
        bad_s = rng.expovariate(1 / worst_s)
        found.append(Fault("burst", at_s, at_s + bad_s))
        at_s += bad_s + rng.expovariate(1 / 4.0)
    return found


def _sip_silent(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    end_s = at_s + rng.uniform(20, 100)
    found = [Fault("sip", at_s, end_s, path) for path in paths]
    if rng.random() < 0.3:
        found.append(Fault("black", at_s + 10, end_s - 5))
    return found


def _filtered(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    found = [Fault("filtered", at_s, at_s + rng.uniform(30, 80))]
    if rng.random() < 0.4:
        found.append(Fault("black", at_s + 20, at_s + 30))
    return found


def _nic(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    found = [Fault("nic", at_s, at_s + rng.uniform(0.5, 40))]
    if rng.random() < 0.2:
        found.append(Fault("black", at_s + 5, at_s + 60))
    return found


def _api(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """The API goes away about when it is needed, its last reply lost or not."""
    cut_s, back_s = at_s + 5, at_s + 5 + rng.uniform(5, 50)
    lost_s = rng.choice((cut_s + rng.uniform(1.5, 3.5), back_s + rng.uniform(31.5, 34.5), at_s + rng.uniform(0, 60)))
    out_s = rng.choice((rng.uniform(1, 20), rng.uniform(20, 120)))
    return [Fault("black", cut_s, back_s), Fault("api", lost_s, lost_s + out_s, value=rng.randrange(2))]


def _reboot(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    found = [Fault("reboot", at_s + 10, at_s + 10 + rng.uniform(20, 60))]
    if rng.random() < 0.5:
        found.append(Fault("black", at_s, at_s + rng.uniform(40, 150)))
    return found


def _crash(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    cut_s, back_s = at_s + 5, at_s + 5 + rng.uniform(5, 60)
    moment_s = rng.choice((cut_s + rng.uniform(1.5, 3.5), back_s + rng.uniform(31.5, 34.5), at_s + rng.uniform(0, 60)))
    down_s = rng.choice((rng.uniform(0.5, 10), rng.uniform(10, 90)))
    crash = Fault("crash", moment_s, moment_s + down_s, value=rng.randrange(3))
    return [crash] if rng.random() < 0.2 else [Fault("black", cut_s, back_s), crash]


def _trap(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """The agent dies, or the API goes, at the n-th sentence of a failover or of the way home."""
    back_s = at_s + rng.uniform(4, 25)
    set_s = rng.choice((at_s, back_s + 15))
    kind = rng.choice(("trap crash", "trap api"))
    return [Fault("black", at_s, back_s), Fault(kind, set_s, back_s + 65, value=rng.randrange(1, 8))]


def _backup_dead(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    end_s = at_s + rng.uniform(100, 400)
    found = [Fault("black", at_s, end_s, paths[-1])]
    if rng.random() < 0.6:
        start_s = rng.uniform(at_s + 5, end_s - 10)
        found.append(Fault("black", start_s, start_s + rng.uniform(5, 40)))
    return found


def _flappy(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    found = []
    for _ in range(rng.choice((2, 3, 3, 4, 12))):
        down_s = rng.uniform(3, 12)
        found.append(Fault("black", at_s, at_s + down_s))
        at_s += down_s + rng.uniform(30, 140)
    return found


def _double(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    end_s = at_s + rng.uniform(20, 60)
    start_s = rng.uniform(at_s, end_s + 20)
    return [Fault("black", at_s, end_s), Fault("black", start_s, start_s + rng.uniform(5, 60), paths[1])]


def _late(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    return [Fault("late", at_s, at_s + rng.uniform(5, 30), "primary", rng.uniform(0.2, 0.9))]


def _mail(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """The mail server is away while an outage comes, and perhaps goes; the agent may die meanwhile."""
    cut_s = at_s + rng.uniform(5, 60)
    back_s = cut_s + rng.uniform(3, 200)
    found = [
        Fault(
            rng.choice(("mail", "mail", "mute mail")),
            at_s,
            cut_s + rng.choice((rng.uniform(1, 90), rng.uniform(90, 1500))),
        ),
        Fault("black", cut_s, back_s),
    ]
    if rng.random() < 0.4:
        moment_s = cut_s + rng.uniform(40, 90)
        found.append(Fault("crash", moment_s, moment_s + rng.uniform(0.5, 30), value=rng.choice((0, 1, 2))))
    return found


def _unset_clock(rng: random.Random, at_s: float, paths: tuple[str, ...]) -> list[Fault]:
    """The machine starts anew, its clock is years behind until it has been set, and an outage comes meanwhile."""
    up_s = at_s + rng.uniform(5, 60)
    cut_s = up_s + rng.uniform(5, 60)
    set_s = cut_s + rng.uniform(60, 400)
    return [
        Fault("crash", at_s, up_s, value=2),
        Fault("unset clock", at_s, set_s),
        Fault("black", cut_s, cut_s + rng.uniform(5, 100)),
    ]


KINDS: dict[str, tuple[int, Maker]] = {
    "blip": (11, _blip),
    "dead target": (7, _dead_target),
    "dead canaries": (5, _dead_canaries),
    "outage": (18, _outage),
    "link": (8, _link),
    "lossy": (8, _lossy),
    "sip silent": (4, _sip_silent),
    "icmp filtered": (4, _filtered),
    "own card": (6, _nic),
    "api": (9, _api),
    "reboot": (6, _reboot),
    "crash": (6, _crash),
    "trap": (8, _trap),
    "backup dead": (4, _backup_dead),
    "flappy": (2, _flappy),
    "double": (6, _double),
    "late": (5, _late),
    "mail": (8, _mail),
    "unset clock": (0, _unset_clock),  # not in the mix: it is judged by a test of its own
}


def _calls(rng: random.Random, start_s: float, end_s: float, phones: int) -> tuple[CallPlan, ...]:
    found = []
    for phone in range(phones):
        if rng.random() < 0.35:
            begin_s = rng.uniform(start_s - 40, end_s + 30)
            found.append(CallPlan(phone, begin_s, begin_s + rng.choice((rng.uniform(5, 40), rng.uniform(40, 150)))))
    return tuple(found)


def _phones(rng: random.Random, slow: bool) -> tuple[PhonePlan, ...]:
    found = []
    for index in range(rng.choice((2, 3, 3, 4, 6))):
        expiry_s = rng.choice((60.0, 60.0, 120.0))
        if slow and index == 0:
            expiry_s = 3600.0
        found.append(PhonePlan(expiry_s, rng.random() < 0.4 or expiry_s > 600, rng.uniform(0, 50)))
    return tuple(found)


def make_plan(
    seed: int, episodes: int, paths: tuple[str, ...], mean_gap_s: float, slow: bool = False, only: str = ""
) -> Plan:
    """One site's life: ``episodes`` of them, ``mean_gap_s`` apart in the mean, some close together."""
    rng = random.Random(seed)
    phones = _phones(rng, slow)
    latency_s = rng.uniform(0.02, 0.3)
    names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    found: list[Episode] = []
    at_s = FIRST_S + 600.0
    for number in range(episodes):
        kind = only or rng.choices(names, weights)[0]
        faults = tuple(KINDS[kind][1](rng, at_s, paths))
        end_s = max(fault.end_s for fault in faults) + 8.0
        calls = _calls(rng, at_s, end_s, len(phones))
        found.append(Episode(number, kind, at_s - 3.0, end_s, faults, calls))
        close = rng.random() < 0.25
        at_s = end_s + 10.0 + (rng.uniform(0, 900) if close else rng.expovariate(0.75 / mean_gap_s))
    return Plan(seed, phones, tuple(found), latency_s, at_s + 900.0)
