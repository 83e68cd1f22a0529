"""Talking to the router: RouterOS API over TLS with a pinned certificate. The only importer of librouteros.

librouteros 4.2 is used for what it does well, the wire encoding. Its reply handling is not used, for reasons measured
with 4.2.2: values change type ("yes" becomes True), deadlines hold per sentence instead of per
command, after a timeout the next command gets the old one's rows, a length header is believed up to 256 MiB, bad bytes
vanish, and every word, password included, is offered to the log. Here instead: plain strings, one deadline over the
whole command, caps checked before any byte is read, and a connection that is closed after anything but a complete
reply, so that it can never fall out of step.
"""

import asyncio
import ipaddress
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from librouteros.exceptions import ProtocolError
from librouteros.protocol import decode_length, determine_length, encode_sentence

from edgeagent.routeros.errors import (
    RouterError,
    RouterLoginRefused,
    RouterProtocolError,
    RouterTimeout,
    RouterTrap,
    RouterUnreachable,
    RouterUntrusted,
)

Row = dict[str, str]

MAX_WORD_BYTES = 64 * 1024
MAX_REPLY_BYTES = 1024 * 1024
MAX_REPLY_WORDS = (
    40_000  # many tiny words cost more memory than their bytes: together these caps keep a reply below 8 MiB
)
MAX_REPLY_ROWS = 5_000

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
)  # 30 s
_USER_TIMEOUT_MS = 30_000
_CLOSE_S = 1.0


class Session:
    """One connection for commands, one command at a time; callers queue up within their deadlines."""

    def __init__(self, wire: "_Wire", deadline_s: float) -> None:
        self._wire = wire
        self._deadline_s = deadline_s
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        user: str,
        password: str,
        pinned_pem: str,
        deadline_s: float,
        *,
        source: str | None = None,
    ) -> Self:
        """Connect, check the certificate and log in, all within `deadline_s`, which is also each command's default
        deadline.

        `address` and `source` are literal IP addresses: nothing here asks a resolver. Raises RouterUnreachable,
        RouterTimeout, RouterUntrusted, RouterLoginRefused, RouterProtocolError; ValueError for a bad address or
        certificate text.
        """
        return cls(await _open(address, port, user, password, pinned_pem, deadline_s, source), deadline_s)

    @property
    def closed(self) -> bool:
        """True after close() or any error other than RouterTrap; a closed session stays closed."""
        return self._wire.closed

    async def send(
        self, words: str | Sequence[str], /, *, deadline_s: float | None = None, **attributes: str
    ) -> list[Row]:
        """Send exactly one sentence and return its rows; `!done` with values (=ret=) gives one more, last row.

        `words` is a command ("/interface/print") or a whole sentence of raw words. An attribute's underscores become
        dashes: `src_address="..."` sends `=src-address=...`. Raises RouterTrap (connection kept) or, closed,
        RouterUnreachable, RouterTimeout, RouterProtocolError; ValueError, before anything is sent, for words that
        cannot be sent.
        """
        sentence = [words] if isinstance(words, str) else list(words)
        sentence += [f"={name.replace('_', '-')}={value}" for name, value in attributes.items()]
        encoded = _encoded(sentence)
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        begun = False
        try:
            async with asyncio.timeout(limit_s), self._turn:
                begun = True
                rows, trap = await self._wire.exchange(sentence[0], encoded)
        except TimeoutError:
            what = "was not answered" if begun else "did not get its turn"
            raise _late(f"{sentence[0]} {what}", limit_s, begun) from None
        if trap is not None:
            raise trap
        return rows

    async def print(
        self, menu: str, proplist: Sequence[str], queries: Sequence[str] = (), *, deadline_s: float | None = None
    ) -> list[Row]:
        """The rows of `menu` ("/ip/route"), only the properties named (without a proplist even slow ones are read)."""
        return await self.send([f"{menu}/print", f"=.proplist={','.join(proplist)}", *queries], deadline_s=deadline_s)

    async def add(self, menu: str, values: Mapping[str, str], *, deadline_s: float | None = None) -> str:
        """Add one row; returns its `.id` as the router named it ("" if it did not)."""
        return _ret(await self.send([f"{menu}/add", *_attributes(values)], deadline_s=deadline_s))

    async def set(
        self, menu: str, row_id: str | None, values: Mapping[str, str], *, deadline_s: float | None = None
    ) -> str:
        """Set values of one row; None for menus that are a single record. Returns =ret=, normally ""."""
        which = [] if row_id is None else [f"=.id={row_id}"]
        return _ret(await self.send([f"{menu}/set", *which, *_attributes(values)], deadline_s=deadline_s))

    async def remove(self, menu: str, row_id: str, *, deadline_s: float | None = None) -> str:
        """Remove one row (or several: ids with commas between). Returns =ret=, normally ""."""
        return _ret(await self.send([f"{menu}/remove", f"=.id={row_id}"], deadline_s=deadline_s))

    async def close(self) -> None:
        """Close; a command under way fails with RouterUnreachable. At most a second."""
        await self._wire.close()


class Listener:
    """A dedicated connection on which the router reports changes (`/interface/listen`): hints, to be confirmed by a
    print.

    Iterate it for rows; a removed row carries `.dead`. It ends (StopAsyncIteration) after close(); everything else
    raises as Session.send does, always with the connection closed. The router may be silent for days: TCP keepalive
    finds a dead peer.
    """

    def __init__(self, wire: "_Wire", command: str) -> None:
        self._wire = wire
        self._command = command

    @classmethod
    async def open(
        cls,
        address: str,
        port: int,
        user: str,
        password: str,
        pinned_pem: str,
        deadline_s: float,
        *,
        words: Sequence[str],
        source: str | None = None,
    ) -> Self:
        """As Session.open, then send `words` (["/interface/listen", "=.proplist=..."]) not waiting for an answer."""
        encoded = _encoded(list(words))
        wire = await _open(address, port, user, password, pinned_pem, deadline_s, source)
        with _closing_on_error(wire):
            async with _deadline(deadline_s, f"{words[0]} could not be sent to {address}"):
                await wire.write(encoded)
        return cls(wire, words[0])

    @property
    def closed(self) -> bool:
        """True once the stream has ended."""
        return self._wire.closed

    def __aiter__(self) -> AsyncIterator[Row]:
        return self._rows()

    async def _rows(self) -> AsyncIterator[Row]:
        while not self._wire.closed:
            try:
                reply, words = await self._wire.read_sentence(_Budget())
                row = _row(words, {})
            except RouterUnreachable:
                if self._wire.closed_by_us:
                    return
                raise
            except BaseException:
                self._wire.abort()  # half a sentence may have been read: the rest would make no sense
                raise
            if reply == "!re":
                yield row
            elif reply == "!trap":
                self._wire.abort()
                raise _trap(self._command, [row])
            elif reply == "!done":
                self._wire.abort()
                raise RouterUnreachable(f"the router ended {self._command}, which never ends by itself; open it again")
            elif reply != "!empty":
                self._wire.abort()
                raise RouterProtocolError(f"the router sent an unknown kind of reply to {self._command}")

    async def close(self) -> None:
        """End the stream; a waiting iteration ends too."""
        await self._wire.close()


class Streams:
    """Sentences that go on until they are stopped (`/ping`), several on one connection, told apart by `.tag`
    (MikroTik API manual, "Tags").

    It takes a session's connection over: nothing else may be sent by that session any more. `start` and `stop` do not
    wait and never fail; what is wrong with the connection, or with one of the sentences, is raised by `run`.
    """

    def __init__(self, session: Session) -> None:
        self._wire = session._wire
        self._numbers = itertools.count(1)
        self._running: dict[str, tuple[str, bool, Callable[[Row], None]]] = {}

    def start(self, words: Sequence[str], take: Callable[[Row], None], *, ends: bool) -> str:
        """Send a sentence; its rows go to `take`. `ends`: whether it may end by itself. Returns its tag."""
        tag = str(next(self._numbers))
        self._running[tag] = words[0], ends, take
        self._wire.write_soon(_encoded([*words, f".tag={tag}"]))
        return tag

    def stop(self, tag: str) -> None:
        """Take no more rows of this sentence and have the router end it."""
        if self._running.pop(tag, None) is not None:
            self._wire.write_soon(_encoded(["/cancel", f"=tag={tag}", f".tag={next(self._numbers)}"]))

    async def run(self, silence_s: float) -> None:
        """Hand out rows until something breaks, which is raised as Session.send does, with the connection closed.

        Nothing heard for `silence_s` is a router that hangs: RouterTimeout.
        """
        with _closing_on_error(self._wire):
            while True:
                async with _deadline(silence_s, "nothing was heard of what the router shall repeat"):
                    reply, words = await self._wire.read_sentence(_Budget())
                self._take(reply, words)

    def _take(self, reply: str, words: list[str]) -> None:
        """What comes of a sentence that was stopped, its "interrupted" included, is nobody's any more."""
        tag = next((word[len(".tag=") :] for word in words if word.startswith(".tag=")), "")
        row = _row(words, {})
        if reply not in ("!re", "!done", "!trap", "!empty"):
            raise RouterProtocolError("the router sent an unknown kind of reply to a sentence that goes on")
        if tag not in self._running:
            return
        command, ends, take = self._running[tag]
        if reply == "!re":
            take(row)
        elif reply == "!trap":
            raise _trap(command, [row])
        elif reply == "!done":
            del self._running[tag]
            if not ends:
                raise RouterUnreachable(f"the router ended {command}, which never ends by itself; open it again")


class _Budget:
    """What one reply may still cost; exceeding it is the peer's fault and ends the connection."""

    def __init__(self) -> None:
        self.bytes = MAX_REPLY_BYTES
        self.words = MAX_REPLY_WORDS
        self.rows = MAX_REPLY_ROWS

    def take_word(self, length: int) -> None:
        self.words -= 1
        self.bytes -= length + 1
        if length > MAX_WORD_BYTES:
            raise RouterProtocolError(f"the router announced a word of {length} bytes; {MAX_WORD_BYTES} are allowed")
        if self.words < 0 or self.bytes < 0:
            raise RouterProtocolError(
                f"the router's reply is longer than {MAX_REPLY_BYTES} bytes or {MAX_REPLY_WORDS} words; "
                "ask for fewer rows or properties"
            )

    def take_row(self) -> None:
        self.rows -= 1
        if self.rows < 0:
            raise RouterProtocolError(
                f"the router's reply has more than {MAX_REPLY_ROWS} rows; ask a narrower question"
            )


class _Wire:
    """Sentences over one TLS stream. Whoever finds anything wrong aborts it, and from then on it only says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self._reader = reader
        self._writer = writer
        self.peer = peer
        self.closed = False
        self.closed_by_us = False

    async def exchange(self, command: str, encoded: bytes) -> tuple[list[Row], RouterTrap | None]:
        """One sentence out, one whole reply in; unless the reply is complete, for whatever reason, the connection is
        closed.
        """
        if self.closed:
            raise RouterUnreachable(
                f"the connection to the router {self.peer} is closed; open a new one before {command}"
            )
        with _closing_on_error(self):
            await self.write(encoded)
            rows: list[Row] = []
            traps: list[Row] = []
            names: dict[str, str] = {}
            budget = _Budget()
            while True:
                reply, words = await self.read_sentence(budget)
                row = _row(words, names)
                if budget.rows % 256 == 0:
                    await asyncio.sleep(0)  # a long reply, already here, must not keep the loop from the probes
                if reply == "!done":
                    break
                if reply == "!re":
                    budget.take_row()
                    rows.append(row)
                elif reply == "!trap":
                    budget.take_row()
                    traps.append(row)
                elif reply != "!empty":
                    raise RouterProtocolError(f"the router {self.peer} sent an unknown kind of reply", maybe_done=True)
        if traps:
            return [], _trap(command, traps)
        return ([*rows, row] if row else rows), None

    async def write(self, encoded: bytes) -> None:
        with self._broken_is_unreachable():
            self._writer.write(encoded)
            await self._writer.drain()

    def write_soon(self, encoded: bytes) -> None:
        """Hand over without waiting; on a closed connection the words go nowhere."""
        if not self.closed:
            self._writer.write(encoded)

    async def read_sentence(self, budget: _Budget) -> tuple[str, list[str]]:
        """The reply word and the rest. `!fatal` closes on the router's side, so it is raised here."""
        with self._broken_is_unreachable():
            words: list[str] = []
            while (word := await self._read_word(budget)) is not None:
                words.append(word)
        if not words:
            raise RouterProtocolError(f"the router {self.peer} sent an empty sentence", maybe_done=True)
        if words[0] == "!fatal":
            self.abort()
            reason = words[1] if len(words) > 1 else "no reason given"
            raise RouterUnreachable(f"the router {self.peer} ended the connection: {reason[:200]}", maybe_done=True)
        return words[0], words[1:]

    async def _read_word(self, budget: _Budget) -> str | None:
        """One word, None for the end of the sentence. Bytes that are not UTF-8 stay visible as \\xNN: dropping them
        could make a word look like the end of a sentence, and two different comments look the same.
        """
        head = await self._reader.readexactly(1)
        if head == b"\0":
            return None
        try:
            head += await self._reader.readexactly(determine_length(head))
            length = decode_length(head)
        except ProtocolError as error:
            found = f"the router {self.peer} sent a bad length byte {head.hex()}"
            raise RouterProtocolError(found, maybe_done=True) from error
        budget.take_word(length)
        return (await self._reader.readexactly(length)).decode("utf-8", errors="backslashreplace")

    @contextmanager
    def _broken_is_unreachable(self) -> Iterator[None]:
        try:
            yield
        except RouterError:
            raise
        except (asyncio.IncompleteReadError, OSError) as error:
            self.abort(by_us=self.closed_by_us)
            found = f"the connection to the router {self.peer} broke ({type(error).__name__}); open a new one"
            raise RouterUnreachable(found, maybe_done=True) from error

    def abort(self, *, by_us: bool = False) -> None:
        """Close at once, without waiting; never raises."""
        self.closed = True
        self.closed_by_us = by_us
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close in order, TLS goodbye included, but at most for a second."""
        self.closed = self.closed_by_us = True
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):  # it is closed for us either way
            pass
        finally:
            self._writer.transport.abort()


async def _open(
    address: str, port: int, user: str, password: str, pinned_pem: str, deadline_s: float, source: str | None
) -> _Wire:
    for literal in filter(None, (address, source)):
        ipaddress.ip_address(literal)  # a name would make asyncio ask a blocking resolver
    pins, context = _pinned_context(pinned_pem)
    login = _encoded(["/login", f"=name={user}", f"=password={password}"])
    peer = f"{address} port {port}"
    async with _deadline(deadline_s, f"the router {peer} could not be connected and logged in to"):
        reader, writer = await _connect(address, port, context, source, peer)
        wire = _Wire(reader, writer, peer)
        with _closing_on_error(wire):
            _check_pin(writer, pins, peer)
            _keep_alive(writer)
            await _log_in(wire, user, login)
    return wire


async def _log_in(wire: _Wire, user: str, login: bytes) -> None:
    rows, trap = await wire.exchange("/login", login)
    if trap is not None:
        raise RouterLoginRefused(
            f"the router {wire.peer} refused the user {user!r}: {trap.message[:200]}; check the user's password, "
            "its group (api, read, write, test) and the address it may come from"
        )
    if rows:  # =ret=<challenge>: the login of before 6.43, which nothing we support uses
        raise RouterProtocolError(f"the router {wire.peer} asks for the old login; RouterOS 6.49 or newer is needed")


async def _connect(
    address: str, port: int, context: ssl.SSLContext, source: str | None, peer: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    local = (source, 0) if source else None
    try:
        return await asyncio.open_connection(address, port, ssl=context, local_addr=local, server_hostname="")
    except ssl.SSLCertVerificationError as error:
        raise RouterUntrusted(_untrusted(peer, error.verify_message)) from None
    except (OSError, EOFError) as error:  # ssl.SSLError is an OSError too
        raise RouterUnreachable(
            f"no TLS connection to the router {peer}: {error}; check that it is up, that /ip service api-ssl is "
            "enabled with a certificate and allows this address"
        ) from error


def _pinned_context(pinned_pem: str) -> tuple[set[bytes], ssl.SSLContext]:
    """A client context that trusts nothing but the pinned certificate, and the pins as DER.

    Names are not checked: the certificate must be the pinned one byte for byte, which is stronger than any name.
    Validity dates are not checked either: the pin is what is trusted, and a router without a battery makes certificates
    dated 1970. A leaf pinned without its issuer is enough (VERIFY_X509_PARTIAL_CHAIN). Anonymous key exchange, which
    RouterOS offers without a certificate, is never agreed to.
    """
    end = "-----END CERTIFICATE-----"
    blocks = [block[block.index("-----BEGIN") :] + end for block in pinned_pem.split(end) if "-----BEGIN" in block]
    pins = {ssl.PEM_cert_to_DER_cert(block) for block in blocks}
    if not pins:
        raise ValueError("the pinned router certificate holds no -----BEGIN CERTIFICATE-----; pair the router again")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata="\n".join(blocks))
    except ssl.SSLError as error:
        raise ValueError(f"the pinned router certificate cannot be read: {error}; pair the router again") from error
    return pins, context


def _check_pin(writer: asyncio.StreamWriter, pins: set[bytes], peer: str) -> None:
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    if tls is None or tls.getpeercert(binary_form=True) not in pins:
        raise RouterUntrusted(_untrusted(peer, "issued by the pinned one, but another"))


def _untrusted(peer: str, found: str) -> str:
    return (
        f"the certificate shown by {peer} is not the pinned one ({found}); nothing was sent to it. If the router or "
        "its certificate was replaced on purpose, pair again at the site; otherwise somebody stands in between"
    )


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


@contextmanager
def _closing_on_error(wire: _Wire) -> Iterator[None]:
    """Whatever goes wrong inside, cancellation included, leaves the stream at an unknown place: close it."""
    settled = False
    try:
        yield
        settled = True
    finally:
        if not settled:
            wire.abort(by_us=wire.closed_by_us)


class _deadline:  # noqa: N801  (reads as the statement it is)
    """asyncio.timeout whose end is a RouterTimeout that says what was late."""

    def __init__(self, limit_s: float, what: str) -> None:
        self._limit_s = limit_s
        self._what = what
        self._timeout = asyncio.timeout(limit_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError:
            raise _late(self._what, self._limit_s, False) from None


def _late(what: str, limit_s: float, maybe_done: bool) -> RouterTimeout:
    return RouterTimeout(
        f"{what} within {limit_s:g} s; the router is busy, hung or out of reach", maybe_done=maybe_done
    )


def _encoded(sentence: Sequence[str]) -> bytes:
    """The sentence in wire form; ValueError, without quoting values, for what would not arrive as one sentence."""
    if not sentence or not sentence[0].startswith("/"):
        raise ValueError("a sentence starts with a command such as /interface/print")
    if not all(sentence):
        raise ValueError(f"an empty word in {sentence[0]} would end the sentence early")
    try:
        encoded: bytes = encode_sentence(*sentence, encoding="utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"a word of {sentence[0]} cannot be written as UTF-8") from None
    if len(encoded) > MAX_WORD_BYTES:
        raise ValueError(f"{sentence[0]} would be {len(encoded)} bytes; {MAX_WORD_BYTES} are allowed")
    return encoded


def _attributes(values: Mapping[str, str]) -> list[str]:
    return [f"={name}={value}" for name, value in values.items()]


def _row(words: Sequence[str], names: dict[str, str]) -> Row:
    """`=name=value` words as a dict; API attributes (`.tag=`) are none of the row's. Names repeat, so each is kept only
    once in `names`, for one reply: sys.intern would keep it for ever in Python 3.12.0 to 3.12.5.
    """
    row: Row = {}
    for word in words:
        name, equals, value = word[1:].partition("=")
        if word.startswith("=") and equals and name:
            row[names.setdefault(name, name)] = value
        elif not word.startswith("."):
            raise RouterProtocolError("the router sent a word that is not =name=value", maybe_done=True)
    return row


def _trap(command: str, traps: Sequence[Row]) -> RouterTrap:
    """One error for all traps of a reply (rarely more than one): the first one's category, all messages."""
    category = traps[0].get("category", "")
    message = "; ".join(trap.get("message", "") for trap in traps)[:1000]
    return RouterTrap(command, message, int(category) if category.isdecimal() and len(category) < 4 else None)


def _ret(rows: Sequence[Row]) -> str:
    return rows[-1].get("ret", "") if rows else ""
