"""RouterOS value texts: durations, flags, numbers, addresses, and the maps from names to kernel numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from typing import Final

from hil.virtual.routeros.plane import Row, Trap

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Family:
    """What nftables words differently for the two families of addresses."""

    word: str
    address: str
    icmp: str

    @property
    def table(self) -> str:
        """The table that holds this family's firewall."""
        return f"{self.word} ros"


IPV4: Final = Family("ip", "ipv4_addr", "icmp")
IPV6: Final = Family("ip6", "ipv6_addr", "icmpv6")

_UNIT_S: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|w|d|h|m|s)")
_CLOCK: Final = re.compile(r"(?:(\d+)d)?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def is_set(row: Mapping[str, str], key: str, default: bool = False) -> bool:
    """Whether a flag property is on. A bare flag (``blackhole=``) is on too, as in RouterOS 7."""
    value = row.get(key)
    return default if value is None else value in {"true", "yes", ""}


def enabled(rows: list[Row]) -> list[Row]:
    """The rows that are in force."""
    return [row for row in rows if not is_set(row, "disabled") or row["disabled"] == ""]


def duration_s(text: str, default_s: float = 0.0) -> float:
    """Seconds of ``10s``, ``1m30s``, ``200ms``, ``1d02:03:04`` or a bare number of seconds."""
    text = text.strip()
    if not text or text in {"none", "none-dynamic", "none-static"}:
        return default_s
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds = clock.groups()
        return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Trap(f"invalid time value: {text}", 1)
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def duration_text(seconds: float) -> str:
    """``2m59s``, ``1d2h``: whole seconds, as RouterOS prints them."""
    left = int(seconds)
    text = ""
    for unit in ("w", "d", "h", "m", "s"):
        count, left = divmod(left, int(_UNIT_S[unit]))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def rtt_text(seconds: float, version: str) -> str:
    """A round trip time: ``12ms345us`` on RouterOS 7, whole milliseconds on 6."""
    microseconds = round(seconds * 1e6)
    milliseconds, rest = divmod(microseconds, 1000)
    if version.startswith("6"):
        return f"{milliseconds}ms"
    return (f"{milliseconds}ms" if milliseconds else "") + (f"{rest}us" if rest or not milliseconds else "")


def prefix_of(text: str) -> IPv4Network:
    """A destination as a network; a bare address is a /32 and host bits are ignored, as in RouterOS routes."""
    return IPv4Network(text or "0.0.0.0/0", strict=False)


def network_of(text: str) -> Network:
    """An address or a prefix of either family; host bits are ignored."""
    return ip_network(text, strict=False)


def ranges_of(text: str) -> list[Network]:
    """The networks of one address-list value: address, prefix or ``first-last``; none for a name (needs DNS)."""
    try:
        if "-" in text:
            first, last = (ip_address(part.strip()) for part in text.split("-", 1))
            return list(summarize_address_range(first, last))
        return [network_of(text)]
    except ValueError:
        return []


def name_of(kind: str, name: str) -> str:
    """An nftables identifier for a RouterOS name; anything odd in it is written as its code."""
    return f"{kind}." + re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"_{ord(found.group()):x}_", name)


class Numbers:
    """Names to small stable numbers (marks, tables): a name keeps its number while the router runs."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The number of a name, given out on first use; 1..65535, 0 stands for "no mark"."""
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def name(self, number: int) -> str:
        """The name of a number, "" for 0 and for numbers never given out."""
        return next((name for name, known in self._numbers.items() if known == number), "")


MAIN_TABLE: Final = 254
FIRST_TABLE: Final = 1000


class Tables:
    """Routing tables by name. A routing mark of the same name has the number ``table - 1000``."""

    def __init__(self) -> None:
        self.marks: Final = Numbers()

    def number(self, name: str) -> int:
        """The kernel's table number."""
        return MAIN_TABLE if name in {"", "main"} else FIRST_TABLE + self.marks.of(name)
