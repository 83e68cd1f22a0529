"""The rows that steer: lists, tables, routes, marks and address translation. Pure.

A voice packet is looked up in a path's own table only while its source stands in one of the leased lists; else it goes
as the owner's routing says. Probes never follow a lease (clause P10): prerouting lets them out first and their source
steers them. Media born on a backup stays there until it ends, whatever happens to leases: on kernels that drop a
masqueraded row when the output interface changes, a hole of 10 ms would silence a call for good.

Names: on a backup the queries of voice devices, to whatever server, go to the resolvers of the site and never through
the router's cache, which would mix them with everybody's. So they do while the agent is dead, for nobody then knows by
which line voice goes. At home, with the agent alive, they go where the device sends them.
"""

from __future__ import annotations

import ipaddress

from edgeagent.core.settings import ALIVE_LIST
from edgeagent.routeros.rows import (
    AGENT_HOSTS,
    DEVICES,
    DNS_MARK,
    PROBES,
    RESOLVERS,
    VOICE,
    Dialect,
    Row,
    Uplink,
    Wish,
    mangle,
    media_mark,
    nat,
    table_of,
)

BRIDGE = "edge-probe"  # without ports: it holds the addresses that the router itself pings from
NAMES = "edge-names"  # the chains of name queries
DNS_PROTOCOLS = ("udp", "tcp")
LEARN = "learn-"  # how the names of these rows begin
LEARNT_FOR = "1w"  # a device that has not been answered by the provider for so long is no voice device any more
# Over TCP anything that listens answers a knock. A SIP answer is longer than that (RFC 3261, section 24.1: 500 bytes),
# and than what a SIP server has to say to who speaks another protocol.
LEARNT_TCP_SIZE = "300-65535"
_TO_PROVIDER = {"dst-address-list": VOICE}


def lists(wish: Wish) -> list[Row]:
    """What counts as the provider, as a voice device, as a probe."""
    entries = [(VOICE, prefix) for prefix in wish.voice]
    entries += [(PROBES, uplink.source) for uplink in wish.uplinks]
    entries += [(AGENT_HOSTS, host) for host in wish.agent_hosts]
    entries += [(DEVICES, prefix) for prefix in wish.voice_lans]
    entries += [(RESOLVERS, address) for address in wish.resolvers]
    return [
        Row("/ip/firewall/address-list", f"{name}/{address}", {"list": name, "address": address})
        for name, address in entries
    ]


def routes(wish: Wish, dialect: Dialect) -> list[Row]:
    """A table for each uplink, and what is looked up there whatever the leases say."""
    rows = [*_addresses(wish), dialect.blackhole()]
    for uplink in wish.uplinks:
        table = table_of(uplink)
        rows += [*dialect.table(table), dialect.default_route(table, uplink.gateway)]
    for uplink in wish.uplinks:
        rows.append(dialect.source_rule(f"probe-{uplink.tag}", uplink.source, table_of(uplink), only=True))
        if uplink.address and uplink is not wish.uplinks[0]:
            # What bears this address and left by the primary would be dropped there. The primary's own address has no
            # such rule: it would take the router's answers to the LAN along, for a table of ours knows a default only.
            rows.append(dialect.source_rule(f"own-{uplink.tag}", uplink.address, table_of(uplink), only=False))
    return rows


def _addresses(wish: Wish) -> list[Row]:
    """The router's place in the agent's small subnet, or the addresses that it pings from itself."""
    rows = []
    if wish.alias_address:
        length = ipaddress.IPv4Network(wish.alias_prefix).prefixlen
        address = {"address": f"{wish.alias_address}/{length}", "interface": wish.lan_interface}
        rows.append(Row("/ip/address", "alias", address))
    for uplink in wish.uplinks[1:]:
        if uplink.modem_page:
            address = {"address": uplink.modem_page, "interface": uplink.interface}
            rows.append(Row("/ip/address", f"modem-{uplink.tag}", address))
    if wish.router_pings:
        rows.append(Row("/interface/bridge", "probe-bridge", {"name": BRIDGE, "protocol-mode": "none"}))
        for uplink in wish.uplinks:
            address = {"address": f"{uplink.source}/32", "interface": BRIDGE}
            rows.append(Row("/ip/address", f"probe-address-{uplink.tag}", address))
    return rows


def prerouting(wish: Wish) -> list[Row]:
    """Probes first, then pinned media, then phone leases, then site leases; each ends the search."""
    rows = [mangle("probes", chain="prerouting", action="accept", **{"src-address-list": PROBES})]
    rows += [_to(uplink, "pin", {"connection-mark": media_mark(uplink), **_TO_PROVIDER}) for uplink in wish.uplinks[1:]]
    rows += [_to(uplink, kind, {**leased, **_TO_PROVIDER}) for kind, uplink, leased in _leased(wish)]
    return rows


def _leased(wish: Wish) -> list[tuple[str, Uplink, dict[str, str]]]:
    """Each leased list: its kind, where it leads and how its sources are told; a phone's own goes before the site's."""
    return [
        (kind, uplink, {"src-address-list": f"edge-{uplink.tag}-{kind}"})
        for kind in ("phone", "site")
        for uplink in (*wish.uplinks[1:], wish.uplinks[0])
    ]


def _to(uplink: Uplink, kind: str, match: dict[str, str], chain: str = "prerouting") -> Row:
    steer = {"action": "mark-routing", "passthrough": "no", "new-routing-mark": table_of(uplink)}
    return mangle(f"{kind}-{uplink.tag}", chain=chain, **steer, **match)


def connection_marks(wish: Wish) -> list[Row]:
    """Each voice row carries the uplink it was born on, so that the API can ask for voice rows alone."""
    rows = []
    for uplink in wish.uplinks:
        born = {
            "chain": "forward",
            "action": "mark-connection",
            "passthrough": "no",
            "out-interface": uplink.interface,
            "dst-address-list": VOICE,
            "src-address-list": f"!{PROBES}",
            "connection-state": "new",  # whatever mark the owner's rules have set already
        }
        if uplink.metered:
            media = {"protocol": "udp", "dst-port": f"!{wish.signalling}", "new-connection-mark": media_mark(uplink)}
            rows.append(mangle(f"media-{uplink.tag}", **{**born, **media}))
        rows.append(mangle(f"born-{uplink.tag}", **{**born, "new-connection-mark": table_of(uplink)}))
    return rows


def learning(wish: Wish) -> list[Row]:
    """Voice devices where the site names no subnet of theirs: those that the provider's signalling has answered."""
    if wish.voice_lans:
        return []
    answer = {
        "chain": "forward",
        "action": "add-dst-to-address-list",
        "address-list": DEVICES,
        "address-list-timeout": LEARNT_FOR,
        "src-address-list": VOICE,
        "dst-address-list": f"!{PROBES}",
        "connection-state": "established",
        "src-port": wish.signalling,
    }
    return [
        mangle(f"{LEARN}udp", protocol="udp", **answer),
        mangle(f"{LEARN}tcp", protocol="tcp", **{"packet-size": LEARNT_TCP_SIZE}, **answer),
    ]


def names(wish: Wish) -> list[Row]:
    """The queries of voice devices: steered by the leases, and turned to the first resolver."""
    if not wish.resolvers:
        return []
    asked = {"src-address-list": DEVICES, "dst-port": "53"}
    rows = []
    for protocol in DNS_PROTOCOLS:
        query = {"chain": "prerouting", "protocol": protocol, **asked}
        mark = {"action": "mark-connection", "new-connection-mark": DNS_MARK, "passthrough": "yes"}
        # Whatever its state: a phone asks before it is known, and many keep one socket for all their questions.
        rows.append(mangle(f"dns-mark-{protocol}", **query, **mark))
        rows.append(mangle(f"dns-{protocol}", **query, action="jump", **{"jump-target": NAMES}))
    return rows + [_to(uplink, f"dns-{kind}", leased, NAMES) for kind, uplink, leased in _leased(wish)]


def translation(wish: Wish) -> list[Row]:
    """What leaves by an uplink, and names to the resolver of the site."""
    rows = [*_of_ours(wish), *(_masquerade(f"out-{uplink.tag}", uplink) for uplink in wish.uplinks[1:])]
    if not wish.resolvers:
        return rows
    turn = {"chain": NAMES, "action": "dst-nat", "to-addresses": wish.resolvers[0]}
    rows += [nat(f"dns-{uplink.tag}", **turn, **{"routing-mark": table_of(uplink)}) for uplink in wish.uplinks[1:]]
    rows.append(nat("dns-home", chain=NAMES, action="return", **{"src-address-list": ALIVE_LIST}))
    rows.append(nat("dns-alone", **turn))
    for protocol in DNS_PROTOCOLS:
        query = {"chain": "dstnat", "protocol": protocol, "src-address-list": DEVICES, "dst-port": "53"}
        rows.append(nat(f"dns-{protocol}", **query, action="jump", **{"jump-target": NAMES}))
    return rows


def _of_ours(wish: Wish) -> list[Row]:
    """On the primary what is ours, and no more: its owner translates the rest, and may except what he has to, such as
    the subnets behind a tunnel, or a server with a public address of its own.
    """
    primary = wish.uplinks[0]
    rows = [
        _masquerade(f"voice-out-{primary.tag}", primary, **_TO_PROVIDER),
        _masquerade(f"probes-out-{primary.tag}", primary, **{"src-address-list": PROBES}),
    ]
    if wish.resolvers:
        asked = {"src-address-list": DEVICES, "dst-address-list": RESOLVERS}
        rows.append(_masquerade(f"names-out-{primary.tag}", primary, **asked))
    return rows


def _masquerade(name: str, uplink: Uplink, **match: str) -> Row:
    """Never a fixed address: the uplink's may change, and a row of a flow would outlive it."""
    return nat(name, chain="srcnat", action="masquerade", **{"out-interface": uplink.interface}, **match)
