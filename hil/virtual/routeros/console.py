"""The console: one command line at a time, and ``/import`` of a file, for a user who watches.

What goes wrong is told as text, in RouterOS' words; nothing else says so. ``/import`` reads the whole file before it
does anything, and with ``verbose=yes`` statement after statement; neither takes back what an earlier one did (MikroTik
manual, "Configuration Management", and what users measured over SSH: "Script Error: failure: ...
(/interface/bridge/add; line 2)" on 7, the bare complaint on 6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.access import Caller
from hil.virtual.routeros.arguments import check_arguments, check_required, parse_request
from hil.virtual.routeros.export import Export
from hil.virtual.routeros.files import to_bytes, to_text
from hil.virtual.routeros.grammar import Grammar, GrammarError
from hil.virtual.routeros.kernel_script import Interpreter
from hil.virtual.routeros.kernel_syntax import STATEMENT_ENDS, ScriptError, joined, pieces, place_of
from hil.virtual.routeros.listing import record_lines, row_lines
from hil.virtual.routeros.menus import COMMANDS
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Answer, Engine
    from hil.virtual.routeros.files import Files

EXPORT: Final = "/export"
IMPORT: Final = "/import"
NO_FILE: Final = "Cannot open import file, file does not exist"
DONE: Final = "Script file loaded and executed successfully"


class Screen:
    """Collects what one command prints."""

    def __init__(self, engine: Engine) -> None:
        self._menus = engine.store.menus
        self.lines: list[str] = []

    def put(self, text: str) -> None:
        """One line of ``:put``, or what else is to be read."""
        self.lines += text.splitlines() or [""]

    def answered(self, command: str, flags: list[str], rows: list[Row]) -> None:
        """What a command gave."""
        where, _, verb = command.rpartition("/")
        if verb == "print":
            self.lines += row_lines(self._menus[where], flags, rows)
        elif verb != "add":
            for row in rows:
                self.lines += row["ret"].splitlines() if "ret" in row else record_lines(row)

    @property
    def text(self) -> str:
        """All of it, lines ended as the console ends them."""
        return "".join(f"{line}\r\n" for line in self.lines)


class Console:
    """Executes command lines of users."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._store = engine.store
        self._files = files
        self._grammar = Grammar(engine.store.version)

    async def run(self, line: str, caller_of: Callable[[], Caller]) -> str:
        """Execute a line as a user, whose policies are asked for anew with each command in it; what it prints."""
        screen = Screen(self._engine)
        try:
            self._grammar.check(line)
            await self._interpreter(caller_of, screen).run(line)
        except GrammarError as error:
            screen.put(f"{error}{_place(error)}")
        except ScriptError as error:
            screen.put(str(error))
        return screen.text

    async def import_file(self, values: Row, caller: Caller) -> AsyncIterator[Answer]:
        """``/import`` as the API gives it; what the script prints is not seen."""
        try:
            await self._import(values, lambda: caller, Screen(self._engine))
        except ScriptError as error:
            raise Trap(str(error), 3) from None
        yield "done", {}

    async def auto_import(self, name: str, caller: Caller) -> None:
        """Run a file ``*.auto.rsc`` that was just put there; what it prints goes to ``*.auto.log``."""
        screen = Screen(self._engine)
        try:
            await self._import({"file-name": name}, lambda: caller, screen)
        except ScriptError as error:
            screen.put(str(error))
        await self._files.write(f"{name.removesuffix('.rsc')}.log", to_bytes(screen.text))

    async def export(self, values: Row, caller: Caller, below: str = "") -> AsyncIterator[Answer]:
        """``/export``: the text, or a file of it. On 7 secrets are left out unless asked for, on 6 if asked for."""
        if self._store.version == "6.49":
            secrets = values.get("hide-sensitive") != "true"
        else:
            secrets = values.get("show-sensitive") == "true"
        verbose = values.get("verbose") == "true"
        export = Export(self._store, secrets=secrets and "sensitive" in caller.policies, verbose=verbose)
        text = export.text(below, terse=values.get("terse") == "true")
        if "file" not in values:
            yield "done", {"ret": text}
            return
        caller.require("ftp", "write")
        await self._files.write(f"{values['file'].removesuffix('.rsc')}.rsc", text.encode("utf-8", "surrogateescape"))
        yield "done", {}

    def _interpreter(self, caller_of: Callable[[], Caller], screen: Screen) -> Interpreter:
        async def sentence(words: list[str]) -> list[Row]:
            where, _, verb = words[0].rpartition("/")
            if words[0] == IMPORT:  # here, so that what the file prints is seen
                await self._import(self._checked(words, IMPORT), caller_of, screen)
                return []
            if verb == "export" and where:
                caller_of().require("read")
                answers = self.export(self._checked(words, EXPORT), caller_of(), where)
                return [row async for _kind, row in answers if row]
            return await self._store.sentence(words, caller_of())

        return self._engine.scripts.interpreter(sentence, screen)

    def _checked(self, words: list[str], path: str) -> Row:
        command = COMMANDS[self._store.version][path]
        values = check_arguments(parse_request(words).attributes, command.arguments, self._store)
        check_required(values, command.required)
        return values

    async def _import(self, values: Row, caller_of: Callable[[], Caller], screen: Screen) -> None:
        """Raises ScriptError whose text is what the console says of it."""
        data = self._files.read(values["file-name"])
        if data is None:
            raise ScriptError(NO_FILE)
        source = to_text(data)
        stepwise = values.get("verbose", "no") != "no"
        if not stepwise and ("from-line" in values or values.get("dry-run") == "true"):
            raise ScriptError("failure: from-line and dry-run need verbose")
        if self._store.version == "6.49":
            screen.put(f"Opening script file {values['file-name']}")
        interpreter = self._interpreter(caller_of, screen)
        try:
            if stepwise:
                await self._import_stepwise(source, values, interpreter, screen)
            else:
                self._grammar.check(source)
                await interpreter.run(source)
        except ScriptError as error:
            raise ScriptError(self._complaint(error)) from error
        screen.put("")
        screen.put(DONE)

    async def _import_stepwise(self, source: str, values: Row, interpreter: Interpreter, screen: Screen) -> None:
        text, places = joined(source)
        dry, menu = values.get("dry-run") == "true", ""
        for at, statement in _readable(text):
            line = place_of(source, places[at])[0]
            if line < int(values.get("from-line", "1")):
                continue
            screen.put(f"#line {line}")
            screen.put(statement)
            try:
                menu = self._grammar.check(statement, menu)
                if not dry:
                    await interpreter.run_on(statement)
            except ScriptError as error:
                raise type(error)(str(error), source, places[at + error.at], error.command) from error
        try:
            pieces(text, STATEMENT_ENDS)
        except ScriptError as error:
            raise GrammarError("syntax error", source, places[error.at]) from error

    def _complaint(self, error: ScriptError) -> str:
        if not error.source:
            return str(error)
        if isinstance(error, GrammarError):
            text = f"{error}{_place(error)}"
        elif self._store.version == "6.49":
            text = str(error)
        else:
            text = f"{error} ({error.command}; line {place_of(error.source, error.at)[0]})"
        return text if self._store.version == "6.49" else f"Script Error: {text}"


def _place(error: ScriptError) -> str:
    line, column = place_of(error.source, error.at)
    return f" (line {line} column {column})"


def _readable(text: str) -> list[tuple[int, str]]:
    """The statements of a script up to one that does not end."""
    try:
        return pieces(text, STATEMENT_ENDS)
    except ScriptError as error:
        return pieces(text[: text.rfind("\n", 0, error.at) + 1], STATEMENT_ENDS)
