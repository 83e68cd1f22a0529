"""A recording of one link: every frame that came to it from either side, whatever the line then did with it.

Two files in the format of libpcap (draft-ietf-opsawg-pcap), so that Wireshark opens them too: ``PATH.up`` from the
site, ``PATH.down`` from the carrier. Times are the bench's clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FRAME_BYTES_MAX: Final = 4096
_HEADER: Final = struct.Struct("=IHHiIII")
_RECORD: Final = struct.Struct("=IIII")
_MAGIC_NANO, _ETHERNET = 0xA1B23C4D, 1
_BUFFER_BYTES: Final = 1 << 18


class Tape:
    """One direction's recording."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._file.write(_HEADER.pack(_MAGIC_NANO, 2, 4, 0, 0, FRAME_BYTES_MAX, _ETHERNET))

    def take(self, frame: bytes, now: float) -> None:
        """One frame."""
        whole = int(now)
        self._file.write(_RECORD.pack(whole, int((now - whole) * 1e9), len(frame), len(frame)))
        self._file.write(frame)

    def flush(self) -> None:
        """Let readers see all of it."""
        self._file.flush()

    def close(self) -> None:
        """The recording is over."""
        self._file.close()


def frames(path: Path) -> Iterator[tuple[float, bytes]]:
    """The frames of a recording with their times, s. ValueError where it is none, or is cut off."""
    data = path.read_bytes()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC_NANO:
        raise ValueError(f"{path} is no recording of the emulator")
    at = _HEADER.size
    while at < len(data):
        seconds, nanoseconds, length, _ = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise ValueError(f"{path} is cut off")
        yield seconds + nanoseconds / 1e9, data[at : at + length]
        at += length
