"""Which routes are active, by RouterOS' rules, and what the kernel must hold for them. Pure: rows in, routes out.

A gateway is looked up among the active routes of the main table whose scope is not above the route's target-scope, the
longest prefix first; the kernel gets the immediate next hop so found (manual: "IP Routing", nexthop lookup). Of the
candidates of one destination and table the lowest distance wins; on RouterOS 7 equals share (ECMP), on 6 a comma list
of gateways does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from hil.virtual.routeros.kernel_values import FIRST_TABLE, MAIN_TABLE, Tables, enabled, is_set, prefix_of
from hil.virtual.routeros.plane import Row

PROTOCOL: Final = 77  # the kernel's "proto" of every route made here
_ROUNDS: Final = 16  # depth of recursion that is still resolved

# Preferences of ip rules. A routing mark precedes the local table: on a router the mark is made before the decision
# "is this for me", so traffic marked without dst-address-type=!local is lost to the router itself.
PREF_MARKS: Final = 100
PREF_LOCAL: Final = 1000
PREF_USER: Final = 2000


@dataclass(frozen=True)
class NextHop:
    """Where packets go at once: an address on a device, or a device alone."""

    address: str
    device: str

    def text(self) -> str:
        """RouterOS' ``immediate-gw``."""
        return f"{self.address}%{self.device}" if self.address and self.device else self.address or self.device


@dataclass(frozen=True)
class Gateway:
    """One gateway of a route as written: ``ip``, ``interface`` or ``ip%interface``, perhaps ``@table``."""

    address: str
    device: str
    table: str = "main"


@dataclass
class Route:
    """One enabled row of /ip/route."""

    row_id: str
    table: str
    destination: IPv4Network
    gateways: tuple[Gateway, ...]
    distance: int
    scope: int
    target_scope: int
    check: str
    discard: str
    source: str
    hops: tuple[NextHop, ...] = ()
    reached: tuple[bool, ...] = ()
    active: bool = False


# A check-gateway subject: address and immediate device.
Subject = tuple[str, str]


@dataclass
class Table:
    """The routes as decided. ``kernel``: (table number, destination) -> the words after ``ip route replace``."""

    routes: list[Route] = field(default_factory=list)
    kernel: dict[tuple[int, str], str] = field(default_factory=dict)
    subjects: set[Subject] = field(default_factory=set)


def _gateway(text: str) -> Gateway:
    text, _, table = text.strip().partition("@")
    address, _, device = text.partition("%")
    try:
        IPv4Address(address)
    except ValueError:
        address, device = "", device or address
    return Gateway(address, device, table or "main")


def route_of(row: Row, version: str) -> Route:
    """The route a row describes, with RouterOS' defaults."""
    connected = is_set(row, "connect") and "connect" in row
    discard = "" if row.get("type", "unicast") == "unicast" else row["type"]
    if "blackhole" in row and is_set(row, "blackhole"):
        discard = "blackhole"
    table = row.get("routing-mark") if version.startswith("6") else row.get("routing-table")
    texts = [] if discard else [text for text in row.get("gateway", "").split(",") if text]
    scope = row.get("scope") or ("10" if connected else "30")
    return Route(
        row_id=row[".id"],
        table=table or "main",
        destination=prefix_of(row.get("dst-address", "")),
        gateways=tuple(map(_gateway, texts)),
        distance=int(row.get("distance") or (0 if connected else 1)),
        scope=int(scope),
        target_scope=int(row.get("target-scope") or 10),
        check=row.get("check-gateway", "none") or "none",
        discard=discard,
        source=row.get("pref-src", "") or row.get("local-address", "").split("%")[0],
    )


def decide(
    rows: Iterable[Row],
    version: str,
    tables: Tables,
    running: Callable[[str], bool],
    reachable: Callable[[Subject], bool],
) -> Table:
    """Resolve, choose and compile. ``running(interface)``; ``reachable(subject)`` is what check-gateway found."""
    routes = [route_of(row, version) for row in enabled(list(rows))]
    outcome = Table(routes)
    for _round in range(_ROUNDS):
        active = [route for route in routes if route.active]
        for route in routes:
            _resolve(route, active, running, reachable)
        before = {route.row_id for route in active}
        winners = _winners(routes, version)
        for route in routes:
            route.active = route.row_id in winners
        if winners == before:
            break
    for route in routes:
        if route.check in {"ping", "arp"}:
            for gateway, hop in zip(route.gateways, route.hops, strict=True):
                if gateway.address and hop.device:
                    outcome.subjects.add((gateway.address, hop.device))
    outcome.kernel = _kernel(routes, tables)
    return outcome


def _resolve(
    route: Route, active: list[Route], running: Callable[[str], bool], reachable: Callable[[Subject], bool]
) -> None:
    hops, reached = [], []
    for gateway in route.gateways:
        hop = _immediate(route, gateway, active)
        usable = hop.device != "" and running(hop.device)
        if usable and route.check in {"ping", "arp"} and gateway.address:
            usable = reachable((gateway.address, hop.device))
        hops.append(hop)
        reached.append(usable)
    route.hops, route.reached = tuple(hops), tuple(reached)


def _immediate(route: Route, gateway: Gateway, active: list[Route]) -> NextHop:
    if not gateway.address or gateway.device:
        return NextHop(gateway.address, gateway.device)
    address = IPv4Address(gateway.address)
    best: Route | None = None
    for other in active:
        eligible = other is not route and other.table == gateway.table and other.scope <= route.target_scope
        if eligible and address in other.destination and not other.discard:
            longer = best is None or other.destination.prefixlen > best.destination.prefixlen
            best = other if longer else best
    if best is None:
        return NextHop(gateway.address, "")
    for hop, reached in zip(best.hops, best.reached, strict=True):
        if reached:
            return NextHop(hop.address or gateway.address, hop.device)
    return NextHop(gateway.address, "")


def _winners(routes: list[Route], version: str) -> set[str]:
    """The ids of the active routes: the lowest usable distance of each destination and table."""
    best: dict[tuple[str, IPv4Network], list[Route]] = {}
    for route in routes:
        if not (route.discard or any(route.reached)):
            continue
        rivals = best.setdefault((route.table, route.destination), [])
        if not rivals or route.distance < rivals[0].distance:
            rivals[:] = [route]
        elif route.distance == rivals[0].distance and (not version.startswith("6") or _connected(route)):
            rivals.append(route)
    return {route.row_id for rivals in best.values() for route in rivals}


def _connected(route: Route) -> bool:
    return route.distance == 0


def _kernel(routes: list[Route], tables: Tables) -> dict[tuple[int, str], str]:
    shares: dict[tuple[int, str], list[Route]] = {}
    for route in routes:
        if route.active:
            shares.setdefault((tables.number(route.table), str(route.destination)), []).append(route)
    return {key: words for key, group in shares.items() if (words := _words(key, group))}


def _words(key: tuple[int, str], group: list[Route]) -> str:
    table, destination = key
    common = f"table {table} proto {PROTOCOL}"
    discard = next((route.discard for route in group if route.discard), "")
    if discard:
        return f"{discard} {destination} {common}"
    hops = list(
        dict.fromkeys(hop for route in group for hop, reached in zip(route.hops, route.reached, strict=True) if reached)
    )
    source = next((f" src {route.source}" for route in group if route.source), "")
    scope = " scope link" if table == MAIN_TABLE and not hops[0].address else ""
    if len(hops) == 1:
        return f"{destination} {_hop_words(hops[0])}{scope} {common}{source}"
    return f"{destination} {common}{source} " + " ".join(f"nexthop {_hop_words(hop)}" for hop in hops)


def _hop_words(hop: NextHop) -> str:
    # onlink: the kernel must not resolve the gateway again, by rules of its own.
    return f"via {hop.address} dev {hop.device} onlink" if hop.address else f"dev {hop.device}"


def rules(user: Iterable[Row], marks: Mapping[str, int]) -> list[str]:
    """The ip rules wanted, as the words after ``ip rule add``. ``marks``: routing mark -> number of table and mark."""
    wanted = []
    for offset, (_name, number) in enumerate(sorted(marks.items(), key=lambda item: item[1])):
        wanted.append(f"pref {PREF_MARKS + offset} fwmark {number:#x}/0xffff lookup {FIRST_TABLE + number}")
    wanted.append(f"pref {PREF_LOCAL} lookup 255")
    pref = PREF_USER
    for row in enabled(list(user)):
        for words in _user_rule(row, marks):
            wanted.append(f"pref {pref} {words}")
            pref += 1
    return wanted


def _user_rule(row: Row, marks: Mapping[str, int]) -> list[str]:
    selector = f"from {row['src-address']}" if row.get("src-address") else "from all"
    if row.get("dst-address"):
        selector += f" to {row['dst-address']}"
    if row.get("interface"):
        selector += f" iif {row['interface']}"
    if row.get("routing-mark"):
        selector += f" fwmark {marks.get(row['routing-mark'], 0xFFFF):#x}/0xffff"
    action = row.get("action") or "lookup"
    if action in {"drop", "unreachable", "prohibit"}:
        return [f"{selector} {'blackhole' if action == 'drop' else action}"]
    name = row.get("table") or "main"
    table = MAIN_TABLE if name == "main" else FIRST_TABLE + marks.get(name, 0xFFFF)
    lookup = f"{selector} lookup {table}"
    if row.get("min-prefix"):
        lookup += f" suppress_prefixlength {row['min-prefix']}"
    return [lookup, f"{selector} unreachable"] if action == "lookup-only-in-table" else [lookup]


def live_row(route: Route, version: str) -> Row:
    """The read-only properties of one enabled route."""
    row: Row = {"active": "true" if route.active else "false"}
    if version.startswith("6"):
        row["gateway-status"] = ",".join(
            f"{gateway.address or gateway.device} {'reachable' if reached else 'unreachable'}"
            + (f" via  {hop.device}" if reached and gateway.address and hop.device else "")
            for gateway, hop, reached in zip(route.gateways, route.hops, route.reached, strict=True)
        )
        return row
    row["inactive"] = "false" if route.active else "true"
    row["immediate-gw"] = ",".join(
        hop.text() for hop, reached in zip(route.hops, route.reached, strict=True) if reached
    )
    return row
