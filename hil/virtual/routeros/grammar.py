"""Whether a script could run at all: every command, argument and bracket is looked at before anything is done.

The console of RouterOS reads a line, or with plain ``/import`` a whole file, before it executes any of it. What it
complains about, and the words for it, as users report them: ``bad command name X``, ``expected command name``,
``expected end of command`` (an argument the command lacks), ``syntax error``; each with line and column. Values are
looked at only when a command runs, for what they refer to may not be there yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from hil.virtual.routeros.kernel_script import ABOUT_ROWS, BUILTINS, UNNAMED
from hil.virtual.routeros.kernel_syntax import BLANKS, STATEMENT_ENDS, ScriptError, inner, joined, pieces
from hil.virtual.routeros.menus import BARE_FLAGS, COMMANDS, MENUS
from hil.virtual.routeros.values import FLAG, Kind, Version

PRINT_FLAGS: Final = frozenset({
    *("brief", "count-only", "detail", "show-sensitive", "stats", "terse", "value-list", "without-paging", "where"),
})  # fmt: skip
# Arguments whose braces hold a script; anywhere else they hold a list.
_BLOCKS: Final = frozenset({"do", "else", "on-error", "on-event", "source", "script", "up-script", "down-script"})
_LOG: Final = ("debug", "error", "info", "warning")
_NOT_IN_CONSOLE: Final = frozenset({"getall", "listen"})
_OPENINGS: Final = '"[({$'

Piece = tuple[int, str]


class GrammarError(ScriptError):
    """A script that cannot be run; nothing of it was done."""


class Grammar:
    """The commands of one version. Within, places are indexes into the joined text of the script."""

    def __init__(self, version: Version) -> None:
        self._menus = MENUS[version]
        self._commands = COMMANDS[version]
        self._slashes = version != "6.49"  # 6 wants spaces between the words of a path
        above = [path.rpartition("/")[0] for path in self._commands]
        self._paths = {"/".join(path.split("/")[:end]) for path in (*self._menus, *above) for end in range(1, 9)}
        self._paths.add("/log")

    def check(self, source: str, menu: str = "") -> str:
        """The menu in which a script ends that begins in ``menu``; raises GrammarError with the place of its fault."""
        text, places = joined(source)
        try:
            return self._block(text, 0, menu)
        except ScriptError as error:
            raise GrammarError(str(error), source, places[error.at]) from None
        except RecursionError:
            raise GrammarError("syntax error", source) from None

    def _block(self, text: str, base: int, menu: str) -> str:
        for at, statement in _pieces(text, base, STATEMENT_ENDS):
            menu = self._statement(_pieces(statement, at, BLANKS), menu)
        return menu

    def _statement(self, parts: list[Piece], menu: str) -> str:
        at, head = parts[0]
        if head[0] == ":":
            if head[1:] not in BUILTINS:
                raise ScriptError(f"bad command name {head[1:]}", at=at)
            for number, (place, word) in enumerate(parts[1:]):
                if head == ":do" and number == 0 and word[0] == "{":
                    self._block(word[1:-1], place + 1, menu)
                else:
                    self._value(word, place, menu)
            return menu
        if head[0] == "$":  # code that :parse made; what the variable holds is known only when it runs
            for place, word in parts[1:]:
                self._value(word, place, menu)
            return menu
        if head[0] == "{":
            self._block(head[1:-1], at + 1, menu)
            return menu
        return self._menu_command(parts, menu)

    def _menu_command(self, parts: list[Piece], menu: str) -> str:
        where, verb, rest = "" if parts[0][1].startswith("/") else menu, "", list(parts)
        while rest and not verb and re.fullmatch(r"[a-z0-9/-]+", rest[0][1]):
            at, word = rest.pop(0)
            if "/" in word[1:] and not self._slashes:
                raise ScriptError(f"bad command name {word.lstrip('/')}", at=at + word.startswith("/"))
            for segment in word.split("/"):
                if segment and not verb and f"{where}/{segment}" in self._paths:
                    where = f"{where}/{segment}"
                elif segment and not verb and self._knows(where, segment):
                    verb = segment
                elif segment:
                    raise ScriptError(f"bad command name {segment}", at=at)
                at += len(segment) + 1
        if verb:
            self._arguments(where, verb, rest)
            return menu
        if rest:
            raise ScriptError("expected command name", at=rest[0][0])
        return where

    def _knows(self, where: str, verb: str) -> bool:
        if where == "/log" and verb in _LOG:
            return True
        menu = self._menus.get(where)
        offered = frozenset() if menu is None else (menu.commands - _NOT_IN_CONSOLE) | {"find", "get"}
        return verb in offered or verb == "export" or f"{where}/{verb}" in self._commands

    def _arguments(self, where: str, verb: str, parts: list[Piece]) -> None:
        known, unnamed = self._known(where, verb)
        for at, word in parts:
            key, sign, raw = word.partition("=")
            if sign and re.fullmatch(r"[a-z0-9.-]+", key):
                if (known is not None and key not in known) or key in BARE_FLAGS.get(where, ()):
                    raise ScriptError("expected end of command", at=at)
                self._bare(raw, at + len(key) + 1)
            elif known is not None and word not in known:
                if unnamed == 0:
                    raise ScriptError("expected end of command", at=at)
                unnamed -= 1
            self._value(word, at, where)
            if word == "where":  # what follows is an expression
                known = None

    def _known(self, where: str, verb: str) -> tuple[Mapping[str, Kind] | None, int]:
        """The arguments of a command, None where anything goes, and how many it takes without a name."""
        command = self._commands.get(f"{where}/{verb}")
        if verb == "export":
            command = self._commands["/export"]
        if command is not None:
            return command.arguments, int(f"{where}/{verb}" in UNNAMED)
        if where == "/log" or verb in ("find", "get"):
            return None, 0
        if verb == "print":
            return dict.fromkeys(PRINT_FLAGS, FLAG), 0
        menu = self._menus[where]
        unnamed = 0 if menu.single or verb not in ABOUT_ROWS else 1 + (verb in ("move", "unset"))
        return menu.arguments(verb), unnamed

    def _value(self, word: str, at: int, menu: str) -> None:
        """The scripts within a value: commands in brackets, wherever they stand, and blocks."""
        key, sign, raw = word.partition("=")
        if sign and raw.startswith("{") and key in _BLOCKS:
            self._block(raw[1:-1], at + len(key) + 2, menu)
            return
        place = 0
        while place < len(word):
            here = word[place]
            if here == "\\":
                place += 2
            elif here in '"[({':
                within, end = inner(word, place)
                if here == "[":
                    self._block(within, at + place + 1, menu)
                elif here != '"':
                    self._value(within, at + place + 1, menu)
                place = end
            else:
                place += 1

    @staticmethod
    def _bare(raw: str, at: int) -> None:
        """A value without quotes holds nothing that means something to the console."""
        if raw and raw[0] not in _OPENINGS and (found := re.search(r"[\"'?={}()\[\]]", raw)):
            raise ScriptError("syntax error", at=at + found.start())


def _pieces(text: str, base: int, separators: str) -> list[Piece]:
    try:
        return [(base + at, piece) for at, piece in pieces(text, separators)]
    except ScriptError as error:
        raise ScriptError("syntax error", at=base + error.at) from None
