"""Flow keys, classes and the flow table, from bytes alone."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from hil.virtual.emulator_packet import parse, sip_method
from hil.virtual.emulator_record import Budget, FlowTable

SITE, SBC, TARGET = "192.0.2.2", "203.0.113.10", "203.0.113.129"


def frame(protocol: int, src: str, dst: str, payload: bytes, *, fragment: int = 0, padding: int = 0) -> bytes:
    length = 20 + len(payload)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, fragment, 64, protocol, 0)
    packet = header + socket.inet_aton(src) + socket.inet_aton(dst) + payload
    return bytes(12) + b"\x08\x00" + packet + bytes(padding)


def udp(src: str, sport: int, dst: str, dport: int, payload: bytes = b"x" * 20) -> bytes:
    return frame(17, src, dst, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload)


def tcp(src: str, sport: int, dst: str, dport: int) -> bytes:
    return frame(6, src, dst, struct.pack("!HH", sport, dport) + bytes(16))


@pytest.mark.parametrize(
    ("given", "flow_class", "detail"),
    [
        (udp(SITE, 5060, SBC, 5060, b"OPTIONS sip:x SIP/2.0"), "sip", "OPTIONS"),
        (udp(SBC, 5060, SITE, 40000, b"SIP/2.0 200 OK"), "sip", "response"),
        (udp(SITE, 5060, SBC, 5060, b"\r\n\r\n"), "sip", "keepalive"),
        (udp(SITE, 5060, TARGET, 5060, b"OPTIONS sip:x SIP/2.0"), "other", ""),
        (tcp(SITE, 40000, SBC, 5061), "sip", ""),
        (udp(SITE, 10000, SBC, 30000, b"\x80\x08" + bytes(170)), "rtp", ""),
        (udp(SBC, 30001, SITE, 10001, b"\x80\xc8" + bytes(26)), "rtcp", ""),
        (udp(SITE, 10000, TARGET, 30000, b"\x80\x08" + bytes(170)), "other", ""),
        (udp(SITE, 40000, "203.0.113.53", 53), "dns", ""),
        (frame(1, SITE, TARGET, b"\x08\x00" + bytes(6)), "icmp", "echo"),
        (frame(17, SITE, SBC, bytes(64), fragment=185), "other", ""),
        (bytes(12) + b"\x86\xdd" + bytes(40), "ipv6", ""),
        (bytes(12) + b"\x08\x06" + bytes(28), "arp", ""),
        (bytes(12) + b"\x88\xcc" + bytes(10), "other", ""),
    ],
)
def test_class_and_detail(given: bytes, flow_class: str, detail: str) -> None:
    key = parse(given)
    assert (key.flow_class, key.detail) == (flow_class, detail)


def test_unknown_methods_do_not_make_keys_of_their_own() -> None:
    assert {sip_method(text) for text in (b"HELLO sip:x", b"GOODBYE sip:y", b"options sip:x")} == {"other"}


class Sink:
    """A table and the events it told."""

    def __init__(self, flows_max: int = 100) -> None:
        self.events: list[dict[str, Any]] = []
        self.table = FlowTable("wan", "up", self.events.append, Budget(flows_max), lambda key: key.src == "10.9.9.9")

    def packet(self, given: bytes, now: float, verdict: str = "delivered") -> None:
        self.table.note(self.table.find(given, now), given, now, verdict)

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


def test_methods_on_one_port_pair_are_flows_of_their_own() -> None:
    sink = Sink()
    for method in (b"OPTIONS", b"REGISTER", b"OPTIONS", b"REGISTER"):
        sink.packet(udp(SITE, 5060, SBC, 5060, method + b" sip:x SIP/2.0"), 1.0)
    assert {row["sip_method"]: row["packets"] for row in sink.table.rows()} == {"OPTIONS": 2, "REGISTER": 2}
    assert [event["sip_method"] for event in sink.events] == ["OPTIONS", "REGISTER"]


def test_rtp_and_rtcp_on_one_port_pair_are_told_apart() -> None:
    sink = Sink()
    for n in range(4):
        sink.packet(udp(SITE, 10000, SBC, 30000, bytes([0x80, 200 if n == 2 else 8]) + bytes(40)), 1.0 + n * 0.02)
    assert {row["class"]: row["packets"] for row in sink.table.rows()} == {"rtp": 3, "rtcp": 1}


def test_a_flow_is_told_at_its_start_after_idling_and_when_its_verdict_changes_but_not_for_bad_luck() -> None:
    sink = Sink()
    given = udp(SITE, 4000, TARGET, 4000)
    story = ["delivered", "loss", "delivered", "blackhole", "blackhole", "delivered"]
    for n, verdict in enumerate(story):
        sink.packet(given, 10.0 + n * 0.5, verdict)
    sink.packet(given, 14.0)
    assert [(event["t"], event["verdict"]) for event in sink.events] == [
        (10.0, "delivered"),
        (11.5, "blackhole"),
        (12.5, "delivered"),
        (14.0, "delivered"),
    ]
    row = sink.table.rows()[0]
    assert (row["packets"], row["delivered_packets"]) == (7, 4)
    assert row["dropped"]["blackhole"]["packets"] == 2
    assert row["max_gap_s"] == pytest.approx(1.5)


def test_a_gap_is_told_for_rtp_only_and_measured_among_the_delivered_too() -> None:
    sink = Sink()
    media, other = udp(SITE, 10000, SBC, 30000), udp(SITE, 10000, TARGET, 30000)
    for n, verdict in enumerate(["delivered", "blackhole", "blackhole", "delivered"]):
        sink.packet(media, 10.0 + n * 0.02, verdict)
    sink.packet(media, 10.2)
    sink.packet(other, 10.0)
    sink.packet(other, 10.9)
    gaps = [event for event in sink.events if event["event"] == "gap"]
    assert [event["gap_s"] for event in gaps] == [pytest.approx(0.14)]
    row = next(row for row in sink.table.rows() if row["class"] == "rtp")
    assert row["max_delivered_gap_s"] == pytest.approx(0.14)


def media(number: int, source: bytes = b"from") -> bytes:
    header = struct.pack("!BBHI", 0x80, 8, number % (1 << 16), number * 160 % (1 << 32))
    return udp(SITE, 10000, SBC, 30000, header + source + bytes(160))


def test_by_the_medias_own_clock_a_late_packet_is_no_gap_and_a_missing_one_is() -> None:
    def gap_s(*packets: tuple[int, float, str]) -> float:
        sink = Sink()
        for number, now, verdict in packets:
            sink.packet(media(number), now, verdict)
        return float(sink.table.rows()[0]["max_media_gap_s"])

    ok = "delivered"
    assert gap_s((1, 1.0, ok), (2, 1.9, ok), (3, 1.9, ok)) == pytest.approx(0.02), "sent late"
    assert gap_s((1, 1.0, ok), (2, 1.02, "blackhole"), (3, 1.04, "loss"), (4, 1.06, ok)) == pytest.approx(0.06)
    assert gap_s((1, 1.0, ok), (9, 1.01, ok)) == pytest.approx(0.16), "never came here"
    assert gap_s((1, 1.0, ok), (3, 1.02, ok), (2, 1.03, ok), (4, 1.04, ok)) == pytest.approx(0.04), "overtaken"
    assert gap_s(((1 << 32) // 160, 1.0, ok), ((1 << 32) // 160 + 1, 1.02, ok)) == pytest.approx(0.02), "wraps"


def test_another_source_and_a_reset_begin_the_medias_clock_anew() -> None:
    sink = Sink()
    sink.packet(media(1), 1.0)
    sink.packet(media(5000, b"else"), 1.02)
    assert sink.table.rows()[0]["max_media_gap_s"] == 0.0
    sink.table.reset()
    sink.packet(media(6000, b"else"), 1.04)
    assert sink.table.rows()[0]["max_media_gap_s"] == 0.0


def test_the_moments_of_pings_are_kept_by_target_whatever_is_reset() -> None:
    sink = Sink()
    for n, verdict in enumerate(["delivered", "blackhole"]):
        sink.packet(frame(1, SITE, TARGET, b"\x08\x00" + bytes(6)), 1.0 + n, verdict)
        sink.table.reset()
    sink.packet(frame(1, SITE, SBC, b"\x00\x00" + bytes(6)), 3.0)  # an answer
    assert sink.table.pings() == {TARGET: [1.0, 2.0]}


def test_link_layer_padding_is_not_counted() -> None:
    sink = Sink()
    sink.packet(frame(1, SITE, TARGET, b"\x08\x00" + bytes(6), padding=18), 1.0)
    assert sink.table.rows()[0]["bytes"] == 28


def test_marked_bytes_are_counted_where_the_text_is() -> None:
    sink = Sink()
    sink.table.marks["secret"] = b"secret"
    for payload in (b"a secret here", b"nothing here!"):
        sink.packet(udp(SITE, 4000, TARGET, 4000, payload), 1.0)
    row = sink.table.rows()[0]
    assert (row["bytes"], row["marked_bytes"]) == (82, {"secret": 41})


def test_beyond_the_limit_keys_are_counted_together_and_still_judged_one_by_one() -> None:
    sink = Sink(flows_max=3)
    for port in range(4000, 4010):
        sink.packet(udp(SITE, port, TARGET, 4000), 1.0)
    assert sink.table.find(udp("10.9.9.9", 4999, TARGET, 4000), 1.0).spoofed
    assert not sink.table.find(udp(SITE, 4998, TARGET, 4000), 1.0).spoofed
    rows = sink.table.rows()
    assert [row["packets"] for row in rows if not row["overflow"]] == [1, 1, 1]
    assert [row["packets"] for row in rows if row["overflow"]] == [7]
    assert sink.names().count("overflow") == 1


def test_a_reset_zeroes_the_rows_and_is_no_news_about_a_flow() -> None:
    sink = Sink()
    given = udp(SITE, 4000, TARGET, 4000)
    sink.packet(given, 1.0)
    sink.table.reset()
    assert sink.table.rows() == []
    sink.packet(given, 1.5)
    assert (sink.names(), sink.table.rows()[0]["packets"]) == (["flow_started"], 1)


def test_the_last_voice_is_the_last_packet_of_a_phone_delivered_or_not() -> None:
    sink = Sink()
    assert sink.table.last_voice() == (None, None)
    sink.packet(udp(SITE, 5060, SBC, 5060, b"REGISTER sip:x SIP/2.0"), 1.0)
    sink.packet(udp(SITE, 10000, SBC, 30000, b"\x80\x08" + bytes(170)), 2.0, "blackhole")
    sink.packet(udp(SITE, 40001, SBC, 5060, b"OPTIONS sip:x SIP/2.0"), 3.0)
    sink.packet(udp(SITE, 4000, TARGET, 4000), 4.0)
    assert sink.table.last_voice() == (2.0, 1.0)
