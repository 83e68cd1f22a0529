"""One API connection: login, concurrent tagged commands, cancel, and the faults asked for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.access import Caller, LoginError
from hil.virtual.routeros.arguments import Request, parse_request, tag_of
from hil.virtual.routeros.engine import Answer, trap_words
from hil.virtual.routeros.events import masked
from hil.virtual.routeros.misbehave import Rule
from hil.virtual.routeros.plane import Trap
from hil.virtual.routeros.wire import Decoder, Sentence, WireError, encode_sentence

if TYPE_CHECKING:
    from hil.virtual.routeros.server import Router

READ_BYTES: Final = 65536
# The router limits what comes before a login; by how much is not published.
SENTENCES_BEFORE_LOGIN_MAX: Final = 16
COMMANDS_AT_ONCE_MAX: Final = 100
_FAKE_IDS: Final = itertools.count(0xF0001)


@dataclass(frozen=True)
class _Asked:
    """One sentence on its way through: what it says and how to answer it."""

    number: int
    words: tuple[str, ...]
    tag: str | None
    faults: Mapping[str, Rule]


class Session:
    """Serves one client until it leaves, or is made to."""

    def __init__(
        self, router: Router, number: int, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.service = service
        self.peer = str(writer.get_extra_info("peername")[0])
        self.caller: Caller | None = None
        self._router = router
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_tag: dict[str | None, list[asyncio.Task[None]]] = {}
        self._active_row: str | None = None
        self._sentences = 0
        self._unanswered: set[int] = set()
        self._muted = False

    async def serve(self) -> None:
        """Read sentences until the connection ends."""
        self._log("session_opened", service=self.service, peer=self.peer)
        decoder = Decoder()
        try:
            while data := await self._reader.read(READ_BYTES):
                self._router.api_bytes[self.service] += len(data)
                for sentence in decoder.feed(data, time.monotonic()):
                    # Nothing is taken any more once the last words of the session are on their way.
                    if not self._writer.is_closing():
                        self._take(sentence)
        except WireError as error:
            self._log("wire_error", message=str(error))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away without a word, which is its right
        finally:
            await self._end()

    def close(self) -> None:
        """Cut the connection at once, as a reboot does."""
        self._writer.transport.abort()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._log_out()
        for sentence in sorted(self._unanswered):
            self._log("reply", sentence=sentence, outcome="session ended")
        self._log("session_closed")

    def _take(self, sentence: Sentence) -> None:
        """Start one command; several run at once."""
        words = tuple(word.decode("utf-8", "surrogateescape") for word in sentence.words)
        self._sentences += 1
        user = self.caller.user if self.caller else ""
        self._router.log.write(
            "sentence",
            sentence.first_byte_s,
            session=self.number,
            sentence=self._sentences,
            user=user,
            words=masked(words),
        )
        self._unanswered.add(self._sentences)
        faults = self._router.misbehaviour.strike(words, user)
        asked = _Asked(self._sentences, words, tag_of(words), faults)
        too_many = len(self._tasks) >= COMMANDS_AT_ONCE_MAX
        if too_many or (self.caller is None and self._sentences > SENTENCES_BEFORE_LOGIN_MAX):
            self._fatal(asked, "too many commands" if too_many else "too many commands before login")
            return
        task = asyncio.create_task(self._serve_one(asked))
        self._tasks.add(task)
        self._by_tag.setdefault(asked.tag, []).append(task)
        task.add_done_callback(lambda done: self._forget(asked.tag, done))

    def _forget(self, tag: str | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._by_tag[tag].remove(task)
        if not self._by_tag[tag]:
            del self._by_tag[tag]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._router.failed(error)

    async def _serve_one(self, asked: _Asked) -> None:
        try:
            if await self._broken_before(asked):
                return
            await self._dispatch(asked)
        except Trap as trap:
            await self._refuse(asked, trap)
        except ConnectionError:
            self._outcome(asked, "connection lost")

    async def _dispatch(self, asked: _Asked) -> None:
        path = asked.words[0]
        if path == "/login":
            request = parse_request(asked.words)
            await self._login(request, wrong="wrong_password" in asked.faults)
            await self._reply(asked, ["!done"], "done")
        elif path == "/quit":
            self._fatal(asked, "session terminated on request")
        elif self.caller is None:
            self._fatal(asked, "not logged in")
        elif path == "/cancel":
            await self._cancel(parse_request(asked.words))
            await self._reply(asked, ["!done"], "done")
        else:
            await self._execute(asked, self._caller(asked, self.caller))

    def _caller(self, asked: _Asked, caller: Caller) -> Caller:
        """The user with the policies of this moment, which an administrator may have changed since the login."""
        policies = self._router.access.policies_of(caller.user)
        if (lost := asked.faults.get("lost_policy")) is not None:
            policies -= {lost.policy}
        return Caller(caller.user, policies)

    async def _execute(self, asked: _Asked, caller: Caller) -> None:
        request = parse_request(asked.words)
        if "swallow" in asked.faults:
            ret = [f"=ret=*{next(_FAKE_IDS):X}"] if request.command == "add" else []
            await self._reply(asked, ["!done", *ret], "swallowed")
            return
        answers = self._router.engine.run(request, caller)
        try:
            async with contextlib.aclosing(answers):
                rows = 0
                async for answer in answers:
                    rows += answer[0] == "re"
                    self._trap_within(asked, answer, rows)
                    await self._reply(asked, _answer_words(answer), "done" if answer[0] == "done" else None)
        except asyncio.CancelledError:
            # Cancelled by /cancel; when the session ends nobody is there to read this.
            if not self._writer.is_closing():
                await self._refuse(asked, Trap("interrupted", 2), "interrupted")
            raise

    @staticmethod
    def _trap_within(asked: _Asked, answer: Answer, rows: int) -> None:
        fault = asked.faults.get("trap_after_rows")
        if fault is not None and (rows > fault.rows or answer[0] == "done"):
            raise Trap(fault.message)

    # Login and cancel

    async def _login(self, request: Request, *, wrong: bool) -> None:
        """The login of 6.43 and later: name and password in one sentence."""
        user, given = request.attributes.get("name", ""), request.attributes.get("password", "")
        access = self._router.access
        try:
            caller = access.login(self.service, user, given, self.peer, wrong=wrong)
        except LoginError:
            raise Trap("invalid user name or password (6)") from None
        self._log_out()
        self.caller = caller
        self._active_row = access.opened(self.service, user, self.peer)

    def _log_out(self) -> None:
        if self._active_row is not None and self.caller is not None:
            self._router.access.closed(self.service, self.caller.user, self.peer, self._active_row)
            self._active_row = None

    async def _cancel(self, request: Request) -> None:
        """End the commands with the tag given, or all others; each answers its own interrupted trap."""
        itself = asyncio.current_task()
        tag = request.attributes.get("tag")
        chosen = [task for task in (self._tasks if tag is None else self._by_tag.get(tag, [])) if task is not itself]
        for task in chosen:
            task.cancel()
        if chosen:
            await asyncio.wait(chosen)

    # Faults

    async def _broken_before(self, asked: _Asked) -> bool:
        """Faults that come in place of the command; True where nothing more is to be done."""
        if "hang" in asked.faults:
            self._outcome(asked, "hung")
            await asyncio.Event().wait()
        if "drop" in asked.faults:
            self._outcome(asked, "dropped")
            self.close()
            return True
        if (fault := asked.faults.get("trap")) is not None:
            raise Trap(fault.message)
        return False

    # Replies

    async def _refuse(self, asked: _Asked, trap: Trap, outcome: str = "trap") -> None:
        await self._reply(asked, trap_words(trap), None)
        await self._reply(asked, ["!done"], outcome, message=trap.message)

    def _fatal(self, asked: _Asked, reason: str) -> None:
        """The last words of a session. The reason is a bare word, not an attribute."""
        self._write(asked, ["!fatal", reason])
        self._outcome(asked, "fatal", message=reason)
        self._writer.close()

    async def _reply(self, asked: _Asked, words: list[str], outcome: str | None, **details: object) -> None:
        if (slow := asked.faults.get("slow")) is not None:
            await asyncio.sleep(slow.delay_s)
        if outcome is not None and "drop_after" in asked.faults:
            self._outcome(asked, "dropped", **details)
            self.close()
            return
        if not ({"mute", "drop_after"} & asked.faults.keys()):
            self._write(asked, words)
        if outcome is not None:
            row_id = next((word[len("=ret=") :] for word in words if word.startswith("=ret=*")), None)
            if row_id is not None:
                details["ret"] = row_id  # a new row's id, so that the bench can tell later whose row was removed
            self._outcome(asked, "mute" if "mute" in asked.faults else outcome, **details)
        await self._writer.drain()

    def _write(self, asked: _Asked, words: list[str]) -> None:
        if self._muted or self._writer.is_closing():
            return
        if asked.tag is not None:
            words = [*words, f".tag={asked.tag}"]
        data = encode_sentence(word.encode("utf-8", "surrogateescape") for word in words)
        if "hang_mid_word" in asked.faults:
            # Half of the first word; after that no byte could mean anything to the client.
            self._muted = True
            data = data[: 1 + len(words[0]) // 2]
        self._router.api_bytes[self.service] += len(data)
        self._writer.write(data)

    def _outcome(self, asked: _Asked, outcome: str, **details: object) -> None:
        self._unanswered.discard(asked.number)
        if self._muted and outcome != "dropped":
            outcome = "hung"
        self._log("reply", sentence=asked.number, command=asked.words[0], outcome=outcome, **details)

    def _log(self, event: str, **details: object) -> None:
        self._router.log.write(event, None, session=self.number, **details)


def _answer_words(answer: Answer) -> list[str]:
    kind, row = answer
    return [f"!{kind}", *(f"={name}={value}" for name, value in row.items())]
