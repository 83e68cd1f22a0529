"""Which versions of its parts a figure was measured with."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence

PROGRAMS: Mapping[str, Sequence[str]] = {
    "kamailio": ("kamailio", "-v"),
    "baresip": ("baresip", "-h"),  # it has no option that only says its version
    "rtpengine": ("rtpengine", "--version"),
    "exim": ("exim4", "-bV"),
    "nft": ("nft", "--version"),
}
TOGETHER_S = 0.9
_NUMBER = re.compile(r"\d+(?:\.\d+)+[-+~.\w]*")


def versions(programs: Mapping[str, Sequence[str]] = PROGRAMS, together_s: float = TOGETHER_S) -> dict[str, str]:
    """The kernel's, Python's and each program's that answers in time; all are asked at once."""
    found = {"kernel": platform.release(), "python": platform.python_version()}
    end_s = time.monotonic() + together_s
    asked = {name: process for name, command in programs.items() if (process := _ask(command)) is not None}
    for name, process in asked.items():
        number = _answer(process, max(0.0, end_s - time.monotonic()))
        if number:
            found[name] = number
    return found


def _ask(command: Sequence[str]) -> subprocess.Popen[bytes] | None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            ["env", f"PATH={path}", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    return None


def _answer(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The first version number that the program prints, however it ends; empty if it is missing, silent or slow."""
    with process:
        try:
            output = process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return ""
    number = _NUMBER.search(output.decode(errors="replace"))
    return number[0] if number else ""
