"""Reads one TOML table key by key and collects everything that is wrong with it.

A problem says where, what was found and what was expected. Nothing is raised until the whole file has been read, so an
installer sees every mistake at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

Found = Any  # what TOML can hold; narrowed by each method below
T = TypeVar("T")
# The plain form of RFC 5321 that every mail server takes, and no more than outlets/mail.py accepts.
MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


class Problem(Struct, frozen=True):
    """One mistake: the key's full name, what stands there, and what should."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}"


class Reader:
    """Reads the keys of one table; ``problems`` is shared with the readers of its sub-tables."""

    def __init__(self, table: Found, where: str, problems: list[Problem]) -> None:
        self.where = where
        self.problems = problems
        if not isinstance(table, dict):
            self.problem("", table, "a table")
            table = {}
        self.table: dict[str, Found] = dict(table)

    def problem(self, key: str, found: Found, expected: str) -> None:
        """Note one mistake."""
        name = ".".join(part for part in (self.where, key) if part)
        self.problems.append(Problem(name or "(empty)", "not shown" if "password" in key else _shown(found), expected))

    def sub(self, key: str) -> Reader:
        """The reader of a required sub-table."""
        if key not in self.table:
            self.problem(key, None, "a table")
        return Reader(self.table.pop(key, {}), f"{self.where}.{key}" if self.where else key, self.problems)

    def text(self, key: str, default: str | None = None, *, most: int = 200) -> str:
        """A one-line text."""

        def check(value: Found) -> str:
            if not isinstance(value, str) or not value.strip() or len(value) > most or not value.isprintable():
                raise ValueError
            return value

        return self._take(key, default, check, f"a line of text, at most {most} characters", "")

    def name(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """A text that wholly matches ``pattern``."""

        def check(value: Found) -> str:
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise ValueError
            return value

        return self._take(key, None, check, expected, "")

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of ``options``."""

        def check(value: Found) -> str:
            if value not in options:
                raise ValueError
            return str(value)

        return self._take(key, default, check, "one of " + ", ".join(options), options[0])

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number."""

        def check(value: Found) -> int:
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError
            return value

        return self._take(key, default, check, f"a whole number from {least} to {most}", least)

    def number(self, key: str, least: float, most: float, default: float | None = None) -> float:
        """A number; infinities and NaN, which TOML allows, are refused."""

        def check(value: Found) -> float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError
            if not least <= value <= most:  # NaN and infinities fail this too
                raise ValueError
            return float(value)

        return self._take(key, default, check, f"a number from {least:g} to {most:g}", least)

    def address(self, key: str, default: str | None = None) -> str:
        """An IPv4 address."""
        return self._take(key, default, _address, "an IPv4 address such as 192.0.2.1", "0.0.0.0")

    def prefix(self, key: str, default: str | None = None) -> str:
        """An IPv4 prefix."""
        return self._take(key, default, _prefix, "an IPv4 prefix such as 203.0.113.0/27", "0.0.0.0/32")

    def addresses(self, key: str, least: int, most: int = 16) -> tuple[str, ...]:
        """A list of different IPv4 addresses."""
        return self._list(key, _address, least, most, "IPv4 addresses")

    def prefixes(self, key: str, least: int, most: int = 64) -> tuple[str, ...]:
        """A list of different IPv4 prefixes."""
        return self._list(key, _prefix, least, most, "IPv4 prefixes")

    def optional_text(self, key: str) -> str:
        """A one-line text, or the empty one where the key is absent."""
        return self.text(key) if key in self.table else ""

    def mailbox(self, key: str) -> str:
        """One mail address."""
        return self._take(key, None, _mailbox, "a mail address such as support@provider.example", "")

    def mailboxes(self, key: str, least: int = 1, most: int = 16) -> tuple[str, ...]:
        """A list of different mail addresses."""
        return self._list(key, _mailbox, least, most, "mail addresses such as support@provider.example")

    def end(self) -> None:
        """Whatever has not been read is unknown."""
        for key in self.table:
            name = key if key.isprintable() and 0 < len(key) <= 80 else repr(key[:80])
            where = f"{self.where}.{name}" if self.where else name
            self.problems.append(Problem(where, _shown(key), "no such key: a misspelling, or a key of another version"))

    def _list(self, key: str, check: Callable[[Found], str], least: int, most: int, what: str) -> tuple[str, ...]:
        expected = f"a list of {least} to {most} different {what}"

        def whole(value: Found) -> tuple[str, ...]:
            if not isinstance(value, list) or not least <= len(value) <= most:
                raise ValueError
            checked = tuple(check(item) for item in value)
            if len(set(checked)) != len(checked):
                raise ValueError
            return checked

        return self._take(key, None if least else (), whole, expected, ())

    def _take(self, key: str, default: T | None, check: Callable[[Found], T], expected: str, blank: T) -> T:
        value = self.table.pop(key, None)
        if value is None and default is not None:
            return default
        try:
            return check(value)
        except (ValueError, TypeError):
            self.problem(key, value, expected)
            return blank


def _address(value: Found) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(ipaddress.IPv4Address(value))


def _prefix(value: Found) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(ipaddress.IPv4Network(value))


def _mailbox(value: Found) -> str:
    if not isinstance(value, str) or len(value) > 254:
        raise TypeError
    if not MAILBOX.fullmatch(value):
        raise ValueError
    return value


def _shown(found: Found) -> str:
    if found is None:
        return "nothing"
    try:
        text = repr(found)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or deeper than Python can print
        text = f"a {type(found).__name__} too large to show"
    return text if len(text) <= 80 else text[:77] + "..."
