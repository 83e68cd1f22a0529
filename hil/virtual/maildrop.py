"""Reading the mails that the provider's mail server delivered.

Event (source "exim"): ``delivered`` {to, subject, message_id, in_reply_to, references, t}, where ``t`` is the time the
file was written, converted from its wall time (see provider_events.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from hil.virtual.provider_events import EventLog

_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Mail:
    """One delivered mail."""

    t: float
    """Delivery in s, CLOCK_MONOTONIC."""
    envelope_to: str
    """The recipient it was delivered for; a mail to two people is delivered twice."""
    sender: str
    to: str
    subject: str
    message_id: str
    in_reply_to: str
    references: str
    headers: dict[str, str]
    """All headers, names in lower case, the first of each name."""
    text: str
    """The plain-text part."""
    path: Path


def read_mail(path: Path, to_mono: Callable[[float], float]) -> Mail:
    """One file of a maildir; ``to_mono`` converts its wall time."""
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    headers: dict[str, str] = {}
    for name, value in message.items():
        headers.setdefault(name.lower(), str(value))
    body = message.get_body(("plain",))
    return Mail(
        t=to_mono(path.stat().st_mtime),
        envelope_to=headers.get("envelope-to", ""),
        sender=headers.get("from", ""),
        to=headers.get("to", ""),
        subject=headers.get("subject", ""),
        message_id=headers.get("message-id", ""),
        in_reply_to=headers.get("in-reply-to", ""),
        references=headers.get("references", ""),
        headers=headers,
        text=body.get_content() if body is not None else "",
        path=path,
    )


class MailDrop:
    """All mails of one maildir, each told once as an event. Files arrive by renaming, so a listed file is complete."""

    def __init__(self, maildir: Path, events: EventLog) -> None:
        self._new = maildir / "new"
        self._events = events
        self._mails: dict[str, Mail] = {}
        self._task: asyncio.Task[None] | None = None

    def mails(self) -> list[Mail]:
        """Every mail delivered by now, oldest first."""
        self._look()
        return sorted(self._mails.values(), key=lambda mail: mail.t)

    async def wait_mails(self, count: int, timeout_s: float) -> list[Mail]:
        """All mails as soon as there are ``count``; TimeoutError after ``timeout_s`` seconds."""
        async with asyncio.timeout(timeout_s):
            mails = self.mails()
            while len(mails) < count:
                await asyncio.sleep(_POLL_S)
                mails = self.mails()
        return mails

    def start(self) -> None:
        """Begin to watch."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """End after one last look."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._look()

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_POLL_S)

    def _look(self) -> None:
        if not self._new.is_dir():
            return
        fresh = [path for path in self._new.iterdir() if path.name not in self._mails]
        for mail in sorted((read_mail(path, self._events.to_mono) for path in fresh), key=lambda mail: mail.t):
            self._mails[mail.path.name] = mail
            self._events.add(
                "exim",
                "delivered",
                mail.t,
                to=mail.to,
                subject=mail.subject,
                message_id=mail.message_id,
                in_reply_to=mail.in_reply_to,
                references=mail.references,
            )
