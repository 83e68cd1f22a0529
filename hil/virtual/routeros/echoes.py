"""The running figures that ``/ping`` adds to every echo: sent, received, loss, round trip times."""

from __future__ import annotations

from dataclasses import dataclass, field

from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import format_time_us, parse_time_us


@dataclass
class EchoCount:
    """Counts the echoes of one ping."""

    sent: int = 0
    rtts_us: list[int] = field(default_factory=list)

    def completed(self, row: Row) -> Row:
        """The plane's row with the figures up to and including this echo."""
        self.sent += 1
        if "time" in row:
            self.rtts_us.append(parse_time_us(row["time"]))
        received = len(self.rtts_us)
        figures = {
            "sent": str(self.sent),
            "received": str(received),
            "packet-loss": str(100 * (self.sent - received) // self.sent),
        }
        if self.rtts_us:
            figures |= {
                "min-rtt": format_time_us(min(self.rtts_us)),
                "avg-rtt": format_time_us(sum(self.rtts_us) // received),
                "max-rtt": format_time_us(max(self.rtts_us)),
            }
        return {**row, **figures}
