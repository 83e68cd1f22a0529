"""Network namespaces, as few processes as can be: batches of ``ip``, and threads that step into a namespace.

A thread may enter a namespace of its own (setns(2)); what it opens there stays there, so sockets and sysctls of any
namespace can be had without starting a program in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from hil.virtual.provider_programs import GUARD_S

NETNS_FOLDER: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class NamespaceError(RuntimeError):
    """A namespace, device or address could not be made, entered or removed."""


def run_ip(lines: Iterable[str], netns: str | None = None, force: bool = False) -> None:
    """Run many ``ip`` commands in one process, in a namespace or here; ``force`` goes on after a failure."""
    command = ["ip", *(["-n", netns] if netns else []), *(["-force"] if force else []), "-batch", "-"]
    result = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if result.returncode and not force:
        raise NamespaceError(f"ip in {netns or 'the current namespace'}: {result.stderr.strip()}")


def inside(netns: str, action: Callable[[], T]) -> T:
    """Call ``action`` in a thread that is in the namespace; returns or raises what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            fd = os.open(NETNS_FOLDER / netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns to {netns} failed")
            finally:
                os.close(fd)
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread and raised there
            errors.append(error)

    thread = threading.Thread(target=body, name=f"in {netns}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def set_sysctls(netns: str, values: Mapping[str, str]) -> None:
    """Write ``net.*`` settings of a namespace; names with slashes, below ``/proc/sys/net``."""

    def write() -> None:
        for name, value in values.items():
            (Path("/proc/sys/net") / name).write_text(value)

    inside(netns, write)


def existing(prefix: str) -> list[str]:
    """The names of the namespaces that begin with ``prefix``."""
    if not NETNS_FOLDER.is_dir():
        return []
    return sorted(entry.name for entry in NETNS_FOLDER.iterdir() if entry.name.startswith(prefix))


def kill_members(names: Iterable[str]) -> int:
    """SIGKILL every process in these namespaces, however it was started; returns how many. Never the caller."""
    wanted = set()
    for name in names:
        with contextlib.suppress(OSError):
            wanted.add((NETNS_FOLDER / name).stat().st_ino)
    killed: set[int] = set()
    deadline = time.monotonic() + GUARD_S
    while wanted and (members := _members(wanted)):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(members)
        if time.monotonic() > deadline:
            raise NamespaceError(f"processes {sorted(members)} did not die within {GUARD_S:g} s")
        time.sleep(0.005)
    return len(killed)


def delete(names: Iterable[str]) -> None:
    """Kill what lives in the namespaces and remove them; names that do not exist are fine."""
    wanted = list(names)
    if wanted:
        kill_members(wanted)
        run_ip([f"netns del {name}" for name in wanted], force=True)


def _members(inodes: set[int]) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns" / "net").stat().st_ino in inodes:
                    members.append(int(entry.name))
    return members
