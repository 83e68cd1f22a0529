"""What the stories of provisioning compare: which lines of an export may differ while we are there, and which not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hil.bench import Event
from hil.scenarios import _provisioning as steps

PORTS: Event = {"t": 1.0, "source": "bench", "event": "ports", "wan": "ether1", "lte": "ether10"}
OWNERS = [
    '/interface ethernet set [ find default-name=ether10 ] comment="the modem" poe-out=auto-on',
    "/interface ethernet set [ find default-name=ether9 ] poe-out=off",
    "/interface bridge port add bridge=bridge comment=defconf interface=ether9",
    "/interface bridge port add bridge=bridge comment=defconf interface=ether10",
    '/ip dhcp-client add comment=defconf interface=ether1 script=":log info told"',
    '/ip firewall filter add action=drop chain=input comment="defconf: drop invalid" connection-state=invalid',
    "/ip firewall nat add action=masquerade chain=srcnat out-interface-list=WAN",
    "/ip neighbor discovery-settings set discover-interface-list=LAN",
]
OURS = [
    OWNERS[0].replace("auto-on", "off"),
    OWNERS[1],
    OWNERS[2],
    OWNERS[3].replace("comment=defconf", "comment=defconf disabled=yes"),
    OWNERS[4].replace('told"', 'told\\n# edgeagent: from here\\n:put \\"x\\"\\n# edgeagent: to here"'),
    '/ip dhcp-client add add-default-route=no comment="edgeagent:dhcp-lte" interface=ether10 script=":if edgeagent:"',
    '/ip firewall filter add action=accept chain=input comment="edgeagent:in-lte" protocol=icmp',
    *OWNERS[5:7],
    "/ip firewall connection tracking set udp-stream-timeout=3m udp-timeout=3m",
    "/ip firewall service-port set sip disabled=yes",
    "/ip neighbor discovery-settings set discover-interface-list=!edge-backups",
    "/ip service set api-ssl address=192.168.88.2/32 certificate=edgeagent",
    '/user group add name=edgeagent policy="read,write,test,api"',
]


def owners(lines: Sequence[str]) -> list[str]:
    return steps.owners([PORTS], lines)


def test_our_rows_our_access_and_adopted_settings_may_differ() -> None:
    assert steps.differing(owners(OWNERS), owners(OURS)) == 0
    assert len(OURS) - len(owners(OURS)) == 7
    assert owners(OWNERS)[0] == '/interface ethernet set [ find default-name=ether10 ] comment="the modem"'


@pytest.mark.parametrize(
    ("found", "changed"),
    [
        ("connection-state=invalid", "connection-state=invalid,untracked"),
        ("default-name=ether9 ] poe-out=off", "default-name=ether9 ] poe-out=auto-on"),
        ("defconf interface=ether9", "defconf disabled=yes interface=ether9"),
        ("comment=defconf interface=ether1 ", "comment=mine interface=ether1 "),
        ("masquerade chain=srcnat", 'masquerade chain=srcnat comment="edge"'),
    ],
)
def test_nothing_else_may(found: str, changed: str) -> None:
    other = [line.replace(found, changed) for line in OURS]
    assert other != OURS
    assert steps.differing(owners(OWNERS), owners(other)) == 2


def test_neither_a_place_nor_a_row_that_is_gone() -> None:
    swapped = [*OURS[:7], OURS[8], OURS[7], *OURS[9:]]
    assert steps.differing(owners(OWNERS), owners(swapped)) == 2
    assert steps.differing(owners(OWNERS), owners(OURS[:7] + OURS[8:])) == 1


def test_what_the_owner_has_changed_himself_is_expected() -> None:
    export: Event = {"t": 2.0, "source": "bench", "event": "export", "label": "before", "lines": ["a=strict", "b=1"]}
    change: Event = {"t": 3.0, "source": "bench", "event": "owner changed", "found": "=strict", "changed": "=loose"}
    assert steps.expected([export]) == ["a=strict", "b=1"]
    assert steps.expected([export, change]) == ["a=loose", "b=1"]
    assert steps.expected([change]) is None


def test_only_sentences_that_change_something_count() -> None:
    said = ["/login", "/ip/route/print", "/interface/listen", "/ip/route/set", "/ping", "/ip/dhcp-client/add"]
    events: list[Event] = [
        {"t": float(at), "source": "router", "event": "sentence", "words": [word]} for at, word in enumerate(said)
    ]
    assert steps.changing(events, 0.0, 9.0) == 2
    assert steps.changing(events, 0.0, 4.0) == 1
