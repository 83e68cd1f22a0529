"""How RouterOS script text falls into statements, words and tokens."""

from __future__ import annotations

import re
from typing import Final

# (kind, text): kind is word, string, variable, command ([...]), paren, brace or operator; text without its delimiters.
Token = tuple[str, str]

_PAIRS: Final = {"[": "]", "(": ")", "{": "}"}
_KINDS: Final = {"[": "command", "(": "paren", "{": "brace"}
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%*,;-]+")
_OPERATOR: Final = re.compile(r"&&|\|\||!=|<=|>=|[=<>~!+]")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "_": " "}


class ScriptError(Exception):
    """The script cannot go on; the text is for the log."""


def unescape(text: str) -> str:
    """One escape of a string: ``\\n``, ``\\"``, ``\\$``, ``\\0A``."""
    body = text[1:]
    if re.fullmatch(r"[0-9A-F]{2}", body):
        return chr(int(body, 16))
    return _ESCAPES.get(body, body)


def _end(text: str, start: int) -> int:
    """Where the quoted or bracketed thing that begins at ``start`` ends (the index after it)."""
    opening = text[start]
    at = start + 1
    while at < len(text):
        here = text[at]
        if here == "\\":
            at += 2
        elif opening == '"':
            at += 1
            if here == '"':
                return at
        elif here == _PAIRS[opening]:
            return at + 1
        elif here == '"' or here in _PAIRS:
            at = _end(text, at)
        elif here == "#" and opening == "{" and text[start + 1 : at].rsplit("\n", 1)[-1].strip() == "":
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        else:
            at += 1
    raise ScriptError(f"missing {_PAIRS.get(opening, opening)}")


def _split(text: str, separators: str) -> list[str]:
    parts, at, start = [], 0, 0
    while at < len(text):
        here = text[at]
        if here == "\\":
            at += 2
        elif here == '"' or here in _PAIRS:
            at = _end(text, at)
        elif here in separators:
            parts.append(text[start:at])
            at += 1
            start = at
        elif here == "#" and "\n" in separators and not text[start:at].strip():
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            start = at
        else:
            at += 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def statements(source: str) -> list[str]:
    """The statements of a script: by newline or semicolon, comments gone, continued lines joined."""
    return _split(re.sub(r"\\\r?\n\s*", " ", source).replace("\r", ""), "\n;")


def words(statement: str) -> list[str]:
    """The words of a statement; strings, brackets, parentheses and blocks stay whole."""
    return _split(statement, " \t\n")


def scan(text: str, limit: int = 0) -> list[Token]:
    """The tokens of an expression, or of one value; at most ``limit`` where given."""
    tokens: list[Token] = []
    at = 0
    while at < len(text) and not (limit and len(tokens) == limit):
        here = text[at]
        if here.isspace():
            at += 1
            continue
        if here == '"' or here in _PAIRS:
            end = _end(text, at)
            tokens.append((_KINDS.get(here, "string"), text[at + 1 : end - 1]))
            at = end
            continue
        variable = re.compile(r'\$(?:"([^"]+)"|(\w+))').match(text, at)
        found = variable or _OPERATOR.match(text, at) or _BARE.match(text, at)
        if found is None:
            raise ScriptError(f"cannot understand {text[at:]}")
        at = found.end()
        if variable:
            tokens.append(("variable", variable.group(1) or variable.group(2)))
        elif found.re is _OPERATOR or found.group() in {".", "-", "/", "*"}:
            tokens.append(("operator", found.group()))
        else:
            tokens.append(("word", found.group()))
    return tokens
