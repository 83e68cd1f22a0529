"""``edgeagent addresses``: what the agent needs of the machine and may not do itself. Run as root, once a boot.

The alias addresses of site.toml on the network card that holds the agent's address, and ICMP sockets for its group.
"""

from __future__ import annotations

import argparse
import grp
import sys
from ipaddress import IPv4Interface, IPv4Network

from edgeagent import texts
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.site import Site, load
from edgeagent.host import addresses, clock
from edgeagent.host.addresses import Card

WAIT_S = 30.0  # a card that waits for DHCP may come late; the agent starts after this
LOOK_S = 1.0


def add(commands: Commands) -> None:
    """Declare the command."""
    declared = command(commands, "addresses", main)
    how = declared.add_mutually_exclusive_group(required=True)
    for option in ("--add", "--remove"):
        flag(how, "addresses", option)
    said = texts.help_of("addresses --group")
    declared.add_argument("--group", default="edgeagent", metavar="NAME", help=said)
    said = texts.help_of("addresses --wait")
    declared.add_argument("--wait", type=float, default=WAIT_S, metavar="SECONDS", help=said)


def main(arguments: argparse.Namespace) -> int:
    """Add or remove; 1 where an address is somebody else's or the card did not come, 2 where it cannot be done."""
    site = load(arguments.site)
    try:
        group = grp.getgrnam(arguments.group).gr_gid
        return _add(site, group, arguments.wait) if arguments.add else _remove(site, group)
    except KeyError:
        return _complain(2, "no group", name=arguments.group)
    except OSError as error:
        return _complain(2, "addresses failed", why=str(error))


def aliases(site: Site) -> tuple[IPv4Interface, ...]:
    """The addresses that the agent's card must carry beside the agent's own; empty where a site needs none."""
    if site.router_pings:
        return ()  # the router has them
    length = IPv4Network(site.alias_prefix).prefixlen
    return tuple(IPv4Interface(f"{path.source}/{length}") for path in site.paths)


def _add(site: Site, group: int, wait_s: float) -> int:
    foreign = addresses.allow_pings(group)
    if foreign is not None:
        _complain(1, "ping group foreign", low=foreign[0], high=foreign[1], group=group)
    wanted = aliases(site)
    if not wanted:
        _clear(wanted, "")
        print(texts.screen("addresses none"))
        return 1 if foreign else 0
    card = _card(site.agent_address, wait_s)
    if card is None:
        return _complain(1, "no card", address=site.agent_address, seconds=wait_s)
    _clear(wanted, card.name)
    missing = {str(one.ip): one for one in wanted if not card.has(str(one.ip))}
    taken = addresses.duplicates(card, missing) if missing else {}
    for address, mac in taken.items():
        _complain(1, "address taken", address=address, name=card.name, mac=mac)
    free = {address: one for address, one in missing.items() if address not in taken}
    for one in free.values():
        addresses.add(card, one)
        print(texts.screen("address added", address=str(one), name=card.name))
    if free:
        addresses.announce(card, free)
    elif not taken:
        print(texts.screen("addresses there", name=card.name))
    return 1 if taken or foreign else 0


def _remove(site: Site, group: int) -> int:
    addresses.forbid_pings(group)
    for address, name in _clear(aliases(site), ""):
        print(texts.screen("address removed", address=str(address), name=name))
    return 0


def _clear(wanted: tuple[IPv4Interface, ...], keep: str) -> list[tuple[IPv4Interface, str]]:
    """Take ours off every card, former ones of site.toml too, but leave what is wanted on the card ``keep``.

    What stayed on a card that no longer holds the agent's address would answer there. Returns what was taken off.
    """
    gone: list[tuple[IPv4Interface, str]] = []
    while True:
        stale = [
            (card, one)
            for card in addresses.cards()  # read anew: the kernel may drop a subnet's others with its first
            for one in card.addresses
            if (one in wanted or one in card.labelled) and not (one in wanted and card.name == keep)
        ]
        if not stale:
            return gone
        card, one = stale[0]
        addresses.remove(card, one)
        gone.append((one, card.name))


def _card(address: str, wait_s: float) -> Card | None:
    """The card that holds the agent's address, once it has it and a carrier."""
    end_s = clock.mono_s() + wait_s
    while True:
        found = next((card for card in addresses.cards() if card.has(address) and card.running), None)
        if found is not None or clock.mono_s() >= end_s:
            return found
        addresses.pause(LOOK_S)


def _complain(code: int, what: str, **values: texts.Value) -> int:
    print(texts.screen(what, **values), file=sys.stderr)
    return code
