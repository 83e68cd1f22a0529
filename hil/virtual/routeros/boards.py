"""What a board brings along before any configuration: its ports, its fixed rows, its nameplate.

Board facts from the vendor's data sheets: RB2011UiAS (AR9344, 128 MB) and hAP ac2 (RBD52G-5HacD2HnD, IPQ-4018, 128 MB).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hil.virtual.routeros.files import FLASH
from hil.virtual.routeros.menus import POLICIES
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import Version

Profile = Literal["rb2011", "hap-ac2", "generic"]

FULL_VERSION: Final[Mapping[Version, str]] = {"6.49": "6.49.18 (long-term)", "7.22": "7.22.3 (stable)"}
MEMORY_BYTES: Final = 134_217_728


@dataclass(frozen=True)
class Board:
    """One router model."""

    ethernet: tuple[str, ...]
    wireless: tuple[str, ...]
    name: str
    model: str
    architecture: str
    cpu: str
    cpu_count: int
    storage_bytes: int
    free_bytes: int
    """Space for files once RouterOS itself is installed (as users report; the data sheets give only the whole)."""
    poe_out: tuple[str, ...] = ()
    """The ports that can send power; the others have no such property."""
    flash: bool = False
    """The root is a RAM disk, and files that shall outlive a reboot lie under ``flash/``."""


BOARDS: Final[Mapping[Profile, Board]] = {
    "rb2011": Board(
        (*(f"ether{port}" for port in range(1, 11)), "sfp1"),
        (),
        "RB2011UiAS",
        "RB2011UiAS",
        "mipsbe",
        "MIPS 74Kc V4.12",
        1,
        134_217_728,
        100_000_000,
        poe_out=("ether10",),
    ),
    "hap-ac2": Board(
        tuple(f"ether{port}" for port in range(1, 6)),
        ("wlan1", "wlan2"),
        "hAP ac^2",
        "RBD52G-5HacD2HnD",
        "arm",
        "ARM",
        4,
        16_777_216,
        3_000_000,
        flash=True,
    ),
    "generic": Board(
        tuple(f"ether{port}" for port in range(1, 6)),
        (),
        "generic",
        "generic",
        "x86_64",
        "QEMU",
        1,
        134_217_728,
        60_000_000,
    ),
}


def factory_rows(version: Version, profile: Profile) -> dict[str, list[Row]]:
    """The rows that exist on a board without configuration and cannot be removed, bridge excepted."""
    board = BOARDS[profile]
    rows: dict[str, list[Row]] = {
        "/interface/ethernet": [
            _ethernet(name, number) | ({"poe-out": "auto-on"} if name in board.poe_out else {})
            for number, name in enumerate(board.ethernet, 1)
        ],
        "/interface": [
            {"name": name, "type": "wlan", "mtu": "1500", "mac-address": _mac(0x80 + number)}
            for number, name in enumerate(board.wireless)
        ],
        "/interface/bridge": [
            {
                "name": "bridge",
                "mtu": "auto",
                "arp": "enabled",
                "protocol-mode": "rstp",
                "mac-address": _mac(0xFE),
                "fast-forward": "true",
            }
        ],
        "/interface/list": [{"name": name, "builtin": "true"} for name in ("all", "none", "dynamic", "static")],
        "/ip/service": _services(version),
        "/ip/firewall/service-port": _service_ports(version),
        "/user/group": _groups(version),
        "/system/package": [{"name": name, "version": FULL_VERSION[version].split()[0]} for name in _packages(version)],
    }
    if board.flash:
        rows["/file"] = [{"name": FLASH, "type": "disk"}]
    if version == "7.22":
        rows["/routing/table"] = [{"name": "main", "fib": "true"}]
    return rows


def nameplate(version: Version, profile: Profile) -> dict[str, Row]:
    """The settings records that only the board knows."""
    board = BOARDS[profile]
    full_version = FULL_VERSION[version]
    return {
        "/system/resource": {
            "version": full_version,
            "free-memory": str(MEMORY_BYTES // 2),
            "total-memory": str(MEMORY_BYTES),
            "cpu": board.cpu,
            "cpu-count": str(board.cpu_count),
            "cpu-load": "3",
            "architecture-name": board.architecture,
            "total-hdd-space": str(board.storage_bytes),
            "board-name": board.name,
            "platform": "MikroTik",
        },
        "/system/routerboard": {
            "routerboard": "false" if profile == "generic" else "true",
            "model": board.model,
            "serial-number": "000000000001",
            "current-firmware": full_version.split()[0],
            "upgrade-firmware": full_version.split()[0],
        },
    }


def _mac(last: int) -> str:
    """A locally administered address."""
    return f"02:00:5E:00:53:{last:02X}"


def _ethernet(name: str, number: int) -> Row:
    return {
        "name": name,
        "default-name": name,
        "mtu": "1500",
        "l2mtu": "1598",
        "mac-address": _mac(number),
        "orig-mac-address": _mac(number),
        "arp": "enabled",
        "auto-negotiation": "true",
    }


def _services(version: Version) -> list[Row]:
    ports = {"telnet": 23, "ftp": 21, "www": 80, "ssh": 22, "api": 8728, "winbox": 8291, "api-ssl": 8729}
    rows: list[Row] = []
    for name, port in ports.items():
        row = {"name": name, "port": str(port), "address": "", "invalid": "false"}
        if name == "api-ssl":
            row |= {"certificate": "none", "tls-version": "any"}
        if version == "7.22":
            row |= {"max-sessions": "20", "proto": "tcp"}
        rows.append(row)
    return rows


def _service_ports(version: Version) -> list[Row]:
    ports = {"ftp": "21", "tftp": "69", "irc": "6667", "h323": "", "sip": "5060,5061", "pptp": ""}
    rows = [{"name": name, **({"ports": value} if value else {})} for name, value in ports.items()]
    rows[4] |= {"sip-direct-media": "true", "sip-timeout": "1h"}
    if version == "7.22":
        rows[2]["disabled"] = "true"
    return rows


def _groups(version: Version) -> list[Row]:
    every = POLICIES[version]
    read_only = [name for name in every if name not in ("ftp", "write", "policy", "dude")]
    write = [name for name in every if name not in ("ftp", "policy", "dude")]
    return [
        {"name": "read", "policy": ",".join(read_only)},
        {"name": "write", "policy": ",".join(write)},
        {"name": "full", "policy": ",".join(every)},
    ]


def _packages(version: Version) -> tuple[str, ...]:
    if version == "7.22":
        return ("routeros",)
    return ("routeros-mipsbe", "system", "ipv6", "wireless", "dhcp", "security", "advanced-tools", "routing", "ppp")
