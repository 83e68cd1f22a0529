"""What the service manager kept of the service's log (journalctl(1))."""

from __future__ import annotations

import subprocess

UNIT = "edgeagent"
LINES = 5000
WAIT_S = 15.0


def tail(most_bytes: int) -> str | None:
    """The last lines, without the host's name; None where no service manager keeps a log or it holds nothing of ours.

    Raises OSError where it is kept but cannot be read.
    """
    command = ["journalctl", "-u", UNIT, "--no-hostname", "--output=short-iso", "--no-pager", "--quiet", f"-n{LINES}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise OSError(f"journalctl gave no answer within {WAIT_S:.0f} s") from error
    if done.returncode:
        raise OSError(f"journalctl ended with {done.returncode}")
    return done.stdout[-most_bytes:].decode(errors="replace") or None
