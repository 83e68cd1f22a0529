"""Words and sentences of the RouterOS API on the wire.

A word is a length followed by that many bytes; a sentence is words up to a word of length zero. The length takes one of
five forms, big endian (MikroTik manual, "API", "Protocol"):

======================  =========================
length                  bytes on the wire
======================  =========================
below 0x80              the byte itself
below 0x4000            2 bytes, top bits 10
below 0x200000          3 bytes, top bits 110
below 0x10000000        4 bytes, top bits 1110
any other               0xF0 and 4 bytes
======================  =========================

First bytes of 0xF8 and above are reserved; a receiver that meets one cannot find its place again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

WORD_BYTES_MAX: Final = 64 * 1024
SENTENCE_BYTES_MAX: Final = 1024 * 1024


class WireError(Exception):
    """The peer sent bytes that no further reading can make sense of."""


@dataclass(frozen=True)
class Sentence:
    """One sentence as received; ``first_byte_s`` is the monotonic time at which its first byte was read."""

    words: tuple[bytes, ...]
    first_byte_s: float


def encode_length(length: int) -> bytes:
    """The length prefix of a word of ``length`` bytes."""
    if length < 0x80:
        return length.to_bytes(1, "big")
    if length < 0x4000:
        return (length | 0x8000).to_bytes(2, "big")
    if length < 0x200000:
        return (length | 0xC00000).to_bytes(3, "big")
    if length < 0x10000000:
        return (length | 0xE0000000).to_bytes(4, "big")
    if length <= 0xFFFFFFFF:
        return b"\xf0" + length.to_bytes(4, "big")
    raise ValueError(f"a word of {length} bytes has no length prefix; the longest is 4294967295 bytes")


def encode_word(word: bytes) -> bytes:
    """One word with its length prefix."""
    return encode_length(len(word)) + word


def encode_sentence(words: Iterable[bytes]) -> bytes:
    """The words and the empty word that ends the sentence."""
    return b"".join(encode_word(word) for word in words) + b"\x00"


def decode_length(data: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Read a length prefix at ``start``: (length, bytes it took), or None while some of it is still to come."""
    if start >= len(data):
        return None
    first = data[start]
    if first >= 0xF8:
        raise WireError(f"length prefix starts with the reserved byte 0x{first:02X}; expected one below 0xF8")
    extra = 0 if first < 0x80 else 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if start + 1 + extra > len(data):
        return None
    mask = (0x7F, 0x3F, 0x1F, 0x0F, 0x00)[extra]
    length = int.from_bytes(bytes((first & mask,)) + data[start + 1 : start + 1 + extra], "big")
    return length, 1 + extra


class Decoder:
    """Turns bytes, however they are cut into reads, into sentences. Empty sentences are ignored, as the router does."""

    def __init__(self, word_bytes_max: int = WORD_BYTES_MAX, sentence_bytes_max: int = SENTENCE_BYTES_MAX) -> None:
        self._word_bytes_max = word_bytes_max
        self._sentence_bytes_max = sentence_bytes_max
        self._buffer = bytearray()
        self._words: list[bytes] = []
        self._sentence_bytes = 0
        self._first_byte_s: float | None = None

    def feed(self, data: bytes, now_s: float) -> list[Sentence]:
        """Take bytes read at ``now_s`` (monotonic seconds) and return the sentences they completed."""
        self._buffer += data
        sentences: list[Sentence] = []
        position = 0
        while position < len(self._buffer):
            if self._first_byte_s is None:
                self._first_byte_s = now_s
            taken = self._take_word(position)
            if taken is None:
                break
            word, position = taken
            if word:
                self._words.append(word)
                continue
            if self._words:
                sentences.append(Sentence(tuple(self._words), self._first_byte_s))
            self._words, self._sentence_bytes, self._first_byte_s = [], 0, None
        del self._buffer[:position]
        return sentences

    def _take_word(self, position: int) -> tuple[bytes, int] | None:
        """The word at ``position`` and the position after it, or None while some of it is still to come."""
        prefix = decode_length(self._buffer, position)
        if prefix is None:
            return None
        length, prefix_bytes = prefix
        if length > self._word_bytes_max:
            raise WireError(f"word of {length} bytes; this router takes words of up to {self._word_bytes_max} bytes")
        if self._sentence_bytes + length > self._sentence_bytes_max:
            raise WireError(f"sentence longer than {self._sentence_bytes_max} bytes")
        start, end = position + prefix_bytes, position + prefix_bytes + length
        if end > len(self._buffer):
            return None
        self._sentence_bytes += length
        return bytes(self._buffer[start:end]), end
