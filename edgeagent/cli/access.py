"""The agent's access to its router, as the commands that bring it in and take it away share it: what is remembered of
it, and how it is tried.

The store holds the memory under ``access``, and the owner's values of api-ssl among the adopted settings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from edgeagent import texts
from edgeagent.cli.owner import Refused
from edgeagent.config.site import Site
from edgeagent.core.facts import Instant
from edgeagent.host import clock, secrets
from edgeagent.host.ownership import as_owner, hand_over
from edgeagent.routeros import access, adopted
from edgeagent.routeros.errors import RouterError
from edgeagent.routeros.session import Session
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Record
from edgeagent.store.store import Store

KEPT = "access"
UNDER_WAY, PROVED, GIVEN_BACK = "under way", "proved", "given back"
DEADLINE_S = 15.0
Work = Callable[[Site, argparse.Namespace, Store], Awaitable[int]]


class Memory(Struct, frozen=True):
    """What is kept between runs. ``new``: the parts that were not there; ``before``: api-ssl as it was then;
    ``backup``: the name of the backup taken before the first change.
    """

    state: str
    new: list[str]
    before: dict[str, str]
    backup: str


def carried_out(site: Site, arguments: argparse.Namespace, work: Work) -> int:
    """Do work that needs the store, and say what ended it; returns the exit code."""
    try:
        return asyncio.run(_with_store(site, arguments, work))
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except RouterError as error:
        print(texts.screen("bootstrap stopped", why=_without_password(site, str(error))), file=sys.stderr)
    except OSError as error:
        print(texts.screen("not written", file=str(error.filename), why=str(error.strerror)), file=sys.stderr)
    except StoreUnavailable as error:
        print(texts.screen("store stopped", why=str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(texts.screen("bootstrap interrupted"), file=sys.stderr)
    return 1


def _without_password(site: Site, text: str) -> str:
    """A router may quote what it was sent."""
    try:
        return access.hidden(text, [secrets.read(site.router.password_file)])
    except OSError:
        return text


async def _with_store(site: Site, arguments: argparse.Namespace, work: Work) -> int:
    folder = Path(site.state_folder)
    hand_over(folder)  # what a root without as_owner() left there
    with as_owner(folder):
        store = await Store.open(folder / "store.db")
    try:
        return await work(site, arguments, store)
    finally:
        await store.close()


async def remembered(site: Site) -> Memory | None:
    """The memory, where there is a store already."""
    place = Path(site.state_folder) / "store.db"
    if not place.exists():
        return None
    try:
        with as_owner(place.parent):
            store = await Store.open(place)
    except StoreUnavailable:  # told by who needs it
        return None
    try:
        return await memory_of(store)
    finally:
        await store.close()


async def memory_of(store: Store) -> Memory | None:
    """What is known of the access; None where there never was one."""
    kept = json.loads(await store.kept(KEPT) or b"null")
    return None if kept is None else Memory(**kept)


async def remember(store: Store, memory: Memory | None, former: dict[str, str] | None = None) -> None:
    """Before a change is made, so that whatever ends this run, the next one knows."""
    now = Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())
    value = None if memory is None else {name: getattr(memory, name) for name in memory.__struct_fields__}
    keep = {KEPT: json.dumps(value).encode()}
    if former is not None:
        keep[adopted.KEPT] = json.dumps(former).encode()
    state = {"state": "removed" if memory is None else memory.state}
    await store.commit([Record("router access", now, state)], keep=keep)


async def former_service(store: Store) -> dict[str, str]:
    """The owner's values of api-ssl; as from the factory where nobody knows them any more."""
    kept = json.loads(await store.kept(adopted.KEPT) or b"{}")
    return {each.attribute: kept.get(each.key, access.FACTORY[each.attribute]) for each in adopted.ACCESS}


async def log_in(site: Site, password: str) -> None:
    """Come in as the agent does, and read something. Raises the errors of a session."""
    opened = await session(site, password)
    try:
        await opened.print("/system/identity", ("name",))
    finally:
        await opened.close()


async def session(site: Site, password: str) -> Session:
    """A session of the agent's user from the agent's address."""
    router = site.router
    return await Session.open(
        router.address, router.port, router.user, password, pinned(site), DEADLINE_S, source=site.agent_address
    )


def pinned(site: Site) -> str:
    """The certificate that is pinned; empty where there is none yet."""
    try:
        return Path(site.router.certificate).read_text(errors="replace")
    except FileNotFoundError:
        return ""
