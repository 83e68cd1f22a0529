"""The namespaces of the tests' own beds, ``ebt-kPID-...`` and ``ebt-pPID-...``, that a killed test run has left."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hil.virtual import topology_netns as netns


def clean_stale() -> list[str]:
    """Remove those whose process is gone; returns their names. What belongs to a living process is left alone."""
    if os.geteuid() != 0:
        return []
    found = {name: re.match(r"ebt-[kp](\d+)-", name) for name in netns.existing("ebt-")}
    stale = [name for name, match in found.items() if match and not Path(f"/proc/{match[1]}").exists()]
    netns.delete(stale)
    return stale
