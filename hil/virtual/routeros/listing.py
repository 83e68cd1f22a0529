"""What the console prints: rows, records, and the answers of commands, as text.

In RouterOS' form, but for what only pleases the eye: rows are not laid out in columns nor wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hil.virtual.routeros.kernel_syntax import quoted
from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.plane import Row

_FLAGS: Final = (("disabled", "X"), ("invalid", "I"), ("dynamic", "D"), ("active", "A"), ("running", "R"))
_HIDDEN: Final = frozenset({".id", *(name for name, _ in _FLAGS)})


def record_lines(row: Row) -> list[str]:
    """The properties of a record below each other, their names aligned to the right."""
    shown = {name: value for name, value in row.items() if name != ".id"}
    width = max((len(name) for name in shown), default=0)
    return [f"{name:>{width + 2}}: {_text(value)}" for name, value in shown.items()]


def row_lines(menu: Menu, flags: Iterable[str], rows: list[Row]) -> list[str]:
    """What ``print`` says of the rows of a menu."""
    if menu.single:
        return record_lines(rows[0])
    if "count-only" in flags:
        return [str(len(rows))]
    head = "Flags: " + ", ".join(f"{letter} - {name}" for name, letter in _FLAGS)
    lines = [] if "terse" in flags or not rows else [head]
    hidden = _HIDDEN if "detail" in flags else _HIDDEN | {"contents"}
    for number, row in enumerate(rows):
        letters = "".join(letter for name, letter in _FLAGS if row.get(name) == "true")
        lines += _row_lines(f"{number:>2} {letters:<2}", row, hidden, terse="terse" in flags)
    return lines


def _row_lines(start: str, row: Row, hidden: frozenset[str], *, terse: bool) -> list[str]:
    remark = row.get("comment", "")
    shown = {name: value for name, value in row.items() if name not in hidden and (terse or name != "comment")}
    values = " ".join(f"{name}={quoted(_text(value))}" for name, value in shown.items())
    if terse or not remark:
        return [f"{start} {values}"]
    return [f"{start} ;;; {remark}", f"{'':{len(start)}} {values}"]


def _text(value: str) -> str:
    return {"true": "yes", "false": "no"}.get(value, value)
