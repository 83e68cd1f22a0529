"""Which address of an uplink counts."""

from __future__ import annotations

from edgeagent.routeros.uplinks import address_beside


def row(address: str, interface: str = "ether1", **more: str) -> dict[str, str]:
    return {"address": address, "interface": interface, **more}


def test_the_address_beside_the_gateway_counts_wherever_it_stands() -> None:
    block = [row("203.0.113.97/29"), row("192.168.1.2/24"), row("192.0.2.2/24")]
    assert address_beside(block, "ether1", "192.0.2.1") == "192.0.2.2"
    assert address_beside(block[::-1], "ether1", "192.0.2.1") == "192.0.2.2"


def test_without_one_beside_the_gateway_the_first_counts() -> None:
    assert address_beside([row("10.0.0.5/32"), row("10.0.0.6/32")], "ether1", "192.0.2.1") == "10.0.0.5"


def test_disabled_foreign_and_unreadable_rows_do_not_count() -> None:
    rows = [row("192.0.2.2/24", disabled="true"), row("192.0.2.3/24", "ether2"), {"interface": "ether1"}, row("junk")]
    assert address_beside([row("junk")], "ether1", "192.0.2.1") is None
    assert address_beside(rows[:3], "ether1", "192.0.2.1") is None
    assert address_beside([*rows, row("192.0.2.4/24")], "ether1", "192.0.2.1") == "192.0.2.4"
