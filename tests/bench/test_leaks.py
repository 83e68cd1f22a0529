"""The judge of the leak suite: markers however they are cut up, and a class for what may cross LTE and nothing else."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from hil import scenario
from hil.bench import Event
from hil.report import report
from hil.scenarios import leak_suite
from hil.virtual import addresses as plan
from hil.virtual.emulator_tape import Tape, frames
from hil.virtual.leaks import ATTEMPTS, LABELS, WEB, Attempt, Markers
from hil.virtual.leaks_judge import DOWN, ICMP, ICMPV6, TCP, UDP, UP, Frame, Packet, class_of, judge, parsed
from hil.virtual.leaks_packets import BUILDERS, checksum

MARKERS = Markers("0123ab")
LTE, OLD, PHONE = plan.ROUTER_LTE, plan.ROUTER_WAN, plan.PHONES[0]


def named(name: str) -> Attempt:
    return next(attempt for attempt in ATTEMPTS if attempt.name == name)


def on_wire(packet: bytes, t: float = 1.0, direction: str = UP) -> Frame:
    """With an Ethernet header, and the length that the kernel would fill in."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return Frame(t, direction, bytes(12) + kind + packet)


def sent(attempt: Attempt, label: str, source: str = LTE) -> list[Frame]:
    marker = MARKERS.of(attempt, label).encode()
    source = "2001:db8:88::5" if attempt.ipv6 else source
    return [on_wire(packet) for packet in BUILDERS[attempt.how](source, marker, attempt.where)]


# --- markers -----------------------------------------------------------------------------------------------------


def test_every_attempt_and_situation_has_a_marker_of_its_own() -> None:
    markers = {MARKERS.of(attempt, label) for attempt in ATTEMPTS for label in LABELS}
    assert len(markers) == len(ATTEMPTS) * len(LABELS)
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS)
    assert sum(attempt.preventable for attempt in ATTEMPTS) >= 30


@pytest.mark.parametrize("attempt", [one for one in ATTEMPTS if one.how in BUILDERS], ids=lambda one: one.name)
def test_what_an_attempt_sends_is_known_by_its_marker_in_every_packet(attempt: Attempt) -> None:
    recorded = sent(attempt, "lte")
    found = judge(recorded, MARKERS, 10.0)
    assert list(found.marked) == [(attempt, "lte")]
    assert found.marked[attempt, "lte"].packets == len(recorded)


def test_a_marker_is_found_when_a_resolver_has_changed_its_case() -> None:
    marker = MARKERS.of(named("dns-tunnel-router"), "control")
    assert MARKERS.found(marker.upper().encode()) == {(named("dns-tunnel-router"), "control")}


def test_markers_of_other_runs_and_of_nothing_are_none() -> None:
    assert MARKERS.found(Markers("ffffff").of(ATTEMPTS[0], "lte").encode()) == set()
    assert MARKERS.found(b"zq0123abfff zq0123ab0ff") == set()


def fragment(number: int, at: int, body: bytes, *, more: bool) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, at // 8 | (0x2000 if more else 0), 64, UDP, 0)
    return header + bytes([198, 51, 100, 2]) + bytes([203, 0, 113, 140]) + body


def test_a_marker_that_is_cut_in_two_by_a_fragment_boundary_is_found_in_both_halves_order_regardless() -> None:
    marker = MARKERS.of(named("fragments"), "lte").encode()
    whole = struct.pack("!HHHH", 4000, 4433, 8 + 64, 0) + bytes(35) + marker + bytes(18)
    halves = [fragment(7, 0, whole[:48], more=True), fragment(7, 48, whole[48:], more=False)]
    assert not any(MARKERS.found(half) for half in halves)
    found = judge([on_wire(half) for half in reversed(halves)], MARKERS, 10.0)
    assert found.marked[named("fragments"), "lte"].packets == 2
    assert found.marked[named("fragments"), "lte"].size == len(whole) + 40


def test_fragments_of_another_datagram_with_the_same_number_are_not_joined() -> None:
    marker = MARKERS.of(named("fragments"), "lte").encode()
    whole = struct.pack("!HHHH", 4000, 4433, 8 + 64, 0) + bytes(35) + marker + bytes(18)
    first, last = fragment(7, 0, whole[:48], more=True), fragment(7, 48, whole[48:], more=False)
    assert judge([on_wire(first), on_wire(last, 100.0)], MARKERS, 1000.0).marked == {}


def test_later_fragments_of_voice_have_the_ports_of_their_first() -> None:
    whole = struct.pack("!HHHH", 5060, 5060, 8 + 64, 0) + bytes(64)
    to_sbc = [
        fragment(9, at, whole[at : at + 40], more=not at).replace(bytes([203, 0, 113, 140]), bytes([203, 0, 113, 10]))
        for at in (0, 40)
    ]
    found = judge([on_wire(one) for one in to_sbc], MARKERS, 10.0)
    assert found.classes[False, UP, "voice-signalling"].packets == 2
    assert not found.unclassified


# --- classes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "packet", "name"),
    [
        (UP, Packet(UDP, LTE, plan.SBC, 5060, 5060), "voice-signalling"),
        (UP, Packet(UDP, plan.ROUTER_WAN, plan.SBC, 5060, 5060), "voice-stale"),
        (DOWN, Packet(TCP, plan.SBC, LTE, 5061, 40000), "voice-signalling"),
        (UP, Packet(UDP, LTE, plan.SBC, 10000, 30000), "voice-media"),
        (DOWN, Packet(UDP, plan.SBC, LTE, plan.ODD_MEDIA_PORT, 10000), "voice-media"),
        (UP, Packet(UDP, LTE, plan.PROVIDER_DNS, 40000, 53), "voice-names"),
        (UP, Packet(TCP, LTE, plan.MAIL_SERVER, 40000, 465), "agent-mail"),
        (UP, Packet(ICMP, LTE, plan.NEUTRAL_TARGETS[2], icmp_type=8), "agent-probe"),
        (DOWN, Packet(ICMP, plan.NEUTRAL_TARGETS[2], LTE, icmp_type=0), "agent-probe"),
        (UP, Packet(UDP, "0.0.0.0", "255.255.255.255", 68, 67), "dhcp"),
        (DOWN, Packet(ICMPV6, "fe80::1", "ff02::1", icmp_type=134), "carrier-neighbours"),
        (
            UP,
            Packet(ICMP, LTE, plan.SBC, icmp_type=3, quoted=Packet(UDP, plan.SBC, LTE, 30000, 10000)),
            "icmp-errors",
        ),
        (
            UP,
            Packet(ICMP, OLD, plan.SBC, icmp_type=3, quoted=Packet(UDP, plan.SBC, OLD, 30000, 10000)),
            "voice-stale",
        ),
    ],
)
def test_what_may_cross_has_a_class(direction: str, packet: Packet, name: str) -> None:
    assert class_of(packet, direction) == name


@pytest.mark.parametrize(
    ("direction", "packet"),
    [
        (UP, Packet(UDP, PHONE, plan.SBC, 5060, 5060)),  # voice that is not source-NATed
        (UP, Packet(UDP, LTE, plan.SBC, 5060, 4433)),
        (UP, Packet(TCP, LTE, plan.SBC, 40000, 30000)),
        (UP, Packet(UDP, LTE, WEB, 5060, 5060)),
        (UP, Packet(UDP, LTE, plan.MAIL_SERVER, 40000, 465)),
        (UP, Packet(TCP, LTE, plan.MAIL_SERVER, 40000, 25)),
        (UP, Packet(TCP, LTE, plan.PROVIDER_DNS, 40000, 853)),
        (UP, Packet(ICMP, LTE, WEB, icmp_type=8)),
        (UP, Packet(ICMP, LTE, plan.NEUTRAL_TARGETS[2], icmp_type=0)),
        (UP, Packet(ICMPV6, "fe80::2", "ff02::16", icmp_type=143)),
        (UP, Packet(47, LTE, plan.SBC)),
        (DOWN, Packet(UDP, plan.SBC, PHONE, 5060, 5060)),
        (UP, Packet(ICMP, LTE, WEB, icmp_type=3, quoted=Packet(UDP, WEB, LTE, 443, 10000))),
        (UP, Packet(ICMP, LTE, plan.SBC, icmp_type=3)),
        (UP, Packet(ICMP, OLD, plan.SBC, icmp_type=3)),
        (UP, Packet(ICMP, OLD, WEB, icmp_type=3, quoted=Packet(UDP, WEB, OLD, 443, 10000))),
        (UP, Packet(UDP, OLD, WEB, 10000, 443)),
    ],
)
def test_what_may_not_cross_has_none(direction: str, packet: Packet) -> None:
    assert class_of(packet, direction) is None


@pytest.mark.parametrize(
    ("direction", "asks", "asked", "known"),
    [
        (UP, LTE, plan.CARRIER_GATEWAY, True),
        (UP, OLD, plan.CARRIER_GATEWAY, True),  # for a stale packet that waits
        (DOWN, plan.CARRIER_GATEWAY, LTE, True),
        (DOWN, plan.CARRIER_GATEWAY, OLD, True),  # the answer to that
        (UP, PHONE, plan.CARRIER_GATEWAY, False),
        (UP, LTE, WEB, False),
        (DOWN, OLD, LTE, False),
    ],
)
def test_arp_between_the_router_and_the_carrier_has_a_class(direction: str, asks: str, asked: str, known: bool) -> None:
    body = bytes(14) + socket.inet_aton(asks) + bytes(6) + socket.inet_aton(asked)
    found = judge([Frame(1.0, direction, bytes(12) + b"\x08\x06" + body)], MARKERS, 10.0)
    assert (bool(found.classes), bool(found.unclassified)) == (known, not known)


def test_control_and_judged_part_are_told_apart_by_time() -> None:
    stranger = BUILDERS["udp"](LTE, b"no marker", {"to": WEB, "port": 443})[0]
    found = judge([on_wire(stranger, 1.0), on_wire(stranger, 10.0)], MARKERS, 5.0)
    assert [key[0] for key in found.unclassified] == [False, True]


def test_what_a_flow_repeats_in_the_control_is_no_leak_of_its_own_situation() -> None:
    late = [Frame(10.0, frame.direction, frame.data) for frame in sent(named("quic"), "lte")]
    assert set(judge(late, MARKERS, 5.0).marked) == {(named("quic"), "control")}


def test_what_cannot_be_prevented_is_a_class_and_no_stranger() -> None:
    attempt = named("as-phone-provider")
    found = judge(sent(attempt, "lte"), MARKERS, 10.0)
    assert found.classes[False, UP, "cannot-be-prevented"].packets == 1
    assert not found.unclassified
    assert found.strange_attempts == set()


def test_a_packet_of_an_attempt_that_looks_like_nothing_allowed_is_a_stranger_to_the_classes() -> None:
    assert judge(sent(named("quic"), "lte"), MARKERS, 10.0).strange_attempts == {named("quic")}
    # HTTP on 5060 to the provider looks like SIP from outside: only its marker tells.
    assert judge(sent(named("http-on-sip-port"), "lte"), MARKERS, 10.0).strange_attempts == set()


def test_packets_are_read_back_as_they_were_built() -> None:
    where = {"to": plan.SBC, "port": 5060}
    tcp = parsed(BUILDERS["tcp"](LTE, b"m", where)[0])
    assert tcp is not None
    assert (tcp.protocol, tcp.source, tcp.target, tcp.target_port) == (TCP, LTE, plan.SBC, 5060)
    report = struct.pack("!IHBB", 0x60000000, 36, 0, 1) + bytes(32) + bytes([58, 0, 5, 2, 0, 0, 1, 0, 143]) + bytes(27)
    assert parsed(report) == Packet(ICMPV6, "::", "::", icmp_type=143)
    assert parsed(b"") is None
    assert parsed(b"\x45" + bytes(10)) is None


def test_checksums_are_those_of_the_internet() -> None:
    packet = BUILDERS["tcp"](LTE, b"marker", {"to": plan.SBC, "port": 5060})[0]
    segment = packet[20:]
    assert checksum(packet[12:20] + struct.pack("!BBH", 0, TCP, len(segment)) + segment) == 0


# --- the recording -----------------------------------------------------------------------------------------------


def test_a_recording_is_read_back(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.take(b"first frame", 12.25)
    tape.take(b"second", 13.0)
    tape.close()
    assert list(frames(tmp_path / "tape")) == [(12.25, b"first frame"), (13.0, b"second")]


def test_a_recording_that_is_cut_off_is_no_verdict(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.take(b"first frame", 12.25)
    tape.close()
    (tmp_path / "cut").write_bytes((tmp_path / "tape").read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off"):
        list(frames(tmp_path / "cut"))
    (tmp_path / "other").write_bytes(b"no recording at all, only some text")
    with pytest.raises(ValueError, match="no recording"):
        list(frames(tmp_path / "other"))


# --- the story's verdict -----------------------------------------------------------------------------------------


def run_of(
    *, leaks: str = "", without_control: str = "", stray: int = 0, dumb: str = "", deaf: str = "", unsent: str = ""
) -> dict[str, Any]:
    """The report of a run in which this went wrong."""
    names = [attempt.name for attempt in ATTEMPTS]
    told = {attempt.name: {"why": attempt.why, "preventable": attempt.preventable} for attempt in ATTEMPTS}
    events: list[Event] = []

    def add(source: str, event: str, **fields: Any) -> None:
        events.append({"t": float(len(events)), "source": source, "event": event, **fields})

    add("bench", "attempts", attempts=told, ipv6=True)
    for label in leak_suite.VOICE:
        add("bench", "voice checked", label=label, worked={"call": label != dumb})
        add("bench", "attempted", label=label, sent={name: 0 if name == unsent else 8 for name in names})
    add("bench", "voice checked", label="control", worked={"call": bool(deaf)})
    for attempt in ATTEMPTS:
        if attempt.name != without_control:
            add("carrier", "marked", attempt=attempt.name, label="control", preventable=True, packets=1, bytes=60)
        if attempt.name == leaks:
            fields = {"label": "lte", "preventable": attempt.preventable, "packets": 1, "bytes": 60}
            add("carrier", "marked", attempt=attempt.name, **fields)
    add("carrier", "unclassified", name="stray", direction="up", control=True, packets=9, bytes=900)
    if stray:
        add("carrier", "unclassified", name="stray", direction="up", control=False, packets=stray, bytes=60)
    add("carrier", "recorded", frames=1000, strange=names[:40])
    add("bench", "story ended")
    found = scenario.find("leak-suite")
    run = scenario.judged(found, events, 1, "")
    return report(found.name, "7.22", 1, found.measures, [run])


def missed(said: dict[str, Any]) -> list[str]:
    return [name for name, entry in said["figures"].items() if not entry["ok"]]


def test_a_run_in_which_all_is_well_passes() -> None:
    said = run_of()
    assert said["outcome"] == "passed", said
    assert said["figures"]["attempts"]["value"] == sum(attempt.preventable for attempt in ATTEMPTS)


@pytest.mark.parametrize(
    ("wrong", "figure"),
    [
        ({"leaks": "quic"}, "marked_bytes_at_carrier"),
        ({"stray": 1}, "unclassified_packets"),
        ({"dumb": "lte"}, "voice_checks_failed"),
    ],
)
def test_each_thing_that_must_not_be_fails_alone(wrong: dict[str, Any], figure: str) -> None:
    said = run_of(**wrong)
    assert said["outcome"] == "failed"
    assert missed(said) == [figure]


def test_a_story_that_was_given_up_fails() -> None:
    told = {"label": "primary", "worked": {"call": True}}
    events: list[Event] = [
        {"t": 1.0, "source": "bench", "event": "voice checked", **told},
        {"t": 2.0, "source": "bench", "event": "story ended"},
    ]
    found = scenario.find("leak-suite")
    said = report(found.name, "7.22", 1, found.measures, [scenario.judged(found, events, 1, "")])
    assert said["outcome"] == "failed"


def test_what_cannot_be_prevented_does_not_fail() -> None:
    assert run_of(leaks="newcomer-sip")["outcome"] == "passed"


@pytest.mark.parametrize("wrong", [{"without_control": "quic"}, {"unsent": "quic"}, {"deaf": "yes"}])
def test_a_run_that_proves_nothing_is_an_error(wrong: dict[str, Any]) -> None:
    said = run_of(**wrong)
    assert said["outcome"] == "error"
    assert "did not bite" in said["problems"][0]
