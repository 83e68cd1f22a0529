"""The control socket: whoever connects is handed the status as one JSON line. It never reads from its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

WRITE_S = 2.0


class StatusSocket:
    """Serves ``document()`` on a Unix socket that only the agent's user and group may open (clause X5)."""

    def __init__(self, path: Path, document: Callable[[], dict[str, Any]]) -> None:
        self.path = path
        self.document = document
        self.server: asyncio.Server | None = None
        self.own: tuple[int, int] | None = None  # device and number of the socket's file

    async def open(self) -> None:
        """Start serving; a socket left by a crashed predecessor is replaced."""
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        self.own = self._found()
        self.path.chmod(0o660)

    async def close(self) -> None:
        """Stop serving. Where another has put its own socket there meanwhile, that one stays."""
        if self.server is not None:
            self.server.close()
        if self.own is not None and self._found() == self.own:
            self.path.unlink(missing_ok=True)

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def _serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                writer.write(msgspec.json.encode(self.document()) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the client went away; it may ask again
        finally:
            writer.close()
