"""The attributes that are looked at although we do not set them, against what RouterOS knows."""

from __future__ import annotations

import pytest

from edgeagent.routeros import plain
from edgeagent.routeros.rows import Row
from tests.agent.test_sentences_match_schemas import schema, whole

# Why somebody's hand there changes nothing that a row of ours does.
HARMLESS = {
    "comment": "by it the row is known",
    "disabled": "looked at by itself",
    "copy-from": "of add only",
    "place-before": "of add only",
    "chain": "always set by us, or of no meaning before 7.22 (rules)",
    "action": "always set by us",
    "log": "only tells",
    "log-prefix": "only tells",
    "reject-with": "without our action of no meaning",
    "socks5-port": "of another action",
    "socks5-server": "of another action",
    "socksify-service": "of another action",
    "new-dscp": "of another action",
    "new-mss": "of another action",
    "new-packet-mark": "of another action",
    "new-priority": "of another action",
    "new-ttl": "of another action",
    "passthrough": "always set by us where it has a meaning",
    "sniff-id": "of another action",
    "sniff-target": "of another action",
    "sniff-target-port": "of another action",
    "gateway": "always set by us, but for the blackhole",
    "scope": "its default depends on the gateway",
    "target-scope": "its default depends on the gateway",
    "table": "always set by us",
    "name": "always set by us",
}
OF_ROUTES = {"dst-address": "always set by us"}


@pytest.mark.parametrize("menu", [menu for menu in plain.DEFAULTS if menu != "/ip/route/rule"])
def test_every_attribute_of_a_menu_is_looked_at_or_harmless(menu: str) -> None:
    known = set(schema("schema-7.22.3.json")[menu]["commands"]["add"])
    assert known <= {*plain.asked(menu), *HARMLESS, *(OF_ROUTES if menu == "/ip/route" else ())}
    can_unset = bool(schema("schema-7.22.3.json")[menu].get("unset"))
    assert can_unset != (menu in plain.SET_EMPTY)


@pytest.mark.parametrize("menu", ["/ip/firewall/filter", "/ip/firewall/mangle", "/ip/firewall/nat", "/ip/route/rule"])
def test_the_same_on_version_6(menu: str) -> None:
    known = set(whole("fields-6.49-ansible.json")["menus"][menu]["fields"])
    assert known <= {*plain.asked(menu), *HARMLESS, "hw-offload", "routing-table"}


def test_what_means_not_set_is_no_addition() -> None:
    row = Row("/ip/route", "x", {"dst-address": "0.0.0.0/0", "gateway": "192.0.2.1"})
    shown = {"distance": "1", "check-gateway": "none", "pref-src": "", "routing-table": "main", "blackhole": "no"}
    assert list(plain.added(row, shown)) == []
    changed = {"distance": "2", "check-gateway": "ping", "pref-src": "192.0.2.2", "type": "unicast"}
    assert list(plain.added(row, changed)) == [("distance", "1"), ("check-gateway", ""), ("pref-src", "")]
