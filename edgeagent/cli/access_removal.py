"""``edgeagent provision --remove`` of the agent's access: with the owner's login wholly, else as far as it can."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable

from edgeagent import texts
from edgeagent.cli import owner
from edgeagent.cli.access import (
    GIVEN_BACK,
    PROVED,
    Memory,
    carried_out,
    former_service,
    memory_of,
    remember,
    remembered,
    session,
)
from edgeagent.config.site import Site
from edgeagent.host import secrets
from edgeagent.routeros import access
from edgeagent.routeros.errors import RouterComplaint, RouterError, RouterUnreachable
from edgeagent.store.store import Store


def remove(site: Site, arguments: argparse.Namespace, rules: Callable[[], int]) -> int:
    """Take ``rules`` away, then the access: wholly with the owner's login, else as far as the agent's user may."""
    memory = asyncio.run(remembered(site))
    if memory is None or memory.state != GIVEN_BACK:  # else nothing of ours gets in any more
        code = rules()
        if code or (memory is None and arguments.ssh_user is None):
            return code
    if arguments.ssh_user is None:
        return carried_out(site, arguments, _close_behind)
    return carried_out(site, arguments, _remove)


async def _remove(site: Site, arguments: argparse.Namespace, store: Store) -> int:
    """With the owner's login: all that the bootstrap brought in."""
    connection = owner.connect(site, arguments)
    try:
        router = owner.Console(connection)
        found = router.found()
        known = await memory_of(store) is not None or access.has_user(found, site.router.user)
        there = access.there(found, site.router.user) if known else []  # else the names may be somebody else's
        values = await former_service(store) if "service" in there else access.service(found)
        await remember(store, Memory(GIVEN_BACK, [], {}, ""))  # from here on nobody of ours gets in
        for line in (*access.undo_lines(site.router.user, there, values), access.disarm_line()):
            router.say(line)
        router.clear(router.leftovers())
        if known and (left := access.there(router.found(), site.router.user)):
            raise RouterComplaint(texts.screen("access left", parts=", ".join(left)))
    finally:
        connection.close()
    await remember(store, None, {})
    print(texts.screen("access removed") if there else texts.screen("access none"))
    return 0


async def _close_behind(site: Site, _arguments: argparse.Namespace, store: Store) -> int:
    """Without it: api-ssl is given back as the last thing that the agent's user does; the rest is said."""
    again = (await memory_of(store) or Memory(PROVED, [], {}, "")).state == GIVEN_BACK
    former = await former_service(store)
    await remember(store, Memory(GIVEN_BACK, [], {}, ""))
    try:
        await _give_back(site, former)
        done = True
    except RouterError:
        if not again:
            raise
        done = False  # most likely it was given back the first time
    lines = access.undo_lines(site.router.user, access.PARTS, former)
    print(texts.screen("access remains", lines="\n  ".join(lines[done:])))
    return 0


async def _give_back(site: Site, values: dict[str, str]) -> None:
    opened = await session(site, secrets.read(site.router.password_file))
    try:
        rows = await opened.print("/ip/service", (".id", "name", "dynamic"), ("?name=api-ssl",))
        for row in rows:
            if row.get("dynamic") != "true":  # from 7.19 on those that are dynamic are connections, such as this one
                await opened.set("/ip/service", row[".id"], values)
    except RouterUnreachable as error:
        if not error.maybe_done:  # the answer is lost where the router closes the service at once
            raise
    finally:
        await opened.close()
