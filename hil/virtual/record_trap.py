"""A look into the agent's store, and a trap for the moment at which something was recorded and not done yet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hil.virtual.state_disk import DiskError

_STORE: Final = ("store.db", "store.db-wal")


def seen_by(pid: int, folder: Path) -> Path:
    """A folder as a process with mounts of its own sees it."""
    return Path(f"/proc/{pid}/root{folder.resolve()}")


def places(folder: Path) -> list[dict[str, Any]]:
    """The changes of place in the journal of the store in ``folder``, oldest first, read from a copy of its files."""
    rows = _asked(folder, "SELECT data FROM journal WHERE kind = 'place' ORDER BY seq")
    return [json.loads(data) for (data,) in rows]


def commits(folder: Path) -> list[dict[str, Any]]:
    """What was committed together, oldest first: ``at_s``, by the machine's monotonic clock, and the ``kinds``."""
    found: list[dict[str, Any]] = []
    for at_s, kind in _asked(folder, "SELECT mono_s, kind FROM journal ORDER BY seq"):
        if not found or found[-1]["at_s"] != at_s:
            found.append({"at_s": at_s, "kinds": []})
        found[-1]["kinds"].append(kind)
    return found


def _asked(folder: Path, question: str) -> list[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory(prefix="edgeagent-hil-store-") as copy:
        for name in _STORE:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(folder / name, copy)
        if not (Path(copy) / _STORE[0]).exists():
            return []
        with contextlib.closing(sqlite3.connect(Path(copy) / _STORE[0])) as store:
            return store.execute(question).fetchall()


class RecordTrap:
    """Stops a process at the moment at which a sync of its store has returned, with strace (its fault injection).

    ``SIGSTOP`` given at the entry of a system call is delivered at its end: what was to be written is on the disk, and
    the thread has not run on. ``wanted`` looks at what was committed; anything else is let go on.
    """

    def __init__(self, pid: int, log: Path, wanted: Callable[[], bool]) -> None:
        self._pid = pid
        self._log = log
        self._wanted = wanted
        self._strace: asyncio.subprocess.Process | None = None

    async def set(self) -> None:
        """Attach."""
        self._log.unlink(missing_ok=True)
        what = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:signal=STOP"]
        self._strace = await asyncio.create_subprocess_exec(
            "strace", "-f", "-y", *what, "-o", str(self._log), "-p", str(self._pid),
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._strace.stderr is not None
        if b"attached" not in await self._strace.stderr.readline():
            raise DiskError(f"strace could not attach to process {self._pid}")

    async def sprung(self, timeout_s: float) -> str:
        """The system call after which the process stands still; empty when it did not come in time."""
        end_s, looked = asyncio.get_running_loop().time() + timeout_s, 0
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(0.005)
            lines = self._lines()
            if sum("--- SIGSTOP" in line for line in lines) <= looked or not _is_stopped(self._pid):
                continue
            looked += 1
            if self._wanted():
                return next(line for line in reversed(lines) if "sync(" in line)
            os.kill(self._pid, signal.SIGCONT)
        return ""

    async def release(self) -> None:
        """Detach, if the process still lives."""
        if self._strace is not None:
            with contextlib.suppress(ProcessLookupError):
                self._strace.terminate()
            await self._strace.wait()

    def _lines(self) -> list[str]:
        try:
            return self._log.read_text().splitlines()
        except FileNotFoundError:
            return []


def _is_stopped(pid: int) -> bool:
    """Whether every thread of it stands still. One that has ended runs no more; a process that has is not stopped."""
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.append(thread.read_text().rsplit(")", 1)[1].split()[0])
    return bool(states) and all(state in ("t", "T") for state in states)
