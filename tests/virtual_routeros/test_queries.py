"""Query words, by the examples of the manual and the stack rules it states."""

from __future__ import annotations

import pytest

from hil.virtual.routeros.plane import Trap
from hil.virtual.routeros.queries import matches

ROW = {"name": "ether1", "type": "ether", "mtu": "1500", "address": "10.0.0.9", "comment": ""}


@pytest.mark.parametrize(
    ("queries", "passes"),
    [
        ([], True),
        (["?name"], True),
        (["?nothing"], False),
        (["?-nothing"], True),
        (["?-name"], False),
        (["?name=ether1"], True),
        (["?=name=ether1"], True),
        (["?name=ether2"], False),
        (["?comment="], True),
        (["?nothing="], False),
        (["?>mtu=900"], True),
        (["?<mtu=900"], False),
        (["?<address=10.0.0.10"], True),
        (["?type=ether", "?mtu=1"], False),
        (["?type=ether", "?mtu=1500"], True),
        (["?type=ether", "?type=vlan", "?#|"], True),
        (["?type=ether", "?type=vlan", "?#|!"], False),
        (["?type=ether", "?type=vlan", "?#&"], False),
        (["?type=vlan", "?#!"], True),
        (["?type=vlan", "?type=ether", "?#1"], False),
        (["?type=vlan", "?type=ether", "?#0"], True),
        (["?type=vlan", "?type=ether", "?#1.!|"], False),
        (["?type=ether", "?#.&"], True),
    ],
)
def test_query_words(queries: list[str], passes: bool) -> None:
    assert matches(queries, ROW) is passes


@pytest.mark.parametrize("query", ["?#&", "?#x", "?#5", "?="])
def test_malformed_queries_are_refused(query: str) -> None:
    with pytest.raises(Trap):
        matches([query], ROW)
