"""What a program uses, and what it waits for: its whole process tree, read from /proc (proc(5))."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from hil.virtual.provider_programs import process_tree

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11  # field 14 of /proc/PID/stat, counted from the state; then stime, cutime, cstime
_STEAL: Final = 8  # of the words of /proc/stat, of which the first is "cpu"


def usage(pid: int) -> dict[str, float]:
    """``rss_bytes`` now, ``rss_peak_bytes`` since each process began, ``cpu_s`` with that of children that ended."""
    found = {"rss_bytes": 0.0, "rss_peak_bytes": 0.0, "cpu_s": 0.0}
    for member, _ in process_tree(pid):
        with contextlib.suppress(OSError):  # it ended just now
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
            memory = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            found["rss_bytes"] += memory.get("VmRSS:", 0)
            found["rss_peak_bytes"] += memory.get("VmHWM:", 0)
            found["cpu_s"] += sum(map(int, fields[_UTIME : _UTIME + 4])) / _TICKS_PER_S
    return found


def kept_waiting(pid: int) -> dict[str, float]:
    """Since it began, s: ``agent_s``, how long its threads stood ready and did not run; ``stolen_s``, of the machine.

    From the second number of /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst), ns, where the
    kernel keeps it, and from the steal time of all processors in /proc/stat.
    """
    waited_ns = 0
    for member, _ in process_tree(pid) if pid else ():
        for task in Path(f"/proc/{member}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it ended just now
                waited_ns += int(task.read_text().split()[1])
    stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[_STEAL])
    return {"agent_s": waited_ns / 1e9, "stolen_s": stolen / _TICKS_PER_S}
