"""An ext4 file system of our own, on a loop device, that can be cut off, filled, frozen and counted.

Its mounts live in a private mount namespace: a namespace that another process copies meanwhile (`ip netns exec`) would
otherwise hold on to a file system that was cut off, and the next mount of it would fail. The namespace and the loop
device end with the thread or process that made them, kill -9 included; only the image file is left then, and the next
run removes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PREFIX = "edgeagent-disk-"
MEMORY = Path("/dev/shm")  # where it has room: neighbours that write delay no cut then, and nobody waits for us

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x00020000  # linux/sched.h
_MS_RDONLY, _MS_REMOUNT, _MS_NOATIME, _MS_REC, _MS_PRIVATE = 1, 32, 1024, 16384, 1 << 18  # linux/mount.h
_EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), fs/ext4/ext4.h
_NO_LOG_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: nothing that waits in memory reaches the device
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
_BLOCK = 4096
_SECTOR = 512  # of /sys/block/*/stat, whatever the device's own


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def leave_mounts() -> None:
    """Give the calling thread, and what it starts from now on, a mount namespace of its own. Raises OSError."""
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)


def die_with(parent: int) -> None:
    """Have the calling process killed when its parent ends, so that nothing holds the disk any longer (prctl(2))."""
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


def in_private_mounts(work: Callable[[], T]) -> T:
    """``work()`` in a thread with a mount namespace of its own, which goes when the thread ends."""
    answer: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            leave_mounts()
            answer.append(work())
        except BaseException as error:  # noqa: BLE001  (handed to the caller)
            failed.append(error)

    thread = threading.Thread(target=go, name="private mounts")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return answer[0]


def why_not() -> str:
    """Why no disk can be had here; empty where it can. In the words of tests/conftest.py, REASONED_SKIPS."""

    def attempt() -> None:
        with disk(8):
            pass

    try:
        in_private_mounts(attempt)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error)
        return f"cannot mount here: {said.decode().strip() if isinstance(said, bytes) else said}"
    return ""


class Disk:
    """One ext4, mounted at ``top``. Made by :func:`disk`."""

    def __init__(self, loop: str, top: Path) -> None:
        self.loop = loop
        self.top = top

    def mount(self) -> None:
        """Mount as the Pi's disk is: noatime, a journal commit every 5 s. Raises OSError."""
        self._mount(_MS_NOATIME)

    def remount(self, *, read_only: bool) -> None:
        """Under whoever has files open. Raises OSError, EBUSY where a file is open for writing."""
        self._mount(_MS_NOATIME | _MS_REMOUNT | (_MS_RDONLY if read_only else 0))

    def unmount(self) -> None:
        """Raises OSError when something still holds it."""
        for left in reversed(range(200)):
            try:
                return _call("umount2", os.fsencode(self.top), 0)
            except OSError:
                if not left:
                    raise
                time.sleep(0.01)  # a process just killed lets go of its files a little later
        return None

    def cut(self) -> int:
        """Pull the plug; returns the monotonic nanoseconds just before. Unmount and mount to have power again."""
        return self._ask(_EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)

    def freeze(self) -> None:
        """Writers wait from now on, as on a disk that hangs (fsfreeze(8))."""
        self._ask(_FIFREEZE, b"\0\0\0\0")

    def thaw(self) -> None:
        """Let them go on."""
        self._ask(_FITHAW, b"\0\0\0\0")

    def fail(self) -> None:
        """Report an error of the file system: it turns read-only under whoever has files open (errors=remount-ro)."""
        Path(f"/sys/fs/ext4/{Path(self.loop).name}/trigger_fs_error").write_text("1")

    def fill(self, leave_bytes: int = 0) -> Path:
        """Take all space but so much; the file that takes it. Root's reserve is none (see :func:`disk`)."""
        filler = self.top / "filler"
        self.sync()  # blocks promised to files are given to them now
        with filler.open("ab") as file:
            found = os.statvfs(self.top)
            wanted = found.f_bavail * found.f_frsize - leave_bytes
            while wanted >= _BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), wanted)
                    found = os.statvfs(self.top)
                    wanted = min(wanted, found.f_bavail * found.f_frsize - leave_bytes)
                except OSError:  # the file system keeps a little for itself
                    wanted //= 2
        return filler

    def written_bytes(self) -> int:
        """What reached the block device so far, the file system's journal included (Documentation/block/stat.rst)."""
        return int(Path(f"/sys/block/{Path(self.loop).name}/stat").read_text().split()[6]) * _SECTOR

    def sync(self) -> None:
        """Everything out (syncfs(2))."""
        file = os.open(self.top, os.O_RDONLY)
        try:
            _call("syncfs", file)
        finally:
            os.close(file)

    def _ask(self, request: int, argument: bytes) -> int:
        file = os.open(self.top, os.O_RDONLY)
        try:
            at_ns = time.monotonic_ns()
            fcntl.ioctl(file, request, argument)
        finally:
            os.close(file)
        return at_ns

    def _mount(self, flags: int) -> None:
        options = b"commit=5,errors=remount-ro"
        _call("mount", self.loop.encode(), os.fsencode(self.top), b"ext4", ctypes.c_ulong(flags), options)


@contextmanager
def disk(mebibytes: int) -> Iterator[Disk]:
    """A new one, mounted. Raises OSError and CalledProcessError where none can be made."""
    with _folder(mebibytes) as folder, _loop_device(folder / "image", mebibytes) as loop:
        found = Disk(loop, folder / "top")
        found.top.mkdir()
        found.mount()
        try:
            yield found
        finally:
            with suppress(OSError):
                found.thaw()
            found.unmount()


@contextmanager
def medium(mebibytes: int) -> Iterator[tuple[Disk, Callable[[bool], None]]]:
    """A disk and a function that makes its medium bad, or good again. Bad, it takes writes only to blocks that were
    written before: every other one fails with EIO in the block layer, as the worn blocks of a card do.
    """
    with _folder(mebibytes) as folder:
        spare = f"size={mebibytes * 2}m"
        _call("mount", b"none", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), spare.encode())

        def turn(bad: bool) -> None:
            found = os.statvfs(folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            _run("mount", "-o", f"remount,{f'size={used}' if bad else spare}", str(folder))

        try:
            with _loop_device(folder / "image", mebibytes) as loop:
                _touch_journal(folder / "image")
                found = Disk(loop, folder / "top")
                found.top.mkdir()
                found.mount()
                try:
                    yield found, turn
                finally:
                    turn(False)
                    found.unmount()
        finally:
            _call("umount2", os.fsencode(folder), 2)  # MNT_DETACH: the image is in it until the loop device lets go


def _touch_journal(image: Path) -> None:
    """Write every block of the journal (inode 8), so that only data can fail: without a journal all of ext4 stops."""
    with image.open("r+b") as file:
        for block in _run("debugfs", "-R", "blocks <8>", str(image)).split():
            file.seek(int(block) * _BLOCK)
            body = file.read(_BLOCK)
            file.seek(int(block) * _BLOCK)
            file.write(body)


@contextmanager
def _folder(mebibytes: int) -> Iterator[Path]:
    _clear_stale()
    memory_has_room = shutil.disk_usage(MEMORY).free > 8 * (mebibytes << 20) if MEMORY.is_dir() else False
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=MEMORY if memory_has_room else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _loop_device(image: Path, mebibytes: int) -> Iterator[str]:
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    _run("mkfs.ext4", "-q", "-b", str(_BLOCK), "-m", "0", "-E", "lazy_itable_init=0", str(image))
    loop = _run("losetup", "--find", "--show", str(image)).strip()
    held = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _run("losetup", "--detach", loop)  # in use: the kernel detaches it when the last one closes, we or our kill -9
        yield loop
    finally:
        os.close(held)


def _clear_stale() -> None:
    """What a run that was killed left behind: its image, and a loop device if it died before it was ours to lose."""
    places = (MEMORY, Path(tempfile.gettempdir()))
    for folder in (folder for place in places for folder in place.glob(f"{PREFIX}*")):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            for line in _run("losetup", "--noheadings", "--output", "NAME", "--associated", f"{folder}/image").split():
                with suppress(subprocess.CalledProcessError):
                    _run("losetup", "--detach", line)
            shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PATH": path, "LC_ALL": "C"})
    return done.stdout.decode()
