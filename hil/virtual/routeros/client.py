"""A few lines of API client for the bench itself: one user's session, commands one after the other."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.wire import Decoder, encode_sentence

TIMEOUT_S = 60.0  # a guard: the bench waits for a router of its own


class ApiClient:
    """Logs in over the plain API and sends commands; blocking, for use in a thread or a short story step."""

    def __init__(self, connect: Callable[[], socket.socket], user: str, password: str) -> None:
        self._socket = connect()
        self._socket.settimeout(TIMEOUT_S)
        self._decoder = Decoder()
        self._pending: list[list[str]] = []
        self.command("/login", f"=name={user}", f"=password={password}")

    def command(self, *words: str) -> list[Row]:
        """Send one command, return its rows; raises ConnectionError when refused or cut off."""
        self._socket.sendall(encode_sentence(word.encode() for word in words))
        rows: list[Row] = []
        while True:
            reply = self._sentence()
            attributes = dict(word[1:].split("=", 1) for word in reply[1:] if word.startswith("="))
            if reply[0] == "!re":
                rows.append(attributes)
            elif reply[0] == "!done":
                return rows
            elif reply[0] != "!empty":
                raise ConnectionError(f"{words[0]}: {reply[0]} {attributes.get('message', reply[1:])}")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _sentence(self) -> list[str]:
        while not self._pending:
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the router closed the connection")
            found = self._decoder.feed(received, time.monotonic())
            self._pending += [[word.decode() for word in sentence.words] for sentence in found]
        return self._pending.pop(0)
