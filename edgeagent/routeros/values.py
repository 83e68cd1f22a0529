"""Reading single values of a router's rows. Pure.

A value that is none must not get any further: a number without end costs the core its life, an id that is none would
end a sentence somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeagent.routeros.durations import seconds

_ID = re.compile(r"\*[0-9A-F]{1,16}")
_WHOLE = re.compile(r"[0-9]{1,18}")  # the largest still is a whole number of 64 bits
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_PREFIX = re.compile(rf"{_IPV4.pattern}(?:/(?:[12]?[0-9]|3[0-2]))?")


def row_id(row: Mapping[str, str], name: str = ".id") -> str | None:
    """The row's id, None where it has none that may stand in a sentence."""
    text = row.get(name, "")
    return text if _ID.fullmatch(text) else None


def whole(text: str, most: int = 10**18) -> int:
    """A whole number from 0 to ``most``; 0 where the text is none."""
    number = int(text) if _WHOLE.fullmatch(text) else 0
    return number if number <= most else 0


def is_ipv4(text: str) -> bool:
    """Whether it is one plain address, such as 192.0.2.1."""
    return _IPV4.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Whether it is an address or a prefix, such as 192.0.2.0/24."""
    return _PREFIX.fullmatch(text) is not None


def same(wanted: str, found: str) -> bool:
    """Whether two spellings mean the same: RouterOS prints what it is given in its own way."""
    return _canonical(wanted) == _canonical(found)


def _canonical(value: str) -> str:
    value = {"yes": "true", "no": "false"}.get(value, value)
    if value == "":
        return "true"  # a flag given without a value, such as blackhole
    duration = seconds(value)
    if duration is not None:
        return f"{duration}s"
    if "," in value:
        return ",".join(sorted(value.split(",")))
    return value.removesuffix("/32")
