"""Event files and the questions asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil import events as seen
from hil.bench import BenchBroken, Event


def test_events_come_by_time_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"t":2,"source":"a","event":"y"}\n{"t":1.5,"source":"a","event":"x\u2028"}\n\n')
    assert [event["event"] for event in seen.load(path)] == ["x\u2028", "y"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"t":1,"sour', "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"source":"a","event":"x"}', "time t"),
        ('{"t":"1","source":"a","event":"x"}', "time t"),
        ('{"t":NaN,"source":"a","event":"x"}', "time t"),
        ('{"t":true,"source":"a","event":"x"}', "time t"),
        ('{"t":1,"event":"x"}', "a source"),
        ('{"t":1,"source":"a"}', "an event needs a event"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"t":1,"source":"a","event":"x"}\n' + line + "\n")
    with pytest.raises(ValueError, match=f"events.jsonl, line 2: .*{says}"):
        seen.load(path)


def sentence(t: float, *words: str) -> Event:
    return {"t": t, "source": "router", "event": "sentence", "session": 1, "sentence": int(t), "words": list(words)}


def test_leases_are_told_apart_by_their_list() -> None:
    add = "/ip/firewall/address-list/add"
    events = [
        sentence(1, add, "=list=edge-lte-phone", "=address=192.168.88.11"),
        sentence(2, add, "=list=edge-lte-site"),
        sentence(3, "/ip/firewall/address-list/print", "?list=edge-lte-site"),
        sentence(4, "/ip/firewall/address-list/remove", "=.id=*1"),
    ]
    assert [event["t"] for event in seen.leases_taken(events)] == [2]
    assert [event["t"] for event in seen.leases_taken(events, seen.PHONE_LEASE)] == [1]
    assert [event["t"] for event in seen.leases_removed(events)] == [4]


def test_a_lease_given_back_is_told_from_other_entries_by_what_its_id_stood_for_then() -> None:
    add, remove = "/ip/firewall/address-list/add", "/ip/firewall/address-list/remove"

    def made(t: float, name: str, row_id: str) -> list[Event]:
        reply = {"t": t, "source": "router", "event": "reply", "session": 1, "sentence": int(t), "ret": row_id}
        return [sentence(t, add, f"=list={name}"), reply]

    events = [
        *made(1, "edge-lte-site", "*1"),
        *made(2, "edge-phones", "*2"),
        *made(3, "edge-wan-site", "*3"),
        sentence(4, remove, "=.id=*2"),
        sentence(5, remove, "=.id=*3"),
        sentence(6, remove, "=.id=*7,*1"),
        *made(7, "edge-phones", "*1"),  # after a reboot
        sentence(8, remove, "=.id=*1"),
    ]
    assert [event["t"] for event in seen.released(events)] == [6]
    assert seen.released(events, 6.5) == []
    assert sorted(event["t"] for event in seen.lease_changes(events)) == [1, 3, 5, 6]


def test_the_agents_own_options_and_undelivered_packets_are_not_voice() -> None:
    flow = {"source": "emulator", "event": "flow_started", "link": "lte", "direction": "up", "verdict": "delivered"}
    events: list[Event] = [
        {**flow, "t": 1, "class": "sip", "sip_method": "OPTIONS"},
        {**flow, "t": 2, "class": "rtp", "verdict": "spoofed"},
        {**flow, "t": 3, "class": "icmp"},
        {**flow, "t": 4, "class": "sip", "sip_method": "REGISTER"},
    ]
    found = seen.voice_started(events, "lte", 0.0)
    assert found is not None
    assert found["t"] == 4


def test_counters_grow_between_captures_and_a_reset_between_them_is_no_verdict() -> None:
    def capture(t: float, label: str, packets: int) -> Event:
        totals = {"wan/up/sip": {"voice_packets": packets}}
        return {"t": t, "source": "emulator", "event": "totals", "label": label, "totals": totals}

    events = [capture(1, "a", 5), capture(2, "b", 7)]
    assert seen.grown(events, "a", "b", "wan/up/sip", "voice_packets") == 2
    assert seen.grown(events, "a", "missing", "wan/up/sip", "voice_packets") is None
    with pytest.raises(BenchBroken, match="shrank"):
        seen.grown(events, "b", "a", "wan/up/sip", "voice_packets")
