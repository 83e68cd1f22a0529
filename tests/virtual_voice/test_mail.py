from __future__ import annotations

import socket
import ssl
import time
from email.message import EmailMessage

import aiosmtplib
import pytest

from hil.virtual import addresses
from hil.virtual.maildrop import Mail
from hil.virtual.provider_mail import MailMode

from .conftest import GUARD_S, Voice

pytestmark = pytest.mark.bench

LOGIN, PASSWORD = "site-000123", "bench-secret"


def _client(voice: Voice, port: int, *, tls: bool) -> aiosmtplib.SMTP:
    """A client whose connection leaves from the first phone's namespace."""
    target = (addresses.MAIL_SERVER, port)
    raw = voice.phones["p1"].program.in_namespace(lambda: socket.create_connection(target, GUARD_S))
    raw.setblocking(False)
    return aiosmtplib.SMTP(
        hostname="mail.provider.example",
        port=None,
        sock=raw,
        use_tls=tls,
        start_tls=False,
        tls_context=ssl.create_default_context(cafile=str(voice.provider.certificate)),
        timeout=GUARD_S,
    )


def _message(subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "site-000123@provider.example"
    message["To"] = "noc@provider.example"
    message["Subject"] = subject
    message["Message-ID"] = f"<{subject}-2@site.example>"
    message["In-Reply-To"] = f"<{subject}-1@site.example>"
    message["References"] = f"<{subject}-1@site.example>"
    message.set_content("The line is down.\n")
    return message


async def _send(voice: Voice, port: int, subject: str, password: str = PASSWORD) -> None:
    client = _client(voice, port, tls=port == 465)
    await client.connect()
    try:
        if port == 587:
            await client.starttls()
        await client.login(LOGIN, password)
        await client.send_message(_message(subject))
    finally:
        client.close()


@pytest.mark.parametrize("port", [465, 587])
def test_mail_is_delivered_and_told(voice: Voice, port: int) -> None:
    before = time.monotonic()
    voice.runner.run(_send(voice, port, f"alarm-{port}"))
    found = voice.runner.run(_wait_subject(voice, f"alarm-{port}"))
    assert found.text == "The line is down.\n"
    assert found.to == found.envelope_to == "noc@provider.example"
    assert before - 0.1 <= found.t <= time.monotonic() + 0.1
    (event,) = voice.events_until("exim", bool, subject=f"alarm-{port}")
    assert event["event"] == "delivered"
    assert event["message_id"] == f"<alarm-{port}-2@site.example>"
    assert event["in_reply_to"] == event["references"] == f"<alarm-{port}-1@site.example>"


async def _wait_subject(voice: Voice, subject: str) -> Mail:
    count = len(voice.provider.maildrop.mails())
    for wanted in range(count, count + 3):
        for mail in await voice.provider.maildrop.wait_mails(wanted, GUARD_S):
            if mail.subject == subject:
                return mail
    raise AssertionError(f"no mail {subject!r}")


@pytest.mark.parametrize("port", [465, 587])
def test_a_wrong_password_is_refused(voice: Voice, port: int) -> None:
    with pytest.raises(aiosmtplib.SMTPAuthenticationError):
        voice.runner.run(_send(voice, port, "wrong", password="guess"))


def test_without_tls_there_is_neither_login_nor_mail(voice: Voice) -> None:
    voice.runner.run(_without_tls(voice))


async def _without_tls(voice: Voice) -> None:
    client = _client(voice, 587, tls=False)
    await client.connect()
    try:
        await client.ehlo()
        assert client.supports_extension("starttls")
        assert not client.supports_extension("auth")
        with pytest.raises(aiosmtplib.SMTPSenderRefused, match="STARTTLS is required"):
            await client.mail("site-000123@provider.example")
    finally:
        client.close()


@pytest.mark.parametrize(("mode", "code"), [(MailMode.DEFER, 451), (MailMode.REJECT, 550)])
def test_mail_can_be_refused(voice: Voice, mode: MailMode, code: int) -> None:
    voice.runner.run(voice.provider.mail.set_mode(mode))
    try:
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refused:
            voice.runner.run(_send(voice, 587, "refused"))
        assert refused.value.recipients[0].code == code
    finally:
        voice.runner.run(voice.provider.mail.set_mode(MailMode.ACCEPT))
    voice.runner.run(_send(voice, 587, f"again-{code}"))


def test_the_mail_server_can_be_down(voice: Voice) -> None:
    voice.runner.run(voice.provider.mail.set_mode(MailMode.DOWN))
    try:
        with pytest.raises(ConnectionRefusedError):
            _client(voice, 587, tls=False)
    finally:
        voice.runner.run(voice.provider.mail.set_mode(MailMode.ACCEPT))
    voice.runner.run(_send(voice, 465, "back"))
