"""A disk of the agent's own: an ext4 that only its process sees. It can be made to hang, and it counts what is written.

The file system lies in memory (a memfd behind a loop device), so that it costs no other run anything. Whatever ends the
bench, nothing of it is left: the memfd and the loop device go with their last user, the mount with the agent's own
mount namespace, and a process of its own thaws what was frozen.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SIZE_BYTES: Final = 48 << 20
_SECTOR_BYTES: Final = 512  # of /sys/block/*/stat, whatever the device's own are (Documentation/block/stat.rst)
_WRITTEN_SECTORS: Final = 6  # field of that file, counted from 0
# The mount that an installer's card has; nothing is written behind the agent's back (lazy_itable_init).
_OPTIONS: Final = "noatime,commit=5"
_EXTENDED: Final = "lazy_itable_init=0,lazy_journal_init=0"
# Runs in the agent's place; the mount lives and ends with the mount namespace that ``ip netns exec`` has made.
_MOUNT: Final = 'mount -t ext4 -o "$0" "$1" "$2" && shift 2 && exec "$@"'
# The open folder keeps the frozen file system within reach, even when the agent has been killed meanwhile.
# It is thawed when the input ends, which the end of the bench is, too; at the latest after the time given.
_FREEZE: Final = (
    'exec 3<"$0" && fsfreeze -f /proc/self/fd/3 && echo frozen && timeout "$1" cat; fsfreeze -u /proc/self/fd/3'
)
_FROZEN_MAX_S: Final = 120
# By a process of its own: a thread that waits for a frozen disk would keep even a killed bench from ending.
_WRITE: Final = 'echo x > "$0" && sync "$0"'


class DiskError(RuntimeError):
    """The file system could not be made, frozen or thawed."""


class StateDisk:
    """An ext4 for one folder of the agent. It keeps its content from one start of the agent to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._memory = os.memfd_create(f"edgeagent-bench-disk-{os.getpid()}", os.MFD_CLOEXEC)
        os.truncate(self._memory, _SIZE_BYTES)
        image = f"/proc/{os.getpid()}/fd/{self._memory}"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", _EXTENDED, image)
        self.device = _run("losetup", "--find", "--show", image).strip()
        self._holder = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        _run("losetup", "--detach", self.device)  # it goes with its last user: the agent's mount, or this descriptor
        self._freezer: asyncio.subprocess.Process | None = None
        self._before = self._counted()  # by the device's former users

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` with the file system mounted, in a mount namespace that is its own already."""
        return ["sh", "-c", _MOUNT, _OPTIONS, self.device, str(self.folder), *argv]

    def inside(self, pid: int) -> Path:
        """The folder as the agent's process sees it."""
        return Path(f"/proc/{pid}/root{self.folder.resolve()}")

    def written_bytes(self, pid: int | None = None) -> int:
        """What the device was told to write so far, by its own counter; /proc/PID/io counts something else.

        With ``pid``, a process that sees the file system: what still waits in memory is written first, and counts.
        """
        if pid is not None:
            _run("sync", "--file-system", str(self.inside(pid)))
        return self._counted() - self._before

    def _counted(self) -> int:
        fields = Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()
        return int(fields[_WRITTEN_SECTORS]) * _SECTOR_BYTES

    async def freeze(self, pid: int) -> None:
        """From now on every write to it waits. Should the bench die, it is thawed all the same."""
        self._freezer = await asyncio.create_subprocess_exec(
            "sh", "-c", _FREEZE, str(self.inside(pid)), str(_FROZEN_MAX_S),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._freezer.stdout is not None
        if await self._freezer.stdout.readline() != b"frozen\n":
            raise DiskError("the agent's file system could not be frozen")

    async def thaw(self) -> None:
        """Writes go on."""
        freezer, self._freezer = self._freezer, None
        if freezer is not None:
            assert freezer.stdin is not None
            freezer.stdin.close()
            if await freezer.wait():
                raise DiskError("the agent's file system could not be thawed")

    async def write(self, pid: int) -> None:
        """Write a file there; it takes as long as the disk takes."""
        path = str(self.inside(pid) / "written-by-the-bench")
        writer = await asyncio.create_subprocess_exec("sh", "-c", _WRITE, path, start_new_session=True)
        if await writer.wait():
            raise DiskError("the agent's file system takes no file")

    def close(self) -> None:
        """Let go; the agent must have ended."""
        os.close(self._holder)
        os.close(self._memory)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DiskError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
