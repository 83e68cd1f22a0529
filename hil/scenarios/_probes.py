"""Whether the agent's probes were delayed (clause L6): judged by the spacing of its pings on the primary's line.

A ping goes to each target at least once a second, so what a spacing exceeds one second by is a delay. (While the agent
suspects an outage it pings ten times a second; a delay there shows as slow detection.) The control: an agent that
stands still for a while is seen to delay them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event
from hil.virtual import addresses as plan

TARGETS = (plan.SBC, *plan.NEUTRAL_TARGETS[:2])
INTERVAL_S = 1.0
DELAY_S = 1.0
PAUSE_S = 2.5
WATCHED, CONTROL = "probes watched", "probes control"


async def control(bench: Bench) -> None:
    """Let the agent stand still for longer than a probe may be delayed."""
    await bench.reset_gaps()
    await bench.sleep(2.0 * INTERVAL_S)
    await bench.pause_agent(PAUSE_S)
    await bench.sleep(2.0 * INTERVAL_S)
    await bench.probe_gap(CONTROL)


def delay_s(events: Sequence[Event], label: str) -> float | None:
    """The longest delay of a probe of the primary up to the note of this label; None where it was not noted."""
    noted = seen.of(events, "emulator", "probe_gaps", label=label)
    if not noted:
        return None
    gaps = {gap["dst"]: gap for gap in noted[-1]["gaps"] if gap["link"] == "wan"}
    if missing := set(TARGETS) - gaps.keys():
        raise BenchBroken(f"no probe was seen of {', '.join(sorted(missing))}")
    longest: list[float] = [max(gaps[dst]["max_gap_s"], noted[-1]["t"] - gaps[dst]["last_t"]) for dst in TARGETS]
    return max(0.0, max(longest) - INTERVAL_S)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Whether the pause was seen as a delay beyond the limit."""
    late_s = delay_s(events, CONTROL)
    if late_s is None:
        return {}
    return {"probes delayed": "bit" if late_s > DELAY_S else f"did not bite: a pause was seen as {late_s:.2f} s"}
