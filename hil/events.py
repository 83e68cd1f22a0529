"""Reading the event log of a run: small questions that scenarios and checkers share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hil.bench import BenchBroken, Event

SITE_LEASE = "edge-lte-site"
PHONE_LEASE = "edge-lte-phone"
LEASES = ("edge-alive", "edge-wan-site", "edge-wan-phone", SITE_LEASE, PHONE_LEASE)
LEARNT_LIST = "edge-phones"  # what the router learns by itself: no lease
VOICE_CLASSES = ("sip", "rtp", "rtcp")


def load(path: Path) -> list[Event]:
    """All events of a file, by time. ValueError says in which line something is wrong."""
    lines = path.read_text(encoding="utf-8").split("\n")
    events = [_event(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line]
    return sorted(events, key=lambda event: float(event["t"]))


def _event(line: str, where: str) -> Event:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: not a JSON object")  # noqa: TRY004  (one kind of error for every bad file)
    time_s = entry.get("t")
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not math.isfinite(time_s):
        raise ValueError(f"{where}: an event needs a time t in seconds")
    for name in ("source", "event"):
        if not isinstance(entry.get(name), str):
            raise ValueError(f"{where}: an event needs a {name}")  # noqa: TRY004  (as above)
    return entry


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


def lease_ends(events: Sequence[Event], name: str) -> dict[str, float]:
    """When the lease of each address on a list was given back, by the ids that the router gave and took."""
    rows: dict[str, str] = {}
    for taken in leases_taken(events, name):
        key = {"session": taken["session"], "sentence": taken["sentence"]}
        reply = first(of(events, "router", "reply", **key), taken["t"])
        if reply is not None and "ret" in reply:
            rows[reply["ret"]] = next(
                word[len("=address=") :] for word in taken["words"] if word.startswith("=address=")
            )
    ends: dict[str, float] = {}
    for removed in leases_removed(events):
        for row_id in _value(removed, ".id").split(","):
            if row_id in rows:
                ends[rows[row_id]] = float(removed["t"])
    return ends


def _value(sentence: Event, name: str) -> str:
    """The value of one attribute of a sentence; empty where it has none."""
    words = (word for word in sentence["words"] if word.startswith(f"={name}="))
    return str(next(words, f"={name}="))[len(name) + 2 :]


def leases_removed(events: Iterable[Event]) -> list[Event]:
    """The sentences that take entries out of address lists, leases among them."""
    return sentences(events, "/ip/firewall/address-list/remove")


def released(events: Sequence[Event], since_s: float = 0.0) -> list[Event]:
    """The sentences from then on that give the site's lease of the backup back."""
    return [event for event in _given_back(events, (SITE_LEASE,)) if event["t"] >= since_s]


def lease_changes(events: Sequence[Event]) -> list[Event]:
    """The sentences that take or give back any lease; a renewal changes nothing."""
    return [*(event for name in LEASES for event in leases_taken(events, name)), *_given_back(events, LEASES)]


def _given_back(events: Sequence[Event], names: Sequence[str]) -> list[Event]:
    """Removals of rows of these lists. A router that has rebooted gives the same ids to others."""
    replies = {(reply["session"], reply["sentence"]): reply for reply in of(events, "router", "reply")}
    rows: dict[str, str] = {}  # what each id stands for by then
    found = []
    changes = [*sentences(events, "/ip/firewall/address-list/add"), *leases_removed(events)]
    for event in sorted(changes, key=lambda event: float(event["t"])):
        if event["words"][0].endswith("/add"):
            row_id = replies.get((event["session"], event["sentence"]), {}).get("ret")
            if row_id is not None:
                rows[row_id] = _value(event, "list")
        elif any(rows.get(row_id) in names for row_id in _value(event, ".id").split(",")):
            found.append(event)
    return found


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
    more = int(last_totals.get(key, {}).get(counter, 0)) - int(first_totals.get(key, {}).get(counter, 0))
    if more < 0:
        raise BenchBroken(
            f"{key} {counter} shrank by {-more} between {before!r} and {after!r}: the counters were reset"
        )
    return more


def mails(events: Iterable[Event], kind: str) -> list[Event]:
    """The mails of a kind that the mail server delivered; the Message-ID names it."""
    return [mail for mail in of(events, "exim", "delivered") if f".{kind}." in mail["message_id"]]
