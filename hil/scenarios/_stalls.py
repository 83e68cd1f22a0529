"""How long the agent took to notice, less what the machine kept it from doing.

The agent pings each target at its pace: once a second, ten times a second from the first wholly lost round on. Where
its pings came later than that, as the emulator saw them, either it was slow itself or the machine did not let it run.
The kernel counts the second: how long the agent's threads stood ready and were not run, and what a hypervisor took from
the whole machine. ``bench_stall_s`` is the smaller of the two, of the time from the cut to the lease: an agent that
sleeps, computes or waits for its disk is not kept waiting by the machine, and one that is kept waiting without being
late with a ping lost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hil import events as seen
from hil.bench import Event
from hil.report import Measure, Samples
from hil.scenarios._probes import INTERVAL_S, TARGETS

FAST_S = 0.1
CUT, SWITCHED = "cut", "switched"
TOLD = Measure("bench_stall_s", "s", None, "info")


def detection(events: Sequence[Event], cut_s: float, lease_s: float) -> Samples:
    """``detection_s``, less ``bench_stall_s``, which is told beside it."""
    stall_s = min(late_s(events, cut_s, lease_s), kept_waiting_s(events))
    return {"detection_s": [lease_s - cut_s - stall_s], TOLD.name: [stall_s]}


def late_s(events: Sequence[Event], cut_s: float, lease_s: float) -> float:
    """By how much the pings were behind their pace at the lease; of the targets, the one that was least behind."""
    noted = seen.first(seen.of(events, "emulator", "pings", label=SWITCHED), lease_s)
    if noted is None:
        return 0.0
    return min(_late_s(noted["pings"]["wan"].get(target, []), cut_s, lease_s) for target in TARGETS)


def _late_s(pings_s: Sequence[float], cut_s: float, lease_s: float) -> float:
    before = [at_s for at_s in pings_s if at_s <= cut_s]
    moments = [*before[-1:], *(at_s for at_s in pings_s if cut_s < at_s <= lease_s)]
    spacings = list(itertools.pairwise(moments))
    fast = next((number for number, (one, other) in enumerate(spacings) if other - one < INTERVAL_S / 2), None)
    if fast is None:
        return 0.0
    slow_s = sum(max(0.0, other - max(one + INTERVAL_S, cut_s)) for one, other in spacings[:fast])
    rounds = len(spacings) - fast  # from the first fast one on; the lease ends the last of them
    return slow_s + max(0.0, lease_s - moments[fast + 1] - rounds * FAST_S)


def kept_waiting_s(events: Sequence[Event]) -> float:
    """How long the machine kept the agent waiting between the two notes, as the kernel counts it."""
    begin, end = (seen.first(seen.of(events, "kernel", "kept waiting", label=label)) for label in (CUT, SWITCHED))
    if begin is None or end is None:
        return 0.0
    return sum(max(0.0, float(end[name]) - float(begin[name])) for name in ("agent_s", "stolen_s"))
