"""A mail server that keeps what it is given: TLS from the first byte, and a login before anything else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from hil.virtual.routeros.certificate import server_context, write_certificate

logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's: it warns of a deprecation within itself
TAKEN, LOGIN_FIRST, REFUSED = "250 OK", "530 5.7.0 Authentication required", "554 5.7.1 Refused by the demo"


@dataclass(frozen=True)
class Mail:
    """One mail as it was handed over."""

    to: tuple[str, ...]
    subject: str
    text: str
    incident: str
    """The header X-Edgeagent-Incident: incident; kind; audience."""


class Sink:
    """Listens on ``host``, any port; ``mails`` in the order of their arrival."""

    def __init__(self, user: str, password: str, *, refuse: bool = False) -> None:
        self.mails: list[Mail] = []
        self.port = 0
        self._login = LoginPassword(user.encode(), password.encode())
        self._refuse = refuse
        self._server: asyncio.Server | None = None

    async def start(self, host: str, folder: Path) -> None:
        """Write mail.crt, which clients are to trust, into ``folder`` and serve."""
        certificate, key = folder / "mail.crt", folder / "mail.key"
        write_certificate(certificate, key, "mail.demo.example", host)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, host, 0, ssl=server_context(certificate, key))
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def _session(self) -> SMTP:
        # TLS is beneath aiosmtpd here, so it cannot see it; without this it would offer no login.
        return SMTP(self, hostname="mail.demo.example", authenticator=self._authenticate, auth_require_tls=False)

    def _authenticate(self, *asked: object) -> AuthResult:
        """aiosmtpd hands over the server, the session, the envelope, the mechanism and at last the login."""
        return AuthResult(success=asked[-1] == self._login)

    async def handle_MAIL(  # noqa: N802, D102  (aiosmtpd's name)
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if not session.authenticated:
            return LOGIN_FIRST
        envelope.mail_from = address
        return REFUSED if self._refuse else TAKEN

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802, D102
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(("plain",))
        text = body.get_content() if body is not None else ""
        incident = str(message["x-edgeagent-incident"] or "")
        self.mails.append(Mail(tuple(envelope.rcpt_tos), str(message["subject"]), text, incident))
        return TAKEN
