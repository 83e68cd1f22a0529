"""What a command that runs as root makes in the agent's folder is handed over to the agent."""

from __future__ import annotations

import os
from pathlib import Path


def hand_over(folder: Path) -> None:
    """Give everything in ``folder`` that is root's to the folder's own owner; nothing without being root.

    A store that root has made would be unreadable to the agent, and a lock file that it cannot open locks nothing.
    """
    if os.geteuid() != 0 or not folder.is_dir():
        return
    owner = folder.stat()
    if owner.st_uid == 0:
        return
    for path in folder.rglob("*"):
        if path.lstat().st_uid == 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
