"""Phones: they register by their own clock, repeat themselves while unanswered, and talk."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.lines import Line
from tests.simulation.router import Key, Router, Row

REGISTER_BYTES, ANSWER_BYTES, KEEPALIVE_BYTES, CALL_BYTES = 1100, 900, 32, 3000
MEDIA_BYTES_S = 10_000  # G.711 at 50 packets a second, with headers
REPEAT_S, TIMER_F_S, BACK_OFF_S = 4.0, 32.0, 30.0
KEEPALIVE_S = 25.0
DEAF_S = 12.0  # so long without hearing anything, and a person hangs up
GAPS = 4


@dataclass(slots=True)
class Call:
    """A conversation. It is deaf from the moment its rows are lost: the relay learns a phone's address only once."""

    row: Row
    began_s: float
    ends_s: float
    counted_s: float
    lost: bool = False
    deaf_s: float | None = None


@dataclass(slots=True)
class Phone:
    """One UDP phone. ``next_s``: when it speaks next; ``trying_s``: since when it waits for an answer."""

    index: int
    address: str
    expiry_s: float
    keepalive: bool
    next_s: float
    keep_s: float = float("inf")
    trying_s: float | None = None
    bound: str = ""  # the address that the registrar would call
    bound_until_s: float = 0.0
    call: Call | None = None
    call_over_s: float = float("-inf")
    spoke_s: list[float] = field(default_factory=list)

    @property
    def period_s(self) -> float:
        return 0.9 * self.expiry_s

    @property
    def key(self) -> Key:
        return (self.address, 5060, 5060)

    def due_s(self) -> float:
        """When this phone does something next."""
        return min(self.next_s, self.keep_s)

    def act(self, now_s: float, router: Router, lines: dict[str, Line]) -> None:
        """Send what is due."""
        if self.keep_s <= now_s:
            router.packet(self.key, now_s, KEEPALIVE_BYTES)
            self.keep_s = now_s + KEEPALIVE_S
        if self.next_s <= now_s:
            self._register(now_s, router, lines)

    def _register(self, now_s: float, router: Router, lines: dict[str, Line]) -> None:
        row, straight = router.packet(self.key, now_s, REGISTER_BYTES)
        if straight and lines[row.path].carries(int(now_s * 10) + self.index):
            row.repl += ANSWER_BYTES
            self.bound, self.bound_until_s = row.nat, now_s + self.expiry_s
            self.trying_s, self.next_s = None, now_s + self.period_s
            self.spoke_s = [*self.spoke_s[-(GAPS - 1) :], now_s]
            return
        if self.trying_s is None:
            self.trying_s = now_s
        self.next_s = now_s + REPEAT_S
        if now_s - self.trying_s >= TIMER_F_S:
            self.trying_s, self.next_s = None, now_s + BACK_OFF_S

    def callable(self, now_s: float, router: Router, lines: dict[str, Line]) -> bool:
        """Whether a call from outside would ring: a binding, the row that lets it in, and a way back out."""
        row = router.row(self.key, now_s)
        if row is None or row.nat != self.bound or now_s >= self.bound_until_s:
            return False
        return lines[row.path].usable and router.out_path(row) == row.path

    def dial(self, now_s: float, ends_s: float, router: Router, lines: dict[str, Line]) -> None:
        """Begin a call, if the phone can."""
        if self.call is not None or self.trying_s is not None or not self.callable(now_s, router, lines):
            return
        row, straight = router.packet(self.key, now_s, CALL_BYTES)
        if not straight or not lines[row.path].usable:
            return
        row.repl += CALL_BYTES
        media, _ = router.packet(self._media_key(now_s), now_s, 200, media=True)
        self.call = Call(media, now_s, ends_s, now_s)

    def _media_key(self, began_s: float) -> Key:
        return (self.address, 10_000 + int(began_s) % 9_973, 30_000 + self.index)

    def talk(self, now_s: float, router: Router, lines: dict[str, Line]) -> None:
        """Count the media up to now, under the state that held until now."""
        call = self.call
        if call is None:
            return
        heard = self._heard(call, router, lines)
        elapsed_s, call.counted_s = now_s - call.counted_s, now_s
        call.row.orig += int(elapsed_s * MEDIA_BYTES_S)
        call.row.last_s = now_s
        if heard:
            call.row.repl += int(elapsed_s * MEDIA_BYTES_S)
            call.deaf_s = None
        elif call.deaf_s is None:
            call.deaf_s = now_s
        if now_s >= call.ends_s or (call.deaf_s is not None and now_s - call.deaf_s >= DEAF_S):
            self._hang_up(now_s, router, lines)

    def _heard(self, call: Call, router: Router, lines: dict[str, Line]) -> bool:
        key = (call.row.source, call.row.port, call.row.far_port)
        if router.rows.get(key) is not call.row:
            call.lost = True
            call.row, _ = router.packet(key, call.counted_s, 0, media=True)
        return not call.lost and lines[call.row.path].usable and router.out_path(call.row) == call.row.path

    def _hang_up(self, now_s: float, router: Router, lines: dict[str, Line]) -> None:
        self.call, self.call_over_s = None, now_s
        row, straight = router.packet(self.key, now_s, CALL_BYTES // 4)
        if straight and lines[row.path].usable:
            row.repl += CALL_BYTES // 4

    def leap(self, to_s: float, router: Router) -> None:
        """Live through an undisturbed stretch at once; only where nothing is being tried and no call is up."""
        row = router.row(self.key, self.next_s if self.next_s < to_s else to_s)
        rounds = int((to_s - self.next_s) // self.period_s) + 1 if to_s > self.next_s else 0
        last_s = row.last_s if row is not None else float("-inf")
        if rounds:
            spoke_s = self.next_s + (rounds - 1) * self.period_s
            self.next_s = spoke_s + self.period_s
            self.bound, self.bound_until_s = router.addresses[router.path_of(self.address)], spoke_s + self.expiry_s
            self.spoke_s = [spoke_s - gap * self.period_s for gap in range(min(rounds, GAPS) - 1, -1, -1)]
            last_s = max(last_s, spoke_s)
        if self.keepalive and to_s > self.keep_s:
            beats = int((to_s - self.keep_s) // KEEPALIVE_S) + 1
            self.keep_s += beats * KEEPALIVE_S
            last_s = max(last_s, self.keep_s - KEEPALIVE_S)
        if rounds == 0 and (row is None or last_s == row.last_s):
            return
        if row is None or (not self.keepalive and self.period_s > 180.0 and rounds):
            router.rows.pop(self.key, None)
            row, _ = router.packet(self.key, last_s, 0)
        row.last_s = last_s
        row.orig += REGISTER_BYTES * rounds
        row.repl += ANSWER_BYTES * rounds
