"""The IPv6 filter of the router on the kernel: what its rows forbid does not pass, and its counters count."""

from __future__ import annotations

import socket

import pytest

from tests.virtual_kernel.bed import LTE, Site, run, within

pytestmark = pytest.mark.bench
FILTER, LISTS = "/ipv6/firewall/filter", "/ipv6/firewall/address-list"
NETS = {"lan": "2001:db8:1::", "lte": "2001:db8:2::"}


@pytest.fixture
def dual(any_site: Site) -> Site:
    """The site with IPv6 on its LAN and its second uplink, made beside the virtual router."""
    site = any_site
    ends = {
        site.lan: ("eth0", f"{NETS['lan']}2/64"),
        site.router: ("bridge", f"{NETS['lan']}1/64"),
        site.internet: ("lte0", f"{NETS['lte']}1/64"),
    }
    for namespace in ends:
        on = " ".join(f"net.ipv6.conf.{which}.disable_ipv6=0" for which in ("all", "default"))
        run(f"ip netns exec {namespace} sysctl -qw {on}")
    run(f"ip netns exec {site.router} sysctl -qw net.ipv6.conf.all.forwarding=1")
    for namespace, (device, address) in ends.items():
        site.ip(namespace, f"-6 addr add {address} dev {device} nodad")
    site.ip(site.router, f"-6 addr add {NETS['lte']}2/64 dev {LTE} nodad")
    site.ip(site.lan, f"-6 route add default via {NETS['lan']}1")
    site.ip(site.internet, f"-6 route add {NETS['lan']}/64 via {NETS['lte']}2")
    site.wait(lambda: passes(site))  # once the link-local addresses have proved to be nobody else's
    return site


def passes(site: Site) -> bool:
    """Whether a datagram of the LAN arrives beyond the second uplink."""

    def made(namespace: str, address: str) -> socket.socket:
        def make() -> socket.socket:
            one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            one.bind((address, 4000))
            one.settimeout(0.5)
            return one

        return within(namespace, make)

    with made(site.lan, f"{NETS['lan']}2") as here, made(site.internet, f"{NETS['lte']}1") as there:
        try:
            here.sendto(b"six", (f"{NETS['lte']}1", 4000))
            return there.recv(100) == b"six"
        except (TimeoutError, OSError):
            return False


def sends(site: Site) -> bool:
    """Whether the router can send a datagram of its own by the second uplink."""

    def send() -> bool:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
            try:
                return own.sendto(b"own", (f"{NETS['lte']}1", 4000)) == 3
            except PermissionError:
                return False

    return within(site.router, send)


def test_a_drop_by_port_holds_and_counts(dual: Site) -> None:
    row = dual.add(FILTER, chain="forward", action="drop", out_interface=LTE)
    assert not passes(dual)
    assert int(dual.row(FILTER, row)["packets"]) >= 1
    dual.do(f"{FILTER}/disable", _id=row)
    assert passes(dual)


def test_a_list_of_prefixes_is_rejected(dual: Site) -> None:
    dual.add(LISTS, list="far", address=f"{NETS['lte']}/48")
    row = dual.add(FILTER, chain="forward", action="reject", reject_with="icmp-no-route", dst_address_list="far")
    assert not passes(dual)
    dual.do(f"{FILTER}/remove", _id=row)
    assert passes(dual)


def test_a_router_that_is_off_or_booting_forwards_and_sends_nothing(dual: Site) -> None:
    site = dual
    assert passes(site)
    site.loop.call(site.engine.stop())
    assert not passes(site)
    assert not sends(site), "nothing of its own either"
    site.loop.call(site.engine.start())
    assert passes(site) and sends(site)
