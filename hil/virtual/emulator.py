"""The link emulator: one process that carries every link of a bed between pairs of TAP devices.

    python -m hil.virtual.emulator --config FILE --control SOCKET --events FILE

The configuration is JSON: ``{"seed": 1, "links": [{"name", "a": {"netns", "device"}, "b": {...}, "allow_source"?,
"impair"?: {"up": FIELDS, "down": FIELDS}}]}``; the fields are those of ``Impairment`` in ``emulator_impair``.
It is ready when ``hello`` is answered. Events are JSON lines with ``t`` in ``time.monotonic()`` seconds.

Why not netem: the bench's kernels need not have it, and the same process is an independent witness of every packet.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import json
import os
import resource
import select
import signal
import time
from pathlib import Path
from typing import Any, Final

from hil.virtual.emulator_control import Commands, PolledServer
from hil.virtual.emulator_link import Change, Direction, Link, LinkConfig
from hil.virtual.emulator_record import Budget, Flow, FlowTable
from hil.virtual.emulator_tap import Timer

# Frames taken from one device before the others and the departures get their turn.
_BATCH: Final = 64
# A departure this near is not worth another sleep.
_EARLY_S: Final = 20e-6
_LATENESS_STEP_S: Final = 10e-6
_LATENESS_STEPS: Final = 5000


class EventLog:
    """The events file; written once per turn of the loop."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._lines: list[str] = []

    def emit(self, event: dict[str, Any]) -> None:
        """Note one event; ``t`` is the event's own."""
        self._lines.append(json.dumps({"t": event["t"], "source": "emulator", **event}))

    def flush(self) -> None:
        """Write what was noted."""
        if self._lines:
            os.write(self._fd, ("\n".join(self._lines) + "\n").encode())
            self._lines.clear()


class Emulator:
    """The links, the packets on their way, the scripted steps, and the loop that serves them."""

    clock = staticmethod(time.monotonic)

    def __init__(self, config: dict[str, Any], control: Path, events: Path) -> None:
        self.seed: int = config.get("seed", 1)
        self._log = EventLog(events)
        self._epoll = select.epoll()
        self._timer = Timer()
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        budget = Budget(config.get("flows_max", Budget().flows_max))
        configs = [LinkConfig.from_json(entry) for entry in config["links"]]
        self.links = {
            entry.name: Link(entry, number, str(self.seed), self.clock(), self._log.emit, budget)
            for number, entry in enumerate(configs)
        }
        self._by_fd: dict[int, Direction] = {}
        for link in self.links.values():
            for direction in link.directions.values():
                self._by_fd[direction.source.fd] = direction
                self._epoll.register(direction.source.fd, select.EPOLLIN)
        self._flying: list[tuple[float, int, Direction, bytes, Flow]] = []
        self._script: list[tuple[float, int, Change]] = []
        self._sequence = 0
        self._lateness = [0] * (_LATENESS_STEPS + 1)
        self._stopped = False
        self._control = PolledServer(control, Commands(self).handle, self._epoll)

    def tables(self) -> list[FlowTable]:
        """Every flow table, in the order of the configuration."""
        return [direction.table for link in self.links.values() for direction in link.directions.values()]

    def apply(self, change: Change) -> float:
        """Change a link now; returns the time it took effect."""
        now = self.clock()
        change.apply(self.links[change.link], now, self._log.emit)
        return now

    def schedule(self, steps: list[tuple[float, Change]]) -> float:
        """Script changes at so many seconds from now; returns that now."""
        start = self.clock()
        for at_s, change in steps:
            self._sequence += 1
            heapq.heappush(self._script, (start + at_s, self._sequence, change))
        return start

    def cancel_schedule(self) -> int:
        """Forget the steps still to come; returns how many."""
        count = len(self._script)
        self._script.clear()
        return count

    def statistics(self) -> dict[str, Any]:
        """CPU seconds since the start, packets sent on, and by how much they were late (seconds, 10 us steps)."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_kib_max": usage.ru_maxrss,
            "packets_sent": sum(self._lateness),
            "lateness_p50_s": self._lateness_at(0.50),
            "lateness_p99_s": self._lateness_at(0.99),
            "lateness_max_s": self._lateness_at(1.0),
            "in_flight": len(self._flying),
        }

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while not self._stopped:
            for fd, mask in self._epoll.poll():
                direction = self._by_fd.get(fd)
                if direction is not None:
                    self._take(direction, mask)
                elif fd == self._timer.fd:
                    self._timer.acknowledge()
                else:
                    self._control.ready(fd, mask)
            self._act()
            self._deliver()
            self._log.flush()
            self._arm()

    def stop(self, *_signal: object) -> None:
        """Leave the loop. From a signal handler: the timer wakes the loop, which a handled signal alone does not."""
        self._stopped = True
        self._timer.arm(self.clock())

    def _take(self, direction: Direction, mask: int) -> None:
        source = direction.source
        for _ in range(_BATCH):
            try:
                frame = source.read()
            except OSError:
                mask |= select.EPOLLERR
                break
            if frame is None:
                break
            ticket = direction.arrive(frame, self.clock())
            if ticket is not None:
                self._sequence += 1
                heapq.heappush(self._flying, (ticket[0], self._sequence, direction, frame, ticket[1]))
        if mask & select.EPOLLERR:  # its namespace was deleted; without this the loop would spin
            with contextlib.suppress(OSError):
                self._epoll.unregister(source.fd)

    def _deliver(self) -> None:
        flying = self._flying
        now = self.clock()
        while flying and flying[0][0] <= now + _EARLY_S:
            at, _, direction, frame, flow = heapq.heappop(flying)
            if not direction.sink.write(frame):
                direction.table.undelivered(flow, frame, "carrier")
                continue
            self._lateness[min(max(int((now - at) / _LATENESS_STEP_S), 0), _LATENESS_STEPS)] += 1

    def _act(self) -> None:
        while self._script and self._script[0][0] <= self.clock() + _EARLY_S:
            self.apply(heapq.heappop(self._script)[2])

    def _arm(self) -> None:
        times = [queue[0][0] for queue in (self._flying, self._script) if queue]
        if times:
            self._timer.arm(min(times))

    def _lateness_at(self, share: float) -> float:
        wanted = share * sum(self._lateness)
        passed = 0
        for step, count in enumerate(self._lateness):
            passed += count
            if count and passed >= wanted:
                return step * _LATENESS_STEP_S
        return 0.0


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Carry the links of one bed between TAP devices.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--control", type=Path, required=True, help="where to answer requests (Unix socket)")
    parser.add_argument("--events", type=Path, required=True, help="where to append events (JSON lines)")
    options = parser.parse_args()
    # A line must not stutter because the machine is busy with phones; where this is refused it merely may.
    with contextlib.suppress(OSError):
        os.nice(-10)
    emulator = Emulator(json.loads(options.config.read_text()), options.control, options.events)
    signal.signal(signal.SIGTERM, emulator.stop)
    signal.signal(signal.SIGINT, emulator.stop)
    # Nothing here makes reference cycles worth collecting, and a collection would hold up packets.
    gc.freeze()
    gc.disable()
    emulator.run()


if __name__ == "__main__":
    main()
