"""The codec against vectors written by hand from the manual's table, and against itself under any cut of the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.virtual.routeros.wire import (
    Decoder,
    WireError,
    decode_length,
    encode_length,
    encode_sentence,
)

LENGTHS = [
    (0x00, "00"),
    (0x01, "01"),
    (0x7F, "7f"),
    (0x80, "8080"),
    (0x3FFF, "bfff"),
    (0x4000, "c04000"),
    (0x1FFFFF, "dfffff"),
    (0x200000, "e0200000"),
    (0x0FFFFFFF, "efffffff"),
    (0x10000000, "f010000000"),
    (0xFFFFFFFF, "f0ffffffff"),
]


@pytest.mark.parametrize(("length", "wire"), LENGTHS)
def test_length_takes_the_form_the_manual_gives(length: int, wire: str) -> None:
    assert encode_length(length).hex() == wire
    assert decode_length(bytes.fromhex(wire)) == (length, len(wire) // 2)


@pytest.mark.parametrize(("length", "wire"), LENGTHS[3:])
def test_cut_length_waits_for_the_rest(length: int, wire: str) -> None:
    assert decode_length(bytes.fromhex(wire)[:-1]) is None


@pytest.mark.parametrize("first", [0xF8, 0xF9, 0xFE, 0xFF])
def test_reserved_first_byte_is_refused(first: int) -> None:
    with pytest.raises(WireError, match=f"0x{first:X}"):
        Decoder().feed(bytes([first]), 0.0)


def test_word_too_long_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(WireError, match="65537 bytes"):
        Decoder().feed(encode_length(65537), 0.0)
    assert Decoder().feed(encode_sentence([b"x" * 65536]), 0.0)


def test_sentence_too_long_is_refused() -> None:
    decoder = Decoder()
    with pytest.raises(WireError, match="sentence longer"):
        for _ in range(17):
            decoder.feed(encode_length(65536) + b"x" * 65536, 0.0)


def test_sentence_is_words_and_an_empty_word() -> None:
    assert encode_sentence([b"/login", b"=name=a"]) == b"\x06/login\x07=name=a\x00"


def test_empty_sentences_are_ignored() -> None:
    assert [s.words for s in Decoder().feed(b"\x00\x00\x05/quit\x00\x00", 1.0)] == [(b"/quit",)]


def test_sentence_carries_the_time_of_its_first_byte_and_not_of_its_last() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\x00\x05/q", 1.0) == []
    assert decoder.feed(b"uit", 2.0) == []
    first, second = decoder.feed(b"\x00\x05/quit\x00\x05", 3.0)
    assert (first.first_byte_s, second.first_byte_s) == (1.0, 3.0)
    assert decoder.feed(b"/quit\x00", 4.0)[0].first_byte_s == 3.0


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), max_size=5),
    st.integers(min_value=1, max_value=50),
)
def test_any_sentences_survive_any_cut(sentences: list[list[bytes]], step: int) -> None:
    stream = b"".join(encode_sentence(words) for words in sentences)
    decoder = Decoder()
    received = [s for at in range(0, len(stream), step) for s in decoder.feed(stream[at : at + step], float(at))]
    assert [list(sentence.words) for sentence in received] == sentences


@given(st.integers(min_value=0, max_value=0xFFFFFFFF))
def test_any_length_survives(length: int) -> None:
    wire = encode_length(length)
    assert decode_length(wire) == (length, len(wire))
