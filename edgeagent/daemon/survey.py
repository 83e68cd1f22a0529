"""What one router holds of all that we have rows and settings in, and what it should hold.

Shared by provisioning and by the watch for hand edits, so that both mean the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from edgeagent import texts
from edgeagent.config.site import PPPOE, STATIC, PathConfig, Site
from edgeagent.routeros import adopted, approval, obstacles, plain, sentences, uplinks, versions
from edgeagent.routeros.adopted import Setting
from edgeagent.routeros.approval import Agreed, Approval
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.errors import RouterProtocolError, RouterTrap
from edgeagent.routeros.rows import (
    AGENT_HOSTS,
    DEVICES,
    DRILL,
    NO_GATEWAY,
    PROBES,
    RESOLVERS,
    TAG,
    VOICE,
    Dialect,
    Row,
    Uplink,
    Wish,
)
from edgeagent.routeros.ruleset import IPV6, OCCASIONAL, build
from edgeagent.routeros.session import Session
from edgeagent.routeros.values import row_id

Seen = dict[str, list[dict[str, str]]]
OUR_LISTS = (VOICE, PROBES, AGENT_HOSTS, DEVICES, RESOLVERS, DRILL)  # those with rows; leases are not rows


class Board(Struct, frozen=True):
    """What the router is and may do, and how its uplinks stand; ``next_hops`` and ``addresses`` by path name.

    ``poe``: the ports out of which it can send power, such as ether10 of an RB2011 and no other there.
    """

    version: str
    scheduler: bool
    ipv6: bool
    poe: tuple[str, ...]
    addresses: dict[str, str]
    next_hops: dict[str, str]


class Survey(Struct, frozen=True):
    """Rows wanted and rows seen, adopted settings with what they are now."""

    wish: Wish
    wanted: list[Row]
    seen: Seen
    settings: dict[Setting, tuple[str, str]]


async def version_of(session: Session) -> str:
    """RouterOS's version as it says it, such as ``7.22.3 (stable)``."""
    rows = await session.print("/system/resource", ("version",))
    return rows[0].get("version", "") if rows else ""


def dialect_of(version: str) -> Dialect | None:
    """None for a version that is only watched."""
    if versions.standing(version) == versions.UNLISTED:
        return None
    return DialectV6() if versions.number(version)[0] == 6 else DialectV7()


async def board(session: Session, site: Site, dialect: Dialect) -> Board:
    """Ask the router what no site.toml can know."""
    rows = await session.print("/ip/address", uplinks.FIELDS)
    ports = await session.print("/interface/ethernet", (".id", "name", "poe-out"))
    hops = await next_hops(session, site.paths)
    addresses = {path.name: uplinks.address_beside(rows, path.interface, hops[path.name]) for path in site.paths}
    return Board(
        version=dialect.version,
        scheduler=await _scheduler(session, dialect),
        ipv6=await _has(session, IPV6[0]),
        poe=tuple(row.get("name", "") for row in ports if "poe-out" in row),
        addresses={name: address for name, address in addresses.items() if address is not None},
        next_hops=hops,
    )


async def next_hops(session: Session, paths: Sequence[PathConfig]) -> dict[str, str]:
    """By path: as site.toml has it, as the DHCP client was told, or the interface; NO_GATEWAY where none is known."""
    clients: list[dict[str, str]] = []
    if any(path.kind not in (STATIC, PPPOE) for path in paths):
        clients = await session.print("/ip/dhcp-client", uplinks.CLIENT_FIELDS)
    return {path.name: _next_hop(path, clients) for path in paths}


def _next_hop(path: PathConfig, clients: list[dict[str, str]]) -> str:
    if path.kind == STATIC:
        return path.gateway
    return path.interface if path.kind == PPPOE else uplinks.told_gateway(clients, path.interface) or NO_GATEWAY


def wish(site: Site, known: Board) -> Wish:
    """What the site wants of its router."""
    uplinks_ = tuple(
        Uplink(
            path.tag,
            path.interface,
            known.next_hops[path.name],
            path.source,
            index > 0,
            known.addresses.get(path.name),
            path.kind,
            path.modem_page,
        )
        for index, path in enumerate(site.paths)
    )
    hosts = {site.provider.registrar, *_other_hosts(site)}
    return Wish(
        lan_interface=site.router.lan_interface,
        alias_address=site.router.alias_address,
        alias_prefix=site.alias_prefix,
        uplinks=uplinks_,
        voice=site.provider.voice,
        agent_hosts=tuple(sorted(hosts, key=ipaddress.IPv4Address)),
        agent=site.agent_address,
        canaries=site.canaries,
        scheduler=known.scheduler,
        router_pings=site.router_pings,
        voice_lans=site.voice.lans,
        resolvers=site.voice.resolvers,
        voice6=site.provider.ipv6_prefixes,
        ipv6=known.ipv6,
        mail_port=site.mail.port,
        sip_ports=tuple(sorted({5060, 5061, site.provider.registrar_port})),
    )


def _other_hosts(site: Site) -> set[str]:
    """Whom the agent speaks to besides the registrar."""
    found = {host for path in site.paths for host in path.targets} - {site.provider.registrar}
    if site.provider.registrar_name:  # asked for by whichever path carries voice
        found.update(site.voice.resolvers)
    return found | {site.mail.server}


def approval_of(site: Site, dialect: Dialect, known: Board) -> Approval:
    """What a person approves who has these rules applied: nothing in it that the router, or we, have only learnt."""
    learnt = replace(
        known,
        next_hops={
            path.name: _next_hop(path, []) if path.kind in (STATIC, PPPOE) else f"told on {path.interface}"
            for path in site.paths
        },
        addresses={path.name: f"held on {path.interface}" for path in site.paths},
    )
    wanted = wish(site, learnt)
    if site.provider.registrar_name:
        wanted = replace(wanted, agent_hosts=(site.provider.registrar_name, *sorted(_other_hosts(site))))
    return approval.of(build(wanted, dialect), adopted.settings(wanted, dialect, poe=known.poe))


def agreed(approved: Approval | None, today: Approval, site: Site, found: Survey) -> Agreed:
    """What of the survey may be put right, because it is wanted ``today`` as it was approved."""
    provider, by_name = site.provider, {}
    if provider.registrar_name and approval.host(provider.registrar) not in today.rows:
        by_name = {approval.host(provider.registrar): approval.host(provider.registrar_name)}
    return approval.agreed(approved, today, found.wanted, found.seen, found.settings, by_name)


class Question(Struct, frozen=True):
    """One menu to be read: the attributes that are compared, and which rows."""

    menu: str
    fields: tuple[str, ...]
    queries: tuple[str, ...] = ()


async def survey(session: Session, site: Site, dialect: Dialect, known: Board) -> Survey:
    """Read every menu that we have rows or adopted settings in."""
    replies = {one.menu: await ask(session, one) for one in questions(site, dialect, known)}
    return of(site, dialect, known, replies)


def questions(site: Site, dialect: Dialect, known: Board, *, narrow: bool = False) -> list[Question]:
    """What has to be read of a router. ``narrow``: of address lists ours only, for the owner's may be very long."""
    fields = {menu: set(names) for menu, names in _row_fields(site, dialect, known).items()}
    for setting in _settings(site, dialect, known):
        fields.setdefault(setting.menu, {".id", "comment"}).update((setting.by, setting.attribute))
    # These last: where a line is given another next hop while we read, our rows may be older than what they are
    # compared with, and are written as the router itself has just written them. Else they would be put back.
    for menu, more in (("/ip/address", uplinks.FIELDS), ("/ip/dhcp-client", uplinks.CLIENT_FIELDS)):
        fields[menu] = fields.pop(menu, set()) | set(more)
    lists = sentences.any_of("list", OUR_LISTS) if narrow else []
    return [
        Question(menu, tuple(sorted(names)), tuple(lists) if menu == sentences.LISTS else ())
        for menu, names in fields.items()
    ]


async def ask(session: Session, question: Question) -> list[dict[str, str]]:
    """The rows of one menu."""
    return await session.print(question.menu, question.fields, question.queries)


def of(site: Site, dialect: Dialect, known: Board, replies: Seen) -> Survey:
    """The survey out of what was read."""
    wanted_of = wish(site, known)
    seen = {menu: replies[menu] for menu in _row_fields(site, dialect, known) if menu in replies}
    for menu, rows in seen.items():
        if any(row_id(row) is None for row in rows):
            raise RouterProtocolError(texts.screen("row without id", menu=menu))
    settings = {}
    for setting in _settings(site, dialect, known):
        for row in replies.get(setting.menu, ()):
            if setting.row is None or row.get(setting.by) == setting.row:
                settings[setting] = (row.get(".id", ""), row.get(setting.attribute, ""))
    return Survey(wanted_of, build(wanted_of, dialect), seen, settings)


def as_read(known: Board, site: Site, dialect: Dialect, replies: Seen) -> Board:
    """The board with the next hops and addresses that were read since.

    While a line has none, the last that it had count; after a start those that stand in our own rows. Nothing of that
    line would be better for being written anew.
    """
    clients, addresses = replies.get("/ip/dhcp-client", []), replies.get("/ip/address", [])
    own = {row.get("comment"): row for menu in ("/ip/route", dialect.rules) for row in replies.get(menu, ())}
    next_hops, seen = {}, {}
    for path in site.paths:
        standing = own.get(f"{TAG}default-edge-{path.tag}", {}).get("gateway", "")
        found = (_next_hop(path, clients), known.next_hops[path.name], standing)
        hop = next((one for one in found if one not in ("", NO_GATEWAY)), NO_GATEWAY)
        next_hops[path.name] = hop
        standing = own.get(f"{TAG}own-{path.tag}", {}).get("src-address", "").removesuffix("/32")
        beside = uplinks.address_beside(addresses, path.interface, hop)
        if address := beside or known.addresses.get(path.name) or standing:
            seen[path.name] = address
    return replace(known, next_hops=next_hops, addresses=seen)


def unforgetting(known: Board, before: Board) -> Board:
    """The board as it is now, with what it has no longer but had before."""
    hops = {name: before.next_hops[name] if hop == NO_GATEWAY else hop for name, hop in known.next_hops.items()}
    return replace(known, next_hops=hops, addresses={**before.addresses, **known.addresses})


async def no_longer_adopted(
    session: Session, former: Mapping[str, str], wanted: Wish, dialect: Dialect, known: Board
) -> dict[Setting, tuple[str, str]]:
    """The settings that are to be given back because the site has become another, with what they are now."""
    today = adopted.settings(wanted, dialect, poe=known.poe)
    found = {}
    for setting in adopted.no_longer(former, today):
        for row in await session.print(setting.menu, (".id", setting.by, setting.attribute)):
            if setting.row is None or row.get(setting.by) == setting.row:
                found[setting] = (row.get(".id", ""), row.get(setting.attribute, ""))
    return found


async def hindrances(session: Session) -> Seen:
    """The rows of the owner's that may stand in our way."""
    return {menu: await session.print(menu, fields) for menu, fields in obstacles.READ.items()}


async def _has(session: Session, menu: str) -> bool:
    try:
        await session.print(menu, (".id",))
    except RouterTrap:  # no such command: the package is not installed, or disabled
        return False
    return True


async def _scheduler(session: Session, dialect: Dialect) -> bool:
    """Whether the router may run jobs; device-mode (RouterOS 7) forbids it on boards as they leave the factory."""
    if dialect.version == "6":
        return True
    try:
        rows = await session.send(["/system/device-mode/print"])
    except RouterTrap:  # no such menu: nothing is forbidden
        return True
    found = rows[0] if rows else {}
    return found.get("scheduler", "true") in ("true", "yes") and found.get("flagged", "false") in ("false", "no")


def _row_fields(site: Site, dialect: Dialect, known: Board) -> dict[str, set[str]]:
    """The menus that we may have rows in, with the attributes that are compared."""
    wanted = build(wish(site, known), dialect)
    menus = [*OCCASIONAL, *(IPV6 if known.ipv6 else ()), *(row.menu for row in wanted)]
    fields = {menu: {".id", "comment", "dynamic", "disabled", *plain.asked(menu)} for menu in menus}
    for row in wanted:
        fields[row.menu].update(row.attributes)
    return fields


def _settings(site: Site, dialect: Dialect, known: Board) -> tuple[Setting, ...]:
    return adopted.settings(wish(site, known), dialect, poe=known.poe)
