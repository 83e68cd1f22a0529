"""One holder at a time: of the router's standing rows, ``edgeagent provision`` or the running agent; of a state folder,
one running agent.

A lock on a file of the state folder, which ends with its holder however that ends. A disk on which nothing can be
locked keeps nobody from working: another program could not use its store there either. Nor does a holder that was
killed and hangs in a disk that does not answer: it runs no more, and may never be gone.
"""

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.worker import Worker

T = TypeVar("T")
ROUTER = "router.lock"
AGENT = "agent.lock"
ANSWER_S = 2.0  # of a disk; one that hangs is not waited for
LOCKS = Path("/proc/locks")
OPENING = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW  # the folder may belong to somebody who plants links there


class Exclusive:
    """May be taken again and again; not by two at once. ``barred``: what is answered where the file is another user's
    and may not be opened. Whoever has only to wait then takes it for held; whoever must work does not.
    """

    def __init__(self, state_folder: str, name: str = ROUTER, *, barred: bool = False) -> None:
        self._path = Path(state_folder) / name
        self._barred = barred
        self._worker: Worker | None = None
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """The file that is locked."""
        return self._path

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
            self._worker = Worker(self._path.name)
        return await self._worker.call(work)

    def _take(self) -> bool:
        if self._file is not None:
            return True
        try:
            number = _opened(self._path)
        except PermissionError:
            return self._barred
        except OSError:
            return True
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ended = _has_ended(os.fstat(number).st_ino)
            os.close(number)
            return ended
        except OSError:
            os.close(number)
            return True
        self._file = number
        return True

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _has_ended(inode: int) -> bool:
    """Whether all that hold a lock on a file of this number have been killed (proc_locks(5), proc_pid_status(5))."""
    try:
        rows = [row.split() for row in LOCKS.read_text().splitlines()]
    except OSError:
        return False
    holders = [row[4] for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == str(inode)]
    return bool(holders) and all(map(_is_killed, holders))


def _is_killed(process: str) -> bool:
    """One of which a thread hangs in the kernel is a zombie, or shows the signal that cannot be caught."""
    try:
        told = dict(line.split(":", 1) for line in (LOCKS.parent / process / "status").read_text().splitlines())
    except OSError:  # gone meanwhile, or not for us to see
        return False
    pending = int(told["SigPnd"], 16) | int(told["ShdPnd"], 16)
    return told["State"].split()[0] in "ZX" or bool(pending >> (signal.SIGKILL - 1) & 1)


def _opened(path: Path) -> int:
    """The file, made where there is none; one that root makes is to lock the folder's owner out too."""
    with suppress(OSError):  # told by the next call
        path.parent.mkdir(mode=0o700, parents=True)
    try:
        number = os.open(path, OPENING | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, OPENING)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(number, folder.st_uid, folder.st_gid)
    return number
