"""ICMP echo from the router: ``/ping``, check-gateway and netwatch."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from hil.virtual.routeros.kernel_values import duration_s, rtt_text
from hil.virtual.routeros.plane import Row, Trap

_HEADERS_BYTES: Final = 28  # IP and ICMP header: RouterOS counts both in ``size``
_ECHO: Final = 8
_ECHO_REPLY: Final = 0
_ANSWER_S: Final = 1.0  # how long /ping waits for one answer
_IDENTITIES: Final = itertools.count(os.getpid())


@dataclass(frozen=True)
class Answer:
    """What came of one echo. ``rtt_s`` is None without an answer; ``error`` says why it could not even be sent."""

    rtt_s: float | None
    ttl: int = 0
    error: str = ""


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Echo:
    """One raw ICMP socket with an identity of its own."""

    def __init__(self, device: str = "", source: str = "", mark: int = 0, ttl: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        try:
            self._prepare(device, source, mark, ttl)
        except OSError as error:
            self._socket.close()
            raise Trap(f"cannot ping from here: {error.strerror}") from error
        self._identity = next(_IDENTITIES) & 0xFFFF
        self._waiting: dict[int, tuple[float, asyncio.Future[Answer]]] = {}
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def _prepare(self, device: str, source: str, mark: int, ttl: int) -> None:
        self._socket.setblocking(False)
        # Only echo replies (ICMP_FILTER, linux/icmp.h): each raw socket would get a copy of everything else.
        self._socket.setsockopt(socket.SOL_RAW if hasattr(socket, "SOL_RAW") else 255, 1, struct.pack("=I", 0xFFFFFFFE))
        if device:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if mark:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if ttl:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        if source:
            self._socket.bind((source, 0))

    def close(self) -> None:
        """Give the socket back."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def send(self, host: str, sequence: int, timeout_s: float, size_bytes: int = 56) -> Answer:
        """One echo and its answer."""
        body = bytes(max(0, size_bytes - _HEADERS_BYTES))
        body += bytes(len(body) % 2)
        sequence &= 0xFFFF
        head = struct.pack("!BBHHH", _ECHO, 0, 0, self._identity, sequence)
        packet = struct.pack("!BBHHH", _ECHO, 0, _checksum(head + body), self._identity, sequence) + body
        heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = (time.monotonic(), heard)
        try:
            self._socket.sendto(packet[: max(8, size_bytes - 20)], (host, 0))
            return await asyncio.wait_for(heard, timeout_s)
        except TimeoutError:
            return Answer(None)
        except OSError as error:
            return Answer(None, error=error.strerror or "no route to host")
        finally:
            self._waiting.pop(sequence, None)

    def _receive(self) -> None:
        while True:
            try:
                data = self._socket.recv(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier echo: its timeout will tell
            header = (data[0] & 0xF) * 4
            kind, _code, _sum, identity, sequence = struct.unpack_from("!BBHHH", data, header)
            waiting = self._waiting.get(sequence)
            if kind == _ECHO_REPLY and identity == self._identity and waiting is not None:
                sent_at, heard = waiting
                if not heard.done():
                    heard.set_result(Answer(time.monotonic() - sent_at, ttl=data[8]))


async def ping_rows(arguments: Mapping[str, str], version: str, tables: Mapping[str, int]) -> AsyncIterator[Row]:
    """The rows of ``/ping``. ``tables``: routing table -> routing mark, for v6's ``routing-table``."""
    host = arguments.get("address", "")
    try:
        socket.inet_aton(host)
    except OSError:
        raise Trap("invalid value for argument address", 1) from None
    table = arguments.get("routing-table") or arguments.get("vrf") or "main"
    if table != "main" and table not in tables:
        raise Trap(f"input does not match any value of {'vrf' if 'vrf' in arguments else 'routing-table'}", 1)
    count = int(arguments.get("count") or 0)
    interval_s = duration_s(arguments.get("interval", ""), 1.0)
    size = int(arguments.get("size") or 56)
    echo = Echo(
        arguments.get("interface", ""), arguments.get("src-address", ""), tables.get(table, 0),
        int(arguments.get("ttl") or 0),
    )  # fmt: skip
    rtts: list[float] = []
    try:
        for sequence in itertools.count() if count == 0 else range(count):
            started = time.monotonic()
            answer = await echo.send(host, sequence, _ANSWER_S, size)
            if answer.rtt_s is not None:
                rtts.append(answer.rtt_s)
            yield _ping_row(host, sequence, size, answer, rtts, version)
            if sequence + 1 != count:
                await asyncio.sleep(max(0.0, started + interval_s - time.monotonic()))
    finally:
        echo.close()


def _ping_row(host: str, sequence: int, size: int, answer: Answer, rtts: list[float], version: str) -> Row:
    row: Row = {"seq": str(sequence), "host": host}
    if answer.rtt_s is not None:
        row |= {"size": str(size), "ttl": str(answer.ttl), "time": rtt_text(answer.rtt_s, version)}
    else:
        row["status"] = "no route to host" if answer.error else "timeout"
    sent = sequence + 1
    row |= {"sent": str(sent), "received": str(len(rtts)), "packet-loss": str(round(100 * (sent - len(rtts)) / sent))}
    if rtts:
        row |= {
            "min-rtt": rtt_text(min(rtts), version),
            "avg-rtt": rtt_text(sum(rtts) / len(rtts), version),
            "max-rtt": rtt_text(max(rtts), version),
        }
    return row
