"""Stories in which nothing must happen: trouble that is no outage. A line that then really dies is their control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps

MEASURES = (
    Measure("failovers", "", 0, "equal"),
    Measure("voice_packets_on_lte", "", 0, "equal"),
    Measure("watched_s", "s", None, "info"),
    Measure("packets_dropped", "", None, "info"),
)
BREAKAGES = ("agent-not-started", "lease-swallowed")


def scenario(
    name: str, purpose: str, trouble: Callable[[Bench], Awaitable[None]], watched_s: Callable[[Bench], float]
) -> Scenario:
    """A scenario that brings the site up, makes ``trouble``, watches, and then really cuts the line."""

    async def story(bench: Bench) -> None:
        await _steps.quiet_start(bench)
        await bench.place_call("p4", 10.0)
        await trouble(bench)
        bench.observe("trouble begins")
        await bench.capture("trouble begins")
        await bench.sleep(watched_s(bench))
        await bench.capture("trouble watched")
        bench.observe("trouble watched")
        await _steps.really_cut(bench)
        await bench.capture("end")

    return Scenario(name, purpose, story, figures, MEASURES, breakages=BREAKAGES, controls=controls)


def figures(events: Sequence[Event]) -> Samples:
    """Leases taken between the beginning of the trouble and its end."""
    begun_s, ended_s = seen.marked(events, "trouble begins"), seen.marked(events, "trouble watched")
    if begun_s is None or ended_s is None:
        return {}
    taken = [event for event in seen.leases_taken(events) if event["t"] < ended_s]
    dropped = [
        seen.grown(events, "trouble begins", "trouble watched", f"wan/{way}/{name}", counter) or 0
        for way in ("up", "down")
        for name in ("icmp", "sip", "rtp", "rtcp")
        for counter in ("dropped_loss", "dropped_filter")
    ]
    return {
        "failovers": [float(len(taken))],
        "voice_packets_on_lte": [float(_on_lte(events, "trouble begins", "trouble watched"))],
        "watched_s": [ended_s - begun_s],
        "packets_dropped": [float(sum(dropped))],
    }


def _on_lte(events: Sequence[Event], since: str, until: str) -> int:
    """Voice of the site on LTE, by whoever's decision: the router has routes of its own."""
    counts = [seen.grown(events, since, until, f"lte/up/{name}", "voice_packets") for name in seen.VOICE_CLASSES]
    return sum(count or 0 for count in counts)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Once the line really is cut, voice is seen on LTE."""
    if not seen.totals(events, "end"):
        return {}
    moved = _on_lte(events, "trouble watched", "end")
    return {"voice on lte": "bit" if moved else "did not bite: none was seen after the cut"}
