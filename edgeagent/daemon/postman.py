"""Delivers what is queued in the outbox, by whichever path carries voice now, until the server has taken it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edgeagent.config.site import Site
from edgeagent.core.facts import Fact, Instant, NoticeSent
from edgeagent.core.intents import Notify
from edgeagent.outlets import mail
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing, Queued
from edgeagent.store.store import Store
from edgeagent.texts import letter

if TYPE_CHECKING:
    from email.message import EmailMessage

log = logging.getLogger(__name__)
DEADLINE_S = 20.0
RETRY_FIRST_S = 3.0
RETRY_MAX_S = 60.0  # a way that opens again is used well within the two minutes of clause N4
LOOK_S = 5.0
QUEUE_MAX = 500


class Payload(msgspec.Struct, frozen=True):
    """What the outbox keeps of a notice: values, never prose."""

    incident: str
    kind: str
    audience: str
    data: dict[str, str | float | int | None]


def message_id(site: Site, incident: str, kind: str, audience: str) -> str:
    """The same for the same notice for ever, so that a resend can be recognised (clause N3)."""
    return f"{site.id}.{incident}.{kind}.{audience}@{site.mail.sender.rpartition('@')[2]}"


def outgoing(site: Site, notice: Notify, now: Instant) -> Outgoing:
    """A notice as the outbox takes it."""
    payload = Payload(notice.incident, notice.kind, notice.audience, notice.data)
    known = message_id(site, notice.incident, notice.kind, notice.audience)
    return Outgoing(known, notice.incident, notice.audience, notice.kind, payload, now)


class Postman:
    """Sends due messages, one at a time, oldest first, so that "restored" never overtakes "failover"."""

    def __init__(
        self,
        site: Site,
        server: mail.MailServer,
        store: Store,
        source: Callable[[], str],
        instant: Callable[[], Instant],
        tell: Callable[[Fact], None],
    ) -> None:
        self.site = site
        self.server = server
        self.store = store
        self.source = source
        self.instant = instant
        self.tell = tell
        self.wake = asyncio.Event()
        self.failed: str | None = None

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            try:
                await self._round()
            except StoreUnavailable as error:
                log.warning("outbox: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self.wake.wait()
            self.wake.clear()

    async def _round(self) -> None:
        """Also what is not due yet is looked at: a message that waits for its next try holds back its successors."""
        blocked: set[tuple[str, str]] = set()
        now = self.instant()
        for queued in await self.store.outbox_due(replace(now, mono_s=float("inf")), QUEUE_MAX):
            thread = (queued.incident, queued.audience)
            waits = queued.next_try_boot == now.boot_id and queued.next_try_s > now.mono_s
            if thread not in blocked and (waits or not await self._deliver(queued)):
                blocked.add(thread)

    async def _deliver(self, queued: Queued) -> bool:
        now = self.instant()
        try:
            answer = await mail.submit(self._message(queued), self.server, self.source(), DEADLINE_S)
        except (mail.MailError, ValueError) as error:  # ValueError: a message that no server would take
            wait_s = min(RETRY_FIRST_S * 2 ** min(queued.tries, 10), RETRY_MAX_S)
            log.warning("mail %s not sent, again in %.0f s: %s", queued.message_id, wait_s, error)
            self.failed = str(error)
            await self.store.mark_try(queued.message_id, str(error), now, now.mono_s + wait_s)
            return False
        self.failed = None
        await self.store.mark_sent(queued.message_id, self.instant(), answer)
        self.tell(NoticeSent(queued.incident, queued.kind, queued.audience, self.instant().mono_s))
        return True

    def _message(self, queued: Queued) -> EmailMessage:
        payload = msgspec.json.decode(queued.payload, type=Payload)
        site = self.site
        words = letter(
            payload.kind, payload.audience, payload.incident, payload.data, site.id, site.name, site.timezone
        )
        first = message_id(site, payload.incident, "failover", payload.audience)
        return mail.build(
            mail.Notice(
                incident=payload.incident,
                kind=payload.kind,
                audience=payload.audience,
                sender=site.mail.sender,
                to=site.mail.customer if payload.audience == "customer" else site.mail.support,
                subject=words.subject,
                text=words.text,
                html=words.html,
                message_id=queued.message_id,
                date=datetime.fromtimestamp(self._written(queued.created), UTC),
                in_reply_to=first if payload.kind == "restored" else None,
                references=(first,) if payload.kind == "restored" else (),
            )
        )

    def _written(self, created: Instant) -> float:
        """Wall time of a message; where the clock was not set then, told from the clock as it is now."""
        if created.wall is not None:
            return created.wall
        now = self.instant()
        age_s = now.mono_s - created.mono_s if now.boot_id == created.boot_id else 0.0
        return max(0.0, (now.wall or 0.0) - age_s)
