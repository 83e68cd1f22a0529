"""The kernel side of the emulator: TAP devices and a timer descriptor. Linux only.

Requests: ``linux/if_tun.h``. A TAP is made in the emulator's own namespace and moved out; its descriptor goes on
working.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import time
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TUNSETCARRIER: Final = 0x400454E2
_IFF_TAP_NO_PI: Final = 0x0002 | 0x1000
_TFD_NONBLOCK_CLOEXEC: Final = 0o2004000
_TFD_TIMER_ABSTIME: Final = 1
# The links carry 1500-byte packets; the rest is room for the Ethernet header and a mistaken MTU.
FRAME_BYTES_MAX: Final = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class Tap:
    """One end of a link: a TAP device in network namespace ``netns`` under the name ``device``."""

    def __init__(self, temporary_name: str, netns: str, device: str) -> None:
        self.netns = netns
        self.device = device
        self.carrier = True
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", temporary_name.encode(), _IFF_TAP_NO_PI))
        subprocess.run(
            ["ip", "link", "set", temporary_name, "netns", netns, "name", device, "up"], check=True, capture_output=True
        )

    def set_carrier(self, on: bool) -> None:
        """Plug or pull this end's cable."""
        fcntl.ioctl(self.fd, _TUNSETCARRIER, struct.pack("i", on))
        self.carrier = on

    def read(self) -> bytes | None:
        """The next frame its kernel sent; None where none waits. Raises OSError when the device is gone."""
        try:
            return os.read(self.fd, FRAME_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # the device is administratively down
                return None
            raise

    def write(self, frame: bytes) -> bool:
        """Hand a frame to its kernel; False where the cable is out or the device is down or gone."""
        if not self.carrier:  # the kernel would take it: the carrier flag stops only the other way
            return False
        try:
            os.write(self.fd, frame)
        except OSError:
            return False
        return True


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """A timer descriptor on ``time.monotonic()``: epoll alone wakes in whole milliseconds, this within tens of us."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._armed: float | None = None

    def arm(self, at: float) -> None:
        """Wake at ``at`` seconds, unless already set for that time or an earlier one."""
        if self._armed is not None and self._armed <= at:
            return
        nanoseconds = max(int(at * 1e9), 1)
        wanted = _Itimerspec(_Timespec(0, 0), _Timespec(nanoseconds // 10**9, nanoseconds % 10**9))
        _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None)
        self._armed = at

    def acknowledge(self) -> None:
        """It fired."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
        self._armed = None
