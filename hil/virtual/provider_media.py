"""The provider's media relay: rtpengine in user space, and its own counters of each call.

Endpoint learning is rtpengine's default ("delayed"): it takes the source of the first packets as the phone's address
and keeps to it, as hosted providers do.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hil.virtual import addresses
from hil.virtual.provider_programs import Program, ProgramError, Spawn, wait_until

_CONTROL: Final = ("127.0.0.1", 2223)
_ANSWER_S: Final = 10.0


@dataclass(frozen=True)
class MediaLeg:
    """What rtpengine has received from, and where it sends to, one side of a call."""

    tag: str
    """SIP tag of the side."""
    address: str
    """Where it sends this side's audio; after learning, the side's address behind its NAT."""
    port: int
    relay_port: int
    """The SBC's own port of this side."""
    packets: int
    """RTP packets received from this side so far."""
    bytes: int
    """The same in bytes of UDP payload."""


@dataclass(frozen=True)
class MediaCall:
    """One call in the relay."""

    call_id: str
    legs: tuple[MediaLeg, ...]


class MediaRelay:
    """rtpengine in role "prov" on the SBC's address."""

    def __init__(self, spawn: Spawn, folder: Path) -> None:
        self.program = Program("rtpengine", spawn, folder)
        self._cookie = 0

    async def start(self) -> None:
        """Start; returns when its control port answers."""
        low, high = addresses.RELAY_PORTS
        options = [
            "--table=-1",  # no kernel module: packets go through the process
            "--foreground",
            "--log-stderr",
            "--log-level=5",
            "--num-threads=2",
            "--media-num-threads=1",
            "--delete-delay=0",  # a call is gone from its list at the BYE, not 30 s later
            f"--interface={addresses.SBC}",
            "--listen-ng={}:{}".format(*_CONTROL),
            f"--port-min={low}",
            f"--port-max={high}",
        ]
        await self.program.start("prov", ["rtpengine", *options])
        await wait_until(self._answers, "rtpengine's control port")

    async def stop(self) -> None:
        """End it; calls lose their audio at once."""
        await self.program.stop()

    def calls(self) -> list[MediaCall]:
        """Every call with rtpengine's own packet counters."""
        listed = self._ask({"command": "list", "limit": 1000})["calls"]
        found = []
        for call_id in listed:
            answer = self._ask({"command": "query", "call-id": call_id})
            if answer.get("result") == "ok":  # the call may have ended between the two questions
                found.append(MediaCall(call_id, tuple(_legs(answer))))
        return found

    def _answers(self) -> bool:
        if not self.program.running:
            raise ProgramError(f"rtpengine ended with code {self.program.exit_code}; see its log")
        try:
            return bool(self._ask({"command": "ping"})["result"] == "pong")
        except ProgramError:
            return False

    def _ask(self, request: dict[str, Any]) -> Any:
        """One exchange of the ng protocol: a cookie, a blank, a bencoded dictionary, over UDP."""
        self._cookie += 1
        cookie = str(self._cookie).encode()
        with self.program.in_namespace(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(_ANSWER_S)
            try:
                client.connect(_CONTROL)
                client.send(cookie + b" " + bencode(request))
                answer = client.recv(1 << 16)
            except OSError as error:
                raise ProgramError(f"rtpengine does not answer {request['command']}: {error}") from error
        return bdecode(answer.partition(b" ")[2])


def bencode(value: Any) -> bytes:
    """A value of dict, list, str and int in the encoding of the ng protocol (BEP 3)."""
    if isinstance(value, dict):
        return b"d" + b"".join(bencode(key) + bencode(item) for key, item in value.items()) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(bencode(item) for item in value) + b"e"
    if isinstance(value, int):
        return b"i%de" % value
    text = str(value).encode()
    return b"%d:" % len(text) + text


def bdecode(data: bytes) -> Any:
    """The value at the start of ``data``."""
    return _bdecode(data, 0)[0]


def _bdecode(data: bytes, at: int) -> tuple[Any, int]:
    """(value, offset after it)."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _bdecode(data, at)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        return dict(zip(items[::2], items[1::2], strict=True)), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end].decode("utf-8", "replace"), end


def _legs(answer: dict[str, Any]) -> list[MediaLeg]:
    """The RTP streams of a query's answer; RTCP is left out."""
    legs = []
    for tag, side in answer["tags"].items():
        for media in side.get("medias", []):
            for stream in media.get("streams", []):
                if "RTP" not in stream.get("flags", []):
                    continue
                endpoint = stream.get("endpoint", {})
                legs.append(
                    MediaLeg(
                        tag=tag,
                        address=str(endpoint.get("address", "")),
                        port=int(endpoint.get("port", 0)),
                        relay_port=int(stream["local port"]),
                        packets=int(stream["stats"]["packets"]),
                        bytes=int(stream["stats"]["bytes"]),
                    )
                )
    return legs
