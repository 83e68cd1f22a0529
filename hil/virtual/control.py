"""How the parts of the bench talk: one JSON object per line over a Unix socket.

A request is ``{"op": NAME, ...}``; its reply is ``{"ok": true, ...}`` or ``{"ok": false, "error": TEXT}``. One request
at a time on a connection, replies in order. ``serve`` and ``ControlClient`` are for asyncio programs; a program with a
loop of its own (the emulator) uses ``answer`` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from hil.virtual.provider_programs import GUARD_S

# A full table of 20,000 flows is about 10 MB of JSON; anything longer is a mistake.
LINE_BYTES_MAX: Final = 64 * 1024 * 1024

Message = dict[str, Any]
Handler = Callable[[str, Message], Message]
AsyncHandler = Callable[[str, Message], "Message | Awaitable[Message]"]


class ControlError(RuntimeError):
    """A request was refused (server side: raise it to refuse), or the other end went away."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> tuple[str, Message]:
    """The operation's name and its arguments; raises :class:`ControlError` on anything that is not a request."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ControlError(f"a request must be one JSON object on a line: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ControlError('a request must be a JSON object with the text field "op"')
    return message.pop("op"), message


def answer(handler: Handler, line: bytes) -> bytes:
    """The reply line to one request line, asking ``handler`` when the request is well formed."""
    try:
        operation, arguments = decode(line)
        return encode({"ok": True, **handler(operation, arguments)})
    except (ControlError, ValueError, TypeError, KeyError) as error:
        return encode(_refusal(error))


async def serve(path: Path, handler: AsyncHandler) -> asyncio.Server:
    """Answer requests on the Unix socket ``path`` until the returned server is closed."""
    # A socket left by a crashed predecessor would refuse the bind; asyncio removes a stale one itself.

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                writer.write(await _answer(handler, line))
                await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(connection, path, limit=LINE_BYTES_MAX)


class ControlClient:
    """A connection to one control socket. Calls from several tasks queue up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()
        self.timeout_s = GUARD_S  # of each call

    @classmethod
    async def connect(cls, path: Path) -> ControlClient:
        """Connect; raises OSError where nothing listens."""
        return cls(*await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX))

    async def call(self, op: str, **arguments: Any) -> Message:
        """Send one request and return its reply without ``ok``; raises :class:`ControlError` when refused."""
        async with self._turn, asyncio.timeout(self.timeout_s):
            self._writer.write(encode({"op": op, **arguments}))
            await self._writer.drain()
            line = await self._reader.readline()
        if not line:
            raise ControlError(f"{op}: the other end closed the connection")
        reply: Message = json.loads(line)
        if not reply.pop("ok", False):
            raise ControlError(f"{op}: {reply.get('error', 'refused without a reason')}")
        return reply

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _refusal(error: Exception) -> Message:
    text = f"missing field {error}" if isinstance(error, KeyError) else str(error)
    return {"ok": False, "error": text}


async def _answer(handler: AsyncHandler, line: bytes) -> bytes:
    try:
        operation, arguments = decode(line)
        reply = handler(operation, arguments)
        return encode({"ok": True, **(await reply if inspect.isawaitable(reply) else reply)})
    except (ControlError, ValueError, TypeError, KeyError) as error:
        return encode(_refusal(error))
