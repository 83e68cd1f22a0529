"""``edgeagent provision``: reads what the router holds, works out the difference, shows or applies it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from edgeagent import texts
from edgeagent.cli import access_removal, bootstrap
from edgeagent.cli import known as familiar
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.redact import Redactor
from edgeagent.config.site import DHCP, Site, load, resolved
from edgeagent.core.facts import Instant
from edgeagent.daemon import registrar, survey
from edgeagent.daemon.memory import FLUSH_DUE, FORMER, NO, PROVISIONED, provisioned
from edgeagent.daemon.survey import Survey
from edgeagent.host import clock, secrets
from edgeagent.host.ownership import as_owner, hand_over
from edgeagent.probes.errors import NameUnresolved
from edgeagent.routeros import adopted, diff, meaning, obstacles, sentences
from edgeagent.routeros.errors import RouterError, RouterProtocolError, RouterTrap
from edgeagent.routeros.rows import DEVICES, DRILL, NO_GATEWAY, TAG, Dialect, Row, Wish
from edgeagent.routeros.ruleset import menus, ports
from edgeagent.routeros.session import Session
from edgeagent.routeros.values import row_id, same
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.records import Record
from edgeagent.store.store import Store

DEADLINE_S = 15.0
PINGS = 3
TURN_S = 20.0
TOLD_S, TOLD_AGAIN_S = 20.0, 0.5  # for a modem to hand out an address
Connect = Callable[[], Awaitable[Session]]


def add(commands: Commands) -> None:
    """Declare the command."""
    declared = command(commands, "provision", main)
    how = declared.add_mutually_exclusive_group(required=True)
    for option in ("--plan", "--apply", "--remove", "--bootstrap"):
        flag(how, "provision", option)
    bootstrap.add(declared)


def main(arguments: argparse.Namespace) -> int:
    """Plan, apply or remove; or first of all get in."""
    site = load(arguments.site)
    if arguments.bootstrap:
        return bootstrap.main(site, arguments)
    if arguments.remove:
        return access_removal.remove(site, arguments, lambda: run(site, "remove"))
    return run(site, "apply" if arguments.apply else "plan")


def run(site: Site, verb: str) -> int:
    """``plan``, ``apply`` or ``remove``; returns the exit code."""
    try:
        password = secrets.read(site.router.password_file)
        pinned = Path(site.router.certificate).read_text()
    except OSError as error:
        print(texts.screen("unreadable", file=error.filename, why=error.strerror), file=sys.stderr)
        return 2
    return asyncio.run(_run(site, verb, password, pinned))


async def _run(site: Site, verb: str, password: str, pinned: str) -> int:
    router = site.router
    discreet = Redactor(familiar.known(site, {router.password_file: password}))  # a router may quote what it was sent

    async def connect() -> Session:
        return await Session.open(
            router.address, router.port, router.user, password, pinned, DEADLINE_S, source=site.agent_address
        )

    try:
        session = await connect()
    except (RouterError, OSError, ValueError) as error:
        print(texts.screen("router not reached", why=discreet.line(str(error))), file=sys.stderr)
        return 2
    try:
        return await _work(session, site, verb, connect)
    except RouterError as error:
        print(texts.screen("provision stopped", why=discreet.line(str(error))), file=sys.stderr)
        return 1
    except StoreUnavailable as error:
        print(texts.screen("store stopped", why=str(error)), file=sys.stderr)
        return 2
    finally:
        await session.close()


async def _work(session: Session, site: Site, verb: str, connect: Connect) -> int:
    version = await survey.version_of(session)
    dialect = survey.dialect_of(version)
    if dialect is None:
        print(texts.screen("version refused", version=version or "(unknown)"), file=sys.stderr)
        return 2
    folder = Path(site.state_folder)
    turn = Exclusive(site.state_folder)
    hand_over(folder)  # what a root without as_owner() left there
    with as_owner(folder):
        store = await Store.open(folder / "store.db")
        alone = verb == "plan" or await _had(turn)
    try:
        if not alone:
            print(texts.screen("router busy"), file=sys.stderr)
            return 2
        former = json.loads(await store.kept(FORMER) or b"{}")
        if site.provider.registrar_name:
            address = await _registrar(site, store, verb)
            if not address:
                return 2
            site = resolved(site, address)
        known = await survey.board(session, site, dialect)
        left = await survey.no_longer_adopted(session, former, survey.wish(site, known), dialect, known)
        if verb == "remove":
            # Said first: an agent that runs must not put back what is being taken away.
            await store.commit([], keep={PROVISIONED: NO})
            found = await survey.survey(session, site, dialect, known)
            await _remove(session, replace(found, settings={**found.settings, **left}), former)
            await _remove_timed(session, site)
            # Given back: what holds from now on is the owner's, and no flow is bound to a line by rules of ours.
            await store.commit([], keep={FORMER: json.dumps(adopted.of_access(former)).encode(), FLUSH_DUE: b""})
            return 0
        if await _hindered(session, survey.wish(site, known)):
            return 2
        await _judge_canaries(session, site, dialect)
        if verb == "plan":
            found = await survey.survey(session, site, dialect, known)
            return _show(found, due=bool(await store.kept(FLUSH_DUE)))
        await _give_back(session, store, left, former)
        if not await _apply(session, site, dialect, store, former, connect):
            return 2
        await store.commit([], keep=provisioned(survey.approval_of(site, dialect, known)))
        return 0
    finally:
        await turn.close()
        await store.close()


async def _had(turn: Exclusive) -> bool:
    """Whether the router is ours alone to write to, once an agent that is just putting something right is done."""
    deadline_s = clock.mono_s() + TURN_S
    while not await turn.take():
        if clock.mono_s() > deadline_s:
            return False
        await asyncio.sleep(TOLD_AGAIN_S)
    return True


async def _registrar(site: Site, store: Store, verb: str) -> str:
    """The registrar's address, and where it comes from; empty where nobody knows. ``apply`` keeps it for the agent."""
    name = site.provider.registrar_name
    known = registrar.remembered(site, await store.kept(registrar.KEPT))
    if verb == "remove":  # what goes are rows of ours, whatever addresses are in them
        return known or site.provider.prefixes[0].partition("/")[0]
    try:
        answer = await registrar.ask(site, site.agent_address)
    except NameUnresolved as error:
        why, found = str(error), ""
    else:
        why = texts.screen("registrar outside", name=name, found=", ".join(answer.addresses))
        usable = registrar.within(site, answer)
        found = known if known in usable else next(iter(usable), "")
    if found:
        print(texts.screen("registrar asked", name=name, address=found))
    elif known:
        print(texts.screen("registrar remembered", name=name, address=known, why=why), file=sys.stderr)
    else:
        print(texts.screen("registrar unknown", why=why), file=sys.stderr)
    if found and verb == "apply":
        await store.commit([], keep=registrar.kept(site, found))
    return found or known


async def _hindered(session: Session, wish: Wish) -> bool:
    """Say what stands in the way, each with what to do, and what of the owner's will work differently."""
    seen = await survey.hindrances(session)
    blocking = obstacles.blocking(wish, seen)
    for one in (*blocking, *obstacles.worth_knowing(seen)):
        print(texts.obstacle(one.code, one.found), file=sys.stderr)
    return bool(blocking)


async def _apply(
    session: Session, site: Site, dialect: Dialect, store: Store, former: dict[str, str], connect: Connect
) -> bool:
    """The ports of the backups first: what next hop they are given is known only then. Whether all could be done."""
    count = 0
    found = await survey.survey(session, site, dialect, await survey.board(session, site, dialect))
    if any(path.kind == DHCP for path in site.paths[1:]):
        count += await _make(session, store, _ports(found, dialect), former)
        told = await _told(session, store, site, dialect)
        if told is None:
            return False
        found = told
    count += await _make(session, store, found, former)
    if await store.kept(FLUSH_DUE) and await _flush(connect, site.provider.voice):
        await store.commit([], keep={FLUSH_DUE: b""})
    print(texts.screen("applied", count=count))
    return True


async def _give_back(session: Session, store: Store, left: adopted.Found, former: dict[str, str]) -> None:
    """What another site.toml had us adopt, such as the port of a modem that sits on another one now."""
    back = adopted.giving_back(left, former)
    await _send(session, [*back.before, *back.after])
    for setting in left:
        del former[setting.key]
    if left:
        await store.commit([], keep={FORMER: json.dumps(former).encode()})


def _ports(found: Survey, dialect: Dialect) -> Survey:
    """Of all that is wanted, what gives the backups' ports an address; nothing is removed yet."""
    first = ports(found.wish, dialect)
    kept = {menu: [row for row in rows if _among(row, first)] for menu, rows in found.seen.items()}
    return replace(found, wanted=first, seen=kept)


def _among(row: dict[str, str], rows: list[Row]) -> bool:
    comment = row.get("comment", "")
    return not comment.startswith(TAG) or comment in {one.comment for one in rows}


async def _told(session: Session, store: Store, site: Site, dialect: Dialect) -> Survey | None:
    """The survey once every backup has been told its next hop, or has had time enough for it. None, and said, where a
    modem has handed out an address of a network that another port has: that client of ours is off again.
    """
    deadline_s = clock.mono_s() + TOLD_S
    while True:
        known = await survey.board(session, site, dialect)
        if await _withdrawn(session, store, survey.wish(site, known)):
            return None
        silent = [path for path in site.paths if known.next_hops[path.name] == NO_GATEWAY]
        if not silent or clock.mono_s() > deadline_s:
            break
        await asyncio.sleep(TOLD_AGAIN_S)
    for path in silent:
        print(texts.screen("no next hop", path=path.name, port=path.interface), file=sys.stderr)
    return await survey.survey(session, site, dialect, known)


async def _withdrawn(session: Session, store: Store, wish: Wish) -> bool:
    """At once, before anything else is asked: with two such ports the router may lose sight of the agent."""
    addresses = {"/ip/address": await session.print("/ip/address", obstacles.READ["/ip/address"])}
    doubled = obstacles.doubled(wish, addresses)
    if not doubled:
        return False
    # An agent that runs must not put it back.
    await store.commit([], keep={PROVISIONED: NO})
    ports_met = {one.found["port"] for one in doubled}
    clients = {f"{TAG}dhcp-{uplink.tag}" for uplink in wish.uplinks if uplink.interface in ports_met}
    for row in await session.print("/ip/dhcp-client", (".id", "comment")):
        if row.get("comment") in clients:
            await session.set("/ip/dhcp-client", row[".id"], {"disabled": "yes"})
    for one in doubled:
        print(texts.obstacle(one.code, one.found), file=sys.stderr)
    print(texts.screen("client withdrawn"), file=sys.stderr)
    return True


async def _make(session: Session, store: Store, found: Survey, former: dict[str, str]) -> int:
    """Make it so, former values saved first; returns the number of changes. ``former`` gets what was saved."""
    changes, values = _changes(found)
    if changes:
        # Before the first change: a run that stops half way leaves the flush to the next one.
        now = Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())
        former |= {key: value for key, value in values.items() if key not in former}
        keep = {FLUSH_DUE: b"1"} | ({FORMER: json.dumps(former).encode()} if values else {})
        await store.commit([Record("settings adopted", now, values)] if values else [], keep=keep)
    await _send(session, changes)
    return len(changes)


def _changes(found: Survey) -> tuple[list[diff.Change], dict[str, str]]:
    """In the order in which they are made, and the former values of the settings."""
    adopting, values = adopted.adopting(found.settings)
    rows = diff.ruleset_changes(found.wanted, found.seen)
    return [*adopting.before, *rows, *adopting.after], values


async def _judge_canaries(session: Session, site: Site, dialect: Dialect) -> None:
    """Say where the native fallback would be missing, or be triggered by hosts that do not answer the router."""
    if not site.canaries:
        print(texts.screen("no canaries"), file=sys.stderr)
    command = sentences.ping_command(f"{dialect.version}.")
    for host in site.canaries:
        for _ in range(PINGS):
            if any("time" in row for row in await session.send(sentences.ping_once(command, host))):
                break
        else:
            print(texts.screen("canary silent", host=host), file=sys.stderr)


async def _remove(session: Session, found: Survey, former: dict[str, str]) -> None:
    changes = diff.removal_changes(found.seen, menus(found.wanted))
    back = adopted.giving_back(found.settings, former)
    await _send(session, [*back.before, *changes, *back.after])
    print(texts.screen("removed", count=len(changes)))
    for setting, (_, value) in found.settings.items():
        if setting.key not in former and not setting.beside and same(setting.value, value):
            print(texts.screen("former unknown", setting=setting.key, value=value), file=sys.stderr)


async def _remove_timed(session: Session, site: Site) -> None:
    """What our rules, or an agent, have put into lists of ours for a time: a device learnt would stay for a week."""
    for row in await session.send(sentences.leases_print([*site.settings().lists, DEVICES, DRILL])):
        number = row_id(row)
        if row.get("dynamic") == "true" and number is not None:
            with contextlib.suppress(RouterTrap):  # it has lapsed
                await session.send(sentences.leases_remove([number]))


def _show(found: Survey, *, due: bool) -> int:
    """Every change with what it means, the sentences word for word."""
    changes, _ = _changes(found)
    settings: dict[str, list[dict[str, str]]] = {}
    for setting, (number, value) in found.settings.items():
        settings.setdefault(setting.menu, []).append({".id": number, setting.attribute: value})
    last = ""
    for change in changes:
        said = meaning.of(change, {**settings, **found.seen})
        if said.code != last:
            print(texts.meaning(said.code))
            last = said.code
        print(f"  {said.line}")
    print(texts.screen("plan count", count=len(changes)) if changes else texts.screen("plan none"))
    if changes or due:
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
