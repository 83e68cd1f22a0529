"""Types of arguments: how a value may be written, and how the router prints it back.

Each kind turns the text of an argument into the text the API shows, or refuses it: :class:`InvalidError` becomes the
trap "invalid value for argument X", :class:`NoMatchError` becomes "input does not match any value of X".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

Version = Literal["6.49", "7.22"]
_T = TypeVar("_T")

VERSIONS: Final[tuple[Version, ...]] = ("6.49", "7.22")


class InvalidError(ValueError):
    """The text is not of the argument's type."""


class NoMatchError(ValueError):
    """The text names nothing the argument may name."""


class Names(Protocol):
    """What a reference may point at."""

    def names(self, menu: str) -> Collection[str]:
        """The names of the rows of a menu."""


@dataclass(frozen=True)
class Kind:
    """One type of argument."""

    name: str
    normalise: Callable[[str, Names], str]


_UNIT_US: Final = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_UNITS: Final = re.compile(r"(\d+)(ms|us|[wdhms])")
_CLOCK: Final = re.compile(r"(\d+):(\d+)(?::(\d+)(?:\.(\d{1,6}))?)?$")


def parse_time_us(text: str) -> int:
    """A RouterOS duration in microseconds: ``1m``, ``60s``, ``60``, ``00:01:00``, ``1d2h``, ``500ms``."""
    if text.isascii() and text.isdigit():
        return int(text) * _UNIT_US["s"]
    total, position = 0, 0
    while position < len(text):
        if clock := _CLOCK.match(text, position):
            hours, minutes, seconds, fraction = clock.groups(default="0")
            whole_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
            return total + whole_s * _UNIT_US["s"] + int(fraction.ljust(6, "0"))
        unit = _UNITS.match(text, position)
        if unit is None:
            raise InvalidError(text)
        total += int(unit[1]) * _UNIT_US[unit[2]]
        position = unit.end()
        while text[position : position + 1] == " ":
            position += 1
    if not text:
        raise InvalidError(text)
    return total


def format_time_us(total: int) -> str:
    """A duration as the API prints it: ``1w2d3h4m5s``, ``2m59s``, ``500ms``, ``0s``."""
    if total == 0:
        return "0s"
    parts = []
    for unit, size in _UNIT_US.items():
        count, total = divmod(total, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_time_s(text: str) -> float:
    """A RouterOS duration in seconds."""
    return parse_time_us(text) / _UNIT_US["s"]


def format_time_s(seconds: float) -> str:
    """A duration of whole seconds as the API prints it, rounded down: 59.9 s left prints as ``59s``."""
    return format_time_us(int(seconds) * _UNIT_US["s"])


def parse_flag(text: str) -> bool:
    """yes, true and the bare ``=name=`` are true; no and false are false."""
    if text in ("yes", "true", ""):
        return True
    if text in ("no", "false"):
        return False
    raise InvalidError(text)


def _flag(text: str, _names: Names) -> str:
    return "true" if parse_flag(text) else "false"


def _string(text: str, _names: Names) -> str:
    return text


def _ip(text: str, _names: Names) -> str:
    return str(_parse(ipaddress.IPv4Address, text))


def _prefix(text: str, _names: Names) -> str:
    address, slash, _ = text.partition("/")
    if not slash:
        return f"{_parse(ipaddress.IPv4Address, address)}/32"
    return str(_parse(lambda value: ipaddress.IPv4Network(value, strict=False), text))


def _interface_address(text: str, _names: Names) -> str:
    return str(_parse(ipaddress.IPv4Interface, text))


def _ip_or_prefix(text: str, names: Names) -> str:
    """An address, a prefix or a range; a /32 prints as the bare address."""
    first, dash, last = text.partition("-")
    if dash:
        low, high = _parse(ipaddress.IPv4Address, first), _parse(ipaddress.IPv4Address, last)
        if low > high:
            raise InvalidError(text)
        return f"{low}-{high}"
    return _prefix(text, names).removesuffix("/32")


def _mac(text: str, _names: Names) -> str:
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:.-]){5}[0-9A-Fa-f]{2}", text):
        raise InvalidError(text)
    return re.sub(r"[.-]", ":", text).upper()


def _parse(convert: Callable[[str], _T], text: str) -> _T:
    try:
        return convert(text)
    except ValueError:
        raise InvalidError(text) from None


def _prefix_v6(text: str, _names: Names) -> str:
    return str(_parse(lambda value: ipaddress.IPv6Network(value, strict=False), text))


def _interface_address_v6(text: str, _names: Names) -> str:
    return str(_parse(ipaddress.IPv6Interface, text if "/" in text else f"{text}/64"))


def _ip_or_prefix_v6(text: str, names: Names) -> str:
    """An address, a prefix or a range; an address alone prints as a /128."""
    first, dash, last = text.partition("-")
    if dash:
        return f"{_parse(ipaddress.IPv6Address, first)}-{_parse(ipaddress.IPv6Address, last)}"
    return _prefix_v6(text, names)


FLAG: Final = Kind("flag", _flag)
STRING: Final = Kind("string", _string)
IP: Final = Kind("ip", _ip)
PREFIX: Final = Kind("prefix", _prefix)
IP_OR_PREFIX: Final = Kind("ip-or-prefix", _ip_or_prefix)
INTERFACE_ADDRESS: Final = Kind("interface-address", _interface_address)
IPV6: Final = Kind("ipv6", lambda text, _names: str(_parse(ipaddress.IPv6Address, text)))
PREFIX_V6: Final = Kind("ipv6-prefix", _prefix_v6)
IPV6_OR_PREFIX: Final = Kind("ipv6-or-prefix", _ip_or_prefix_v6)
INTERFACE_ADDRESS_V6: Final = Kind("ipv6-interface-address", _interface_address_v6)
MAC: Final = Kind("mac", _mac)


def integer(low: int = 0, high: int = 0xFFFFFFFF, words: tuple[str, ...] = ()) -> Kind:
    """A decimal number within bounds, or one of some words (``auto``)."""

    def normalise(text: str, _names: Names) -> str:
        if text in words:
            return text
        number = _parse(int, text)
        if not text.isascii() or not low <= number <= high:
            raise InvalidError(text)
        return str(number)

    return Kind(f"integer {low}..{high}", normalise)


def hexadecimal(high: int) -> Kind:
    """A number that the router prints in hexadecimal (bridge priorities, masks)."""

    def normalise(text: str, _names: Names) -> str:
        number = _parse(lambda value: int(value, 0), text)
        if not 0 <= number <= high:
            raise InvalidError(text)
        return f"0x{number:X}"

    return Kind(f"hexadecimal 0..{high:X}", normalise)


def time(low: str = "0s", high: str = "7101w3d6h28m15s", words: tuple[str, ...] = ()) -> Kind:
    """A duration within bounds, or one of some words (``none-dynamic``)."""
    low_us, high_us = parse_time_us(low), parse_time_us(high)

    def normalise(text: str, _names: Names) -> str:
        if text in words:
            return text
        total = parse_time_us(text)
        if not low_us <= total <= high_us:
            raise InvalidError(text)
        return format_time_us(total)

    return Kind(f"time {low}..{high}", normalise)


def enum(*values: str) -> Kind:
    """One of a closed set of words."""

    def normalise(text: str, _names: Names) -> str:
        if text not in values:
            raise NoMatchError(text)
        return text

    return Kind("enum " + ",".join(values), normalise)


def reference(menu: str, *words: str) -> Kind:
    """The name of a row of ``menu``, or one of some words."""

    def normalise(text: str, names: Names) -> str:
        if text not in words and text not in names.names(menu):
            raise NoMatchError(text)
        return text

    return Kind(f"reference {menu}", normalise)


def negatable(kind: Kind) -> Kind:
    """A firewall matcher: the value, or ``!`` and the value."""

    def normalise(text: str, names: Names) -> str:
        sign = "!" if text.startswith("!") else ""
        return sign + kind.normalise(text.removeprefix("!"), names)

    return Kind(f"[!] {kind.name}", normalise)


def listing(kind: Kind) -> Kind:
    """Values joined by commas; the empty list is allowed."""

    def normalise(text: str, names: Names) -> str:
        return ",".join(kind.normalise(part, names) for part in text.split(",")) if text else ""

    return Kind(f"list of {kind.name}", normalise)


def _port(text: str, _names: Names) -> str:
    first, dash, last = text.partition("-")
    low, high = _parse(int, first), _parse(int, last if dash else first)
    if not 0 <= low <= high <= 65535:
        raise InvalidError(text)
    return f"{low}-{high}" if dash else str(low)


def _ports(text: str, names: Names) -> str:
    parts = text.split(",")
    # Fifteen is the limit of the multiport match that RouterOS shares with Linux; a range counts twice there.
    if len(parts) > 15:
        raise InvalidError(text)
    return ",".join(_port(part, names) for part in parts)


PORTS: Final = Kind("ports", _ports)

_PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "ipsec-esp": 50,
    "ipsec-ah": 51,
    "icmpv6": 58,
}


def _protocol(text: str, _names: Names) -> str:
    by_number = {str(number): name for name, number in _PROTOCOLS.items()}
    if text in _PROTOCOLS:
        return text
    if text.isascii() and text.isdigit():
        if int(text) > 255:
            raise InvalidError(text)
        return by_number.get(text, text)
    raise NoMatchError(text)


PROTOCOL: Final = Kind("protocol", _protocol)

_SCOPED: Final = re.compile(r"(?P<address>[0-9.]+)?(?:%?(?P<interface>[^%@]+))?(?:@(?P<table>[^%@]+))?")


def _gateway(text: str, names: Names) -> str:
    """``address``, ``interface``, ``address%interface``, each with ``@table`` on RouterOS 7."""
    parts = _SCOPED.fullmatch(text)
    if parts is None or not text:
        raise InvalidError(text)
    address, interface, table = parts.group("address", "interface", "table")
    if address is not None:
        _parse(ipaddress.IPv4Address, address)
    if interface is not None and interface not in names.names("/interface"):
        raise InvalidError(text)
    if table is not None and table not in names.names("/routing/table"):
        raise InvalidError(text)
    return text


GATEWAYS: Final = listing(Kind("gateway", _gateway))


def _gateway_v6(text: str, names: Names) -> str:
    """``address``, ``interface``, ``address%interface``."""
    address, _, interface = text.partition("%")
    if text in names.names("/interface"):
        return text
    if interface and interface not in names.names("/interface"):
        raise InvalidError(text)
    _parse(ipaddress.IPv6Address, address)
    return text


GATEWAYS_V6: Final = listing(Kind("ipv6-gateway", _gateway_v6))
