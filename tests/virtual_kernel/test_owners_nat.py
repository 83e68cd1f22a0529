"""The owner's translation on the primary goes on as it was (clause P4), and what is ours does not depend on it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence

import pytest

from edgeagent.routeros import sentences
from edgeagent.routeros.diff import ruleset_changes
from edgeagent.routeros.rows import Row, nat
from hil.virtual.addresses import ALIAS_PRIMARY, NEUTRAL_TARGETS, ROUTER_LTE, ROUTER_WAN, SBC
from tests.virtual_kernel.bed import PHONE, WAN, Site, udp
from tests.virtual_kernel.test_native import lease, rows
from tests.virtual_kernel.test_prefixes import removed

pytestmark = pytest.mark.bench
PORTS = itertools.count(21000)
NAT = "/ip/firewall/nat"
SECOND = "192.0.2.3"  # another public address of the owner's
MAIL_SERVER, PC = "192.168.88.60", "192.168.88.50"
TUNNELLED, ENCRYPTED = "10.20.0.5", "10.30.0.5"  # hosts behind the owner's tunnels
WEB, RESOLVER = NEUTRAL_TARGETS[2], NEUTRAL_TARGETS[1]
UNMATCHED = nat("out-wan", chain="srcnat", action="masquerade", **{"out-interface": WAN})


class Hosts:
    """Hosts of the internet that tell by which address a packet arrived, whether or not an answer would find back."""

    def __init__(self, site: Site) -> None:
        self.site = site
        for address in (TUNNELLED, ENCRYPTED):
            site.ip(site.internet, f"address add {address}/32 dev lo")
        for address in (MAIL_SERVER, PC, ALIAS_PRIMARY):
            site.ip(site.lan, f"address add {address}/24 dev eth0")
        self.sockets = {address: udp(site.internet, address, 4433) for address in (TUNNELLED, ENCRYPTED, WEB)}
        self.sockets[SBC] = udp(site.internet, SBC, 4433)
        self.sockets[RESOLVER] = udp(site.internet, RESOLVER, 53)
        for one in self.sockets.values():
            site.closing.callback(one.close)

    def saw(self, source: str, target: str, port: int = 4433, *, at: str = "") -> str | None:
        """By which address a packet from ``source`` to ``target`` arrived there, or at the host ``at``."""
        with udp(self.site.lan, source, next(PORTS)) as sender:
            sender.sendto(b"who am I", (target, port))
        with contextlib.suppress(TimeoutError):
            return str(self.sockets[at or target].recvfrom(100)[1][0])
        return None

    def owners(self) -> dict[str, str | None]:
        """What the owner's rules are for."""
        return {
            "behind the tunnel": self.saw(PC, TUNNELLED),
            "behind the other tunnel": self.saw(PC, ENCRYPTED),
            "the mail server": self.saw(MAIL_SERVER, WEB),
            "anybody": self.saw(PC, WEB),
        }


RIGHT = {
    "behind the tunnel": PC,
    "behind the other tunnel": PC,
    "the mail server": SECOND,
    "anybody": ROUTER_WAN,
}


@pytest.fixture
def hosts(any_site: Site) -> Hosts:
    """With an owner who has two addresses on his line, which leads to his other sites too."""
    any_site.default_via_wan()
    any_site.add("/ip/address", address=f"{SECOND}/24", interface=WAN)
    return Hosts(any_site)


def grown(site: Site) -> None:
    """Two ways to keep a tunnel's subnets as they are, a server with an address of its own, and all others."""
    site.add(NAT, chain="srcnat", action="accept", dst_address="10.20.0.0/24")
    site.add(NAT, chain="srcnat", action="src-nat", src_address=MAIL_SERVER, out_interface=WAN, to_addresses=SECOND)
    # The bench has no IPsec: what it would encrypt is told by the address.
    plain = {"ipsec_policy": "out,none", "dst_address": "!10.30.0.0/24"}
    site.add(NAT, chain="srcnat", action="masquerade", out_interface=WAN, **plain)


def applied(site: Site, wanted: Sequence[Row]) -> None:
    """As ``--apply`` does: above all rows of the owner's where order matters. One voice device is known."""
    seen = {menu: site.rows(menu) for menu in dict.fromkeys(row.menu for row in wanted)}
    for change in ruleset_changes(wanted, seen):
        site.loop.call(site.store.sentence(sentences.of_change(change)))
    site.add("/ip/firewall/address-list", list="edge-phones", address=PHONE)


def test_tunnels_and_servers_of_the_owners_go_on_as_they_were_clause_p4(hosts: Hosts) -> None:
    site = hosts.site
    grown(site)
    assert hosts.owners() == RIGHT
    applied(site, rows(site.version, resolvers=(RESOLVER,)))
    assert hosts.owners() == RIGHT
    assert hosts.saw(PHONE, SBC) == ROUTER_WAN
    lease(site, "edge-lte-site", "0.0.0.0/0")
    assert hosts.saw(PHONE, SBC) == ROUTER_LTE
    assert hosts.owners() == RIGHT, "while voice is on LTE too"
    for change in removed(site):
        site.loop.call(site.store.sentence(sentences.of_change(change)))
    assert hosts.owners() == RIGHT


def test_a_row_that_translates_all_would_break_them(hosts: Hosts) -> None:
    """The control: masquerade of whatever leaves by the primary, on top."""
    site = hosts.site
    grown(site)
    applied(site, [*rows(site.version), UNMATCHED])
    assert hosts.owners() == dict.fromkeys(RIGHT, ROUTER_WAN)


def voice(hosts: Hosts) -> str | None:
    return hosts.saw(PHONE, SBC)


def probe(hosts: Hosts) -> str | None:
    return hosts.saw(ALIAS_PRIMARY, WEB)


def name(hosts: Hosts) -> str | None:
    """Of a voice device, with the agent dead: turned to the site's resolver, whomever it asked."""
    return hosts.saw(PHONE, WEB, 53, at=RESOLVER)


@pytest.mark.parametrize(
    ("ask", "ours"), [(voice, "voice-out-wan"), (probe, "probes-out-wan"), (name, "names-out-wan")]
)
def test_what_is_ours_bears_the_lines_address_of_now_whatever_its_owner_translates(
    hosts: Hosts, ask: Callable[[Hosts], str | None], ours: str
) -> None:
    """Clause P8: a flow of a fixed address outlives a change of the line's. The control: our row is off."""
    site = hosts.site
    site.add(NAT, chain="srcnat", action="src-nat", out_interface=WAN, to_addresses=SECOND)
    applied(site, rows(site.version, resolvers=(RESOLVER,)))
    assert ask(hosts) == ROUTER_WAN
    row = next(one for one in site.rows(NAT) if one.get("comment") == f"edgeagent:{ours}")
    site.do(f"{NAT}/disable", _id=row[".id"])
    assert ask(hosts) == SECOND
