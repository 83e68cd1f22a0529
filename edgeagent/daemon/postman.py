"""Delivers what is in the outbox, by whichever path carries voice now, until the server has taken it.

What leaves when and in which form is decided by core/post.py; here it is carried out, one message at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeagent.config.site import Site
from edgeagent.core import post
from edgeagent.core.facts import Fact, Instant, PartFailed, PartWorks
from edgeagent.core.intents import Notify
from edgeagent.core.post import Drop, Merge, Send, Unsent
from edgeagent.core.settings import MailSettings
from edgeagent.daemon.outbox import Outbox
from edgeagent.outlets import mail
from edgeagent.store.records import Outgoing
from edgeagent.texts import letter

if TYPE_CHECKING:
    from email.message import EmailMessage

log = logging.getLogger(__name__)
DEADLINE_S = 20.0
RETRY_FIRST_S = 3.0
RETRY_MAX_S = 60.0  # a way that opens again is used well within the two minutes of clause N4
REFUSED_S = 900.0  # a server that says never is not asked every minute: each time costs data, and its patience
REFUSED = -1
UNTRUSTED_S = 3600.0  # so long a certificate that is not trusted is asked for again each minute
LOOK_S = 60.0
DROPPED_S = 86400.0  # how long it is shown that a mail was dropped
STEPS_MAX = 1000  # of one round; more would be a defect that must not spin
TEXT_OF = {"restored": "failover", "cleared": "fault"}  # which message a closing one answers to


def message_id(site: Site, incident: str, kind: str, audience: str) -> str:
    """The same for the same notice for ever, so that a resend can be recognised (clause N3)."""
    return f"{site.id}.{incident}.{kind}.{audience}@{site.mail.sender.rpartition('@')[2]}"


def outgoing(site: Site, notice: Notify, now: Instant) -> Outgoing:
    """A notice as the outbox takes it: values, never prose."""
    known = message_id(site, notice.incident, notice.kind, notice.audience)
    return Outgoing(known, notice.incident, notice.audience, notice.kind, notice, now)


class Postman:
    """Sends due messages one after the other. ``server`` is asked for when it is needed: its secrets may come later."""

    def __init__(
        self,
        site: Site,
        server: Callable[[], mail.MailServer],
        outbox: Outbox,
        source: Callable[[], str],
        instant: Callable[[], Instant],
        tell: Callable[[Fact], None],
        settings: MailSettings,
    ) -> None:
        self.site = site
        self.server = server
        self.outbox = outbox
        self.source = source
        self.instant = instant
        self.tell = tell
        self.settings = settings
        self.wake = asyncio.Event()
        self.retry_s: dict[str, float] = {}
        self.tries: dict[str, int] = {}  # in vain so far, or REFUSED
        self.untrusted_s: float | None = None  # since when the server's certificate has been wrong at each try
        # Taken for some recipients, refused for these: such a message holds up no other, or one dead address in a list
        # would keep its neighbours from hearing of anything else (clause N4). Who has it counts for the cap (N5).
        self.left: dict[str, tuple[str, ...]] = {}
        self.partly: dict[str, post.Done] = {}
        self.dropped_s: float | None = None
        self.troubles: dict[str, str] = {}  # by audience, what was told of it
        self.queued = 0
        self.failed: str | None = None

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            next_s = await self._round()
            wait_s = LOOK_S if next_s is None else min(max(0.1, next_s - self.instant().mono_s), LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.wake.wait()
            self.wake.clear()

    def way_changed(self) -> None:
        """Voice goes by another path now: what could not be reached before is tried again at once, as if never tried.
        What the server itself refused waits on.
        """
        self.tries = {key: tries for key, tries in self.tries.items() if tries == REFUSED}
        self.retry_s = {key: at_s for key, at_s in self.retry_s.items() if key in self.tries}
        self.untrusted_s = None
        self.wake.set()

    async def _round(self) -> float | None:
        """Everything that is due; when to look again."""
        for _ in range(STEPS_MAX):
            everything = await self.outbox.queue()
            self.queued = len(everything)
            now = self.instant()
            if self.dropped_s is not None and now.mono_s - self.dropped_s >= DROPPED_S:
                self.dropped_s = None
                self.tell(PartWorks("outbox", now.mono_s))
            queue = [one for one in everything if one.id not in self.left or post.too_old(one, now, self.settings)]
            done = [*self.outbox.done(), *self.partly.values()]
            plan = post.plan(queue, done, self.retry_s, now, self.settings)
            if not plan.actions:
                rest = [
                    one for one in everything if one.id in self.left and self.retry_s.get(one.id, 0.0) <= now.mono_s
                ]
                if not rest:
                    return plan.next_s  # those of self.left are looked at each LOOK_S
                await self._deliver(rest[0])
                continue
            if not self._rearranged(queue, plan, now):
                first = next(action for action in plan.actions if isinstance(action, Send))
                await self._deliver(next(one for one in queue if one.id == first.id))
        return None

    def _rearranged(self, queue: list[Unsent], plan: post.Plan, now: Instant) -> bool:
        """Merges and drops; whether there were any."""
        created = {one.id: one.created for one in queue}
        found = False
        for action in plan.actions:
            match action:
                case Drop():
                    log.error("mail %s dropped: %s", action.id, action.reason)
                    self.outbox.dropped(action.id, action.reason)
                    self._forget(action.id)
                    self.dropped_s = now.mono_s
                    self.tell(PartFailed("outbox", "mail_too_old", now.mono_s))
                case Merge():
                    message = outgoing(self.site, action.notice, created[action.ids[-1]])
                    log.info("%d mails become one: %s", len(action.ids), message.message_id)
                    self.outbox.merged(action.ids, message)
                    for merged in action.ids:
                        self._forget(merged)
                case Send():
                    continue
            found = True
        return found

    async def _deliver(self, one: Unsent) -> None:
        taken = False

        def when_taken(receipt: mail.Receipt) -> None:
            nonlocal taken
            taken = True
            self._taken(one, receipt)

        try:
            message = await asyncio.to_thread(self._message, one)  # the first one loads what words a mail
        except Exception as error:  # what a later version queued may have no words here: it must not stop the others
            log.exception("mail %s cannot be worded", one.id)
            self._again(one, "mail_unusable", str(error))
            return
        try:
            left = self.left.get(one.id, ())

            async def handing_over() -> None:
                await self.outbox.handing_over(one, self.instant())

            await mail.submit(
                message, self.server(), self.source(), DEADLINE_S, left, handing_over=handing_over, taken=when_taken
            )
        except (mail.MailError, ValueError, OSError) as error:  # OSError: a secret that cannot be read
            if not taken:  # else it was the goodbye
                self._not_delivered(one, error)

    def _taken(self, one: Unsent, receipt: mail.Receipt) -> None:
        now, audience = self.instant(), one.notice.audience
        if receipt.refused:
            self.left[one.id] = receipt.refused
            self.partly.setdefault(one.id, post.Done(audience, one.notice.incident, now))
            self._again(one, "mail_refused", f"{receipt.answer}; not for {len(receipt.refused)} of its recipients")
            return
        self._forget(one.id)
        self.outbox.sent(one, now, receipt.answer)
        self.failed = self.untrusted_s = None
        if self.troubles.pop(audience, None) is not None:
            self.tell(PartWorks(f"mail {audience}", now.mono_s))

    def _not_delivered(self, one: Unsent, error: Exception) -> None:
        # ValueError: a message that no server would take, an authority's file that is none
        code = error.fault if isinstance(error, mail.MailError) else "mail_unusable"
        self._again(one, code, str(error))

    def _again(self, one: Unsent, code: str, why: str) -> None:
        now = self.instant()
        patient = code in ("mail_refused", "mail_login_refused")  # a server that said no
        tries = 0 if patient else max(0, self.tries.get(one.id, 0))
        most_s = self._wait_max_s(code, now.mono_s)
        wait_s = REFUSED_S if patient else min(RETRY_FIRST_S * 2 ** min(tries, 10), most_s)
        new = one.id not in self.retry_s
        self.tries[one.id] = REFUSED if patient else tries + 1
        self.retry_s[one.id] = now.mono_s + wait_s
        self.failed = code
        if self.troubles.get(one.notice.audience) != code:
            new = True
            self.troubles[one.notice.audience] = code
            self.tell(PartFailed(f"mail {one.notice.audience}", code, now.mono_s))
        if new:
            log.warning("mail %s not sent, again in %.0f s: %s", one.id, wait_s, why)
            self.outbox.failed(one, now, why, now.mono_s + wait_s)

    def _wait_max_s(self, code: str, now_s: float) -> float:
        """A certificate may be right a moment later, the clock being set or a hotel's page gone, and then the mail is
        due (clause N4); one that is wrong for longer is so for good.
        """
        if code != "mail_untrusted":
            self.untrusted_s = None
            return RETRY_MAX_S if code == "mail_unreachable" else REFUSED_S
        if self.untrusted_s is None:
            self.untrusted_s = now_s
        return RETRY_MAX_S if now_s - self.untrusted_s < UNTRUSTED_S else REFUSED_S

    def _forget(self, message_id: str) -> None:
        self.retry_s.pop(message_id, None)
        self.tries.pop(message_id, None)
        self.left.pop(message_id, None)
        self.partly.pop(message_id, None)

    def _message(self, one: Unsent) -> EmailMessage:
        notice, site = one.notice, self.site
        words = letter(notice, site.id, site.name, site.timezone)
        opening = TEXT_OF.get(notice.kind)
        first = message_id(site, notice.incident, opening, notice.audience) if opening else None
        return mail.build(
            mail.Notice(
                incident=notice.incident,
                kind=notice.kind,
                audience=notice.audience,
                sender=site.mail.sender,
                to=site.mail.customer if notice.audience == "customer" else site.mail.support,
                subject=words.subject,
                text=words.text,
                html=words.html,
                message_id=one.id,
                date=datetime.fromtimestamp(self._written(one.created), UTC),
                in_reply_to=first,
                references=(first,) if first else (),
            )
        )

    def _written(self, created: Instant) -> float:
        """Wall time of a message; where the clock was not set then, told from the clock as it is now."""
        if created.wall is not None:
            return created.wall
        now = self.instant()
        age_s = now.mono_s - created.mono_s if now.boot_id == created.boot_id else 0.0
        return max(0.0, (now.wall or 0.0) - age_s)
