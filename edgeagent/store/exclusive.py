"""One writer of the router's standing rows at a time: ``edgeagent provision`` or the running agent, never both.

A lock on a file of the state folder, which ends with its holder however that ends. A disk on which nothing can be
locked keeps nobody from writing: the other program could not use its store there either.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.worker import Worker

T = TypeVar("T")
NAME = "router.lock"
ANSWER_S = 2.0  # of a disk; one that hangs is not waited for


class Exclusive:
    """May be taken again and again; not by two at once."""

    def __init__(self, state_folder: str) -> None:
        self._path = Path(state_folder) / NAME
        self._worker: Worker | None = None
        self._file: int | None = None

    async def take(self) -> bool:
        """False while another program holds it."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._call(self._take)
        except (TimeoutError, StoreUnavailable):
            return True

    async def release(self) -> None:
        """Let go of it, if it is held."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._call(self._release)
        except (TimeoutError, StoreUnavailable):
            return

    async def close(self) -> None:
        """Take it no more."""
        if self._worker is not None:
            await self.release()
            await self._worker.close(ANSWER_S)

    async def _call(self, work: Callable[[], T]) -> T:
        if self._worker is None:
            self._worker = Worker("router lock")
        return await self._worker.call(work)

    def _take(self) -> bool:
        if self._file is not None:
            return True
        try:
            number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:  # somebody else's: whoever may not open it must not think that it is free
            return False
        except OSError:
            return True
        if os.geteuid() == 0:  # made by a command, it is to lock the agent out too
            folder = self._path.parent.stat()
            os.fchown(number, folder.st_uid, folder.st_gid)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return False
        except OSError:
            os.close(number)
            return True
        self._file = number
        return True

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
