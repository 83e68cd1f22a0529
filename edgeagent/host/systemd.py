"""sd_notify(3) in a few lines: one datagram to the socket that systemd names in NOTIFY_SOCKET; without it, nothing
happens.

WATCHDOG=1 must be sent only by the supervisor, and only while every critical task's heartbeat is fresh; this module
just sends.
"""

import os
import socket

_MAX_STATUS = 200  # characters; a status line is one line on a screen


def ready(status: str = "") -> bool:
    """Start-up is over: the configuration is valid and the first reconciling was attempted."""
    return _notify("READY=1", *_status(status))


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return _notify(*_status(text))


def alive() -> bool:
    """Feed the watchdog."""
    return _notify("WATCHDOG=1")


def extend(seconds: float, status: str = "") -> bool:
    """The start takes longer: let it go on for so long from now (systemd 236 and later; TimeoutStartSec= else)."""
    return _notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", *_status(status))


def stopping(status: str = "") -> bool:
    """An orderly stop has begun."""
    return _notify("STOPPING=1", *_status(status))


def watchdog_s() -> float | None:
    """Seconds within which systemd wants to be fed; None where it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 else None


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())[:_MAX_STATUS]}"] if text else []


def _notify(*lines: str) -> bool:
    """True if the datagram was handed over. A deaf service manager must never hurt the agent, so failures are only
    told.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not lines:
        return False
    if address.startswith("@"):  # Linux abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.sendto("\n".join(lines).encode("utf-8"), address)
    except OSError:
        return False
    return True
