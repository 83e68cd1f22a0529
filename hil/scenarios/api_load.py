"""What the agent costs the router's API while nothing happens, beside 2,000 connections of others in the router.

All of it is the router's own count: its wire, its sessions, its connection table, its log. Bytes are those of the
packets to and from the API, headers and TLS included, and an acknowledgement for every second packet that carries
something, as TCP wants it (RFC 9293 section 3.8.6.3). How many of those really travel by themselves depends on how late
a busy machine answers (Linux waits 40 ms for data to send them with), and not on the agent: 0.4 for each packet were
seen. All bytes of a run are told as ``packet_bytes_per_s``, too. The control is a program that asks for all
connections, all properties, on a new connection each time, four at once: the same counts find it beyond each limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario

FOREIGN_ROWS = 2000
SETTLE_S = 25.0  # the agent's first readings and its first renewal are over
STEADY_S = 80.0
NAIVE_S = 8.0
DAY_S = 86400.0
SENTENCES_PER_S, BYTES_PER_S, CONNECTIONS, RECONNECTS = 2.0, 2000.0, 3.0, 0.0
BEGIN, STEADY, END = "begin", "steady part over", "end"
ACK_BYTES, ACKED_PACKETS = 52, 2  # without options other than time stamps
AGENT, NAIVE = "api-ssl", "api"  # the service of the router that each of them uses
MEASURES = (
    Measure("sentences_per_s", "1/s", SENTENCES_PER_S),
    Measure("bytes_per_s", "B/s", BYTES_PER_S),
    Measure("connections", "", CONNECTIONS),
    Measure("reconnects", "", RECONNECTS, "equal"),
    Measure("log_lines_day", "", None, "info"),
    Measure("sentences_peak", "1/s", None, "info"),
    Measure("packet_bytes_per_s", "B/s", None, "info"),
    Measure("acks_per_s", "1/s", None, "info"),
    Measure("api_bytes_per_s", "B/s", None, "info"),
    Measure("foreign_rows", "", None, "info"),
)


async def story(bench: Bench) -> None:
    """At home, healthy, idle; then the same router with a neighbour that does not care."""
    await bench.start_site()
    await bench.add_foreign_connections(FOREIGN_ROWS)
    await bench.sleep(SETTLE_S)
    await bench.note_api_load(BEGIN)
    await bench.sleep(STEADY_S)
    steady = await bench.note_api_load(STEADY)
    await bench.poll_naively(4, NAIVE_S)
    await bench.note_api_load(END)
    if steady["rows"] < FOREIGN_ROWS:
        raise BenchBroken(
            f"only {steady['rows']} connections were in the router at the end, {FOREIGN_ROWS} were put in"
        )


def figures(events: Sequence[Event]) -> Samples:
    """From the router's sentences and sessions, its connection table and its log."""
    first, last = _load(events, BEGIN), _load(events, STEADY)
    if first is None or last is None:
        return {}
    found = _counted(events, AGENT, first, last)
    lines = float(last["log_lines"] - first["log_lines"])
    told = {
        "log_lines_day": [lines * DAY_S / (last["t"] - first["t"])],
        "foreign_rows": [float(min(first["rows"], last["rows"]))],
    }
    if not found["sentences_per_s"]:
        return told  # an agent that is not there has no load to be judged
    return {**told, **{name: [value] for name, value in found.items()}}


def _load(events: Sequence[Event], label: str) -> Event | None:
    return seen.first(seen.of(events, "router", "load", label=label))


def _counted(events: Sequence[Event], service: str, first: Event, last: Event) -> dict[str, float]:
    """What all clients of one service did between two readings; rates per second."""
    begin_s, end_s = float(first["t"]), float(last["t"])
    opened = {event["session"]: float(event["t"]) for event in seen.of(events, "router", "session_opened")}
    mine = {event["session"] for event in seen.of(events, "router", "session_opened", service=service)}
    closed = {event["session"]: float(event["t"]) for event in seen.of(events, "router", "session_closed")}
    said = [
        float(event["t"])
        for event in seen.of(events, "router", "sentence")
        if event["session"] in mine and begin_s <= event["t"] < end_s
    ]
    moments = [begin_s, *(at_s for number, at_s in opened.items() if number in mine and begin_s <= at_s < end_s)]
    packets, size = _grown(first, last, "packets", service), _grown(first, last, "packet_bytes", service)
    acks = {name: float(last["acks"][service][name] - first["acks"][service][name]) for name in ("packets", "bytes")}
    carrying = packets - acks["packets"]
    open_at = [sum(opened[one] <= at_s < closed.get(one, end_s) for one in mine) for at_s in moments]
    return {
        "sentences_per_s": len(said) / (end_s - begin_s),
        "sentences_peak": float(max((sum(at_s <= one < at_s + 1.0 for one in said) for at_s in said), default=0)),
        "bytes_per_s": (size - acks["bytes"] + carrying / ACKED_PACKETS * ACK_BYTES) / (end_s - begin_s),
        "packet_bytes_per_s": size / (end_s - begin_s),
        "acks_per_s": acks["packets"] / (end_s - begin_s),
        "api_bytes_per_s": _grown(first, last, "api_bytes", service) / (end_s - begin_s),
        "connections": float(max(open_at)),
        "reconnects": float(len(moments) - 1),
    }


def _grown(first: Event, last: Event, counter: str, service: str) -> float:
    """By how much the counts of a service's connections grew; one that is gone at the end no longer has any."""
    before = first[counter]
    return float(
        sum(count - before.get(name, 0) for name, count in last[counter].items() if name.split()[0] == service)
    )


def controls(events: Sequence[Event]) -> dict[str, str]:
    """The same counts of a program that asks for everything again and again."""
    first, last = _load(events, STEADY), _load(events, END)
    if first is None or last is None:
        return {}
    found = _counted(events, NAIVE, first, last)
    limits = {
        "sentences_per_s": SENTENCES_PER_S,
        "bytes_per_s": BYTES_PER_S,
        "connections": CONNECTIONS,
        "reconnects": RECONNECTS,
    }
    return {
        name.replace("_", " "): "bit" if found[name] > limit else f"did not bite: {found[name]:g} was seen"
        for name, limit in limits.items()
    }


SCENARIO = Scenario(
    name="api-load",
    purpose="what the agent asks of the router's API while nothing happens, beside 2,000 connections of others",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started",),
    controls=controls,
)
