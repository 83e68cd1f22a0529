"""The rows that say what may pass a backup (clause M1): voice, voice devices' names, the agent's few hosts. Pure.

What may pass has a row of its own for each class and direction, whose counters are what is metered; the rest is
dropped. No row accepts anything merely because it is established: such a flow may have been born on the primary.
"""

from __future__ import annotations

import ipaddress

from edgeagent.routeros.rows import (
    AGENT_HOSTS,
    DEVICES,
    DRILL,
    PROBES,
    RESOLVERS,
    VOICE,
    VOICE6,
    Row,
    Uplink,
    Wish,
    mangle,
    ping_mark,
    rule,
    rule6,
    table_of,
)

KNOWN = {"connection-state": "established,related"}
NAMES_RATE = "20,40:packet"  # a busy site's phones ask some names a minute; a tunnel needs hundreds a second
NEWCOMERS_RATE = "5,20:packet"  # enough for phones that register anew, together
PING_RATE = "5,5:packet"


def forward(wish: Wish) -> list[Row]:
    """What may cross each uplink, voice never fasttracked, and a quick end for TCP that lost its row."""
    rows = [*_drill(wish), _tcp_anew()]
    for uplink in wish.uplinks[1:]:
        rows += [*_out(uplink, wish), *_back(uplink, wish), *_jumps(uplink)]
    return [
        *rows,
        rule("voice-out", chain="forward", action="accept", **KNOWN, **{"dst-address-list": VOICE}),
        rule("voice-in", chain="forward", action="accept", **KNOWN, **{"src-address-list": VOICE}),
    ]


def _drill(wish: Wish) -> list[Row]:
    """The installer's test: the primary is dead for the listed sources, their probes and their voice, nobody else's."""
    primary = wish.uplinks[0]
    listed = {"chain": "forward", "action": "drop", "src-address-list": DRILL, "out-interface": primary.interface}
    back = {"chain": "forward", "action": "drop", "dst-address-list": DRILL, "in-interface": primary.interface}
    return [
        rule("drill-voice", **listed, **{"dst-address-list": VOICE}),
        rule("drill-probes", **listed, **{"dst-address-list": AGENT_HOSTS}),
        rule("drill-back", **back, **{"src-address-list": VOICE}),
    ]


def _tcp_anew() -> Row:
    match = {"dst-address-list": VOICE, "connection-state": "new", "tcp-flags": "!syn"}
    return rule("tcp-anew", chain="forward", action="reject", protocol="tcp", **{"reject-with": "tcp-reset"}, **match)


def _out(uplink: Uplink, wish: Wish) -> list[Row]:
    """From the site. What is not translated was born elsewhere, or belongs to no flow: it would show our addresses."""
    chain, name = f"{table_of(uplink)}-out", f"out-{uplink.tag}"
    accept = {"chain": chain, "action": "accept"}
    voice = {"dst-address-list": VOICE}
    rows = [
        rule(f"{name}-bare", chain=chain, action="drop", **KNOWN, **{"connection-nat-state": "!srcnat"}),
        rule(f"{name}-invalid", chain=chain, action="drop", **{"connection-state": "invalid"}),
        rule(f"{name}-voice", **accept, **{"src-address-list": DEVICES}, **voice),
    ]
    if not wish.voice_lans:  # a phone that is new, or whom a reboot of the router made us forget
        match = {"protocol": "udp", "dst-port": wish.signalling, "limit": NEWCOMERS_RATE}
        rows.append(rule(f"{name}-newcomers", **accept, **voice, **match))
    if wish.resolvers:
        asked = {"src-address-list": DEVICES, "dst-address-list": RESOLVERS, "dst-port": "53", "limit": NAMES_RATE}
        rows += [rule(f"{name}-dns-{protocol}", protocol=protocol, **accept, **asked) for protocol in ("udp", "tcp")]
    if uplink.modem_page:  # it stays between router and modem
        page = {"src-address": wish.agent, "dst-address": _subnet(uplink)}
        rows.append(rule(f"{name}-modem", **accept, **page))
    rows += [rule(f"{name}-agent-{what}", **accept, **match) for what, match in _agent(wish)]
    return [*rows, rule(f"{name}-rest", chain=chain, action="drop")]


def _agent(wish: Wish) -> list[tuple[str, dict[str, str]]]:
    """What the agent itself sends: to its own hosts, and only what it needs there."""
    own = {"src-address-list": PROBES, "dst-address-list": AGENT_HOSTS}
    found = [
        ("ping", {"protocol": "icmp", **own}),
        ("sip", {"protocol": "udp", "dst-port": wish.signalling, **own}),
        ("mail", {"protocol": "tcp", "dst-port": str(wish.mail_port), **own}),
    ]
    if set(wish.resolvers) & set(wish.agent_hosts):  # it resolves the provider's name itself
        ports = {"dst-port": "53", "limit": NAMES_RATE}
        found += [(f"dns-{protocol}", {"protocol": protocol, **own, **ports}) for protocol in ("udp", "tcp")]
    return found


def _back(uplink: Uplink, wish: Wish) -> list[Row]:
    """To the site: answers to what went out, by class."""
    chain, name = f"{table_of(uplink)}-in", f"in-{uplink.tag}"
    answers = {"chain": chain, "action": "accept", "connection-state": "established"}
    rows = [rule(f"{name}-voice", **answers, **{"src-address-list": VOICE})]
    if wish.resolvers:
        rows.append(rule(f"{name}-dns", **answers, **{"src-address-list": RESOLVERS, "dst-address-list": DEVICES}))
    if uplink.modem_page:
        rows.append(rule(f"{name}-modem", **answers, **{"src-address": _subnet(uplink), "dst-address": wish.agent}))
    errors = {"chain": chain, "action": "accept", "protocol": "icmp", "connection-state": "related"}
    return [
        *rows,
        rule(f"{name}-agent", **answers, **{"src-address-list": AGENT_HOSTS, "dst-address-list": PROBES}),
        rule(f"{name}-errors", **errors, limit=PING_RATE),
        rule(f"{name}-rest", chain=chain, action="drop"),
    ]


def _subnet(uplink: Uplink) -> str:
    return str(ipaddress.IPv4Interface(uplink.modem_page).network)


def _jumps(uplink: Uplink) -> list[Row]:
    table = table_of(uplink)
    jump = {"chain": "forward", "action": "jump"}
    return [
        rule(f"jump-out-{uplink.tag}", **jump, **{"out-interface": uplink.interface, "jump-target": f"{table}-out"}),
        rule(f"jump-in-{uplink.tag}", **jump, **{"in-interface": uplink.interface, "jump-target": f"{table}-in"}),
    ]


def router_itself(wish: Wish) -> list[Row]:
    """Provider packets to a port whose row was just removed must leave no row; the router itself keeps off a backup."""
    unasked = {"chain": "input", "action": "drop", "protocol": "udp", "connection-state": "new"}
    rows = [
        rule(f"unasked-{uplink.tag}", **unasked, **{"in-interface": uplink.interface, "src-address-list": VOICE})
        for uplink in wish.uplinks
    ]
    for uplink in wish.uplinks[1:]:
        rows += [_asked(uplink), *_input(uplink), *_output(uplink, wish)]
    return rows


def _asked(uplink: Uplink) -> Row:
    """The pings that came by a backup. A LAN host may ping the router's address there too; its answer has to stay."""
    arriving = {"chain": "input", "in-interface": uplink.interface, "protocol": "icmp", "connection-state": "new"}
    mark = {"action": "mark-connection", "new-connection-mark": ping_mark(uplink), "passthrough": "no"}
    return mangle(f"asked-{uplink.tag}", **arriving, **mark)


def _input(uplink: Uplink) -> list[Row]:
    arriving = {"chain": "input", "in-interface": uplink.interface}
    ping = {"protocol": "icmp", "limit": PING_RATE}
    return [
        rule(f"input-{uplink.tag}-known", action="accept", **arriving, **KNOWN),
        rule(f"input-{uplink.tag}-ping", action="accept", **arriving, **ping),
        rule(f"input-{uplink.tag}-rest", action="drop", **arriving),
    ]


def _output(uplink: Uplink, wish: Wish) -> list[Row]:
    """Its DHCP, its answers to pings that came by here, and the echoes that the agent has it send."""
    leaving = {"chain": "output", "out-interface": uplink.interface}
    name, accept = f"output-{uplink.tag}", {"action": "accept", **leaving}
    dhcp = {"protocol": "udp", "src-port": "68", "dst-port": "67"}
    answers = {"protocol": "icmp", "connection-state": "established", "connection-mark": ping_mark(uplink)}
    rows = [
        rule(f"{name}-dhcp", **accept, **dhcp),
        rule(f"{name}-ping", **accept, **answers, limit=PING_RATE),
    ]
    if wish.router_pings:
        echoes = {"protocol": "icmp", "src-address-list": PROBES, "dst-address-list": AGENT_HOSTS}
        rows.append(rule(f"{name}-agent", **accept, **echoes))
    return [*rows, rule(f"{name}-rest", action="drop", **leaving)]


def ipv6(wish: Wish) -> list[Row]:
    """No IPv6 on a backup. None to the provider on any line: a phone must not register where no lease moves it."""
    if not wish.ipv6:
        return []
    rows = [
        Row("/ipv6/firewall/address-list", f"{VOICE6}/{prefix}", {"list": VOICE6, "address": prefix})
        for prefix in wish.voice6
    ]
    for uplink in wish.uplinks[1:]:
        out, back = {"out-interface": uplink.interface}, {"in-interface": uplink.interface}
        rows += [
            rule6(f"six-{chain}-{uplink.tag}-{way}", chain=chain, action="drop", **port)
            for chain, way, port in (
                ("forward", "out", out),
                ("forward", "in", back),
                ("input", "in", back),
                ("output", "out", out),
            )
        ]
    if wish.voice6:
        away = {"reject-with": "icmp-no-route", "dst-address-list": VOICE6}
        rows.append(rule6("six-voice", chain="forward", action="reject", **away))
    return rows
