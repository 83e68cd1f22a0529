"""Clause P2 for what provisioning does: cut off after any sentence, voice has a usable route (kernel routing)."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from edgeagent.routeros import sentences
from edgeagent.routeros.diff import Add, Change, removal_changes
from edgeagent.routeros.ruleset import menus
from hil.virtual.addresses import ISP_GATEWAY, ROUTER_WAN
from tests.virtual_kernel.bed import GUARD_S, PHONE, SILENCE_S, WAN, Phone, Site
from tests.virtual_kernel.test_native import rows

pytestmark = pytest.mark.bench
PORTS = itertools.count(20000)


def owners(site: Site) -> None:
    """As the factory leaves it: a default route and masquerade by the primary, nothing for a backup."""
    site.default_via_wan()
    site.add("/ip/firewall/nat", chain="srcnat", action="masquerade", out_interface=WAN)


def added(site: Site) -> list[Change]:
    return [Add(row.menu, {**row.attributes, "comment": row.comment}) for row in rows(site.version)]


def removed(site: Site) -> list[Change]:
    order = menus(rows(site.version))
    return list(removal_changes({menu: site.rows(menu) for menu in order}, order))


def paths(
    site: Site, changes: Sequence[Change], within_s: float = GUARD_S
) -> Iterator[tuple[str, str | None, str | None]]:
    """After each change: what it was, and by which address a new flow and an old one reach the provider."""
    old = Phone(site, port=next(PORTS))
    for change in changes:
        said = sentences.of_change(change)
        site.loop.call(site.store.sentence(said))
        yield " ".join(said), Phone(site, port=next(PORTS)).ask(within_s=within_s), old.ask(within_s=within_s)


def test_no_sentence_of_an_apply_or_a_removal_leaves_voice_without_its_route_clause_p2(any_site: Site) -> None:
    owners(any_site)
    for work in (added, removed):
        changes = work(any_site)
        assert len(changes) > 50
        for said, new, old in paths(any_site, changes):
            assert (new, old) == (ROUTER_WAN, ROUTER_WAN), said
    assert not removed(any_site)


def reaches_the_router(site: Site, address: str = ROUTER_WAN) -> bool:
    """Whether a LAN host is answered by the router under this address of its own."""
    command = ["ip", "netns", "exec", site.lan, "ping", "-c", "1", "-W", "3", "-I", PHONE, address]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_at_every_prefix_the_lan_reaches_the_router_by_its_public_address_clause_p4(any_site: Site) -> None:
    """Its VPN, its pages by their public name: what it answers a LAN host with that address must not leave by the ISP.

    The control: a rule that sends what bears the address by a table with a default only.
    """
    site = any_site
    owners(site)
    for work in (added, removed):
        for change in work(site):
            said = sentences.of_change(change)
            site.loop.call(site.store.sentence(said))
            assert reaches_the_router(site), " ".join(said)
    site.add("/ip/route", gateway=ISP_GATEWAY, **site.table("edge-wan"))
    site.add(site.rules_menu, src_address=f"{ROUTER_WAN}/32", action="lookup", table="edge-wan")
    assert not reaches_the_router(site)


def test_in_the_reverse_order_some_would(any_site: Site) -> None:
    """The control. Only the routes: what refers to rows that are not there yet would be refused, not harmful."""
    owners(any_site)
    routes = [change for change in added(any_site) if change.menu == "/ip/route" and "routing" not in str(change)]
    assert any(ROUTER_WAN not in (new, old) for _, new, old in paths(any_site, routes[::-1], SILENCE_S))
