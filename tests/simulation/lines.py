"""Lines to the internet, as they truly are: what would answer a packet sent now, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field

NEVER = float("-inf")
LATE_USELESS_S = 1.0  # an answer later than this is no sign that anybody could talk
DEAD_ROUNDS = 5  # fewer lost in a row are ordinary loss, whatever else is wrong


def noise(*parts: int) -> float:
    """A number in 0..1 that depends on ``parts`` alone, so that a leap over quiet rounds changes no later chance."""
    mixed = 0x9E3779B97F4A7C15
    for part in parts:
        mixed = ((mixed ^ part) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 29
    return (mixed & 0xFFFFFFFF) / 2**32


@dataclass(slots=True)
class Line:
    """One uplink. Faults are counted, so that they may overlap."""

    name: str
    address: str
    targets: tuple[str, ...]
    rtt_s: float
    index: int = 0
    black: int = 0
    link_down: int = 0
    burst: int = 0
    filtered: int = 0
    sip_silent: int = 0
    lates: int = 0
    late_s: float = 0.0
    dead: dict[str, int] = field(default_factory=dict)
    bad_since: float | None = None
    usable_since: float = NEVER
    unanswerable: int = 0  # rounds in a row that the line itself could not have answered
    dead_run_s: float = NEVER  # when such a run was last at least `DEAD_ROUNDS` long
    link_bad_s: float = NEVER  # the last moment at which the link was down

    @property
    def usable(self) -> bool:
        """Whether voice could go here, bursts of loss apart."""
        return not (self.black or self.link_down)

    @property
    def clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.usable and not (self.burst or self.filtered or self.sip_silent or self.lates or self.dead)

    def answers(self, target: str, number: int) -> float | None:
        """How long the answer to a probe sent now takes; None for no answer."""
        if self.black or self.link_down or target in self.dead:
            return None
        if self.sip_silent if target.startswith("sip:") else self.filtered:
            return None
        if self.burst and noise(self.index, number, len(target), ord(target[-1])) < 0.9:
            return None
        return self.rtt_s * (1 + 0.2 * noise(self.index, number)) + self.late_s

    def round_sent(self, answerable: bool, now_s: float) -> None:
        """Count rounds that nothing could have answered, however well the agent itself can hear."""
        self.unanswerable = 0 if answerable else self.unanswerable + 1
        if self.unanswerable >= DEAD_ROUNDS:
            self.dead_run_s = now_s

    def carries(self, moment: int) -> bool:
        """Whether a SIP transaction sent now is answered."""
        if not self.usable or self.sip_silent:
            return False
        return not (self.burst and noise(self.index, moment) < 0.9)

    def changed(self, now_s: float, link_was_down: bool) -> None:
        """Keep the times after a fault came or went."""
        if link_was_down or self.link_down:
            self.link_bad_s = now_s
        if self.usable and self.bad_since is not None:
            self.bad_since, self.usable_since = None, now_s
        elif not self.usable and self.bad_since is None:
            self.bad_since = now_s
