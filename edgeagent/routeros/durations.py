"""RouterOS durations, in the two spellings that its versions print."""

from __future__ import annotations

import re

_N = "([0-9]{1,9})"  # of seconds, thirty years; more would be no duration that a core could reckon with
_UNITS = re.compile(rf"(?:{_N}w)?(?:{_N}d)?(?:{_N}h)?(?:{_N}m(?!s))?(?:{_N}s)?(?:[0-9]+ms)?")
_FINE = re.compile(r"(?:(\d{1,6})s)?(?:(\d{1,6})ms)?(?:(\d{1,6})us)?")
_CLOCK = re.compile(rf"(?:{_N}d )?{_N}:([0-9]{{2}}):([0-9]{{2}})")


def seconds(text: str) -> int | None:
    """Whole seconds of ``1w2d3h4m5s`` or ``2d 03:04:05``; None where the text is no duration."""
    units = _UNITS.fullmatch(text)
    if units is not None and text:
        weeks, days, hours, minutes, rest = (int(part or 0) for part in units.groups())
        return (((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + rest
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    return None


def fine_seconds(text: str) -> float | None:
    """Seconds of a round trip such as ``23ms`` (version 6) or ``23ms401us`` (7); None where the text is none."""
    found = _FINE.fullmatch(text)
    if found is None or not text:
        return None
    whole, thousandths, millionths = (int(part or 0) for part in found.groups())
    return whole + thousandths / 1e3 + millionths / 1e6
