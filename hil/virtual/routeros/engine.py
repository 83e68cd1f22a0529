"""Executes commands: menus and types from the tables, rows from the store, effect from the plane."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from hil.virtual.routeros.access import JOB_MENUS, Access, Caller, job_values
from hil.virtual.routeros.arguments import Request, check_arguments, check_required, parse_request
from hil.virtual.routeros.device_mode import refuse_by_device_mode
from hil.virtual.routeros.echoes import EchoCount
from hil.virtual.routeros.events import EventLog, masked
from hil.virtual.routeros.files import check_contents
from hil.virtual.routeros.menu import SWITCH, Menu
from hil.virtual.routeros.menus import COMMANDS
from hil.virtual.routeros.plane import Plane, Row, Trap
from hil.virtual.routeros.queries import matches
from hil.virtual.routeros.scripts import Scripts
from hil.virtual.routeros.store import ADDRESS_LIST, Store

# An answer: ("re" | "empty" | "done", properties). The last one is always "done".
Answer = tuple[str, Row]
# A command outside the menus of rows: its answers to checked arguments.
Handler = Callable[[Row, Caller], AsyncIterator[Answer]]

LISTEN_ROWS_MAX: Final = 1024  # rows waiting for a slow listener; beyond that the oldest are lost


class Engine:
    """One router's command interpreter."""

    def __init__(self, store: Store, plane: Plane, log: EventLog) -> None:
        self.store = store
        self.plane = plane
        self.log = log
        self.on_reboot: Callable[[], None] | None = None
        """Called when a user gives /system/reboot."""
        self.scripts = Scripts(store)
        self.handlers: dict[str, Handler] = {
            "/ping": self._ping,
            "/tool/ping": self._ping,
            "/system/reboot": self._reboot,
            "/system/script/run": self.scripts.run_named,
        }
        """Who does the commands of ``menus.COMMANDS``, by path; parts of the router above this one add theirs."""
        self._access = Access(store)
        self._writing = asyncio.Lock()
        self._rescheduled = asyncio.Event()
        self._lapses: asyncio.Task[None] | None = None
        self._plane_owes_lapses = False
        self._shielded: set[asyncio.Task[Any]] = set()
        store.runner = self.run_to_end
        plane.on_event(self._plane_event)

    async def start(self) -> asyncio.Task[None]:
        """Put the rows into effect and begin to watch the clock; the task that does, which ends only with a defect."""
        await self.plane.start(self.store)
        self._lapses = asyncio.create_task(self._watch_lapses())
        return self._lapses

    async def stop(self) -> None:
        """Undo every effect."""
        if self._lapses is not None:
            self._lapses.cancel()
            await asyncio.wait([self._lapses])
            self._lapses = None
        # A write under way ends before the plane does.
        async with self._writing:
            await self.plane.stop()

    async def run(self, request: Request, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Execute one request: its answers, ending with "done". Raises :class:`Trap` for a refusal."""
        self._lapse()
        command = COMMANDS[self.store.version].get(request.path)
        handler = self.handlers.get(request.path)
        if command is not None and handler is not None:
            caller.require(*command.policies)
            values = check_arguments(request.attributes, command.arguments, self.store)
            check_required(values, command.required)
            async for answer in handler(values, caller):
                yield answer
            return
        menu = self._menu(request)
        if request.command in ("print", "getall", "listen"):
            caller.require_print()
            async for kind, row in self._read(menu, request):
                yield kind, caller.seen(menu, row)
            return
        caller.require_change(menu)
        yield "done", await self._change(menu, request, caller)

    async def run_to_end(self, words: Mapping[str, str] | list[str], caller: Caller | None = None) -> list[Row]:
        """Execute a sentence, as the local administrator where no caller is given; what :meth:`Store.sentence` does."""
        if not isinstance(words, list):
            words = [words["command"], *(f"={name}={value}" for name, value in words.items() if name != "command")]
        caller = caller or self._access.local()
        self.log.write("local_sentence", user=caller.user, words=masked(words))
        answers = [answer async for answer in self.run(parse_request(words), caller)]
        return [row for kind, row in answers if kind == "re" or (kind == "done" and row)]

    async def write_rows(self, menu: Menu, action: Callable[[], str | None]) -> None:
        """Let another part of the router write rows of its own menu (files, certificates) when the turn has come."""
        await self._shield(self._write(menu, action))

    async def view(self, menu: Menu) -> list[Row]:
        """The rows of a menu as ``print`` shows them, live values laid over."""
        if menu.single:
            return [self.store.single(menu.path)]
        rows = await self.plane.rows(menu.path)
        if rows is not None:
            return rows
        live = await self.plane.live(menu.path)
        return [self._shown(menu, {**row, **live.get(row[".id"], {})}) for row in self.store.rows(menu.path)]

    def _menu(self, request: Request) -> Menu:
        menus = self.store.menus
        menu = menus.get(request.menu)
        if menu is not None and request.command in menu.commands:
            return menu
        known = {prefix for path in menus for prefix in _prefixes(path)}
        if not request.path.startswith("/") or request.menu in known:
            raise Trap("no such command", 0)
        raise Trap("no such command prefix", 0)

    # Reading

    async def _read(self, menu: Menu, request: Request) -> AsyncIterator[Answer]:
        given = {name: value for name, value in request.attributes.items() if name not in (".proplist", ".id")}
        flags = check_arguments(given, menu.arguments(request.command), self.store)
        matches(request.queries, {})  # a malformed query is refused even where there are no rows
        wanted = request.attributes.get(".proplist")
        follows = request.command == "listen" or flags.get("follow") == "true" or flags.get("follow-only") == "true"
        queue: asyncio.Queue[Row] = asyncio.Queue()
        stop_watching = self.store.watch(menu.path, _filler(queue)) if follows else None
        try:
            if request.command != "listen" and flags.get("follow-only") != "true":
                rows = await self._selected(menu, request)
                if flags.get("count-only") == "true":
                    yield "done", {"ret": str(len(rows))}
                    return
                for row in rows:
                    yield "re", _projected(row, wanted)
                if not rows and not follows and self.store.version == "7.22":
                    yield "empty", {}  # new in 7.18
            while follows:
                row = await self._event_row(menu, await queue.get())
                if ".dead" in row or matches(request.queries, row):
                    yield "re", _projected(row, None if wanted is None else f"{wanted},.dead")
        finally:
            if stop_watching is not None:
                stop_watching()
        yield "done", {}

    async def _selected(self, menu: Menu, request: Request) -> list[Row]:
        rows = await self.view(menu)
        if ".id" in request.attributes:
            asked = request.attributes[".id"].split(",")
            rows = [row for row in rows if row.get(".id") in asked or row.get("name") in asked]
            if not rows:
                raise Trap("no such item", 0)
        return [row for row in rows if matches(request.queries, row)]

    async def _event_row(self, menu: Menu, row: Row) -> Row:
        if ".dead" in row:
            return row
        live = await self.plane.live(menu.path)
        return self._shown(menu, {**live.get(row.get(".id", ""), {}), **row})

    @staticmethod
    def _shown(menu: Menu, row: Row) -> Row:
        if "disabled" not in menu.fields:
            row.pop("disabled", None)
        if not menu.shows_dynamic:
            row.pop("dynamic", None)
        return row

    def _plane_event(self, menu: str, row: Row) -> None:
        """A row changed by itself: complete what the plane reported from the stored row."""
        with contextlib.suppress(Trap):
            entry = self.store.find(menu, row.get(".id") or row.get("name", ""))
            row = {**self.store.row(menu, entry), **row}
        self.store.tell(menu, row)

    # Changing

    async def _change(self, menu: Menu, request: Request, caller: Caller) -> Row:
        attributes = dict(request.attributes)
        references = _references(attributes) if not menu.single and request.command != "add" else []
        values = check_arguments(attributes, menu.arguments(request.command), self.store)
        if menu.path == "/ip/firewall/connection":
            for reference in references:
                await self.plane.remove(menu.path, reference)
            return {}
        refuse_by_device_mode(self.store, menu, request.command)
        if menu.path in JOB_MENUS and request.command != "remove":
            values = job_values(self.store, menu, references, values, caller)
        if menu.path == "/file":
            check_contents(self.store.version, values)
        action = self._action(menu, request.command, references, values)
        # A client that goes away does not stop a write half done, nor would it on a router.
        row_id = await self._shield(self._write(menu, action))
        self.store.append_history(f"{menu.path} {request.command}", caller.user)
        return {"ret": row_id} if row_id is not None else {}

    def _action(self, menu: Menu, command: str, references: Sequence[str], values: Row) -> Callable[[], str | None]:
        """What to do to the store, as a function to call once the write's turn has come."""
        store = self.store
        if menu.single:
            return lambda: store.set_single(menu, values)
        if command == "add":
            check_required(values, menu.required)
            place = values.pop("place-before", None)
            return lambda: store.add(menu, values, place)
        if command in SWITCH:
            return lambda: store.set(menu, references, {"disabled": "true" if command == "disable" else "false"})
        if command == "set":
            return lambda: store.set(menu, references, values)
        if command == "remove":
            return lambda: store.remove(menu, references)
        if command == "move":
            return lambda: store.move(menu, references, values.get("destination"))
        if command == "unset":
            check_required(values, ("value-name",))
            return lambda: store.unset(menu, references, values["value-name"])
        return lambda: store.order(menu, references, command)

    async def _write(self, menu: Menu, action: Callable[[], str | None]) -> str | None:
        async with self._writing:
            self._lapse()
            touched = self.store.touched_with([menu.path])
            before = self.store.snapshot(touched)
            try:
                row_id = action()
                await self._tell_plane(touched)
            except Trap:
                self.store.restore(before)
                # The plane may have put a part of the refused rows into effect.
                with contextlib.suppress(Trap):
                    await self.plane.changed(touched)
                raise
            self.store.publish()
            self._rescheduled.set()
            return row_id

    async def _tell_plane(self, menus: frozenset[str]) -> None:
        if self._plane_owes_lapses:
            menus |= {ADDRESS_LIST}
        await self.plane.changed(menus)
        self._plane_owes_lapses = False

    async def _shield(self, work: Coroutine[Any, Any, str | None]) -> str | None:
        task = asyncio.create_task(work)
        self._shielded.add(task)
        task.add_done_callback(self._shielded.discard)
        return await asyncio.shield(task)

    # Other commands

    async def _ping(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        count = EchoCount()
        async for row in self.plane.ping(values):
            yield "re", count.completed(row)
        yield "done", {}

    async def _reboot(self, _values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        if self.on_reboot is not None:
            self.on_reboot()
        yield "done", {}

    # Lapses

    def _lapse(self) -> None:
        """Take rows away whose time has run out; the plane follows with the next change or lapse."""
        for row in self.store.lapse():
            self.log.write("lapsed", menu=ADDRESS_LIST, row=row)
            self._plane_owes_lapses = True
            self._rescheduled.set()

    async def _watch_lapses(self) -> None:
        while True:
            self._rescheduled.clear()
            self._lapse()
            if self._plane_owes_lapses:
                await self._apply_lapses()
            deadline_s = self.store.next_deadline_s()
            wait_s = None if deadline_s is None else max(0.0, deadline_s - self.store.clock())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._rescheduled.wait(), wait_s)

    async def _apply_lapses(self) -> None:
        async with self._writing:
            try:
                await self._tell_plane(frozenset({ADDRESS_LIST}))
            except Trap as trap:
                self._plane_owes_lapses = False
                self.log.write("plane_refused", menu=ADDRESS_LIST, message=trap.message)
                return
        self.log.write("lapse_applied", menu=ADDRESS_LIST)


def trap_words(trap: Trap) -> list[str]:
    """The ``!trap`` sentence of a refusal."""
    category = [] if trap.category is None else [f"=category={trap.category}"]
    return ["!trap", *category, f"=message={trap.message}"]


def _references(attributes: Row) -> list[str]:
    """The rows a command is about, taken out of its attributes: ``.id`` or ``numbers``, several joined by commas."""
    given = attributes.pop(".id", None)
    numbers = attributes.pop("numbers", None)
    chosen = given if given is not None else numbers
    if not chosen:
        raise Trap("missing =.id=", 1)
    return chosen.split(",")


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _projected(row: Row, wanted: str | None) -> Row:
    if wanted is None:
        return row
    return {name: row[name] for name in wanted.split(",") if name in row}


def _filler(queue: asyncio.Queue[Row]) -> Callable[[Row], None]:
    def fill(row: Row) -> None:
        if queue.qsize() >= LISTEN_ROWS_MAX:
            queue.get_nowait()
        queue.put_nowait(row)

    return fill
