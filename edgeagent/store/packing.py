"""Long values are stored compressed: what is written is what wears a card out (design: at most 15 MB a day).

Journal lines and states are JSON of much repetition; they shrink to about a quarter.
"""

import zlib

PACK_OVER_BYTES = 300
_ZLIB = b"x"  # the first byte of a zlib stream (RFC 1950: deflate, window of 32 KiB); no JSON text begins with it


def pack(value: bytes) -> bytes:
    """As it is stored: long values compressed, and those that would otherwise be taken for compressed ones."""
    return zlib.compress(value) if len(value) > PACK_OVER_BYTES or value.startswith(_ZLIB) else value


def sealed(value: bytes) -> bytes:
    """Compressed, however short: such a one bears its checksum (Adler-32, RFC 1950), which SQLite's pages do not."""
    return zlib.compress(value)


def unpack(value: bytes, most_bytes: int = 0) -> bytes:
    """As it was, or its first ``most_bytes`` bytes. Raises zlib.error for a damaged one."""
    if not value.startswith(_ZLIB):
        return value
    return zlib.decompressobj().decompress(value, most_bytes) if most_bytes else zlib.decompress(value)
