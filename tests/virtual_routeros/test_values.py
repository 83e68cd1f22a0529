"""How values may be written and how they are printed back."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from hil.virtual.routeros import values
from hil.virtual.routeros.values import InvalidError, Kind, NoMatchError, format_time_us, parse_time_us


class _Names:
    def names(self, menu: str) -> Collection[str]:
        return {"/interface": ("ether1", "pppoe-out1"), "/routing/table": ("main", "lte")}.get(menu, ())


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("1m", "1m"),
        ("60s", "1m"),
        ("60", "1m"),
        ("00:01:00", "1m"),
        ("1d2h", "1d2h"),
        ("26h", "1d2h"),
        ("179s", "2m59s"),
        ("59", "59s"),
        ("1d 00:00:10", "1d10s"),
        ("1w2d03:04:05", "1w2d3h4m5s"),
        ("500ms", "500ms"),
        ("00:00:01.5", "1s500ms"),
        ("0", "0s"),
    ],
)
def test_durations_print_normalised(written: str, printed: str) -> None:
    assert format_time_us(parse_time_us(written)) == printed


@pytest.mark.parametrize("text", ["", "x", "1y", "-5s", "1m!", "::", "1.5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_time_us(text)


@pytest.mark.parametrize(
    ("kind", "written", "printed"),
    [
        (values.FLAG, "yes", "true"),
        (values.FLAG, "", "true"),
        (values.FLAG, "false", "false"),
        (values.IP_OR_PREFIX, "1.2.3.4/32", "1.2.3.4"),
        (values.IP_OR_PREFIX, "192.0.2.9/24", "192.0.2.0/24"),
        (values.IP_OR_PREFIX, "1.2.3.4-1.2.3.9", "1.2.3.4-1.2.3.9"),
        (values.PREFIX, "1.2.3.4", "1.2.3.4/32"),
        (values.INTERFACE_ADDRESS, "192.168.88.1/24", "192.168.88.1/24"),
        (values.MAC, "aa-bb-cc-dd-ee-0f", "AA:BB:CC:DD:EE:0F"),
        (values.PROTOCOL, "17", "udp"),
        (values.PORTS, "5060,5061,10000-20000", "5060,5061,10000-20000"),
        (values.negatable(values.PORTS), "!5060", "!5060"),
        (values.GATEWAYS, "192.0.2.1@main", "192.0.2.1@main"),
        (values.GATEWAYS, "192.0.2.1%ether1,pppoe-out1", "192.0.2.1%ether1,pppoe-out1"),
        (values.hexadecimal(0xFFFF), "32768", "0x8000"),
        (values.reference("/interface"), "ether1", "ether1"),
    ],
)
def test_values_print_normalised(kind: Kind, written: str, printed: str) -> None:
    assert kind.normalise(written, _Names()) == printed


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (values.FLAG, "maybe"),
        (values.IP, "1.2.3"),
        (values.IP, "1.2.3.0/24"),
        (values.IP_OR_PREFIX, "1.2.3.9-1.2.3.4"),
        (values.PREFIX, "1.2.3.4/33"),
        (values.PORTS, "70000"),
        (values.PORTS, ",".join(["1"] * 16)),
        (values.GATEWAYS, "ether9"),
        (values.GATEWAYS, "192.0.2.1@nowhere"),
        (values.integer(1, 255), "0"),
        (values.integer(1, 255), "x"),
        (values.time("1s"), "500ms"),
    ],
)
def test_wrong_values_are_refused(kind: Kind, text: str) -> None:
    with pytest.raises(InvalidError):
        kind.normalise(text, _Names())


@pytest.mark.parametrize(
    ("kind", "text"),
    [(values.enum("a", "b"), "c"), (values.reference("/interface"), "ether9"), (values.PROTOCOL, "nonsense")],
)
def test_names_of_nothing_do_not_match(kind: Kind, text: str) -> None:
    with pytest.raises(NoMatchError):
        kind.normalise(text, _Names())
