"""RouterOS durations, in the two spellings that its versions print."""

from __future__ import annotations

import re

_UNITS = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:\d+ms)?")
_CLOCK = re.compile(r"(?:(\d+)d )?(\d+):(\d\d):(\d\d)")


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
