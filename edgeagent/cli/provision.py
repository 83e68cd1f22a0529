"""``edgeagent provision``: reads what the router holds, works out the difference, shows or applies it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgeagent import texts
from edgeagent.config.site import Site
from edgeagent.core.facts import Instant
from edgeagent.host import clock
from edgeagent.routeros import adopted, diff, sentences, uplinks
from edgeagent.routeros.adopted import ADOPTED, Setting
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.errors import RouterError, RouterProtocolError, RouterTrap
from edgeagent.routeros.ruleset import Dialect, Row, Uplink, Wish, build
from edgeagent.routeros.session import Session
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Record
from edgeagent.store.store import Store

DEADLINE_S = 15.0
KEPT = "adopted settings"
FLUSH_DUE = "flush due"
LEAST_MINOR = {6: 49, 7: 12}  # 6.49 is the last of its line; of 8 and later nothing is known
Seen = dict[str, list[dict[str, str]]]
Connect = Callable[[], Awaitable[Session]]


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

    async def connect() -> Session:
        return await Session.open(
            router.address, router.port, router.user, password, pinned, DEADLINE_S, source=site.agent_address
        )

    try:
        session = await connect()
    except (RouterError, OSError, ValueError) as error:
        print(f"The router cannot be reached: {error}", file=sys.stderr)
        return 2
    try:
        return await _work(session, site, verb, connect)
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


async def _work(session: Session, site: Site, verb: str, connect: Connect) -> int:
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
            # Given back: what holds from now on is the owner's, and no flow is bound to a line by rules of ours.
            await store.commit([], keep={KEPT: b"{}", FLUSH_DUE: b""})
            return code
        changes: list[diff.Change] = diff.ruleset_changes(wanted, seen)
        adopting, values = adopted.adopting(settings)
        everything = [*changes, *adopting]
        due = bool(everything) or bool(await store.kept(FLUSH_DUE))
        if verb == "plan":
            return _show(everything, due)
        if everything:
            # Before the first change: a run that stops half way leaves the flush to the next one.
            now = Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())
            keep = {FLUSH_DUE: b"1"} | ({KEPT: json.dumps({**values, **former}).encode()} if values else {})
            await store.commit([Record("settings adopted", now, values)] if values else [], keep=keep)
        await _send(session, everything)
        if due and await _flush(connect, site.provider.prefixes):
            await store.commit([], keep={FLUSH_DUE: b""})
    finally:
        await store.close()
    print(texts.screen("applied", count=len(everything)))
    return 0


async def _dialect(session: Session) -> Dialect | None:
    rows = await session.print("/system/resource", ("version",))
    version = rows[0].get("version", "") if rows else ""
    found = re.match(r"(\d{1,3})\.(\d{1,5})(?!\d)", version)
    major, minor = (int(found[1]), int(found[2])) if found else (0, 0)
    if major in LEAST_MINOR and minor >= LEAST_MINOR[major]:
        return DialectV6() if major == 6 else DialectV7()
    print(
        f"RouterOS {version or '(unknown)'} is not supported; expected 6.49 or a later 6, or 7.12 or a later 7.",
        file=sys.stderr,
    )
    return None


async def _addresses(session: Session, site: Site) -> dict[str, str]:
    rows = await session.print("/ip/address", uplinks.FIELDS)
    found = {path.name: uplinks.address_beside(rows, path.interface, path.gateway) for path in site.paths}
    return {name: address for name, address in found.items() if address is not None}


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


def _show(everything: list[diff.Change], flush: bool) -> int:
    for change in everything:
        print(" ".join(sentences.of_change(change)))
    print(texts.screen("plan count", count=len(everything)) if everything else texts.screen("plan none"))
    if flush:
        print(texts.screen("plan flush"))
    return 0


async def _send(session: Session, changes: list[diff.Change]) -> None:
    for change in changes:
        await session.send(sentences.of_change(change))


async def _flush(connect: Connect, prefixes: tuple[str, ...]) -> bool:
    """Once: flows that were fasttracked or unmarked before the rules stood would go on as before.

    False if the router has more connections of a kind than a reply may have. Each kind is read over a connection of its
    own, because such a reply ends it.
    """
    networks = [ipaddress.IPv4Network(prefix) for prefix in prefixes]
    complete = True
    for protocol in ("udp", "tcp"):
        session = await connect()
        try:
            try:
                rows = await session.print(
                    "/ip/firewall/connection", (".id", "dst-address"), (f"?protocol={protocol}",)
                )
            except RouterProtocolError:
                print(texts.screen("flush failed", name=protocol.upper()), file=sys.stderr)
                complete = False
                continue
            for row in rows:
                address = row.get("dst-address", "").partition(":")[0]
                with contextlib.suppress(ValueError, RouterTrap):  # not an IPv4 row, or it ended by itself
                    if any(ipaddress.IPv4Address(address) in network for network in networks):
                        await session.remove("/ip/firewall/connection", row[".id"])
        finally:
            await session.close()
    return complete
