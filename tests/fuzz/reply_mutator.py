"""Changes API replies in ways that lines, routers and proxies do, and in some that only an enemy would.

A reply is a list of sentences, a sentence a list of words. On the level of words all is still well-formed; the level of
lengths lies about them; the level of bytes takes the encoded reply for what it is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

Reply = list[list[bytes]]
Mutation = Callable[[random.Random, Reply], None]

LENGTHS = (0x7F, 0x80, 0x3FFF, 0x4000, 65535, 65536, 65537, 70_000, 0x1FFFFF, 0x200000, 0xFFFFFFF, 0xFFFFFFFF)
# What may stand where a number, a duration, an address, an id or a flag should; the long ones are made here.
LONG: dict[str, tuple[bytes, ...]] = {
    "number": (b"9" * 400, b"9" * 4301, b"x" * 300, b"", b"1\n", b"\xff"),
    "duration": (b"9" * 310 + b"s", b"9" * 4301 + b"w", b"9" * 400 + b"d 00:00:00", b"9" * 65_000, b""),
    "address": (b"192.0.2.2/" + b"9" * 4301, b"192.0.2.2:" + b"9" * 4301, b"1." * 30_000, b"caf\xe9.example", b""),
    "id": (b"*" + b"F" * 5000, b"*1," * 4000 + b"*2", b"1," * 3000, b"", b"*1\x00"),
    "text": (
        *(b"7." + b"9" * 5000, "\u00fc".encode() * 2000, b"x" * 65_000, b"", b"a\nb", b"a\r\nERROR forged", b"\x00"),
        *(b"\x1b[2J", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"caf\xe9", b"\xf8\x88\x80\x80\x80", b"\xff" * 16_000),
    ),
}
FORMS = (
    ("number", re.compile(rb"[0-9]+")),
    ("duration", re.compile(rb"[0-9:a-z]*[0-9][wdhms]|[0-9:]+")),
    ("address", re.compile(rb"[0-9]+[.][0-9.:/]+")),
    ("id", re.compile(rb"[*][0-9A-F]+")),
    ("text", re.compile(rb"(?s:.*)")),
)


def _values() -> dict[str, list[bytes]]:
    """reply_values.txt: "KIND VALUE", a line each."""
    found = {kind: list(values) for kind, values in LONG.items()}
    for line in (Path(__file__).parent / "reply_values.txt").read_text(encoding="utf-8").splitlines():
        kind, _, value = line.partition(" ")
        found[kind].append(value.encode())
    return found


VALUES = _values()
EVERY_VALUE = [value for values in VALUES.values() for value in values]
REPLY_WORDS = (*b"!re !done !trap !fatal !empty !what ! re done !RE /login".split(), b"!re ")
TAGS = (*b".tag= .tag .tag=0 .tag=1 .tag=2 .tag=99 .tag=-1 .section=1".split(), b".tag=" + b"7" * 5000)
ODD = (*b"= == =x ==x x=y ?x=y .x . =.id =.dead=yes =ret=*1 =ret".split(), b"\xff", b"\x00")


class Raw(bytes):
    """A word with the length in front that it is to be sent with, true or not."""


def mutated(rng: random.Random, reply: Reply, others: Sequence[Reply]) -> bytes:
    """One reply, changed once or several times; ``others`` are replies that parts are taken from."""
    changed = [list(sentence) for sentence in reply]
    level = rng.random()
    if level < 0.75:
        for _ in range(rng.choice((1, 1, 1, 2, 4, 9))):
            rng.choice(WORD_LEVEL)(rng, changed)
    if level > 0.94:
        at = rng.randrange(len(changed) + 1)
        changed[at:at] = [list(sentence) for sentence in rng.choice(others)]
    if 0.7 < level < 0.84:
        _length(rng, changed)
    if rng.random() < 0.003:
        rng.choice(FLOODS)(rng, changed)
    raw = encoded(changed)
    return _bytes(rng, raw) if level > 0.78 else raw


def encoded(reply: Reply) -> bytes:
    """As it goes over the wire."""
    return b"".join(b"".join(map(_word, sentence)) + b"\0" for sentence in reply)


def prefix(length: int, size: int | None = None) -> bytes:
    """A length in the form of ``size`` bytes, the shortest that holds it by default; what does not fit is cut off."""
    if size is None:
        size = 1 + sum(length >= limit for limit in (0x80, 0x4000, 0x200000, 0x10000000))
    lead = (0, 0x8000, 0xC00000, 0xE0000000, 0xF000000000)[size - 1]
    room = (0x7F, 0x3FFF, 0x1FFFFF, 0xFFFFFFF, 0xFFFFFFFF)[size - 1]
    return (lead | length & room).to_bytes(size, "big")


def _word(word: bytes) -> bytes:
    return bytes(word) if isinstance(word, Raw) else prefix(len(word)) + word


# --- words -----------------------------------------------------------------------------------------------------------


def _place(rng: random.Random, reply: Reply) -> tuple[list[bytes], int]:
    """A sentence and the number of one of its words; of an attribute rather than of the reply word."""
    sentence = rng.choice(reply) if reply else []
    if not sentence:
        return [b"!re"], 0
    return sentence, rng.randrange(1 if len(sentence) > 1 and rng.random() < 0.9 else 0, len(sentence))


def _value(rng: random.Random, reply: Reply) -> None:
    sentence, at = _place(rng, reply)
    name, equals, value = sentence[at][1:].partition(b"=")
    value = _worse(rng, value)
    sentence[at] = sentence[at][:1] + name + b"=" + value if equals else value


def _worse(rng: random.Random, value: bytes) -> bytes:
    """Another value: mostly one that is nearly right, for the others are refused where they are looked at first."""
    if rng.random() < 0.25:
        return rng.choice(EVERY_VALUE)
    address, colon, port = value.partition(b":")
    if colon and b"." in address:
        parts = (address, rng.choice(VALUES["number"])) if rng.random() < 0.7 else (rng.choice(VALUES["address"]), port)
        return b":".join(parts)
    return rng.choice(VALUES[next(kind for kind, form in FORMS if form.fullmatch(value))])


def _borrowed(rng: random.Random, reply: Reply) -> None:
    """One attribute has another one's value."""
    sentence, at = _place(rng, reply)
    other, there = _place(rng, reply)
    sentence[at] = sentence[at][:1] + sentence[at][1:].partition(b"=")[0] + b"=" + other[there][1:].partition(b"=")[2]


def _missing(rng: random.Random, reply: Reply) -> None:
    sentence, at = _place(rng, reply)
    del sentence[at]


def _doubled(rng: random.Random, reply: Reply) -> None:
    """The same word again, or the same name with another value."""
    sentence, at = _place(rng, reply)
    again = sentence[at]
    if rng.random() < 0.5:
        again = again[:1] + again[1:].partition(b"=")[0] + b"=" + rng.choice(EVERY_VALUE)
    at = rng.randrange(len(sentence) + 1)
    sentence[at:at] = [again] * rng.choice((1, 1, 1, 40))


def _swapped(rng: random.Random, reply: Reply) -> None:
    sentence, at = _place(rng, reply)
    other, there = _place(rng, reply)
    sentence[at], other[there] = other[there], sentence[at]


def _odd(rng: random.Random, reply: Reply) -> None:
    sentence, at = _place(rng, reply)
    sentence[at : at + rng.randint(0, 1)] = [rng.choice(ODD)]


def _tagged(rng: random.Random, reply: Reply) -> None:
    """A tag that is nobody's, somebody else's, missing, or none."""
    sentence, _ = _place(rng, reply)
    if rng.random() < 0.5:
        sentence[:] = [word for word in sentence if not word.startswith(b".tag")]
    if sentence and rng.random() < 0.8:
        sentence.insert(rng.randrange(1, len(sentence) + 1), rng.choice(TAGS))


def _kind(rng: random.Random, reply: Reply) -> None:
    sentence, _ = _place(rng, reply)
    sentence[:1] = [rng.choice(REPLY_WORDS)]


def _renamed(rng: random.Random, reply: Reply) -> None:
    sentence, at = _place(rng, reply)
    name, equals, value = sentence[at][1:].partition(b"=")
    new = rng.choice((name.upper(), name[:-1], name + b"x", b"", b"n" * 3000, b"%08x" % rng.getrandbits(32)))
    sentence[at] = sentence[at][:1] + new + equals + value


def _sentence(rng: random.Random, reply: Reply) -> None:
    """A sentence is missing, doubled, empty, without its attributes, or somewhere else."""
    at = rng.randrange(len(reply)) if reply else 0
    kind = rng.randrange(6)
    if kind == 0:
        del reply[at : at + rng.choice((1, 1, 9))]
    elif kind == 1:
        reply[at:at] = [list(one) for one in reply[at : at + 1]] * rng.choice((1, 1, 2, 30))
    elif kind == 2:
        reply.insert(at, [])
    elif kind == 3:
        reply.insert(at, [rng.choice(REPLY_WORDS)])
    elif kind == 4 and reply:
        del reply[at][1:]
    else:
        rng.shuffle(reply)


WORD_LEVEL: tuple[Mutation, ...] = (
    *(
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _value,
        _borrowed,
        _missing,
        _missing,
        _doubled,
        _swapped,
    ),
    *(_odd, _tagged, _kind, _renamed, _sentence, _sentence),
)


# --- lengths ---------------------------------------------------------------------------------------------------------


def _length(rng: random.Random, reply: Reply) -> None:
    """A word's length in a longer form than it needs, off by a little, absurd, or a byte that begins none."""
    sentence, at = _place(rng, reply)
    word, kind = bytes(sentence[at]), rng.randrange(5)
    if kind == 0:
        front = prefix(len(word), rng.randint(1, 5))
    elif kind == 1:
        front = prefix(max(0, len(word) + rng.choice((-2, -1, 1, 2, 7))), rng.choice((None, None, 2, 5)))
    elif kind == 2:
        front = prefix(rng.choice(LENGTHS))
    elif kind == 3:
        front = bytes([rng.randrange(0xF0, 0x100)]) + rng.randbytes(rng.randrange(5))
    else:
        word = b"=x=" + b"x" * rng.choice((65_532, 65_533, 65_534, 70_000))  # around the longest that is allowed
        front = prefix(len(word))
    sentence[at] = Raw(front + word)


# --- floods: each costs milliseconds, so there are few of them -------------------------------------------------------


def _rows(rng: random.Random, reply: Reply) -> None:
    """More rows than any reply may have, or just as many, each with an id of its own."""
    rows = [one for one in reply if one[:1] == [b"!re"]] or [[b"!re", b"=.id=*1"]]
    base = rng.choice(rows)
    for number in range(rng.choice((300, 2000, 4990, 5001))):
        reply.insert(0, [b"=.id=*%X" % number if word.startswith(b"=.id=") else word for word in base])


def _names(rng: random.Random, reply: Reply) -> None:
    """Thousands of names that never come again."""
    salt = rng.getrandbits(32)
    reply.insert(0, [b"!re", *(b"=%08x%d=1" % (salt, number) for number in range(rng.choice((2000, 20_000, 41_000))))])


def _weight(rng: random.Random, reply: Reply) -> None:
    """Words as long as is allowed, until the reply is not allowed any more."""
    reply[0:0] = [[b"!re", b"=x=" + b"x" * 60_000] for _ in range(rng.choice((5, 16, 20)))]


def _nothing(rng: random.Random, reply: Reply) -> None:
    """Sentences that say nothing, many of them."""
    reply[0:0] = [[rng.choice((b"!empty", b"!re", b"!trap"))] for _ in range(rng.choice((500, 30_000)))]


FLOODS: tuple[Mutation, ...] = (_rows, _rows, _names, _weight, _nothing)


# --- bytes -----------------------------------------------------------------------------------------------------------


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    """Flipped, cut out, put in, repeated, or cut off."""
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        size = rng.choice((1, 1, 2, 5, 40))
        kind = rng.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = rng.randbytes(size)
        elif kind == 4:
            changed[at:at] = changed[at : at + size] * rng.choice((1, 1, 30))
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)
