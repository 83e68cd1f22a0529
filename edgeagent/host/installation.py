"""The random id of this installation, which ``edgeagent identity --create`` makes (host/keys.py), without its key."""

from __future__ import annotations

import re
from pathlib import Path

ID_FILE = "installation-id"
_MAX_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{32}")


def read(folder: Path) -> str:
    """32 hexadecimal digits. Raises OSError where there is none, ValueError where the file holds something else."""
    with (folder / ID_FILE).open("rb") as file:
        found = file.read(_MAX_BYTES).decode(errors="replace").strip()
    if not _ID.fullmatch(found):
        raise ValueError(f"{folder / ID_FILE}: {len(found)} characters; expected 32 hexadecimal digits")
    return found
