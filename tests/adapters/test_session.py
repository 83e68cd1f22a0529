"""routeros.session against a scripted raw server: its own encoder, nothing of librouteros."""

import asyncio
import gc
import random
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.routeros.errors import (
    RouterError,
    RouterLoginRefused,
    RouterProtocolError,
    RouterTimeout,
    RouterTrap,
    RouterUnreachable,
    RouterUntrusted,
)
from edgeagent.routeros.session import MAX_REPLY_ROWS, Listener, Row, Session, Streams
from tests.adapters.certificates import certificate

PASSWORD = "s3cret-Pässword"


def word(text: str | bytes) -> bytes:
    body = text.encode() if isinstance(text, str) else text
    n = len(body)
    if n < 0x80:
        return bytes([n]) + body
    if n < 0x4000:
        return (n | 0x8000).to_bytes(2, "big") + body
    return (n | 0xC00000).to_bytes(3, "big") + body


def sentence(*words: str | bytes) -> bytes:
    return b"".join(map(word, words)) + b"\0"


async def read_sentence(reader: asyncio.StreamReader) -> list[str]:
    words = []
    while (n := (await reader.readexactly(1))[0]) != 0:
        if n >= 0x80:
            n = ((n & 0x3F) << 8) | (await reader.readexactly(1))[0]
        words.append((await reader.readexactly(n)).decode())
    return words


class Router:
    """Accepts, logs in, then answers each sentence with what `answer` writes."""

    def __init__(self) -> None:
        self.sentences: list[list[str]] = []
        self.raw_bytes = 0
        self.connections = 0
        self.login = sentence("!done")
        self.answer: Callable[[list[str], asyncio.StreamWriter], Awaitable[None]] = self.fixed(sentence("!done"))
        self.port = 0
        self.pem = ""
        self.rows: list[Row] = []

    @staticmethod
    def fixed(reply: bytes) -> Callable[[list[str], asyncio.StreamWriter], Awaitable[None]]:
        async def write(_: list[str], writer: asyncio.StreamWriter) -> None:
            writer.write(reply)

        return write

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                words = await read_sentence(reader)
                self.sentences.append(words)
                if words[0] == "/login":
                    writer.write(self.login)
                else:
                    await self.answer(words, writer)
                await writer.drain()
        except (EOFError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def open(self, **more: Any) -> Session:
        pem = more.pop("pem", self.pem)
        return await Session.open("127.0.0.1", self.port, "agent", PASSWORD, pem, more.pop("deadline_s", 2.0), **more)


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    context, pem, _ = certificate(tmp_path_factory.mktemp("tls"), "router", years=(1970, 1980))
    return context, pem


@asynccontextmanager
async def serving(cert: tuple[ssl.SSLContext, str]) -> AsyncIterator[Router]:
    router = Router()
    server = await asyncio.start_server(router.serve, "127.0.0.1", 0, ssl=cert[0])
    router.port, router.pem = server.sockets[0].getsockname()[1], cert[1]
    try:
        yield router
    finally:
        server.close()
        await asyncio.sleep(0)


Test = Callable[[Router], Coroutine[Any, Any, None]]


@pytest.fixture
def run(cert: tuple[ssl.SSLContext, str]) -> Callable[[Test], None]:
    def go(test: Test) -> None:
        async def inside() -> None:
            async with serving(cert) as router, asyncio.timeout(10):
                await test(router)

        asyncio.run(inside())

    return go


def test_rows_are_plain_strings_and_the_sentence_goes_out_once(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        router.answer = router.fixed(
            sentence("!re", "=.id=*1", "=disabled=yes", "=comment=007", "=name=true", ".tag=3", "=note=a=b=")
            + sentence("!re", "=name=caf\u00e9", b"=comment=\xe9\xff")
            + sentence("!done")
        )
        async with asyncio.timeout(2):
            session = await router.open(source="127.0.0.1")
            rows = await session.print("/interface", [".id", "name"], ["?name=x"])
        assert rows[0] == {".id": "*1", "disabled": "yes", "comment": "007", "name": "true", "note": "a=b="}
        assert rows[1] == {"name": "café", "comment": "\\xe9\\xff"}
        await session.send("/ip/address/add", address="1.2.3.4/24", src_address="x")
        assert router.sentences == [
            ["/login", "=name=agent", f"=password={PASSWORD}"],
            ["/interface/print", "=.proplist=.id,name", "?name=x"],
            ["/ip/address/add", "=address=1.2.3.4/24", "=src-address=x"],
        ]
        await session.close()
        assert session.closed
        with pytest.raises(RouterUnreachable) as caught:
            await session.send("/x/print")
        assert not caught.value.maybe_done

    run(test)


def test_a_name_is_kept_once_for_a_reply_and_no_longer_clause_x3(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        router.answer = router.fixed((sentence("!re", "=never-heard-of=1") * 2) + sentence("!done"))
        session = await router.open()
        first, second = await session.send("/x/print")
        (third, _) = await session.send("/x/print")
        assert next(iter(first)) is next(iter(second))
        assert next(iter(first)) is not next(iter(third))  # sys.intern would have kept it for ever
        await session.close()

    run(test)


def test_helpers_return_ret_and_empty_is_no_row(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        session = await router.open()
        router.answer = router.fixed(sentence("!empty") + sentence("!done"))
        assert await session.print("/ip/route", ["dst-address"]) == []
        router.answer = router.fixed(sentence("!done", "=ret=*1F"))
        assert await session.add("/ip/route", {"dst-address": "0.0.0.0/0"}) == "*1F"
        router.answer = router.fixed(sentence("!done"))
        assert await session.set("/ip/route", "*1F", {"disabled": "yes"}) == ""
        assert await session.set("/system/identity", None, {"name": "x"}) == ""
        assert await session.remove("/ip/route", "*1F") == ""
        assert router.sentences[-1] == ["/ip/route/remove", "=.id=*1F"]
        assert router.sentences[-2] == ["/system/identity/set", "=name=x"]
        refused: list[list[str]] = [["print"], [], ["/x", ""], ["/x", "=a=\ud800"], ["/x", "=a=" + "b" * 70_000]]
        for bad in refused:
            with pytest.raises(ValueError, match=r"sentence|word|bytes"):
                await session.send(bad)
        assert not session.closed
        await session.close()

    run(test)


def test_a_trap_keeps_the_connection(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        session = await router.open()
        router.answer = router.fixed(
            sentence("!re", "=a=1") + sentence("!trap", "=category=0", "=message=no such item (4)") + sentence("!done")
        )
        with pytest.raises(RouterTrap) as caught:
            await session.send("/ip/firewall/connection/print")
        assert (caught.value.message, caught.value.category) == ("no such item (4)", 0)
        router.answer = router.fixed(sentence("!trap") + sentence("!done"))  # no message: a TypeError in librouteros
        with pytest.raises(RouterTrap) as caught:
            await session.send("/x/print")
        assert caught.value.category is None
        router.answer = router.fixed(sentence("!re", "=a=2") + sentence("!done"))
        assert await session.send("/x/print") == [{"a": "2"}]
        assert router.connections == 1
        await session.close()

    run(test)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (sentence("!fatal", "session terminated"), RouterUnreachable),
        (sentence("!fatal"), RouterUnreachable),
        (b"\0", RouterProtocolError),
        (sentence("!re", "novalue"), RouterProtocolError),
        (sentence("!what"), RouterProtocolError),
        (b"\xf8", RouterProtocolError),
        (b"\xf0\xff\xff\xff\xff", RouterProtocolError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", (RouterProtocolError, RouterTimeout)),
        (b"\xef\xff\xff\xff" + b"x" * 1000, RouterProtocolError),  # 256 MiB announced
        (sentence("!re") * (MAX_REPLY_ROWS + 1), RouterProtocolError),
        (sentence("!re", "=a=" + "x" * 60_000) * 20, RouterProtocolError),
    ],
)
def test_anything_odd_closes_the_connection(run: Callable[[Test], None], reply: bytes, kind: Any) -> None:
    async def test(router: Router) -> None:
        session = await router.open(deadline_s=0.5)
        router.answer = router.fixed(reply)
        with pytest.raises(kind):
            await session.send("/x/print")
        assert session.closed
        with pytest.raises(RouterUnreachable):
            await session.send("/x/print")
        assert len(router.sentences) == 2

    run(test)


def test_a_dripping_reply_meets_the_deadline_over_the_whole_command(run: Callable[[Test], None]) -> None:
    async def drip(_: list[str], writer: asyncio.StreamWriter) -> None:
        for _number in range(40):  # a whole sentence each time, far below any deadline per sentence
            writer.write(sentence("!re", "=a=1"))
            dripped.append(_number)
            await writer.drain()
            await asyncio.sleep(0.05)

    dripped: list[int] = []

    async def test(router: Router) -> None:
        session = await router.open()
        router.answer = drip
        with pytest.raises(RouterTimeout) as caught:
            await session.send("/x/print", deadline_s=0.3)
        assert len(dripped) < 12  # of 40; six are due by then
        assert caught.value.maybe_done
        assert isinstance(caught.value, TimeoutError)
        assert session.closed  # so that no later command can be given these rows

    run(test)


def test_waiting_for_the_turn_counts_and_hurts_nobody(run: Callable[[Test], None]) -> None:
    async def slow(words: list[str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(sentence("!re", f"=was={words[0]}") + sentence("!done"))

    async def test(router: Router) -> None:
        session = await router.open()
        router.answer = slow
        first = asyncio.create_task(session.send("/first"))
        await asyncio.sleep(0)
        with pytest.raises(RouterTimeout) as caught:
            await session.send("/second", deadline_s=0.1)
        assert not caught.value.maybe_done
        assert await first == [{"was": "/first"}]
        third, fourth = await asyncio.gather(session.send("/third"), session.send("/fourth"))
        assert (third, fourth) == ([{"was": "/third"}], [{"was": "/fourth"}])
        assert [words[0] for words in router.sentences[1:]] == ["/first", "/third", "/fourth"]
        await session.close()

    run(test)


def test_cancelled_in_mid_command_closes(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        session = await router.open()
        router.answer = router.fixed(b"")
        task = asyncio.create_task(session.send("/x/print"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.closed

    run(test)


def test_a_wrong_certificate_gets_no_login(cert: tuple[ssl.SSLContext, str], tmp_path: Path) -> None:
    other, _, _ = certificate(tmp_path, "router")  # same name, another key
    _, ca_pem, ca = certificate(tmp_path, "ca")
    leaf, leaf_pem, _ = certificate(tmp_path, "router", signer=ca)

    async def attempt(context: ssl.SSLContext, pinned: str) -> list[list[str]]:
        async with serving((context, pinned)) as router, asyncio.timeout(5):
            try:
                session = await router.open()
            except RouterUntrusted as error:
                assert PASSWORD not in str(error)
                await asyncio.sleep(0.02)
                return router.sentences
            await session.close()
            return router.sentences

    assert asyncio.run(attempt(other, cert[1])) == []
    assert asyncio.run(attempt(leaf, ca_pem)) == []  # signed by the pinned one is not the pinned one
    assert len(asyncio.run(attempt(leaf, leaf_pem))) == 1  # a leaf pinned alone is enough
    assert len(asyncio.run(attempt(*cert))) == 1  # control, valid 1970 to 1980 only
    with pytest.raises(ValueError, match="pair"):
        asyncio.run(attempt(other, "nonsense"))


def test_login_refused_names_no_password(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        router.login = sentence("!trap", "=message=invalid user name or password (6)") + sentence("!done")
        with pytest.raises(RouterLoginRefused, match="invalid user") as caught:
            await router.open()
        assert PASSWORD not in f"{caught.value!r} {caught.value}"
        router.login = sentence("!done", "=ret=0123")
        with pytest.raises(RouterProtocolError, match=r"6\.49"):
            await router.open()
        router.login = b""
        with pytest.raises(RouterTimeout):
            await router.open(deadline_s=0.2)
        with pytest.raises(ValueError, match="router"):
            await Session.open("router.example", 1, "a", "b", router.pem, 1.0)

    run(test)


def test_nobody_there() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test(pem: str) -> None:
        with pytest.raises(RouterUnreachable, match="api-ssl"):
            await Session.open("127.0.0.1", 1, "a", "b", pem, 1.0)
        server = await asyncio.start_server(silent, "127.0.0.1", 0)  # never speaks TLS
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RouterTimeout):
            await Session.open("127.0.0.1", port, "a", "b", pem, 0.2)
        server.close()
        await asyncio.sleep(0.01)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(test(certificate(Path(folder), "x")[1]))


def test_listener_yields_rows_and_ends_when_closed(run: Callable[[Test], None]) -> None:
    async def events(words: list[str], writer: asyncio.StreamWriter) -> None:
        assert words == ["/interface/listen", "=.proplist=name"]
        writer.write(sentence("!re", "=name=ether1") + sentence("!re", "=.id=*2", "=.dead=yes"))

    async def test(router: Router) -> None:
        router.answer = events
        listener = await Listener.open(
            "127.0.0.1", router.port, "agent", PASSWORD, router.pem, 2.0, words=["/interface/listen", "=.proplist=name"]
        )
        rows = []
        async for row in listener:
            rows.append(row)
            if len(rows) == 2:
                asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(listener.close()))
        assert rows == [{"name": "ether1"}, {".id": "*2", ".dead": "yes"}]
        await asyncio.sleep(0.05)
        for reply, kind in (
            (sentence("!trap", "=message=no such command") + sentence("!done"), RouterTrap),
            (sentence("!done"), RouterUnreachable),
            (sentence("!fatal", "bye"), RouterUnreachable),
            (sentence("bad"), RouterProtocolError),
        ):
            router.answer = router.fixed(reply)
            listener = await Listener.open(
                "127.0.0.1", router.port, "agent", PASSWORD, router.pem, 2.0, words=["/x/listen"]
            )
            with pytest.raises(kind):
                rows.extend([row async for row in listener])
            assert listener.closed

    run(test)


GOOD = (
    sentence("!re", "=.id=*1", "=name=ether1", "=running=true")
    + sentence("!re", "=comment=" + "x" * 300)
    + sentence("!trap", "=category=4", "=message=failure")
    + sentence("!done", "=ret=*5")
)


def mutated(rng: random.Random) -> bytes:
    data = bytearray(GOOD)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                data[at] ^= 1 << rng.randrange(8)
            case _:
                data[at:at] = data[: rng.randint(1, 40)]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def test_2000_mutated_replies_stay_in_our_tree_and_in_bounds() -> None:
    """Clause X3. Plain streams instead of TLS, for speed: the same reader and the same wire code."""
    from edgeagent.routeros.session import _encoded, _Wire

    class Writer:
        def __init__(self) -> None:
            self.transport = self

        def write(self, _: bytes) -> None:
            pass

        async def drain(self) -> None:
            pass

        def abort(self) -> None:
            pass

    async def test() -> tuple[int, int]:
        rng = random.Random(20)
        refused = answered = 0
        for _ in range(2000):
            reader = asyncio.StreamReader()
            reader.feed_data(mutated(rng))
            reader.feed_eof()
            wire = _Wire(reader, Writer(), "test")  # type: ignore[arg-type]
            try:
                await wire.exchange("/x/print", _encoded(["/x/print"]))
            except RouterError:
                refused += 1
                assert wire.closed
            else:
                answered += 1
                assert not wire.closed
        return refused, answered

    tracemalloc.start()
    try:
        refused, answered = asyncio.run(test())
        gc.collect()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > 500
    assert answered > 20  # control: some mutations are harmless and must be answered
    assert peak < 4 * 1024 * 1024


def test_the_largest_reply_allowed_stays_below_8_mib() -> None:
    from edgeagent.routeros.session import _encoded, _Wire

    row = sentence("!re", *(f"=k{i}=v{i:07}" for i in range(7)))
    writer = type("W", (), {"write": lambda *_: None, "abort": lambda *_: None})()
    writer.transport = writer

    async def drain() -> None:
        pass

    writer.drain = drain

    async def test() -> int:
        reader = asyncio.StreamReader()
        reader.feed_data(row * (MAX_REPLY_ROWS - 1) + sentence("!done"))
        wire = _Wire(reader, writer, "test")
        tracemalloc.start()
        rows, _ = await wire.exchange("/x/print", _encoded(["/x/print"]))
        assert len(rows) == MAX_REPLY_ROWS - 1
        return tracemalloc.get_traced_memory()[1]

    try:
        assert asyncio.run(test()) < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


# Streams: sentences that go on, told apart by their tags


PING = ("/ping", "=address=192.0.2.1")


async def streaming(router: Router, *, ends: bool = False, silence_s: float = 2.0) -> None:
    """Start two sentences, stop the second; note the rows of the first until the stream breaks, which is raised."""
    session = await router.open()
    streams = Streams(session)
    streams.start(PING, router.rows.append, ends=ends)
    streams.stop(streams.start(PING, lambda _: pytest.fail("a row of a stopped sentence"), ends=False))
    try:
        await streams.run(silence_s)
    finally:
        assert session.closed


INTERRUPTED = sentence("!re", ".tag=2", "=seq=9") + sentence("!trap", "=category=2", "=message=interrupted", ".tag=2")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (sentence("!trap", "=message=not enough permissions (9)", ".tag=1"), RouterTrap),
        (sentence("!done", ".tag=1"), RouterUnreachable),
        (sentence("!fatal", "bye"), RouterUnreachable),
        (sentence("!odd", ".tag=1"), RouterProtocolError),
        (b"\xff", RouterProtocolError),
    ],
)
def test_streams_hand_out_rows_by_tag_until_something_breaks(
    run: Callable[[Test], None], end: bytes, expected: type[RouterError]
) -> None:
    async def test(router: Router) -> None:
        async def answer(words: list[str], writer: asyncio.StreamWriter) -> None:
            if words[0] == "/cancel":
                assert words[1] == "=tag=2"
                writer.write(INTERRUPTED + sentence("!done", ".tag=2") + sentence("!done", words[2]))
                writer.write(sentence("!re", ".tag=1", "=seq=0") + sentence("!re", "=seq=1", ".tag=1") + end)

        router.answer = answer
        with pytest.raises(expected):
            await streaming(router)
        assert router.rows == [{"seq": "0"}, {"seq": "1"}]
        assert [words[-1] for words in router.sentences[1:]] == [".tag=1", ".tag=2", ".tag=3"]

    run(test)


def test_a_stream_may_end_where_that_was_said_and_a_silent_one_is_a_hung_router(run: Callable[[Test], None]) -> None:
    async def test(router: Router) -> None:
        async def answer(words: list[str], writer: asyncio.StreamWriter) -> None:
            if words[-1] == ".tag=1":
                writer.write(sentence("!re", ".tag=1", "=seq=0") + sentence("!done", ".tag=1"))

        router.answer = answer
        with pytest.raises(RouterTimeout):
            await streaming(router, ends=True, silence_s=0.2)
        assert router.rows == [{"seq": "0"}]

    run(test)
