"""check-gateway: one echo to each checked gateway at an interval; some misses in a row make it unreachable.

RouterOS: every 10 s, 1 s timeout, unreachable after two misses, reachable again at the first answer (MikroTik
manual, "IP Routing"); from 7.21 tunable in /routing/settings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hil.virtual.routeros.kernel_ping import Echo
from hil.virtual.routeros.kernel_routes import Subject
from hil.virtual.routeros.kernel_values import duration_s
from hil.virtual.routeros.plane import Row, Trap


@dataclass(frozen=True)
class CheckTiming:
    """How gateways are checked."""

    interval_s: float = 10.0
    timeout_s: float = 1.0
    misses: int = 2

    def tuned(self, settings: Row, version: str) -> CheckTiming:
        """With the values of RouterOS 7.21+'s /routing/settings, where they are not the factory's."""
        if version.startswith("6"):
            return self
        factory = CheckTiming()
        interval_s = duration_s(settings.get("check-gateway-ping-interval", ""), factory.interval_s)
        timeout_s = duration_s(settings.get("check-gateway-ping-timeout", ""), factory.timeout_s)
        misses = int(settings.get("check-gateway-ping-count") or factory.misses)
        return CheckTiming(
            self.interval_s if interval_s == factory.interval_s else interval_s,
            self.timeout_s if timeout_s == factory.timeout_s else timeout_s,
            self.misses if misses == factory.misses else misses,
        )


class Gateways:
    """The checked gateways and what is known of them. A new one counts as reachable until its misses."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed: Final = changed
        self._tasks: dict[Subject, asyncio.Task[None]] = {}
        self._down: set[Subject] = set()
        self._timing = CheckTiming()

    def reachable(self, subject: Subject) -> bool:
        """Whether a gateway counts as reachable."""
        return subject not in self._down

    def watch(self, subjects: set[Subject], timing: CheckTiming) -> None:
        """Check exactly these from now on; those known keep their state."""
        if timing != self._timing:
            self._timing = timing
            self.stop_tasks()
        for subject in set(self._tasks) - subjects:
            self._tasks.pop(subject).cancel()
        for subject in subjects - set(self._tasks):
            self._tasks[subject] = asyncio.get_running_loop().create_task(self._check(subject))

    def stop_tasks(self) -> None:
        """End all checks, keeping what is known."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _check(self, subject: Subject) -> None:
        host, device = subject
        missed, sequence = 0, 0
        while True:
            started = time.monotonic()
            sequence += 1
            answered = await self._once(host, device, sequence)
            missed = 0 if answered else missed + 1
            if answered and subject in self._down:
                self._down.discard(subject)
                self._changed()
            elif missed >= self._timing.misses and subject not in self._down:
                self._down.add(subject)
                self._changed()
            await asyncio.sleep(max(0.0, started + self._timing.interval_s - time.monotonic()))

    async def _once(self, host: str, device: str, sequence: int) -> bool:
        try:
            echo = Echo(device)
        except Trap:  # the device is gone: a miss like any other
            return False
        try:
            return (await echo.send(host, sequence, self._timing.timeout_s)).rtt_s is not None
        finally:
            echo.close()
