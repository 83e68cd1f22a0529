"""The file itself: its bytes, the TOML in them, and the line on which each key stands.

Everything that makes a file unusable before any key is looked at is told here, with line and column where there are
any. The text of the file is never repeated: it might hold a secret that does not belong there.
"""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

import tomli

from edgeagent.config.reader import Found, Problem

FILE_MAX_BYTES = 65536
STATEMENT_MAX_LINES = 200
SAID_MAX = 120
COORDINATES = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
UNREADABLE = {
    errno.ENOENT: "an existing file: copy the example docs/site.toml there, or name another with --site",
    errno.ENOTDIR: "an existing file: name it with --site",
    errno.EACCES: "a file that this user may read: use the agent's user or root, or change the file's mode",
}
MAY_PASS = {errno.EIO, errno.ENOMEM, errno.ENFILE}
# What tomli says, and what stands there in a good file.
HINTS = (
    ("Invalid value", 'a value after the "=": text in "quotes", a number, or a list in [brackets]'),
    ("Expected '='", "key = value"),
    ("Invalid initial character for a key", "key = value"),
    ("Invalid statement", "key = value, or the name of a table in [brackets]"),
    ("Expected ']", "a closing bracket"),
    ("Expected newline", 'one "key = value" a line, with text in "quotes"'),
    ("Cannot", "each key and each table only once"),
    ("Duplicate", "each key and each table only once"),
    ("Unterminated string", "a closing quote"),
    ("Unclosed", "a closing bracket"),
    ("Unescaped", "\\\\ for a backslash"),
    ("Illegal character", "a closing quote on the same line, and no control characters"),
)


class ConfigError(ValueError):
    """The file cannot be used; ``problems`` says why, all of it."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.may_pass = False  # no fault of the file: the machine could not read it, and may next time
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))


def read(path: Path) -> bytes:
    """The file's bytes, at most FILE_MAX_BYTES; raises :class:`ConfigError`."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(mode) else "something that is no ordinary file"
            raise ConfigError(str(path), [Problem("", kind, "a file: name it with --site")])
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, ConfigError):
            raise
        number, why = (error.errno, error.strerror) if isinstance(error, OSError) else (None, str(error))
        expected = UNREADABLE.get(number or 0, "a readable file")
        unread = ConfigError(str(path), [Problem("", (why or "an error").lower(), expected)])
        unread.may_pass = number in MAY_PASS
        raise unread from error
    if len(raw) > FILE_MAX_BYTES:
        expected = f"at most {FILE_MAX_BYTES} bytes: is it another file?"
        raise ConfigError(str(path), [Problem("", "a larger file", expected)])
    return raw


def table(raw: bytes, path: str) -> dict[str, Found]:
    """The TOML in ``raw``; raises :class:`ConfigError` with the line of the first mistake in it."""
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        expected = "UTF-8 without one: save it again as UTF-8 (no BOM)"
        raise ConfigError(path, [Problem("line 1", "a byte order mark", expected)])
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        where = f"line {before.count(10) + 1}, column {len(before[before.rfind(10) + 1 :].decode()) + 1}"
        found = f"the byte 0x{raw[error.start]:02x}, which is not UTF-8"
        raise ConfigError(path, [Problem(where, found, "text in UTF-8: save the file again as UTF-8")]) from error
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(path, [_syntax(str(error), text)]) from error
    except (ValueError, RecursionError) as error:  # tomli gives no place for these
        expected = "numbers of a few digits and values nested a few levels deep"
        where = f"line {_first_line_that_fails(text, type(error))}"
        raise ConfigError(path, [Problem(where, "a value too long or too deep to read", expected)]) from error


def line_numbers(text: str) -> dict[str, int]:
    """The line (from 1) on which each key's statement begins, by dotted name.

    ``text`` is good TOML. Each statement is parsed by itself: a line, or as many as it takes. What is inside an inline
    table counts as on the line of its statement. One statement longer than STATEMENT_MAX_LINES ends the search.
    """
    found: dict[str, int] = {}
    header: tuple[str, ...] = ()
    statement: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        statement.append(line.removesuffix("\r"))
        if len(statement) > STATEMENT_MAX_LINES:
            break
        try:
            parsed = tomli.loads("\n".join(statement))
        except ValueError:
            continue
        first, is_header = number - len(statement) + 1, statement[0].lstrip().startswith("[")
        statement = []
        leaves = _leaves(parsed)
        if is_header:
            header = leaves[0]
            continue
        for leaf in leaves:
            found.setdefault(".".join((*header, *leaf)), first)
    return found


def _leaves(parsed: Found, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(parsed, dict) and parsed:
        return [leaf for key, value in parsed.items() for leaf in _leaves(value, (*at, key))]
    return [at] if at else []


def _syntax(said: str, text: str) -> Problem:
    """tomli's message ends with the place. Its words name at most one character or key of the file."""
    place = COORDINATES.search(said)
    what = COORDINATES.sub("", said)
    if place and place[1]:
        where = f"line {place[1]}, column {place[2]}"
    else:
        last = text.rstrip().count("\n") + 1
        where = f"line {last}, at the end of the file"
    expected = next((hint for start, hint in HINTS if what.startswith(start)), "TOML as in the example docs/site.toml")
    return Problem(where, f"not TOML ({what[:SAID_MAX]})", expected)


def _first_line_that_fails(text: str, kind: type[Exception]) -> int:
    """The first line with which the file up to it fails as the whole of it does."""
    lines = text.split("\n")
    least, most = 1, len(lines)
    while least < most:
        middle = (least + most) // 2
        try:
            tomli.loads("\n".join(lines[:middle]))
        except tomli.TOMLDecodeError:  # cut within a statement
            least = middle + 1
        except kind:
            most = middle
        else:
            least = middle + 1
    return least
