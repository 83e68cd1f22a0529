"""Reads one TOML table key by key and collects everything that is wrong with it.

A problem says where, what was found and what was expected. Nothing is raised until the whole file has been read, so an
installer sees every mistake at once.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

Found = Any  # what TOML can hold; narrowed by each method below
Value = str | int | float | tuple[str, ...]  # what a key of site.toml means once it has been checked
T = TypeVar("T", bound=Value)
# The plain form of RFC 5321 that every mail server takes, and no more than outlets/mail.py accepts.
MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# RFC 1123 section 2.1, with a dot, so that no mere word passes for one; the last label never begins like an address.
HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
HOST_NAME_MAX = 240  # of DNS's 253, for the name of a service goes before it
BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
SECRET_KEY = re.compile(r"pass|pwd|secret|token|private", re.IGNORECASE)
SHOWN_MAX = 80
SUGGESTIONS_MAX = 20  # each compares with every known key; a file may hold thousands of unknown ones


class Problem(Struct, frozen=True):
    """One mistake: the key's full name (empty: the file itself), what stands there, and what should."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}{': ' if self.key else ''}found {self.found}, expected {self.expected}"


class Notes(Struct):
    """What the readers of one file noted, by full key, in the order of reading."""

    problems: list[Problem] = []
    defaults: dict[str, Value] = {}  # of every key that may be left out
    written: dict[str, Value] = {}  # what the file says, checked
    expected: dict[str, str] = {}  # of every key that is known
    suggestions: int = 0


class Reader:
    """Reads the keys of one table; ``notes`` are shared with the readers of its sub-tables."""

    def __init__(self, table: Found, where: str, notes: Notes) -> None:
        self.where = where
        self.notes = notes
        self.known: list[str] = []
        if not isinstance(table, dict):
            self.problem("", table, f"a table [{where}]")
            table = {}
        self.table: dict[str, Found] = dict(table)

    def full(self, key: str) -> str:
        """The key's full name; one that is not plain is quoted, so that it cannot forge or break a line."""
        return f"{self.where}.{plain(key)}" if self.where else plain(key)

    def problem(self, key: str, found: Found, expected: str) -> None:
        """Note one mistake; without a key, of the table itself."""
        name = self.full(key) if key else self.where
        self.notes.problems.append(Problem(name or "(empty)", shown(name, found), expected))

    def sub(self, key: str, *, optional: bool = False) -> Reader:
        """The reader of a sub-table."""
        self.known.append(key)
        if key not in self.table and not optional:
            self.problem(key, None, f"a table [{self.full(key)}]")
        return Reader(self.table.pop(key, {}), self.full(key), self.notes)

    def text(self, key: str, default: str | None = None, *, most: int = 200) -> str:
        """A one-line text."""

        def check(value: Found) -> str:
            if not isinstance(value, str) or not 0 < len(value) <= most or not _clean(value):
                raise ValueError
            return value

        return self._take(key, default, check, f"a line of text, at most {most} characters, no blanks around it", "")

    def file(self, key: str, default: str | None = None, *, most: int = 200) -> str:
        """An absolute path, at most ``most`` bytes (the kernel's limit counts bytes: unix(7) has 108 for a socket)."""

        def check(value: Found) -> str:
            if not isinstance(value, str) or not value.startswith("/") or not _clean(value):
                raise ValueError
            if len(value.encode()) > most:
                raise ValueError
            return value

        expected = f"a path from the root such as /etc/edgeagent/file, at most {most} bytes"
        return self._take(key, default, check, expected, "/")

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

    def exactly(self, key: str, wanted: int, expected: str) -> int:
        """One whole number and no other."""

        def check(value: Found) -> int:
            if isinstance(value, bool) or not isinstance(value, int) or value != wanted:
                raise ValueError
            return value

        return self._take(key, None, check, expected, wanted)

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

    def host(self, key: str) -> str:
        """An IPv4 address, or a host name in small letters."""
        expected = "an IPv4 address such as 192.0.2.1, or a name such as sbc.provider.example"
        return self._take(key, None, _host, expected, "0.0.0.0")

    def prefix(self, key: str, default: str | None = None) -> str:
        """An IPv4 prefix."""
        return self._take(key, default, _prefix, "an IPv4 prefix such as 203.0.113.0/27", "0.0.0.0/32")

    def host_prefix(self, key: str, default: str | None = None) -> str:
        """A host's IPv4 address with the length of its prefix; where there is a default, empty for none."""

        def check(value: Found) -> str:
            return "" if value == "" and default is not None else _host_prefix(value)

        return self._take(key, default, check, "an address with its prefix such as 192.168.5.2/24", "")

    def addresses(self, key: str, least: int, most: int = 16) -> tuple[str, ...]:
        """A list of different IPv4 addresses."""
        return self._list(key, _address, least, most, "IPv4 addresses")

    def hosts(self, key: str, least: int, most: int = 16) -> tuple[str, ...]:
        """A list of different IPv4 addresses or host names."""
        return self._list(key, _host, least, most, "IPv4 addresses; provider.registrar also where it is a name")

    def prefixes(self, key: str, least: int, most: int = 64) -> tuple[str, ...]:
        """A list of different IPv4 prefixes."""
        return self._list(key, _prefix, least, most, "IPv4 prefixes such as 203.0.113.0/27")

    def prefixes6(self, key: str, most: int = 64) -> tuple[str, ...]:
        """A list of different IPv6 prefixes, which may be left out."""
        return self._list(key, _prefix6, 0, most, "IPv6 prefixes such as 2001:db8::/32")

    def mailbox(self, key: str) -> str:
        """One mail address."""
        return self._take(key, None, _mailbox, "a mail address such as support@provider.example", "")

    def mailboxes(self, key: str, least: int = 1, most: int = 16) -> tuple[str, ...]:
        """A list of different mail addresses."""
        return self._list(key, _mailbox, least, most, "mail addresses such as support@provider.example")

    def end(self) -> None:
        """Whatever has not been read is unknown."""
        for key in self.table:
            near = self._nearest(key)
            why = f"did you mean {near}?" if near else "a misspelling, or a key of another version"
            self.notes.problems.append(Problem(self.full(key), shown("", key), f"no such key: {why}"))

    def _nearest(self, key: str) -> str | None:
        """The known key of this table that looks most like ``key``."""
        if len(key) > SHOWN_MAX or self.notes.suggestions >= SUGGESTIONS_MAX:
            return None
        self.notes.suggestions += 1
        return next(iter(difflib.get_close_matches(key.lower(), self.known, n=1, cutoff=0.7)), None)

    def _list(self, key: str, check: Callable[[Found], str], least: int, most: int, what: str) -> tuple[str, ...]:
        def whole(value: Found) -> tuple[str, ...]:
            if not isinstance(value, list) or not least <= len(value) <= most:
                raise ValueError
            checked: list[str] = []
            for number, item in enumerate(value, 1):
                try:
                    checked.append(check(item))
                except (ValueError, TypeError) as error:
                    raise _WrongItem(f"{shown('', item)} as item {number}") from error
                if checked[-1] in checked[:-1]:
                    raise _WrongItem(f"{shown('', item)} twice")
            return tuple(checked)

        return self._take(key, None if least else (), whole, f"a list of {least} to {most} different {what}", ())

    def _take(self, key: str, default: T | None, check: Callable[[Found], T], expected: str, blank: T) -> T:
        name = self.full(key)
        self.known.append(key)
        self.notes.expected[name] = expected
        if default is not None:
            self.notes.defaults[name] = default
        value = self.table.pop(key, None)
        if value is None and default is not None:
            return default
        try:
            checked = check(value)
        except _WrongItem as wrong:
            self.notes.problems.append(Problem(name, wrong.found, expected))
            return blank
        except (ValueError, TypeError):
            self.problem(key, value, expected)
            return blank
        self.notes.written[name] = checked
        return checked


class _WrongItem(ValueError):
    """One item of a list is wrong; ``found`` says which."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(found)


def shown(key: str, found: Found) -> str:
    """A value for a message: one short line, and never what stands under a key that may hold a secret."""
    if found is None:
        return "nothing"
    if isinstance(found, dict):
        return "a table"
    if isinstance(found, list | tuple):
        return f"a list of {len(found)}"
    if SECRET_KEY.search(key):
        return "something that is not shown here"
    try:
        text = str(found).lower() if isinstance(found, bool) else repr(found)
    except ValueError:  # a whole number of thousands of digits
        text = f"a {type(found).__name__} too large to show"
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


def plain(key: str) -> str:
    """A key as it may be shown and compared: quoted and cut where it is no plain one."""
    return key if BARE_KEY.fullmatch(key) else repr(key[:SHOWN_MAX])


def _clean(value: str) -> bool:
    """One line without control, invisible or direction characters, and without blanks around it."""
    return value.isprintable() and value == value.strip()


def _address(value: Found) -> str:
    """An address that one host can have."""
    if not isinstance(value, str):
        raise TypeError
    address = ipaddress.IPv4Address(value)
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ValueError
    return str(address)


def _host(value: Found) -> str:
    if isinstance(value, str) and len(value) <= HOST_NAME_MAX and HOST_NAME.fullmatch(value.lower()):
        return value.lower()
    return _address(value)


def is_name(host: str) -> bool:
    """Whether a host is written as a name rather than as an address."""
    return HOST_NAME.fullmatch(host) is not None


def _prefix(value: Found) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(ipaddress.IPv4Network(value))


def _host_prefix(value: Found) -> str:
    if not isinstance(value, str) or "/" not in value:
        raise TypeError
    host = ipaddress.IPv4Interface(value)
    ends = (host.network.network_address, host.network.broadcast_address)
    if host.network.prefixlen > 30 or host.ip in ends or host.network.prefixlen < 8:
        raise ValueError
    return str(host)


def _prefix6(value: Found) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(ipaddress.IPv6Network(value))


def _mailbox(value: Found) -> str:
    if not isinstance(value, str) or len(value) > 254:
        raise TypeError
    if not MAILBOX.fullmatch(value):
        raise ValueError
    return value
