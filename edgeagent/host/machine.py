"""What the machine can tell of itself, for a person at the support desk. The only importer of psutil.

Values only. No serial number, host name or hardware address is among them.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import platform
import socket
import sqlite3
import ssl
import struct
from pathlib import Path
from typing import Any

import psutil

from edgeagent.host import clock

PACKAGES = ("edgeagent", "aiosmtplib", "cryptography", "librouteros", "msgspec", "psutil", "rich", "tomli", "tomlkit")
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def facts(folder: Path, agent: int | None) -> dict[str, Any]:
    """Sizes in bytes, times in seconds, temperatures in degrees Celsius. ``agent``: the running agent's process id."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "uptime_s": round(clock.mono_s()),
        "wall_quality": clock.wall_quality(),
        "cores": psutil.cpu_count(),
        "load_1_5_15_min": [round(load, 2) for load in psutil.getloadavg()],
        "memory": {
            "total_bytes": memory.total,
            "available_bytes": memory.available,
            "swap_used_bytes": swap.used,
        },
        "state_folder": disk(folder),
        "agent": None if agent is None else process(agent),
        "temperature_c": temperatures(),
    }


def disk(folder: Path) -> dict[str, Any]:
    """The file system of a folder, or of the nearest one above that is there. Raises OSError."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = psutil.disk_usage(str(folder))
    real = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    return {
        "total_bytes": usage.total,
        "free_bytes": usage.free,
        "type": None if mount is None else mount.fstype,
        "read_only": None if mount is None else "ro" in mount.opts.split(","),
    }


def process(number: int) -> dict[str, Any] | None:
    """What a process uses; None where there is none of that number."""
    try:
        found = psutil.Process(number)
        with found.oneshot():
            times = found.cpu_times()
            return {
                "rss_bytes": found.memory_info().rss,
                "threads": found.num_threads(),
                "files": found.num_fds(),
                "cpu_s": round(times.user + times.system, 1),
                "age_s": _age_s(found),
            }
    except psutil.Error:
        return None


def temperatures() -> dict[str, float]:
    """The hottest reading of each sensor, by the sensor's name; empty where the machine has none."""
    if not hasattr(psutil, "sensors_temperatures"):
        return {}
    found = psutil.sensors_temperatures()
    return {name: max(one.current for one in readings) for name, readings in sorted(found.items()) if readings}


def network() -> list[dict[str, Any]]:
    """The interfaces of this machine and its own addresses; no hardware address, no neighbour."""
    states = psutil.net_if_stats()
    found = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        state = states.get(name)
        own = [_prefixed(one.address, one.netmask) for one in addresses if one.family in FAMILIES]
        row: dict[str, Any] = {"interface": name, "addresses": own}
        if state is not None:
            row |= {"up": state.isup, "speed_mbit_per_s": state.speed, "mtu_bytes": state.mtu}
        found.append(row)
    return found


def versions() -> dict[str, Any]:
    """Of the agent, what it stands on and what it is made of."""
    return {
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "sqlite": sqlite3.sqlite_version,
        "openssl": " ".join(ssl.OPENSSL_VERSION.split()[:2]),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def listener(address: str) -> int | None:
    """The process id of whoever listens on a Unix socket (unix(7), SO_PEERCRED); None where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2.0)
        try:
            client.connect(address)
            asked = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    number: int = struct.unpack("3i", asked)[0]
    return number or None


def _prefixed(address: str, mask: str | None) -> str:
    length = int(ipaddress.ip_address(mask)).bit_count() if mask else 0
    return f"{address.partition('%')[0]}/{length}"


def _age_s(found: psutil.Process) -> float | None:
    now = clock.wall_s()
    return None if now is None else round(now - found.create_time(), 1)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
