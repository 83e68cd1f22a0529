"""The router's event log: one JSON object per line, times from the monotonic clock of this machine, in seconds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

# Attributes whose value never reaches a log ("response" is the challenge answer of logins before 6.43).
SECRET_ATTRIBUTES: Final = (
    *("password", "response", "old-password", "new-password", "confirm-new-password", "passphrase"),
)


_SECRET: Final = re.compile(rf'\b((?:{"|".join(SECRET_ATTRIBUTES)})=)("(?:\\.|[^"\\])*"|\\"(?:(?!\\").)*\\"|[^\s;\]]+)')


def masked_line(line: str) -> str:
    """A command line with the value of every secret argument replaced."""
    return _SECRET.sub(r"\1***", line)


def masked(words: Iterable[str]) -> list[str]:
    """The words with the value of every secret attribute replaced."""
    return [_mask(word) for word in words]


def _mask(word: str) -> str:
    for name in SECRET_ATTRIBUTES:
        if word.startswith(f"={name}="):
            return f"={name}=***"
    if "PRIVATE KEY" in word:
        return f"{word.partition('-----')[0]}***"
    return masked_line(word)  # a script within may hold one too


class EventLog:
    """Appends events to a file; without a path it keeps nothing."""

    def __init__(self, path: Path | None = None) -> None:
        # Line buffered: readers follow the file while the router runs, and a killed router loses nothing.
        self._file: TextIO | None = None if path is None else path.open("a", buffering=1, encoding="utf-8")

    def write(self, event: str, t: float | None = None, **details: object) -> None:
        """Record one event; ``t`` is its monotonic time, now if not given."""
        if self._file is None:
            return
        line = {"t": time.monotonic() if t is None else t, "source": "router", "event": event, **details}
        self._file.write(json.dumps(line, default=str) + "\n")

    def close(self) -> None:
        """Close the file; later events are dropped."""
        if self._file is not None:
            self._file.close()
            self._file = None
