"""The router's own ping from one of its own addresses: coarse, for an agent that cannot have alias addresses.

The source address decides the path, as in icmp.py: the router steers each of these addresses by one uplink, whatever
the leases say (clause P10). One sentence for each target goes on until it is stopped, and the router says what became
of each echo, its loss included: a row is proof that the router itself lives. No row at all says nothing of the line.

RouterOS pings at least every 5 s (its ``interval`` is 10ms to 5s), so the echo a minute of a metered path is a sentence
of one echo, each minute anew. ``size`` counts the headers: 28 bytes on the wire, one way.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from edgeagent.routeros import sentences
from edgeagent.routeros.durations import fine_seconds

ECHO_WIRE_BYTES = 28
INTERVAL_MAX_S = 5.0
ANSWER_S = 1.0  # so long the router waits for an answer before it says "timeout"

OnEcho = Callable[[str, float, bool], None]


class Stream(Protocol):
    """Where sentences go on; routeros.session has it, daemon/wiring.py hands it over."""

    def start(self, words: Sequence[str], take: Callable[[dict[str, str]], None], *, ends: bool) -> str:
        """Send a sentence, hand its rows to ``take``, return its tag. Never fails."""

    def stop(self, tag: str) -> None:
        """End it."""


class RouterPinger:
    """Has the router ping every target and reports ``on_echo(target, sent_s, answered)`` for each echo.

    ``now`` reads monotonic seconds. Without a stream nothing is pinged; what is ordered meanwhile is kept.
    """

    def __init__(self, source: str, targets: Sequence[str], on_echo: OnEcho, *, now: Callable[[], float]) -> None:
        self.source = str(ipaddress.IPv4Address(source))
        self._targets = tuple(targets)
        self._on_echo = on_echo
        self._now = now
        self._stream: Stream | None = None
        self._command = ""
        self._interval_s: float | None = None
        self._tags: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent_s = float("-inf")

    def attach(self, stream: Stream, command: str) -> None:
        """Ping by this connection from now on; ``command`` is what its router calls it."""
        self._tags = []  # those of an earlier connection ended with it
        self._stream, self._command = stream, command
        self._arm()

    def detach(self) -> None:
        """The connection is gone."""
        self._stop()
        self._stream = None

    def order(self, interval_s: float) -> None:
        """Ping so often from now on. A running sentence cannot change its interval, so it is started anew."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._arm()

    def close(self) -> None:
        """Ping no more."""
        self._interval_s = None
        self._stop()

    def _arm(self) -> None:
        """Start, not sooner after the last echo than is ordered: each may cost money."""
        self._stop()
        if self._interval_s is not None and self._stream is not None:
            delay_s = max(0.0, self._sent_s + self._interval_s - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._start)

    def _start(self) -> None:
        if self._interval_s is None or self._stream is None:
            return
        self._tags = []
        self._sent_s = self._now()
        single = self._interval_s > INTERVAL_MAX_S
        interval_s, count = (ANSWER_S, 1) if single else (self._interval_s, None)
        for target in self._targets:
            words = sentences.ping(self._command, target, self.source, ECHO_WIRE_BYTES, interval_s, count)
            self._tags.append(self._stream.start(words, partial(self._take, target), ends=single))
        if single:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._start)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        tags, self._tags = self._tags, []
        for tag in tags:
            if self._stream is not None:
                self._stream.stop(tag)

    def _take(self, target: str, row: Mapping[str, str]) -> None:
        """One row: ``time`` where it was answered, ``status`` (timeout, no route to host, ...) where it was not."""
        rtt_s = None if row.get("status") else fine_seconds(row.get("time", ""))
        self._sent_s = self._now() - (ANSWER_S if rtt_s is None else rtt_s)
        self._on_echo(target, self._sent_s, rtt_s is not None)
