"""Firewall rows to nftables text. Pure: rows in, one transaction out.

One table for each family, ``ip ros`` and ``ip6 ros``. Every menu has base chains at the place its RouterOS namesake has
in the packet flow (raw before connection tracking, mangle before dst-nat and routing, filter last); custom chains are
``<menu>.<name>``. Counters are named objects, one for each row, so that a recompile (which flushes only rules) lets
them run on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final

from hil.virtual.routeros.kernel_conntrack import CONNECTION_MARK_MASK, FASTTRACK_BIT
from hil.virtual.routeros.kernel_match import Never, matches
from hil.virtual.routeros.kernel_values import (
    IPV4,
    Family,
    Network,
    Numbers,
    duration_s,
    enabled,
    is_set,
    name_of,
    ranges_of,
)
from hil.virtual.routeros.plane import Row, Trap

FIREWALL: Final = ("raw", "mangle", "nat", "filter")

# (menu, chain) -> nftables hook. Priorities as in linux/netfilter_ipv4.h; conntrack sits at -200.
_HOOKS: Final = {
    ("raw", "prerouting"): "type filter hook prerouting priority -300",
    ("raw", "output"): "type filter hook output priority -300",
    ("mangle", "prerouting"): "type filter hook prerouting priority -150",
    ("mangle", "input"): "type filter hook input priority -150",
    ("mangle", "forward"): "type filter hook forward priority -150",
    ("mangle", "output"): "type route hook output priority -150",
    ("mangle", "postrouting"): "type filter hook postrouting priority -150",
    ("nat", "dstnat"): "type nat hook prerouting priority -100",
    ("nat", "output"): "type nat hook output priority -100",
    ("nat", "srcnat"): "type nat hook postrouting priority 100",
    ("nat", "input"): "type nat hook input priority 100",
    ("filter", "input"): "type filter hook input priority 0",
    ("filter", "forward"): "type filter hook forward priority 0",
    ("filter", "output"): "type filter hook output priority 0",
}
# Where a fasttracked connection's packets skip the firewall. Raw precedes connection tracking, so it cannot know them.
FASTTRACK_CHAINS: Final = (
    ("mangle", "prerouting"),
    ("mangle", "forward"),
    ("mangle", "postrouting"),
    ("filter", "forward"),
)

_REJECTS: Final = {
    "icmp-network-unreachable": "icmp type net-unreachable",
    "icmp-host-unreachable": "icmp type host-unreachable",
    "icmp-port-unreachable": "icmp type port-unreachable",
    "icmp-protocol-unreachable": "icmp type prot-unreachable",
    "icmp-net-prohibited": "icmp type net-prohibited",
    "icmp-host-prohibited": "icmp type host-prohibited",
    "icmp-admin-prohibited": "icmp type admin-prohibited",
    "tcp-reset": "tcp reset",
    # Of IPv6.
    "icmp-no-route": "icmpv6 type no-route",
    "icmp-address-unreachable": "icmpv6 type addr-unreachable",
}
_REJECTS_V6: Final = {
    "icmp-admin-prohibited": "icmpv6 type admin-prohibited",
    "icmp-port-unreachable": "icmpv6 type port-unreachable",
}
_LEARNING: Final = frozenset({"add-src-to-address-list", "add-dst-to-address-list"})


@dataclass
class World:
    """Everything the rows refer to. ``addresses``: interface -> (address, its network), the one for far hosts first."""

    version: str
    interface_lists: Mapping[str, frozenset[str]]
    addresses: Mapping[str, Sequence[tuple[str, IPv4Network]]]
    routing_marks: Numbers
    connection_marks: Numbers = field(default_factory=Numbers)
    packet_marks: Numbers = field(default_factory=Numbers)
    family: Family = IPV4


@dataclass
class Ruleset:
    """What one compilation asks of the kernel. ``learned``: dynamic set -> the address list its members are in."""

    family: Family = IPV4
    chains: dict[str, str] = field(default_factory=dict)
    rules: list[tuple[str, str]] = field(default_factory=list)
    counters: set[str] = field(default_factory=set)
    sets: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    meters: dict[str, str] = field(default_factory=dict)
    learned: dict[str, str] = field(default_factory=dict)


def counter_of(menu: str, row_id: str) -> str:
    """The name of a row's counter object."""
    return f"c.{menu}.{row_id.lstrip('*').lower()}"


def fasttrack_counter(menu: str, chain: str) -> str:
    """The counter of packets that skipped a chain."""
    return f"fasttrack.{menu}.{chain}"


def list_members(rows: Iterable[Row]) -> dict[str, tuple[Network, ...]]:
    """Each address list as the union of its entries, without overlaps (an interval set refuses those)."""
    found: dict[str, list[Network]] = {}
    for row in rows:
        found.setdefault(row.get("list", ""), []).extend(ranges_of(row.get("address", "")))
    return {name: _collapsed(networks) for name, networks in found.items()}


def _collapsed(networks: list[Network]) -> tuple[Network, ...]:
    old = [network for network in networks if isinstance(network, IPv4Network)]
    new = [network for network in networks if isinstance(network, IPv6Network)]
    return (*collapse_addresses(old), *collapse_addresses(new))


def compile_firewall(menus: Mapping[str, list[Row]], lists: list[Row], world: World) -> Ruleset:
    """All firewall menus as one ruleset. ``menus``: "raw", "mangle", "nat", "filter" -> rows."""
    hooks = {name_of(menu, chain): hook for (menu, chain), hook in _HOOKS.items() if menu in menus}
    ruleset = Ruleset(world.family, hooks)
    # First of all what is learned: a rule may match a list that a rule below it fills.
    for row in enabled([row for rows in menus.values() for row in rows]):
        if row.get("action") in _LEARNING:
            ruleset.learned[name_of("D", row.get("address-list", ""))] = row.get("address-list", "")
    for menu, chain in [each for each in FASTTRACK_CHAINS if each[0] in menus]:
        counter = fasttrack_counter(menu, chain)
        ruleset.counters.add(counter)
        ruleset.rules.append(
            (name_of(menu, chain), f'ct mark & {FASTTRACK_BIT:#x} != 0 counter name "{counter}" accept')
        )
    for menu in FIREWALL:
        for row in menus.get(menu, []):
            if not is_set(row, "dynamic"):
                ruleset.counters.add(counter_of(menu, row[".id"]))
        for row in enabled(menus.get(menu, [])):
            if not is_set(row, "dynamic"):
                _add_rule(ruleset, menu, row, world)
    members = list_members(enabled(lists))
    for name in ruleset.learned.values():
        ruleset.sets.setdefault(name, ())
    ruleset.sets = {name: members.get(name, ()) for name in ruleset.sets}
    return ruleset


def _add_rule(ruleset: Ruleset, menu: str, row: Row, world: World) -> None:
    chain = name_of(menu, row.get("chain", ""))
    ruleset.chains.setdefault(chain, "")
    try:
        alternatives = matches(ruleset, menu, row, world)
    except Never:
        return
    counter = f'counter name "{counter_of(menu, row[".id"])}"'
    for alternative in alternatives:
        for guard, statement in _statements(ruleset, menu, row, world):
            ruleset.rules.append((chain, " ".join(part for part in (guard, alternative, counter, statement) if part)))


def _statements(ruleset: Ruleset, menu: str, row: Row, world: World) -> list[tuple[str, str]]:
    """(extra condition, statement) pairs that carry out a row's action."""
    action = row.get("action", "accept")
    simple = {
        "accept": "accept",
        "drop": "drop",
        "tarpit": "drop",  # a tarpit would answer the SYN; nothing in the bench listens for that
        "return": "return",
        "passthrough": "",
        "log": "",
        "notrack": "notrack",
        "fasttrack-connection": f"ct mark set ct mark | {FASTTRACK_BIT:#x}",
    }
    if action in simple:
        return [("", simple[action])]
    if action == "jump":
        target = name_of(menu, row.get("jump-target", ""))
        ruleset.chains.setdefault(target, "")
        return [("", f"jump {target}")]
    if action == "reject":
        return [("", _reject(row, world))]
    if action.startswith("mark-"):
        return [("", _mark(action, row, world))]
    if action in _LEARNING:
        return [("", _learn(action, row, world))]
    if action == "change-mss":
        size = row.get("new-mss", "")
        return [("", "tcp option maxseg size set " + (size if size.isdigit() else "rt mtu"))]
    if menu == "nat":
        return _nat(action, row, world)
    raise Trap(f"virtual router: action {action} is not given an effect", 1)


def _mark(action: str, row: Row, world: World) -> str:
    """Routing marks are the packet mark's low 16 bits, packet marks its high 16, connection marks ct's low 16."""
    if action == "mark-connection":
        number = world.connection_marks.of(row["new-connection-mark"])
        text = f"ct mark set ct mark & {0xFFFFFFFF ^ CONNECTION_MARK_MASK:#x} | {number:#x}"
    elif action == "mark-routing":
        name = row["new-routing-mark"]
        number = 0 if name == "main" else world.routing_marks.of(name)
        text = f"meta mark set meta mark & 0xffff0000 | {number:#x}"
    elif action == "mark-packet":
        number = world.packet_marks.of(row["new-packet-mark"])
        text = f"meta mark set meta mark & 0x0000ffff | {number << 16:#x}"
    else:
        raise Trap(f"virtual router: action {action} is not given an effect", 1)
    return text if is_set(row, "passthrough", default=True) else f"{text} accept"


def _reject(row: Row, world: World) -> str:
    rejects = _REJECTS if world.family == IPV4 else _REJECTS | _REJECTS_V6
    how = row.get("reject-with") or ("icmp-network-unreachable" if world.family == IPV4 else "icmp-no-route")
    if how not in rejects:
        raise Trap(f"virtual router: reject-with {how} is not given an effect", 1)
    return f"reject with {rejects[how]}"


def _learn(action: str, row: Row, world: World) -> str:
    """Addresses go to a dynamic set, which rules match at once; ``kernel_learn`` copies it into the menu."""
    learned = name_of("D", row.get("address-list", ""))
    timeout = duration_s(row.get("address-list-timeout", ""))
    address = f"{world.family.word} {'s' if action == 'add-src-to-address-list' else 'd'}addr"
    return f"update @{learned} {{ {address}{f' timeout {timeout:.0f}s' if timeout else ''} }}"


def _nat(action: str, row: Row, world: World) -> list[tuple[str, str]]:
    ports = f":{row['to-ports']}" if row.get("to-ports") else ""
    target = row.get("to-addresses", "")
    if "-" not in target and "/" in target:
        network = IPv4Network(target, strict=False)
        target = target.split("/")[0] if network.prefixlen == 32 else f"{network[0]}-{network[-1]}"
    if action == "masquerade":
        if not world.version.startswith("6"):
            return [("", f"masquerade to {ports}" if ports else "masquerade")]
        return list(_masquerade_by_address(row, world, ports))
    if action in {"src-nat", "same"} and (target or ports):
        return [("", f"snat to {target}{ports}")]
    if action == "dst-nat" and (target or ports):
        return [("", f"dnat to {target}{ports}" if target else f"redirect to {ports}")]
    if action == "redirect":
        return [("", f"redirect to {ports}" if ports else "redirect")]
    raise Trap(f"virtual router: action {action} is not given an effect", 1)


def _masquerade_by_address(row: Row, world: World, ports: str) -> Iterable[tuple[str, str]]:
    """RouterOS 6 (kernel 3.3.5): source NAT to the interface's address of now, which a later re-route does not undo.

    A modern kernel's ``masquerade`` drops a row whose packets leave by another device (nf_nat_oif_changed); the old one
    had no such check, which is what keeps phones stale there.
    """
    wanted = row.get("out-interface", "")
    for interface, addresses in world.addresses.items():
        if wanted and not wanted.startswith("!") and wanted != interface:
            continue
        for address, network in addresses[1:]:
            yield f'oifname "{interface}" ip daddr {network}', f"snat to {address}{ports}"
        if addresses:
            yield f'oifname "{interface}"', f"snat to {addresses[0][0]}{ports}"


@dataclass
class Installed:
    """The objects that stand in the kernel's table, so that a transaction can remove those no longer wanted."""

    chains: set[str] = field(default_factory=set)
    counters: set[str] = field(default_factory=set)
    sets: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    meters: set[str] = field(default_factory=set)


def transaction(ruleset: Ruleset, installed: Installed) -> str:
    """The text that turns what is installed into the ruleset, atomically (one ``nft -f``)."""
    table, address = ruleset.family.table, ruleset.family.address
    lines = [f"add table {table}", f"flush table {table}"]
    lines += [f"delete chain {table} {name}" for name in sorted(installed.chains - set(ruleset.chains))]
    lines += [f"delete counter {table} {name}" for name in sorted(installed.counters - ruleset.counters)]
    meters = {
        **ruleset.meters,
        **dict.fromkeys(ruleset.learned, f"type {address}; size 65535; flags dynamic,timeout;"),
    }
    wanted_sets = {name_of("L", name): networks for name, networks in ruleset.sets.items()}
    gone = (set(installed.sets) | installed.meters) - set(wanted_sets) - set(meters)
    lines += [f"delete set {table} {name}" for name in sorted(gone)]
    lines += [f"add counter {table} {name}" for name in sorted(ruleset.counters - installed.counters)]
    lines += [f"add set {table} {name} {{ {what} }}" for name, what in meters.items() if name not in installed.meters]
    for name, networks in wanted_sets.items():
        if name not in installed.sets:
            lines.append(f"add set {table} {name} {{ type {address}; flags interval; }}")
        lines += set_lines(table, name, networks, installed.sets.get(name, ()))
    for name, hook in ruleset.chains.items():
        lines.append(f"add chain {table} {name}" + (f" {{ {hook}; policy accept; }}" if hook else ""))
    lines += [f"add rule {table} {chain} {text}" for chain, text in ruleset.rules]
    return "\n".join(lines) + "\n"


def after(ruleset: Ruleset) -> Installed:
    """What stands in the kernel once the ruleset's transaction went through."""
    return Installed(
        chains=set(ruleset.chains),
        counters=set(ruleset.counters),
        sets={name_of("L", name): networks for name, networks in ruleset.sets.items()},
        meters=set(ruleset.meters) | set(ruleset.learned),
    )


def set_lines(table: str, name: str, wanted: Sequence[Network], present: Sequence[Network]) -> list[str]:
    """The lines that make one set hold what is wanted; none if it does.

    Only adding takes about 1 ms in the kernel; whatever deletes waits 10-15 ms for an RCU grace period.
    """
    gone = set(present) - set(wanted)
    lines = [f"flush set {table} {name}"] if gone else []
    missing = [network for network in wanted if gone or network not in present]
    if missing:
        lines.append(f"add element {table} {name} {{ {', '.join(map(str, missing))} }}")
    return lines
