"""``edgeagent provision``: reads what the router holds, works out the difference, shows or applies it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
from pathlib import Path

from edgeagent import texts
from edgeagent.config.site import Site
from edgeagent.core.facts import Instant
from edgeagent.host import clock
from edgeagent.routeros import adopted, diff, sentences
from edgeagent.routeros.adopted import ADOPTED, Setting
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.errors import RouterError, RouterTrap
from edgeagent.routeros.ruleset import Dialect, Row, Uplink, Wish, build
from edgeagent.routeros.session import Session
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Record
from edgeagent.store.store import Store

DEADLINE_S = 15.0
KEPT = "adopted settings"
Seen = dict[str, list[dict[str, str]]]


def run(site: Site, verb: str) -> int:
    """``plan``, ``apply`` or ``remove``; returns the exit code."""
    try:
        password = Path(site.router.password_file).read_text().strip()
        pinned = Path(site.router.certificate).read_text()
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; expected a readable file", file=sys.stderr)
        return 2
    return asyncio.run(_run(site, verb, password, pinned))


async def _run(site: Site, verb: str, password: str, pinned: str) -> int:
    router = site.router
    try:
        session = await Session.open(
            router.address, router.port, router.user, password, pinned, DEADLINE_S, source=site.agent_address
        )
    except (RouterError, OSError, ValueError) as error:
        print(f"The router cannot be reached: {error}", file=sys.stderr)
        return 2
    try:
        return await _work(session, site, verb)
    except RouterError as error:
        print(f"Stopped: {error}. What was done so far is safe; run the same command again.", file=sys.stderr)
        return 1
    except StoreUnavailable as error:
        print(f"Stopped: {error}. Run the same command again.", file=sys.stderr)
        return 2
    finally:
        await session.close()


def wish(site: Site, addresses: dict[str, str]) -> Wish:
    """What the site wants of its router, given the router's present uplink addresses."""
    uplinks = tuple(
        Uplink(path.tag, path.interface, path.gateway, path.source, index > 0, addresses.get(path.name))
        for index, path in enumerate(site.paths)
    )
    hosts = {site.provider.registrar, site.mail.server}.union(*(path.targets for path in site.paths))
    return Wish(
        lan_interface=site.router.lan_interface,
        alias_address=site.router.alias_address,
        alias_prefix=site.alias_prefix,
        uplinks=uplinks,
        voice=site.provider.prefixes,
        agent_hosts=tuple(sorted(hosts, key=ipaddress.IPv4Address)),
    )


async def _work(session: Session, site: Site, verb: str) -> int:
    dialect = await _dialect(session)
    if dialect is None:
        return 2
    wanted = build(wish(site, await _addresses(session, site)), dialect)
    seen = await _seen(session, wanted)
    settings = await _settings(session)
    store = await Store.open(Path(site.state_folder) / "store.db")
    try:
        former = json.loads(await store.kept(KEPT) or b"{}")
        if verb == "remove":
            code = await _remove(session, wanted, seen, settings, former)
            await store.commit([], keep={KEPT: b"{}"})  # given back: what holds from now on is the owner's
            return code
        changes: list[diff.Change] = diff.ruleset_changes(wanted, seen)
        adopting, values = adopted.adopting(settings)
        if verb == "plan":
            return _show(changes, adopting)
        if values:
            now = Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())
            kept = json.dumps({**values, **former}).encode()
            await store.commit([Record("settings adopted", now, values)], keep={KEPT: kept})
    finally:
        await store.close()
    await _send(session, [*changes, *adopting])
    if changes or adopting:
        await _flush(session, site.provider.prefixes)
    print(texts.screen("applied", count=len(changes) + len(adopting)))
    return 0


async def _dialect(session: Session) -> Dialect | None:
    rows = await session.print("/system/resource", ("version",))
    version = rows[0].get("version", "") if rows else ""
    major = version.partition(".")[0]
    if major == "6":
        return DialectV6()
    if major == "7":
        return DialectV7()
    print(f"RouterOS {version or '(unknown)'} is not supported; 6.49 and 7.12 or later are.", file=sys.stderr)
    return None


async def _addresses(session: Session, site: Site) -> dict[str, str]:
    rows = await session.print("/ip/address", ("address", "interface"))
    return {
        path.name: row["address"].partition("/")[0]
        for path in site.paths
        for row in rows
        if row.get("interface") == path.interface
    }


async def _seen(session: Session, wanted: list[Row]) -> Seen:
    """The rows of every menu that we have rows in, with the attributes that we compare."""
    fields: dict[str, set[str]] = {}
    for row in wanted:
        fields.setdefault(row.menu, {".id", "comment", "dynamic", "disabled"}).update(row.attributes)
    return {menu: await session.print(menu, tuple(sorted(names))) for menu, names in fields.items()}


async def _settings(session: Session) -> dict[Setting, tuple[str, str]]:
    found = {}
    for setting in ADOPTED:
        rows = await session.print(setting.menu, (".id", "name", setting.attribute))
        for row in rows:
            if setting.row is None or row.get("name") == setting.row:
                found[setting] = (row.get(".id", ""), row.get(setting.attribute, ""))
    return found


async def _remove(
    session: Session,
    wanted: list[Row],
    seen: Seen,
    settings: dict[Setting, tuple[str, str]],
    former: dict[str, str],
) -> int:
    changes = diff.removal_changes(seen, list(dict.fromkeys(row.menu for row in wanted)))
    await _send(session, [*changes, *adopted.giving_back(settings, former)])
    print(texts.screen("removed", count=len(changes)))
    return 0


def _show(changes: list[diff.Change], adopting: list[diff.Set]) -> int:
    everything = [*changes, *adopting]
    for change in everything:
        print(" ".join(sentences.of_change(change)))
    print(texts.screen("plan count", count=len(everything)) if everything else texts.screen("plan none"))
    return 0


async def _send(session: Session, changes: list[diff.Change]) -> None:
    for change in changes:
        await session.send(sentences.of_change(change))


async def _flush(session: Session, prefixes: tuple[str, ...]) -> None:
    """Once: flows that were fasttracked or unmarked before the rules stood would go on as before."""
    networks = [ipaddress.IPv4Network(prefix) for prefix in prefixes]
    rows = await session.print(
        "/ip/firewall/connection", (".id", "dst-address"), ("?protocol=udp", "?protocol=tcp", "?#|")
    )
    for row in rows:
        address = row.get("dst-address", "").partition(":")[0]
        with contextlib.suppress(ValueError, RouterTrap):  # not an IPv4 row, or it ended by itself
            if any(ipaddress.IPv4Address(address) in network for network in networks):
                await session.remove("/ip/firewall/connection", row[".id"])
