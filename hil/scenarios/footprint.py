"""What the agent costs the machine it runs on: memory, processor, and writes to its card, over a quarter of an hour.

Ten idle minutes, then some with one failover and failback, a call and all of the mails in them. Memory is the peak of
the process's whole life, processor time that of all these minutes, as a share of one core of the machine here.

Writes are counted at the block device, so that what the file system adds is in them. A day is reckoned as the idle part
scaled to 24 hours plus the bytes of the other part once: a site fails over on few days, and never all day. What the
agent writes each ten minutes falls once into the idle part, wherever its phase.

What is scaled are the commits that come by themselves, of what was measured; the store's own journal tells them from
those that have a cause, such as a path that seemed dead for a moment on a busy machine. One of those counts once, with
its share of the bytes, as an incident does. Few may have one (``commits_with_a_cause``): in ten quiet minutes nothing
happens at a site.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps
from hil.virtual import addresses as plan

SETTLE_S = 40.0  # what the start has written is on its way to the device for half a minute
IDLE_S = 620.0  # more than the ten minutes for which the agent lets its records wait
INCIDENT_S = 190.0
AWAY_S = 75.0  # longer than a mail waits to see whether the line comes back
BACK_S = 60.0
DAY_S = 86400.0
WASTED_S = 15.0
MIB, MB = 1 << 20, 1_000_000
RSS_MIB, CPU_PERCENT, DAY_MB = 40.0, 2.0, 15.0
CAUSES_MAX = 3
BY_THEMSELVES = {"facts", "state"}  # kinds of journal lines
BEGIN, IDLE, END = "begin", "idle part over", "end"
MEASURES = (
    Measure("rss_peak_mib", "MiB", RSS_MIB),
    Measure("cpu_percent", "%", CPU_PERCENT),
    Measure("written_day_mb", "MB", DAY_MB),
    Measure("commits_with_a_cause", "", CAUSES_MAX),
    Measure("failovers", "", 1, "equal"),
    Measure("mails", "", 4, "equal"),
    Measure("rss_idle_mib", "MiB", None, "info"),
    Measure("cpu_idle_percent", "%", None, "info"),
    Measure("written_idle_mb_a_day", "MB", None, "info"),
    Measure("written_incident_mb", "MB", None, "info"),
)


async def story(bench: Bench) -> None:
    """Idle, an outage, and neighbours that waste what the agent saves."""
    await bench.use_own_disk()
    await bench.start_site()
    await bench.sleep(SETTLE_S)
    begun_s = bench.now()
    await bench.note_usage(BEGIN)
    await bench.sleep(IDLE_S)
    await bench.note_usage(IDLE)
    await bench.note_store(IDLE)
    await _outage(bench)
    await bench.sleep(max(0.0, begun_s + IDLE_S + INCIDENT_S - bench.now()))
    await bench.note_usage(END)
    for what in ("cpu", "memory", "disk"):
        await bench.waste(what, WASTED_S)


async def _outage(bench: Bench) -> None:
    """Away for a while, and home again."""
    await bench.place_call("p4", 10.0)
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    await bench.hang_up("p4")
    await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), AWAY_S, cut_s)
    await bench.sleep(max(0.0, cut_s + AWAY_S - bench.now()))
    back_s = await bench.restore("wan")
    bench.observe("restored", at_s=back_s)
    await bench.wait(_steps.is_release(bench), BACK_S, back_s)
    await _steps.all_mails(bench, 4, BACK_S)


def figures(events: Sequence[Event]) -> Samples:
    """From the readings of /proc and of the block device, the router's wire and exim."""
    begin, idle, end = (_reading(events, label) for label in (BEGIN, IDLE, END))
    if not begin or not idle or not end:
        return {}
    incident_mb = (end["written_bytes"] - idle["written_bytes"]) / MB
    caused, count = _commits(events, begin, idle)
    return {
        "rss_peak_mib": [end["rss_peak_bytes"] / MIB],
        "cpu_percent": [_cpu_percent(begin, end)],
        "written_day_mb": [_idle_day_mb(begin, idle, caused, count) + incident_mb],
        "commits_with_a_cause": [float(caused)],
        "failovers": [float(len(seen.leases_taken(events)))],
        "mails": [float(len(seen.of(events, "exim", "delivered")))],
        "rss_idle_mib": [idle["rss_bytes"] / MIB],
        "cpu_idle_percent": [_cpu_percent(begin, idle)],
        "written_idle_mb_a_day": [_written_day_mb(begin, idle)],
        "written_incident_mb": [incident_mb],
    }


def _commits(events: Sequence[Event], begin: Event, idle: Event) -> tuple[int, int]:
    """Of the idle part, how many had a cause, and how many there were."""
    noted = seen.of(events, "store", "store", label=IDLE)
    found = [one for one in noted[-1]["commits"] if begin["t"] < one["at_s"] <= idle["t"]] if noted else []
    return sum(not BY_THEMSELVES.issuperset(one["kinds"]) for one in found), len(found)


def _idle_day_mb(begin: Event, idle: Event, caused: int, count: int) -> float:
    """A day of idle parts, MB; what had a cause counts once. Without a commit of the other kind all counts as such."""
    if caused == count:
        return _written_day_mb(begin, idle)
    once_mb = float(idle["written_bytes"] - begin["written_bytes"]) / MB * caused / count
    return _written_day_mb(begin, idle) * (1 - caused / count) + once_mb


def _reading(events: Sequence[Event], label: str) -> Event | None:
    return seen.first(seen.of(events, "bench", "usage", label=label))


def _cpu_percent(first: Event, last: Event) -> float:
    return float((last["cpu_s"] - first["cpu_s"]) / (last["t"] - first["t"]) * 100.0)


def _written_day_mb(first: Event, last: Event) -> float:
    return float((last["written_bytes"] - first["written_bytes"]) / (last["t"] - first["t"]) * DAY_S / MB)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """The same readings of a process that never rests, of one that fills memory, of one that writes each second."""
    said = {}
    for what in ("cpu", "memory", "disk"):
        first, last = (_reading(events, f"{what} wasted {when}") for when in ("from", "until"))
        if first and last:
            found = {
                "cpu": _cpu_percent(first, last) / CPU_PERCENT,
                "memory": last["rss_peak_bytes"] / MIB / RSS_MIB,
                "disk": _written_day_mb(first, last) / DAY_MB,
            }[what]
            said[what] = "bit" if found > 1.0 else f"did not bite: {found:.2f} of the limit was seen"
    return said


SCENARIO = Scenario(
    name="footprint",
    purpose="memory, processor and card of the agent's machine over a quarter of an hour with one failover",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("mail-refused",),
    controls=controls,
)
