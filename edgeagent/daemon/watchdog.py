"""Feeds the service manager's watchdog, and only while everything that the phones depend on is seen to work.

Each critical part has a heartbeat: the moment until which it counts as alive, moved on by the part's own work. The
watchdog is fed when all of them are fresh and the event loop has run on time. It runs on that loop itself, so a blocked
loop feeds nothing; no timer or thread feeds on its own. Unfed for WatchdogSec= the service manager ends the process
(with SIGABRT, which leaves a stack in the log) and starts it anew; the router's leases hold meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from edgeagent.host import systemd

log = logging.getLogger(__name__)
LOOK_S = 1.0
FEED_S = 10.0  # a third of the unit's WatchdogSec=
LAG_S = 2.0  # a loop that late judges its probes wrongly
GRACE_S = 20.0  # what a part may take for its first beat

Heart = Callable[[], float]  # the monotonic second until which the part counts as alive


class Watchdog:
    """``hearts``: of each critical part. ``started`` is set once the first reconciling was attempted."""

    def __init__(
        self, hearts: Mapping[str, Heart], started: asyncio.Event, say: Callable[[], str], now: Callable[[], float]
    ) -> None:
        self.hearts = hearts
        self.started = started
        self.say = say
        self.now = now
        self.feed_s = min(FEED_S, (systemd.watchdog_s() or 3 * FEED_S) / 3)
        self.look_s = min(LOOK_S, self.feed_s / 2)
        self.late_s = float("-inf")
        self.silent: list[str] = []
        self.said = ""

    async def run(self) -> None:
        """Announce that the start is over, then look and feed until cancelled."""
        born_s = self.now()
        await self.started.wait()
        self.said = self.say()
        systemd.ready(self.said)
        fed_s = self.now()
        while True:
            slept_s = self.now()
            await asyncio.sleep(self.look_s)
            now_s = self.now()
            self._look(now_s, now_s - slept_s - self.look_s, born_s + GRACE_S)
            if not self.silent and now_s - fed_s >= self.feed_s - self.look_s / 2:
                fed_s = now_s
                systemd.alive()
                self._tell()

    def _look(self, now_s: float, lag_s: float, grace_until_s: float) -> None:
        """Note which parts are silent; a change is logged, so that what follows can be explained."""
        silent = [name for name, heart in self.hearts.items() if now_s > max(heart(), grace_until_s)]
        if lag_s > LAG_S:
            self.late_s = now_s
        if now_s - self.late_s < self.feed_s:  # on time for a whole interval: it may be late every other time
            silent.append("event loop")
        if silent != self.silent:
            log.warning("no sign of life from: %s", ", ".join(silent) or "none, all is well again")
        self.silent = silent

    def _tell(self) -> None:
        said = self.say()
        if said != self.said:
            self.said = said
            systemd.status(said)
