"""The registrar's address, where site.toml has a name for it.

Everything else works with one address, so another address means a new start, which takes over the site as it is: the
router's leases outlive it. Only the registrar's own probes go there; voice is moved by prefixes, whichever of the
provider's servers a phone has chosen. So an address a little out of date costs little, and a new start waits:

- until the present address has been missing from every answer for a while, for some name servers hand out one of
  several in turn;
- until voice is at home on a line that is up and nobody talks, for a start is blind for some seconds;
- until the disk has the new address, else the next start would begin with the old one, again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from edgeagent import texts
from edgeagent.config.site import Site
from edgeagent.core.facts import Fact, PartFailed, PartWorks
from edgeagent.host import clock, systemd
from edgeagent.probes import dns
from edgeagent.probes.dns import Answer
from edgeagent.probes.errors import NameUnresolved
from edgeagent.routeros.values import is_ipv4
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.store import Store

log = logging.getLogger(__name__)
PART = "registrar"
KEPT = "registrar"  # the name of the store's value
UNRESOLVED, OUTSIDE = "registrar_unresolved", "registrar_outside_prefixes"
FLOOR_S, DAY_S = 300.0, 86400.0  # how often a name is asked for, whatever its owner says
GONE_S = 3600.0
QUIET_S = 10.0
AGAIN_S = 10.0  # at a start without any address
STORE_S = 5.0
ASK_S = 15.0  # of all resolvers by one path
EXTEND_S = 60.0


class First(Struct, frozen=True):
    """The address to start with. ``due_s``: when it is to be asked for next; ``kept``: whether the disk has it."""

    address: str
    due_s: float
    kept: bool


class Registrar:
    """Follows the name. ``ask``: by the path that carries voice. ``keep``: whether the disk has taken an address.

    ``quiet``: whether a new start would disturb nobody.
    """

    def __init__(
        self,
        site: Site,
        ask: Callable[[], Awaitable[Answer]],
        keep: Callable[[str], Awaitable[bool]],
        quiet: Callable[[], bool],
        tell: Callable[[Fact], None],
        now: Callable[[], float],
    ) -> None:
        self.site = site
        self.ask = ask
        self.keep = keep
        self.quiet = quiet
        self.tell = tell
        self.now = now
        self.kept = False
        self.missing_since_s: float | None = None

    async def follow(self, due_s: float, *, kept: bool) -> None:
        """Ask again and again; returns once the disk has another address to start with."""
        self.kept = kept
        while True:
            await self._wait(due_s)
            answer = await self._answer()
            other = None if answer is None else self._other(answer)
            if other is not None and await self._quiet() and await self.keep(other):
                log.warning("the registrar %s is now %s; starting anew", self.site.provider.registrar_name, other)
                return
            due_s = self.now() + (FLOOR_S if answer is None or self.missing_since_s is not None else _holds_s(answer))

    async def _wait(self, until_s: float) -> None:
        """Meanwhile the disk gets the present address, however late it takes it."""
        while (left_s := until_s - self.now()) > 0:
            self.kept = self.kept or await self.keep(self.site.provider.registrar)
            await asyncio.sleep(left_s if self.kept else min(left_s, FLOOR_S))

    async def _answer(self) -> Answer | None:
        """None where there is no use in it; that is told."""
        try:
            answer = await self.ask()
        except NameUnresolved as error:
            log.info("%s", error)
            self.tell(PartFailed(PART, UNRESOLVED, self.now()))
            return None
        if not within(self.site, answer):
            self.tell(PartFailed(PART, OUTSIDE, self.now()))
            return None
        self.tell(PartWorks(PART, self.now()))
        return answer

    def _other(self, answer: Answer) -> str | None:
        """Another address to start with, once the present one has been missing for long enough."""
        if self.site.provider.registrar in answer.addresses:
            self.missing_since_s = None
            return None
        if self.missing_since_s is None:
            self.missing_since_s = self.now()
        return within(self.site, answer)[0] if self.now() - self.missing_since_s >= GONE_S else None

    async def _quiet(self) -> bool:
        """Wait for it, not longer than an answer may be old."""
        until_s = self.now() + FLOOR_S
        while not self.quiet():
            if self.now() >= until_s:
                return False
            await asyncio.sleep(QUIET_S)
        return True


def _holds_s(answer: Answer) -> float:
    return min(max(float(answer.ttl_s), FLOOR_S), DAY_S)


def within(site: Site, answer: Answer) -> tuple[str, ...]:
    """The addresses of an answer whose calls would be moved."""
    return tuple(address for address in answer.addresses if site.provider.holds(address))


async def ask(site: Site, source: str) -> Answer:
    """Once, from ``source``; raises NameUnresolved."""
    try:
        async with asyncio.timeout(ASK_S):
            name, resolvers = site.provider.registrar_name, site.voice.resolvers
            return await dns.addresses(name, source, resolvers, clock.token, dns.PORT)
    except TimeoutError:
        raise NameUnresolved(f"{site.provider.registrar_name}: no resolver answers {source} in time") from None


def kept(site: Site, address: str) -> dict[str, bytes]:
    """For ``Store.commit``."""
    return {KEPT: json.dumps({"name": site.provider.registrar_name, "address": address}).encode()}


def remembered(site: Site, value: bytes | None) -> str:
    """The last good address of this name, as far as it is still one of the provider's; else empty."""
    try:
        found = json.loads(value or b"{}")
        name, address = str(found.get("name")), str(found.get("address"))
    except (ValueError, AttributeError):
        return ""
    return address if name == site.provider.registrar_name and is_ipv4(address) and site.provider.holds(address) else ""


async def first(site: Site, opening: asyncio.Task[Store]) -> First:
    """The last good address at once, whatever lines and resolvers do; without any, the first that somebody tells.

    Without address there is no start: the probes would lack the server that it is all about. The service manager is
    told meanwhile, so that it does not end the wait.
    """
    told = ""
    while True:
        if address := await _recalled(site, opening):
            return First(address, due_s=clock.mono_s(), kept=True)
        why = ""
        for source in dict.fromkeys(site.agent_address if site.router_pings else path.source for path in site.paths):
            systemd.extend(EXTEND_S, texts.screen("unit waits", name=site.provider.registrar_name))
            try:
                answer = await ask(site, source)
            except NameUnresolved as error:
                why = why or str(error)
                continue
            if found := within(site, answer):
                return First(found[0], due_s=clock.mono_s() + _holds_s(answer), kept=False)
            why = texts.screen("registrar outside", name=site.provider.registrar_name, found=answer.addresses[0])
        if why != told:
            told = why
            log.warning("no address of the registrar yet: %s", why)
        await asyncio.sleep(AGAIN_S)


async def _recalled(site: Site, opening: asyncio.Task[Store]) -> str:
    """What the disk remembers, where it tells in time."""
    await asyncio.wait({opening}, timeout=STORE_S)
    if opening.done() and opening.exception() is None:
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(STORE_S):
                return remembered(site, await opening.result().kept(KEPT))
    return ""
