"""A small interpreter of the RouterOS script language: what failover scripts on routers use, and no more.

Commands with ``[find where ...]``, ``:local :global :set :if :foreach :while :do :log :put :delay :error :len :pick
:find :tostr :tonum :typeof``, expressions in parentheses, strings with ``$variables``. Anything else stops the script
with :class:`ScriptError`, which the caller writes to the log.
"""

from __future__ import annotations

import asyncio
import operator
import re
from collections.abc import Awaitable, Callable
from typing import Final

from hil.virtual.routeros.kernel_syntax import ScriptError, Token, scan, statements, unescape, words
from hil.virtual.routeros.kernel_values import duration_s
from hil.virtual.routeros.plane import Row, Trap

Value = str | list[str]
Sentence = Callable[[list[str]], Awaitable[list[Row]]]
Log = Callable[[str, str], None]

_VERBS: Final = frozenset({
    "add", "set", "remove", "print", "find", "get", "enable", "disable", "move", "unset", "run", "info", "warning",
    "error", "debug", "ping", "flush", "release", "renew", "reset-counters", "reset-counters-all", "reboot",
})  # fmt: skip
_SINGLE_LIMIT: Final = 10_000  # loop turns, so that a wrong script ends
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
        return isinstance(right, list) and _text(left) in right
    return _COMPARISONS[sign](_number(left), _number(right))


class Interpreter:
    """Runs scripts against a router's own menus."""

    def __init__(self, sentence: Sentence, log: Log) -> None:
        self._sentence = sentence
        self._log = log
        self._globals: dict[str, Value] = {}

    async def run(self, source: str) -> None:
        """Run a script to its end; raises ScriptError."""
        try:
            await _Frame(self._sentence, self._log, self._globals).block(source)
        except Trap as trap:
            raise ScriptError(trap.message) from trap


class _Frame:
    """One running script: its variables and the menu it is in."""

    def __init__(self, sentence: Sentence, log: Log, global_values: dict[str, Value]) -> None:
        self._sentence = sentence
        self._log = log
        self._globals = global_values
        self._locals: dict[str, Value] = {}
        self._menu = ""

    async def block(self, source: str) -> Value:
        """Run statements; the value of the last."""
        value: Value = ""
        for statement in statements(source):
            value = await self.command(statement, self._menu, top=True)
        return value

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
            value: Value = await builtin(parts[1:], menu)
            return value
        return await self._menu_command(parts, menu, top)

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
                self._menu = await self._existing(where)
                return ""
            raise ScriptError(f"cannot run: {' '.join(parts)}")
        if where == "/log":
            self._log(verb, _text(await self.value(" ".join(rest), menu)))
            return ""
        if verb == "find":
            return await self._find(where, rest)
        if where == "/system/script" and verb == "run" and rest:
            return await self.block(_text(await self._get(where, [_text(await self.value(rest[0], menu))], ["source"])))
        return await self._sentence_command(where, verb, rest)

    async def _existing(self, where: str) -> str:
        """A menu to stand in; a word no menu has is a mistyped command."""
        try:
            await self._sentence([f"{where}/print"])
        except Trap as trap:
            if "prefix" in trap.message:
                raise ScriptError(f"{where} is not understood by the virtual router") from trap
        return where

    async def _sentence_command(self, where: str, verb: str, rest: list[str]) -> Value:
        targets: list[str] | None = None
        attributes: list[str] = []
        names: list[str] = []
        for word in rest:
            key, sign, raw = word.partition("=")
            if sign and re.fullmatch(r"[a-z0-9.-]+", key):
                attributes.append(f"={key}={_text(await self.value(raw, where))}")
            elif (targets is None and word[0] in '[$*"(') or (targets is None and verb == "run"):
                found = await self.value(word, where)
                targets = found if isinstance(found, list) else [each for each in found.split(";") if each]
            else:
                names.append(word)
        if verb == "get":
            return await self._get(where, targets, names)
        if verb == "ping":
            host = [f"=address={name}" for name in [*names, *(targets or [])]]
            rows = await self._sentence([where.rstrip("/") + "/ping", *host, *attributes])
            return rows[-1].get("received", "0") if rows else "0"
        command = where.rstrip("/") + "/" + verb
        if targets is None:
            if names:
                raise ScriptError(f"{command}: {' '.join(names)} is not understood by the virtual router")
            await self._sentence([command, *attributes])
            return ""
        for target in targets:
            try:
                await self._sentence([command, f"=.id={target}", *attributes])
            except Trap as trap:
                # A connection may end between find and remove; the router of today skips it too.
                if verb != "remove" or "no such item" not in trap.message:
                    raise
        return ""

    async def _get(self, where: str, targets: list[str] | None, names: list[str]) -> Value:
        rows = await self._sentence([where + "/print"])
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
        for found in re.finditer(r"\\(?:[0-9A-F]{2}|.)|\$(\w+)|\$([(\[])", text, re.DOTALL):
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
        self._log("info", _text(await self.value(" ".join(rest), menu)))
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
