"""How RouterOS script text falls into statements, words and tokens."""

from __future__ import annotations

import re
from typing import Final

# (kind, text): kind is word, string, variable, command ([...]), paren, brace or operator; text without its delimiters.
Token = tuple[str, str]

_PAIRS: Final = {"[": "]", "(": ")", "{": "}"}
_KINDS: Final = {"[": "command", "(": "paren", "{": "brace"}
STATEMENT_ENDS: Final = "\n;"
BLANKS: Final = " \t\n"
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%*,;-]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%*,!+-]+")
_OPERATOR: Final = re.compile(r"&&|\|\||!=|<=|>=|[=<>~!+]")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "_": " "}


# A line that goes on in the next one; an escape, which is kept; a carriage return, which means nothing.
_JOINTS: Final = re.compile(r"\\\r?\n[ \t]*|\\.|\r", re.DOTALL)


class ScriptError(Exception):
    """The script cannot go on; the text is for the log.

    ``at`` is the place in ``source``, a part of the script, at which it stopped; ``command`` is what was being done.
    """

    def __init__(self, message: str, source: str = "", at: int = 0, command: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.at = at
        self.command = command


def unescape(text: str) -> str:
    """One escape of a string: ``\\n``, ``\\"``, ``\\$``; or bytes of UTF-8 in hexadecimal, ``\\C3\\A4``."""
    if re.fullmatch(r"(?:\\[0-9A-F]{2})+", text):
        return bytes.fromhex(text.replace("\\", "")).decode("utf-8", "surrogateescape")
    return _ESCAPES.get(text[1:], text[1:])


def quoted(text: str) -> str:
    """A value as ``export`` writes it: as it is where the console could not mistake it, else between quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r"[^ !#%->@-\[\]-~]", _escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "$": "\\$"}
    data = found.group().encode("utf-8", "surrogateescape")
    return known.get(found.group()) or "".join(f"\\{byte:02X}" for byte in data)


def joined(source: str) -> tuple[str, list[int]]:
    """A script with its continued lines joined, and for each character (and the end) its index in the source.

    Nothing stands where two lines met: so exports break lines after ``name=`` and within strings.
    """
    places: list[int] = []
    text, at = "", 0
    for found in _JOINTS.finditer(source):
        kept = found.end() if found.group()[0] == "\\" and "\n" not in found.group() else found.start()
        text += source[at:kept]
        places += range(at, kept)
        at = found.end()
    return text + source[at:], [*places, *range(at, len(source) + 1)]


def place_of(source: str, at: int) -> tuple[int, int]:
    """Line and column of an index, both counted from one."""
    return source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at)


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
    raise ScriptError(f"missing {_PAIRS.get(opening, opening)}", text, start)


def pieces(text: str, separators: str) -> list[tuple[int, str]]:
    """What stands between separators, with the index of each; strings, brackets and blocks stay whole."""
    parts, at, start = [], 0, 0
    while at < len(text):
        here = text[at]
        if here == "\\":
            at += 2
        elif here == '"' or here in _PAIRS:
            at = _end(text, at)
        elif here in separators:
            parts.append((start, text[start:at]))
            at += 1
            start = at
        elif here == "#" and "\n" in separators and not text[start:at].strip():
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            start = at
        else:
            at += 1
    parts.append((start, text[start:]))
    return [(at + len(part) - len(part.lstrip()), part.strip()) for at, part in parts if part.strip()]


def inner(text: str, start: int) -> tuple[str, int]:
    """What a quote or bracket at ``start`` encloses, and the index after its end."""
    end = _end(text, start)
    return text[start + 1 : end - 1], end


def statements(source: str) -> list[str]:
    """The statements of a script: by newline or semicolon, comments gone, continued lines joined."""
    return [statement for _, statement in pieces(joined(source)[0], STATEMENT_ENDS)]


def words(statement: str) -> list[str]:
    """The words of a statement; strings, brackets, parentheses and blocks stay whole."""
    return [word for _, word in pieces(statement, BLANKS)]


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
