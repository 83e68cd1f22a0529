"""Every sentence a person reads, by code. English first; a language is one module of the same names."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from edgeagent.core.intents import Notify
from edgeagent.texts import en

Value = str | float | int | None


class Letter(Struct, frozen=True):
    """One mail's words."""

    subject: str
    text: str
    html: str


def letter(notice: Notify, site: str, site_name: str, timezone: str) -> Letter:
    """Subject and bodies of a notice. Times are in the site's zone, with their offset."""
    kind = _kind(notice)
    values = _values(notice, site, site_name, timezone)
    paragraphs = [part.format(**values) for part in en.BODIES[kind, notice.audience]]
    paragraphs += [_line(part, site, site_name, timezone) for part in notice.parts if kind.endswith("digest")]
    told = notice.parts or (notice,)
    if any(part.data.get("wall_quality") != "synced" for part in told):
        paragraphs.append(en.CLOCK_UNSURE)
    paragraphs = [paragraph.strip() for paragraph in paragraphs if paragraph.strip()]
    page = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return Letter(
        subject=" ".join(en.SUBJECTS[kind, notice.audience].format(**values).split()),  # a header is one line
        text="\n\n".join(paragraphs) + "\n",
        html=f"<!doctype html><html><body>{page}</body></html>",
    )


def _kind(notice: Notify) -> str:
    """Which words: a summary or digest of faults reads otherwise than one of failovers."""
    about_faults = any(part.kind in ("fault", "cleared", "drifted") for part in notice.parts)
    return f"fault {notice.kind}" if about_faults else notice.kind


def _line(part: Notify, site: str, site_name: str, timezone: str) -> str:
    """One notice as a line of a digest."""
    return en.LINES[part.kind].format(**_values(part, site, site_name, timezone))


def fault(code: str) -> tuple[str, str, str, str]:
    """What happened, what it means for the phones, what to do, who can."""
    return en.FAULTS[code]


def manual() -> dict[str, tuple[tuple[str, str], ...]]:
    """The sections of the manual page that no command tells: by heading, tags and their texts."""
    return en.MANUAL


def screen(code: str, /, **values: Value) -> str:
    """One line for a person's screen."""
    return en.SCREENS[code].format(**values)


def obstacle(code: str, found: Mapping[str, str]) -> str:
    """What stands in a router's way of being provisioned: what was found, what to do."""
    return en.OBSTACLES[code].format(**found)


def meaning(code: str) -> str:
    """What a group of changes to the router is for."""
    return en.MEANINGS[code]


def script(code: str, /, **values: Value) -> str:
    """A remark in a router's script, or what such a script says."""
    return en.SCRIPTS[code].format(**values)


def path_name(name: str) -> str:
    """A path as people call it."""
    return en.PATHS.get(name, name)


def cause(code: str) -> str:
    """Why a path was judged dead."""
    return en.CAUSES.get(code, code)


def help_of(code: str) -> str:
    """What ``--help`` says of a command, or of its option."""
    return en.HELP[code]


def _values(notice: Notify, site: str, site_name: str, timezone: str) -> dict[str, str]:
    zone, data = ZoneInfo(timezone), notice.data
    calls = int(data.get("calls") or 0)
    code = str(data.get("code") or "")
    what, meaning, todo, who = en.FAULTS.get(code, en.FAULT_UNKNOWN)
    return {
        "site": site,
        "site_name": site_name,
        "incident": notice.incident,
        "path": str(data.get("path") or "?"),
        "cause": str(data.get("cause") or "unknown"),
        "cause_text": en.CAUSES.get(str(data.get("cause") or ""), str(data.get("cause"))),
        "began": _time(data.get("began_wall"), zone),
        "moved": _time(data.get("moved_wall"), zone),
        "returned": _time(data.get("returned_wall"), zone),
        "duration": duration(data.get("away_s")),
        "phones": str(data.get("phones") or 0),
        "calls": str(calls),
        "calls_text": en.CALLS["none" if calls == 0 else "one" if calls == 1 else "many"].format(calls=calls),
        "died_text": en.BACKUP_DIED if data.get("backup_died") else "",
        "count": str(len(notice.parts)),
        "rows": str(data.get("rows") or "?"),
        "changes": str(data.get("count") or "?"),
        "code": code or "unknown",
        "what": what,
        "meaning": meaning,
        "todo": todo,
        "who": who,
        "since": _time(data.get("since_wall"), zone),
        "cleared": _time(data.get("cleared_wall"), zone),
        "lasted": duration(data.get("lasted_s")),
    }


def _time(wall: Value, zone: ZoneInfo) -> str:
    if not isinstance(wall, int | float):
        return en.TIME_UNKNOWN
    try:
        return datetime.fromtimestamp(wall, zone).strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError, OSError):
        return en.TIME_UNKNOWN


def duration(seconds: Value) -> str:
    """A stretch of time as a person says it."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return en.TIME_UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
