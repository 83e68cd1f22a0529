"""outlets.mail against a small scripted SMTP server over TLS."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import msgspec
import pytest

from edgeagent.outlets import mail
from edgeagent.outlets.mail import MailRefused, MailServer, MailUnreachable, Notice, Receipt, build, submit
from tests.adapters.certificates import certificate
from tests.adapters.smtp import Answers, Smtp

NOTICE = Notice(
    incident="s123.ev42",
    kind="restored",
    audience="customer",
    sender="Failover Monitor <failover@fleet.example.net>",
    to=("Zoë <office@customer.example>",),
    subject="[Site 123] Zurück auf der Leitung",
    text="Primär ist wieder da.\n.\nEnde\n",
    html="<p>Primär</p>",
    message_id="s123.ev42.restored@fleet.example.net",
    date=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    in_reply_to="s123.ev42.failover@fleet.example.net",
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mail")
    context, pem, _ = certificate(folder, "mail.example")
    expired, expired_pem, _ = certificate(folder, "mail.example", years=(2000, 2001))
    (folder / "ca.pem").write_text(pem)
    (folder / "expired.pem").write_text(expired_pem)
    return {
        "context": context,
        "ca": str(folder / "ca.pem"),
        "expired": expired,
        "expired_ca": str(folder / "expired.pem"),
    }


def send(
    pki: dict[str, Any],
    answers: Answers | None = None,
    *,
    starttls: bool = False,
    context: str = "context",
    deadline_s: float = 2.0,
    notice: Notice = NOTICE,
    **changes: Any,
) -> tuple[Receipt | BaseException, Smtp]:
    async def go() -> tuple[Receipt | BaseException, Smtp]:
        smtp = Smtp(pki[context], answers or {}, starttls)
        server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0, ssl=None if starttls else pki[context])
        port = server.sockets[0].getsockname()[1]
        where = MailServer(
            "127.0.0.1", port, "starttls" if starttls else "tls", "mail.example", "site-123", "pässword", pki["ca"]
        )
        result: Receipt | BaseException
        try:
            result = await submit(build(notice), msgspec.structs.replace(where, **changes), "127.0.0.5", deadline_s)
        except (MailRefused, MailUnreachable) as error:
            result = error
            assert "pässword" not in f"{error} {error!r} {where}"
        server.close()
        await asyncio.sleep(0.01)
        return result, smtp

    return asyncio.run(go())


@pytest.mark.parametrize("starttls", [False, True])
def test_a_mail_arrives_whole_from_the_right_address_and_only_over_tls(pki: dict[str, Any], starttls: bool) -> None:
    result, smtp = send(pki, starttls=starttls)
    assert result == Receipt("250 2.0.0 queued as 77")
    assert smtp.peers == ["127.0.0.5"]
    assert all(secure for line, secure in smtp.heard if not line.startswith(("EHLO", "STARTTLS")))
    assert ("EHLO [127.0.0.5]", True) in smtp.heard
    assert max(map(ord, smtp.stored[0].decode("latin-1"))) < 128
    message = message_from_bytes(smtp.stored[0].replace(b"\r\n..", b"\r\n."), policy=policy.default)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().replace("\r\n", "\n").startswith(NOTICE.text)
    assert html.get_content().strip() == NOTICE.html
    assert message["Subject"] == NOTICE.subject
    assert message["To"] == "Zoë <office@customer.example>"


def test_headers(pki: dict[str, Any]) -> None:
    message = build(NOTICE)
    assert message["Message-ID"] == "<s123.ev42.restored@fleet.example.net>"
    assert message["In-Reply-To"] == message["References"] == "<s123.ev42.failover@fleet.example.net>"
    assert message["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message.as_bytes() == build(NOTICE).as_bytes()  # a retry sends the same bytes
    result, _ = send(pki, notice=NOTICE)
    assert isinstance(result, Receipt)


@pytest.mark.parametrize("end", ["\r\nBcc: x@y.example", "\n", "\r", "\u2028x", "\0"])
@pytest.mark.parametrize("field", ["subject", "sender", "message_id", "in_reply_to", "incident", "to", "references"])
def test_header_injection_is_refused(field: str, end: str) -> None:
    value: Any = getattr(NOTICE, field) or ("a@b.example",)
    value = (value[0] + end,) if isinstance(value, tuple) else value + end
    with pytest.raises(ValueError, match=r"line break|address|message id"):
        build(msgspec.structs.replace(NOTICE, **{field: value}))


@pytest.mark.parametrize(
    "bad",
    [
        {"to": ()},
        {"to": ("nobody",)},
        {"to": ("a@b.example, c@d.example",)},
        {"sender": "<a@b c.example>"},
        {"date": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"message_id": "<a@b.example>"},
    ],
)
def test_nonsense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        build(msgspec.structs.replace(NOTICE, **bad))


@pytest.mark.parametrize(
    ("answers", "stage", "code", "permanent"),
    [
        ({"GREET": "554 go away"}, "connect", 554, True),
        ({"GREET": "421 busy"}, "connect", 421, False),
        ({"AUTH": "535 bad password"}, "login", 535, True),
        ({"MAIL": "550 who"}, "sender", 550, True),
        ({"RCPT": "450 later"}, "recipient", 450, False),
        ({"RCPT": "550 no such user"}, "recipient", 550, True),
        ({"DATA": "451 later"}, "data", 451, False),
        ({".": "554 spam"}, "data", 554, True),
        ({".": "452 full"}, "data", 452, False),
        ({"STARTTLS": "454 not now"}, "tls", 454, False),
    ],
)
def test_refusals(pki: dict[str, Any], answers: Answers, stage: str, code: int, permanent: bool) -> None:
    error, _ = send(pki, answers, starttls="STARTTLS" in answers)
    assert isinstance(error, MailRefused)
    assert (error.stage, error.code, error.permanent) == (stage, code, permanent)


@pytest.mark.parametrize(
    ("answers", "reason", "maybe_taken"),
    [
        ({"GREET": None}, "timeout", False),
        ({"GREET": ""}, "lost", False),
        ({"MAIL": None}, "timeout", False),
        ({"MAIL": ""}, "lost", False),
        ({".": ""}, "lost", True),
        ({"GREET": "SSH-2.0-x"}, "malformed", False),
        ({"MAIL": "250-" + "x" * 40_000}, "malformed", False),
        ({"OFFERS": "none"}, "malformed", False),
    ],
)
def test_breaks(pki: dict[str, Any], answers: Answers, reason: str, maybe_taken: bool) -> None:
    # Long enough to get to the silence under test on a busy machine; the silence itself lasts until the deadline.
    error, smtp = send(pki, answers, deadline_s=2.0)
    assert isinstance(error, MailUnreachable)
    assert (error.reason, error.maybe_taken) == (reason, maybe_taken)
    assert bool(smtp.stored) == maybe_taken


def test_a_server_that_is_slow_to_take_a_message_is_given_longer_than_the_deadline_clause_n3(
    pki: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving up early would send it twice. Counted from the message's end, however late that came."""
    assert mail.ANSWER_S >= 100.0
    monkeypatch.setattr(mail, "ANSWER_S", 3.0)
    started_s = time.monotonic()
    error, smtp = send(pki, {".": None}, deadline_s=2.0)
    assert isinstance(error, MailUnreachable)
    assert (error.reason, error.maybe_taken, len(smtp.stored)) == ("timeout", True, 1)
    assert "longer than 3 s at data" in str(error)
    assert time.monotonic() - started_s >= 3.0


def test_a_lost_goodbye_does_not_undo_a_delivery(pki: dict[str, Any]) -> None:
    for quit_answer in ("", "500 what"):
        result, _ = send(pki, {"QUIT": quit_answer})
        assert result == Receipt("250 2.0.0 queued as 77")


def test_some_recipients_refused(pki: dict[str, Any]) -> None:
    answers: Answers = {}
    notice = msgspec.structs.replace(NOTICE, to=("a@b.example", "c@d.example"))
    original: Callable[..., bool] = Smtp.reply

    def reply(self: Smtp, writer: asyncio.StreamWriter, verb: str) -> bool:
        if verb == "RCPT" and "c@d" in self.heard[-1][0]:
            writer.write(b"550 unknown\r\n")
            return True
        return original(self, writer, verb)

    Smtp.reply = reply  # type: ignore[method-assign]
    try:
        result, _ = send(pki, answers, notice=notice)
    finally:
        Smtp.reply = original  # type: ignore[method-assign]
    assert isinstance(result, Receipt)
    assert result == Receipt("250 2.0.0 queued as 77", ("c@d.example",))


def test_an_untrusted_server_hears_nothing(pki: dict[str, Any]) -> None:
    for starttls in (False, True):
        for context, changes in (
            ("context", {"server_name": "other.example"}),
            ("context", {"ca_file": None}),
            ("context", {"ca_file": pki["expired_ca"]}),
            ("expired", {"ca_file": pki["expired_ca"]}),
        ):
            error, smtp = send(pki, starttls=starttls, context=context, **changes)
            assert isinstance(error, MailUnreachable), (starttls, changes)
            assert error.reason == "certificate"
            assert not [line for line, _ in smtp.heard if not line.startswith(("EHLO", "STARTTLS"))]


def test_no_tls_offered_sends_nothing(pki: dict[str, Any]) -> None:
    error, smtp = send(pki, {"OFFERS": "none"}, starttls=True)
    assert isinstance(error, MailUnreachable)
    assert error.reason == "no-tls"
    assert [line for line, _ in smtp.heard] == ["EHLO [127.0.0.5]"]


def test_nobody_there_and_no_such_source(pki: dict[str, Any]) -> None:
    server = MailServer("127.0.0.1", 1, "tls", "mail.example", "u", "p", pki["ca"])
    for source in ("127.0.0.5", "192.0.2.77"):
        with pytest.raises(MailUnreachable, match=source) as caught:
            asyncio.run(submit(build(NOTICE), server, source, 1.0))
        assert caught.value.reason == "connect"


def test_bytes_are_taken_as_well(pki: dict[str, Any]) -> None:

    async def go() -> Receipt:
        smtp = Smtp(pki["context"], {}, False)
        server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0, ssl=pki["context"])
        port = server.sockets[0].getsockname()[1]
        where = MailServer("127.0.0.1", port, "tls", "mail.example", "u", "p", pki["ca"])
        answer = await submit(build(NOTICE).as_bytes(), where, None, 2.0)
        server.close()
        await asyncio.sleep(0.01)
        return answer

    assert asyncio.run(go()).answer.startswith("250")


def test_nothing_heavy_is_loaded_before_the_first_mail() -> None:
    script = (
        "import sys, edgeagent.outlets.mail as m\n"
        "assert not {'aiosmtplib', 'email.message', 'email.policy'} & set(sys.modules), 'loaded too early'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
