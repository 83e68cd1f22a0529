"""A small interpreter of the RouterOS script language: what failover scripts on routers use, and no more.

Commands with ``[find where ...]``, ``:local :global :set :if :for :foreach :while :do :log :put :delay :error :len
:parse :pick :find :tostr :tonum :typeof``, expressions in parentheses, strings with ``$variables``. Anything else stops
the script with :class:`ScriptError`, which the caller writes to the log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import operator
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from hil.virtual.routeros.kernel_syntax import (
    STATEMENT_ENDS,
    ScriptError,
    Token,
    joined,
    pieces,
    scan,
    statements,
    unescape,
    words,
)
from hil.virtual.routeros.kernel_values import duration_s
from hil.virtual.routeros.plane import Row, Trap

Value = str | list[str]
Sentence = Callable[[list[str]], Awaitable[list[Row]]]
Log = Callable[[str, str], None]
Check = Callable[[str], object]
"""Raises ScriptError where a script could not run at all."""

_VERBS: Final = frozenset({
    "add", "set", "remove", "print", "find", "get", "enable", "disable", "move", "unset", "run", "info", "warning",
    "error", "debug", "ping", "flush", "release", "renew", "reset-counters", "reset-counters-all", "reboot",
    "export", "import", "save", "load", "sign", "export-certificate",
})  # fmt: skip
# Commands whose first argument needs no name, and that argument.
UNNAMED: Final[Mapping[str, str]] = {
    "/import": "file-name", "/ping": "address", "/tool/ping": "address", "/system/script/run": "number",
    "/certificate/sign": "number", "/certificate/export-certificate": "numbers",
}  # fmt: skip
_SINGLE_LIMIT: Final = 10_000  # loop turns, so that a wrong script ends
# What may name the rows it is about by a bare word: ``/user remove guest``.
ABOUT_ROWS: Final = frozenset({"set", "remove", "get", "enable", "disable", "move", "unset", "release", "renew"})
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


def _text(value: Value) -> str:
    return ";".join(value) if isinstance(value, list) else value


def _normal(value: Value) -> str:
    return {"yes": "true", "no": "false"}.get(_text(value), _text(value))


def _number(value: Value) -> float:
    text = _text(value)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return duration_s(text)
    except Trap as error:
        raise ScriptError(f"cannot compare {text} as a number") from error


def _truth(value: Value) -> bool:
    return _normal(value) == "true"


def compare(left: Value, sign: str, right: Value) -> bool:
    """``left sign right`` as RouterOS compares property values and script values."""
    if sign == "=":
        return _normal(left) == _normal(right)
    if sign == "!=":
        return _normal(left) != _normal(right)
    if sign == "~":
        return re.search(_text(right), _text(left)) is not None
    if sign == "in":
        return _text(left) in right if isinstance(right, list) else _within(_text(left), right)
    return _COMPARISONS[sign](_number(left), _number(right))


def _within(address: str, prefix: str) -> bool:
    """``192.0.2.1 in 192.0.2.0/24`` (MikroTik manual, "Scripting", operators)."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(prefix)
    except ValueError:
        return False


class Code(str):
    """What ``:parse`` made of a text: it runs where a statement begins with the variable that holds it."""

    __slots__ = ()


class Terminal(Protocol):
    """Where a script that somebody watches shows what it found."""

    def put(self, text: str) -> None:
        """One line of ``:put``."""

    def answered(self, command: str, flags: list[str], rows: list[Row]) -> None:
        """What a command gave whose value nothing in the script takes."""


class Interpreter:
    """Runs scripts against a router's own menus."""

    def __init__(
        self,
        sentence: Sentence,
        log: Log,
        global_values: dict[str, Value] | None = None,
        terminal: Terminal | None = None,
        check: Check = lambda _text: None,
    ) -> None:
        self._check = check
        self._sentence = sentence
        self._log = log
        self._globals: dict[str, Value] = {} if global_values is None else global_values
        self._terminal = terminal
        self._standing = self._frame()

    async def run(self, source: str, values: Mapping[str, str] | None = None) -> None:
        """Run a script to its end; raises ScriptError, which tells where in the script. ``values``: of variables."""
        await self._run(self._frame(values), source)

    async def run_on(self, source: str) -> None:
        """Run a part of a script, with the variables and in the menu that the parts before left."""
        await self._run(self._standing, source)

    @property
    def menu(self) -> str:
        """The menu that the parts so far led to."""
        return self._standing.menu

    def _frame(self, values: Mapping[str, str] | None = None) -> _Frame:
        return _Frame(self._sentence, self._log, self._globals, self._terminal, self._check, values)

    @staticmethod
    async def _run(frame: _Frame, source: str) -> None:
        text, places = joined(source)
        try:
            await frame.block(text)
        except (ValueError, IndexError, RecursionError, re.error) as error:  # arguments missing, too deep, no number
            raise ScriptError(f"cannot run: {error}", source, command=frame.doing) from error
        except ScriptError as error:
            at = places[error.at] if error.source == text else 0
            raise ScriptError(str(error), source, at, error.command) from error


class _Frame:
    """One running script: its variables and the menu it is in."""

    def __init__(
        self,
        sentence: Sentence,
        log: Log,
        global_values: dict[str, Value],
        terminal: Terminal | None,
        check: Check,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self._check = check
        self._given_sentence = sentence
        self._log = log
        self._globals = global_values
        self._locals: dict[str, Value] = dict(values or {})
        self._terminal = terminal
        self.menu = ""
        self.doing = ""

    async def block(self, source: str) -> Value:
        """Run statements; the value of the last. A failure tells where in this source."""
        value: Value = ""
        for at, statement in pieces(source, STATEMENT_ENDS):
            try:
                value = await self.command(statement, self.menu, top=True)
            except Trap as trap:
                raise ScriptError(trap.message, source, at, self.doing) from trap
            except ScriptError as error:
                within = statement.find(error.source) + error.at if error.source and error.source in statement else 0
                raise ScriptError(str(error), source, at + within, error.command or self.doing) from error
        return value

    async def _sentence(self, given: list[str]) -> list[Row]:
        self.doing = given[0]
        return await self._given_sentence(given)

    # -- statements ------------------------------------------------------------------------------------------------

    async def command(self, text: str, menu: str, top: bool = False) -> Value:
        """One command, with or without its value being used."""
        parts = words(text)
        if not parts:
            return ""
        head = parts[0]
        if head.startswith(":"):
            builtin = getattr(self, "_do_" + head[1:].replace("-", "_"), None)
            if builtin is None:
                raise ScriptError(f"{head} is not understood by the virtual router")
            self.doing = head
            value: Value = await builtin(parts[1:], menu)
            return value
        if head.startswith("$") and isinstance(code := self.variable(head[1:].strip('"')), Code):
            return await self._called(code)
        return await self._menu_command(parts, menu, top)

    async def _called(self, code: Code) -> Value:
        """A function has variables of its own."""
        frame = _Frame(self._given_sentence, self._log, self._globals, self._terminal, self._check)
        try:
            return await frame.block(joined(code)[0])
        finally:
            self.doing = frame.doing

    async def _menu_command(self, parts: list[str], menu: str, top: bool) -> Value:
        path = [] if parts[0].startswith("/") else [each for each in menu.split("/") if each]
        verb, rest = "", list(parts)
        while rest and not verb:
            if not re.fullmatch(r"[a-z0-9/-]+", rest[0]):
                break
            for segment in filter(None, rest.pop(0).split("/")):
                if segment in _VERBS:
                    verb = segment
                else:
                    path.append(segment)
        where = "/" + "/".join(path)
        if not verb:
            if top and not rest:
                self.menu = await self._existing(where)
                return ""
            raise ScriptError(f"cannot run: {' '.join(parts)}")
        if where == "/log":
            self._log(verb, _text(await self.value(" ".join(rest), menu)))
            return ""
        if verb == "find":
            return await self._find(where, rest)
        if verb == "print":
            return await self._print(where, rest, top)
        return await self._sentence_command(where, verb, rest, top)

    async def _existing(self, where: str) -> str:
        """A menu to stand in; a word no menu has is a mistyped command."""
        try:
            await self._sentence([f"{where}/print"])
        except Trap as trap:
            if "prefix" in trap.message:
                raise ScriptError(f"{where} is not understood by the virtual router") from trap
        return where

    async def _sentence_command(self, where: str, verb: str, rest: list[str], top: bool) -> Value:
        command = where.rstrip("/") + "/" + verb
        targets, attributes, names = await self._arguments(where, command, rest)
        if verb == "get":
            return await self._get(where, targets, names)
        if verb == "unset":
            attributes += [f"=value-name={name}" for name in names]
        elif verb == "move":
            attributes += [f"=destination={each}" for name in names for each in await self._targets(where, name)]
        elif names:
            attributes += [f"={name}=" for name in names]
        if targets is None:
            rows = await self._sentence([command, *attributes])
            if top and verb != "ping":
                self._show(command, [], rows)
            return self._outcome(verb, rows)
        for target in targets:
            try:
                await self._sentence([command, f"=.id={target}", *attributes])
            except Trap as trap:
                # A connection may end between find and remove; the router of today skips it too.
                if not command.endswith("/connection/remove") or "no such item" not in trap.message:
                    raise
        return ""

    @staticmethod
    def _outcome(verb: str, rows: list[Row]) -> Value:
        if verb == "ping":
            return rows[-1].get("received", "0") if rows else "0"
        return rows[-1].get("ret", "") if rows else ""

    def _show(self, command: str, flags: list[str], rows: list[Row]) -> None:
        if self._terminal is not None:
            self._terminal.answered(command, flags, rows)

    async def _arguments(
        self, where: str, command: str, rest: list[str]
    ) -> tuple[list[str] | None, list[str], list[str]]:
        """The rows a command is about (None where it names none), its named arguments, the words that remain."""
        targets: list[str] | None = None
        attributes: list[str] = []
        names: list[str] = []
        for word in rest:
            key, sign, raw = word.partition("=")
            named = sign and re.fullmatch(r"[a-z0-9.-]+", key)
            if named and key == "value-name" and command.endswith("/get"):
                names.append(raw)
            elif named and key in ("numbers", "place-before", "destination"):
                found = await self._targets(where, raw)
                targets = found if key == "numbers" else targets
                attributes += [] if key == "numbers" else [f"={key}={each}" for each in found]
            elif named:
                attributes.append(f"={key}={_text(await self.value(raw, where))}")
            elif command in UNNAMED and not names:
                attributes.append(f"={UNNAMED[command]}={_text(await self.value(word, where))}")
            elif targets is None and (word[0] in '[$*"(' or command.rpartition("/")[2] in ABOUT_ROWS):
                targets = await self._targets(where, word)
            else:
                names.append(word)
        return targets, attributes, names

    async def _targets(self, where: str, word: str) -> list[str]:
        """The rows that a word names: by id, by name, by number as ``print`` counts them, by what is found."""
        found = await self.value(word, where)
        chosen = found if isinstance(found, list) else [each for each in re.split("[;,]", found) if each]
        if not any(each.isdigit() for each in chosen):
            return chosen
        rows = await self._sentence([where + "/print"])
        named = {row.get("name") for row in rows}
        numbers = {str(number): row[".id"] for number, row in enumerate(rows)}
        return [each if each in named else numbers.get(each, each) for each in chosen]

    async def _print(self, where: str, rest: list[str], top: bool) -> Value:
        """Rows for who watches; nobody takes the value of a print."""
        flags = rest[: rest.index("where")] if "where" in rest else rest
        rows = await self._sentence([where.rstrip("/") + "/print"])
        if "where" in rest:
            wanted = await self._find(where, rest[rest.index("where") :])
            rows = [row for row in rows if row.get(".id") in wanted]
        if "count-only" in flags and not top:
            return str(len(rows))
        if top:
            self._show(where.rstrip("/") + "/print", flags, rows)
        return ""

    async def _get(self, where: str, targets: list[str] | None, names: list[str]) -> Value:
        rows = await self._sentence([where + "/print"])
        single = not any(".id" in row for row in rows)
        if single and targets:  # the one word of ``/system identity get name`` is the property
            names, targets = [*targets, *names], None
        if targets is not None:
            rows = [row for row in rows if targets and targets[0] in {row.get(".id"), row.get("name")}]
        if not rows or not names:
            raise ScriptError("no such item")
        return rows[0].get(names[0].removeprefix("value-name="), "")

    async def _find(self, where: str, rest: list[str]) -> Value:
        source = " ".join(rest).strip()
        source = source[5:] if source.split(" ")[0] == "where" else source
        rows = await self._sentence([where + "/print"])
        tokens = scan(source)
        return [row[".id"] for row in rows if not tokens or _truth(await _Expression(self, tokens, row, where).all())]

    # -- values ----------------------------------------------------------------------------------------------------

    async def value(self, text: str, menu: str) -> Value:
        """The value of one word."""
        tokens = scan(text)
        if len(tokens) == 1:
            return await self.operand(tokens[0], menu)
        return text

    async def operand(self, token: Token, menu: str) -> Value:
        """The value of one token."""
        kind, text = token
        if kind == "string":
            return await self._string(text, menu)
        if kind == "variable":
            return self.variable(text)
        if kind == "command":
            return await self.command(text, menu)
        if kind == "paren":
            return await _Expression(self, scan(text), None, menu).all()
        if kind == "brace":
            return [_text(await self.value(each, menu)) for each in statements(text)]
        return text

    async def _string(self, text: str, menu: str) -> str:
        result, position = "", 0
        for found in re.finditer(r"(?:\\[0-9A-F]{2})+|\\.|\$(\w+)|\$([(\[])", text, re.DOTALL):
            if found.start() < position:
                continue
            result += text[position : found.start()]
            position = found.end()
            if found.group().startswith("\\"):
                result += unescape(found.group())
            elif found.group(1):
                result += _text(self.variable(found.group(1)))
            else:
                kind, inner = scan(text[found.start() + 1 :], limit=1)[0]
                result += _text(await self.operand((kind, inner), menu))
                position = found.start() + 1 + len(inner) + 2
        return result + text[position:]

    def variable(self, name: str) -> Value:
        """A variable's value; nothing for one never set."""
        return self._locals.get(name, self._globals.get(name, ""))

    # -- built-in commands -------------------------------------------------------------------------------------------

    async def _do_local(self, rest: list[str], menu: str) -> Value:
        self._locals[rest[0].strip('"')] = await self.value(rest[1], menu) if len(rest) > 1 else ""
        return ""

    async def _do_global(self, rest: list[str], menu: str) -> Value:
        if len(rest) > 1:
            self._globals[rest[0]] = await self.value(rest[1], menu)
        return ""

    async def _do_set(self, rest: list[str], menu: str) -> Value:
        scope = self._globals if rest[0] in self._globals and rest[0] not in self._locals else self._locals
        scope[rest[0]] = await self.value(rest[1], menu) if len(rest) > 1 else ""
        return ""

    async def _do_if(self, rest: list[str], menu: str) -> Value:
        branches = _named(rest[1:])
        chosen = "do" if _truth(await self.value(rest[0], menu)) else "else"
        return await self.block(branches.get(chosen, ""))

    async def _do_foreach(self, rest: list[str], menu: str) -> Value:
        named = _named(rest[1:])
        found = await self.value(named.get("in", ""), menu)
        for each in found if isinstance(found, list) else [part for part in found.split(";") if part]:
            self._locals[rest[0]] = each
            await self.block(named.get("do", ""))
        return ""

    async def _do_for(self, rest: list[str], menu: str) -> Value:
        named = _named(rest[1:])
        first, last = [int(_number(await self.value(named.get(end, ""), menu))) for end in ("from", "to")]
        for number in range(first, min(last, first + _SINGLE_LIMIT) + 1):
            self._locals[rest[0]] = str(number)
            await self.block(named.get("do", ""))
        return ""

    async def _do_while(self, rest: list[str], menu: str) -> Value:
        for _turn in range(_SINGLE_LIMIT):
            if not _truth(await self.value(rest[0], menu)):
                break
            await self.block(_named(rest[1:]).get("do", ""))
        return ""

    async def _do_do(self, rest: list[str], _menu: str) -> Value:
        named = _named(rest[1:])
        try:
            return await self.block(rest[0].strip()[1:-1])
        except (ScriptError, Trap):
            if "on-error" not in named:
                raise
            return await self.block(named["on-error"])

    async def _do_log(self, rest: list[str], menu: str) -> Value:
        self._log(rest[0], _text(await self.value(" ".join(rest[1:]), menu)))
        return ""

    async def _do_put(self, rest: list[str], menu: str) -> Value:
        text = _text(await self.value(" ".join(rest), menu))
        if self._terminal is None:
            self._log("info", text)
        else:
            self._terminal.put(text)
        return ""

    async def _do_error(self, rest: list[str], menu: str) -> Value:
        raise ScriptError(_text(await self.value(" ".join(rest), menu)))

    async def _do_delay(self, rest: list[str], menu: str) -> Value:
        await asyncio.sleep(duration_s(_text(await self.value(rest[0], menu))) if rest else 1.0)
        return ""

    async def _do_len(self, rest: list[str], menu: str) -> Value:
        return str(len(await self.value(" ".join(rest), menu)))

    async def _do_pick(self, rest: list[str], menu: str) -> Value:
        source, start, *end = [await self.value(each, menu) for each in rest]
        first = int(_text(start))
        last = int(_text(end[0])) if end else first + 1
        return source[first:last] if end or isinstance(source, str) else source[first]

    async def _do_find(self, rest: list[str], menu: str) -> Value:
        source, wanted, *start = [await self.value(each, menu) for each in rest]
        if isinstance(source, list):
            return str(source.index(_text(wanted))) if _text(wanted) in source else ""
        at = source.find(_text(wanted), int(_text(start[0])) + 1 if start else 0)
        return "" if at < 0 else str(at)

    async def _do_parse(self, rest: list[str], menu: str) -> Value:
        """Code of a text; one that could not run is refused here. None of what it may do is done yet."""
        text = _text(await self.value(" ".join(rest), menu))
        try:
            self._check(text)
        except ScriptError as error:  # its place is one in this text, not in the script
            raise ScriptError(str(error)) from error
        return Code(text)

    async def _do_tostr(self, rest: list[str], menu: str) -> Value:
        return _text(await self.value(" ".join(rest), menu))

    _do_toip = _do_tostr

    async def _do_tonum(self, rest: list[str], menu: str) -> Value:
        text = _text(await self.value(" ".join(rest), menu))
        return text if re.fullmatch(r"-?\d+", text) else ""

    async def _do_typeof(self, rest: list[str], menu: str) -> Value:
        value = await self.value(" ".join(rest), menu)
        if isinstance(value, list):
            return "array"
        return "nil" if value == "" else "num" if value.isdigit() else "str"


def _named(parts: list[str]) -> dict[str, str]:
    """``do={...} else={...} in=[...]`` by name; the braces of blocks taken off."""
    named = {}
    for part in parts:
        key, sign, text = part.partition("=")
        if not sign:
            raise ScriptError(f"expected name=..., found {part}")
        named[key] = text[1:-1] if text.startswith("{") else text
    return named


class _Expression:
    """Precedence climbing over tokens. With a row, bare words left of a sign are its properties (``find where``)."""

    def __init__(self, frame: _Frame, tokens: list[Token], row: Row | None, menu: str) -> None:
        self._frame = frame
        self._tokens = tokens
        self._row = row
        self._menu = menu
        self._at = 0

    async def all(self) -> Value:
        """The value of the whole expression."""
        value = await self._or()
        if self._at < len(self._tokens):
            raise ScriptError(f"cannot understand {self._tokens[self._at][1]}")
        return value

    def _peek(self, *texts: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] in [
            each for text in texts for each in (("operator", text), ("word", text))
        ]

    def _take(self) -> Token:
        if self._at >= len(self._tokens):
            raise ScriptError("the expression ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    async def _or(self) -> Value:
        value = await self._and()
        while self._peek("||", "or"):
            self._take()
            right = await self._and()
            value = "true" if _truth(value) or _truth(right) else "false"
        return value

    async def _and(self) -> Value:
        value = await self._not()
        while self._peek("&&", "and") or (
            self._row is not None and self._at < len(self._tokens) and not self._peek("||", "or")
        ):
            if self._peek("&&", "and"):
                self._take()
            right = await self._not()
            value = "true" if _truth(value) and _truth(right) else "false"
        return value

    async def _not(self) -> Value:
        if self._peek("!", "not"):
            self._take()
            return "false" if _truth(await self._not()) else "true"
        left = await self._sum(left_side=True)
        if self._peek("=", "!=", "<", ">", "<=", ">=", "~", "in"):
            sign = self._take()[1]
            return "true" if compare(left, sign, await self._sum()) else "false"
        return left

    async def _sum(self, left_side: bool = False) -> Value:
        value = await self._operand(left_side)
        while self._peek("+", "-", ".", "*", "/"):
            sign = self._take()[1]
            right = await self._operand()
            if sign == ".":
                value = _text(value) + _text(right)
                continue
            number = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}[sign](
                int(_number(value)), int(_number(right))
            )
            value = str(number)
        return value

    async def _operand(self, left_side: bool = False) -> Value:
        kind, text = self._take()
        if kind == "operator":
            raise ScriptError(f"cannot understand {text}")
        if self._row is not None and left_side:
            if kind == "word":
                return self._row.get(text, "")
            if kind == "paren":
                return await _Expression(self._frame, scan(text), self._row, self._menu).all()
        return await self._frame.operand((kind, text), self._menu)


BUILTINS: Final = frozenset(name[len("_do_") :].replace("_", "-") for name in dir(_Frame) if name.startswith("_do_"))
