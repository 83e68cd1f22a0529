"""Reading the event log of a run: small questions that scenarios and checkers share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hil.bench import Event

SITE_LEASE = "edge-lte-site"
PHONE_LEASE = "edge-lte-phone"
VOICE_CLASSES = ("sip", "rtp", "rtcp")


def load(path: Path) -> list[Event]:
    """All events of a file, by time."""
    events: list[Event] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a JSON object: {error}") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("t"), int | float):
            raise TypeError(f"{path}, line {number}: an event needs a time t in seconds")
        events.append(entry)
    return sorted(events, key=lambda event: float(event["t"]))


def of(events: Iterable[Event], source: str, event: str, **fields: Any) -> list[Event]:
    """The events of one source and kind whose fields are these."""
    return [
        entry
        for entry in events
        if entry["source"] == source
        and entry["event"] == event
        and all(entry.get(key) == value for key, value in fields.items())
    ]


def first(events: Iterable[Event], since_s: float = 0.0) -> Event | None:
    """The first of them at or after ``since_s``."""
    return next((event for event in events if event["t"] >= since_s), None)


def marked(events: Iterable[Event], label: str) -> float | None:
    """When the story noted ``label``; its last note counts."""
    found = of(events, "bench", label)
    return float(found[-1]["t"]) if found else None


def sentences(events: Iterable[Event], command: str, word: str = "") -> list[Event]:
    """API sentences of a command that contain a word; ``t`` is the first byte's."""
    return [
        event
        for event in of(events, "router", "sentence")
        if event["words"][:1] == [command] and (not word or any(word in part for part in event["words"][1:]))
    ]


def leases_taken(events: Iterable[Event], name: str = SITE_LEASE) -> list[Event]:
    """The sentences that take a lease of this list."""
    return sentences(events, "/ip/firewall/address-list/add", f"list={name}")


def leases_removed(events: Iterable[Event]) -> list[Event]:
    """The sentences that give leases back."""
    return sentences(events, "/ip/firewall/address-list/remove")


def registered(events: Iterable[Event], user: str, address: str, since_s: float) -> float | None:
    """When a phone was first bound at ``address`` after ``since_s``."""
    found = first(of(events, "kamailio", "registered", user=user, address=address), since_s)
    return float(found["t"]) if found else None


def voice_started(events: Iterable[Event], link: str, since_s: float) -> Event | None:
    """The first delivered voice packet from the site on a link; the agent's own OPTIONS are not voice."""
    for event in of(events, "emulator", "flow_started", link=link, direction="up", verdict="delivered"):
        if event["t"] >= since_s and event["class"] in VOICE_CLASSES and event.get("sip_method") != "OPTIONS":
            return event
    return None


def totals(events: Sequence[Event], label: str) -> dict[str, dict[str, int]]:
    """What had crossed when the story captured ``label``: "link/direction/class" -> packets, bytes, drops by reason."""
    found = of(events, "emulator", "totals", label=label)
    return dict(found[-1]["totals"]) if found else {}


def grown(events: Sequence[Event], before: str, after: str, key: str, counter: str) -> int | None:
    """How much one counter grew between two captures; None when one of them is missing."""
    first_totals, last_totals = totals(events, before), totals(events, after)
    if not first_totals or not last_totals:
        return None
    return last_totals.get(key, {}).get(counter, 0) - first_totals.get(key, {}).get(counter, 0)
