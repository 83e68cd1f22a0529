"""A raw API client for these tests: sends the words it is told to, returns the words that came back."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.model import ModelPlane
from hil.virtual.routeros.server import Router, RouterOptions
from hil.virtual.routeros.ssh import make_host_key
from hil.virtual.routeros.values import Version
from hil.virtual.routeros.wire import Decoder, encode_sentence

REPLY_S, TEST_S = 20.0, 120.0  # no claims: they end what would hang
PASSWORD = "correct horse"

Words = list[str]


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self._waiting: list[Words] = []

    def send(self, *words: str) -> None:
        self._writer.write(encode_sentence(word.encode() for word in words))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def read(self, timeout_s: float = REPLY_S) -> Words:
        """The next reply sentence; raises EOFError where the router closed."""
        async with asyncio.timeout(timeout_s):
            while not self._waiting:
                data = await self._reader.read(65536)
                if not data:
                    raise EOFError
                self._waiting += [
                    [word.decode() for word in sentence.words] for sentence in self._decoder.feed(data, 0.0)
                ]
        return self._waiting.pop(0)

    async def read_bytes(self, count: int) -> bytes:
        async with asyncio.timeout(REPLY_S):
            return await self._reader.readexactly(count)

    async def ask(self, *words: str) -> list[Words]:
        """Send one untagged command and return its replies up to ``!done`` or ``!fatal``."""
        self.send(*words)
        replies = [await self.read()]
        while replies[-1][0] not in ("!done", "!fatal"):
            replies.append(await self.read())
        return replies

    async def rows(self, *words: str) -> list[dict[str, str]]:
        return [properties(reply) for reply in await self.ask(*words) if reply[0] == "!re"]

    async def do(self, *words: str) -> str:
        """A command that must succeed; what it returned."""
        replies = await self.ask(*words)
        assert [reply[0] for reply in replies] == ["!done"], replies
        return properties(replies[0]).get("ret", "")

    async def trap(self, *words: str) -> str:
        """A command that must be refused; the message."""
        replies = await self.ask(*words)
        assert [reply[0] for reply in replies] == ["!trap", "!done"], replies
        return properties(replies[0])["message"]

    async def login(self, user: str = "admin", password: str = PASSWORD) -> None:
        assert await self.ask("/login", f"=name={user}", f"=password={password}") == [["!done"]]

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)


class Shell:
    """One SSH connection."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self.connection = connection

    async def __call__(self, line: str) -> str:
        """What a command line prints; RouterOS says by nothing else how it went."""
        done = await self.connection.run(line, timeout=REPLY_S)
        assert (done.exit_status, done.stderr) == (0, "")
        return str(done.stdout).replace("\r\n", "\n").rstrip("\n")

    async def put(self, name: str, text: str | bytes) -> None:
        async with self.connection.start_sftp_client() as sftp, sftp.open(name, "wb") as file:
            await file.write(text.encode() if isinstance(text, str) else text)

    async def get(self, name: str) -> bytes:
        async with self.connection.start_sftp_client() as sftp, sftp.open(name, "rb") as file:
            data = await file.read()
            assert isinstance(data, bytes)
            return data

    async def run_file(self, text: str, arguments: str = "") -> str:
        await self.put("test.rsc", text)
        return await self(f"/import file-name=test.rsc {arguments}")


@functools.cache
def host_key() -> bytes:
    """One for all routers of these tests, as making one takes longer than most of them."""
    return make_host_key()


class Bench:
    """One router in this process and the clients of it."""

    def __init__(self, router: Router, plane: ModelPlane) -> None:
        self.router = router
        self.plane = plane
        self._clients: list[Client] = []

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        port = self.router.ports["api" if tls is None else "api-ssl"]
        client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        self._clients.append(client)
        return client

    async def client(self, user: str = "admin", password: str = PASSWORD) -> Client:
        client = await self.connect()
        await client.login(user, password)
        return client

    @asynccontextmanager
    async def ssh(self, user: str = "admin", password: str = PASSWORD) -> AsyncIterator[Shell]:
        """A login over SSH."""
        router = self.router
        assert router.ssh is not None
        known = asyncssh.import_known_hosts(f"[127.0.0.1]:{router.ports['ssh']} {router.ssh.host_key}")
        options = {"username": user, "password": password, "known_hosts": known, "client_keys": None, "config": None}
        async with asyncssh.connect("127.0.0.1", router.ports["ssh"], **options) as connection:
            yield Shell(connection)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.router.stop()
        assert self.router.error is None, self.router.error


@asynccontextmanager
async def bench(
    version: Version = "7.22", initial: Initial | None = None, events: Path | None = None, **options: Any
) -> AsyncIterator[Bench]:
    plane = ModelPlane()
    log = EventLog(events)
    if options.get("ssh_port") is not None:
        options.setdefault("ssh_host_key", host_key())
    router = Router(RouterOptions(version, password=PASSWORD, initial=initial or {}, **options), plane, log)
    await router.start()
    opened = Bench(router, plane)
    try:
        yield opened
    finally:
        await opened.close()
        log.close()


def properties(reply: Words) -> dict[str, str]:
    return dict(word[1:].split("=", 1) for word in reply[1:] if word.startswith("="))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a limit on its time."""

    async def limited() -> None:
        async with asyncio.timeout(TEST_S):
            await test()

    asyncio.run(limited())


async def begun() -> None:
    """Let the router, which runs in this process, have so many turns that it has begun what was sent to it."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = REPLY_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  the router under test is only seen from outside
            await asyncio.sleep(0.01)
