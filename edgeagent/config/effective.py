"""The settings in force, and where each came from."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from edgeagent.config import document
from edgeagent.config.reader import Notes, Value
from edgeagent.config.site import parse
from edgeagent.core.settings import Settings

DEFAULT = "default"
FILE = "site.toml"
# Weakest first: a later layer wins, key by key. The provider's signed policy, a closed set of keys, will stand between.
LAYERS = (DEFAULT, FILE)
# By the end of a key's name, the longest first.
UNITS = (
    ("_bytes_per_s", "bytes/s"),
    ("_kbit_per_s", "kbit/s"),
    ("_s", "s"),
    ("_bytes", "bytes"),
    ("_rounds", "rounds"),
    ("sip_every", "rounds"),
    ("sip_every_fast", "rounds"),
    ("per_hour_max", "an hour"),
    ("per_day_max", "a day"),
)


class Setting(Struct, frozen=True):
    """One setting in force. ``line``: where in the file it stands, where that can be told."""

    key: str
    value: Value
    unit: str
    origin: str
    line: int | None


def effective(path: Path) -> list[Setting]:
    """Every key of ``site.toml``, then the other numbers that decisions use. Raises ConfigError."""
    return of(document.read(path), str(path))


def of(raw: bytes, where: str) -> list[Setting]:
    """The same of a file's bytes."""
    notes = Notes()
    site = parse(document.table(raw, where), where, notes=notes)
    layers: dict[str, dict[str, Value]] = {DEFAULT: dict(notes.defaults), FILE: dict(notes.written)}
    _add_numbers(layers, site.settings(), notes.expected)
    chosen = {key: (value, layer) for layer in LAYERS for key, value in layers[layer].items()}
    order = [*notes.expected, *(key for key in chosen if key not in notes.expected)]
    lines = document.line_numbers(raw.decode())
    return [
        Setting(key, value, unit_of(key), layer, lines.get(key) if layer == FILE else None)
        for key, (value, layer) in ((key, chosen[key]) for key in order)
    ]


def unit_of(key: str) -> str:
    """The unit of a number, which its name carries; empty where it has none."""
    return next((unit for end, unit in UNITS if key.endswith(end)), "")


def _add_numbers(layers: dict[str, dict[str, Value]], settings: Settings, known: dict[str, str]) -> None:
    """The core's numbers that are no key of the file; one that is not the usual one was worked out from the file."""
    probing = {f"probing.{path.name}": path.probing for path in settings.paths}
    for name, group in {**msgspec.structs.asdict(settings), **probing}.items():
        for field in msgspec.structs.fields(group) if isinstance(group, Struct) else ():
            key, value = f"{name}.{field.name}", getattr(group, field.name)
            if key not in known and isinstance(value, str | int | float):
                usual = name in probing or field.default == value
                layers[DEFAULT if usual else FILE][key] = value
