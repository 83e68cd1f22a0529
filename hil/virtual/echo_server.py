"""Hosts that give back what they get: run in a namespace, on addresses and ports named as arguments.

``udp:ADDRESS:PORT`` and ``tcp:ADDRESS:PORT`` echo; ``sink:ADDRESS:PORT`` takes datagrams and never answers. A line
"ready" on standard output says that all of them listen.
"""

from __future__ import annotations

import asyncio
import functools
import sys


class Echo(asyncio.DatagramProtocol):
    """Datagrams back to where they came from; with ``silent`` none."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """The socket is there."""
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """One of them."""
        if self.transport is not None and not self.silent:
            self.transport.sendto(data, address)


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the other end is gone
    finally:
        writer.close()


async def run(places: list[str]) -> None:
    """Listen at all of them, for ever."""
    loop = asyncio.get_running_loop()
    for place in places:
        kind, address, port = place.split(":")
        if kind == "tcp":
            await asyncio.start_server(_stream, address, int(port))
        else:
            make = functools.partial(Echo, silent=kind == "sink")
            await loop.create_datagram_endpoint(make, (address, int(port)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1:]))
