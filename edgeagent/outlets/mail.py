"""Mail by authenticated submission (RFC 6409), always over TLS: port 465 (RFC 8314) or required STARTTLS. Only importer
of aiosmtplib.

aiosmtplib and the email package are loaded with the first mail: a daemon that has nothing to say saves their 2-4 MiB.
That takes a tenth of a second and more, so a loop that must not wait has ``build`` done by a thread.
"""

import asyncio
import hashlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from email.message import EmailMessage

_QUIT_S = 2.0
ANSWER_S = 120.0  # after the final dot; RFC 5321, 4.5.3.2.6, allows ten minutes, but other mails wait behind this one
_MAX_ANSWER = 300  # characters of a server's answer that are kept


class MailServer(Struct, frozen=True):
    """Where to submit. `address` is a literal address: the agent resolves names itself, per path; `server_name` is the
    name that the certificate must bear. `ca_file`: trust only this authority's certificate instead of the system's.
    """

    address: str
    port: int
    security: Literal["tls", "starttls"]
    server_name: str
    username: str
    password: str
    ca_file: str | None = None

    def __repr__(self) -> str:
        return (
            f"MailServer({self.server_name} at {self.address} port {self.port}, {self.security}, user {self.username})"
        )


class Notice(Struct, frozen=True):
    """One message to one audience. `message_id` without angle brackets, deterministic, the same at each retry."""

    incident: str
    kind: str
    audience: str
    sender: str
    to: tuple[str, ...]
    subject: str
    text: str
    html: str
    message_id: str
    date: datetime
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()


class Receipt(Struct, frozen=True):
    """What the server said when it took a message. ``refused``: recipients that it would not take it for."""

    answer: str
    refused: tuple[str, ...] = ()


class MailError(Exception):
    """MailRefused or MailUnreachable. ``fault``: the fault of the catalogue (core/faults.py) that a person is told."""

    fault = "mail_unreachable"


class MailRefused(MailError):
    """The server, duly reached, said no. `permanent`: the same message will be refused again (5xx), so a person has to
    act; a 4xx is worth another try. `stage` is connect, tls, login, sender, recipient or data; a refused login concerns
    every message.
    """

    def __init__(self, stage: str, code: int, text: str) -> None:
        self.stage = stage
        self.code = code
        self.permanent = 500 <= code < 600
        self.text = _one_line(text)
        if self.permanent:
            self.fault = "mail_login_refused" if stage == "login" else "mail_refused"
        whose = "check user and password" if stage == "login" else "the mail provider's decision"
        super().__init__(f"the mail server refused at {stage}: {code} {self.text} ({whose})")


class MailUnreachable(MailError, ConnectionError):
    """No answer, or a server that may not be trusted; try again later. `reason` is connect, timeout, certificate,
    no-tls, lost or malformed. `maybe_taken`: it broke after the message's end, so the server may have taken it; the
    same Message-ID makes a second copy recognizable (clause N3).
    """

    def __init__(self, reason: str, text: str, *, maybe_taken: bool = False) -> None:
        self.reason = reason
        self.maybe_taken = maybe_taken
        if reason in ("certificate", "no-tls"):
            self.fault = "mail_untrusted"
        super().__init__(f"mail not sent ({reason}): {_one_line(text)}")


def build(notice: Notice) -> "EmailMessage":
    """The message, the same bytes every time. Raises ValueError for line breaks in any header field and for odd
    addresses.
    """
    from email import policy
    from email.message import EmailMessage
    from email.utils import format_datetime, formataddr

    if notice.date.tzinfo is None:
        raise ValueError("a mail's date needs its offset from UTC")
    if not notice.to:
        raise ValueError("a mail needs a recipient")
    for name in ("incident", "kind", "audience", "sender", "subject", "message_id", "in_reply_to"):
        _refuse_line_breaks(name, getattr(notice, name) or "")
    for name, several in (("to", notice.to), ("references", notice.references)):
        for value in several:
            _refuse_line_breaks(name, value)
    message = EmailMessage(policy.SMTP.clone(cte_type="7bit"))  # no server has to know 8BITMIME
    message["From"] = formataddr(_address(notice.sender))
    message["To"] = ", ".join(formataddr(_address(one)) for one in notice.to)
    message["Subject"] = notice.subject
    message["Date"] = format_datetime(notice.date)
    message["Message-ID"] = _id(notice.message_id)
    if notice.in_reply_to:
        message["In-Reply-To"] = _id(notice.in_reply_to)
    references = notice.references or ((notice.in_reply_to,) if notice.in_reply_to else ())
    if references:
        message["References"] = " ".join(_id(one) for one in references)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday responder shall answer
    message["X-Auto-Response-Suppress"] = "All"  # the same for Exchange
    message["X-Edgeagent-Incident"] = f"{notice.incident}; {notice.kind}; {notice.audience}"
    message.set_content(notice.text)
    if notice.html:
        message.add_alternative(notice.html, subtype="html")
        message.set_boundary("=-" + hashlib.sha256(notice.message_id.encode()).hexdigest()[:32])
    return message


async def submit(
    message: "bytes | EmailMessage",
    server: MailServer,
    source_address: str | None,
    deadline_s: float,
    recipients: tuple[str, ...] = (),
    handing_over: Callable[[], Awaitable[None]] | None = None,
    taken: Callable[[Receipt], None] | None = None,
) -> Receipt:
    """Hand the message to the server and return its receipt, all within `deadline_s`.

    Connects from `source_address` (a literal one, which decides the path). The sender is the message's From, the
    recipients are its To, or only `recipients` of them: those that an earlier receipt named as refused. If some are
    refused and others accepted, the message goes to the others. `handing_over` is awaited right before the message
    leaves: from then on the server may have it, whatever is heard of it, and has `ANSWER_S` to say so.
    `taken` is called with the receipt as soon as the server has the message: the goodbye may still fail or be cut off.
    Raises MailRefused or MailUnreachable;
    ValueError for a message or server that makes no sense.
    """
    sender, everybody, body = _envelope(message)
    chosen = [one for one in everybody if one in recipients] or everybody
    if not re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", server.server_name):
        raise ValueError(f"{server.server_name!r} is not a server's name")
    progress = _Progress()
    try:
        async with asyncio.timeout(deadline_s) as progress.limit:
            context = await asyncio.to_thread(_loaded, server.ca_file)
            envelope = _Envelope(sender, chosen, body, handing_over, taken)
            return await _converse(server, source_address, context, envelope, progress)
    except TimeoutError:
        raise MailUnreachable(
            "timeout",
            f"{server.server_name} took longer than {progress.allowed_s or deadline_s:g} s at {progress.stage}",
            maybe_taken=progress.maybe_taken,
        ) from None


class _Envelope(NamedTuple):
    """What is handed over, from whom, to whom."""

    sender: str
    recipients: list[str]
    body: bytes
    handing_over: Callable[[], Awaitable[None]] | None
    taken: Callable[[Receipt], None] | None


class _Progress:
    """How far the conversation came, for telling refusals apart, and how long it may still take."""

    stage = "connect"
    maybe_taken = False
    limit: asyncio.Timeout
    allowed_s: float | None = None  # longer than was asked for

    def wait_for_answer(self) -> None:
        """The message leaves now: giving up early would send it twice."""
        self.maybe_taken = True
        until_s = asyncio.get_running_loop().time() + ANSWER_S
        if (self.limit.when() or until_s) < until_s:
            self.allowed_s = ANSWER_S
            self.limit.reschedule(until_s)


async def _converse(
    server: MailServer,
    source_address: str | None,
    context: ssl.SSLContext,
    envelope: _Envelope,
    progress: _Progress,
) -> Receipt:
    import aiosmtplib

    connection = await _connect(server, source_address)
    client = aiosmtplib.SMTP(
        hostname=server.server_name,  # what the certificate is checked against; the connection is made already
        sock=connection,
        local_hostname=f"[{connection.getsockname()[0]}]",  # RFC 5321 4.1.3; the default would ask a blocking resolver
        use_tls=server.security == "tls",
        start_tls=False,
        tls_context=context,
        timeout=None,  # one deadline over all, in submit()
    )
    try:
        with _translated(progress):
            await client.connect()
            if server.security == "starttls":
                progress.stage = "tls"
                await client.ehlo()
                if not client.supports_extension("starttls"):
                    raise MailUnreachable("no-tls", "the server offers no STARTTLS; nothing was sent in the clear")
                await client.starttls(tls_context=context, server_hostname=server.server_name)
            progress.stage = "login"
            await client.login(server.username, server.password)
            return await _hand_over(client, envelope, progress)
    finally:
        transport = client.transport
        client.close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()  # close() alone would wait for a hung server's TLS goodbye


async def _hand_over(client: Any, envelope: _Envelope, progress: _Progress) -> Receipt:
    import aiosmtplib

    recipients = envelope.recipients
    progress.stage = "sender"
    await client.mail(envelope.sender)
    progress.stage = "recipient"
    refusals = []
    for recipient in recipients:
        try:
            await client.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            refusals.append(error)
    if len(refusals) == len(recipients):
        raise next(
            (error for error in refusals if error.code < 500), refusals[0]
        )  # a 4xx among them: worth another try
    progress.stage = "data"
    if envelope.handing_over is not None:
        await envelope.handing_over()
    progress.wait_for_answer()
    code, text = await client.data(envelope.body)
    receipt = Receipt(f"{code} {_one_line(text)}", tuple(error.recipient for error in refusals))
    if envelope.taken is not None:
        envelope.taken(receipt)
    try:
        async with asyncio.timeout(_QUIT_S):
            await client.quit()
    except (aiosmtplib.SMTPException, OSError):  # it has the message: how the goodbye goes does not matter
        pass
    return receipt


@contextmanager
def _translated(progress: _Progress) -> Iterator[None]:
    """aiosmtplib's errors as ours, told apart by what the caller should do next."""
    import aiosmtplib

    try:
        yield
    except MailUnreachable:
        raise
    except aiosmtplib.SMTPResponseException as error:
        if not 400 <= error.code < 600:  # aiosmtplib gives -1 for what is no SMTP
            odd = f"odd answer {error.code} at {progress.stage}"
            raise MailUnreachable("malformed", odd, maybe_taken=progress.maybe_taken) from error
        raise MailRefused(progress.stage, error.code, error.message) from error
    except ssl.SSLError as error:
        raise _tls_failure(error, progress) from error
    except (aiosmtplib.SMTPException, OSError, EOFError, ValueError) as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            raise _tls_failure(cause, progress) from error
        reason = "lost" if isinstance(error, (OSError, EOFError)) else "malformed"  # such as: offers no way to log in
        found = f"{type(error).__name__} at {progress.stage}"
        raise MailUnreachable(reason, found, maybe_taken=progress.maybe_taken) from error


def _tls_failure(error: ssl.SSLError, progress: _Progress) -> MailUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = (
            f"{error.verify_message}; if the time of day is wrong here, that is the cause, else ask the mail provider"
        )
        return MailUnreachable("certificate", detail)
    return MailUnreachable("lost", f"TLS failed ({error.reason})", maybe_taken=progress.maybe_taken)


async def _connect(server: MailServer, source_address: str | None) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(server.address).version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if source_address is not None:
            connection.bind((source_address, 0))
        await asyncio.get_running_loop().sock_connect(connection, (server.address, server.port))
    except OSError as error:
        connection.close()
        where = f"{server.address} port {server.port}" + (f" from {source_address}" if source_address else "")
        raise MailUnreachable("connect", f"{where}: {error.strerror or error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _loaded(ca_file: str | None) -> ssl.SSLContext:
    """What a mail needs of the disk, read beside the loop, whose probes wait for no card (clause L6)."""
    import aiosmtplib  # noqa: F401

    return _tls_context(ca_file)


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"the mail server's ca_file {ca_file} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _envelope(message: "bytes | EmailMessage") -> tuple[str, list[str], bytes]:
    from email import message_from_bytes, policy
    from email.utils import getaddresses

    parsed = message_from_bytes(message, policy=policy.SMTP) if isinstance(message, bytes) else message
    sender = [address for _, address in getaddresses([str(parsed.get("From", ""))])]
    recipients = [address for _, address in getaddresses([str(one) for one in parsed.get_all("To", [])])]
    if len(sender) != 1 or not recipients or not all([*sender, *recipients]):
        raise ValueError("a mail needs one sender and at least one recipient")
    body = message if isinstance(message, bytes) else message.as_bytes(policy=policy.SMTP)
    return sender[0], recipients, body


def _address(text: str) -> tuple[str, str]:
    """Name and address of "Name <address>" or "address": exactly one, in the plain form that every server takes."""
    found = re.fullmatch(r"(?:\"?([^\"<>]*?)\"? *<([^<>]*)>|([^<>]*))", text)
    name, address = (found[1] or "", found[2] or found[3] or "") if found else ("", "")
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.\-\[\]]{1,253}", address):
        raise ValueError(f"{text!r} is not one mail address such as a@b.example or Name <a@b.example>")
    return name, address


def _id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+", text):
        raise ValueError(f"{text!r} is not a message id (left@right, RFC 5322 3.6.4)")
    return f"<{text}>"


def _refuse_line_breaks(name: str, value: str) -> None:
    """A line break in a header would begin another header (CWE-93). All that str.splitlines knows is refused."""
    if len(value.splitlines()) > 1 or value != value.rstrip("\r\n") or "\0" in value:
        raise ValueError(f"the mail's {name} holds a line break")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_ANSWER]
