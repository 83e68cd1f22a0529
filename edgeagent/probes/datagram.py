"""What every probe by datagram shares: a socket bound to one source address, and the probes not answered yet."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from edgeagent.probes.errors import ProbeNotSent, ProbeUnavailable

_READ_AT_ONCE = 64  # datagrams per wake-up: a flood of forged answers must leave the loop its turn

Peer = tuple[str, int]
What = TypeVar("What")


class BoundSocket:
    """A non-blocking datagram socket of one source address; `take(packet, sender)` is called for each arrival."""

    def __init__(self, source: str, protocol: int, packet_bytes_max: int, take: Callable[[bytes, Peer], None]) -> None:
        self.source = source
        self._protocol = protocol
        self._packet_bytes_max = packet_bytes_max
        self._take = take
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Open and bind, inside a running loop. Raises ProbeUnavailable or PermissionError; may be tried again."""
        self.close()
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, self._protocol)
        try:
            opened.bind((self.source, 0))
        except OSError as error:
            opened.close()
            raise ProbeUnavailable(
                error.errno,
                f"cannot send from {self.source} ({error.strerror}); is the alias address set on this machine?",
            ) from error
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened, self._read)

    def send(self, packet: bytes, target: Peer) -> None:
        """Hand one datagram to the kernel. Raises ProbeNotSent: it did not leave, so it is no loss."""
        try:
            self._opened().sendto(packet, target)
        except ProbeNotSent:
            raise
        except OSError as error:
            raise ProbeNotSent.from_os(error, f"{self.source} to {target[0]}") from error

    def port(self) -> int:
        """The local port; raises ProbeNotSent where the socket is not open."""
        port: int = self._opened().getsockname()[1]
        return port

    def close(self) -> None:
        """Stop; answers still on their way are not delivered."""
        if self._socket is not None:
            with suppress(RuntimeError):  # no loop is running any more
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise ProbeNotSent("closed", f"the prober of {self.source} is not open")
        return self._socket

    def _read(self) -> None:
        for _ in range(_READ_AT_ONCE):
            if self._socket is None:  # a callback closed us
                return
            try:
                packet, sender = self._socket.recvfrom(self._packet_bytes_max)
            except OSError:  # nothing more to read, or an ICMP error about an earlier probe, which is simply lost
                return
            self._take(packet, sender)


class Unanswered(Generic[What]):
    """Probes that may still be answered, by their secret, oldest first; at most `most`, each for `late_s` seconds."""

    def __init__(self, most: int, late_s: float, now: Callable[[], float]) -> None:
        self._most = most
        self._late_s = late_s
        self._now = now
        self._waiting: dict[bytes, tuple[float, What]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def make_room(self) -> None:
        """Forget what is too old to be answered; raises ProbeNotSent where it is still crowded."""
        too_old_s = self._now() - self._late_s
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0] >= too_old_s:
                break
            del self._waiting[oldest]
        if len(self._waiting) >= self._most:
            raise ProbeNotSent("crowded", f"{self._most} probes wait for an answer already")

    def add(self, secret: bytes, what: What, sent_s: float) -> None:
        """A probe left."""
        self._waiting[secret] = (sent_s, what)

    def get(self, secret: bytes) -> tuple[float, What] | None:
        """When and what was sent with this secret; None where nothing was, or too long ago."""
        found = self._waiting.get(secret)
        return None if found is None or self._now() - found[0] > self._late_s else found

    def answered(self, secret: bytes) -> None:
        """No further answer to this one counts."""
        self._waiting.pop(secret, None)

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
