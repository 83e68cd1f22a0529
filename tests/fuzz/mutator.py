"""Changes a site.toml in ways that people, editors and disks do, and in some that only an enemy would."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

SECRET = "hunter2-of-the-fuzzer"
ASSIGNMENT = re.compile(rb"^(\s*)([A-Za-z_]+)(\s*=\s*)([^#\n]*?)(\s*(?:#.*)?)$")
ADDRESS = re.compile(rb"\d+\.\d+\.\d+\.\d+(?:/\d+)?")
HEADER = re.compile(rb"^\[([a-z.]+)\]", re.MULTILINE)


def _listed(name: str) -> list[str]:
    return (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()


# Each stands for a kind of mistake; the long ones are made here.
VALUES = [
    *_listed("values"),
    "'''\na\n'''",
    '"""\\\n   x"""',
    '[\n"203.0.113.10", # one\n"192.0.2.9",\n"192.0.2.8",\n]',
    '"' + "x" * 201 + '"',
    '"/' + "\u00fc" * 99 + '"',
    '"' + "\u00fc" * 30000 + '"',
    "9" * 4301,
    "0x" + "f" * 6000,
    "[" * 30 + "]" * 30,
    "[" * 5000 + "]" * 5000,
    "{a=" * 900 + "1" + "}" * 900,
    "[" + '"192.0.2.1",' * 3000 + "]",
]
WRONG_ADDRESSES, KEYS, HEADERS = _listed("addresses"), [*_listed("keys"), "k" * 200], _listed("headers")

Mutation = Callable[[random.Random, bytes], bytes]


def mutated(seed: int, number: int, bases: Sequence[bytes]) -> bytes:
    """One file: the same for the same seed and number."""
    rng = random.Random(f"{seed}/{number}")
    raw = rng.choice(bases)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        raw = rng.choice(MUTATIONS)(rng, raw)
    return raw


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 4) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _span(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw) + 1)
    span = raw[at : at + rng.choice((1, 2, 5, 40, 400))]
    kind = rng.randrange(4)
    if kind == 0:
        return raw[:at] + raw[at + len(span) :]
    if kind == 1:
        return raw[:at] + span + raw[at:]
    if kind == 2:
        return raw[:at]
    to = rng.randrange(len(raw) + 1)
    return raw[:to] + span + raw[to:]


def _inserted(rng: random.Random, raw: bytes) -> bytes:
    """Characters that do not show, that end lines elsewhere, or that are none."""
    strange = ("\x00", "\x07", "\x1b[2J", "\x7f", "\u200b", "\u202e", "\ufeff", "\u2028", "\x85", "\r", "\u0661", '"')
    spans = [text.encode() for text in strange] + [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\\",
        b"'",
    ]
    at = rng.choice((0, rng.randrange(len(raw) + 1), len(raw)))
    return raw[:at] + rng.choice(spans) + raw[at:]


def _lines(rng: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        del lines[one]
    elif kind == 3:
        lines[min(one, other) : max(one, other)] = []
    else:
        lines[one:one] = [lines[one]] * rng.choice((2, 20, 2000))
    return (b"\r\n" if rng.random() < 0.05 else b"\n").join(lines)


def _value(rng: random.Random, raw: bytes) -> bytes:
    """One key gets another value: of a list of bad ones, or another key's."""
    lines = raw.split(b"\n")
    places = [(at, found) for at, line in enumerate(lines) if (found := ASSIGNMENT.match(line))]
    if not places:
        return raw
    at, found = rng.choice(places)
    others = [other[4] for _, other in places if SECRET.encode() not in other[4]]
    value = rng.choice(others) if others and rng.random() < 0.3 else rng.choice(VALUES).encode()
    lines[at] = found[1] + found[2] + found[3] + value + found[5]
    return b"\n".join(lines)


def _address(rng: random.Random, raw: bytes) -> bytes:
    """One address becomes a wrong one, or another that stands in the file."""
    places = list(ADDRESS.finditer(raw))
    if not places:
        return raw
    place = rng.choice(places)
    new: bytes = rng.choice(places)[0] if rng.random() < 0.4 else rng.choice(WRONG_ADDRESSES).encode()
    return raw[: place.start()] + new + raw[place.end() :]


def _key(rng: random.Random, raw: bytes) -> bytes:
    """One key is misspelt, strange, or there as well."""
    lines = raw.split(b"\n")
    places = [(at, found) for at, line in enumerate(lines) if (found := ASSIGNMENT.match(line))]
    if not places or rng.random() < 0.3:
        key, value = rng.choice(KEYS), rng.choice(VALUES)
        lines.insert(rng.randrange(len(lines) + 1), f"{key} = {value}".encode())
        return b"\n".join(lines)
    at, found = rng.choice(places)
    name: bytes = found[2]
    swap = rng.randrange(len(name))
    typos = (name[:swap] + name[swap + 1 :], name[: swap + 1] + name[swap:], name.upper(), name[::-1])
    new: bytes = rng.choice((*typos, rng.choice(KEYS).encode(), b'"' + name + b'"', b"x." + name))
    lines[at] = found[1] + new + found[3] + found[4] + found[5]
    return b"\n".join(lines)


def _header(rng: random.Random, raw: bytes) -> bytes:
    places = list(HEADER.finditer(raw))
    header = rng.choice(HEADERS).encode()
    if places and rng.random() < 0.6:
        place = rng.choice(places)
        return raw[: place.start()] + rng.choice((header, b"[[" + place[1] + b"]]")) + raw[place.end() :]
    lines = raw.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), header)
    return b"\n".join(lines)


def _flood(rng: random.Random, raw: bytes) -> bytes:
    """Thousands of unknown keys, paths or levels: as many as fit into a file that is still read."""
    room = max(0, 65000 - len(raw))
    kind = rng.randrange(5)
    if kind == 0:
        return raw + b"".join(b"port%d=1\n" % number for number in range(room // 12))
    if kind == 1:
        return raw + b"".join(b"[path.p%d]\n" % number for number in range(room // 14))
    if kind == 2:
        return raw + b"x" + b".a" * (room // 2 - 10) + b" = 1\n"
    if kind == 3:
        return raw + b"x = " + b"[" * (room // 2 - 10) + b"]" * (room // 2 - 10) + b"\n"
    return raw + b"x = [" + b"1," * (room // 2 - 10) + b"]\n"


def _with_a_secret(rng: random.Random, raw: bytes) -> bytes:
    """Someone writes the password into the file itself."""
    name = rng.choice(("password", "Password", "mail_password", "api_token", "password_file"))
    value = rng.choice(('"{}"', '["{}"]', '{{x = "{}"}}', '"{}\\n"', '"{}" "')).format(SECRET)
    places = list(HEADER.finditer(raw))
    at = raw.find(b"\n", rng.choice(places).start()) + 1 if places else 0
    return raw[:at] + f"{name} = {value}\n".encode() + raw[at:]


_OFTEN: tuple[Mutation, ...] = (
    _bytes,
    _span,
    _inserted,
    _lines,
    _value,
    _value,
    _value,
    _address,
    _address,
    _key,
    _header,
)
MUTATIONS: tuple[Mutation, ...] = (*_OFTEN, *_OFTEN, *_OFTEN, _with_a_secret, _with_a_secret, _flood)
