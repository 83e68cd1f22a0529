"""Which rows of the address lists are leases, and single values as the router may say them."""

from __future__ import annotations

import pytest

from edgeagent.core.facts import Lease
from edgeagent.routeros.leases import held
from edgeagent.routeros.values import is_ipv4, is_prefix, row_id, whole

ROW = {".id": "*9", "list": "edge-lte-phone", "address": "192.168.88.11", "dynamic": "true"}
LISTS = ("edge-lte-site", "edge-lte-phone")
LEASE = Lease("edge-lte-phone", "192.168.88.11")


def test_an_entry_with_a_time_is_a_lease_and_one_without_is_somebodys() -> None:
    static = {".id": "*A", "list": "edge-lte-site", "address": "sbc.example", "dynamic": "false"}
    timed, foreign = held([{**ROW, "address": "192.168.88.11/32", "dynamic": "yes"}, static], LISTS)
    assert timed == {LEASE: "*9"}
    assert foreign == {Lease("edge-lte-site", "sbc.example")}
    assert held([{**ROW, "address": "0.0.0.0/0"}], LISTS)[0] == {Lease("edge-lte-phone", "0.0.0.0/0"): "*9"}


@pytest.mark.parametrize("lacking", [".id", "list", "address"])
def test_a_row_that_lacks_something_is_passed_over_clause_x3(lacking: str) -> None:
    assert held([{key: value for key, value in ROW.items() if key != lacking}], LISTS) == ({}, frozenset())
    assert held([{**ROW, lacking: ""}], LISTS) == ({}, frozenset())


@pytest.mark.parametrize(
    "wrong",
    [{".id": "*1,*2"}, {".id": "9"}, {"list": "friends"}, {"address": "sbc.example"}, {"address": "1.2.3.4/33"}],
)
def test_a_lease_with_an_id_or_address_that_is_none_is_passed_over_clause_x3(wrong: dict[str, str]) -> None:
    assert held([{**ROW, **wrong}], LISTS)[0] == {}


def test_values_that_are_none() -> None:
    assert [row_id({".id": text}) for text in ("*1F", "*1f", "*", "1F", "*1,*2", "*1\n", "")] == ["*1F", *[None] * 6]
    assert row_id({"ret": "*7"}, "ret") == "*7"
    numbers = ("65535", "65536", "9" * 19, "9" * 5000, "-1", "\u0667", "1\n", "")
    assert [whole(text, 65535) for text in numbers] == [65535, *[0] * 7]
    assert whole("9" * 18) == int("9" * 18)
    assert [is_ipv4(text) for text in ("192.0.2.255", "192.0.2.256", "192.0.2", "192.0.2.1\n", "\u0661.1.1.1")] == [
        *(True, False, False, False, False)
    ]
    assert [is_prefix(text) for text in ("192.0.2.1", "0.0.0.0/0", "10.0.0.0/32", "10.0.0.0/33", "x/8")] == [
        *(True, True, True, False, False)
    ]
