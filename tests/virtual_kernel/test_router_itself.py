"""What the router itself answers by a backup: those who asked by it, and nothing of a LAN host's (clause M1)."""

from __future__ import annotations

import socket
import subprocess

import pytest

from hil.virtual.addresses import CARRIER_GATEWAY, ROUTER_LTE, ROUTER_WAN, SBC
from tests.virtual_kernel.bed import PHONE, Site, within
from tests.virtual_kernel.test_native import canaries_die, provisioned

pytestmark = pytest.mark.bench
MARKER = bytes.fromhex("7a716c65616b")  # what the echo requests carry
CLOSED_PORT = 4499  # nothing of the router's listens there


def pings(site: Site, namespace: str, source: str, target: str) -> bool:
    """Three echo requests; whether any is answered."""
    flags = ["-c", "3", "-i", "0.2", "-W", "1", "-p", MARKER.hex(), "-I", source]
    command = ["ip", "netns", "exec", namespace, "ping", *flags, target]
    return subprocess.run(command, capture_output=True).returncode == 0


class Carrier:
    """What arrives at the far end of LTE."""

    def __init__(self, site: Site) -> None:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            made.bind(("lte0", 0))
            made.setblocking(False)
            return made

        self.socket = within(site.internet, make)
        site.closing.callback(self.socket.close)

    def marked(self) -> int:
        """How many packets with the marker have come in since the last time."""
        found = 0
        while True:
            try:
                frame, where = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            found += where[2] != socket.PACKET_OUTGOING and MARKER in frame


def knocks(site: Site, target: str) -> None:
    """A LAN host's datagrams to a port that nobody listens at: the router's refusal quotes them."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((PHONE, 0))
        return made

    with within(site.lan, make) as sender:
        for _ in range(3):
            sender.sendto(MARKER * 10, (target, CLOSED_PORT))


def test_what_a_lan_host_asks_of_the_router_does_not_leave_by_lte_clause_m1(any_site: Site) -> None:
    """Its routing rule sends whatever bears the LTE address by LTE, answers to the LAN included."""
    site = any_site
    provisioned(site)
    carrier = Carrier(site)
    pings(site, site.lan, PHONE, ROUTER_LTE)
    knocks(site, ROUTER_LTE)
    assert carrier.marked() == 0
    rest = next(row for row in site.rows("/ip/firewall/filter") if row.get("comment") == "edgeagent:output-lte-rest")
    site.do("/ip/firewall/filter/disable", _id=rest[".id"])
    pings(site, site.lan, PHONE, ROUTER_LTE)
    assert carrier.marked() == 3, "the control: without the rule that drops the rest they do"
    knocks(site, ROUTER_LTE)
    assert carrier.marked() > 0, "and so do its refusals"


def test_who_pings_the_router_by_lte_is_answered_by_lte(any_site: Site) -> None:
    site = any_site
    provisioned(site)
    carrier = Carrier(site)
    assert pings(site, site.internet, CARRIER_GATEWAY, ROUTER_LTE)
    assert carrier.marked() == 3
    assert pings(site, site.internet, SBC, ROUTER_LTE), "from afar, where the owner's default leads by the primary"
    assert carrier.marked() == 3


def test_who_pings_it_by_the_primary_is_never_answered_by_lte_clause_m1(any_site: Site) -> None:
    """Where the native routes lead to LTE the provider's pings of the primary's address go without an answer."""
    site = any_site
    provisioned(site)
    carrier = Carrier(site)
    assert pings(site, site.internet, SBC, ROUTER_WAN)
    canaries_die(site)
    native = [row[".id"] for row in site.rows("/ip/route") if row.get("comment", "").startswith("edgeagent:native-lte")]
    site.wait(lambda: site.row("/ip/route", native[0])["active"] == "true")
    assert not pings(site, site.internet, SBC, ROUTER_WAN)
    assert carrier.marked() == 0
