"""The emulator's control socket: served from the emulator's own loop, so that packets and requests share one clock.

A request holds up the packets while it is answered: some 10 us for most, about 15 us for each row of ``flows``.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hil.virtual.control import ControlError, Handler, Message, answer
from hil.virtual.emulator_link import Change
from hil.virtual.emulator_record import MARKS_MAX
from hil.virtual.emulator_tape import Tape

if TYPE_CHECKING:
    from hil.virtual.emulator import Emulator

_REQUEST_BYTES_MAX: Final = 1 << 20


class PolledServer:
    """A control socket for a program that has an epoll loop."""

    def __init__(self, path: Path, handler: Handler, epoll: select.epoll) -> None:
        path.unlink(missing_ok=True)
        self._epoll = epoll
        self._handler = handler
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._connections: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        self._to_send: dict[int, memoryview] = {}
        epoll.register(self._listener.fileno(), select.EPOLLIN)

    def ready(self, fd: int, mask: int) -> bool:
        """Serve a descriptor epoll named; False when it is not one of this server's."""
        if fd == self._listener.fileno():
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        elif fd not in self._connections:
            return False
        elif mask & select.EPOLLOUT:
            self._send(fd)
        else:
            self._receive(fd)
        return True

    def _receive(self, fd: int) -> None:
        try:
            data = self._connections[fd].recv(65536)
        except ConnectionError:
            data = b""
        lines = (self._received.pop(fd, b"") + data).split(b"\n")
        if not data or len(lines[-1]) > _REQUEST_BYTES_MAX:
            self._close(fd)
            return
        self._received[fd] = lines.pop()
        replies = b"".join(answer(self._handler, line) for line in lines)
        if replies:
            self._to_send[fd] = memoryview(bytes(self._to_send.get(fd, b"")) + replies)
            self._send(fd)

    def _send(self, fd: int) -> None:
        try:
            sent = self._connections[fd].send(self._to_send[fd])
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            self._close(fd)
            return
        self._to_send[fd] = self._to_send[fd][sent:]
        # A reply too long for the socket goes out in pieces; no new request is read meanwhile.
        self._epoll.modify(fd, select.EPOLLOUT if self._to_send[fd] else select.EPOLLIN)

    def _close(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)
        self._connections.pop(fd).close()
        self._received.pop(fd, None)
        self._to_send.pop(fd, None)


class Commands:
    """What can be asked of the emulator; each public method is one ``op``. Arguments are the request's fields."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._table: dict[str, Callable[[Message], Message]] = {
            "hello": self.hello,
            "impair": self.impair,
            "clear": self.clear,
            "cut": self.cut,
            "restore": self.restore,
            "carrier": self.carrier,
            "timeline": self.timeline,
            "timeline_cancel": self.timeline_cancel,
            "flows": self.flows,
            "max_gaps": self.max_gaps,
            "last_voice": self.last_voice,
            "pings": self.pings,
            "mark": self.mark,
            "record": self.record,
            "reset": self.reset,
            "stats": self.stats,
        }

    def handle(self, operation: str, arguments: Message) -> Message:
        """Answer one request."""
        command = self._table.get(operation)
        if command is None:
            raise ControlError(f"unknown op {operation!r}; known are {', '.join(self._table)}")
        return command(arguments)

    def hello(self, _arguments: Message) -> Message:
        """``{}`` -> the links' names, the seed and the emulator's clock."""
        return {"links": list(self._emulator.links), "seed": self._emulator.seed, "t": self._emulator.clock()}

    def impair(self, arguments: Message) -> Message:
        """``{link, direction?, FIELDS...}``: lay the fields over what is in force. -> ``{t}`` of taking effect."""
        return self._change(arguments, "impair")

    def clear(self, arguments: Message) -> Message:
        """``{link, direction?}``: back to the configured line."""
        return self._change({**arguments, "clear": True}, "clear")

    def cut(self, arguments: Message) -> Message:
        """``{link, direction?, blackhole_arp?}``: silence with the link up."""
        return self._change({**arguments, "blackhole": True}, "cut")

    def restore(self, arguments: Message) -> Message:
        """``{link, direction?}``: the end of ``cut``; other impairments stay."""
        return self._change({**arguments, "blackhole": False, "blackhole_arp": False}, "restore")

    def carrier(self, arguments: Message) -> Message:
        """``{link, on, end?: "a"|"b"|"both"}``: pull or plug the cable."""
        return self._change({"carrier": arguments["on"], **_without(arguments, "on")}, "carrier")

    def timeline(self, arguments: Message) -> Message:
        """``{steps: [{at_s, link, direction?, FIELDS... | clear | carrier, end?}]}``, counted from now -> ``{t0}``."""
        steps = []
        for step in arguments["steps"]:
            at_s = step["at_s"]
            if isinstance(at_s, bool) or not isinstance(at_s, int | float) or at_s < 0:
                raise ControlError(f"at_s must be a number of seconds, not negative: {at_s!r}")
            steps.append((float(at_s), self._parsed(_without(step, "at_s"), "timeline")))
        return {"t0": self._emulator.schedule(steps), "steps": len(steps)}

    def timeline_cancel(self, _arguments: Message) -> Message:
        """``{}``: drop all steps that are still to come -> how many."""
        return {"cancelled": self._emulator.cancel_schedule()}

    def flows(self, arguments: Message) -> Message:
        """``{link?, class?}`` -> ``{flows: [ROW...], overflow: bool}``."""
        rows = self._rows(arguments)
        return {"flows": rows, "overflow": any(row["overflow"] for row in rows), "t": self._emulator.clock()}

    def max_gaps(self, arguments: Message) -> Message:
        """``{link?, class?}`` -> the longest spacing of each flow (RTP, if no class is given) since the last reset.

        At arrival, among the delivered, and among the delivered by the media's own clock (``max_media_gap_s``): there
        what is missing shows, and a sender that is late does not. ``last_t``, ``last_delivered_t`` and ``t``, the time
        now, tell of a flow that has stopped.
        """
        ends = ("link", "direction", "icmp_type", "src", "sport", "dst", "dport")
        spacings = ("max_gap_s", "max_delivered_gap_s", "max_media_gap_s")
        wanted = (*ends, *spacings, "packets", "last_t", "last_delivered_t")
        rows = self._rows({"class": "rtp", **arguments})
        return {"gaps": [{name: row[name] for name in wanted} for row in rows], "t": self._emulator.clock()}

    def last_voice(self, _arguments: Message) -> Message:
        """``{}`` -> by link, when a voice packet of the site last came to it, and when one was last delivered."""
        found = {
            table.link: dict(zip(("entered_s", "delivered_s"), table.last_voice(), strict=True))
            for table in self._emulator.tables()
            if table.direction == "up"
        }
        return {"voice": found, "t": self._emulator.clock()}

    def pings(self, _arguments: Message) -> Message:
        """``{}`` -> by link and target, when the latest pings from the site came to it."""
        tables = [table for table in self._emulator.tables() if table.direction == "up"]
        return {"pings": {table.link: table.pings() for table in tables}, "t": self._emulator.clock()}

    def mark(self, arguments: Message) -> Message:
        """``{text}``: from now on count the bytes of packets that contain this text, on every link."""
        text = arguments["text"]
        if not isinstance(text, str) or len(text) < 4:
            raise ControlError("text must have at least four characters, or it would match by chance")
        marks = {mark for table in self._emulator.tables() for mark in table.marks}
        if text not in marks and len(marks) >= MARKS_MAX:
            raise ControlError(f"at most {MARKS_MAX} marks can be looked for")
        for table in self._emulator.tables():
            table.marks[text] = text.encode()
        return {"marks": sorted(marks | {text})}

    def record(self, arguments: Message) -> Message:
        """``{link, path}``: keep every frame of this link from now on, in files (see emulator_tape); again: flush."""
        self._known(arguments["link"])
        for direction in self._emulator.links[arguments["link"]].directions.values():
            if direction.tape is None:
                direction.tape = Tape(Path(f"{arguments['path']}.{direction.name}"))
            direction.tape.flush()
        return {"t": self._emulator.clock()}

    def reset(self, _arguments: Message) -> Message:
        """``{}``: zero all records; marks, impairments and the flows' verdicts stay."""
        for table in self._emulator.tables():
            table.reset()
        return {"t": self._emulator.clock()}

    def stats(self, _arguments: Message) -> Message:
        """``{}`` -> the emulator's own cost and punctuality."""
        return self._emulator.statistics()

    def _rows(self, arguments: Message) -> list[dict[str, Any]]:
        link, flow_class = arguments.get("link"), arguments.get("class")
        if link is not None:
            self._known(link)
        return [
            row
            for table in self._emulator.tables()
            if link in (None, table.link)
            for row in table.rows()
            if flow_class in (None, row["class"])
        ]

    def _change(self, arguments: Message, cause: str) -> Message:
        return {"t": self._emulator.apply(self._parsed(arguments, cause))}

    def _parsed(self, request: Message, cause: str) -> Change:
        change = Change.from_json(request, cause)
        self._known(change.link)
        return change

    def _known(self, link: str) -> None:
        if link not in self._emulator.links:
            raise ControlError(f"no link {link!r}; there are {', '.join(self._emulator.links)}")


def _without(request: Message, name: str) -> Message:
    return {key: value for key, value in request.items() if key != name}
