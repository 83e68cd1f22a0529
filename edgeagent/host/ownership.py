"""What a command that runs as root does in the agent's folder: with the agent's rights, and so that it is the agent's.

Whoever owns the folder may plant links in it, at any moment; a check beforehand proves nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: a pipe would wait for its writer


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """With no more rights to files than the folder's owner, whose everything is that is made; nothing without being
    root. It holds for this thread and for those that it begins meanwhile, to their end.

    By setfsuid(2), which is a thread's own, and takes CAP_DAC_OVERRIDE, CAP_CHOWN and their like away with it
    (capabilities(7)). Where root may not change its ids it goes on as root.
    """
    if os.geteuid() != 0 or not folder.is_dir():
        yield
        return
    import ctypes  # root's commands only

    libc, owner = ctypes.CDLL(None), folder.stat()
    gid, uid = libc.setfsgid(owner.st_gid), libc.setfsuid(owner.st_uid)  # each answers with the former one
    try:
        yield
    finally:
        libc.setfsuid(uid)
        libc.setfsgid(gid)


def hand_over(folder: Path) -> None:
    """Give everything in ``folder`` that is root's to the folder's own owner; nothing without being root.

    A store that root has made would be unreadable to the agent, and a lock file that it cannot open locks nothing.
    """
    if os.geteuid() != 0 or not folder.is_dir():
        return
    owner = folder.stat()
    if owner.st_uid == 0:
        return
    for _, folders, files, here in os.fwalk(folder.resolve()):
        for name in (*folders, *files):
            with suppress(OSError):  # gone meanwhile, or a link
                _give(name, here, owner)


def _give(name: str, here: int, owner: os.stat_result) -> None:
    """What has a second name is not made by us: it may be a file of the system's that was linked here."""
    number = os.open(name, LOOK, dir_fd=here)
    try:
        found = os.fstat(number)
        ours = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if ours and found.st_uid == 0:
            os.fchown(number, owner.st_uid, owner.st_gid)
    finally:
        os.close(number)
