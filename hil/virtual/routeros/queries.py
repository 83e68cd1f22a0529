"""Query words of ``print`` (MikroTik manual, "API", "Queries"): a small stack machine over one row at a time.

``?name`` property exists; ``?-name`` does not; ``?name=x`` and ``?=name=x`` equal; ``?<name=x``, ``?>name=x`` less and
greater; ``?#ops`` works on the stack: ``!`` not, ``&`` and, ``|`` or, ``.`` copy of the top; a number followed by
another character pushes a copy of that entry (0 is the top), a number at the end replaces the stack by that entry.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from hil.virtual.routeros.plane import Row, Trap

_OPERATION: Final = re.compile(r"(\d+)|([!&|.])")


def matches(queries: Sequence[str], row: Row) -> bool:
    """Whether the row passes; values left on the stack are joined by and, as repeated query words are."""
    stack: list[bool] = []
    for query in queries:
        if query.startswith("?#"):
            _operate(query[2:], stack)
        else:
            stack.append(_compare(query[1:], row))
    return all(stack)


def _compare(query: str, row: Row) -> bool:
    if query.startswith("-"):
        return query[1:] not in row
    kind = query[0] if query[:1] in ("=", "<", ">") else "="
    name, equals, wanted = query.lstrip("=<>").partition("=")
    if not name:
        raise Trap(f"invalid query ?{query}", 5)
    if not equals:
        return name in row
    if name not in row:
        return False
    if kind == "=":
        return row[name] == wanted
    have, want = _comparable(row[name], wanted)
    return have < want if kind == "<" else have > want


def _comparable(have: str, want: str) -> tuple[tuple[int, str], tuple[int, str]]:
    """Order numbers and addresses by value, anything else as text."""
    for convert in (int, lambda text: int(ipaddress.IPv4Address(text))):
        try:
            return (convert(have), ""), (convert(want), "")
        except ValueError:
            continue
    return (0, have), (0, want)


def _operate(operations: str, stack: list[bool]) -> None:
    position = 0
    while position < len(operations):
        token = _OPERATION.match(operations, position)
        if token is None:
            raise Trap(f"invalid query operation ?#{operations}", 5)
        position = token.end()
        try:
            if token[1] is not None:
                chosen = stack[-1 - int(token[1])]
                if position == len(operations):
                    stack[:] = [chosen]
                else:
                    stack.append(chosen)
                    # A full stop right after an index only ends the number.
                    position += operations.startswith(".", position)
            else:
                _apply(token[2], stack)
        except IndexError:
            raise Trap(f"query ?#{operations} needs more values than the stack holds", 5) from None


def _apply(operation: str, stack: list[bool]) -> None:
    if operation == "!":
        stack[-1] = not stack[-1]
    elif operation == ".":
        stack.append(stack[-1])
    else:
        second, first = stack.pop(), stack.pop()
        stack.append((first and second) if operation == "&" else (first or second))
