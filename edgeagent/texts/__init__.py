"""Every sentence a person reads, by code. English first; a language is one module of the same names."""

from __future__ import annotations

import html
import math
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from edgeagent.texts import en

Value = str | float | int | None


class Letter(Struct, frozen=True):
    """One mail's words."""

    subject: str
    text: str
    html: str


def letter(
    kind: str, audience: str, incident: str, data: dict[str, Value], site: str, site_name: str, timezone: str
) -> Letter:
    """Subject and bodies of a notice. Times are in the site's zone, with their offset."""
    values = _values(incident, data, site, site_name, timezone)
    paragraphs = [part.format(**values) for part in en.BODIES[kind, audience]]
    if data.get("wall_quality") != "synced":
        paragraphs.append(en.CLOCK_UNSURE)
    page = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return Letter(
        subject=" ".join(en.SUBJECTS[kind, audience].format(**values).split()),  # a header is one line
        text="\n\n".join(paragraphs) + "\n",
        html=f"<!doctype html><html><body>{page}</body></html>",
    )


def fault(code: str) -> tuple[str, str, str, str]:
    """What happened, what it means for the phones, what to do, who can."""
    return en.FAULTS[code]


def screen(code: str, /, **values: Value) -> str:
    """One line for a person's screen."""
    return en.SCREENS[code].format(**values)


def _values(incident: str, data: dict[str, Value], site: str, site_name: str, timezone: str) -> dict[str, str]:
    zone = ZoneInfo(timezone)
    calls = int(data.get("calls") or 0)
    return {
        "site": site,
        "site_name": site_name,
        "incident": incident,
        "path": str(data.get("path") or ""),
        "cause": str(data.get("cause") or "unknown"),
        "cause_text": en.CAUSES.get(str(data.get("cause") or ""), str(data.get("cause"))),
        "began": _time(data.get("began_wall"), zone),
        "moved": _time(data.get("moved_wall"), zone),
        "returned": _time(data.get("returned_wall"), zone),
        "duration": _duration(data.get("away_s")),
        "phones": str(data.get("phones") or 0),
        "calls": str(calls),
        "calls_text": en.CALLS["none" if calls == 0 else "one" if calls == 1 else "many"].format(calls=calls),
        "died_text": en.BACKUP_DIED if data.get("backup_died") else "",
    }


def _time(wall: Value, zone: ZoneInfo) -> str:
    if not isinstance(wall, int | float):
        return en.TIME_UNKNOWN
    try:
        return datetime.fromtimestamp(wall, zone).strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError, OSError):
        return en.TIME_UNKNOWN


def _duration(seconds: Value) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return en.TIME_UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
