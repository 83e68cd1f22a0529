"""The only reader of clocks and of randomness in the agent; everything else is handed time as an argument (clause C4).

Monotonic seconds order events and drive every timer. Wall time is for display, the billing month and mail only, and
always comes with its quality.
"""

import ctypes
import functools
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

WallQuality = Literal["synced", "unknown"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNCD_STAMP = Path("/run/systemd/timesync/synchronized")  # see systemd-timesyncd(8)
_EARLIEST_YEAR = (
    2024  # before this program was written: the clock is plainly wrong (a board without a battery starts in 1970)
)
_TIME_ERROR = 5  # adjtimex(2): "the system clock is not synchronized to a reliable server"
_STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """The head of `struct timex` (adjtimex(2)); the tail is only room for the kernel to write into."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_tail", ctypes.c_byte * 512),
    )


def mono_s() -> float:
    """Seconds since an arbitrary moment of this boot; never steps. The same clock as the asyncio loop's."""
    return time.monotonic()


@functools.cache
def boot_id() -> str:
    """The kernel's random name of this boot; monotonic times are comparable only under the same one."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def wall() -> datetime | None:
    """The time of day, UTC; None where the clock has plainly never been set."""
    now = datetime.now(UTC)
    return now if now.year >= _EARLIEST_YEAR else None


def wall_s() -> float | None:
    """The same as seconds since 1970-01-01 UTC, as core.facts.Instant wants it."""
    now = wall()
    return None if now is None else now.timestamp()


def wall_quality() -> WallQuality:
    """ "synced" only where timesyncd or the kernel's own NTP state vouches for the clock.

    timesyncd leaves a stamp file; for all others the kernel is asked (chronyd tells it with `rtcsync`, Debian's
    default). Where a service manager refuses adjtimex even for reading (`ProtectClock=`), only the stamp counts.
    """
    if wall() is None:
        return "unknown"
    if _TIMESYNCD_STAMP.exists() or _kernel_is_synced():
        return "synced"
    return "unknown"


def token(n: int) -> str:
    """`n` random bytes as 2n hexadecimal digits, fit for nonces (not predictable by anyone on the LAN)."""
    return secrets.token_hex(n)


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _kernel_is_synced() -> bool:
    state = _Timex()  # modes 0: read only, needs no privilege
    try:
        answer: int = _libc().adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):  # no such C library or function: nobody vouches for the clock
        return False
    return answer >= 0 and answer != _TIME_ERROR and not state.status & _STA_UNSYNC
