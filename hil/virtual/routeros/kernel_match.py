"""The matchers of a firewall row as nftables expressions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.kernel_conntrack import CONNECTION_MARK_MASK
from hil.virtual.routeros.kernel_values import IPV4, Family, duration_s, name_of, network_of
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.kernel_nft import Ruleset, World


class Never(Exception):
    """The row matches nothing."""


# Properties of a row that are no matchers.
_NOT_MATCHERS: Final = frozenset({
    ".id", "chain", "action", "comment", "disabled", "dynamic", "invalid", "bytes", "packets", "log", "log-prefix",
    "passthrough", "jump-target", "new-connection-mark", "new-routing-mark", "new-packet-mark", "new-mss",
    "to-addresses", "to-ports", "reject-with", "address-list", "address-list-timeout", "hw-offload",
    "randomise-ports", "same-not-by-dst", "place-before", ".nextid", ".about", "creation-time", "limit", "dst-limit",
    "port", "default", "src-address-list", "dst-address-list",
})  # fmt: skip

# IANA protocol numbers under the names RouterOS gives them.
_PROTOCOLS: Final = {
    "icmp": 1, "igmp": 2, "ggp": 3, "ip-encap": 4, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "udp": 17, "rdp": 27,
    "dccp": 33, "ipv6": 41, "gre": 47, "ipsec-esp": 50, "ipsec-ah": 51, "icmpv6": 58, "rspf": 73, "vmtp": 81,
    "ospf": 89, "ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132,
    "udp-lite": 136,
}  # fmt: skip
# Bits of nftables' ct state and ct status (nf_conntrack_common.h, nf_tables.h).
_STATES: Final = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_NAT_STATES: Final = {"srcnat": 0x10, "dstnat": 0x20}
_PORTS: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_LIMIT_BY: Final = {
    "src-address": ("ip saddr", "ipv4_addr"),
    "dst-address": ("ip daddr", "ipv4_addr"),
    "src-and-dst-addresses": ("ip saddr . ip daddr", "ipv4_addr . ipv4_addr"),
    "dst-address-and-port": ("ip daddr . th dport", "ipv4_addr . inet_service"),
    "addresses-and-dst-port": ("ip saddr . ip daddr . th dport", "ipv4_addr . ipv4_addr . inet_service"),
}


def matches(ruleset: Ruleset, menu: str, row: Row, world: World) -> list[str]:
    """The row's condition, as alternatives of which one must hold (``port`` means source or destination port)."""
    # The protocol goes first: ports, flags and ICMP types are only readable behind it.
    keys = sorted(
        (key for key in row if key not in _NOT_MATCHERS and row[key] != ""), key=lambda key: key != "protocol"
    )
    parts = [_match(world, key, row[key]) for key in keys]
    lists = [_address_list(ruleset, key, row[key]) for key in ("src-address-list", "dst-address-list") if row.get(key)]
    tail = [_limit(row["limit"])] if row.get("limit") else []
    if row.get("dst-limit"):
        tail.append(_dst_limit(ruleset, f"M.{menu}.{row['.id'].lstrip('*').lower()}", row["dst-limit"]))
    ways = [*lists, _either_port(row["port"])] if row.get("port") else lists
    return [" ".join(part for part in (*parts, *choice, *tail) if part) for choice in itertools.product(*ways)]


def _either_port(text: str) -> list[str]:
    """The negative form asks for both ports to differ; the positive one for either, without counting a packet twice."""
    source, destination = _ports("sport", text), _ports("dport", text)
    if text.startswith("!"):
        return [f"{source} {destination}"]
    return [source, f"{_ports('sport', _inverted(text))} {destination}"]


def _address_list(ruleset: Ruleset, key: str, text: str) -> list[str]:
    """An address is in a list by a row, or because a rule has just learned it; never counted for both."""
    value, address = text.removeprefix("!"), f"{ruleset.family.word} {key[0]}addr"
    ruleset.sets.setdefault(value, ())
    written, learned = f"@{name_of('L', value)}", f"@{name_of('D', value)}"
    if learned[1:] not in ruleset.learned:
        return [f"{address} {'!= ' if text.startswith('!') else ''}{written}"]
    if text.startswith("!"):
        return [f"{address} != {written} {address} != {learned}"]
    return [f"{address} {written}", f"{address} != {written} {address} {learned}"]


def _match(world: World, key: str, text: str) -> str:
    negative, value = text.startswith("!"), text.removeprefix("!")
    if key in {"in-interface-list", "out-interface-list"}:
        return _interface_list(world, key, negative, value)
    if key == "connection-mark":
        number = 0 if value == "no-mark" else world.connection_marks.of(value)
        return f"ct mark & {CONNECTION_MARK_MASK:#x} {'!=' if negative else '=='} {number:#x}"
    if key == "routing-mark":
        number = 0 if value in {"no-mark", "main"} else world.routing_marks.of(value)
        return f"meta mark & 0xffff {'!=' if negative else '=='} {number:#x}"
    if key == "packet-mark":
        number = 0 if value == "no-mark" else world.packet_marks.of(value)
        return f"meta mark & 0xffff0000 {'!=' if negative else '=='} {number << 16:#x}"
    if key in _OF_A_FAMILY:
        return _OF_A_FAMILY[key](world.family, key, text)
    simple = _SIMPLE.get(key)
    if simple is None:
        raise Trap(f"virtual router: matcher {key} is not given an effect", 1)
    return simple(key, text)


def _interface_list(world: World, key: str, negative: bool, name: str) -> str:
    field = "iifname" if key.startswith("in-") else "oifname"
    everything = name == "all"
    members = sorted(world.interface_lists.get(name, frozenset()))
    if everything or not members:
        if everything == negative:
            raise Never
        return ""
    quoted = ", ".join(f'"{each}"' for each in members)
    return f"{field} {'!= ' if negative else ''}{{ {quoted} }}"


def _split(text: str) -> tuple[str, str]:
    """("!= " or "", value)."""
    return ("!= ", text[1:]) if text.startswith("!") else ("", text)


def _inverted(text: str) -> str:
    return text[1:] if text.startswith("!") else "!" + text


def _address(family: Family, key: str, text: str) -> str:
    unequal, value = _split(text)
    return f"{family.word} {key[0]}addr {unequal}{value if '-' in value else network_of(value)}"


def _ports(field: str, text: str) -> str:
    unequal, value = _split(text)
    if not _PORTS.fullmatch(value):
        raise Trap(f"virtual router: ports {text} are not given an effect", 1)
    return f"th {field} {unequal}{{ {value} }}"


def _protocol(_key: str, text: str) -> str:
    unequal, value = _split(text)
    number = _PROTOCOLS.get(value, int(value) if value.isdigit() else None)
    if number is None:
        raise Trap(f"virtual router: protocol {value} is not given an effect", 1)
    return f"meta l4proto {unequal}{number}"


def _interface(key: str, text: str) -> str:
    unequal, value = _split(text)
    return f'{"iifname" if key.startswith("in-") else "oifname"} {unequal}"{value}"'


def _bits(expression: str, names: dict[str, int], key: str, text: str) -> str:
    unequal, value = _split(text)
    try:
        mask = sum({names[each.strip()] for each in value.split(",")})
    except KeyError:
        raise Trap(f"virtual router: {key}={text} is not given an effect", 1) from None
    return f"{expression} & {mask:#x} {'==' if unequal else '!='} 0"


def _address_type(key: str, text: str) -> str:
    unequal, value = _split(text)
    return f"fib {key[0]}addr type {unequal}{{ {value} }}"


def _tcp_flags(_key: str, text: str) -> str:
    flags = [each.strip() for each in text.split(",")]
    wanted = "|".join(each for each in flags if not each.startswith("!")) or "0x0"
    seen = "|".join(each.removeprefix("!") for each in flags)
    return f"tcp flags & ({seen}) == {wanted if wanted == '0x0' else f'({wanted})'}"


def _icmp(family: Family, _key: str, text: str) -> str:
    unequal, value = _split(text)
    kind, _, code = value.partition(":")
    if unequal and code and code != "0-255":
        raise Trap(f"virtual router: icmp-options={text} is not given an effect", 1)
    return f"{family.icmp} type {unequal}{kind}" + (f" {family.icmp} code {code}" if code and not unequal else "")


def _hops_left(family: Family, key: str, text: str) -> str:
    """``equal:1``, ``less-than:5``: the time to live, which IPv6 calls the hop limit."""
    how, _, number = text.partition(":")
    sign = {"equal": "", "not-equal": "!= ", "less-than": "< ", "greater-than": "> "}.get(how)
    if sign is None or not number.isdigit():
        raise Trap(f"virtual router: {key}={text} is not given an effect", 1)
    return f"{'ip ttl' if family == IPV4 else 'ip6 hoplimit'} {sign}{number}"


def _connection_bytes(_key: str, text: str) -> str:
    """``2048-0``: both directions together, and no upper end (zero stands for infinity)."""
    unequal, value = _split(text)
    low, _, high = value.partition("-")
    if unequal or not low.isdigit() or not (high or "0").isdigit():
        raise Trap(f"virtual router: connection-bytes={text} is not given an effect", 1)
    return f"ct bytes >= {low}" if int(high or 0) == 0 else f"ct bytes {low}-{high}"


def _fragment(_key: str, text: str) -> str:
    return f"ip frag-off & 0x1fff {'!=' if text in {'yes', 'true'} else '=='} 0"


def _ipsec(_key: str, text: str) -> str:
    """The bench has no IPsec: "in,none" always holds, "in,ipsec" never."""
    if text.endswith("ipsec"):
        raise Never
    return ""


def _nth(_key: str, text: str) -> str:
    every, _, packet = text.partition(",")
    return f"numgen inc mod {int(every)} {int(packet or 1) - 1}"


def _limit_rate(text: str) -> str:
    """``10,5:packet`` or ``10/1m,5`` (count, time, burst) as nftables words; nftables counts by whole units only."""
    rate, _, burst = text.removesuffix(":packet").partition(",")
    count, _, time = rate.partition("/")
    if burst.endswith(":bit") or not count.isdigit():
        raise Trap(f"virtual router: limit={text} is not given an effect", 1)
    seconds = duration_s(time, 1.0) or 1.0
    units = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
    unit = next((each for each in units if seconds <= each), 86400)
    number = max(1, round(int(count) * unit / seconds))
    burst_packets = int(burst) if burst.isdigit() else 0
    return f"{number}/{units[unit]}" + (f" burst {burst_packets} packets" if burst_packets else "")


def _limit(text: str) -> str:
    over = "over " if text.startswith("!") else ""
    return f"limit rate {over}{_limit_rate(text.removeprefix('!'))}"


def _dst_limit(ruleset: Ruleset, meter: str, text: str) -> str:
    """``1/1s,5,dst-address/1m``: one bucket for each address (or pair) seen."""
    rate, burst, *rest = text.removeprefix("!").split(",")
    by, _, expire = (rest[0] if rest else "dst-address").partition("/")
    if by not in _LIMIT_BY:
        raise Trap(f"virtual router: dst-limit={text} is not given an effect", 1)
    fields, kind = _LIMIT_BY[by]
    lifetime = max(1, int(duration_s(expire, 60.0)))
    ruleset.meters[meter] = f"type {kind}; size 65535; flags dynamic,timeout; timeout {lifetime}s;"
    over = "over " if text.startswith("!") else ""
    return f"update @{meter} {{ {fields} limit rate {over}{_limit_rate(f'{rate},{burst}')} }}"


_SIMPLE: Final[dict[str, Callable[[str, str], str]]] = {
    "src-port": lambda _key, text: _ports("sport", text),
    "dst-port": lambda _key, text: _ports("dport", text),
    "protocol": _protocol,
    "in-interface": _interface,
    "out-interface": _interface,
    "connection-state": lambda key, text: _bits("ct state", _STATES, key, text),
    "connection-nat-state": lambda key, text: _bits("ct status", _NAT_STATES, key, text),
    "src-address-type": _address_type,
    "dst-address-type": _address_type,
    "tcp-flags": _tcp_flags,
    "packet-size": lambda _key, text: "ip length {}{}".format(*_split(text)),
    "tcp-mss": lambda _key, text: "tcp option maxseg size {}{}".format(*_split(text)),
    "fragment": _fragment,
    "ipsec-policy": _ipsec,
    "nth": _nth,
    "random": lambda _key, text: f"numgen random mod 100 < {int(text)}",
    "src-mac-address": lambda _key, text: "ether saddr {}{}".format(*_split(text)),
    "connection-bytes": _connection_bytes,
    "connection-type": lambda _key, text: 'ct helper {}"{}"'.format(*_split(text)),
}
# Those that read the addresses' own header.
_OF_A_FAMILY: Final[dict[str, Callable[[Family, str, str], str]]] = {
    "src-address": _address,
    "dst-address": _address,
    "icmp-options": _icmp,
    "ttl": _hops_left,
    "hop-limit": _hops_left,
    "dscp": lambda family, _key, text: "{} dscp {}{}".format(family.word, *_split(text)),
}
