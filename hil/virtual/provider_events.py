"""What really happened on the provider's side, as JSON lines on this machine's monotonic clock.

Every line is an object with ``t`` (s, CLOCK_MONOTONIC), ``source`` ("kamailio", "exim", "phone" or "bench") and
``event``. What is noted in wall time only (Kamailio's log, file times of mails) is converted by ONE offset, measured
when the log is opened and written as its first event; a step of the wall clock during a run would shift what follows.
Lines of different sources are up to 0.1 s out of order in the file: sort by ``t``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

Event = dict[str, object]

_POLL_S: Final = 0.05


class EventLog:
    """Appends events to a file and tells listeners. Usable from any thread."""

    def __init__(self, target: Path | TextIO) -> None:
        self._own = isinstance(target, Path)
        self._file: TextIO = target.open("a", encoding="utf-8") if isinstance(target, Path) else target
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Event], None]] = []
        self.wall_minus_mono_s = measure_wall_minus_mono_s()
        self.add("bench", "clock", wall_minus_mono_s=round(self.wall_minus_mono_s, 6))

    def add(self, source: str, event: str, t: float | None = None, **fields: object) -> None:
        """Append one event; ``t`` in s, CLOCK_MONOTONIC, now if not given."""
        line: Event = {"t": round(time.monotonic() if t is None else t, 6), "source": source, "event": event, **fields}
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._file.flush()
        for listener in tuple(self._listeners):
            listener(line)

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` with each event from now on; the returned function ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def to_mono(self, wall_s: float) -> float:
        """Unix time in s -> CLOCK_MONOTONIC in s."""
        return wall_s - self.wall_minus_mono_s

    def close(self) -> None:
        """Close the file if this object opened it."""
        if self._own:
            self._file.close()


def measure_wall_minus_mono_s() -> float:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC in s: of several readings, the one least disturbed by scheduling."""
    best_width, best = float("inf"), 0.0
    for _ in range(9):
        before = time.monotonic()
        wall = time.time()
        after = time.monotonic()
        if after - before < best_width:
            best_width, best = after - before, wall - (before + after) / 2
    return best


class LineTail:
    """Follows a growing file and hands over each complete line; up to 50 ms late, so lines must carry their time."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._offset = 0
        self._rest = b""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin following, from where the last reading ended."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """End after reading what is there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.read()

    def read(self) -> None:
        """Hand over every line complete by now."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    async def _follow(self) -> None:
        while True:
            self.read()
            await asyncio.sleep(_POLL_S)
