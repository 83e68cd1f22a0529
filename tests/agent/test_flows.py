"""Rows of connection tracking as both versions print them."""

from __future__ import annotations

import random

import pytest

from edgeagent.core.facts import Flow
from edgeagent.core.intents import MoveFlows
from edgeagent.routeros.durations import seconds
from edgeagent.routeros.flows import flow, in_the_way

MEDIA = frozenset({"edge-lte-media"})
SIX = {
    ".id": "*A1",
    "protocol": "udp",
    "src-address": "192.168.88.11:5060",
    "dst-address": "203.0.113.10:5060",
    "reply-dst-address": "192.0.2.2:5060",
    "connection-mark": "edge-wan",
    "timeout": "2m50s",
    "orig-bytes": "1200",
    "repl-bytes": "900",
}
SEVEN = {
    **SIX,
    "src-address": "192.168.88.11",
    "src-port": "5060",
    "dst-address": "203.0.113.10",
    "dst-port": "5060",
    "reply-dst-address": "192.0.2.2",
}


def row(number: int, source: str, nat: str, **more: str) -> dict[str, str]:
    own = {".id": f"*{number:X}", "src-address": f"192.168.88.{source}:5060", "reply-dst-address": f"{nat}:5060"}
    return {**SIX, **own, **{key.replace("_", "-"): value for key, value in more.items()}}


@pytest.mark.parametrize("seen", [SIX, SEVEN], ids=["address:port", "port apart"])
def test_both_ways_of_printing_give_the_same_flow(seen: dict[str, str]) -> None:
    assert flow(seen, 180.0, MEDIA) == Flow(
        "udp", "192.168.88.11", 5060, "203.0.113.10", 5060, "192.0.2.2", 1200, 900, media=False, idle_s=10.0
    )


def test_media_is_udp_beyond_the_sip_ports_and_pinned_by_its_mark() -> None:
    media = {**SEVEN, "dst-port": "30002", "connection-mark": "edge-lte-media"}
    found = flow(media, None, MEDIA)
    assert found is not None
    assert (found.media, found.pinned, found.idle_s) == (True, True, None)
    found = flow({**media, "protocol": "tcp", "connection-mark": "edge-lte"}, 180.0, MEDIA)
    assert found is not None
    assert (found.media, found.pinned, found.idle_s) == (False, False, None)


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 19, "\u0667", "-1", "many"])
def test_a_number_that_is_none_counts_nothing_clause_x3(text: str) -> None:
    found = flow({**SEVEN, "src-port": text, "dst-port": text, "orig-bytes": text, "repl-bytes": text}, 180.0, MEDIA)
    assert found is not None
    assert (found.source_port, found.far_port, found.orig_bytes, found.repl_bytes) == (0, 0, 0, 0)


@pytest.mark.parametrize("text", ["x", "192.0.2.256", "2001:db8::1", "1." * 30_000])
@pytest.mark.parametrize("where", ["src-address", "dst-address", "reply-dst-address"])
def test_a_row_with_an_address_that_is_none_is_passed_over_clause_x3(where: str, text: str) -> None:
    assert flow({**SEVEN, where: text}, 180.0, MEDIA) is None


def test_a_row_whose_id_is_none_is_not_removed_clause_p4_x3() -> None:
    rows = [row(1, "11", "198.51.100.2"), row(2, "12", "198.51.100.2") | {".id": "*2,*3"}]
    assert in_the_way(rows, MoveFlows("primary"), "192.0.2.2", MEDIA) == ["*1"]


@pytest.mark.parametrize("lacking", ["protocol", "src-address", "dst-address", "reply-dst-address"])
def test_a_row_that_lacks_what_identifies_it_is_passed_over(lacking: str) -> None:
    assert flow({key: value for key, value in SIX.items() if key != lacking}, 180.0, MEDIA) is None
    assert flow({**SIX, lacking: ""}, 180.0, MEDIA) is None


def test_rows_of_other_protocols_are_passed_over() -> None:
    assert flow({**SIX, "protocol": "icmp"}, 180.0, MEDIA) is None


def test_junk_never_raises_clause_x3() -> None:
    rng = random.Random(4)
    pieces = [
        "",
        ":",
        "::",
        "a:b:c",
        "192.0.2.1:99999999999999999999",
        "²",
        "-1",
        "1e9",
        "\x00",
        "99d99h",
        "[2001:db8::1]:5060",
    ]
    for _ in range(2000):
        junk = {**SIX, **{key: rng.choice(pieces) for key in rng.sample(list(SIX), 4)}}
        flow(junk, 180.0, MEDIA)
        in_the_way([junk, {}], MoveFlows("lte"), "192.0.2.2", MEDIA)


def test_in_the_way_are_rows_of_another_address_only() -> None:
    rows = [row(1, "11", "192.0.2.2"), row(2, "12", "198.51.100.2"), row(3, "13", "192.0.2.2")]
    assert in_the_way(rows, MoveFlows("lte"), "198.51.100.2", MEDIA) == ["*1", "*3"]
    assert in_the_way(rows, MoveFlows("primary"), "192.0.2.2", MEDIA) == ["*2"]


def test_a_move_of_some_sources_leaves_the_others_and_spared_ones_alone() -> None:
    rows = [row(1, "11", "192.0.2.2"), row(2, "12", "192.0.2.2"), row(3, "13", "192.0.2.2")]
    only = MoveFlows("lte", sources=frozenset({"192.168.88.12"}))
    assert in_the_way(rows, only, "198.51.100.2", MEDIA) == ["*2"]
    assert in_the_way(rows, MoveFlows("lte", sources=frozenset()), "198.51.100.2", MEDIA) == []
    spare = MoveFlows("lte", spare=frozenset({"192.168.88.12"}))
    assert in_the_way(rows, spare, "198.51.100.2", MEDIA) == ["*1", "*3"]


def test_pinned_media_stays_unless_the_move_says_so() -> None:
    rows = [
        row(1, "11", "198.51.100.2", connection_mark="edge-lte-media", dst_address="203.0.113.10:30000"),
        row(2, "11", "198.51.100.2", connection_mark="edge-lte"),
    ]
    assert in_the_way(rows, MoveFlows("primary"), "192.0.2.2", MEDIA) == ["*2"]
    assert in_the_way(rows, MoveFlows("primary", pinned=True), "192.0.2.2", MEDIA) == ["*1", "*2"]


def test_a_row_without_an_id_cannot_be_removed_and_is_passed_over() -> None:
    rows = [{key: value for key, value in SIX.items() if key != ".id"}]
    assert in_the_way(rows, MoveFlows("lte"), "198.51.100.2", MEDIA) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3m", 180),
        ("2m59s", 179),
        ("1h", 3600),
        ("1d2h3m4s", 93784),
        ("23h59m58s", 86398),
        ("0s", 0),
        ("900ms", 0),
        ("1s900ms", 1),
        ("5m500ms", 300),
        ("1w1d", 691200),
        ("2d 03:04:05", 183845),
        ("", None),
        ("soon", None),
        ("9" * 310 + "s", None),
        ("9" * 5000 + "w", None),
        ("9" * 400 + "d 00:00:00", None),
        ("\u0663m", None),
    ],
)
def test_durations_are_read_and_junk_is_none(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


def test_a_row_that_the_provider_opened_is_told_from_the_devices_side() -> None:
    row = {
        "protocol": "udp",
        "src-address": "203.0.113.10:5060",
        "dst-address": "192.0.2.2:5060",
        "reply-src-address": "192.168.88.20:5060",
        "reply-dst-address": "203.0.113.10:5060",
        "orig-bytes": "700",
        "repl-bytes": "300",
        "connection-mark": "edge-wan",
    }
    one = flow(row, None, MEDIA)
    assert one is not None
    assert (one.source, one.far, one.nat, one.orig_bytes, one.repl_bytes) == (
        "192.168.88.20",
        "203.0.113.10",
        "192.0.2.2",
        300,
        700,
    )
