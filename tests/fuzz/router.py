"""The router's end of a fuzzed conversation: recorded replies, one of them mutated, over a real socket.

replies.txt holds what a router says to each command that the agent sends: "> COMMAND", then a sentence a line, words
two blanks apart. Where a command has several replies, one is chosen.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hil.virtual.routeros.wire import Decoder
from tests.fuzz.reply_mutator import Reply, encoded, mutated

PATIENCE = 12  # turns of the event loop; whoever has nothing to say after so many waits for something
ROUNDS_MAX = 2
IDS = re.compile(r"=\.id=\*[0-9A-F]{1,16}(,\*[0-9A-F]{1,16})*")


def _recorded() -> dict[str, list[Reply]]:
    found: dict[str, list[Reply]] = {}
    for block in (Path(__file__).parent / "replies.txt").read_text(encoding="utf-8").split("> ")[1:]:
        command, *lines = block.splitlines()
        sentences = [[_bytes(word) for word in line.split("  ")] for line in lines]
        found.setdefault(command, []).append(sentences)
    return found


def _bytes(word: str) -> bytes:
    r"""``\xNN`` stands for a byte that is no UTF-8."""
    return word.encode().decode("unicode_escape").encode("latin-1")


RECORDED = _recorded()
EVERY = [reply for replies in RECORDED.values() for reply in replies]


class Peer:
    """Answers until ``over``; its reply number ``at`` is mutated, with ``rest`` all later ones too.

    At the end it hangs up, or, with ``hold``, falls silent and leaves it to the agent's deadline to notice. ``stir``
    gives the agent a reason to speak. ``strange``: what the agent said that it must never say.
    """

    def __init__(self, far: socket.socket, rng: random.Random, at: int, *, rest: bool, hold: bool) -> None:
        self.far, self.rng, self.at, self.rest, self.hold = far, rng, at, rest, hold
        self.stir: Callable[[], None] = lambda: None
        self.recorded = RECORDED
        self.strange = ""
        self.replies = 0
        self.rounds = 0
        self.decoder = Decoder()
        far.setblocking(False)

    async def serve(self, over: asyncio.Future[Any]) -> None:
        """Returns when the conversation is over, or only the agent can end it."""
        idle = 0
        while not over.done():
            heard = self._heard()
            if heard is None:
                return
            if heard:
                idle = 0
                await self._answer(heard)
            elif idle < PATIENCE:
                idle += 1
                await asyncio.sleep(0)
            elif await self._end(over):
                return
            else:
                idle = 0

    async def _end(self, over: asyncio.Future[Any]) -> bool:
        """Nobody speaks: is that all? A mutated reply that is no whole one leaves the agent waiting, too."""
        last = self.replies > self.at or self.rounds >= ROUNDS_MAX
        self.rounds += 1
        if last and not self.hold:
            self.far.shutdown(socket.SHUT_WR)
            for _ in range(PATIENCE):
                await asyncio.sleep(0)
        if not over.done():
            self.stir()  # one that does not listen notices when it speaks
        return last

    def _heard(self) -> list[list[str]] | None:
        """The sentences that have come, None where the agent has hung up."""
        try:
            data = self.far.recv(1 << 18)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        if not data:
            return None
        sentences = [[word.decode() for word in one.words] for one in self.decoder.feed(data, 0.0)]
        for words in sentences:
            wrong = [word for word in words if word.startswith("=.id=") and not IDS.fullmatch(word)]
            self.strange = self.strange or (f"it sent {wrong[0][:80]!r}" if wrong else "")
        return sentences

    async def _answer(self, heard: list[list[str]]) -> None:
        reply = list(_interleaved(self.rng, [self._reply(words) for words in heard]))
        number, self.replies = self.replies, self.replies + 1
        touched = number == self.at or (self.rest and number > self.at)
        raw = mutated(self.rng, reply, EVERY) if touched else encoded(reply)
        cut = self.rng.randrange(len(raw) + 1) if touched else len(raw)
        for part in (raw[:cut], raw[cut:]):
            await self._send(part)

    async def _send(self, data: bytes) -> None:
        """As much as is taken; an agent that has had enough hangs up, or reads no further."""
        idle = 0
        while data and idle < PATIENCE:
            try:
                data = data[self.far.send(data) :]
                idle = 0
            except BlockingIOError:
                idle += 1
            except ConnectionError:
                return
            await asyncio.sleep(0)

    def _reply(self, words: list[str]) -> Reply:
        tag = [word.encode() for word in words if word.startswith(".tag=")]
        known = self.recorded.get(words[0], [[[b"!done"]]])
        return [[*sentence, *tag] for sentence in self.rng.choice(known)]


def _interleaved(rng: random.Random, replies: list[Reply]) -> Iterator[list[bytes]]:
    """Each reply in its order, mixed with the others."""
    waiting = [list(reply) for reply in replies]
    while any(waiting):
        yield rng.choice([one for one in waiting if one]).pop(0)
